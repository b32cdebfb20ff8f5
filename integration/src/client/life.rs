//! A container's life: run, exec, logs, copies, volumes, stop, pause.

use std::{fs, time::Duration};

use super::Client;
use crate::{
    command::eventually,
    error::{At, Result},
};

pub(super) fn runs<E: Client>(engine: &E) -> Result<()> {
    let done = engine.run(&[], &["sh", "-c", "echo out; echo err >&2"])?;
    assert_eq!(
        (done.stdout.as_str(), done.stderr.as_str()),
        ("out\n", "err\n")
    );
    for code in [1, 42, 255] {
        let done = engine
            .run_with(&["--rm"], &["sh", "-c", &format!("exit {code}")])
            .run()?;
        assert_eq!(done.code(), code, "{done:?}");
    }
    let done = engine
        .run_with(&["--rm", "--interactive"], &["cat"])
        .stdin("in\n")
        .ok()?;
    assert_eq!(done.stdout, "in\n");
    let done = engine.run(
        &["--hostname", "dam", "--env", "A=b", "--workdir", "/var"],
        &["sh", "-c", "hostname; echo $A; pwd"],
    )?;
    assert_eq!(done.stdout, "dam\nb\n/var\n");
    Ok(())
}

pub(super) fn has_a_terminal<E: Client>(engine: &E) -> Result<()> {
    let script = "tty; test -t 0 && test -t 1 && echo terminal; exit 7";
    let done = engine
        .run_with(&["--name", "terminal", "-it"], &["sh", "-c", script])
        .on_terminal()
        .run()?;
    assert_eq!(done.code(), 7, "{done:?}");
    let said = if engine.may_lose_output() {
        engine.cli(["logs", "terminal"]).ok()?.stdout
    } else {
        done.stdout
    };
    assert!(
        said.contains("/dev/pts/0") && said.contains("terminal"),
        "{said}"
    );
    engine.remove("terminal")
}

pub(super) fn execs<E: Client>(engine: &E) -> Result<()> {
    engine.detached("execs", &[], &["sleep", "1000"])?;
    let done = engine
        .cli(["exec", "-i", "execs", "sh", "-c", "cat; exit 5"])
        .stdin("in\n")
        .run()?;
    assert_eq!((done.code(), done.stdout.as_str()), (5, "in\n"), "{done:?}");
    let done = engine.cli([
        "exec",
        "--user",
        "1000",
        "--workdir",
        "/var",
        "execs",
        "sh",
        "-c",
    ]);
    assert_eq!(done.arg("id -u; pwd").ok()?.stdout, "1000\n/var\n");
    let done = engine.cli([
        "exec",
        "-it",
        "execs",
        "sh",
        "-c",
        "test -t 0 && echo terminal",
    ]);
    assert!(done.on_terminal().ok()?.stdout.contains("terminal"));
    for (program, code) in [("absent", 127), ("/etc/passwd", 126)] {
        let done = engine.cli(["exec", "execs", program]).run()?;
        let blurred = engine.blurs_exec_status() && done.code() == 126;
        assert!(blurred || done.code() == code, "{done:?}");
    }
    let report = |pid: &str| {
        let script = format!("grep -E '^(Seccomp|NoNewPrivs|Cap...):' /proc/{pid}/status");
        engine
            .cli(["exec", "execs", "sh", "-c", &script])
            .ok()
            .map(|done| done.stdout)
    };
    let init = report("1")?;
    assert_eq!(init, report("self")?);
    assert!(init.contains("Seccomp:\t2"), "{init}");
    engine.remove("execs")
}

