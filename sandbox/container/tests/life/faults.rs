//! SIGKILL at every moment: what is left can be deleted, and then nothing is left.

use std::time::Duration;

use serde_json::json;

use crate::bundle::{Bundle, eventually, needs_root};

/// A hook kills the creator at a known step.
#[test]
fn a_creator_killed_at_a_hook_leaves_what_delete_can_remove() {
    if !needs_root() {
        return;
    }
    for point in ["prestart", "createRuntime"] {
        let bundle = Bundle::new().with(
            "/hooks",
            json!({point: [{"path": "/bin/sh", "args": ["sh", "-c", "kill -9 $PPID"]}]}),
        );
        bundle.create();
        // Init notices that its parent is gone, and goes.
        eventually("stopped", || bundle.status() == "stopped");
        assert_eq!(bundle.life("delete", &[]).status, 0);
        bundle.assert_gone();
    }
}

/// Kills the command after each of a range of delays, and cleans up.
fn kill_after(verb: &str, prepare: impl Fn(&Bundle), delays: impl Iterator<Item = u64>) {
    for micros in delays {
        let bundle = Bundle::new();
        prepare(&bundle);
        let out = std::fs::File::create(bundle.path().join("output")).unwrap();
        let mut command = bundle
            .command(verb, &["sleep", "1000"])
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(micros));
        let _ = command.kill();
        command.wait().unwrap();
        let deleted = bundle.life("delete", &["force"]);
        assert_eq!(deleted.status, 0, "after {micros} us: {}", deleted.err);
        bundle.assert_gone();
        let cgroups = bundle.cgroups();
        assert!(cgroups.is_empty(), "after {micros} us: {cgroups:?}");
    }
}

#[test]
fn create_killed_at_any_moment() {
    if !needs_root() {
        return;
    }
    kill_after("create", |_| (), (0..40).map(|step| step * 1500));
}

#[test]
fn start_exec_and_delete_killed_at_any_moment() {
    if !needs_root() {
        return;
    }
    let created = |bundle: &Bundle| {
        let created = bundle.create();
        assert_eq!(created.status, 0, "{}", created.err);
    };
    let running = |bundle: &Bundle| {
        created(bundle);
        assert_eq!(bundle.life("start", &[]).status, 0);
    };
    kill_after("start", created, (0..8).map(|step| step * 2000));
    kill_after("exec", running, (0..10).map(|step| step * 3000));
    let stopped = |bundle: &Bundle| {
        running(bundle);
        bundle.life("kill", &["KILL"]);
        eventually("stopped", || bundle.status() == "stopped");
    };
    kill_after("delete", stopped, (0..10).map(|step| step * 1000));
}

/// Init is killed while it is being set up: the creator says so and removes everything.
#[test]
fn an_init_killed_while_it_is_made_is_an_error_of_create() {
    if !needs_root() {
        return;
    }
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c",
        "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); kill -9 $pid; sleep 0.1"],
        "env": ["PATH=/bin:/usr/bin"]}]);
    let bundle = Bundle::new().with("/hooks", json!({"createRuntime": hook}));
    let created = bundle.create();
    assert_ne!(created.status, 0);
    assert!(!created.err.is_empty());
    bundle.assert_gone();
}

/// A state directory without a state, and one with half of it, can be listed and removed.
#[test]
fn a_damaged_state_can_be_removed() {
    if !needs_root() {
        return;
    }
    for text in [None, Some(""), Some("{\"id\":"), Some("\u{0}\u{1}")] {
        let bundle = Bundle::new();
        let directory = bundle.state_root().join(&bundle.id);
        std::fs::create_dir_all(&directory).unwrap();
        if let Some(text) = text {
            std::fs::write(directory.join("state.json"), text).unwrap();
        }
        assert_ne!(bundle.create().status, 0);
        assert_eq!(bundle.life("delete", &["force"]).status, 0);
        bundle.assert_gone();
    }
}
