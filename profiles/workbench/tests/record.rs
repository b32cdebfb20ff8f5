//! `cofferdam profile record` as its users run it. Needs root.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use cofferdam_recorder::process::without_capabilities;
use serde_json::{Value, json};

/// CAP_SYS_ADMIN, CAP_PERFMON and CAP_BPF: one of them is needed to load a program.
const FOR_BPF: u64 = 1 << 21 | 1 << 38 | 1 << 39;

/// Whether this process may load programs. A skip is seen, and can be forbidden.
#[expect(clippy::print_stderr, reason = "a skip must be seen")]
fn is_root() -> bool {
    let root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    let required = std::env::var_os("COFFERDAM_REQUIRE_ROOT").is_some_and(|v| v == "1");
    assert!(
        root || !required,
        "COFFERDAM_REQUIRE_ROOT is set, but not root"
    );
    if !root {
        eprintln!("SKIPPED: needs root");
    }
    root
}

fn record(options: &[&str], command: &[&str]) -> Command {
    let mut record = Command::new(env!("CARGO_BIN_EXE_cofferdam-profile"));
    record.args(["record", "--format", "json"]).args(options);
    record.arg("--").args(command).stdin(Stdio::null());
    record
}

/// What is printed: the command's own output comes before it.
fn printed(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let begin = text.find('{').expect("JSON");
    serde_json::from_str(&text[begin..]).expect("JSON")
}

fn recorded(options: &[&str], command: &[&str]) -> Value {
    let output = record(options, command).output().expect("ran");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    printed(&output)
}

fn names(value: &Value) -> BTreeSet<&str> {
    match value {
        Value::Object(map) => map.keys().map(String::as_str).collect(),
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        _ => BTreeSet::new(),
    }
}

fn place() -> (tempfile::TempDir, impl Fn(&str) -> String) {
    let directory = tempfile::tempdir().expect("a directory");
    let base: PathBuf = directory.path().to_owned();
    let path = move |name: &str| base.join(name).to_str().expect("text").to_owned();
    (directory, path)
}

/// With every call asked for, the two means make the same recording of a shell and what it starts.
#[test]
fn both_means_make_the_same_recording_of_a_real_program() {
    if !is_root() {
        return;
    }
    let script = "ls -l / >/dev/null; echo x | wc -c >/dev/null; exec uname >/dev/null";
    // By their real names, for one means keeps the path that was executed and the other the file.
    let shell = fs::canonicalize("/bin/sh").expect("a shell");
    let command = [shell.to_str().expect("text"), "-c", script];
    let bpf = recorded(&["--by", "bpf"], &command);
    let notify = recorded(&["--by", "notify", "--predict", "nothing"], &command);
    for phase in ["startup", "serving"] {
        let (bpf, notify) = (&bpf["phases"][phase], &notify["phases"][phase]);
        assert_eq!(names(bpf), names(notify), "{phase}");
        for name in names(bpf).iter().filter(|name| **name != "mmap") {
            assert_eq!(bpf[name]["args"], notify[name]["args"], "{name}");
        }
    }
    assert_eq!(names(&bpf["executables"]).len(), 4, "{bpf}");
    assert_eq!(bpf["executables"], notify["executables"]);
    assert_eq!(
        (&bpf["methods"][0], &notify["methods"][0]),
        (&json!("bpf"), &json!("notify"))
    );
    assert_eq!(notify["capabilities_unseen"], 1);
    assert!(bpf.get("capabilities_unseen").is_none() && notify.get("predicted").is_none());
}

