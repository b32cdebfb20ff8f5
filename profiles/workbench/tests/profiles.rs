//! The commands on profiles as a user runs them: exit status, JSON, errors.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn profile(&self, name: &str, allowed: &[&str]) -> PathBuf {
        let profile = json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
            "syscalls": [{"names": allowed, "action": "SCMP_ACT_ALLOW"}],
        });
        self.write(name, profile.to_string())
    }
}

fn run(arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam-profile"));
    for argument in arguments {
        command.arg(argument.as_ref());
    }
    command.output().unwrap()
}

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn error_of(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn diff_tells_and_exits_by_it() {
    let files = Files::new();
    let (a, b) = (
        files.profile("a", &["read", "write"]),
        files.profile("b", &["write", "bpf"]),
    );
    let same = run(&[&"diff", &a, &a]);
    assert_eq!(
        (same.status.code(), same.stdout.as_slice()),
        (Some(0), &b"A and B mean the same.\n"[..])
    );
    let other = run(&[&"diff", &a, &b]);
    assert_eq!(other.status.code(), Some(1));
    let text = String::from_utf8(other.stdout).unwrap();
    let (first, second) = text.split_once("B allows, A does not:").unwrap();
    assert!(first.contains("read") && !first.contains("bpf"), "{text}");
    assert!(second.contains("bpf"), "{text}");
    let other = run(&[&"--format", &"json", &"diff", &a, &b]);
    assert_eq!(other.status.code(), Some(1));
    let kinds: Vec<(String, String)> = json_of(&other)["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (
                text(&change["name"]),
                text(&change["differences"][0]["kind"]),
            )
        })
        .collect();
    let wanted = [("read", "only_first_allows"), ("bpf", "only_second_allows")];
    assert_eq!(
        kinds,
        wanted.map(|(name, kind)| (name.to_owned(), kind.to_owned()))
    );
}

#[test]
fn merge_and_intersect_of_several() {
    let files = Files::new();
    let a = files.profile("a", &["read", "write"]);
    let b = files.profile("b", &["write", "close"]);
    let c = files.profile("c", &["write", "bpf"]);
    for (verb, expected) in [
        ("merge", vec!["bpf", "close", "read", "write"]),
        ("intersect", vec!["write"]),
    ] {
        let output = run(&[&verb, &a, &b, &c]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let allowed: Vec<String> = json_of(&output)["syscalls"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|rule| rule["action"] == "SCMP_ACT_ALLOW")
            .flat_map(|rule| serde_json::from_value::<Vec<String>>(rule["names"].clone()).unwrap())
            .collect();
        assert_eq!(allowed, expected, "{verb}");
    }
}

#[test]
fn explain_names_the_rule_and_the_edit() {
    let files = Files::new();
    let a = files.profile("a", &["read", "write"]);
    let output = run(&[&"explain", &a, &"write", &"--format", &"json"]);
    let report = json_of(&output);
    let native = &report["architectures"][0];
    assert_eq!(native["allowed"], true);
    assert_eq!(native["decided_by"]["pointer"], "/syscalls/0");
    assert_eq!(
        native["edits"][0]["patch"][0],
        json!({"op": "remove", "path": "/syscalls/0/names/1"})
    );
    let output = run(&[
        &"explain",
        &a,
        &"clone",
        &"CLONE_NEWUSER|CLONE_NEWNS",
        &"--format",
        &"json",
    ]);
    let report = json_of(&output);
    assert_eq!(report["args"], json!([0x1002_0000]));
    assert_eq!(
        (&report["danger"], &report["architectures"][0]["allowed"]),
        (&json!("walls"), &json!(false))
    );
    let output = run(&[
        &"explain",
        &a,
        &"ioctl",
        &"-1",
        &"TIOCSTI",
        &"--format",
        &"json",
    ]);
    assert_eq!(json_of(&output)["args"], json!([u64::MAX, 0x5412]));
    let glance = json_of(&run(&[&"explain", &a, &"--format", &"json"]));
    assert_eq!(glance["architectures"][0]["allowed"], 2);
    assert!(error_of(&run(&[&"explain", &a, &"pread"])).contains("no call \"pread\""));
    assert!(
        error_of(&run(&[&"explain", &a, &"socket", &"AF_X"])).contains("\"AF_X\" is no number")
    );
}

#[test]
fn convert_goes_round_all_dialects() {
    let files = Files::new();
    let mut path = files.profile("start", &["read", "write", "clone3"]);
    let oci = json_of(&run(&[&"convert", &path]));
    for dialect in ["docker", "podman", "spo", "oci"] {
        let output = run(&[&"convert", &"--to", &dialect, &"--name", &"web", &path]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        path = files.write(dialect, output.stdout);
    }
    let again = serde_json::from_slice::<Value>(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(again, oci);
}

#[test]
fn what_cannot_be_read_is_told_in_one_line() {
    let files = Files::new();
    let deep = "[".repeat(100_000);
    let table: [(&str, &[u8], &str); 4] = [
        (
            "json",
            b"{\"defaultAction\":\n 1}",
            "line 2 column 2: /defaultAction must be a string",
        ),
        ("yaml", b"a: &b c\n", "line 1 column 4: anchors"),
        ("binary", b"\x7fELF\xff\xfe", "line 1 column 5: not UTF-8"),
        ("deep", deep.as_bytes(), "nested more than 32 deep"),
    ];
    for (name, content, expected) in table {
        let path = files.write(name, content);
        for verb in ["convert", "explain"] {
            let error = error_of(&run(&[&verb, &path]));
            assert!(error.contains(expected), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
    let large = files.write("large", vec![b' '; (4 << 20) + 1]);
    assert!(error_of(&run(&[&"convert", &large])).contains("more than 4194304 bytes"));
    let missing = Path::new("/nowhere/profile.json");
    assert!(
        error_of(&run(&[&"diff", &missing, &missing]))
            .contains("cannot read /nowhere/profile.json")
    );
}

#[test]
fn every_command_has_help_with_an_example() {
    for verb in ["convert", "explain", "diff", "merge", "intersect"] {
        let output = run(&[&verb, &"--help"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            text.contains(&format!("cofferdam profile {verb} ")),
            "{text}"
        );
    }
}

#[test]
fn an_access_document_becomes_an_apparmor_profile() {
    let files = Files::new();
    let document = json!({"version": 1, "network": {"tcp_connect": [443]}, "files": [
        {"path": "/usr", "subtree": true, "rights": ["read", "execute", "map-execute"]}]});
    let document = files.write("access.json", document.to_string());
    let done = run(&[
        &"apparmor",
        &"--name",
        &"web",
        &"--cap-drop",
        &"ALL",
        &document,
    ]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let text = String::from_utf8(done.stdout).unwrap();
    for line in [
        "profile web flags=(attach_disconnected,mediate_deleted) {",
        "  \"/usr{,/**?}\" rmix,",
        "  \"/run/containerd/fifo/*/*\" rw,",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in {text}");
    }
    assert!(!text.contains("capability"), "{text}");
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(said.contains("TCP ports"), "{said}");
    let json = json_of(&run(&[
        &"apparmor",
        &"--format",
        &"json",
        &"--complain",
        &document,
    ]));
    assert_eq!(json["mode"], "complain");
    assert!(json["name"].as_str().unwrap().starts_with("cofferdam-"));

    let bad = files.write("bad.json", "{}");
    assert!(error_of(&run(&[&"apparmor", &bad])).contains("access document"));
    assert!(error_of(&run(&[&"apparmor", &"--name", &"a b", &document])).contains("name"));
}
