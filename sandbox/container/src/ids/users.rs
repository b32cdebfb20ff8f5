//! Which user ids the processes of this machine have.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use crate::state;

/// The real and the effective users of every process that lives.
pub(super) fn all() -> io::Result<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let status = match fs::read(format!("/proc/{pid}/status")) {
            Err(error) if has_gone(&error) => continue,
            other => other?,
        };
        if state::process_stat(pid).is_ok_and(|stat| stat.has_ended()) {
            continue;
        }
        found.extend(of_status(&String::from_utf8_lossy(&status)));
    }
    Ok(found)
}

fn has_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// The real and the effective user in a process's status: the file system's alone, or a group, can be that of
/// somebody who looks at a file.
pub(crate) fn of_status(status: &str) -> impl Iterator<Item = u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let ids = line
        .into_iter()
        .flat_map(str::split_ascii_whitespace)
        .take(2);
    ids.filter_map(|id| id.parse().ok())
}
