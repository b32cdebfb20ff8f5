//! Processes as the recorder's users need them: their end, and who belongs together.
#![expect(
    unsafe_code,
    reason = "pidfd_open(2) and capset(2) have no safe wrapper"
)]

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

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

/// `struct __user_cap_header_struct` of version 3.
#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

/// `struct __user_cap_data_struct`
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3`
const CAP_VERSION: u32 = 0x2008_0522;

/// Makes `command` give up capabilities, a bit for each number, for good: it and what it starts have them
/// in no set.
pub fn without_capabilities(command: &mut Command, capabilities: u64) {
    let give_up = move || {
        let bits = (0u8..64).filter(|number| capabilities & (1 << number) != 0);
        for number in bits.map(libc::c_ulong::from) {
            // SAFETY: prctl with integers only.
            if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) } != 0 {
                return Err(io::Error::last_os_error());
            }
            let lower = libc::PR_CAP_AMBIENT_LOWER;
            // SAFETY: as above.
            if unsafe { libc::prctl(libc::PR_CAP_AMBIENT, lower, number, 0, 0) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        // Only now, for the bounding set asks for CAP_SETPCAP.
        let mut header = CapHeader {
            version: CAP_VERSION,
            pid: 0,
        };
        let mut data = [CapData::default(); 2];
        // SAFETY: capget writes two structs of version 3, which is the room there is.
        if unsafe { call(libc::SYS_capget, &mut header, &mut data) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let [a, b, c, d, e, f, g, h] = capabilities.to_le_bytes();
        let halves = [[a, b, c, d], [e, f, g, h]].map(u32::from_le_bytes);
        for (sets, half) in data.iter_mut().zip(halves) {
            sets.effective &= !half;
            sets.permitted &= !half;
            sets.inheritable &= !half;
        }
        // SAFETY: capset reads two structs of version 3.
        if unsafe { call(libc::SYS_capset, &mut header, &mut data) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    };
    // SAFETY: between fork and exec: `give_up` makes system calls only, takes no lock and no memory.
    unsafe { command.pre_exec(give_up) };
}

/// # Safety
/// `number` must be capget's or capset's.
unsafe fn call(
    number: libc::c_long,
    header: &mut CapHeader,
    data: &mut [CapData; 2],
) -> libc::c_int {
    let header = std::ptr::from_mut(header);
    // SAFETY: both are exclusively borrowed and of the layout that version 3 has.
    let result = unsafe { libc::syscall(number, header, data.as_mut_ptr()) };
    libc::c_int::try_from(result).unwrap_or(-1)
}

/// How many seccomp filters are on process `pid` (Linux 5.9).
pub fn filters(pid: u32) -> io::Result<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let number = status
        .lines()
        .find_map(|line| line.strip_prefix("Seccomp_filters:"))
        .ok_or(io::ErrorKind::Unsupported)?;
    Ok(number
        .trim()
        .parse()
        .map_err(|_| io::ErrorKind::InvalidData)?)
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
