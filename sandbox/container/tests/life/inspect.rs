//! `inspect` on real containers: what is in order is said to be, what was tampered with is found.

use std::fs;
use std::process::Command;

use cofferdam_container::ContainerId;
use cofferdam_container::inspect::{Cover, InspectOptions, Inspection, Severity, inspect};
use serde_json::json;

use crate::bundle::{Bundle, eventually, needs_root};

fn bundle() -> Bundle {
    Bundle::new()
        .script("sleep 100")
        .with("/process/noNewPrivileges", json!(true))
        .with(
            "/linux/maskedPaths",
            json!(["/proc/keys", "/sys/firmware", "/proc/none"]),
        )
        .with("/linux/readonlyPaths", json!(["/proc/sys"]))
        .with("/linux/resources", json!({"pids": {"limit": 30}}))
        .with(
            "/linux/seccomp",
            json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "architectures": ["SCMP_ARCH_X86_64"],
                "syscalls": [{"names": ["mount", "bpf"], "action": "SCMP_ACT_ERRNO"}],
            }),
        )
}

fn look(bundle: &Bundle, filter: bool) -> Inspection {
    let id = ContainerId::parse(&bundle.id).unwrap();
    inspect(&bundle.state_root(), &id, InspectOptions { filter }).unwrap()
}

fn weaker(found: &Inspection) -> Vec<&str> {
    found
        .differences
        .iter()
        .filter(|d| d.severity == Severity::Weaker)
        .map(|d| d.what.as_str())
        .collect()
}

#[test]
fn what_is_in_order_is_said_to_be() {
    if !needs_root() {
        return;
    }
    let bundle = bundle();
    assert_eq!(bundle.create().status, 0, "{}", bundle.output());
    let found = look(&bundle, false);
    assert_eq!(weaker(&found), Vec::<&str>::new(), "{}", found.render());
    assert_eq!(bundle.life("start", &[]).status, 0);
    eventually("the filter is on", || {
        look(&bundle, false).seccomp.unwrap().mode == "filter"
    });

    let found = look(&bundle, true);
    assert_eq!(weaker(&found), Vec::<&str>::new(), "{}", found.render());
    assert_eq!(found.unread, Vec::<String>::new());
    let seccomp = found.seccomp.as_ref().unwrap();
    assert!(seccomp.read_from_kernel && seccomp.programs.iter().all(|p| p.stored));
    assert_eq!(found.cgroup.as_ref().unwrap().pids, Some(30));
    let files = found.file_system.as_ref().unwrap();
    let covers: Vec<Cover> = files.masked.iter().map(|c| c.cover).collect();
    assert_eq!(covers[0], Cover::Null, "{:?}", files.masked);
    assert_eq!(covers[2], Cover::Absent, "{:?}", files.masked);
    assert!(found.process.as_ref().unwrap().no_new_privileges);
    // The process goes on as if nothing had happened.
    assert_eq!(bundle.status(), "running");
    assert_eq!(bundle.life("delete", &["force"]).status, 0);
}

#[test]
fn tampering_is_found() {
    if !needs_root() {
        return;
    }
    let bundle = bundle().up();
    eventually("the filter is on", || {
        look(&bundle, false).seccomp.unwrap().mode == "filter"
    });
    let pid = bundle.pid().to_string();
    // From outside, with all privileges, as a broken runtime or an attacker on the host would.
    for line in [
        "umount /proc/keys",
        "mount -o remount,bind,rw /proc/sys",
        // The root's owners are mapped, and this is nobody there: a device needs a place of its own.
        "mount -t tmpfs none /dev",
        "mknod /dev/disk b 8 0",
    ] {
        let done = Command::new("nsenter")
            .args(["-t", &pid, "-m", "-p", "/bin/busybox"])
            .args(line.split(' '))
            .output()
            .unwrap();
        assert!(done.status.success(), "{line}: {done:?}");
    }
    for cgroup in bundle.cgroups() {
        let limit = cgroup.join("pids.max");
        if limit.exists() {
            fs::write(limit, "max").unwrap();
        }
    }
    let found = look(&bundle, false);
    let text = found.render();
    for what in ["/proc/keys", "/proc/sys", "/dev/disk", "task limit"] {
        assert!(
            weaker(&found).iter().any(|w| w.contains(what)),
            "{what}\n{text}"
        );
    }
    assert!(text.contains("LESS IS ENFORCED"), "{text}");
    assert_eq!(bundle.life("delete", &["force"]).status, 0);
}

#[test]
fn a_writable_path_of_the_host_is_shown() {
    if !needs_root() {
        return;
    }
    let outside = tempfile::tempdir().unwrap();
    let mut bundle = bundle();
    bundle.config["mounts"].as_array_mut().unwrap().push(json!({
        "destination": "/tmp", "type": "bind", "source": outside.path(),
        "options": ["rbind", "rw"],
    }));
    let bundle = bundle.up();
    let found = look(&bundle, false);
    let files = found.file_system.as_ref().unwrap();
    let shown = files.writable_host_paths.iter().any(|p| {
        p.destination.ends_with("tmp") && p.source.ends_with(outside.path().file_name().unwrap())
    });
    assert!(shown, "{:?}", files.writable_host_paths);
    assert_eq!(bundle.life("delete", &["force"]).status, 0);
}

#[test]
fn a_stopped_container_has_nothing_to_read_back() {
    if !needs_root() {
        return;
    }
    let bundle = bundle().script("true").up();
    eventually("it ends", || bundle.status() == "stopped");
    let found = look(&bundle, true);
    assert!(found.process.is_none() && found.differences.is_empty());
    assert!(found.render().contains("does not run"));
    assert_eq!(bundle.life("delete", &[]).status, 0);
}
