//! What people do with Podman 4.3, with the runtime given by `--runtime`.

use cofferdam_integration::{
    cases::{self, Case, Engine},
    client::{self, Client},
    error::Result,
    gate,
    podman::Podman,
};

const CASES: &[Case<Podman>] = &[
    ("gives_statistics", gives_statistics),
    ("checks_health", checks_health),
    ("groups_a_pod", groups_a_pod),
];

#[test]
fn podman_4_3() -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let Some(engine) = gate::present(Podman::start())? else {
        return Ok(());
    };
    cases::run(&engine, &[client::cases(), CASES.to_vec()].concat())
}

fn gives_statistics(podman: &Podman) -> Result<()> {
    podman.detached("stats", &[], &["sleep", "1000"])?;
    let done = podman
        .cli([
            "stats",
            "--no-stream",
            "--format",
            "{{.PIDS}} {{.MemUsage}}",
            "stats",
        ])
        .ok()?;
    assert!(done.stdout.starts_with("1 "), "{}", done.stdout);
    let done = podman.cli(["top", "stats", "args"]).ok()?;
    assert!(done.stdout.contains("sleep 1000"), "{}", done.stdout);
    podman.remove("stats")
}

fn checks_health(podman: &Podman) -> Result<()> {
    // Without systemd nothing runs the check on a timer; it is run by hand.
    let flags = [
        "--health-cmd",
        "test -e /tmp/well",
        "--health-interval",
        "disable",
    ];
    podman.detached("health", &flags, &["sleep", "1000"])?;
    assert_ne!(
        podman.cli(["healthcheck", "run", "health"]).run()?.code(),
        0
    );
    podman.cli(["exec", "health", "touch", "/tmp/well"]).ok()?;
    podman.cli(["healthcheck", "run", "health"]).ok()?;
    podman.remove("health")
}

fn groups_a_pod(podman: &Podman) -> Result<()> {
    let parent = format!("/{}", podman.enclave().tag());
    // No infra container: its image would have to be built or pulled.
    podman
        .cli([
            "pod",
            "create",
            "--name",
            "pod",
            "--infra=false",
            "--cgroup-parent",
            &parent,
        ])
        .ok()?;
    for name in ["one", "two"] {
        let flags = ["run", "--detach", "--pod", "pod", "--name", name];
        podman
            .cli(flags)
            .arg("localhost/busybox:latest")
            .args(["sleep", "1000"])
            .ok()?;
    }
    assert_eq!(
        podman.cli(["exec", "two", "echo", "here"]).ok()?.stdout,
        "here\n"
    );
    podman
        .cli(["pod", "rm", "--force", "--time", "0", "pod"])
        .ok()
        .map(drop)
}
