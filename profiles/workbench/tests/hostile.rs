//! Files that somebody made to do harm, handed to every command that reads such: a clear error, in little
//! time and memory.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::json;

/// Of address space, for a process that reads files of 2 GB and more.
const KILOBYTES: u64 = 1 << 20;
/// Of processor time; in a debug build.
const SECONDS: u64 = 60;

/// Runs a command within these limits: what goes over either is killed by a signal, or aborts.
fn run(arguments: &[&str]) -> Output {
    let script = format!("ulimit -v {KILOBYTES}; ulimit -t {SECONDS}; exec \"$@\"");
    Command::new("/bin/sh")
        .args(["-c", &script, "sh", env!("CARGO_BIN_EXE_cofferdam-profile")])
        .args(arguments)
        .output()
        .unwrap()
}

struct Files {
    dir: tempfile::TempDir,
    good: String,
}

impl Files {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let profile = json!({"defaultAction": "SCMP_ACT_ERRNO",
            "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]});
        let good = dir.path().join("good.json");
        std::fs::write(&good, profile.to_string()).unwrap();
        let good = text(&good);
        Self { dir, good }
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        text(&path)
    }

    /// A file of 2 GiB that takes no room.
    fn sparse(&self) -> String {
        let path: PathBuf = self.dir.path().join("sparse");
        File::create(&path).unwrap().set_len(2 << 30).unwrap();
        text(&path)
    }

    /// Each command that reads a file of somebody's, with `bad` in that place.
    fn refused(&self, bad: &str) {
        let good = self.good.as_str();
        for arguments in [
            vec!["lint", bad],
            vec!["explain", bad, "read"],
            vec!["convert", "--to", "spo", bad],
            vec!["convert", "--base", bad, good],
            vec!["diff", good, bad],
            vec!["merge", bad, good],
            vec!["intersect", good, bad],
            vec!["report", bad],
            vec!["report", good, "--recording", bad],
            vec!["report", good, "--evidence", bad],
            vec!["simulate", bad, "--trace", good],
            vec!["simulate", good, "--trace", bad],
        ] {
            let output = run(&arguments);
            let said = String::from_utf8_lossy(&output.stderr).into_owned()
                + &String::from_utf8_lossy(&output.stdout);
            assert!(
                output.status.code().is_some_and(|code| code != 0),
                "{arguments:?}: {output:?}"
            );
            assert!(!said.contains("panicked"), "{arguments:?}: {said}");
            assert!(
                said.contains(bad) && said.len() < 4096,
                "{arguments:?}: {}",
                said.get(..1000).unwrap_or(&said)
            );
        }
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_sparse_file_of_2_gb() {
    let files = Files::new();
    files.refused(&files.sparse());
}

#[test]
fn a_file_without_end() {
    Files::new().refused("/dev/zero");
}

#[test]
fn json_that_nests_without_end() {
    let files = Files::new();
    for (name, part) in [("lists", "["), ("objects", "{\"a\":")] {
        files.refused(&files.write(name, part.repeat(1 << 20)));
    }
}

#[test]
fn json_of_too_many_values() {
    let files = Files::new();
    let many = format!("{{\"defaultAction\": [{}0]}}", "0,".repeat(1_500_000));
    files.refused(&files.write("many", many));
}

#[test]
fn yaml_whose_aliases_multiply() {
    let files = Files::new();
    let mut laughs = String::from(
        "apiVersion: security-profiles-operator.x-k8s.io/v1\nkind: SeccompProfile\n\
         a0: &a0 [x, x, x, x, x, x, x, x, x]\n",
    );
    for level in 1..12 {
        let last = format!("*a{}", level - 1);
        laughs += &format!("a{level}: &a{level} [{}]\n", vec![last; 9].join(", "));
    }
    files.refused(&files.write("laughs.yaml", laughs));
}

/// A log that would have a reader keep half of a call for each of very many processes.
#[test]
fn a_log_of_nothing_but_beginnings() {
    let files = Files::new();
    let long = "x".repeat(4 << 10);
    let log: String = (1..60_000)
        .map(|pid| format!("{pid} socket(1, \"{long}\", <unfinished ...>\n"))
        .collect();
    let log = files.write("log", log);
    let output = run(&["simulate", &files.good, "--trace", &log]);
    assert!(output.status.code().is_some(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("socket"), "{said}");
}
