//! Many threads of a container that make nothing but denied calls: all are answered and counted, in memory that
//! does not grow, and whatever becomes of the listener.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::{bench, counted, keeper_and_worker, lines, listeners, program, spawn};
use crate::harness::{Bench, needs_root, wait};

/// Private memory of a process, in kB: what it would give back if it ended.
fn private(pid: Pid) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("Private_"));
    lines
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .sum()
}

/// Answers and how often each was given, of both processes of a `storm`.
fn stormed(text: &str) -> BTreeMap<i64, u64> {
    let mut all = BTreeMap::new();
    for line in text.lines() {
        let inside = line.strip_prefix('{').unwrap().split('}').next().unwrap();
        for pair in inside.split(", ") {
            let (answer, count) = pair.split_once(": ").unwrap();
            *all.entry(answer.parse().unwrap()).or_default() += count.parse::<u64>().unwrap();
        }
    }
    all
}

const THREADS: u64 = 16;

/// Runs a flood from many threads; `during` runs beside it, again and again, from when its first call was
/// answered. A listener that ends before it got the container's calls is an error of `run`.
fn storm(bench: &Bench, each: u64, mut during: impl FnMut()) -> BTreeMap<i64, u64> {
    program(bench, &["storm", &THREADS.to_string(), &each.to_string()]);
    let (mut child, out) = spawn(bench, "c");
    let mut begun = false;
    while child.try_wait().unwrap().is_none() {
        begun = begun || text_below(&bench.path("logs")).contains("swapoff");
        if begun {
            during();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(wait(child).success());
    stormed(&fs::read_to_string(&out).unwrap())
}

/// Of very many denied calls every one is answered and counted. What the listener has in memory does not
/// follow their number: it is what it was after the first part of them.
#[test]
fn a_flood_is_counted_exactly_in_memory_that_does_not_grow() {
    if !needs_root() {
        return;
    }
    const EACH: u64 = 25_000;
    let bench = bench(&[]);
    let mut sizes = Vec::new();
    let mut pids = None;
    let answers = storm(&bench, EACH, || {
        let (keeper, worker) = *pids.get_or_insert_with(|| keeper_and_worker(&bench));
        // From when all there is to say has been said once, and counts are all that is written.
        if text_below(&bench.path("logs")).contains("\"suppressed\"") {
            sizes.push(private(keeper) + private(worker));
        }
    });
    assert_eq!(answers, BTreeMap::from([(-1, EACH * THREADS)]));
    // The C library asks for calls of its own when it makes a thread, and goes without.
    let lines = lines(&bench, "c");
    let (sum, total) = counted(&lines);
    assert_eq!(sum, total);
    let swapoff: Vec<Value> = lines
        .into_iter()
        .filter(|line| line["syscall"] == "swapoff")
        .collect();
    assert_eq!(counted(&swapoff).0, EACH * THREADS);
    // At the very end they are gone.
    sizes.retain(|size| *size > 0);
    let (early, late) = (sizes[0], *sizes.iter().max().unwrap());
    assert!(sizes.len() > 10, "the flood was over at once: {sizes:?}");
    assert!(late < early + 512, "{early} kB, then {late} kB");
    assert!(late < 16 * 1024, "{late} kB");
    let size: u64 = walk(&bench.path("logs"));
    // A line for each second and each kind of call, and never more than the two files hold.
    assert!(size <= 1024 * 1024, "{size} bytes of log");
    bench.assert_nothing_left("flood");
}

/// Both processes are killed while many threads wait: each gets an errno at once, and so does whoever
/// asks later.
#[test]
fn a_flood_outlives_its_listener() {
    if !needs_root() {
        return;
    }
    const EACH: u64 = 50_000;
    let bench = bench(&[]);
    let mut rounds = 0;
    let answers = storm(&bench, EACH, || {
        rounds += 1;
        if rounds == 10 {
            let (keeper, worker) = keeper_and_worker(&bench);
            for pid in [keeper, worker] {
                let _ = kill(pid, Signal::SIGSTOP);
            }
            for pid in [keeper, worker] {
                let _ = kill(pid, Signal::SIGKILL);
            }
        }
    });
    assert!(rounds > 10, "the flood was over before the listener");
    assert!(
        answers.keys().all(|answer| [-1, -38].contains(answer)),
        "{answers:?}"
    );
    assert!(answers.contains_key(&-38), "{answers:?}");
    assert_eq!(answers.values().sum::<u64>(), EACH * THREADS);
    bench.assert_nothing_left("flood without a listener");
}

/// The worker dies again and again while many threads wait: every answer is the filter's, and no call is lost.
#[test]
fn a_flood_does_not_notice_that_the_worker_is_replaced() {
    if !needs_root() {
        return;
    }
    const EACH: u64 = 20_000;
    let bench = bench(&[]);
    let (mut rounds, mut killed) = (0, 0);
    let answers = storm(&bench, EACH, || {
        rounds += 1;
        if rounds % 5 == 0 && killed < 8 && listeners(&bench).len() == 2 {
            let (_, worker) = keeper_and_worker(&bench);
            killed += u64::from(kill(worker, Signal::SIGKILL).is_ok());
        }
    });
    assert_eq!(answers, BTreeMap::from([(-1, EACH * THREADS)]));
    assert!(killed > 0);
    let (sum, total) = counted(&lines(&bench, "c"));
    // Killed between a line and the note that it is written, it is counted twice.
    assert!(total >= EACH * THREADS && sum >= total, "{sum} of {total}");
    bench.assert_nothing_left("flood and kills");
}

/// Every file below a directory, one after the other.
fn text_below(path: &Path) -> String {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => text_below(&entry.path()),
            _ => fs::read_to_string(entry.path()).unwrap_or_default(),
        })
        .collect()
}

fn walk(path: &Path) -> u64 {
    let entries = fs::read_dir(path).unwrap().flatten();
    entries
        .map(|entry| match entry.metadata().unwrap() {
            found if found.is_dir() => walk(&entry.path()),
            found => found.len(),
        })
        .sum()
}
