//! Broken specs and seccomp profiles.

use serde_json::{Value, json};

use super::super::harness::Bench;
use super::{Break, check};

#[test]
fn broken_specs_are_refused() {
    let cases: &[(&str, Break, &str)] = &[
        (
            "no version",
            |s| drop(s.as_object_mut().unwrap().remove("ociVersion")),
            "ociVersion",
        ),
        (
            "wrong version",
            |s| s["ociVersion"] = json!("2.0.0"),
            "ociVersion",
        ),
        (
            "version is no text",
            |s| s["ociVersion"] = json!(1),
            "config.json",
        ),
        (
            "no process",
            |s| drop(s.as_object_mut().unwrap().remove("process")),
            "process is missing",
        ),
        (
            "no arguments",
            |s| s["process"]["args"] = json!([]),
            "process.args",
        ),
        (
            "no args field",
            |s| drop(s["process"].as_object_mut().unwrap().remove("args")),
            "process.args",
        ),
        (
            "NUL in an argument",
            |s| s["process"]["args"] = json!(["a\0b"]),
            "process.args",
        ),
        (
            "relative cwd",
            |s| s["process"]["cwd"] = json!("tmp"),
            "process.cwd",
        ),
        (
            "bad uid",
            |s| s["process"]["user"]["uid"] = json!(-1),
            "config.json",
        ),
        (
            "uid too large",
            |s| s["process"]["user"]["uid"] = json!(4_294_967_296_u64),
            "config.json",
        ),
        (
            "uid that means none",
            |s| s["process"]["user"]["uid"] = json!(u32::MAX),
            "process.user.uid",
        ),
        (
            "uid is a name",
            |s| s["process"]["user"]["uid"] = json!("root"),
            "config.json",
        ),
        (
            "unknown capability",
            |s| s["process"]["capabilities"]["bounding"] = json!(["CAP_FLY"]),
            "config.json",
        ),
        (
            "unknown rlimit",
            |s| s["process"]["rlimits"] = json!([{"type": "RLIMIT_X", "soft": 1, "hard": 1}]),
            "config.json",
        ),
        (
            "soft limit over hard",
            |s| s["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 9, "hard": 1}]),
            "rlimits",
        ),
        (
            "no root",
            |s| drop(s.as_object_mut().unwrap().remove("root")),
            "root is missing",
        ),
        (
            "empty root path",
            |s| s["root"]["path"] = json!(""),
            "root.path",
        ),
        (
            "absent rootfs",
            |s| s["root"]["path"] = json!("nowhere"),
            "nowhere",
        ),
        (
            "rootfs is a file",
            |s| s["root"]["path"] = json!("config.json"),
            "is not a directory",
        ),
        (
            "rootfs through ..",
            |s| s["root"]["path"] = json!("rootfs/../rootfs"),
            "invalid rootfs",
        ),
        (
            "unknown namespace",
            |s| s["linux"]["namespaces"] = json!([{"type": "galaxy"}]),
            "galaxy",
        ),
        (
            "namespace twice",
            |s| s["linux"]["namespaces"] = json!([{"type": "pid"}, {"type": "pid"}]),
            "linux.namespaces",
        ),
        (
            "namespace path is gone",
            |s| s["linux"]["namespaces"][1] = json!({"type": "network", "path": "/proc/0/ns/net"}),
            "/proc/0/ns/net",
        ),
        (
            "mount to nowhere",
            |s| s["mounts"][0]["destination"] = json!("proc"),
            "mounts.destination",
        ),
        (
            "mount out of the root",
            |s| s["mounts"][0]["destination"] = json!("/../../etc"),
            "mounts.destination",
        ),
        (
            "bind from nowhere",
            |s| s["mounts"][6] = json!({"destination": "/x", "source": "/no/such", "type": "bind", "options": ["bind"]}),
            "/no/such",
        ),
        (
            "no linux",
            |s| drop(s.as_object_mut().unwrap().remove("linux")),
            "linux is missing",
        ),
        (
            "wrong type deep down",
            |s| s["linux"]["resources"] = json!({"memory": {"limit": "much"}}),
            "config.json",
        ),
        ("a list for an object", |s| *s = json!([]), "config.json"),
    ];
    for (what, break_it, expected) in cases {
        let bench = Bench::new(&["/bin/true"]);
        bench.configure(break_it);
        check(&bench, what, &bench.run(&["create", "broken"]), expected);
        check(&bench, what, &bench.run(&["run", "broken"]), expected);
    }
}

#[test]
fn broken_seccomp_profiles_are_refused() {
    let rule = |rule: Value| {
        json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [rule],
        })
    };
    let arg = |index: u32| {
        rule(json!({
            "names": ["read"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": index, "value": 1, "op": "SCMP_CMP_EQ"}],
        }))
    };
    let cases = [
        ("argument index 9", arg(9), "argument 9"),
        ("argument index 6", arg(6), "argument 6"),
        (
            "no names",
            rule(json!({"names": [], "action": "SCMP_ACT_ALLOW"})),
            "linux.seccomp",
        ),
        (
            "unknown action",
            rule(json!({"names": ["read"], "action": "SCMP_ACT_HOPE"})),
            "SCMP_ACT_HOPE",
        ),
        (
            "unknown operator",
            rule(
                json!({"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_NEAR"}]}),
            ),
            "SCMP_CMP_NEAR",
        ),
        ("no default", json!({"syscalls": []}), "defaultAction"),
        (
            "unknown architecture",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_Z80"]}),
            "SCMP_ARCH_Z80",
        ),
    ];
    for (what, profile, expected) in cases {
        let bench = Bench::new(&["/bin/true"]);
        bench.configure(|spec| spec["linux"]["seccomp"] = profile);
        check(&bench, what, &bench.run(&["create", "broken"]), expected);
    }
}