#[test]
fn without_the_right_to_bpf_a_command_is_recorded_by_notifications() {
    if !is_root() {
        return;
    }
    let mut command = record(&["--predict", "nothing"], &["true"]);
    without_capabilities(&mut command, FOR_BPF);
    let output = command.output().expect("ran");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert!(errors.contains("BPF cannot be used"), "{errors}");
    assert!(
        errors.contains("by seccomp notifications: every call"),
        "{errors}"
    );
    let recording = printed(&output);
    assert_eq!(recording["methods"], json!(["notify"]));
    // Without CAP_SYS_ADMIN a filter takes no_new_privs, and that is said.
    assert_eq!(recording["without_new_privileges"], 1);
    assert!(names(&recording["phases"]["startup"]).contains("exit_group"));

    // Who insists on BPF gets an error, and what runs already cannot be asked.
    let mut command = record(&["--by", "bpf"], &["true"]);
    without_capabilities(&mut command, FOR_BPF);
    let output = command.output().expect("ran");
    assert_eq!(output.status.code(), Some(2));
    let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam-profile"));
    let own = std::process::id().to_string();
    let output = command
        .args(["record", "--by", "notify", "--pid", &own])
        .output()
        .expect("ran");
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        errors.contains("cannot be recorded by notifications"),
        "{errors}"
    );
}

#[test]
fn predicted_calls_are_listed_apart_and_are_in_the_profile() {
    if !is_root() {
        return;
    }
    let (_directory, path) = place();
    let output = path("recording.json");
    let recording = recorded(&["--by", "notify", "--output", &output], &["/bin/true"]);
    let predicted = names(&recording["predicted"]);
    assert!(
        predicted.contains("mmap") && predicted.contains("write"),
        "{predicted:?}"
    );
    let observed: BTreeSet<&str> = ["runtime", "startup", "serving"]
        .iter()
        .flat_map(|phase| names(&recording["phases"][phase]))
        .collect();
    assert!(observed.is_disjoint(&predicted), "{observed:?}");
    assert!(observed.contains("execve") && !predicted.contains("execve"));
    let made = merged(&[&output], "seccomp");
    let allowed: BTreeSet<&str> = made["profile"]["syscalls"]
        .as_array()
        .expect("rules")
        .iter()
        .flat_map(|rule| names(&rule["names"]))
        .collect();
    assert!(allowed.is_superset(&predicted));
    let notes = made["notes"].to_string();
    assert!(
        notes.contains("predicted") && notes.contains("capabilities could not be seen"),
        "{notes}"
    );
}

fn merged(files: &[&str], emit: &str) -> Value {
    let mut merge = Command::new(env!("CARGO_BIN_EXE_cofferdam-profile"));
    merge.args(["record", "--format", "json", "--emit", emit, "--merge"]);
    let output = merge.args(files).output().expect("ran");
    assert!(output.status.success());
    printed(&output)
}

#[test]
fn runs_and_replicas_merge_into_one_recording_and_one_profile() {
    if !is_root() {
        return;
    }
    let (_directory, path) = place();
    let (one, two) = (path("one.json"), path("two.json"));
    recorded(
        &["--output", &one, "--name", "a"],
        &["mkdir", &path("made")],
    );
    recorded(&["--output", &two, "--name", "b"], &["sync"]);
    for files in [[&one[..], &two], [&two, &one]] {
        let both = merged(&files, "recording");
        assert_eq!((&both["name"], &both["runs"]), (&json!("a+b"), &json!(2)));
        let startup = names(&both["phases"]["startup"]);
        assert!(
            startup.contains("mkdir") && startup.contains("sync"),
            "{startup:?}"
        );
        let made = merged(&files, "seccomp");
        let rules = made["profile"]["syscalls"].to_string();
        assert!(rules.contains("\"mkdir\"") && rules.contains("\"sync\""));
    }
}

#[test]
fn what_was_lost_fails_the_recording_and_makes_no_profile() {
    if !is_root() {
        return;
    }
    for by in ["bpf", "notify"] {
        let (_directory, path) = place();
        let output = path("lost.json");
        let options = ["--by", by, "--predict", "nothing", "--capacity", "2"];
        let options: Vec<&str> = options.into_iter().chain(["--output", &output]).collect();
        let done = record(&options, &["true"]).output().expect("ran");
        let errors = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(2), "{errors}");
        assert!(errors.contains("--capacity"), "{errors}");
        let bytes = fs::read(&output).expect("written for the record");
        let recording: Value = serde_json::from_slice(&bytes).expect("JSON");
        assert!(recording["lost"].as_u64() > Some(0));
        let mut merge = Command::new(env!("CARGO_BIN_EXE_cofferdam-profile"));
        merge.args(["record", "--emit", "seccomp", "--merge", &output, &output]);
        let profile = path("profile.json");
        let done = merge.args(["--output", &profile]).output().expect("ran");
        assert_eq!(done.status.code(), Some(2));
        assert!(!Path::new(&profile).exists());
    }
}

