//! Credentials, capabilities, seccomp, keyrings: what a process may do.

use std::ffi::CStr;
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};

use cofferdam_profiles::seccomp::{FLAG_NEW_LISTENER, FLAG_WAIT_KILLABLE_RECV};

use super::check;

/// One thread's three capability sets, a bit per capability.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ThreadCapabilities {
    pub(crate) effective: u64,
    pub(crate) permitted: u64,
    pub(crate) inheritable: u64,
}

/// linux/capability.h: 64 capability bits in two words.
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// The low and the high half of a 64-bit set.
fn halves(set: u64) -> [u32; 2] {
    let bytes = set.to_le_bytes();
    let [a, b, c, d, e, f, g, h] = bytes;
    [
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
    ]
}

/// Sets this thread's capability sets.
pub(crate) fn set_capabilities(sets: ThreadCapabilities) -> io::Result<()> {
    let header = CapHeader {
        version: CAPABILITY_VERSION_3,
        pid: 0,
    };
    let (effective, permitted, inheritable) = (
        halves(sets.effective),
        halves(sets.permitted),
        halves(sets.inheritable),
    );
    let word = |i: usize| CapData {
        effective: effective[i],
        permitted: permitted[i],
        inheritable: inheritable[i],
    };
    let data = [word(0), word(1)];
    // SAFETY: both pointers are to live values with the kernel's layout for version 3, which reads
    // one header and two data records.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) })?;
    Ok(())
}

/// `prctl` with plain integer arguments.
fn prctl(option: libc::c_int, second: u64, third: u64) -> io::Result<i32> {
    // SAFETY: the options used here take integers only and touch no memory.
    let result = unsafe { libc::prctl(option, second, third, 0u64, 0u64) };
    check(result.into())?;
    Ok(result)
}

/// Takes a capability out of the bounding set; `false` if the kernel does not know that number.
pub(crate) fn drop_bounding(capability: u8) -> io::Result<bool> {
    match prctl(libc::PR_CAPBSET_DROP, capability.into(), 0) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Empties the ambient set.
pub(crate) fn clear_ambient() -> io::Result<()> {
    prctl(libc::PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0)?;
    Ok(())
}

/// Adds a capability that is permitted and inheritable to the ambient set.
pub(crate) fn raise_ambient(capability: u8) -> io::Result<()> {
    prctl(
        libc::PR_CAP_AMBIENT,
        PR_CAP_AMBIENT_RAISE,
        capability.into(),
    )?;
    Ok(())
}

/// linux/prctl.h.
const PR_CAP_AMBIENT_RAISE: u64 = 2;
const PR_CAP_AMBIENT_CLEAR_ALL: u64 = 4;

/// A `struct sock_filter` of linux/filter.h.
#[repr(C)]
#[derive(Clone, Copy)]
struct Instruction {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

/// The most instructions that the kernel takes (BPF_MAXINSNS).
const LONGEST_PROGRAM: usize = 4096;

/// Attaches a seccomp program to this thread: `program` is `struct sock_filter` records of 8 bytes.
/// Gives its listener, closed by `execve`, if the flags ask for one.
pub(crate) fn attach_seccomp(program: &[u8], flags: u32) -> io::Result<Option<OwnedFd>> {
    let (records, rest) = program.as_chunks::<8>();
    if !rest.is_empty() || records.is_empty() || records.len() > LONGEST_PROGRAM {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    let mut instructions: Vec<Instruction> = records
        .iter()
        .map(|&[a, b, jt, jf, k0, k1, k2, k3]| Instruction {
            code: u16::from_ne_bytes([a, b]),
            jt,
            jf,
            k: u32::from_ne_bytes([k0, k1, k2, k3]),
        })
        .collect();
    let length = u16::try_from(instructions.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog {
        len: length,
        filter: instructions.as_mut_ptr().cast(),
    };
    // Giving memory back may be a call, which nobody answers yet if there is a listener.
    let _kept = std::mem::ManuallyDrop::new(instructions);
    let attach = |flags: u32| {
        // SAFETY: `program` points to `len` live records with the kernel's layout (size 8, alignment
        // 4), which the kernel copies and checks.
        check(unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                flags,
                &raw const program,
            )
        })
    };
    let result = match attach(flags) {
        // Before Linux 5.19, where a signal interrupts a call that waits for the listener.
        Err(error)
            if error.raw_os_error() == Some(libc::EINVAL)
                && flags & FLAG_WAIT_KILLABLE_RECV != 0 =>
        {
            attach(flags & !FLAG_WAIT_KILLABLE_RECV)?
        }
        other => other?,
    };
    if flags & FLAG_NEW_LISTENER == 0 {
        return Ok(None);
    }
    let fd = i32::try_from(result).map_err(io::Error::other)?;
    // SAFETY: with this flag the kernel returns a new descriptor, which nothing else owns.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Replaces the session keyring by a new one that nobody else can name.
pub(crate) fn new_session_keyring() -> io::Result<()> {
    // SAFETY: a null name asks for an anonymous keyring; no memory is touched.
    check(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_JOIN_SESSION_KEYRING,
            std::ptr::null::<libc::c_char>(),
        )
    })?;
    Ok(())
}

/// Whether this process, with its effective ids, may execute `path`.
pub(crate) fn may_execute(path: &CStr) -> io::Result<()> {
    // SAFETY: `path` is a C string that outlives the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_faccessat2,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::X_OK,
            libc::AT_EACCESS,
        )
    })?;
    Ok(())
}

/// Sets every group id, then every user id of this thread, and makes the process undumpable: the kernel
/// sets that anew with the ids, to the host's `fs.suid_dumpable`. Where that is 1, who has the new ids
/// could look into a process that still holds the runtime's descriptors.
pub(crate) fn set_ids(uid: u32, gid: u32, groups: Option<&[u32]>) -> io::Result<()> {
    if let Some(groups) = groups {
        // SAFETY: the pointer and the length are one live slice of `gid_t`.
        check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })?;
    }
    // The raw calls: libc's would also look for other threads, which a fresh clone does not have.
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })?;
    prctl(libc::PR_SET_DUMPABLE, 0, 0)?;
    Ok(())
}

/// The kernel's own words for the working directory: they begin with `(unreachable)` where it is
/// outside of the root. libc's getcwd would hide that and search for another name.
pub(crate) fn working_directory() -> io::Result<Vec<u8>> {
    let mut buffer = vec![0u8; libc::PATH_MAX.cast_unsigned() as usize];
    // SAFETY: the pointer and the length are one live buffer, which the kernel fills.
    let length =
        check(unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) })?;
    // The length counts the terminating NUL.
    buffer.truncate(usize::try_from(length).unwrap_or(0).saturating_sub(1));
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use nix::sys::prctl::{get_dumpable, set_dumpable};

    use super::*;
    use crate::sys::clone::{self, Side};

    /// As on a host whose `fs.suid_dumpable` is 1: with the ids that a process has already the kernel
    /// leaves it dumpable, too.
    #[test]
    fn who_gets_ids_is_undumpable() {
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        let Side::Parent(pid, _) = clone::clone(0, false, None).expect("cloned") else {
            let before = set_dumpable(true).is_ok() && get_dumpable() == Ok(true);
            let set = set_ids(uid.as_raw(), gid.as_raw(), None).is_ok();
            clone::exit(i32::from(!(before && set && get_dumpable() == Ok(false))));
        };
        let ended = nix::sys::wait::waitpid(pid, None).expect("waited");
        assert!(
            matches!(ended, nix::sys::wait::WaitStatus::Exited(_, 0)),
            "{ended:?}"
        );
    }
}
