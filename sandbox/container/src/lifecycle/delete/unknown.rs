//! The processes of a container whose state is lost: those in the cgroup that it was to get, and those
//! that have user ids which it holds alone.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use super::{PATIENCE, failed};
use crate::cgroup::Cgroup;
use crate::error::DeleteError;
use crate::ids;
use crate::state::{self, State};
use crate::sys::pidfd;

/// Kills them and waits until they have ended.
pub(super) fn end(directory: &Path, intent: Option<&State>) -> Result<(), DeleteError> {
    if let Some(location) = intent.and_then(|state| state.cgroup.as_ref()) {
        Cgroup::open(location)?.kill_all()?;
    }
    let held = ids::held_by(Path::new(ids::DIRECTORY), directory)
        .map_err(failed("look for the container's user ids"))?;
    for (first, alone) in held {
        // The others of a pod have them too: then the ids stay taken as long as those live.
        if alone {
            end_users(directory, first, |_, _| true)?;
        }
    }
    Ok(())
}

/// Kills the processes that still have the ids from `first` on, if the container is the last to hold those:
/// some of a container without a cgroup that outlived its init, or of one of the pod whose state was lost.
/// Every process of the machine is looked at for that, so only where there may be such.
pub(super) fn end_left(held_in: &Path, directory: &Path, first: u32) -> Result<(), DeleteError> {
    if !ids::may_be_in_use(held_in, first) {
        return Ok(());
    }
    let mut holders = ids::holders(held_in, first).peekable();
    // What is held by nobody, after a restart of the machine, is not this container's.
    if holders.peek().is_none() || holders.any(|holder| holder != directory) {
        return Ok(());
    }
    end_users(directory, first, may_have_id)
}

/// Kills who has the ids among the processes that `may` have them.
fn end_users(directory: &Path, first: u32, may: fn(i32, u32) -> bool) -> Result<(), DeleteError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let users = users(first, may).map_err(failed("look for the container's processes"))?;
        if users.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let id = directory.file_name().unwrap_or_default();
            let id = id.to_string_lossy().into_owned();
            return Err(DeleteError::Unkillable { id });
        }
        for pid in users {
            kill(pid, first).map_err(failed("kill a process"))?;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Kills a process, if it still is one of those: the number may be another's by now.
fn kill(pid: Pid, first: u32) -> io::Result<()> {
    let gone = |error: &io::Error| error.raw_os_error() == Some(libc::ESRCH);
    let process = match pidfd::open(pid) {
        Err(error) if gone(&error) => return Ok(()),
        other => other?,
    };
    if !has_id(pid, first) {
        return Ok(());
    }
    match pidfd::signal(&process, libc::SIGKILL) {
        Err(error) if !gone(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Every process that lives and has one of the ids, among those that `may` have them.
fn users(first: u32, may: fn(i32, u32) -> bool) -> io::Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let lives = || state::process_stat(pid).is_ok_and(|stat| !stat.has_ended());
        if may(pid, first) && has_id(Pid::from_raw(pid), first) && lives() {
            found.push(Pid::from_raw(pid));
        }
    }
    Ok(found)
}

/// By the owner of a process's directory, which is known without reading: its effective user. One that cannot
/// be dumped, as on its way into a container, belongs to root.
fn may_have_id(pid: i32, first: u32) -> bool {
    let owner = fs::metadata(format!("/proc/{pid}")).map(|found| found.uid());
    owner.is_ok_and(|owner| is_in(owner, first))
}

fn is_in(id: u32, first: u32) -> bool {
    id.checked_sub(first).is_some_and(|id| id <= ids::LAST)
}

fn has_id(pid: Pid, first: u32) -> bool {
    let Ok(status) = fs::read(format!("/proc/{pid}/status")) else {
        return false;
    };
    is_one_of(&String::from_utf8_lossy(&status), first)
}

fn is_one_of(status: &str, first: u32) -> bool {
    ids::users_of(status).any(|id| is_in(id, first))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::path::PathBuf;
    use std::process::{Child, Command};

    use cofferdam_profiles::userns::Ranges;

    use super::*;

    #[test]
    fn a_process_is_known_by_its_user() {
        let status = |ids: &str| format!("Name:\tUid: 1\nUmask:\t0022\nUid:\t{ids}\nGid:\t70000\n");
        for (ids, expected) in [
            ("70000\t70000\t70000\t70000", true),
            ("0\t70001\t0\t0", true),
            ("135535\t0\t0\t0", true),
            ("135536\t69999\t70000\t70000", false),
            ("0\t0\t0\t70000", false),
            ("", false),
        ] {
            assert_eq!(is_one_of(&status(ids), 70_000), expected, "{ids}");
        }
        assert!(!is_one_of("", 70_000));
    }

    fn needs_root() -> bool {
        if nix::unistd::geteuid().is_root() {
            return true;
        }
        assert!(
            std::env::var_os("COFFERDAM_REQUIRE_ROOT").is_none_or(|v| v != "1"),
            "COFFERDAM_REQUIRE_ROOT is set, but this test needs root"
        );
        println!("SKIPPED: needs root to start a process of another user");
        false
    }

    /// A place for holders, two containers, and a range that the first of them has, far from what any host
    /// gives its users.
    fn held() -> (tempfile::TempDir, [PathBuf; 3], ids::Lease) {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["ids", "one", "two"].map(|name| dir.path().join(name));
        let text = "cofferdam:3900000000:65536\n";
        let ranges = Ranges::of(text, text).unwrap();
        let lease = ids::take(&paths[0], &ranges, &paths[1], "1-1").unwrap();
        (dir, paths, lease)
    }

    fn process_of(first: u32) -> Child {
        let mut command = Command::new("/bin/sleep");
        command.arg("60").uid(first + 7).gid(first);
        command.spawn().unwrap()
    }

    fn lives(process: &mut Child) -> bool {
        process.try_wait().unwrap().is_none()
    }

    /// The next container got the ids of processes that went on.
    #[test]
    fn the_last_holder_takes_the_processes_of_its_ids_along() {
        if !needs_root() {
            return;
        }
        let (_dir, [held, one, two], lease) = held();
        let mut process = process_of(lease.first);
        let other = ids::share(&held, lease.first, &two, "2-1")
            .unwrap()
            .unwrap();
        other.may_leave_processes().unwrap();
        end_left(&held, &two, lease.first).unwrap();
        assert!(lives(&mut process));
        // The one that left them is gone, and nothing of the last one outlives its init.
        other.release(&two).unwrap();
        // Not of somebody who does not hold them either.
        end_left(&held, &two, lease.first).unwrap();
        assert!(lives(&mut process));
        end_left(&held, &one, lease.first).unwrap();
        assert!(!lives(&mut process));
        lease.release(&one).unwrap();
    }

    /// `delete` looked at every process of the machine, whatever container it deleted.
    #[test]
    fn where_all_end_with_their_inits_nobody_is_looked_for() {
        if !needs_root() {
            return;
        }
        let (_dir, [held, one, two], lease) = held();
        // Of somebody else: one that is looked at is one that is killed.
        let mut process = process_of(lease.first);
        end_left(&held, &one, lease.first).unwrap();
        assert!(lives(&mut process));
        // One of the pod was deleted without its state, so nobody knows what it left.
        ids::share(&held, lease.first, &two, "2-1").unwrap();
        ids::release_of(&held, &two).unwrap();
        end_left(&held, &one, lease.first).unwrap();
        assert!(!lives(&mut process));
        lease.release(&one).unwrap();
    }
}
