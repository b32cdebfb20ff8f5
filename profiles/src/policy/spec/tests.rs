//! Broken specs: each gives one error that names the field.

use serde_json::{Value, json};

use super::super::harden_tests::{plain, with};
use super::*;

/// The whole chain of an error, as `main` prints it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn error_of(json: &Value) -> String {
    match parse_spec(json.to_string().as_bytes()) {
        Ok(_) => panic!("accepted: {json}"),
        Err(error) => chain(&error),
    }
}

fn without(pointer: &str, key: &str) -> Value {
    let mut json = plain();
    let parent = json.pointer_mut(pointer).unwrap();
    parent.as_object_mut().unwrap().remove(key);
    json
}

#[test]
fn what_is_missing_is_named() {
    for (parent, key, expected) in [
        ("", "ociVersion", "ociVersion is missing"),
        ("", "process", "process is missing"),
        ("", "root", "root is missing"),
        ("", "linux", "linux is missing"),
        ("/process", "args", "process.args is missing"),
        ("/process", "cwd", "missing field `cwd`"),
        ("/root", "path", "root.path is missing"),
    ] {
        let error = error_of(&without(parent, key));
        assert!(error.contains(expected), "{key}: {error}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    let mount = |json: Value| with("/mounts/-", json);
    for (json, expected) in [
        (
            with("/ociVersion", json!("2.0.0")),
            "ociVersion is \"2.0.0\"",
        ),
        (with("/ociVersion", json!("1.x")), "ociVersion is \"1.x\""),
        (with("/process/args", json!([])), "process.args is missing"),
        (with("/process/args", json!(["a\u{0}b"])), "process.args"),
        (with("/process/env", json!(["A=\u{0}"])), "process.env"),
        (
            with("/process/cwd", json!("tmp")),
            "process.cwd is \"tmp\": it must be an absolute path",
        ),
        (
            with("/process/user/uid", json!(4_294_967_295u32)),
            "process.user.uid is \"4294967295\"",
        ),
        (
            with("/process/user/uid", json!(-1)),
            "invalid value: integer `-1`",
        ),
        (
            with("/process/user/gid", json!(4_294_967_296u64)),
            "invalid value",
        ),
        (
            with("/process/user/additionalGids", json!([4_294_967_295u32])),
            "additionalGids",
        ),
        (
            with(
                "/process/rlimits/-",
                json!({"type": "RLIMIT_NOFILE", "hard": 1, "soft": 1}),
            ),
            "given twice",
        ),
        (
            with(
                "/process/rlimits/-",
                json!({"type": "RLIMIT_CPU", "hard": 1, "soft": 2}),
            ),
            "above its hard limit",
        ),
        (
            with(
                "/process/rlimits/-",
                json!({"type": "RLIMIT_BEER", "hard": 1, "soft": 1}),
            ),
            "unknown variant `RLIMIT_BEER`",
        ),
        (
            with("/process/capabilities/bounding/-", json!("CAP_BEER")),
            "CAP_BEER",
        ),
        (with("/root/path", json!("")), "root.path is missing"),
        (
            mount(json!({"destination": "data", "type": "tmpfs"})),
            "mounts.destination is \"data\"",
        ),
        (
            mount(json!({"destination": "/a/../proc", "type": "tmpfs"})),
            "must not contain \"..\"",
        ),
        (
            mount(json!({"destination": "//", "type": "tmpfs"})),
            "mounts.destination is \"/\"",
        ),
        (
            mount(json!({"destination": "/a", "type": "bind"})),
            "mounts.source of a bind mount is missing",
        ),
        (
            mount(json!({"destination": "/a", "type": "bind", "source": ""})),
            "mounts.source of a bind mount is missing",
        ),
        (
            mount(json!({"destination": "/a\u{0}", "type": "tmpfs"})),
            "it contains a NUL byte",
        ),
        (
            with("/linux/namespaces/-", json!({"type": "pid"})),
            "linux.namespaces is \"pid\": it is given twice",
        ),
        (
            with("/linux/namespaces/-", json!({"type": "beer"})),
            "unknown variant `beer`",
        ),
        (
            with("/linux/namespaces/-", json!({"type": "user"})),
            "linux.uidMappings is missing",
        ),
        (
            with(
                "/linux/uidMappings",
                json!([{"containerID": 0, "hostID": 0, "size": 1}]),
            ),
            "there is no user namespace",
        ),
        (
            with("/linux/namespaces/-", json!({"type": "time", "path": "ns"})),
            "it must be an absolute path",
        ),
        (
            with(
                "/linux/devices",
                json!([{"path": "dev", "type": "c", "major": 1, "minor": 3}]),
            ),
            "linux.devices.path",
        ),
        (
            with(
                "/linux/devices",
                json!([{"path": "/dev/x", "type": "c", "major": -1, "minor": 3}]),
            ),
            "the number is out of range",
        ),
        (
            with(
                "/linux/devices",
                json!([{"path": "/dev/x", "type": "q", "major": 1, "minor": 3}]),
            ),
            "unknown variant `q`",
        ),
        (
            with(
                "/linux/resources/devices/-",
                json!({"allow": true, "access": "rwx"}),
            ),
            "the letters r, w and m only",
        ),
        (
            with(
                "/linux/resources/devices/-",
                json!({"allow": true, "major": 99_999_999_999i64}),
            ),
            "out of range",
        ),
        (
            with("/linux/maskedPaths", json!(["proc"])),
            "linux.maskedPaths",
        ),
        (
            with("/linux/cgroupsPath", json!("/../../x")),
            "linux.cgroupsPath",
        ),
        (
            with("/linux/intelRdt", json!({"closID": "x"})),
            "linux.intelRdt is not supported",
        ),
        (
            with(
                "/linux/personality",
                json!({"domain": "LINUX", "flags": ["X"]}),
            ),
            "personality.flags is not supported",
        ),
        (with("/hostname", json!("x".repeat(65))), "hostname"),
        (
            with("/hooks", json!({"poststop": [{"path": "x"}]})),
            "hooks.path",
        ),
        (
            with(
                "/linux/seccomp",
                json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 9, "value": 0, "op": "SCMP_CMP_EQ"}]}]}),
            ),
            "linux.seccomp is broken: seccomp rule 0 (read) tests argument 9",
        ),
        (
            with("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_BEER"})),
            "SCMP_ACT_BEER",
        ),
    ] {
        let error = error_of(&json);
        assert!(
            error.contains(expected),
            "expected {expected}\n   found {error}"
        );
        assert!(!error.contains('\n') && !error.contains('\0'), "{error}");
    }
}

