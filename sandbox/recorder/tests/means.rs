//! Both means of recording see the same of the same program. Needs root, for BPF.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

/// Programs whose every call is known.
mod elf;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use cofferdam_recorder::{Abi, Capacity, Means, NotifyRecorder, Observed, Phase, Recorder};

const GETPPID: u32 = 110;

/// Whether this process may load programs. A skip is seen, and can be forbidden.
#[expect(clippy::print_stderr, reason = "a skip must be seen")]
fn is_root() -> bool {
    let root = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
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

fn by_bpf(command: &mut Command) -> Observed {
    let recorder = Recorder::load(&Capacity::default()).expect("the programs load (as root)");
    let own = std::process::id();
    recorder.follow_children(own).expect("followed");
    let mut child = command.spawn().expect("ran");
    recorder.leave(own).expect("left");
    assert!(child.wait().expect("ended").success());
    recorder.finish().expect("read")
}

fn by_notify(command: &mut Command, predicted: &[u32], capacity: &Capacity) -> Observed {
    let predicted = predicted.iter().copied().collect();
    let (recorder, mut child) =
        NotifyRecorder::spawn(command, &predicted, capacity, true).expect("ran");
    assert!(child.wait().expect("ended").success());
    let observed = recorder.finish();
    recorder.keep_answering().expect("answered to the end");
    observed
}

/// A call of the payload: executable, phase, ABI, number.
type Site = (PathBuf, Phase, Abi, u32);

fn site(observed: &Observed, site: &cofferdam_recorder::CallSite) -> Option<Site> {
    let path = observed.executables.get(&site.executable)?;
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.into());
    (site.phase >= Phase::Startup).then_some((path, site.phase, site.abi, site.number))
}

fn calls(observed: &Observed) -> BTreeMap<Site, u64> {
    let mut calls = BTreeMap::new();
    for call in &observed.calls {
        if let Some(site) = site(observed, &call.site) {
            *calls.entry(site).or_default() += call.count;
        }
    }
    calls
}

fn arguments(observed: &Observed) -> BTreeSet<(Site, u8, u64)> {
    let mut arguments = BTreeSet::new();
    for seen in &observed.arguments {
        if let Some(site) = site(observed, &seen.site) {
            arguments.insert((site, seen.index, seen.value));
        }
    }
    arguments
}

fn probe(directory: &Path, name: &str, code: &[u8]) -> PathBuf {
    let path = directory.join(name);
    elf::write(&path, code);
    path
}

#[test]
fn both_means_see_the_same_calls_arguments_executables_and_phases() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str, code: &[u8]| probe(directory.path(), name, code);
    let (first, second) = (
        at("first", &elf::calls(50, 3)),
        at("second", &elf::calls(7, 1)),
    );
    let mut shell = Command::new("sh");
    let script = "for n in 1 2 3; do ( \"$0\"; \"$1\" ); done; exec \"$1\"";
    shell.args(["-c", script]).arg(&first).arg(&second);
    let mut table = vec![
        Command::new(&first),
        Command::new(at("server", &elf::server())),
        Command::new(at("activated", &elf::activated())),
        Command::new(at("sockets", &elf::sockets(&[1, 2, 10, 77]))),
        Command::new(at("threads", &elf::threads(3, 20))),
        shell,
    ];
    for command in &mut table {
        let (bpf, notify) = (
            by_bpf(command),
            by_notify(command, &[], &Capacity::default()),
        );
        assert_eq!((bpf.means, notify.means), (Means::Bpf, Means::Notify));
        assert_eq!(
            (bpf.lost.total(), notify.lost.total()),
            (0, 0),
            "{command:?}"
        );
        assert_eq!(calls(&bpf), calls(&notify), "{command:?}");
        assert_eq!(arguments(&bpf), arguments(&notify), "{command:?}");
        assert!(!notify.knows_capabilities && !notify.lost_privileges);
    }
}

