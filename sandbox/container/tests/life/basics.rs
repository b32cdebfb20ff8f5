//! create, start, exec, kill, delete.

use std::os::unix::process::CommandExt as _;

use serde_json::json;

use crate::bundle::{Bundle, eventually, needs_root};

#[test]
fn a_program_runs_and_its_status_comes_back() {
    if !needs_root() {
        return;
    }
    let bundle = Bundle::new().script("echo out; echo err >&2; exit 3");
    let said = bundle.run();
    assert_eq!(
        (said.status, said.out.as_str(), said.err.as_str()),
        (3, "out\n", "err\n")
    );
    bundle.assert_gone();
}

#[test]
fn the_life_cycle_step_by_step() {
    if !needs_root() {
        return;
    }
    let bundle = Bundle::new();
    assert_eq!(bundle.create().status, 0, "{}", bundle.output());
    assert_eq!(bundle.status(), "created");
    let again = bundle.command("create", &[]).output().unwrap();
    let error = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(
        error.contains("container with given ID already exists"),
        "{error}"
    );
    assert_eq!(
        bundle.status(),
        "created",
        "the loser removed the winner's state"
    );

    assert_eq!(bundle.life("start", &[]).status, 0);
    assert_eq!(bundle.status(), "running");
    let twice = bundle.life("start", &[]);
    assert!(
        twice
            .err
            .contains("cannot start a container that is running"),
        "{}",
        twice.err
    );
    let early = bundle.life("delete", &[]);
    assert!(
        early.err.contains("that is not stopped: running"),
        "{}",
        early.err
    );

    assert_eq!(bundle.life("pause", &[]).status, 0);
    assert_eq!(bundle.status(), "paused");
    let frozen = bundle.exec("true");
    assert!(frozen.err.contains("paused"), "{}", frozen.err);
    assert_eq!(bundle.life("resume", &[]).status, 0);
    assert_eq!(bundle.exec("exit 7").status, 7);

    assert_eq!(bundle.life("kill", &["KILL"]).status, 0);
    eventually("stopped", || bundle.status() == "stopped");
    let late = bundle.life("start", &[]);
    assert!(
        late.err
            .contains("cannot start a container that has stopped"),
        "{}",
        late.err
    );
    let dead = bundle.life("kill", &["TERM"]);
    assert!(dead.err.contains("container not running"), "{}", dead.err);
    assert!(bundle.exec("true").err.contains("has stopped"));
    assert_eq!(bundle.life("delete", &[]).status, 0);
    bundle.assert_gone();
    assert!(bundle.life("delete", &[]).err.contains("does not exist"));
    assert!(bundle.life("state", &[]).err.contains("does not exist"));
}

#[test]
fn a_container_that_was_never_started_can_be_deleted() {
    if !needs_root() {
        return;
    }
    let bundle = Bundle::new();
    assert_eq!(bundle.create().status, 0);
    assert_eq!(bundle.life("delete", &[]).status, 0);
    bundle.assert_gone();
}

#[test]
fn two_starters_and_one_winner() {
    if !needs_root() {
        return;
    }
    let bundle = Bundle::new();
    assert_eq!(bundle.create().status, 0);
    let starters: Vec<_> = (0..4)
        .map(|_| bundle.command("start", &[]).spawn().unwrap())
        .collect();
    let winners = starters
        .into_iter()
        .map(|mut starter| starter.wait().unwrap())
        .filter(|status| status.success())
        .count();
    assert_eq!(winners, 1);
    assert_eq!(bundle.status(), "running");
}

/// Docker and Podman look for these words to choose between the exit codes 126 and 127.
#[test]
fn programs_that_cannot_run_are_named_as_engines_know_it() {
    if !needs_root() {
        return;
    }
    let cases = [
        ("nope", "exec: \"nope\": executable file not found in $PATH"),
        (
            "/nope",
            "exec: \"/nope\": stat /nope: no such file or directory",
        ),
        ("/etc", "exec: \"/etc\": permission denied"),
        ("/etc/passwd", "exec: \"/etc/passwd\": permission denied"),
    ];
    let running = Bundle::new().up();
    for (program, words) in cases {
        let bundle = Bundle::new().with("/process/args", json!([program]));
        let created = bundle.create();
        assert_ne!(created.status, 0);
        assert!(created.err.contains(words), "{}", created.err);
        bundle.assert_gone();
        let said = running.life("exec", &[program]);
        assert!(said.err.contains(words), "{}", said.err);
    }
    // Only execve itself can find out about this one.
    std::fs::write(running.path().join("rootfs/bin/bad"), "\0\0\0").unwrap();
    assert_eq!(running.exec("chmod 755 /bin/bad").status, 0);
    let said = running.life("exec", &["bad"]);
    assert!(
        said.err.contains("exec /bin/bad: exec format error"),
        "{}",
        said.err
    );
}

#[test]
fn a_program_that_cannot_be_executed_says_so_on_its_own_stderr() {
    if !needs_root() {
        return;
    }
    let bundle = Bundle::new().with("/process/args", json!(["/bin/bad"]));
    let bad = bundle.path().join("rootfs/bin/bad");
    std::fs::write(&bad, "\0\0\0").unwrap();
    let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
    std::fs::set_permissions(&bad, mode).unwrap();
    let said = bundle.run();
    assert_eq!(said.status, 255);
    assert_eq!(said.err, "exec /bin/bad: exec format error\n");
}

/// Init is gone, others live on: a shared pid namespace has no pid 1 of its own to end with.
#[test]
fn delete_ends_every_process_of_the_container() {
    if !needs_root() {
        return;
    }
    let pod = Bundle::new().up();
    let path = format!("/proc/{}/ns/pid", pod.pid());
    let bundle = Bundle::new()
        .script("sleep 1000 & sleep 1000 & sleep 0.2")
        .with("/linux/namespaces/0", json!({"type": "pid", "path": path}))
        .up();
    eventually("init ends", || bundle.status() == "stopped");
    let count = "ps | grep -c '[s]leep 1000'";
    assert_eq!(pod.exec(count).out, "2\n");
    assert_eq!(bundle.life("delete", &[]).status, 0);
    assert_eq!(pod.exec(count).out, "0\n");
}

/// `delete` looked at every process of the machine, whatever container it deleted. Only where one of the pod
/// had a pid namespace that does not end with it may something with the pod's ids be left.
#[test]
fn delete_looks_for_processes_only_where_some_may_be_left() {
    if !needs_root() {
        return;
    }
    for shared in [false, true] {
        let pod = Bundle::new().up();
        if shared {
            let path = format!("/proc/{}/ns/pid", pod.pid());
            let member = Bundle::new()
                .with("/linux/namespaces/0", json!({"type": "pid", "path": path}))
                .up();
            assert_eq!(member.life("delete", &["force"]).status, 0);
        }
        let map = std::fs::read_to_string(format!("/proc/{}/uid_map", pod.pid())).unwrap();
        let first: u32 = map.split_whitespace().nth(1).unwrap().parse().unwrap();
        // Not of the pod: one that is looked at is one that is killed.
        let mut process = std::process::Command::new("sleep");
        let mut process = process.arg("60").uid(first + 7).spawn().unwrap();
        assert_eq!(pod.life("delete", &["force"]).status, 0);
        assert_eq!(process.try_wait().unwrap().is_some(), shared);
        let _ = process.kill();
        process.wait().unwrap();
    }
}
