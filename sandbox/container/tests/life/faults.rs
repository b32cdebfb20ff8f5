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
        let deleted = bundle.life("delete", &[]);
        assert_eq!(deleted.status, 0, "{point}: {}", deleted.err);
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

/// The state of a running container is damaged, or all that is known of it: `delete --force` still finds
/// its cgroup, its processes and its user ids.
#[test]
fn a_running_container_with_a_damaged_state_can_be_removed() {
    if !needs_root() {
        return;
    }
    for damaged in [&["state.json"][..], &["state.json", "intent.json"]] {
        let bundle = Bundle::new().script("sleep 1000 & sleep 1000").up();
        let pid = bundle.pid();
        assert_eq!(bundle.ranges().len(), 1);
        let map = std::fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
        let first: u32 = map.split_whitespace().nth(1).unwrap().parse().unwrap();
        for name in damaged {
            let file = bundle.state_root().join(&bundle.id).join(name);
            std::fs::write(file, "{").unwrap();
        }
        // Without force nothing is touched.
        assert_ne!(bundle.life("delete", &[]).status, 0);
        assert!(users_of(first) >= 2, "{damaged:?}");
        let deleted = bundle.life("delete", &["force"]);
        assert_eq!(deleted.status, 0, "{damaged:?}: {}", deleted.err);
        assert_eq!(users_of(first), 0, "{damaged:?}");
        assert_eq!(bundle.ranges().len(), 0);
        // Where its cgroup was is not known if nothing could be read.
        for directory in bundle.cgroups() {
            assert_eq!(damaged.len(), 2, "{}", directory.display());
            std::fs::remove_dir(directory).unwrap();
        }
        bundle.assert_gone();
    }
}

/// How many processes have one of the 65536 ids from `first` on.
fn users_of(first: u32) -> usize {
    let statuses = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| std::fs::read_to_string(entry.unwrap().path().join("status")).ok());
    let has_id = |status: &String| {
        let user = status.lines().find_map(|line| line.strip_prefix("Uid:"));
        let user = user.and_then(|ids| ids.split_whitespace().next()?.parse::<u32>().ok());
        user.is_some_and(|user| (first..first + 65_536).contains(&user))
            && !status.contains("State:\tZ")
    };
    statuses.filter(has_id).count()
}