#[test]
fn capabilities_are_confirmed_by_doing_without() {
    if !is_root() {
        return;
    }
    let (_directory, path) = place();
    let (given, closed) = (path("given"), path("closed"));
    fs::write(&given, "").expect("written");
    fs::write(&closed, "").expect("written");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).expect("closed");
    // One capability decides how it ends, the other is used and not needed.
    let script = "cat \"$1\" >/dev/null 2>&1; chown 1:1 \"$0\"; s=$?; chown 0:0 \"$0\"; exit $s";
    let command = ["sh", "-c", script, &given, &closed];
    let recording = recorded(&["--confirm-capabilities"], &command);
    let used = names(&recording["capabilities"]);
    assert!(
        used.contains("CAP_CHOWN") && used.contains("CAP_DAC_READ_SEARCH"),
        "{used:?}"
    );
    let confirmed = &recording["capabilities_confirmed"];
    assert_eq!(names(confirmed), used);
    assert_eq!(confirmed["CAP_CHOWN"], true, "{confirmed}");
    assert_eq!(confirmed["CAP_DAC_READ_SEARCH"], false, "{confirmed}");
    let options = ["--confirm-capabilities", "--emit", "seccomp"];
    let made = recorded(&options, &command);
    assert!(names(&made["capabilities"]).contains("CAP_CHOWN"));
    assert!(!names(&made["capabilities"]).contains("CAP_DAC_READ_SEARCH"));
    assert!(
        made["notes"]
            .to_string()
            .contains("CAP_DAC_READ_SEARCH was used"),
        "{made}"
    );

    // Either of two does: one of them stays.
    let script = "cat \"$0\" >/dev/null 2>&1";
    let recording = recorded(&["--confirm-capabilities"], &["sh", "-c", script, &closed]);
    let confirmed = &recording["capabilities_confirmed"];
    assert_eq!(confirmed["CAP_DAC_READ_SEARCH"], true, "{confirmed}");

    // What ends otherwise by itself proves nothing.
    let script = "chown 1:1 \"$0\"; n=$(cat \"$1\"); echo $((n+1)) >\"$1\"; exit $n";
    let counter = path("counter");
    fs::write(&counter, "0").expect("written");
    let done = record(
        &["--confirm-capabilities"],
        &["sh", "-c", script, &given, &counter],
    )
    .output()
    .expect("ran");
    assert_eq!(done.status.code(), Some(2));
    assert!(printed(&done).get("capabilities_confirmed").is_none());
}

/// The recording ends by time, the command does not: its calls must go on.
#[test]
fn a_command_outlives_its_recording_by_notifications() {
    if !is_root() {
        return;
    }
    let (_directory, path) = place();
    let made = path("made");
    let options = ["--by", "notify", "--predict", "nothing", "--duration", "0"];
    let done = record(&options, &["sh", "-c", "sleep 1; mkdir \"$0\"", &made])
        .output()
        .expect("ran");
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{errors}");
    assert!(errors.contains("until they end"), "{errors}");
    assert!(Path::new(&made).is_dir());
    assert!(!printed(&done)["phases"].to_string().contains("mkdir"));
}

#[test]
fn serving_begins_when_the_user_says() {
    if !is_root() {
        return;
    }
    for by in ["bpf", "notify"] {
        let (_directory, path) = place();
        let options = ["--by", by, "--predict", "nothing", "--serving-after", "0"];
        let recording = recorded(&options, &["sh", "-c", "sleep 1; mkdir \"$0\"", &path("x")]);
        let phases = &recording["phases"];
        assert!(
            names(&phases["serving"]).contains("mkdir"),
            "{by}: {phases}"
        );
        assert!(
            !names(&phases["startup"]).contains("mkdir"),
            "{by}: {phases}"
        );
        assert!(
            names(&phases["startup"]).contains("execve")
                || by == "bpf"
                || !names(&phases["runtime"]).is_empty()
        );
    }
}