#[test]
fn what_was_predicted_is_not_observed_and_is_said_to_be_predicted() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = probe(directory.path(), "probe", &elf::calls(5, 2));
    let (execve, exit_group) = (59, 231);
    let observed = by_notify(
        &mut Command::new(&path),
        &[GETPPID, execve, 39],
        &Capacity::default(),
    );
    // What a process executes must be known, so that asks whatever was predicted.
    assert_eq!(observed.predicted, BTreeSet::from([GETPPID, 39]));
    assert!(observed.calls.iter().any(|call| call.site.number == execve));
    let of = |abi, number| (path.clone(), Phase::Startup, abi, number);
    let expected = BTreeMap::from([
        (of(Abi::X86, 20), 2), // 39 of the other ABI
        (of(Abi::Native, exit_group), 1),
    ]);
    assert_eq!(calls(&observed), expected);
}

#[test]
fn a_mark_and_a_full_table_mean_the_same_by_notification() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = probe(directory.path(), "probe", &elf::calls(5, 2));
    let small = Capacity {
        calls: 2,
        ..Capacity::default()
    };
    let observed = by_notify(&mut Command::new(&path), &[], &small);
    assert!(observed.lost.calls > 0, "{:?}", observed.lost);

    let mut shell = Command::new("sh");
    let script = "read go; exec \"$0\"";
    shell.args(["-c", script]).arg(&path);
    shell.stdin(std::process::Stdio::piped());
    let (recorder, mut child) =
        NotifyRecorder::spawn(&mut shell, &BTreeSet::new(), &Capacity::default(), true)
            .expect("ran");
    recorder.mark_serving();
    drop(child.stdin.take());
    assert!(child.wait().expect("ended").success());
    let observed = recorder.finish();
    let calls = calls(&observed);
    assert_eq!(
        calls[&(path.clone(), Phase::Serving, Abi::Native, GETPPID)],
        5
    );
    recorder.keep_answering().expect("answered");
}

#[test]
fn a_command_that_does_not_exist_is_an_error_and_no_hang() {
    let spawned = NotifyRecorder::spawn(
        &mut Command::new("/nonexistent/program"),
        &BTreeSet::new(),
        &Capacity::default(),
        true,
    );
    assert!(matches!(
        spawned,
        Err(cofferdam_recorder::NotifyError::Spawn(error))
            if error.kind() == std::io::ErrorKind::NotFound
    ));
}

/// The recording is over while the program is not: its calls must go on.
#[test]
fn calls_run_after_the_end_of_the_recording() {
    let mut shell = Command::new("sh");
    shell.args(["-c", "read go; test \"$(uname)\" = Linux"]);
    shell.stdin(std::process::Stdio::piped());
    let (recorder, mut child) =
        NotifyRecorder::spawn(&mut shell, &BTreeSet::new(), &Capacity::default(), true)
            .expect("ran");
    let before = recorder.finish().calls.len();
    drop(
        child
            .stdin
            .take()
            .map(|mut input| std::io::Write::write_all(&mut input, b"go\n")),
    );
    assert!(child.wait().expect("ended").success());
    assert_eq!(recorder.finish().calls.len(), before);
    recorder.keep_answering().expect("answered");
}

/// More processes than are remembered without a look at who has ended; one lives through all of it.
#[test]
fn who_has_ended_is_forgotten_and_who_lives_is_not() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = probe(directory.path(), "probe", &elf::calls(1, 0));
    let mut shell = Command::new("sh");
    let script = "n=0; while [ $n -lt 700 ]; do \"$0\"; n=$((n+1)); done; cd /";
    shell.args(["-c", script]).arg(&path);
    let observed = by_notify(&mut shell, &[], &Capacity::default());
    let calls = calls(&observed);
    assert_eq!(calls[&(path, Phase::Startup, Abi::Native, GETPPID)], 700);
    let shell = std::fs::canonicalize("/bin/sh").expect("a shell");
    let chdir = 80;
    assert_eq!(calls[&(shell, Phase::Startup, Abi::Native, chdir)], 1);
}
