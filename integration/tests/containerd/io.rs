use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use cofferdam_integration::{
    cases::{Case, Engine as _},
    command::eventually,
    containerd::Containerd,
    error::{At, Result},
    fuse::Served,
    gate,
};
use nix::sys::signal::Signal;

pub(crate) const CASES: &[Case<Containerd>] = &[
    ("reads_standard_input", reads_standard_input),
    ("loses_no_output", loses_no_output),
    ("has_a_terminal", has_a_terminal),
    ("logs_to_a_file", logs_to_a_file),
    ("logs_to_nowhere", logs_to_nowhere),
    (
        "a_slow_log_stops_nothing_else",
        a_slow_log_stops_nothing_else,
    ),
    ("logs_to_a_binary", logs_to_a_binary),
];

fn reads_standard_input(engine: &Containerd) -> Result<()> {
    let output = engine.scratch("cat.log");
    let mut job = engine
        .ctr_run(&["--rm"], "cat", &["cat"])
        .background(&output)?;
    assert!(job.converse("one\ntwo\n", "two\n")?.success());
    assert_eq!(job.output(), "one\ntwo\n");
    Ok(())
}

fn loses_no_output(engine: &Containerd) -> Result<()> {
    const SIZE: usize = 8 << 20;
    let script = format!("head -c {SIZE} /dev/zero | tr '\\0' x; echo end >&2");
    let done = engine.run("flood", &["sh", "-c", &script])?;
    assert_eq!((done.stdout.len(), done.stderr.as_str()), (SIZE, "end\n"));
    assert!(done.stdout.bytes().all(|byte| byte == b'x'));
    Ok(())
}

fn has_a_terminal(engine: &Containerd) -> Result<()> {
    let script = "tty; test -t 0 && test -t 1 && test -t 2 && echo all; stty size; exit 7";
    let done = engine
        .ctr_run(&["--rm", "--tty"], "tty", &["sh", "-c", script])
        .on_terminal()
        .run()?;
    assert_eq!(done.code(), 7, "{done:?}");
    let text = done.stdout.replace('\r', "");
    assert!(
        text.contains("/dev/pts/0\nall\n") || text.contains("/dev/console\nall\n"),
        "{done:?}"
    );
    Ok(())
}

fn logs_to_a_file(engine: &Containerd) -> Result<()> {
    let log = engine.scratch("file.log");
    let uri = format!("file://{}", log.display());
    // Opened again by its own name too, as servers do with their log, which must not cut it.
    let script = "echo out; echo err >&2; echo again >/dev/stdout; : >/proc/self/fd/2; \
                  echo last; exec sleep 1000";
    let container =
        engine.detached_with_io(&["--log-uri", &uri], "file-log", &["sh", "-c", script])?;
    eventually(
        "every line arrives",
        Duration::from_secs(10),
        || match fs::read_to_string(&log).unwrap_or_default() {
            text if text == "out\nerr\nagain\nlast\n" => Ok(()),
            text => Err(text),
        },
    )?;
    container.remove()?;
    // A second container appends; what it said before its end is there when that is told.
    let script = "seq 10000";
    let again = engine.detached_with_io(&["--log-uri", &uri], "file-log", &["sh", "-c", script])?;
    ended(engine, "file-log")?;
    let text = fs::read_to_string(&log).at("read", &log)?;
    assert!(
        text.starts_with("out\n") && text.ends_with("\n10000\n"),
        "{}",
        text.len()
    );
    again.remove()
}

