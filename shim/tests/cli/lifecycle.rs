//! create, start, kill, delete and what lies between, as engines call them.
#![expect(
    unsafe_code,
    reason = "only pre_exec can give a child a descriptor by number"
)]

use std::fs;
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use serde_json::{Value, json};

use super::harness::{Bench, needs_root, wait};

#[test]
fn a_container_lives_as_the_specification_says() {
    if !needs_root() {
        return;
    }
    let bench = Bench::new(&["/bin/sleep", "1000"]);
    bench.configure(|spec| spec["annotations"] = json!({"org.example": "x"}));
    let pid_file = bench.path("pid");
    bench
        .run(&["create", "--pid-file", pid_file.to_str().unwrap(), "c1"])
        .ok();
    let state = bench.state("c1");
    assert_eq!(state["status"], "created");
    assert_eq!(state["id"], "c1");
    assert_eq!(state["bundle"], bench.bundle().to_str().unwrap());
    assert_eq!(
        state["rootfs"],
        bench.bundle().join("rootfs").to_str().unwrap()
    );
    assert_eq!(state["annotations"]["org.example"], "x");
    assert_eq!(
        fs::read_to_string(&pid_file).unwrap(),
        state["pid"].to_string()
    );
    for field in ["ociVersion", "created", "owner"] {
        assert!(state[field].is_string(), "{state}");
    }

    let refused = bench.run(&["create", "c1"]);
    assert_eq!(refused.code(), 1);
    assert!(
        refused.stderr.contains("already exists"),
        "{}",
        refused.stderr
    );

    bench.run(&["start", "c1"]).ok();
    bench.wait_for_status("c1", "running");
    let again = bench.run(&["start", "c1"]);
    assert_eq!(again.code(), 1, "{again:?}");

    let running = bench.run(&["delete", "c1"]);
    assert_eq!(running.code(), 1);
    assert!(running.stderr.contains("not stopped"), "{}", running.stderr);

    bench.run(&["kill", "c1", "KILL"]).ok();
    bench.wait_for_status("c1", "stopped");
    let stopped = bench.state("c1");
    assert_eq!(stopped["pid"], 0);
    let late = bench.run(&["kill", "c1", "TERM"]);
    assert_eq!(late.code(), 1);
    assert!(
        late.stderr.contains("container not running"),
        "{}",
        late.stderr
    );

    bench.run(&["delete", "c1"]).ok();
    assert!(
        bench
            .run(&["state", "c1"])
            .stderr
            .contains("does not exist")
    );
    bench.run(&["delete", "--force", "c1"]).ok();
    bench.assert_nothing_left("delete");
}

#[test]
fn run_returns_what_the_program_returned() {
    if !needs_root() {
        return;
    }
    for (script, code) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("exit 255", 255),
        ("sh -c 'kill -9 $$'; exit $?", 137),
        ("sh -c 'kill -TERM $$'; exit $?", 143),
    ] {
        let bench = Bench::new(&["/bin/sh", "-c", script]);
        let got = bench.run(&["run", "r"]);
        assert_eq!(got.code(), code, "{script}: {got:?}");
        bench.assert_nothing_left(script);
    }
}

#[test]
fn run_passes_signals_and_output_on() {
    if !needs_root() {
        return;
    }
    let script = "trap 'echo got it; exit 5' TERM; echo ready; while :; do sleep 0.05; done";
    let bench = Bench::new(&["/bin/sh", "-c", script]);
    let mut command = bench.command(&["run", "r"]);
    let (mut reader, writer) = std::io::pipe().unwrap();
    command.stdout(writer);
    let child = command.spawn().unwrap();
    drop(command);
    let mut text = [0; 6];
    reader.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"ready\n");
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).unwrap();
    assert_eq!(wait(child).code(), Some(5));
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "got it\n");
    bench.assert_nothing_left("run");
}

