//! Denied calls, explained: the answers are those of the silent filter, whatever the workload does to
//! the listener or to its own memory, and nothing of it outlives the container.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::harness::{Bench, Outcome, needs_root, wait};

/// Many threads that do nothing else.
mod flood;

const POLICIES: &str = "default = \"explained\"\n[policy.explained]\ndenials = \"explain\"\n";

/// A bench whose containers run `denied` under a policy that explains.
fn bench(args: &[&str]) -> Bench {
    let bench = Bench::new(&[]);
    let denied = Path::new(env!("CARGO_BIN_EXE_cofferdam")).with_file_name("examples/denied");
    fs::copy(denied, bench.bundle().join("rootfs/bin/denied")).unwrap();
    fs::write(bench.path("policy.toml"), POLICIES).unwrap();
    program(&bench, args);
    bench
}

fn program(bench: &Bench, args: &[&str]) {
    let args: Vec<&str> = ["/bin/denied"].iter().chain(args).copied().collect();
    bench.configure(|spec| spec["process"]["args"] = json!(args));
}

fn command(bench: &Bench, args: &[&str]) -> std::process::Command {
    let mut command = bench.command(args);
    command
        .env("COFFERDAM_POLICY_FILE", bench.path("policy.toml"))
        .env("COFFERDAM_LOGS", bench.path("logs"));
    command
}

fn run(bench: &Bench, args: &[&str]) -> Outcome {
    bench.finish(command(bench, args))
}

/// Every line of a container's log; each must be JSON.
fn lines(bench: &Bench, id: &str) -> Vec<Value> {
    let text = run(bench, &["denials", "--format", "json", id]).ok();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// How many calls the lines speak of, and what the last one says of all.
fn counted(lines: &[Value]) -> (u64, u64) {
    let one = |line: &Value| line["count"].as_u64().unwrap_or(1);
    let totals = lines.iter().map(|line| line["total"].as_u64().unwrap());
    (lines.iter().map(one).sum(), totals.max().unwrap_or(0))
}

#[test]
fn every_errno_is_the_silent_filters() {
    if !needs_root() {
        return;
    }
    let bench = bench(&["table"]);
    let explained = run(&bench, &["run", "explained"]).ok();
    let silent = run(&bench, &["--policy", "baseline", "run", "silent"]).ok();
    assert_eq!(explained, silent);
    let of = |errno: &str| silent.lines().filter(|line| line.ends_with(errno)).count();
    assert!(of(" -1") > 20 && of(" -38") > 2, "{silent}");
    let lines = lines(&bench, "explained");
    let (sum, total) = counted(&lines);
    assert_eq!(sum, total);
    assert!(total > 50, "{total}");
    let names: Vec<&str> = lines
        .iter()
        .filter_map(|line| line["syscall"].as_str())
        .collect();
    for name in ["swapon", "mount", "syscall_1073741823"] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    bench.assert_nothing_left("explained");
}

#[test]
fn a_denial_says_who_what_why_and_what_to_change() {
    if !needs_root() {
        return;
    }
    let bench = bench(&["hostile"]);
    let answers = run(&bench, &["run", "c"]).ok();
    for line in answers.lines() {
        assert!(line.ends_with("[-1, -1, -1, -1]"), "{line}");
    }
    let lines = lines(&bench, "c");
    let (sum, total) = counted(&lines);
    assert_eq!((sum, total), (40, 40));
    let mount = lines
        .iter()
        .find(|line| line["syscall"] == "mount")
        .unwrap();
    assert_eq!(mount["container"], "c");
    assert_eq!(mount["executable"], "/bin/denied");
    assert_eq!(mount["errno"], "EPERM");
    assert_eq!(mount["cause"]["by"], "default");
    assert_eq!(mount["cause"]["edit"]["add"]["names"], json!(["mount"]));
    let text = run(&bench, &["denials", "c"]).ok();
    assert!(text.contains("to allow it: allow mount"), "{text}");
    let control = |c: char| c != '\n' && c.is_control();
    assert!(!text.contains(control), "{text:?}");
    assert!(
        text.contains("(unreadable)") && text.contains("NULL"),
        "{text}"
    );
    bench.assert_nothing_left("hostile");
}

#[test]
fn changing_the_memory_changes_the_log_and_never_the_answer() {
    if !needs_root() {
        return;
    }
    let bench = bench(&["race", "2000"]);
    assert_eq!(run(&bench, &["run", "c"]).ok(), "{-1} true\n");
    // The C library asks for calls of its own when it makes a thread, and goes without.
    let mut lines = lines(&bench, "c");
    lines.retain(|line| line["syscall"] == "mount");
    assert_eq!(counted(&lines).0, 2000);
}

/// The listener's processes of a bench: those that run the verb with its state directory.
fn listeners(bench: &Bench) -> Vec<Pid> {
    let root = bench.root();
    let of = |pid: &str| {
        let line = fs::read(Path::new("/proc").join(pid).join("cmdline")).ok()?;
        let text = String::from_utf8_lossy(&line).into_owned();
        let ours = text.contains("denials-listener") && text.contains(root.to_str()?);
        ours.then(|| Pid::from_raw(pid.parse().unwrap_or(0)))
    };
    let mut found: Vec<Pid> = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| of(&entry.file_name().to_string_lossy()))
        .collect();
    found.sort();
    found
}

