//! What ends badly and must leave nothing behind.

use std::fs;
use std::time::Duration;

use cofferdam_integration::command::eventually;
use cofferdam_integration::error::Result;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::yard::{Yard, nothing_is_left};

/// Whatever is killed, the container ends, says why where it can, and `delete` leaves nothing.
#[test]
fn each_process_may_be_killed() -> Result<()> {
    let Some(yard) = Yard::new()? else {
        return Ok(());
    };
    for victim in ["stand-in", "monitor", "monitor in its jail"] {
        let running = yard.sleeper("victim")?;
        let [outer, inner] = running.monitors()?;
        let pid = match victim {
            "stand-in" => running.pid,
            "monitor" => outer,
            _ => inner,
        };
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it is there");
        running.is_stopped()?;
        if victim != "stand-in" {
            let log = running.log();
            assert!(
                log.contains("the virtual machine has ended"),
                "{victim}: {log}"
            );
            let joined = running.exec(&["true"])?.run()?;
            assert_ne!(joined.code(), 0, "{victim}: {joined:?}");
        }
        running.delete()?;
        fs::remove_dir_all(yard.dir().join("victim")).expect("the bundle goes");
    }
    Ok(())
}

/// The guest's kernel panics where its first process ends, which only its root could bring about; here its agent is
/// asked to shut the guest down under a container.
#[test]
fn a_guest_that_ends_is_told() -> Result<()> {
    let Some(yard) = Yard::new()? else {
        return Ok(());
    };
    let running = yard.sleeper("ends")?;
    let socket = running.machine()?.join("door/vsock");
    let mut client = cofferdam_agent::client::Client::connect(&socket).expect("connect");
    let nothing = cofferdam_agent::protocol::Nothing {};
    client
        .done(&cofferdam_agent::protocol::Call::Shutdown(nothing))
        .expect("it is done");
    running.is_stopped()?;
    assert!(
        running.log().contains("the virtual machine has ended"),
        "{}",
        running.log()
    );
    running.delete()
}

#[test]
fn memory_that_runs_out_is_told() -> Result<()> {
    let Some(yard) = Yard::new()? else {
        return Ok(());
    };
    let hungry = "sleep 2; dd if=/dev/zero of=/dev/null bs=48M count=1; echo lives; sleep 1000";
    let mut bundle = yard.bundle("hungry", &["sh", "-c", hungry])?;
    bundle.spec["linux"]["resources"]["memory"] = json!({"limit": 16 << 20, "swap": 16 << 20});
    let running = yard.start(&bundle, "hungry")?;
    let events = yard.dir().join("events");
    let watch = running.command(&["events", "--interval", "60s", "hungry"])?;
    let mut job = watch.background(&events)?;
    eventually("the event is told", Duration::from_secs(40), || {
        let told = fs::read_to_string(&events).unwrap_or_default();
        if told.contains("\"oom\"") {
            Ok(())
        } else {
            Err(told)
        }
    })?;
    eventually(
        "its first process lives",
        Duration::from_secs(20),
        || match running.log() {
            log if log.contains("lives") => Ok(()),
            log => Err(log),
        },
    )?;
    running.command(&["kill", "hungry", "KILL"])?.ok()?;
    drop(job.wait(Duration::from_secs(30)));
    running.is_stopped()?;
    running.delete()
}

#[test]
fn twenty_pods_in_a_row_leave_nothing() -> Result<()> {
    let Some(yard) = Yard::new()? else {
        return Ok(());
    };
    let bundle = yard.bundle("row", &["echo", "hello"])?;
    let listed = || {
        let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        text.lines().count()
    };
    let before = listed();
    for round in 0..20 {
        let done = yard.run(&bundle, "row")?;
        assert_eq!(
            (done.code(), done.stdout.as_str()),
            (0, "hello\n"),
            "{round}: {done:?}"
        );
    }
    assert_eq!(listed(), before);
    let state = yard.dir().join("state");
    assert_eq!(fs::read_dir(&state).map_or(0, Iterator::count), 0);
    nothing_is_left(std::path::Path::new("/run/cofferdam/.vm/none"), &[]);
    Ok(())
}