#[test]
fn detached_and_kept_containers_stay() {
    if !needs_root() {
        return;
    }
    let bench = Bench::new(&["/bin/sleep", "1000"]);
    bench.run(&["run", "--detach", "d1"]).ok();
    assert_eq!(bench.state("d1")["status"], "running");
    bench.run(&["delete", "-f", "d1"]).ok();
    bench.configure(|spec| spec["process"]["args"] = json!(["/bin/sh", "-c", "exit 3"]));
    assert_eq!(bench.run(&["run", "--keep", "k1"]).code(), 3);
    assert_eq!(bench.state("k1")["status"], "stopped");
    bench.run(&["delete", "k1"]).ok();
    bench.assert_nothing_left("delete");
}

#[test]
fn pause_update_and_figures() {
    if !needs_root() {
        return;
    }
    let bench = Bench::new(&["/bin/sleep", "1000"]);
    bench.run(&["run", "-d", "c1"]).ok();
    bench.run(&["pause", "c1"]).ok();
    assert_eq!(bench.state("c1")["status"], "paused");
    assert_eq!(bench.run(&["pause", "c1"]).code(), 1);
    let refused = bench.run(&["exec", "c1", "true"]);
    assert_eq!(refused.code(), 255, "{refused:?}");
    bench.run(&["resume", "c1"]).ok();
    assert_eq!(bench.state("c1")["status"], "running");
    assert_eq!(bench.run(&["resume", "c1"]).code(), 1);

    bench.run(&["update", "--pids-limit", "37", "c1"]).ok();
    let mut command = bench.command(&["update", "-r", "-", "c1"]);
    let (reader, mut writer) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut writer, b"{\"memory\": {\"limit\": 67108864}}").unwrap();
    drop(writer);
    command.stdin(reader);
    bench.finish(command).ok();
    let event = bench.run(&["events", "--stats", "c1"]).json();
    assert_eq!(event["type"], "stats");
    assert_eq!(event["id"], "c1");
    assert_eq!(event["data"]["pids"]["limit"], 37, "{event}");
    assert_eq!(
        event["data"]["memory"]["usage"]["limit"], 67_108_864,
        "{event}"
    );

    let pids = bench.run(&["ps", "--format", "json", "c1"]).json();
    assert_eq!(pids, json!([bench.state("c1")["pid"]]));
    let table = bench.run(&["ps", "c1"]).ok();
    assert_eq!(table.lines().count(), 2, "{table}");
    assert!(table.contains("sleep 1000"), "{table}");
    let chosen = bench.run(&["ps", "c1", "-o", "pid,comm"]).ok();
    assert!(chosen.contains("sleep"), "{chosen}");
}

/// Linux kills what is cloned into a cgroup that was killed by `cgroup.kill` before.
#[test]
fn a_cgroup_that_was_killed_before_can_be_used_again() {
    if !needs_root() {
        return;
    }
    let bench = Bench::new(&["/bin/true"]);
    let own = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut mounts = own.lines().filter(|line| line.contains(" - cgroup2 "));
    let Some(unified) = mounts.next().and_then(|line| line.split(' ').nth(4)) else {
        return;
    };
    let name = format!("cofferdam-killed-{}", std::process::id());
    let cgroup = Path::new(unified).join(&name);
    fs::create_dir(&cgroup).unwrap();
    let killed = fs::write(cgroup.join("cgroup.kill"), "1");
    bench.configure(|spec| spec["linux"]["cgroupsPath"] = json!(format!("/{name}")));
    let ran = bench.run(&["run", "c"]);
    fs::remove_dir(&cgroup).unwrap();
    killed.unwrap();
    ran.ok();
}

#[test]
fn list_shows_what_there_is() {
    if !needs_root() {
        return;
    }
    let bench = Bench::new(&["/bin/sleep", "1000"]);
    assert_eq!(bench.run(&["list", "--format", "json"]).json(), json!([]));
    bench.run(&["create", "b"]).ok();
    bench.configure(|spec| spec["linux"]["cgroupsPath"] = json!(null));
    bench.run(&["create", "a"]).ok();
    assert_eq!(bench.run(&["list", "-q"]).ok(), "a\nb\n");
    let listed = bench.run(&["list", "-f", "json"]).json();
    let fields = [
        "ociVersion",
        "id",
        "pid",
        "status",
        "bundle",
        "rootfs",
        "created",
        "owner",
    ];
    for field in fields {
        assert!(!listed[0][field].is_null(), "{field}: {listed}");
    }
    let table = bench.run(&["list"]).ok();
    let heading: Vec<_> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(
        heading,
        ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    );
    assert_eq!(table.lines().count(), 3, "{table}");
}

