//! What people do with Docker, with 20.10 by runtime path and 28 by path and by `runtimeType`.

use std::{fs, time::Duration};

use cofferdam_integration::{
    binaries::Runtime,
    cases::{self, Case, Engine},
    command::eventually,
    docker::{Docker, Door, Version},
    error::{At, Result},
    gate,
};

const CASES: &[Case<Docker>] = &[
    ("runs", runs),
    ("has_a_terminal", has_a_terminal),
    ("execs", execs),
    ("keeps_logs", keeps_logs),
    ("copies_files", copies_files),
    ("gives_statistics", gives_statistics),
    ("stops_kills_restarts", stops_kills_restarts),
    ("pauses", pauses),
    ("is_read_only_when_asked", is_read_only_when_asked),
    ("mounts_volumes", mounts_volumes),
    ("takes_a_user", takes_a_user),
    (
        "gives_capabilities_by_policy_only",
        gives_capabilities_by_policy_only,
    ),
    ("takes_a_seccomp_profile", takes_a_seccomp_profile),
    ("limits_memory_and_processes", limits_memory_and_processes),
    ("updates_limits", updates_limits),
    ("checks_health", checks_health),
    ("has_a_network", has_a_network),
    ("lists_processes", lists_processes),
    ("says_why_a_start_fails", says_why_a_start_fails),
];

fn suite(version: Version, door: Door) -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let Some(engine) = gate::present(Docker::start(version, door))? else {
        return Ok(());
    };
    cases::run(&engine, CASES)
}

#[test]
fn docker_20_10_by_path() -> Result<()> {
    suite(Version::V20_10, Door::Path)
}

#[test]
fn docker_28_by_path() -> Result<()> {
    suite(Version::V28, Door::Path)
}

#[test]
fn docker_28_by_shim() -> Result<()> {
    suite(Version::V28, Door::Shim)
}

fn runs(docker: &Docker) -> Result<()> {
    let done = docker.run(&[], &["sh", "-c", "echo out; echo err >&2"])?;
    assert_eq!(
        (done.stdout.as_str(), done.stderr.as_str()),
        ("out\n", "err\n")
    );
    for code in [1, 42, 255] {
        let done = docker
            .docker_run(&["--rm"], &["sh", "-c", &format!("exit {code}")])
            .run()?;
        assert_eq!(done.code(), code, "{done:?}");
    }
    let done = docker
        .docker_run(&["--rm", "--interactive"], &["cat"])
        .stdin("in\n")
        .ok()?;
    assert_eq!(done.stdout, "in\n");
    let done = docker.run(
        &["--hostname", "dam", "--env", "A=b", "--workdir", "/var"],
        &["sh", "-c", "hostname; echo $A; pwd"],
    )?;
    assert_eq!(done.stdout, "dam\nb\n/var\n");
    Ok(())
}

fn has_a_terminal(docker: &Docker) -> Result<()> {
    let script = "tty; test -t 0 && test -t 1 && echo terminal; exit 7";
    let done = docker
        .docker_run(&["--rm", "-it"], &["sh", "-c", script])
        .on_terminal()
        .run()?;
    assert_eq!(done.code(), 7, "{done:?}");
    assert!(
        done.stdout.contains("/dev/pts/0") && done.stdout.contains("terminal"),
        "{done:?}"
    );
    Ok(())
}

