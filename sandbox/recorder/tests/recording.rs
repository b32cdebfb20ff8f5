//! What a recording holds, on the running kernel. Needs root.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

/// Programs whose every call is known.
mod elf;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cofferdam_recorder::{Abi, Capacity, Observed, Phase, Recorder, SeenCapability};

/// `getppid`, which nothing else in these programs calls.
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

/// Whether this kernel tells of capabilities, by the names of its functions; `cap_capable` is a tracepoint since
/// Linux 6.14.
fn tells_of_capabilities() -> bool {
    let names = std::fs::read_to_string("/proc/kallsyms").expect("the kernel's names");
    let has = |wanted| names.lines().any(|line| line.ends_with(wanted));
    assert!(has(" __traceiter_sys_enter"), "no tracepoints have names");
    has(" __traceiter_cap_capable")
}

/// Makes `run` happen in this process's children, and records them.
fn record(capacity: &Capacity, run: impl FnOnce()) -> Observed {
    let recorder = Recorder::load(capacity).expect("the programs load (as root)");
    let own = std::process::id();
    recorder.follow_children(own).expect("followed");
    run();
    recorder.leave(own).expect("left");
    recorder.finish().expect("read")
}

fn succeed(command: &mut Command) {
    let status = command.status().expect("ran");
    assert!(status.success(), "{command:?}: {status}");
}

fn probe(directory: &Path, name: &str, code: &[u8]) -> PathBuf {
    let path = directory.join(name);
    elf::write(&path, code);
    path
}

type Calls = BTreeMap<(Phase, Abi, u32), u64>;

/// The calls an executable made, and how often.
fn calls_of(observed: &Observed, path: &Path) -> Calls {
    let mut calls = Calls::new();
    for call in &observed.calls {
        let by = observed.executables.get(&call.site.executable);
        if by.map(Path::new) == Some(path) {
            *calls
                .entry((call.site.phase, call.site.abi, call.site.number))
                .or_default() += call.count;
        }
    }
    calls
}

#[test]
fn a_programs_calls_are_recorded_exactly_and_32_bit_ones_told_apart() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = probe(directory.path(), "probe", &elf::calls(1000, 3));
    let observed = record(&Capacity::default(), || succeed(&mut Command::new(&path)));
    assert_eq!(observed.lost.total(), 0, "{:?}", observed.lost);
    let expected = Calls::from([
        ((Phase::Startup, Abi::Native, GETPPID), 1000),
        ((Phase::Startup, Abi::Native, 231), 1), // exit_group
        ((Phase::Startup, Abi::X86, 20), 3),     // getpid
    ]);
    assert_eq!(calls_of(&observed, &path), expected);
}

#[test]
fn forks_and_other_executables_are_followed_and_strangers_are_not() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let first = probe(directory.path(), "first", &elf::calls(100, 0));
    let second = probe(directory.path(), "second", &elf::calls(10, 1));
    let stranger = probe(directory.path(), "stranger", &elf::calls(1_000_000, 0));
    let mut other = Command::new(&stranger).spawn().expect("a stranger");
    let observed = record(&Capacity::default(), || {
        let script = "for n in 1 2 3; do ( \"$0\"; \"$1\" ) & done; wait; exec \"$1\"";
        let mut shell = Command::new("sh");
        succeed(shell.args(["-c", script]).arg(&first).arg(&second));
    });
    other.wait().expect("ended");
    assert_eq!(observed.lost.total(), 0, "{:?}", observed.lost);
    let count = |path: &Path| calls_of(&observed, path)[&(Phase::Startup, Abi::Native, GETPPID)];
    assert_eq!(count(&first), 300);
    assert_eq!(count(&second), 40);
    assert_eq!(calls_of(&observed, &stranger), Calls::new());
}

#[test]
fn every_thread_counts() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = probe(directory.path(), "threads", &elf::threads(5, 1000));
    let observed = record(&Capacity::default(), || succeed(&mut Command::new(&path)));
    let calls = calls_of(&observed, &path);
    assert_eq!(calls[&(Phase::Startup, Abi::Native, GETPPID)], 5000);
    assert_eq!(calls[&(Phase::Startup, Abi::Native, 56)], 5); // clone
    assert_eq!(observed.lost.total(), 0, "{:?}", observed.lost);
}

