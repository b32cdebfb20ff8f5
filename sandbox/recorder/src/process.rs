//! Processes as the recorder's users need them: their end, and who belongs together.
#![expect(unsafe_code, reason = "pidfd_open(2) has no safe wrapper")]

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;

/// A descriptor of process `pid` that becomes readable when it ends.
pub fn handle(pid: u32) -> io::Result<OwnedFd> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: pidfd_open takes two integers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(fd).map_err(|_| io::ErrorKind::InvalidData)?;
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The inode of the pid namespace that process `pid` is in.
pub fn pid_namespace(pid: u32) -> io::Result<u64> {
    Ok(fs::metadata(format!("/proc/{pid}/ns/pid"))?.ino())
}

/// Process `pid`, what descends from it, and what is in the pid namespace with inode `namespace`.
/// Processes that end meanwhile may be left out.
pub fn group(pid: u32, namespace: Option<u64>) -> io::Result<BTreeSet<u32>> {
    let mut parents = Vec::new();
    let mut group = BTreeSet::from([pid]);
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(other) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Some(parent) = parent(other) {
            parents.push((other, parent));
        }
        if namespace.is_some_and(|wanted| pid_namespace(other).is_ok_and(|own| own == wanted)) {
            group.insert(other);
        }
    }
    loop {
        let before = group.len();
        for (child, parent) in &parents {
            if group.contains(parent) {
                group.insert(*child);
            }
        }
        if group.len() == before {
            return Ok(group);
        }
    }
}

/// The fourth field of /proc/PID/stat; the second is in brackets and may hold anything.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// Whether a seccomp filter is on process `pid`.
pub fn is_filtered(pid: u32) -> io::Result<bool> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let mode = status
        .lines()
        .find_map(|line| line.strip_prefix("Seccomp:"))
        .ok_or(io::ErrorKind::Unsupported)?;
    Ok(mode.trim() == "2")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_a_process_and_its_descendants() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .expect("sleep");
        let found = group(std::process::id(), None);
        let alone = group(child.id(), None);
        child.kill().expect("killed");
        child.wait().expect("ended");
        let found = found.expect("found");
        assert!(found.contains(&child.id()) && found.contains(&std::process::id()));
        assert!(!found.contains(&1));
        assert_eq!(alone.expect("found"), BTreeSet::from([child.id()]));
    }
}
