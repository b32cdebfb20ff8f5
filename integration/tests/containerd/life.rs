use std::time::Duration;

use cofferdam_integration::{
    cases::Case, command::eventually, containerd::Containerd, error::Result,
};

pub(crate) const CASES: &[Case<Containerd>] = &[
    ("runs_and_prints", runs_and_prints),
    ("keeps_the_exit_code", keeps_the_exit_code),
    (
        "takes_user_directory_and_environment",
        takes_user_directory_and_environment,
    ),
    ("signals_end_it", signals_end_it),
    ("a_signal_can_be_handled", a_signal_can_be_handled),
    ("pauses_and_resumes", pauses_and_resumes),
    ("says_why_a_start_fails", says_why_a_start_fails),
    ("refuses_a_checkpoint", refuses_a_checkpoint),
    ("starts_again_after_its_end", starts_again_after_its_end),
];

fn runs_and_prints(engine: &Containerd) -> Result<()> {
    let done = engine.run("hello", &["sh", "-c", "echo out; echo err >&2"])?;
    assert_eq!(
        (done.stdout.as_str(), done.stderr.as_str()),
        ("out\n", "err\n")
    );
    Ok(())
}

fn keeps_the_exit_code(engine: &Containerd) -> Result<()> {
    for code in [0, 1, 42, 137, 255] {
        let exit = format!("exit {code}");
        let done = engine
            .ctr_run(&["--rm"], "code", &["sh", "-c", &exit])
            .run()?;
        assert_eq!(done.code(), code, "{done:?}");
    }
    Ok(())
}

fn takes_user_directory_and_environment(engine: &Containerd) -> Result<()> {
    let table: &[(&[&str], &str, &str)] = &[
        (&["--user", "1000:1000"], "id -u; id -g", "1000\n1000\n"),
        (&["--cwd", "/var"], "pwd", "/var\n"),
        (&["--env", "COLOUR=blue"], "echo $COLOUR", "blue\n"),
        (
            &["--read-only"],
            "touch /x 2>&1 || echo refused",
            "touch: /x: Read-only file system\nrefused\n",
        ),
        (
            &[],
            "cat /proc/1/comm; hostname >/dev/null && echo ok",
            "sh\nok\n",
        ),
    ];
    for (flags, script, expected) in table {
        let flags = [&["--rm"], *flags].concat();
        let done = engine
            .ctr_run(&flags, "spec", &["sh", "-c", script])
            .run()?;
        // `ctr run` before 1.7 has no --user.
        if done.stderr.contains("flag provided but not defined") {
            continue;
        }
        assert_eq!(done.ok()?.stdout, *expected, "{flags:?}");
    }
    Ok(())
}

fn signals_end_it(engine: &Containerd) -> Result<()> {
    for (signal, code) in [("SIGKILL", 137), ("SIGUSR1", 138)] {
        // Process 1 has no default actions, so USR1 needs a trap to end it.
        let script = "trap 'exit 138' USR1; echo ready; while :; do sleep 0.1; done";
        let mut job = engine
            .ctr_run(&["--rm"], "signals", &["sh", "-c", script])
            .background(&engine.scratch("signals.log"))?;
        job.wait_for("ready")?;
        engine
            .ctr(["tasks", "kill", "--signal", signal, "signals"])
            .ok()?;
        let status = job.wait(Duration::from_secs(10))?;
        assert_eq!(status.code(), Some(code), "{signal}");
    }
    Ok(())
}

fn a_signal_can_be_handled(engine: &Containerd) -> Result<()> {
    let script = "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.1; done";
    let mut job = engine
        .ctr_run(&["--rm"], "trap", &["sh", "-c", script])
        .background(&engine.scratch("trap.log"))?;
    job.wait_for("ready")?;
    engine
        .ctr(["tasks", "kill", "--signal", "SIGTERM", "trap"])
        .ok()?;
    assert_eq!(job.wait(Duration::from_secs(10))?.code(), Some(3));
    assert!(job.output().contains("caught"), "{}", job.output());
    Ok(())
}

fn pauses_and_resumes(engine: &Containerd) -> Result<()> {
    let script = "while :; do echo tick >>/tmp/ticks; sleep 0.05; done";
    let container = engine.detached(&[], "pause", &["sh", "-c", script])?;
    let init = engine.init_of("pause")?;
    let ticks = || {
        let path = format!("/proc/{init}/root/tmp/ticks");
        std::fs::read_to_string(path)
            .unwrap_or_default()
            .lines()
            .count()
    };
    engine.ctr(["tasks", "pause", "pause"]).ok()?;
    let status = engine.task("pause")?.map(|task| task.status);
    assert_eq!(status.as_deref(), Some("PAUSED"));
    let frozen = ticks();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(ticks(), frozen, "it ran while paused");
    engine.ctr(["tasks", "resume", "pause"]).ok()?;
    let status = engine.task("pause")?.map(|task| task.status);
    assert_eq!(status.as_deref(), Some("RUNNING"));
    eventually("it ticks again", Duration::from_secs(5), || {
        let now = ticks();
        if now > frozen {
            Ok(())
        } else {
            Err(format!("{now} ticks"))
        }
    })?;
    // A paused container can be killed and removed.
    engine.ctr(["tasks", "pause", "pause"]).ok()?;
    container.remove()
}

fn says_why_a_start_fails(engine: &Containerd) -> Result<()> {
    let table: &[(&[&str], &[&str], &str)] = &[
        (&[], &["/bin/absent"], "no such file or directory"),
        (&[], &["absent"], "executable file not found in $PATH"),
        (&[], &["/etc/passwd"], "permission denied"),
        (
            &["--mount", "type=bind,src=/absent,dst=/mnt,options=rbind"],
            &["true"],
            "/absent",
        ),
        (&["--cwd", "/etc/passwd"], &["true"], "/etc/passwd"),
    ];
    for (flags, argv, why) in table {
        let flags = [&["--rm"], *flags].concat();
        let done = engine.ctr_run(&flags, "broken", argv).run()?;
        assert_ne!(done.code(), 0, "{done:?}");
        assert!(done.stderr.contains(why), "no {why:?} in {}", done.stderr);
        engine.remove("broken")?;
    }
    Ok(())
}

fn refuses_a_checkpoint(engine: &Containerd) -> Result<()> {
    let container = engine.sleeper("freeze")?;
    let done = engine.ctr(["tasks", "checkpoint", "freeze"]).run()?;
    assert_ne!(done.code(), 0, "{done:?}");
    assert!(
        done.stderr.contains("checkpoint") || done.stderr.contains("criu"),
        "{done:?}"
    );
    let status = engine.task("freeze")?.map(|task| task.status);
    assert_eq!(status.as_deref(), Some("RUNNING"));
    container.remove()
}

fn starts_again_after_its_end(engine: &Containerd) -> Result<()> {
    let image = engine.image().to_owned();
    let runtime = engine.runtime().containerd_name();
    // The second start finds what the first has left.
    engine
        .ctr([
            "containers",
            "create",
            "--runtime",
            runtime,
            &image,
            "again",
            "mkdir",
            "/turn",
        ])
        .ok()?;
    for expected in [0, 1] {
        let done = engine.ctr(["tasks", "start", "again"]).run()?;
        assert_eq!(done.code(), expected, "{done:?}");
        // An older ctr leaves the ended task behind.
        let _ = engine.ctr(["tasks", "rm", "again"]).run()?;
    }
    engine.remove("again")
}