#[test]
fn descriptors_are_passed_on_only_when_asked() {
    if !needs_root() {
        return;
    }
    let bench = Bench::new(&["/bin/sh", "-c", "ls /proc/self/fd; cat <&3"]);
    let file = bench.path("passed");
    fs::write(&file, "through 3\n").unwrap();
    let with_fd_3 = |words: &[&str]| {
        let mut command = bench.command(words);
        let opened = fs::File::open(&file).unwrap();
        // SAFETY: dup2 is async-signal-safe, and `opened` is moved in, so it is open in the child.
        unsafe {
            command.pre_exec(move || {
                // dup2 onto itself would keep close-on-exec.
                let rc = if opened.as_raw_fd() == 3 {
                    libc::fcntl(3, libc::F_SETFD, 0)
                } else {
                    libc::dup2(opened.as_raw_fd(), 3)
                };
                if rc < 0 {
                    Err(std::io::Error::last_os_error())
                } else {
                    Ok(())
                }
            });
        }
        bench.finish(command)
    };
    let passed = with_fd_3(&["run", "--preserve-fds", "1", "r"]);
    assert!(passed.stdout.contains("through 3"), "{passed:?}");
    let kept = with_fd_3(&["run", "r"]);
    assert!(!kept.stdout.contains("through 3"), "{kept:?}");
    // ls itself has the directory open as 3.
    let fds: Vec<_> = kept.stdout.lines().collect();
    assert_eq!(fds, ["0", "1", "2", "3"], "{kept:?}");
}

#[test]
fn log_lines_are_what_engines_read() {
    if !needs_root() {
        return;
    }
    let bench = Bench::new(&["nosuch"]);
    let log = bench.path("log.json");
    let log_path = log.to_str().unwrap();
    let got = bench.run(&["--log", log_path, "--log-format", "json", "run", "web-1"]);
    assert_eq!(got.code(), 1);
    assert!(!got.stderr.contains("level="), "{}", got.stderr);
    let text = fs::read_to_string(&log).unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last["level"], "error");
    assert_eq!(last["id"], "web-1");
    let message = last["msg"].as_str().unwrap();
    assert!(
        message.contains("executable file not found in $PATH"),
        "{message}"
    );
    assert_eq!(message, got.stderr.trim_end());
    let time = last["time"].as_str().unwrap();
    assert!(time.len() == 20 && time.ends_with('Z'), "{time}");
}

