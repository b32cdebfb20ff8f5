//! Broken bundles, ids and command lines: each gives one clear error and leaves nothing.

/// Files and directories of a bundle that are not what they should be.
mod bundle;
/// Specs and seccomp profiles.
mod spec;
/// Ids and command lines.
mod words;

use serde_json::{Value, json};

use super::harness::{Bench, Outcome};

/// A way to break a spec.
type Break = fn(&mut Value);

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

/// Whatever fails between the cgroup and the program must be taken back.
#[test]
fn failures_during_init_leave_nothing() {
    if !super::harness::needs_root() {
        return;
    }
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