#[test]
fn serving_begins_with_the_first_wait_after_listen() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = probe(directory.path(), "server", &elf::server());
    let observed = record(&Capacity::default(), || succeed(&mut Command::new(&path)));
    let calls = calls_of(&observed, &path);
    // A wait before listen is of the start; what follows the first wait after it is not.
    let expected = Calls::from([
        ((Phase::Startup, Abi::Native, 7), 1),  // poll
        ((Phase::Startup, Abi::Native, 50), 1), // listen
        ((Phase::Startup, Abi::Native, GETPPID), 1),
        ((Phase::Serving, Abi::Native, 7), 1),
        ((Phase::Serving, Abi::Native, 39), 1), // getpid
        ((Phase::Serving, Abi::Native, 231), 1),
    ]);
    assert_eq!(calls, expected);
}

/// A service whose socket was made by another never calls `listen`; that it accepts says enough.
#[test]
fn serving_begins_with_accept_even_without_listen() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = probe(directory.path(), "activated", &elf::activated());
    let observed = record(&Capacity::default(), || succeed(&mut Command::new(&path)));
    let expected = Calls::from([
        ((Phase::Startup, Abi::Native, GETPPID), 1),
        ((Phase::Serving, Abi::Native, 43), 1), // accept
        ((Phase::Serving, Abi::Native, 39), 1),
        ((Phase::Serving, Abi::Native, 231), 1),
    ]);
    assert_eq!(calls_of(&observed, &path), expected);
}

#[test]
fn a_mark_makes_everything_serving() {
    if !is_root() {
        return;
    }
    let recorder = Recorder::load(&Capacity::default()).expect("loaded");
    let directory = tempfile::tempdir().expect("a directory");
    let path = probe(directory.path(), "probe", &elf::calls(5, 0));
    let own = std::process::id();
    recorder.follow_children(own).expect("followed");
    succeed(&mut Command::new(&path));
    recorder.mark_serving().expect("marked");
    succeed(&mut Command::new(&path));
    let calls = calls_of(&recorder.finish().expect("read"), &path);
    assert_eq!(calls[&(Phase::Startup, Abi::Native, GETPPID)], 5);
    assert_eq!(calls[&(Phase::Serving, Abi::Native, GETPPID)], 5);
}

#[test]
fn arguments_are_kept_with_all_their_values() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = probe(directory.path(), "sockets", &elf::sockets(&[1, 2, 10, 77]));
    let observed = record(&Capacity::default(), || succeed(&mut Command::new(&path)));
    let families: Vec<u64> = observed
        .arguments
        .iter()
        .filter(|seen| seen.site.number == 41 && seen.site.phase == Phase::Startup)
        .filter(|seen| seen.index == 0)
        .map(|seen| seen.value)
        .collect();
    assert_eq!(families, [1, 2, 10, 77]);
}

#[test]
fn what_does_not_fit_is_counted_as_lost() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = probe(directory.path(), "probe", &elf::calls(3, 1));
    let small = Capacity {
        calls: 2,
        arguments: 1,
        executables: 1,
        tasks: 64,
        files: 0,
    };
    let observed = record(&small, || {
        for _ in 0..2 {
            succeed(
                Command::new("sh")
                    .args(["-c", "ls /"])
                    .stdout(Stdio::null()),
            );
        }
        succeed(&mut Command::new(&path));
    });
    let lost = observed.lost;
    assert!(
        lost.calls > 0 && lost.arguments > 0 && lost.executables > 0,
        "{lost:?}"
    );
    assert!(lost.total() >= lost.calls + lost.arguments + lost.executables);

    let few = Capacity {
        tasks: 2,
        ..Capacity::default()
    };
    // This process, a shell, and some too many.
    let observed = record(&few, || {
        succeed(
            Command::new("sh")
                .args(["-c", "true | cat | cat | cat | cat | cat; ls / | cat"])
                .stdout(Stdio::null()),
        );
    });
    assert!(observed.lost.tasks > 0, "{:?}", observed.lost);
}

