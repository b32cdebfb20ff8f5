use cofferdam_integration::{cases::Case, containerd::Containerd, error::Result};

pub(crate) const CASES: &[Case<Containerd>] = &[("share_one_shim", share_one_shim)];

/// The annotation by which CRI says which pod a container belongs to.
const POD: &str = "io.kubernetes.cri.sandbox-id=pod";

fn share_one_shim(engine: &Containerd) -> Result<()> {
    let before = engine.shims()?.len();
    let ids: Vec<String> = (0..10).map(|number| format!("member-{number}")).collect();
    let mut members = Vec::new();
    let pod = engine.detached(
        &[
            "--annotation",
            POD,
            "--annotation",
            "io.kubernetes.cri.container-type=sandbox",
        ],
        "pod",
        &["sleep", "1000"],
    )?;
    for id in &ids {
        let flags = [
            "--annotation",
            POD,
            "--annotation",
            "io.kubernetes.cri.container-type=container",
        ];
        members.push(engine.detached(&flags, id, &["sleep", "1000"])?);
    }
    let shims = engine.shims()?;
    assert_eq!(shims.len() - before, 1, "{shims:#?}");
    for id in &ids {
        assert_eq!(engine.exec(id, &["echo", id])?.stdout, format!("{id}\n"));
    }
    // Members come and go without the others noticing.
    for member in members {
        member.remove()?;
        engine.exec("pod", &["true"])?;
    }
    pod.remove()
}