/// The keeper and its worker.
fn keeper_and_worker(bench: &Bench) -> (Pid, Pid) {
    let start = Instant::now();
    loop {
        let found = listeners(bench);
        let parent = |pid: Pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            stat.rsplit(')')
                .next()?
                .split_whitespace()
                .nth(1)?
                .parse::<i32>()
                .ok()
        };
        for worker in &found {
            let keeper = found
                .iter()
                .find(|keeper| parent(*worker) == Some(keeper.as_raw()));
            if let Some(keeper) = keeper {
                return (*keeper, *worker);
            }
        }
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "no listener: {found:?}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Starts a container in the background; its output goes to the path.
fn spawn(bench: &Bench, id: &str) -> (Child, PathBuf) {
    let out = bench.path(&format!("{id}.out"));
    let child = command(bench, &["run", id])
        .stdout(fs::File::create(&out).unwrap())
        .spawn()
        .unwrap();
    (child, out)
}

/// Waits until the container has made its first denied call.
fn begun(out: &Path) {
    let start = Instant::now();
    while !fs::read_to_string(out).unwrap().starts_with("-1\n") {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "it does not begin"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What each of four own listeners is answered: EBUSY.
const REFUSED: &str = "0x8 -16\n0x9 -16\n0x28 -16\n0x38 -16\n";

#[test]
fn a_killed_listener_is_replaced_and_the_answers_stay() {
    if !needs_root() {
        return;
    }
    for (what, keeper_too) in [("the worker", false), ("the keeper", true)] {
        let bench = bench(&["later", "3000"]);
        let (child, out) = spawn(&bench, "c");
        begun(&out);
        for _ in 0..5 {
            let (keeper, worker) = keeper_and_worker(&bench);
            kill(if keeper_too { keeper } else { worker }, Signal::SIGKILL).unwrap();
            std::thread::sleep(Duration::from_millis(100));
        }
        assert!(wait(child).success(), "{what}");
        let text = fs::read_to_string(&out).unwrap();
        let answers = text.lines().nth(1).unwrap();
        assert!(answers.starts_with("{-1} "), "{what}: {text}");
        assert!(text.ends_with(REFUSED), "{what}: {text}");
        bench.assert_nothing_left(what);
        let (sum, total) = counted(&lines(&bench, "c"));
        // Killed between a line and the note that it is written, it is counted twice.
        assert!(
            (total..total + 6).contains(&sum),
            "{what}: {sum} of {total}"
        );
    }
}

/// A worker that makes no progress, whatever keeps it, is replaced.
#[test]
fn a_worker_that_hangs_is_replaced() {
    if !needs_root() {
        return;
    }
    let bench = bench(&["later", "9000"]);
    let (child, out) = spawn(&bench, "c");
    begun(&out);
    let (_, worker) = keeper_and_worker(&bench);
    kill(worker, Signal::SIGSTOP).unwrap();
    let start = Instant::now();
    while listeners(&bench).contains(&worker) {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "it is still there"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(wait(child).success());
    let text = fs::read_to_string(&out).unwrap();
    assert!(text.lines().nth(1).unwrap().starts_with("{-1} "), "{text}");
    bench.assert_nothing_left("hanging");
}

/// With nobody left to ask the kernel answers ENOSYS: at once, and never with a pass; and the
/// workload cannot put a listener of its own in the place.
#[test]
fn without_any_listener_calls_fail_at_once_and_none_can_be_installed() {
    if !needs_root() {
        return;
    }
    let bench = bench(&["later", "2000"]);
    let (child, out) = spawn(&bench, "c");
    begun(&out);
    let (keeper, worker) = keeper_and_worker(&bench);
    // Stopped first, so that neither sees the end of the other.
    for pid in [keeper, worker] {
        kill(pid, Signal::SIGSTOP).unwrap();
    }
    for pid in [keeper, worker] {
        kill(pid, Signal::SIGKILL).unwrap();
    }
    assert!(wait(child).success());
    let text = fs::read_to_string(&out).unwrap();
    let answers = text.lines().nth(1).unwrap();
    assert!(
        answers.starts_with("{-38, -1} ") || answers.starts_with("{-38} "),
        "{text}"
    );
    assert!(text.ends_with(REFUSED), "{text}");
    bench.assert_nothing_left("no listener");
}

/// A 64-bit program may call by `int 0x80`, where numbers mean other calls.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_call_by_the_32_bit_way_is_named_as_such() {
    if !needs_root() {
        return;
    }
    let bench = bench(&["compat"]);
    let explained = run(&bench, &["run", "c"]).ok();
    let silent = run(&bench, &["--policy", "baseline", "run", "silent"]).ok();
    assert_eq!(explained, silent);
    let lines = lines(&bench, "c");
    let of = |name: &str| {
        let found = lines.iter().find(|line| line["syscall"] == name);
        found.unwrap_or_else(|| panic!("{name}: {lines:?}"))
    };
    let (swapon, socketcall) = (of("swapon"), of("socketcall"));
    assert_eq!(
        (&swapon["architecture"], &swapon["number"]),
        (&json!("x86"), &json!(87))
    );
    assert_eq!(swapon["arguments"][0]["meaning"], "\"/x\"");
    assert_eq!(socketcall["architecture"], "x86");
    assert_eq!(socketcall["arguments"][0]["meaning"], "socket");
    assert_eq!(
        socketcall["arguments"][1]["meaning"],
        "{family=AF_VSOCK, type=SOCK_STREAM, protocol=0x0}"
    );
    let edit = socketcall["cause"]["edit"]["text"].as_str().unwrap();
    assert!(edit.contains("every socket family"), "{edit}");
    bench.assert_nothing_left("compat");
}

/// A process that joins has a listener of its own behind the very same program.
#[test]
fn a_joined_process_is_explained_too() {
    if !needs_root() {
        return;
    }
    let bench = bench(&[]);
    bench.configure(|spec| spec["process"]["args"] = json!(["/bin/sleep", "1000"]));
    run(&bench, &["create", "c"]).ok();
    run(&bench, &["start", "c"]).ok();
    let followed = bench.path("followed");
    let follower = command(&bench, &["denials", "--follow", "c"])
        .stdout(fs::File::create(&followed).unwrap())
        .spawn()
        .unwrap();
    let answer = run(&bench, &["exec", "c", "/bin/denied", "flood", "1"]).ok();
    assert!(answer.starts_with("{-1} "), "{answer}");
    let own = run(&bench, &["exec", "c", "/bin/denied", "listener"]).ok();
    assert_eq!(own, REFUSED);
    let shown = run(&bench, &["inspect", "--filter", "c"]).ok();
    assert!(shown.contains("explained"), "{shown}");
    assert!(!shown.contains("NOT one of those"), "{shown}");
    let lines = lines(&bench, "c");
    assert!(
        lines.iter().any(|line| line["syscall"] == "swapoff"),
        "{lines:?}"
    );
    run(&bench, &["delete", "--force", "c"]).ok();
    assert!(wait(follower).success());
    let followed = fs::read_to_string(&followed).unwrap();
    assert!(
        followed.contains("swapoff(path=NULL) = EPERM"),
        "{followed}"
    );
    bench.assert_nothing_left("exec");
    assert_eq!(listeners(&bench), []);
}

#[test]
fn a_silent_container_has_no_listener_and_says_so() {
    if !needs_root() {
        return;
    }
    let bench = bench(&["flood", "3"]);
    bench.configure(|spec| spec["process"]["args"] = json!(["/bin/sleep", "1000"]));
    run(&bench, &["--policy", "baseline", "create", "c"]).ok();
    assert_eq!(listeners(&bench), []);
    let refused = run(&bench, &["denials", "c"]);
    assert_eq!(refused.code(), 1);
    assert!(
        refused.stderr.contains("denials = \\\"explain\\\"")
            || refused.stderr.contains("denials = \"explain\""),
        "{}",
        refused.stderr
    );
    let unknown = run(&bench, &["denials", "nobody"]);
    assert!(
        unknown.stderr.contains("does not exist"),
        "{}",
        unknown.stderr
    );
    run(&bench, &["delete", "--force", "c"]).ok();
    bench.assert_nothing_left("silent");
}

#[test]
fn a_create_that_fails_leaves_no_listener() {
    if !needs_root() {
        return;
    }
    let bench = bench(&[]);
    bench.configure(|spec| spec["process"]["args"] = json!(["/bin/nothing"]));
    let failed = run(&bench, &["create", "c"]);
    assert!(failed.stderr.contains("no such file"), "{}", failed.stderr);
    assert_eq!(listeners(&bench), []);
    bench.assert_nothing_left("failed create");
}

/// Where no_new_privs is off the filter is attached early, with much left to do.
#[test]
fn without_no_new_privileges_it_is_the_same() {
    if !needs_root() {
        return;
    }
    let bench = bench(&["flood", "7"]);
    let policies = format!("{POLICIES}no_new_privileges = false\n");
    fs::write(bench.path("policy.toml"), policies).unwrap();
    bench.configure(|spec| spec["process"]["noNewPrivileges"] = json!(false));
    let answer = run(&bench, &["run", "c"]).ok();
    assert!(answer.starts_with("{-1} "), "{answer}");
    assert_eq!(counted(&lines(&bench, "c")), (7, 7));
    bench.assert_nothing_left("early");
}

/// A filter that denies what the hand-over itself needs: nothing waits for nobody.
#[test]
fn a_profile_that_denies_nearly_everything_does_not_hang() {
    if !needs_root() {
        return;
    }
    let bench = bench(&["flood", "3"]);
    let policies = format!("{POLICIES}seccomp = \"engine\"\n");
    fs::write(bench.path("policy.toml"), policies).unwrap();
    let allowed = [
        "execve",
        "exit_group",
        "write",
        "brk",
        "mmap",
        "munmap",
        "mprotect",
        "arch_prctl",
        "set_tid_address",
        "set_robust_list",
        "rseq",
        "prlimit64",
        "readlinkat",
        "getrandom",
        "rt_sigaction",
        "sigaltstack",
        "poll",
        "newfstatat",
        "clock_gettime",
    ];
    bench.configure(|spec| {
        spec["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 13,
            "syscalls": [
                {"names": allowed, "action": "SCMP_ACT_ALLOW"},
                {"names": ["swapoff"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77},
            ],
        });
    });
    let answer = run(&bench, &["run", "c"]).ok();
    assert!(answer.starts_with("{-77} "), "{answer}");
    let lines = lines(&bench, "c");
    let swapoff = lines
        .iter()
        .find(|line| line["syscall"] == "swapoff")
        .unwrap();
    assert_eq!(swapoff["cause"]["by"], "rule");
    assert_eq!(swapoff["cause"]["index"], 1);
    assert_eq!(
        swapoff["cause"]["edit"]["remove"],
        json!({"rule": 1, "name": "swapoff"})
    );
    assert_eq!(swapoff["errno"], "EBADFD");
    bench.assert_nothing_left("narrow");
}