/// Places are few here, so that most processes find theirs taken or left by another.
#[test]
fn processes_that_want_the_same_place_are_told_apart() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = probe(directory.path(), "probe", &elf::calls(10, 0));
    let stranger = probe(directory.path(), "stranger", &elf::calls(10, 0));
    let capacity = Capacity {
        tasks: 8,
        ..Capacity::default()
    };
    let recorder = Recorder::load(&capacity).expect("loaded");
    let own = std::process::id();
    recorder.follow_children(own).expect("followed");
    let script = "sleep 60 & n=0; while [ $n -lt 100 ]; do \"$0\"; n=$((n+1)); done; kill $!";
    let mut shell = Command::new("sh");
    let mut shell = shell.args(["-c", script]).arg(&path).spawn().expect("sh");
    recorder.leave(own).expect("left");
    for _ in 0..50 {
        succeed(&mut Command::new(&stranger));
    }
    assert!(shell.wait().expect("ended").success());
    let deadline = Instant::now() + Duration::from_secs(30);
    while recorder.following().expect("asked") != 0 {
        assert!(Instant::now() < deadline, "ended processes are followed");
        std::thread::sleep(Duration::from_millis(5));
    }
    let observed = recorder.finish().expect("read");
    assert_eq!(observed.lost.total(), 0, "{:?}", observed.lost);
    let count = |path: &Path| {
        let calls = calls_of(&observed, path);
        calls.get(&(Phase::Startup, Abi::Native, GETPPID)).copied()
    };
    assert_eq!((count(&path), count(&stranger)), (Some(1000), None));
}

/// More executables than a CPU's array of recent calls has places for one call.
#[test]
fn what_loses_its_place_among_the_recent_calls_stays_counted() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let paths: Vec<PathBuf> = (0..200u32)
        .map(|n| {
            probe(
                directory.path(),
                &format!("p{n}"),
                &elf::calls(1 + n % 3, 0),
            )
        })
        .collect();
    let observed = record(&Capacity::default(), || {
        for _ in 0..2 {
            for path in &paths {
                succeed(&mut Command::new(path));
            }
        }
    });
    assert_eq!(observed.lost.total(), 0, "{:?}", observed.lost);
    for (n, path) in (0u64..).zip(&paths) {
        let count = calls_of(&observed, path)[&(Phase::Startup, Abi::Native, GETPPID)];
        assert_eq!(count, 2 * (1 + n % 3), "{path:?}");
    }
}

#[test]
fn capabilities_are_those_the_program_needs() {
    if !is_root() {
        return;
    }
    let file = tempfile::NamedTempFile::new().expect("a file");
    let observed = record(&Capacity::default(), || {
        succeed(Command::new("chown").arg("1:1").arg(file.path()));
    });
    // What it does not know it says, rather than that nothing was needed.
    assert_eq!(observed.knows_capabilities, tells_of_capabilities());
    if !observed.knows_capabilities {
        assert!(observed.capabilities.is_empty());
        return;
    }
    assert!(observed.knows_accounting);
    let (accounting, needed): (Vec<_>, Vec<_>) = observed
        .capabilities
        .iter()
        .filter(|seen| seen.site.phase == Phase::Startup)
        .partition(|seen| seen.accounting);
    let needed: Vec<_> = needed
        .iter()
        .map(|seen: &&SeenCapability| (seen.capability, seen.granted))
        .collect();
    // CAP_CHOWN; of the memory that chown maps, CAP_SYS_ADMIN only by accounting.
    assert_eq!(needed, [(0, true)]);
    assert!(accounting.iter().all(|seen| seen.capability == 21));
    assert!(!accounting.is_empty());
}

