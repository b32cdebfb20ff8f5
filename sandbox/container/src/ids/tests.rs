//! Ranges never overlap, and those of the dead come back.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt as _;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// Far from what any host gives its users: a range that somebody's process has does not come back.
const BASE: u32 = 3_700_000_000;

fn some(count: u32) -> Ranges {
    let text = format!("cofferdam:{BASE}:{}\n", count * SIZE);
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
    taken[7].release(&container).unwrap();
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
                    let index = ((lease.first - BASE) / SIZE) as usize;
                    assert_eq!(holders[index].fetch_add(1, Ordering::SeqCst), 0);
                    holders[index].fetch_sub(1, Ordering::SeqCst);
                    lease.release(container).unwrap();
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

/// A process with the ids of a container whose state is gone went on, and the next container got them. The
/// one after that had them without anybody looking.
#[test]
fn a_range_does_not_come_back_while_a_process_has_its_ids() {
    if !nix::unistd::geteuid().is_root() {
        assert!(
            std::env::var_os("COFFERDAM_REQUIRE_ROOT").is_none_or(|v| v != "1"),
            "COFFERDAM_REQUIRE_ROOT is set, but this test needs root"
        );
        println!("SKIPPED: needs root to start a process of another user");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let ids = dir.path().join("ids");
    let alive = living(dir.path(), "alive");
    let gone = dir.path().join("gone");
    // Beyond what the other tests take: theirs are to come back.
    let first = BASE + 2000 * SIZE;
    let text = format!("cofferdam:{first}:{}\n", 2 * SIZE);
    let ranges = Ranges::of(&text, &text).unwrap();
    let leases = ["1", "2"].map(|token| take(&ids, &ranges, &gone, token).unwrap());
    let [kept, _] = &leases;
    kept.may_leave_processes().unwrap();
    let mut command = std::process::Command::new("/bin/sleep");
    let mut left = command
        .arg("60")
        .uid(kept.first + LAST)
        .gid(kept.first)
        .spawn()
        .unwrap();
    // The control: only the range that has a process is kept.
    let other = take(&ids, &ranges, &alive, "3").unwrap();
    assert_ne!(other.first, kept.first);
    let none = take(&ids, &ranges, &alive, "4").unwrap_err();
    assert!(matches!(none, IdsError::Exhausted { count: 2 }), "{none}");
    // Its delete still finds what it held, and looks.
    assert_eq!(held_by(&ids, &gone).unwrap(), [(kept.first, true)]);
    assert!(may_be_in_use(&ids, kept.first));
    // Killed, it has ended, whether or not its parent has taken note.
    left.kill().unwrap();
    let ended = || {
        crate::state::process_stat(left.id().cast_signed())
            .unwrap()
            .has_ended()
    };
    while !ended() {
        std::thread::yield_now();
    }
    let next = take(&ids, &ranges, &alive, "5").unwrap();
    assert_eq!(next.first, kept.first);
    assert!(!may_be_in_use(&ids, next.first));
    left.wait().unwrap();
}

/// A range without a holder may be one whose cleaner was killed before it went.
#[test]
fn giving_back_one_range_leaves_those_of_others() {
    let dir = tempfile::tempdir().unwrap();
    let ids = dir.path().join("ids");
    let container = living(dir.path(), "c");
    let lease = take(&ids, &some(2), &container, "1").unwrap();
    let unheld = ids.join((BASE + 3 * SIZE).to_string());
    fs::create_dir(&unheld).unwrap();
    unbind(&unheld).unwrap();
    release_of(&ids, &container).unwrap();
    assert!(!ids.join(lease.first.to_string()).exists());
    assert!(may_be_in_use(&ids, BASE + 3 * SIZE) && unheld.exists());
}

#[test]
fn a_shared_range_is_free_when_the_last_holder_gives_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let ids = dir.path().join("ids");
    let container = living(dir.path(), "c");
    let ranges = some(1);
    let one = take(&ids, &ranges, &container, "1").unwrap();
    let two = share(&ids, one.first, &container, "2").unwrap().unwrap();
    one.release(&container).unwrap();
    assert!(take(&ids, &ranges, &container, "3").is_err());
    two.release(&container).unwrap();
    two.release(&container).unwrap();
    assert!(take(&ids, &ranges, &container, "3").is_ok());
    assert!(share(&ids, 77, &container, "4").unwrap().is_none());
}

/// `/etc/subuid` was edited while containers ran: a range by the new numbers must not reach into one by
/// the old.
#[test]
fn ranges_of_another_alignment_do_not_overlap() {
    let dir = tempfile::tempdir().unwrap();
    let ids = dir.path().join("ids");
    let container = living(dir.path(), "c");
    let old = some(4);
    let text = format!("cofferdam:{}:{}\n", BASE + SIZE / 2, 4 * SIZE);
    let new = Ranges::of(&text, &text).unwrap();
    let first = take(&ids, &old, &container, "old").unwrap();
    let mut held = vec![first.first];
    for number in 0.. {
        match take(&ids, &new, &container, &format!("new-{number}")) {
            Ok(lease) => held.push(lease.first),
            Err(error) => {
                assert!(matches!(error, IdsError::Exhausted { .. }), "{error}");
                break;
            }
        }
    }
    held.sort_unstable();
    // The control: by their names all four of the new ranges are free.
    assert!(held.len() < 5, "{held:?}");
    for pair in held.windows(2) {
        assert!(pair[1] - pair[0] >= SIZE, "{held:?}");
    }
    // Nothing is left of those that were tried.
    assert_eq!(fs::read_dir(&ids).unwrap().count(), held.len());
    first.release(&container).unwrap();
    assert!(take(&ids, &new, &container, "again").is_ok());
}

#[test]
fn ranges_of_two_alignments_taken_at_the_same_time_do_not_overlap() {
    let dir = tempfile::tempdir().unwrap();
    let ids = dir.path().join("ids");
    let container = living(dir.path(), "c");
    let text = format!("cofferdam:{}:{}\n", BASE + SIZE / 2, 6 * SIZE);
    let all = [some(6), Ranges::of(&text, &text).unwrap()];
    let halves: Vec<AtomicU32> = (0..14).map(|_| AtomicU32::new(0)).collect();
    std::thread::scope(|scope| {
        for worker in 0..6 {
            let (ids, container, all, halves) = (&ids, &container, &all, &halves);
            scope.spawn(move || {
                for round in 0..200 {
                    let token = format!("{worker}-{round}");
                    // The other kind may have it all at the moment.
                    let Ok(lease) = take(ids, &all[worker % 2], container, &token) else {
                        continue;
                    };
                    let index = ((lease.first - BASE) / (SIZE / 2)) as usize;
                    for half in &halves[index..index + 2] {
                        assert_eq!(half.fetch_add(1, Ordering::SeqCst), 0);
                    }
                    for half in &halves[index..index + 2] {
                        half.fetch_sub(1, Ordering::SeqCst);
                    }
                    lease.release(container).unwrap();
                }
            });
        }
    });
}

/// After a reboot the list of holders is empty, and the state of a container may still be there; another
/// one has its range by now, by the same process number and start.
#[test]
fn a_stale_state_gives_back_nothing_of_anothers() {
    let dir = tempfile::tempdir().unwrap();
    let ids = dir.path().join("ids");
    let ranges = some(1);
    let stale = dir.path().join("stale");
    let old = take(&ids, &ranges, &stale, "77-1").unwrap();
    fs::remove_dir_all(&ids).unwrap();
    let container = living(dir.path(), "c");
    let new = take(&ids, &ranges, &container, "77-1").unwrap();
    assert_eq!(old, new);
    old.release(&stale).unwrap();
    assert!(take(&ids, &ranges, &container, "77-2").is_err());
    assert_eq!(held_by(&ids, &container).unwrap(), [(new.first, true)]);
    assert!(held_by(&ids, &stale).unwrap().is_empty());
    new.release(&container).unwrap();
    assert!(take(&ids, &ranges, &container, "77-2").is_ok());
}
