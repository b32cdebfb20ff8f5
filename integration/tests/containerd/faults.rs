use std::{fs, time::Duration};

use cofferdam_integration::{
    binaries::{Runtime, build_dir},
    cases::{Case, Engine},
    command::eventually,
    containerd::Containerd,
    error::{At, Result},
};
use nix::sys::signal::Signal;

pub(crate) const CASES: &[Case<Containerd>] = &[
    (
        "outlives_a_restart_of_containerd",
        outlives_a_restart_of_containerd,
    ),
    (
        "exit_while_containerd_is_away",
        exit_while_containerd_is_away,
    ),
    ("killed_shim_is_cleared_away", killed_shim_is_cleared_away),
    (
        "killed_shim_that_was_not_known_yet",
        killed_shim_that_was_not_known_yet,
    ),
    ("killed_init_is_an_exit", killed_init_is_an_exit),
];

fn outlives_a_restart_of_containerd(engine: &Containerd) -> Result<()> {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let container = engine.sleeper("survivor")?;
        let init = engine.init_of("survivor")?;
        engine.kill(signal)?;
        engine.launch()?;
        let status = engine.task("survivor")?.map(|task| task.status);
        assert_eq!(status.as_deref(), Some("RUNNING"), "after {signal}");
        assert_eq!(engine.init_of("survivor")?, init);
        assert_eq!(engine.exec("survivor", &["echo", "here"])?.stdout, "here\n");
        container.remove()?;
    }
    Ok(())
}

fn exit_while_containerd_is_away(engine: &Containerd) -> Result<()> {
    let container = engine.sleeper("missed")?;
    let init = engine.init_of("missed")?;
    engine.kill(Signal::SIGKILL)?;
    engine.enclave().signal(init, Signal::SIGKILL)?;
    engine.launch()?;
    eventually(
        "the exit is known",
        Duration::from_secs(10),
        || match engine.task("missed") {
            Ok(None) => Ok(()),
            Ok(Some(task)) if task.status == "STOPPED" => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )?;
    container.remove()
}

fn killed_shim_is_cleared_away(engine: &Containerd) -> Result<()> {
    let container = engine.sleeper("orphan")?;
    let init = engine.init_of("orphan")?;
    for shim in engine.shims()? {
        engine.enclave().signal(shim.pid, Signal::SIGKILL)?;
    }
    eventually("the container is gone", Duration::from_secs(10), || {
        let alive = engine.enclave().processes().unwrap_or_default();
        if alive.iter().any(|process| process.pid == init) {
            Err(format!("init {init} is alive"))
        } else {
            Ok(())
        }
    })?;
    container.remove()?;
    if engine.runtime() == Runtime::Runc {
        // The control leaves its socket behind.
        engine
            .enclave()
            .cmd("sh")
            .args(["-c", "rm -f /run/containerd/s/*"])
            .ok()?;
    }
    Ok(())
}

/// Between `start` and containerd's first call, which the test makes itself to hit that moment:
/// containerd clears up after no shim that it holds no connection to.
fn killed_shim_that_was_not_known_yet(engine: &Containerd) -> Result<()> {
    if engine.runtime() == Runtime::Runc {
        // The control leaves its socket behind.
        return Ok(());
    }
    let bundle = engine.enclave().dir().join("unknown");
    fs::create_dir(&bundle).at("make", &bundle)?;
    let config = bundle.join("config.json");
    fs::write(&config, "{}").at("write", &config)?;
    let shim = build_dir()?.join(engine.runtime().shim_name());
    let flags = ["-namespace", "unknown", "-id", "unknown", "-bundle"];
    let start = engine.enclave().cmd(shim).args(flags).arg(&bundle);
    let address = start.args(["-address", "/none", "start"]).ok()?.stdout;
    let daemons = || engine.enclave().find("-id unknown").unwrap_or_default();
    let settled = |what, count| {
        eventually(what, Duration::from_secs(10), || match daemons() {
            found if found.len() == count => Ok(()),
            other => Err(format!("{other:?}")),
        })
    };
    settled("the daemon runs", 1)?;
    for daemon in daemons() {
        engine.enclave().signal(daemon.pid, Signal::SIGKILL)?;
    }
    settled("the daemon is gone", 0)?;
    let socket = address.trim().strip_prefix("unix://").unwrap_or_default();
    let socket = engine.enclave().path(socket);
    assert!(socket.exists(), "nothing to clear up at {address}");
    engine.run("another", &["true"])?;
    assert!(!socket.exists(), "{address} is left");
    fs::remove_dir_all(&bundle).at("remove", &bundle)
}

fn killed_init_is_an_exit(engine: &Containerd) -> Result<()> {
    let container = engine.sleeper("victim")?;
    let init = engine.init_of("victim")?;
    engine.enclave().signal(init, Signal::SIGKILL)?;
    eventually(
        "the task has stopped",
        Duration::from_secs(10),
        || match engine.task("victim") {
            Ok(Some(task)) if task.status == "STOPPED" => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )?;
    container.remove()
}