fn execs(docker: &Docker) -> Result<()> {
    docker.detached("execs", &[], &["sleep", "1000"])?;
    let done = docker
        .cli(["exec", "-i", "execs", "sh", "-c", "cat; exit 5"])
        .stdin("in\n")
        .run()?;
    assert_eq!((done.code(), done.stdout.as_str()), (5, "in\n"), "{done:?}");
    let done = docker.cli([
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
    let done = docker.cli([
        "exec",
        "-it",
        "execs",
        "sh",
        "-c",
        "test -t 0 && echo terminal",
    ]);
    assert!(done.on_terminal().ok()?.stdout.contains("terminal"));
    for (program, code) in [("absent", 127), ("/etc/passwd", 126)] {
        let done = docker.cli(["exec", "execs", program]).run()?;
        // 20.10 says 126 whatever the reason.
        let codes = match docker.version() {
            Version::V20_10 => [126, code],
            Version::V28 => [code, code],
        };
        assert!(codes.contains(&done.code()), "{done:?}");
    }
    let script = "grep -E '^(Seccomp|NoNewPrivs|Cap...):' /proc/$0/status";
    let report = |pid: &str| {
        let script = script.replace("$0", pid);
        docker
            .cli(["exec", "execs", "sh", "-c", &script])
            .ok()
            .map(|done| done.stdout)
    };
    let init = report("1")?;
    assert_eq!(init, report("self")?);
    assert!(init.contains("Seccomp:\t2"), "{init}");
    docker.remove("execs")
}

fn keeps_logs(docker: &Docker) -> Result<()> {
    docker.detached(
        "logs",
        &[],
        &["sh", "-c", "echo one; echo two >&2; sleep 1000"],
    )?;
    eventually(
        "both lines are there",
        Duration::from_secs(10),
        || match docker.cli(["logs", "logs"]).run() {
            Ok(done) if done.stdout == "one\n" && done.stderr == "two\n" => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )?;
    docker.remove("logs")
}

fn copies_files(docker: &Docker) -> Result<()> {
    docker.detached("cp", &[], &["sleep", "1000"])?;
    let file = docker.enclave().dir().join("file");
    fs::write(&file, "content\n").at("write", &file)?;
    docker.cli(["cp"]).arg(&file).arg("cp:/tmp/file").ok()?;
    assert_eq!(
        docker.cli(["exec", "cp", "cat", "/tmp/file"]).ok()?.stdout,
        "content\n"
    );
    docker
        .cli(["exec", "cp", "sh", "-c", "echo more >>/tmp/file"])
        .ok()?;
    docker.cli(["cp", "cp:/tmp/file"]).arg(&file).ok()?;
    assert_eq!(
        fs::read_to_string(&file).at("read", &file)?,
        "content\nmore\n"
    );
    docker.remove("cp")
}

fn gives_statistics(docker: &Docker) -> Result<()> {
    docker.detached("stats", &[], &["sleep", "1000"])?;
    let done = docker
        .cli([
            "stats",
            "--no-stream",
            "--format",
            "{{.PIDs}} {{.MemUsage}}",
            "stats",
        ])
        .ok()?;
    assert!(
        done.stdout.starts_with("1 ") && !done.stdout.starts_with("1 0B"),
        "{}",
        done.stdout
    );
    docker.remove("stats")
}

fn state(docker: &Docker, name: &str, field: &str) -> Result<String> {
    let done = docker
        .cli(["inspect", "--format", &format!("{{{{{field}}}}}"), name])
        .ok()?;
    Ok(done.stdout.trim().to_owned())
}

fn stops_kills_restarts(docker: &Docker) -> Result<()> {
    let script = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done";
    docker.detached("life", &[], &["sh", "-c", script])?;
    let ready = |times: usize| {
        eventually("the trap is set", Duration::from_secs(10), || match docker
            .cli(["logs", "life"])
            .run()
        {
            Ok(done) if done.stdout.lines().count() == times => Ok(()),
            other => Err(format!("{other:?}")),
        })
    };
    ready(1)?;
    docker.cli(["stop", "life"]).ok()?;
    assert_eq!(state(docker, "life", ".State.ExitCode")?, "3");
    docker.cli(["start", "life"]).ok()?;
    ready(2)?;
    docker.cli(["restart", "life"]).ok()?;
    ready(3)?;
    assert_eq!(state(docker, "life", ".State.Status")?, "running");
    docker.cli(["kill", "life"]).ok()?;
    eventually("it has ended", Duration::from_secs(10), || {
        match state(docker, "life", ".State.ExitCode") {
            Ok(code) if code == "137" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    docker.remove("life")
}

fn pauses(docker: &Docker) -> Result<()> {
    docker.detached("pause", &[], &["sleep", "1000"])?;
    docker.cli(["pause", "pause"]).ok()?;
    assert_eq!(state(docker, "pause", ".State.Status")?, "paused");
    docker.cli(["unpause", "pause"]).ok()?;
    docker.cli(["exec", "pause", "true"]).ok()?;
    docker.remove("pause")
}

fn is_read_only_when_asked(docker: &Docker) -> Result<()> {
    let done = docker
        .docker_run(
            &["--rm", "--read-only", "--tmpfs", "/tmp"],
            &["sh", "-c", "touch /tmp/x && touch /x"],
        )
        .run()?;
    assert_eq!(done.code(), 1, "{done:?}");
    assert!(
        done.stderr.contains("/x: Read-only file system"),
        "{done:?}"
    );
    Ok(())
}

fn mounts_volumes(docker: &Docker) -> Result<()> {
    let dir = docker.enclave().dir().join("bind");
    fs::create_dir_all(&dir).at("make", &dir)?;
    fs::write(dir.join("file"), "bound\n").at("write", &dir)?;
    let bind = format!("{}:/bind", dir.display());
    let done = docker.run(
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
    let done = docker.docker_run(
        &["--rm", "-v", &read_only, "-v", "named:/named"],
        &["sh", "-c", "cat /named/file; touch /bind/x"],
    );
    let done = done.run()?;
    assert_eq!(
        (done.code(), done.stdout.as_str()),
        (1, "kept\n"),
        "{done:?}"
    );
    docker.cli(["volume", "rm", "named"]).ok().map(drop)
}

fn takes_a_user(docker: &Docker) -> Result<()> {
    for (user, expected) in [("1000", "1000 1000"), ("user", "1000 1000"), ("7:8", "7 8")] {
        let done = docker.run(&["--user", user], &["sh", "-c", "echo $(id -u) $(id -g)"])?;
        assert_eq!(done.stdout.trim(), expected, "{user}");
    }
    let done = docker.run(&["--user", "user", "--group-add", "3000"], &["id", "-G"])?;
    assert!(done.stdout.contains("3000"), "{done:?}");
    Ok(())
}

fn gives_capabilities_by_policy_only(docker: &Docker) -> Result<()> {
    let read = |flags: &[&str]| -> Result<u64> {
        let done = docker.run(
            flags,
            &["sh", "-c", "grep CapBnd /proc/self/status | cut -f2"],
        )?;
        Ok(u64::from_str_radix(done.stdout.trim(), 16).unwrap_or(u64::MAX))
    };
    const NET_BIND_SERVICE: u64 = 1 << 10;
    const SYS_ADMIN: u64 = 1 << 21;
    assert_eq!(read(&["--cap-drop", "ALL"])?, 0);
    assert_eq!(
        read(&["--cap-drop", "ALL", "--cap-add", "NET_BIND_SERVICE"])?,
        NET_BIND_SERVICE
    );
    assert_eq!(read(&[])? & SYS_ADMIN, 0);
    let done = docker
        .docker_run(&["--rm", "--cap-add", "SYS_ADMIN"], &["true"])
        .run()?;
    if docker.runtime() == Runtime::Cofferdam {
        assert_ne!(done.code(), 0, "the policy does not allow SYS_ADMIN");
        assert!(done.stderr.contains("SYS_ADMIN"), "{}", done.stderr);
        let done = docker
            .docker_run(&["--rm", "--privileged"], &["true"])
            .run()?;
        assert_ne!(done.code(), 0, "the policy does not allow --privileged");
        let file = docker.enclave().dir().join("policy.toml");
        let policy = "default = \"wide\"\n[policy.wide.capabilities]\nbounding = [\"SYS_ADMIN\"]\n";
        fs::write(&file, policy).at("write", &file)?;
        let granted = read(&["--cap-drop", "ALL", "--cap-add", "SYS_ADMIN"]);
        fs::remove_file(&file).at("remove", &file)?;
        assert_eq!(granted?, SYS_ADMIN, "the administrator's policy allows it");
    }
    Ok(())
}

fn takes_a_seccomp_profile(docker: &Docker) -> Result<()> {
    let file = docker.enclave().dir().join("seccomp.json");
    let profile = serde_json::json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 37 }],
    });
    fs::write(&file, profile.to_string()).at("write", &file)?;
    let option = format!("seccomp={}", file.display());
    let done = docker
        .docker_run(
            &["--rm", "--security-opt", &option],
            &["sh", "-c", "touch /y && mkdir /x"],
        )
        .run()?;
    // 37 is ENOLCK.
    assert!(
        done.code() == 1 && done.stderr.contains("No locks available"),
        "{done:?}"
    );
    Ok(())
}

fn limits_memory_and_processes(docker: &Docker) -> Result<()> {
    let done = docker
        .docker_run(
            &["--name", "limits", "--memory", "16m"],
            &["tail", "/dev/zero"],
        )
        .run()?;
    assert_eq!(done.code(), 137, "{done:?}");
    assert_eq!(state(docker, "limits", ".State.OOMKilled")?, "true");
    docker.remove("limits")?;
    let script = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 1 & done; wait";
    let done = docker
        .docker_run(&["--rm", "--pids-limit", "5"], &["sh", "-c", script])
        .run()?;
    assert!(done.stderr.contains("can't fork"), "{done:?}");
    Ok(())
}

fn updates_limits(docker: &Docker) -> Result<()> {
    docker.detached("update", &["--memory", "64m"], &["sleep", "1000"])?;
    docker
        .cli([
            "update",
            "--memory",
            "32m",
            "--memory-swap",
            "-1",
            "--pids-limit",
            "9",
            "update",
        ])
        .ok()?;
    let id = state(docker, "update", ".Id")?;
    let parent = docker.enclave().tag();
    let files = [
        format!("/sys/fs/cgroup/memory/{parent}/{id}/memory.limit_in_bytes"),
        format!("/sys/fs/cgroup/{parent}/{id}/memory.max"),
    ];
    let text = files.iter().find_map(|file| fs::read_to_string(file).ok());
    assert_eq!(text.unwrap_or_default().trim(), "33554432");
    docker.remove("update")
}

fn checks_health(docker: &Docker) -> Result<()> {
    let flags = [
        "--health-cmd",
        "test -e /tmp/well",
        "--health-interval",
        "200ms",
        "--health-retries",
        "2",
    ];
    docker.detached("health", &flags, &["sleep", "1000"])?;
    let is = |wanted: &'static str| {
        eventually(wanted, Duration::from_secs(15), || {
            match state(docker, "health", ".State.Health.Status") {
                Ok(status) if status == wanted => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
    };
    is("unhealthy")?;
    docker.cli(["exec", "health", "touch", "/tmp/well"]).ok()?;
    is("healthy")?;
    docker.remove("health")
}

fn has_a_network(docker: &Docker) -> Result<()> {
    let done = docker.run(&["--network", "none"], &["ip", "-o", "link"])?;
    assert!(
        done.stdout.contains("lo:") && !done.stdout.contains("eth0"),
        "{}",
        done.stdout
    );
    docker.detached(
        "server",
        &[],
        &["sh", "-c", "while :; do echo hello | nc -l -p 80; done"],
    )?;
    let address = state(
        docker,
        "server",
        ".NetworkSettings.Networks.bridge.IPAddress",
    )?;
    let script =
        format!("for i in 1 2 3 4 5 6 7 8 9; do nc -w 2 {address} 80 && exit; sleep 0.2; done");
    let done = docker.run(&[], &["sh", "-c", &script])?;
    assert_eq!(done.stdout, "hello\n", "{done:?}");
    docker.remove("server")
}

fn lists_processes(docker: &Docker) -> Result<()> {
    docker.detached("top", &[], &["sleep", "1000"])?;
    let done = docker.cli(["top", "top"]).ok()?;
    assert!(done.stdout.contains("sleep 1000"), "{}", done.stdout);
    docker.remove("top")
}

fn says_why_a_start_fails(docker: &Docker) -> Result<()> {
    let table = [
        ("absent", 127, "executable file not found in $PATH"),
        ("/bin/absent", 127, "no such file or directory"),
        ("/etc/passwd", 126, "permission denied"),
    ];
    for (program, code, why) in table {
        let done = docker.docker_run(&["--rm"], &[program]).run()?;
        assert_eq!(done.code(), code, "{done:?}");
        assert!(done.stderr.contains(why), "no {why:?} in {}", done.stderr);
    }
    Ok(())
}
