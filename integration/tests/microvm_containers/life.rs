//! Run, join, look, pause, limit.

use std::time::Duration;

use cofferdam_integration::command::eventually;
use cofferdam_integration::error::Result;
use serde_json::json;

use crate::yard::Yard;

/// The same spec on the host's kernel is the control: another kernel answers there.
#[test]
fn a_container_has_a_kernel_of_its_own_and_is_confined_in_it() -> Result<()> {
    let Some(yard) = Yard::new()? else {
        return Ok(());
    };
    let script = "uname -r; grep -E 'Seccomp:|NoNewPrivs|CapBnd' /proc/self/status; echo to-stderr >&2; \
                  hostname; id; mount -t tmpfs none /mnt; exit 7";
    let done = yard.run(&yard.bundle("own", &["sh", "-c", script])?, "own")?;
    assert_eq!(done.code(), 7, "{done:?}");
    let host = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    assert!(!done.stdout.contains(host.trim()), "{done:?}");
    for expected in [
        "-cofferdam\n",
        "Seccomp:\t2",
        "NoNewPrivs:\t1",
        "CapBnd:\t00000000800405fb",
        "\nattacked\n",
        "uid=0",
    ] {
        assert!(done.stdout.contains(expected), "{expected:?}: {done:?}");
    }
    assert!(done.stderr.contains("to-stderr"), "{done:?}");
    assert!(
        done.stderr.contains("denied") || done.stderr.contains("not permitted"),
        "{done:?}"
    );
    Ok(())
}

#[test]
fn processes_join_it_with_streams_codes_and_a_terminal() -> Result<()> {
    let Some(yard) = Yard::new()? else {
        return Ok(());
    };
    let running = yard.sleeper("joined")?;
    let long = vec![b'x'; 300_000];
    let done = running
        .exec(&["sh", "-c", "cat; echo end >&2; exit 3"])?
        .stdin(long.clone())
        .run()?;
    assert_eq!((done.code(), done.stdout.len()), (3, long.len()));
    assert_eq!(done.stderr.trim(), "end");
    let none = running.exec(&["/no/such/program"])?.run()?;
    assert_eq!(none.code(), 255, "{none:?}");
    assert!(none.stderr.contains("no such file"), "{none:?}");
    let shell = running
        .command(&["exec", "--tty", "joined", "sh", "-c", "tty; stty size"])?
        .on_terminal()
        .run()?;
    assert!(shell.stdout.contains("/dev/pts/0"), "{shell:?}");
    let killed = running.exec(&["sh", "-c", "kill -9 $$"])?.run()?;
    assert_eq!(killed.code(), 137, "{killed:?}");
    let looked = running.command(&["inspect", "joined"])?.run()?;
    assert_eq!(looked.code(), 0, "{looked:?}");
    for expected in [
        "in a virtual machine of pod joined",
        "-cofferdam",
        "every thread has a seccomp filter",
    ] {
        assert!(looked.stdout.contains(expected), "{expected:?}: {looked:?}");
    }
    running.delete()
}

#[test]
fn it_is_paused_measured_and_limited() -> Result<()> {
    let Some(yard) = Yard::new()? else {
        return Ok(());
    };
    let script = "while :; do echo tick; sleep 0.2; done";
    let running = yard.start(&yard.bundle("ticks", &["sh", "-c", script])?, "ticks")?;
    let ticks = || running.log().matches("tick").count();
    let grows = |from: usize| {
        eventually("it ticks", Duration::from_secs(20), || match ticks() {
            now if now > from => Ok(()),
            now => Err(now.to_string()),
        })
    };
    grows(0)?;
    running.command(&["pause", "ticks"])?.ok()?;
    assert_eq!(running.state()?["status"], "paused");
    let then = ticks();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(ticks(), then);
    running.command(&["resume", "ticks"])?.ok()?;
    grows(then)?;
    let stats = running
        .command(&["events", "--stats", "ticks"])?
        .ok()?
        .json()?;
    assert!(
        stats["data"]["memory"]["usage"]["usage"].as_u64() > Some(0),
        "{stats}"
    );
    running
        .command(&["update", "--pids-limit", "7", "--memory", "32M", "ticks"])?
        .ok()?;
    let limits = running.exec(&[
        "sh",
        "-c",
        "cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/memory.max",
    ])?;
    let done = limits.run()?;
    assert!(
        done.stdout.is_empty() || done.stdout == "7\n33554432\n",
        "{done:?}"
    );
    let stats = running
        .command(&["events", "--stats", "ticks"])?
        .ok()?
        .json()?;
    assert_eq!(stats["data"]["pids"]["limit"], json!(7), "{stats}");
    let refused = running
        .command(&["update", "--memory", "1G", "ticks"])?
        .run()?;
    assert!(
        refused.stderr.contains("started with 192 MiB"),
        "{refused:?}"
    );
    running.command(&["kill", "ticks", "KILL"])?.ok()?;
    running.is_stopped()?;
    running.delete()
}

/// A program that ignores nothing is ended by the signal that it is sent, and obeys one that it handles.
#[test]
fn signals_reach_it() -> Result<()> {
    let Some(yard) = Yard::new()? else {
        return Ok(());
    };
    let script = "trap 'echo caught; exit 5' USR1; echo ready; while :; do sleep 0.1; done";
    let running = yard.start(&yard.bundle("signals", &["sh", "-c", script])?, "signals")?;
    eventually("it is ready", Duration::from_secs(20), || {
        match running.log() {
            log if log.contains("ready") => Ok(()),
            log => Err(log),
        }
    })?;
    running.command(&["kill", "signals", "USR1"])?.ok()?;
    running.is_stopped()?;
    assert!(running.log().contains("caught"), "{}", running.log());
    running.delete()
}

#[test]
fn what_no_machine_has_is_refused() -> Result<()> {
    let Some(yard) = Yard::new()? else {
        return Ok(());
    };
    let mut bundle = yard.bundle("refused", &["true"])?;
    let plain = bundle.spec.clone();
    let mut refused = |expected: &str, change: &dyn Fn(&mut serde_json::Value)| -> Result<()> {
        bundle.spec = plain.clone();
        change(&mut bundle.spec);
        let done = yard.run(&bundle, "refused")?;
        assert_eq!(done.code(), 1, "{done:?}");
        assert!(done.stderr.contains(expected), "{expected:?}: {done:?}");
        Ok(())
    };
    refused("vm-memory", &|spec| {
        spec["annotations"] = json!({"cofferdam.dev/vm-memory": "lots"});
    })?;
    refused("it has 128 to", &|spec| {
        spec["annotations"] = json!({"cofferdam.dev/vm-memory": "64"});
    })?;
    refused("run in the container's own namespaces", &|spec| {
        spec["hooks"] = json!({"startContainer": [{"path": "/bin/true"}]});
    })?;
    Ok(())
}
