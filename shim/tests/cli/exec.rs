//! exec: one more process in a running container.

use std::fs;

use serde_json::json;

use super::harness::{Bench, Outcome, needs_root};

fn running() -> Bench {
    let bench = Bench::new(&["/bin/sleep", "1000"]);
    bench.run(&["run", "-d", "c1"]).ok();
    bench
}

#[test]
fn exec_returns_what_the_process_returned() {
    if !needs_root() {
        return;
    }
    let bench = running();
    for (words, code, expected) in [
        (&["c1", "sh", "-c", "echo out; exit 5"][..], 5, "out"),
        (&["c1", "sh", "-c", "kill -9 $$"], 137, ""),
        (&["--cwd", "/tmp", "c1", "sh", "-c", "echo $PWD"], 0, "/tmp"),
        (
            &["-e", "A=1", "--env", "B=2", "c1", "sh", "-c", "echo $A$B"],
            0,
            "12",
        ),
        (
            &["-u", "1000:1001", "-g", "5", "c1", "id"],
            0,
            "uid=1000 gid=1001 groups=5",
        ),
        (&["c1", "ls", "-d", "/bin"], 0, "/bin"),
        (&["c1", "nosuch"], 255, "executable file not found in $PATH"),
        (&["c1", "/no/such"], 255, "no such file or directory"),
        (&["c1", "/bin"], 255, "permission denied"),
        (&["--cwd", "/no/such", "c1", "true"], 255, "/no/such"),
        (&["--user", "bob", "c1", "true"], 255, "uid"),
        (&["--cap", "CAP_FLY", "c1", "true"], 255, "CAP_FLY"),
        (&["--process", "/no/such", "c1"], 255, "/no/such"),
        (&["c1"], 255, "process args cannot be empty"),
        (&["--env", "novalue", "c1", "true"], 255, "novalue"),
    ] {
        let words = [&["exec"], words].concat();
        let got = bench.run(&words);
        assert_eq!(got.code(), code, "{words:?}: {got:?}");
        let text = got.stdout + &got.stderr;
        assert!(text.contains(expected), "{words:?}: {text}");
    }
}

#[test]
fn exec_takes_a_process_file() {
    if !needs_root() {
        return;
    }
    let bench = running();
    let file = bench.path("process.json");
    let process = json!({
        "args": ["sh", "-c", "id -u; echo $X; exit 4"],
        "cwd": "/",
        "user": {"uid": 7, "gid": 8},
        "env": ["PATH=/bin", "X=y"],
    });
    fs::write(&file, process.to_string()).unwrap();
    let got = bench.run(&["exec", "--process", file.to_str().unwrap(), "c1"]);
    assert_eq!(got.code(), 4, "{got:?}");
    assert_eq!(got.stdout, "7\ny\n");
    fs::write(&file, "{\"args\": 1}").unwrap();
    let broken = bench.run(&["exec", "-p", file.to_str().unwrap(), "c1"]);
    assert_eq!(broken.code(), 255, "{broken:?}");
    assert!(
        broken.stderr.contains("is not an OCI process"),
        "{}",
        broken.stderr
    );
}

#[test]
fn a_detached_process_is_found_by_its_pid_file() {
    if !needs_root() {
        return;
    }
    let bench = running();
    let file = bench.path("pid");
    bench
        .run(&[
            "exec",
            "-d",
            "--pid-file",
            file.to_str().unwrap(),
            "c1",
            "sleep",
            "999",
        ])
        .ok();
    let pid: i32 = fs::read_to_string(&file).unwrap().parse().unwrap();
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    assert_eq!(name, "sleep\n");
    let pids = bench.run(&["ps", "-f", "json", "c1"]).json();
    assert!(pids.as_array().unwrap().contains(&json!(pid)), "{pids}");
    bench.run(&["kill", "--all", "c1", "KILL"]).ok();
    bench.wait_for_status("c1", "stopped");
}

/// What the container's init may not, an exec may not either.
#[test]
fn exec_is_confined_as_init_is() {
    if !needs_root() {
        return;
    }
    let bench = running();
    let fields = |outcome: Outcome| {
        let text = outcome.ok();
        let wanted = [
            "CapBnd",
            "CapEff",
            "CapPrm",
            "CapInh",
            "CapAmb",
            "Seccomp",
            "NoNewPrivs",
        ];
        let lines = text
            .lines()
            .filter(|l| wanted.iter().any(|w| l.starts_with(w)));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let init = fields(bench.run(&["exec", "c1", "cat", "/proc/1/status"]));
    let exec = fields(bench.run(&["exec", "c1", "cat", "/proc/self/status"]));
    assert_eq!(init.len(), 8, "{init:?}");
    assert_eq!(init, exec);
    assert!(exec.iter().any(|line| line == "Seccomp:\t2"), "{exec:?}");
    let more = bench.run(&[
        "exec",
        "--cap",
        "CAP_SYS_ADMIN",
        "c1",
        "cat",
        "/proc/self/status",
    ]);
    if more.status.success() {
        let got = fields(more);
        assert_eq!(
            got, exec,
            "a capability beyond the container's bounding set"
        );
    }
    let own = |pid: &str| {
        bench
            .run(&[
                "exec",
                "c1",
                "sh",
                "-c",
                &format!("ls -l /proc/{pid}/ns | grep -o '[a-z]*:.*'"),
            ])
            .ok()
    };
    assert_eq!(own("1"), own("self"));
}
