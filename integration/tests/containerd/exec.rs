use std::{collections::BTreeMap, thread, time::Duration};

use cofferdam_integration::{
    binaries::Runtime, cases::Case, command::eventually, containerd::Containerd, error::Result,
};

pub(crate) const CASES: &[Case<Containerd>] = &[
    ("runs_beside_init", runs_beside_init),
    ("is_confined_like_init", is_confined_like_init),
    ("has_a_terminal", has_a_terminal),
    ("says_why_it_fails", says_why_it_fails),
    ("many_at_once", many_at_once),
    ("ends_with_init", ends_with_init),
];

fn runs_beside_init(engine: &Containerd) -> Result<()> {
    let container = engine.sleeper("exec")?;
    let mut job = engine
        .exec_with(&[], "exec", &["sh", "-c", "cat; echo err >&2; exit 5"])
        .background(&engine.scratch("exec.log"))?;
    assert_eq!(job.converse("in\n", "in\n")?.code(), Some(5));
    assert_eq!(job.output(), "in\nerr\n");
    let done = engine
        .exec_with(&["--cwd", "/var"], "exec", &["pwd"])
        .ok()?;
    assert_eq!(done.stdout, "/var\n");
    let done = engine
        .exec_with(&["--user", "1000"], "exec", &["id", "-u"])
        .ok()?;
    assert_eq!(done.stdout, "1000\n");
    container.remove()
}

/// What the kernel enforces on a process, as `/proc/PID/status` and the links in `/proc/PID/ns` tell.
fn confinement(text: &str) -> BTreeMap<String, String> {
    const FIELDS: [&str; 11] = [
        "Seccomp",
        "Seccomp_filters",
        "NoNewPrivs",
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "Uid",
        "Gid",
        "Groups",
    ];
    let pairs = text.lines().filter_map(|line| line.split_once([':', '>']));
    pairs
        .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        .filter(|(key, _)| FIELDS.contains(&key.as_str()) || key.starts_with("ns "))
        .collect()
}

fn is_confined_like_init(engine: &Containerd) -> Result<()> {
    let container = engine.sleeper("confined")?;
    let report = |pid: &str| {
        let script = format!(
            "cat /proc/{pid}/status; cat /proc/{pid}/cgroup; \
             for n in cgroup ipc mnt net pid user uts; do echo \"ns $n> $(readlink /proc/{pid}/ns/$n)\"; done"
        );
        engine
            .exec("confined", &["sh", "-c", &script])
            .map(|done| done.stdout)
    };
    let (init, exec) = (report("1")?, report("$$")?);
    assert_eq!(confinement(&init), confinement(&exec));
    assert_eq!(confinement(&init).len(), 18, "{init}");
    let cgroups = |text: &str| -> Vec<String> {
        let lines = text
            .lines()
            .filter(|line| line.contains(":/") || line.contains("::"));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(cgroups(&init), cgroups(&exec));
    if engine.runtime() != Runtime::Runc {
        let facts = confinement(&exec);
        assert_eq!(
            facts["Seccomp"], "2",
            "exec without a seccomp filter (libcontainer 0.7 loses it)"
        );
        assert_eq!(facts["NoNewPrivs"], "1");
        // An exec asks for everything and must not get more than init's bounding set.
        let done = engine
            .exec_with(&["--user", "0"], "confined", &["cat", "/proc/self/status"])
            .ok()?;
        let root = confinement(&done.stdout);
        assert_eq!(root["CapBnd"], facts["CapBnd"]);
        assert_eq!(root["Seccomp"], "2");
    }
    container.remove()
}

fn has_a_terminal(engine: &Containerd) -> Result<()> {
    let container = engine.sleeper("exec-tty")?;
    let script = "test -t 0 && test -t 1 && echo terminal; exit 9";
    let done = engine
        .exec_with(&["--tty"], "exec-tty", &["sh", "-c", script])
        .on_terminal()
        .run()?;
    assert_eq!(done.code(), 9, "{done:?}");
    assert!(done.stdout.contains("terminal"), "{done:?}");
    container.remove()
}

fn says_why_it_fails(engine: &Containerd) -> Result<()> {
    let container = engine.sleeper("exec-fail")?;
    for (argv, why) in [
        ("absent", "executable file not found in $PATH"),
        ("/bin/absent", "no such file or directory"),
        ("/etc/passwd", "permission denied"),
    ] {
        let done = engine.exec_with(&[], "exec-fail", &[argv]).run()?;
        assert_ne!(done.code(), 0, "{argv}");
        assert!(done.stderr.contains(why), "no {why:?} in {}", done.stderr);
    }
    // The container goes on.
    engine.exec("exec-fail", &["true"])?;
    container.remove()
}

fn many_at_once(engine: &Containerd) -> Result<()> {
    let container = engine.sleeper("execs")?;
    let outputs: Vec<Result<String>> = thread::scope(|scope| {
        let jobs: Vec<_> = (0..12)
            .map(|number| {
                scope.spawn(move || {
                    let script = format!("sleep 0.1; echo {number}");
                    engine
                        .exec("execs", &["sh", "-c", &script])
                        .map(|done| done.stdout)
                })
            })
            .collect();
        jobs.into_iter().filter_map(|job| job.join().ok()).collect()
    });
    let outputs: Result<Vec<String>> = outputs.into_iter().collect();
    let expected: Vec<_> = (0..12).map(|number| format!("{number}\n")).collect();
    assert_eq!(outputs?, expected);
    container.remove()
}

fn ends_with_init(engine: &Containerd) -> Result<()> {
    let container = engine.sleeper("together")?;
    let mut exec = engine
        .exec_with(&[], "together", &["sleep", "999"])
        .background(&engine.scratch("together.log"))?;
    eventually("the exec runs", Duration::from_secs(10), || {
        match engine.ctr(["tasks", "ps", "together"]).run() {
            Ok(done) if done.stdout.lines().count() >= 3 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    engine
        .ctr(["tasks", "kill", "--signal", "SIGKILL", "together"])
        .ok()?;
    assert_eq!(exec.wait(Duration::from_secs(10))?.code(), Some(137));
    container.remove()
}
