use std::{fs, thread, time::Duration};

use cofferdam_integration::{
    binaries::Runtime,
    containerd::{Containerd, Options, Version},
    error::{At, Error, Result},
};

use crate::sample::Rows;

/// How long a shim gets to become quiet.
const SETTLE: Duration = Duration::from_millis(700);

/// The memory of our shim and of the Go shim, with one container and with a pod of ten, in KiB, as
/// `/proc/PID/smaps_rollup` has it. Each round starts afresh.
pub(crate) fn measure(rows: &mut Rows, rounds: usize) -> Result<()> {
    for (who, runtime) in [("cofferdam", Runtime::Cofferdam), ("runc", Runtime::Runc)] {
        let engine = Containerd::start_with(Version::V1_6, runtime, &Options::default())?;
        for _ in 0..rounds {
            let container = engine.sleeper("one")?;
            thread::sleep(SETTLE);
            rows.add("shim PSS, one container", who, shims(&engine, "Pss:")?);
            let dirty = shims(&engine, "Private_Dirty:")?;
            rows.add("shim private dirty, one container", who, dirty);
            container.remove()?;

            let mut pod = Vec::new();
            for number in 0..10 {
                let flags = ["--annotation", "io.kubernetes.cri.sandbox-id=pod-0"];
                let name = format!("pod-{number}");
                pod.push(engine.detached(&flags, &name, &["sleep", "1000"])?);
            }
            thread::sleep(SETTLE);
            rows.add("shim PSS, pod of ten", who, shims(&engine, "Pss:")?);
            // The one the pod is named after goes last.
            while let Some(container) = pod.pop() {
                container.remove()?;
            }
        }
    }
    Ok(())
}

/// The sum over the engine's shims.
fn shims(engine: &Containerd, field: &str) -> Result<f64> {
    let mut sum = 0.0;
    for shim in engine.shims()? {
        let path = format!("/proc/{}/smaps_rollup", shim.pid);
        let text = fs::read_to_string(&path).at("read", &path)?;
        let line = text.lines().find_map(|line| line.strip_prefix(field));
        let kib: Option<f64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        sum += kib.ok_or_else(|| Error::Missing {
            what: format!("{field} in {path}"),
            remedy: "a newer kernel",
        })?;
    }
    Ok(sum)
}
