//! Ranges never overlap, and those of the dead come back.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

fn some(count: u32) -> Ranges {
    let text = format!("cofferdam:1000000:{}\n", count * SIZE);
    Ranges::of(&text, &text).unwrap()
}

/// A state directory whose creator is this process.
fn living(root: &Path, name: &str) -> PathBuf {
    let directory = root.join(name);
    fs::create_dir_all(&directory).unwrap();
    let pid = nix::unistd::Pid::this().as_raw();
    let start = crate::state::process_stat(pid).unwrap().start;
    write_state(&directory, name, pid, start);
    directory
}

fn write_state(directory: &Path, name: &str, pid: i32, start: u64) {
    let state = serde_json::json!({
        "oci_version": "1.0.2", "id": name, "pid": null, "pid_start_time": 0,
        "creator": [pid, start], "bundle": "/b", "rootfs": "/r", "created": "", "owner": "root",
        "cgroup": null, "seccomp": [], "annotations": {}, "late_hooks": false,
    });
    fs::write(directory.join("intent.json"), state.to_string()).unwrap();
}

#[test]
fn a_thousand_at_once_have_ranges_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let ids = dir.path().join("ids");
    let container = living(dir.path(), "c");
    let ranges = some(1000);
    let next = AtomicU32::new(0);
    let work = || {
        let mut taken = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= 1000 {
                return taken;
            }
            taken.push(take(&ids, &ranges, &container, &format!("{number}-1")).unwrap());
        }
    };
    let taken: Vec<Lease> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..16).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap())
            .collect()
    });
    let firsts: BTreeSet<u32> = taken.iter().map(|lease| lease.first).collect();
    assert_eq!(firsts.len(), 1000);
    let none = take(&ids, &ranges, &container, "late").unwrap_err();
    assert!(
        matches!(none, IdsError::Exhausted { count: 1000 }),
        "{none}"
    );
    taken[7].release().unwrap();
    let again = take(&ids, &ranges, &container, "late").unwrap();
    assert_eq!(again.first, taken[7].first);
}

/// Taking and giving back at the same time: whoever holds a range holds it alone.
#[test]
fn a_range_that_comes_back_has_one_holder_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let ids = dir.path().join("ids");
    let container = living(dir.path(), "c");
    let ranges = some(8);
    let holders: Vec<AtomicU32> = (0..8).map(|_| AtomicU32::new(0)).collect();
    std::thread::scope(|scope| {
        for worker in 0..6 {
            let (ids, container, ranges, holders) = (&ids, &container, &ranges, &holders);
            scope.spawn(move || {
                for round in 0..300 {
                    let token = format!("{worker}-{round}");
                    let lease = take(ids, ranges, container, &token).unwrap();
                    let index = ((lease.first - 1_000_000) / SIZE) as usize;
                    assert_eq!(holders[index].fetch_add(1, Ordering::SeqCst), 0);
                    holders[index].fetch_sub(1, Ordering::SeqCst);
                    lease.release().unwrap();
                }
            });
        }
    });
    assert_eq!(fs::read_dir(&ids).unwrap().count(), 0);
}

#[test]
fn ranges_of_the_dead_come_back_and_those_of_the_living_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let ids = dir.path().join("ids");
    let ranges = some(4);
    let alive = living(dir.path(), "alive");
    let gone = dir.path().join("gone");
    // The number of a process that cannot be, as far as its start goes.
    let dead = living(dir.path(), "dead");
    write_state(&dead, "dead", 1, u64::MAX);
    let damaged = living(dir.path(), "damaged");
    fs::write(damaged.join("intent.json"), "{").unwrap();
    let kept = take(&ids, &ranges, &alive, "1").unwrap();
    let mut free = BTreeSet::new();
    free.insert(take(&ids, &ranges, &gone, "2").unwrap().first);
    free.insert(take(&ids, &ranges, &dead, "3").unwrap().first);
    let unsure = take(&ids, &ranges, &damaged, "4").unwrap();
    // A range that was being given back when its holder was killed.
    let mut found = BTreeSet::new();
    found.insert(take(&ids, &ranges, &alive, "5").unwrap().first);
    found.insert(take(&ids, &ranges, &alive, "6").unwrap().first);
    assert_eq!(found, free);
    assert!(!found.contains(&kept.first) && !found.contains(&unsure.first));
    assert!(take(&ids, &ranges, &alive, "7").is_err());
}

#[test]
fn a_shared_range_is_free_when_the_last_holder_gives_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let ids = dir.path().join("ids");
    let container = living(dir.path(), "c");
    let ranges = some(1);
    let one = take(&ids, &ranges, &container, "1").unwrap();
    let two = share(&ids, one.first, &container, "2").unwrap().unwrap();
    one.release().unwrap();
    assert!(take(&ids, &ranges, &container, "3").is_err());
    two.release().unwrap();
    two.release().unwrap();
    assert!(take(&ids, &ranges, &container, "3").is_ok());
    assert!(share(&ids, 77, &container, "4").unwrap().is_none());
}
