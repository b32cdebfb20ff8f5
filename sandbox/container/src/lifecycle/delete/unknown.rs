//! The processes of a container whose state is lost: those in the cgroup that it was to get, and those
//! that have user ids which it holds alone.

use std::fs;
use std::io;
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
            end_users(directory, first)?;
        }
    }
    Ok(())
}

fn end_users(directory: &Path, first: u32) -> Result<(), DeleteError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let users = users(first).map_err(failed("look for the container's processes"))?;
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

/// Every process that lives and has one of the ids.
fn users(first: u32) -> io::Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let lives = || state::process_stat(pid).is_ok_and(|stat| !stat.has_ended());
        if has_id(Pid::from_raw(pid), first) && lives() {
            found.push(Pid::from_raw(pid));
        }
    }
    Ok(found)
}

fn has_id(pid: Pid, first: u32) -> bool {
    let Ok(status) = fs::read(format!("/proc/{pid}/status")) else {
        return false;
    };
    is_one_of(&String::from_utf8_lossy(&status), first)
}

/// Whether the real or the effective user is among the ids: the file system's alone, or a group, can be
/// that of somebody who looks at a file.
fn is_one_of(status: &str, first: u32) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let ids = line
        .into_iter()
        .flat_map(str::split_ascii_whitespace)
        .take(2);
    let mut ids = ids.filter_map(|id| id.parse::<u32>().ok());
    ids.any(|id| id.checked_sub(first).is_some_and(|id| id <= ids::LAST))
}

#[cfg(test)]
mod tests {
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
}
