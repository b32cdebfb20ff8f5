//! Landlock rulesets.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use super::check;

/// `LANDLOCK_CREATE_RULESET_VERSION`.
const VERSION: u32 = 1;
/// `LANDLOCK_RULE_PATH_BENEATH` and `LANDLOCK_RULE_NET_PORT`.
const PATH_BENEATH: u32 = 1;
const NET_PORT: u32 = 2;

/// `struct landlock_ruleset_attr` of linux/landlock.h.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Handled {
    pub(crate) fs: u64,
    /// Since ABI 4.
    pub(crate) net: u64,
    /// Since ABI 6.
    pub(crate) scoped: u64,
}

/// `struct landlock_path_beneath_attr`, which is packed.
#[repr(C, packed)]
struct PathBeneath {
    allowed_access: u64,
    parent_fd: i32,
}

/// `struct landlock_net_port_attr`.
#[repr(C)]
struct NetPort {
    allowed_access: u64,
    port: u64,
}

/// The ABI version.
pub(crate) fn abi() -> io::Result<u32> {
    // SAFETY: with this flag the address must be null and the size 0.
    let version = check(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<Handled>(),
            0usize,
            VERSION,
        )
    })?;
    u32::try_from(version).map_err(io::Error::other)
}

/// A ruleset that allows nothing of what it handles. What an older kernel does not know must be zero:
/// it refuses everything else.
pub(crate) fn ruleset(handled: Handled) -> io::Result<OwnedFd> {
    // SAFETY: the pointer is to a live value of the kernel's layout and the size is its own. An older
    // kernel, which knows a shorter one, checks that the rest is zero (E2BIG).
    let fd = check(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const handled,
            size_of::<Handled>(),
            0u32,
        )
    })?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the call gave a new descriptor, which nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Allows `access` of the file `place` and of all below it.
pub(crate) fn allow_path(ruleset: &OwnedFd, place: BorrowedFd<'_>, access: u64) -> io::Result<()> {
    let rule = PathBeneath {
        allowed_access: access,
        parent_fd: place.as_raw_fd(),
    };
    // SAFETY: the pointer is to a live value of the layout that belongs to the rule's type; both
    // descriptors are open.
    check(unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset.as_raw_fd(),
            PATH_BENEATH,
            &raw const rule,
            0u32,
        )
    })?;
    Ok(())
}

/// Allows `access` to a TCP port.
pub(crate) fn allow_port(ruleset: &OwnedFd, port: u16, access: u64) -> io::Result<()> {
    let rule = NetPort {
        allowed_access: access,
        port: port.into(),
    };
    // SAFETY: the pointer is to a live value of the layout that belongs to the rule's type; the
    // descriptor is open.
    check(unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset.as_raw_fd(),
            NET_PORT,
            &raw const rule,
            0u32,
        )
    })?;
    Ok(())
}

/// Restricts this thread, and what it starts, for good. Needs no_new_privs or CAP_SYS_ADMIN.
pub(crate) fn restrict(ruleset: &OwnedFd, flags: u32) -> io::Result<()> {
    // SAFETY: integers only; the descriptor is open.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), flags) })?;
    Ok(())
}
