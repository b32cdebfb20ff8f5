//! Broken bundles, ids and command lines: each gives one clear error and leaves nothing.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use super::harness::{Bench, Outcome};

/// One error line, exit status 1, nothing left.
fn check(bench: &Bench, what: &str, got: &Outcome, expected: &str) {
    assert_eq!(got.code(), 1, "{what}: {got:?}");
    assert_eq!(got.stdout, "", "{what}");
    assert_eq!(got.stderr.lines().count(), 1, "{what}: {}", got.stderr);
    assert!(got.stderr.contains("level=error"), "{what}: {}", got.stderr);
    assert!(
        got.stderr.contains(expected),
        "{what}: {expected:?} is not in {}",
        got.stderr
    );
    assert!(got.stderr.len() < 2000, "{what}: {}", got.stderr);
    assert!(!got.stderr.contains("panicked"), "{what}: {}", got.stderr);
    bench.assert_nothing_left(what);
}

#[test]
fn broken_specs_are_refused() {
    type Break = fn(&mut Value);
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

#[test]
fn files_that_are_no_config_are_refused() {
    let garbage: Vec<u8> = (0..4096_u32).map(|i| (i * 167 % 251) as u8).collect();
    let mut large = b"{\"ociVersion\":\"1.0.0\",\"annotations\":{\"a\":\"".to_vec();
    large.resize(10 << 20, b'x');
    large.extend(b"\"}}");
    let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
    let cases: &[(&str, &[u8], &str)] = &[
        ("empty", b"", "config.json"),
        ("no JSON", b"hello", "config.json"),
        ("cut off", b"{\"ociVersion\": \"1.0", "config.json"),
        ("binary garbage", &garbage, "config.json"),
        ("10 MB", &large, "the most that is read"),
        ("100000 brackets", &deep, "config.json"),
        ("two documents", b"{}{}", "config.json"),
        (
            "not UTF-8",
            b"{\"ociVersion\": \"\xff\xfe\"}",
            "config.json",
        ),
        ("null", b"null", "config.json"),
    ];
    for (what, bytes, expected) in cases {
        let bench = Bench::new(&["/bin/true"]);
        fs::write(bench.bundle().join("config.json"), bytes).unwrap();
        check(&bench, what, &bench.run(&["create", "broken"]), expected);
    }
}

#[test]
fn a_config_that_is_not_there_is_said_so() {
    let bench = Bench::new(&["/bin/true"]);
    let config = bench.bundle().join("config.json");
    fs::remove_file(&config).unwrap();
    check(
        &bench,
        "missing",
        &bench.run(&["create", "broken"]),
        "config.json not found",
    );
    fs::create_dir(&config).unwrap();
    check(
        &bench,
        "a directory",
        &bench.run(&["create", "broken"]),
        "is not a regular file",
    );
    fs::remove_dir(&config).unwrap();
    nix::unistd::mkfifo(&config, nix::sys::stat::Mode::S_IRWXU).unwrap();
    check(
        &bench,
        "a FIFO",
        &bench.run(&["create", "broken"]),
        "is not a regular file",
    );
    let got = bench.run(&["create", "--bundle", "/no/such/bundle", "broken"]);
    check(&bench, "no bundle", &got, "/no/such/bundle");
}

/// A symlink as rootfs: CVE-2021-30465 began with paths that were checked and then exchanged.
#[test]
fn a_rootfs_behind_a_symlink_is_refused() {
    let bench = Bench::new(&["/bin/true"]);
    fs::rename(bench.bundle().join("rootfs"), bench.path("elsewhere")).unwrap();
    symlink(bench.path("elsewhere"), bench.bundle().join("rootfs")).unwrap();
    check(
        &bench,
        "symlink",
        &bench.run(&["create", "broken"]),
        "symlink",
    );
    symlink("/nowhere/at/all", bench.path("dangling")).unwrap();
    bench.configure(|spec| spec["root"]["path"] = json!("../dangling"));
    check(
        &bench,
        "dangling",
        &bench.run(&["create", "broken"]),
        "dangling",
    );
}

#[test]
fn ids_that_are_no_names_are_refused() {
    let huge = "x".repeat(5000);
    for (id, expected) in [
        ("", "cannot be empty"),
        ("..", "invalid container id"),
        (".", "invalid container id"),
        ("../escape", "invalid container id"),
        ("a/b", "invalid container id"),
        ("/etc", "invalid container id"),
        ("a b", "invalid container id"),
        ("a\nb", "invalid container id"),
        ("caf\u{e9}", "invalid container id"),
        (&huge, "1024"),
    ] {
        let bench = Bench::new(&["/bin/true"]);
        for verb in [
            "create", "run", "start", "state", "kill", "delete", "pause", "resume", "ps",
        ] {
            check(&bench, verb, &bench.run(&[verb, id]), expected);
        }
        assert!(!bench.path("escape").exists(), "{id:?} escaped the root");
    }
}

#[test]
fn wrong_command_lines_are_explained() {
    let bench = Bench::new(&["/bin/true"]);
    for (words, code, expected) in [
        (&["frobnicate"][..], 3, "frobnicate"),
        (&["create"], 1, "requires exactly 1 argument(s)"),
        (&["create", "a", "b"], 1, "requires exactly 1 argument(s)"),
        (
            &["create", "--nosuch", "a"],
            1,
            "flag provided but not defined: -nosuch",
        ),
        (
            &["create", "--bundle"],
            1,
            "flag needs an argument: -bundle",
        ),
        (
            &["create", "--preserve-fds", "many", "a"],
            1,
            "preserve-fds",
        ),
        (&["create", "--preserve-fds", "-1", "a"], 1, "preserve-fds"),
        (
            &["create", "--preserve-fds", "900", "a"],
            1,
            "doesn't exist",
        ),
        (&["create", "--no-pivot=perhaps", "a"], 1, "no-pivot"),
        (
            &["create", "--console-socket", "/no/socket", "a"],
            1,
            "console socket",
        ),
        (&["--log-format", "xml", "list"], 1, "log-format"),
        (&["--rootless", "perhaps", "list"], 1, "rootless"),
        (
            &["--policy", "no-such-policy", "create", "a"],
            1,
            "no-such-policy",
        ),
        (&["list", "--format", "xml"], 1, "format"),
        (&["kill", "nosuch", "NOSIG"], 1, "unknown signal"),
        (&["events", "--interval", "0s", "nosuch"], 1, "interval"),
        (&["update", "--memory", "lots", "nosuch"], 1, "memory"),
        (&["exec"], 1, "requires a minimum of 1 argument(s)"),
        (&["exec", "nosuch", "true"], 255, "does not exist"),
        (
            &["checkpoint", "--image-path", "x", "nosuch"],
            1,
            "not supported",
        ),
        (&["restore", "nosuch"], 1, "not supported"),
        (
            &["policy", "check", "/no/such/policy.toml"],
            1,
            "/no/such/policy.toml",
        ),
        (&["policy", "show", "no-such-policy"], 1, "no-such-policy"),
        (&["spec"], 1, "exists"),
    ] {
        let got = bench.run(words);
        assert_eq!(got.code(), code, "{words:?}: {got:?}");
        assert_eq!(got.stderr.lines().count(), 1, "{words:?}: {}", got.stderr);
        assert!(got.stderr.contains(expected), "{words:?}: {}", got.stderr);
        bench.assert_nothing_left(&format!("{words:?}"));
    }
}

/// Whatever fails between the cgroup and the program must be taken back.
#[test]
fn failures_during_init_leave_nothing() {
    if !super::harness::needs_root() {
        return;
    }
    type Break = fn(&mut Value);
    let cases: &[(&str, Break, &str)] = &[
        (
            "no such program",
            |s| s["process"]["args"] = json!(["nosuch"]),
            "executable file not found in $PATH",
        ),
        (
            "no such path",
            |s| s["process"]["args"] = json!(["/no/such"]),
            "no such file or directory",
        ),
        (
            "not executable",
            |s| s["process"]["args"] = json!(["/etc/not-executable"]),
            "permission denied",
        ),
        (
            "a directory",
            |s| s["process"]["args"] = json!(["/bin"]),
            "permission denied",
        ),
        (
            "no such cwd",
            |s| {
                s["process"]["cwd"] = json!("/no/such");
                s["root"]["readonly"] = json!(true);
            },
            "/no/such",
        ),
        (
            "no such sysctl",
            |s| s["linux"]["sysctl"] = json!({"net.no.such": "1"}),
            "sysctl",
        ),
        (
            "file system that is none",
            |s| s["mounts"][3]["type"] = json!("nosuchfs"),
            "nosuchfs",
        ),
    ];
    for (what, break_it, expected) in cases {
        let bench = Bench::new(&["/bin/true"]);
        bench.configure(break_it);
        check(&bench, what, &bench.run(&["run", "broken"]), expected);
        check(&bench, what, &bench.run(&["create", "broken"]), expected);
    }
}