/// The environment may hold secrets; the log never does.
#[test]
fn the_log_holds_no_secrets() {
    if !needs_root() {
        return;
    }
    let bench = Bench::new(&["nosuch"]);
    bench.configure(|spec| spec["process"]["env"] = json!(["PATH=/bin", "TOKEN=hunter2"]));
    let log = bench.path("log");
    let log_path = log.to_str().unwrap();
    let got = bench.run(&["--debug", "--log", log_path, "run", "web-1"]);
    let text = fs::read_to_string(&log).unwrap() + &got.stderr + &got.stdout;
    assert!(text.contains("level=debug"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn inspect_reads_back_what_the_report_promised() {
    if !needs_root() {
        return;
    }
    let bench = Bench::new(&["/bin/sleep", "1000"]);
    bench.run(&["run", "-d", "web-1"]).ok();
    let found = bench
        .run(&["inspect", "--format", "json", "--filter", "web-1"])
        .json();
    assert_eq!(found["id"], "web-1");
    assert_eq!(found["process"]["no_new_privileges"], true, "{found}");
    assert_eq!(found["process"]["seccomp_mode"], 2, "{found}");
    assert_eq!(found["differences"], json!([]), "{found}");
    let report = bench
        .run(&["inspect", "--report", "-f", "json", "web-1"])
        .json();
    assert!(
        report["policy"].as_str().unwrap().contains("baseline"),
        "{report}"
    );
    for words in [&["inspect", "web-1"][..], &["inspect", "--report", "web-1"]] {
        let table = bench.run(words).ok();
        assert!(table.to_lowercase().contains("seccomp"), "{table}");
    }
}

#[test]
fn inspect_says_what_runc_would_have_given() {
    if !needs_root() {
        return;
    }
    let bench = Bench::new(&["/bin/sleep", "1000"]);
    bench.configure(|spec| {
        spec["process"]["noNewPrivileges"] = json!(false);
        spec["linux"]["seccomp"] = Value::Null;
        spec["linux"]["maskedPaths"] = json!(["/proc/keys"]);
    });
    bench.run(&["run", "-d", "web-2"]).ok();
    let words = ["inspect", "--compare", "runc"];
    let found = bench
        .run(&[&words[..], &["-f", "json", "web-2"]].concat())
        .json();
    let row = |what: &str| {
        let rows = found["rows"].as_array().unwrap().iter();
        let mut rows = rows.filter(|row| row["what"] == what);
        rows.next()
            .unwrap_or_else(|| panic!("{what}: {found}"))
            .clone()
    };
    let ids = row("user ids on the host");
    assert!(ids["here"].as_str().unwrap().starts_with("0 is "), "{ids}");
    assert_eq!(ids["runc"], "the host's: root is root");
    let privileges = row("no new privileges");
    assert_eq!(
        (&privileges["here"], &privileges["runc"]),
        (&json!("on"), &json!("off"))
    );
    let seccomp = row("seccomp");
    assert!(
        seccomp["here"].as_str().unwrap().contains("calls"),
        "{seccomp}"
    );
    assert_eq!(seccomp["runc"], "off: every call");
    let masked = row("masked paths");
    assert_eq!(masked["runc"], "1");
    assert_ne!(masked["here"], "1");
    let table = bench.run(&[&words[..], &["web-2"]].concat()).ok();
    assert!(table.contains("* user ids on the host"), "{table}");
    let wrong = bench.run(&["inspect", "--compare", "crun", "web-2"]);
    assert_eq!(wrong.code(), 1, "{wrong:?}");
    assert!(wrong.stderr.contains("it is runc"), "{}", wrong.stderr);
}

#[test]
fn doctor_says_what_the_kernel_can_do() {
    if !needs_root() {
        return;
    }
    let bench = Bench::new(&["/bin/true"]);
    let found = bench.run(&["doctor", "--format", "json"]);
    // 1 where containers cannot run safely, which this machine may be.
    assert!(matches!(found.code(), 0 | 1), "{found:?}");
    let found: Value = serde_json::from_str(&found.stdout).unwrap();
    assert!(found.is_object(), "{found}");
    let table = bench.run(&["doctor"]).stdout;
    assert!(table.to_lowercase().contains("seccomp"), "{table}");
}

#[test]
fn events_tell_when_memory_ran_out_and_end_with_the_container() {
    if !needs_root() {
        return;
    }
    let fill = "sleep 1; cat /dev/zero | head -c 64m | tail -c 64m >/dev/null; sleep 1";
    let bench = Bench::new(&["/bin/busybox", "sh", "-c", fill]);
    bench.configure(|spec| {
        spec["linux"]["resources"]["memory"] = json!({"limit": 16 << 20, "swap": 16 << 20});
    });
    let root = bench.bundle().join("rootfs/bin");
    for name in ["head", "tail"] {
        std::os::unix::fs::symlink("busybox", root.join(name)).unwrap();
    }
    bench.run(&["run", "-d", "c1"]).ok();
    let text = bench.run(&["events", "--interval", "200ms", "c1"]).ok();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let kinds: Vec<_> = lines
        .map(|event| event["type"].as_str().unwrap().to_owned())
        .collect();
    assert!(
        kinds.iter().filter(|kind| *kind == "stats").count() > 2,
        "{kinds:?}"
    );
    assert!(kinds.contains(&"oom".to_owned()), "{kinds:?}");
}