#[test]
fn a_host_name_needs_a_uts_namespace() {
    let mut json = with("/hostname", json!("web"));
    parse_spec(json.to_string().as_bytes()).unwrap();
    json["linux"]["namespaces"] = json!([{"type": "mount"}]);
    assert!(error_of(&json).contains("hostname is \"web\""));
}

#[test]
fn what_is_no_json_says_where() {
    for (bytes, expected) in [
        (&b""[..], "line 1 column 0"),
        (b"{", "line 1 column 1"),
        (b"{\n  \"ociVersion\": 1\n}", "line 2 column"),
        (b"\x7fELF\x02\x01\x01", "line 1 column 1"),
        (b"[]", "ociVersion is missing"),
        (b"null", "line 1"),
    ] {
        let error = chain(&parse_spec(bytes).unwrap_err());
        assert!(error.contains(expected), "{error}");
    }
    let deep = "[".repeat(100_000);
    parse_spec(deep.as_bytes()).unwrap_err();
    let long = vec![b' '; MAX_SPEC_BYTES + 1];
    assert!(matches!(parse_spec(&long), Err(SpecError::TooLarge { .. })));
}

#[test]
fn secrets_of_the_environment_are_not_repeated() {
    let json = with("/process/env", json!(["PASSWORD=hunter2\u{0}"]));
    assert!(!error_of(&json).contains("hunter2"));
}