/// A program that ends at once, and whose code is so many calls that its analysis takes far more memory
/// than the file has bytes.
fn heavy(path: &Path) {
    const BYTES: usize = 24 << 20;
    // mov edi, 0; mov eax, 231 (exit_group); syscall
    let mut code = b"\xbf\x00\x00\x00\x00\xb8\xe7\x00\x00\x00\x0f\x05".to_vec();
    while code.len() < BYTES {
        code.extend_from_slice(b"\xe8\x00\x00\x00\x00");
    }
    let mut file = vec![0; 120];
    file[..6].copy_from_slice(b"\x7fELF\x02\x01");
    (file[16], file[18], file[20], file[24], file[32]) = (3, 62, 1, 120, 64);
    (file[52], file[54], file[56], file[64], file[68]) = (64, 56, 1, 1, 5);
    let size = (120 + code.len()) as u64;
    file[96..104].copy_from_slice(&size.to_le_bytes());
    file[104..112].copy_from_slice(&size.to_le_bytes());
    file[112..120].copy_from_slice(&4096_u64.to_le_bytes());
    file.extend_from_slice(&code);
    fs::write(path, file).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("executable");
}

/// The analysis of a hostile file takes all memory that there is; the recording loses its prediction by
/// that, and nothing else.
#[test]
fn a_program_that_exhausts_its_analysis_is_recorded_all_the_same() {
    if !is_root() {
        return;
    }
    let (_directory, path) = place();
    let program = path("heavy");
    heavy(Path::new(&program));
    // Far less than an analysis may take, so that it is used up soon.
    let limited = |arguments: &[&str]| {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -v 300000; exec \"$@\"", "sh"]);
        command.arg(env!("CARGO_BIN_EXE_cofferdam-profile"));
        command.args(arguments).stdin(Stdio::null());
        command.output().expect("ran")
    };
    // The attack: whoever analyses it is ended.
    let alone = limited(&["generate", "--no-cache", "--rootfs", "/", "--", &program]);
    assert_eq!(alone.status.code(), None, "{alone:?}");

    let options = ["record", "--format", "json", "--by", "notify", "--"];
    let output = limited(&[&options[..], &[&program]].concat());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert!(errors.contains("took too much or failed"), "{errors}");
    assert!(errors.contains("every call asks"), "{errors}");
    let recording = printed(&output);
    assert!(names(&recording["phases"]["startup"]).contains("exit_group"));
    assert!(recording.get("predicted").is_none(), "{recording}");
}

/// What is analysed is bounded before it is looked at, however much its caller may take.
#[test]
fn the_analysis_of_what_is_recorded_has_bounds() {
    if !is_root() {
        return;
    }
    let (_directory, path) = place();
    let program = path("heavy");
    heavy(Path::new(&program));
    let mut recording = record(&["--by", "notify"], &[&program]);
    recording.stdout(Stdio::null()).stderr(Stdio::null());
    let mut recording = recording.spawn().expect("spawned");
    let own = recording.id();
    let limits = |pid: &str| fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    let bound = |limits: &str, name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name));
        let soft = line.and_then(|line| line.split_whitespace().next());
        soft.unwrap_or("none").to_owned()
    };
    let mut seen = None;
    while seen.is_none() && recording.try_wait().expect("waited").is_none() {
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children"));
        for child in children.unwrap_or_default().split_whitespace() {
            let of_child = limits(child);
            if bound(&of_child, "Max file size") != "unlimited" {
                let names = ["Max address space", "Max cpu time", "Max open files"];
                seen = Some(names.map(|name| bound(&of_child, name)));
                // Its end is not waited for: it would take long.
                let end = Command::new("kill").args(["-KILL", child]).status();
                assert!(end.expect("kill").success());
            }
        }
    }
    let ended = recording.wait().expect("waited");
    assert_eq!(
        seen.expect("an analysis"),
        [&(2_u64 << 30).to_string(), "120", "512"]
    );
    // The one that records is not bounded, and the program was run.
    assert!(ended.success());
    assert_ne!(
        bound(&limits("self"), "Max address space"),
        (2_u64 << 30).to_string()
    );
}