/// The holder of a recorder, killed, takes the programs with it.
#[test]
fn a_killed_recorder_leaves_nothing_loaded() {
    if !is_root() {
        return;
    }
    const HOLDER: &str = "COFFERDAM_TEST_HOLD_A_RECORDER";
    if std::env::var_os(HOLDER).is_some() {
        let recorder = Recorder::load(&Capacity::default()).expect("loaded");
        println!("{HOLDER} {:?}", recorder.program_ids().expect("ids"));
        std::thread::sleep(Duration::from_secs(60));
        return;
    }
    let mut holder = Command::new(std::env::current_exe().expect("this test"))
        .args([
            "--exact",
            "a_killed_recorder_leaves_nothing_loaded",
            "--nocapture",
        ])
        .env(HOLDER, "1")
        .stdout(Stdio::piped())
        .spawn()
        .expect("a holder");
    let out = holder.stdout.take().expect("its output");
    let ids: Vec<u32> = std::io::BufRead::lines(std::io::BufReader::new(out))
        .map_while(Result::ok)
        .find_map(|line| {
            let (_, list) = line.split_once(HOLDER)?;
            let list = list.trim().trim_matches(['[', ']']);
            Some(list.split(", ").filter_map(|id| id.parse().ok()).collect())
        })
        .expect("the ids of its programs");
    let count = if tells_of_capabilities() { 5 } else { 4 };
    assert_eq!(ids.len(), count);
    let loaded = || {
        let is = |id: &&u32| Recorder::is_loaded(**id).expect("asked");
        ids.iter().filter(is).count()
    };
    assert_eq!(loaded(), count);
    holder.kill().expect("killed");
    holder.wait().expect("ended");
    // The kernel frees programs after a grace period.
    let deadline = Instant::now() + Duration::from_secs(30);
    while loaded() != 0 {
        assert!(Instant::now() < deadline, "programs are still loaded");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A container is looked round while it runs: what one of its processes forks before that one is
/// followed is as much of the container's phase as the process itself.
#[test]
fn a_fork_while_a_running_container_is_looked_round_is_serving() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let probe = probe(directory.path(), "probe", &elf::calls(7, 0));
    // On each line read: a subshell, which makes calls of its own and executes nothing; on the last,
    // also what executes.
    let script = "read a; (read b; kill -0 1; \"$0\") & wait; read c";
    let mut inside = Command::new("unshare")
        .args(["--pid", "--fork", "--kill-child", "sh", "-c"])
        .arg(script.replace(
            "read b",
            &format!("read b <{}/go", directory.path().display()),
        ))
        .arg(&probe)
        .stdin(Stdio::piped())
        .spawn()
        .expect("unshare");
    let go = directory.path().join("go");
    succeed(Command::new("mkfifo").arg(&go));
    let children = |pid: u32| -> Vec<u32> {
        let path = format!("/proc/{pid}/task/{pid}/children");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .collect()
    };
    let wait_for = |pid: u32| loop {
        if let [child] = children(pid)[..] {
            return child;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let init = wait_for(inside.id());
    let namespace = cofferdam_recorder::process::pid_namespace(init).expect("its namespace");
    let mut recorder = Recorder::load(&Capacity::default()).expect("loaded");
    recorder
        .follow_pid_namespace(namespace, Phase::Serving)
        .expect("followed");
    // The moment between the namespace and the look round.
    let mut input = inside.stdin.take().expect("its input");
    std::io::Write::write_all(&mut input, b"a\n").expect("told");
    wait_for(init);
    let followed = recorder
        .follow_all(Phase::Serving, || {
            cofferdam_recorder::process::group(init, Some(namespace))
        })
        .expect("looked round");
    assert_eq!(followed, 2);
    std::fs::write(&go, "b\n").expect("told");
    std::io::Write::write_all(&mut input, b"c\n").expect("told");
    drop(input);
    inside.wait().expect("ended");
    let observed = recorder.finish().expect("read");
    let early: Vec<_> = observed
        .calls
        .iter()
        .filter(|call| call.site.phase != Phase::Serving)
        .collect();
    assert!(early.is_empty(), "{early:?}");
    // kill, by the subshell, under the name of what it runs.
    let kill = observed.calls.iter().find(|call| call.site.number == 62);
    let by = observed.executables[&kill.expect("a kill").site.executable].as_str();
    assert_eq!(
        Some(by),
        std::fs::canonicalize("/bin/sh").expect("a shell").to_str()
    );
    assert_eq!(
        calls_of(&observed, &probe)[&(Phase::Serving, Abi::Native, GETPPID)],
        7
    );
}