fn ended(engine: &Containerd, id: &str) -> Result<()> {
    eventually("it ends", Duration::from_secs(20), || {
        match engine.task(id) {
            Ok(Some(task)) if task.status == "STOPPED" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
}

/// A container whose output nobody wants: engines name the null device, as a file.
fn logs_to_nowhere(engine: &Containerd) -> Result<()> {
    let io = ["--log-uri", "file:///dev/null"];
    let script = "yes | head -c 1000000; echo again >/dev/stdout && echo >&2 && exit 3";
    let container = engine.detached_with_io(&io, "no-log", &["sh", "-c", script])?;
    ended(engine, "no-log")?;
    let deleted = engine.ctr(["task", "delete", "no-log"]).run()?;
    assert!(deleted.stderr.contains("exit code 3"), "{deleted:?}");
    container.remove()
}

/// Whether FUSE is known to let a file be closed while it is written: seen on Linux 6.18, and not on 6.1.
fn closes_what_is_written() -> Result<bool> {
    Ok(gate::linux()? >= (6, 18))
}

/// The shim wrote logs where it waits for everything: a disk that did not answer stopped all its containers.
fn a_slow_log_stops_nothing_else(engine: &Containerd) -> Result<()> {
    let behind = engine.scratch("behind");
    fs::create_dir(&behind).at("make", &behind)?;
    let Some(disk) = Served::bindfs(engine.enclave(), "slow", &behind)? else {
        return Ok(());
    };
    let uri = format!("file://{}", disk.at().join("log").display());
    let script = "while ! test -e /tmp/stop; do echo line; sleep 0.01; done; echo last";
    let io = ["--log-uri", &uri];
    let container = engine.detached_with_io(&io, "slow-log", &["sh", "-c", script])?;
    let log = behind.join("log");
    let written = || fs::metadata(&log).map_or(0, |log| log.len());
    let grows = |from: u64| match written() {
        now if now > from => Ok(()),
        now => Err(now.to_string()),
    };
    eventually("it is written", Duration::from_secs(10), || grows(0))?;
    disk.signal(Signal::SIGSTOP)?;
    let stopped = written();
    std::thread::sleep(Duration::from_millis(500));
    // The control: the disk is as slow as can be.
    assert_eq!(written(), stopped);
    let exec = engine.exec_with(&[], "slow-log", &["touch", "/tmp/stop"]);
    let exec = std::thread::spawn(move || exec.limit(Duration::from_secs(120)).run());
    let in_time = eventually("the exec ends", Duration::from_secs(10), || {
        exec.is_finished().then_some(()).ok_or_else(String::new)
    });
    // Whatever came of it: nothing else could end with a log on such a disk.
    let status = engine.task("slow-log");
    disk.signal(Signal::SIGCONT)?;
    if in_time.is_err() {
        // Seen on Linux 6.1: the helper's execve closes its copy of the log, and FUSE lets nobody close a file that is
        // being written. So the exec waits for the disk; the shim still answers, as is seen below.
        assert!(!closes_what_is_written()?, "an exec waits for the log");
        gate::inapplicable("FUSE before Linux 6.18 lets no exec start while a log is stuck");
    }
    let exec = exec.join();
    assert!(exec.is_ok_and(|done| done.is_ok_and(|done| done.status.success())));
    // It has ended, but that is not told before its log is complete.
    assert_eq!(status?.map(|task| task.status).as_deref(), Some("RUNNING"));
    ended(engine, "slow-log")?;
    let text = fs::read_to_string(&log).at("read", &log)?;
    assert!(text.ends_with("line\nlast\n"), "{text}");
    container.remove()?;
    disk.end()?;
    fs::remove_dir_all(&behind).at("remove", &behind)
}

fn logs_to_a_binary(engine: &Containerd) -> Result<()> {
    let logger = engine.scratch("logger");
    let log = engine.scratch("binary.log");
    // The contract of a binary:// logger: streams on 3 and 4, readiness by closing 5, arguments from
    // the query, CONTAINER_ID and CONTAINER_NAMESPACE in the environment.
    let script = format!(
        "#!/bin/bash\necho \"$CONTAINER_NAMESPACE $CONTAINER_ID $*\" >{0}.env\n\
         cat <&3 5>&- >{0}.out &\ncat <&4 5>&- >{0}.err &\nexec 5>&-\nwait\n",
        log.display()
    );
    fs::write(&logger, script).at("write", &logger)?;
    fs::set_permissions(&logger, fs::Permissions::from_mode(0o755))
        .at("set the mode of", &logger)?;
    let uri = format!("binary://{}?colour=blue", logger.display());
    let script = "echo out; echo err >&2; sleep 1000";
    let container =
        engine.detached_with_io(&["--log-uri", &uri], "binary-log", &["sh", "-c", script])?;
    let read = |suffix: &str| {
        fs::read_to_string(format!("{}.{suffix}", log.display())).unwrap_or_default()
    };
    eventually("the logger has everything", Duration::from_secs(10), || {
        let seen = (read("env"), read("out"), read("err"));
        let env = format!("{} binary-log colour blue\n", engine.namespace());
        if seen == (env, "out\n".to_owned(), "err\n".to_owned()) {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    })?;
    container.remove()
}