pub(super) fn keeps_logs<E: Client>(engine: &E) -> Result<()> {
    engine.detached(
        "logs",
        &[],
        &["sh", "-c", "echo one; echo two >&2; sleep 1000"],
    )?;
    eventually(
        "both lines are there",
        Duration::from_secs(10),
        || match engine.cli(["logs", "logs"]).run() {
            Ok(done) if done.stdout == "one\n" && done.stderr == "two\n" => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )?;
    engine.remove("logs")
}

pub(super) fn copies_files<E: Client>(engine: &E) -> Result<()> {
    engine.detached("cp", &[], &["sleep", "1000"])?;
    let file = engine.enclave().dir().join("file");
    fs::write(&file, "content\n").at("write", &file)?;
    if engine.copies_as_nobody() {
        let done = engine.cli(["cp"]).arg(&file).arg("cp:/tmp/file").run()?;
        assert_ne!(done.code(), 0, "it works now: {done:?}");
        engine.cli(["stop", "--time", "0", "cp"]).ok()?;
        engine.cli(["cp"]).arg(&file).arg("cp:/tmp/file").ok()?;
        engine.cli(["start", "cp"]).ok()?;
    } else {
        engine.cli(["cp"]).arg(&file).arg("cp:/tmp/file").ok()?;
    }
    assert_eq!(
        engine.cli(["exec", "cp", "cat", "/tmp/file"]).ok()?.stdout,
        "content\n"
    );
    engine
        .cli(["exec", "cp", "sh", "-c", "echo more >>/tmp/file"])
        .ok()?;
    engine.cli(["cp", "cp:/tmp/file"]).arg(&file).ok()?;
    assert_eq!(
        fs::read_to_string(&file).at("read", &file)?,
        "content\nmore\n"
    );
    engine.remove("cp")
}

pub(super) fn stops_kills_restarts<E: Client>(engine: &E) -> Result<()> {
    let script = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done";
    engine.detached("life", &[], &["sh", "-c", script])?;
    let ready = |times: usize| {
        eventually("the trap is set", Duration::from_secs(10), || match engine
            .cli(["logs", "life"])
            .run()
        {
            Ok(done) if done.stdout.lines().count() == times => Ok(()),
            other => Err(format!("{other:?}")),
        })
    };
    ready(1)?;
    engine.cli(["stop", "life"]).ok()?;
    assert_eq!(engine.inspect("life", ".State.ExitCode")?, "3");
    engine.cli(["start", "life"]).ok()?;
    ready(2)?;
    engine.cli(["restart", "life"]).ok()?;
    ready(3)?;
    assert_eq!(engine.inspect("life", ".State.Status")?, "running");
    engine.cli(["kill", "life"]).ok()?;
    eventually("it has ended", Duration::from_secs(10), || {
        match engine.inspect("life", ".State.ExitCode") {
            Ok(code) if code == "137" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    engine.remove("life")
}

pub(super) fn pauses<E: Client>(engine: &E) -> Result<()> {
    engine.detached("pause", &[], &["sleep", "1000"])?;
    engine.cli(["pause", "pause"]).ok()?;
    assert_eq!(engine.inspect("pause", ".State.Status")?, "paused");
    engine.cli(["unpause", "pause"]).ok()?;
    engine.cli(["exec", "pause", "true"]).ok()?;
    engine.remove("pause")
}

pub(super) fn mounts_volumes<E: Client>(engine: &E) -> Result<()> {
    let dir = engine.enclave().dir().join("bind");
    fs::create_dir_all(&dir).at("make", &dir)?;
    fs::write(dir.join("file"), "bound\n").at("write", &dir)?;
    let bind = format!("{}:/bind", dir.display());
    let done = engine.run(
        &["-v", &bind, "-v", "named:/named"],
        &[
            "sh",
            "-c",
            "cat /bind/file; echo kept >/named/file; echo written >/bind/new",
        ],
    )?;
    assert_eq!(done.stdout, "bound\n");
    assert_eq!(
        fs::read_to_string(dir.join("new")).at("read", &dir)?,
        "written\n"
    );
    let read_only = format!("{bind}:ro");
    let done = engine.run_with(
        &["--rm", "-v", &read_only, "-v", "named:/named"],
        &["sh", "-c", "cat /named/file; touch /bind/x"],
    );
    let done = done.run()?;
    assert_eq!(
        (done.code(), done.stdout.as_str()),
        (1, "kept\n"),
        "{done:?}"
    );
    engine.cli(["volume", "rm", "named"]).ok().map(drop)
}

pub(super) fn says_why_a_start_fails<E: Client>(engine: &E) -> Result<()> {
    // Engines put it into words of their own, and some begin with a capital letter.
    let table = [
        ("absent", 127, ["executable file", "not found in $path"]),
        (
            "/bin/absent",
            127,
            ["/bin/absent", "no such file or directory"],
        ),
        ("/etc/passwd", 126, ["/etc/passwd", "permission denied"]),
    ];
    for (program, code, why) in table {
        let done = engine.run_with(&["--rm"], &[program]).run()?;
        assert_eq!(done.code(), code, "{done:?}");
        let said = done.stderr.to_lowercase();
        for part in why {
            assert!(said.contains(part), "no {part:?} in {}", done.stderr);
        }
    }
    Ok(())
}
