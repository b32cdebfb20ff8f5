//! Namespaces by descriptor.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};

use super::clone::{self, Side};
use super::{check, pidfd};

/// How long a process that does nothing may take.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// The `CLONE_NEW*` bit of the namespace that `file` refers to; an error if it is not a namespace.
pub(crate) fn kind_of(file: impl AsFd) -> io::Result<u64> {
    // SAFETY: NS_GET_NSTYPE takes no argument and touches no memory.
    let kind = unsafe { libc::ioctl(file.as_fd().as_raw_fd(), libc::NS_GET_NSTYPE) };
    Ok(check(kind.into())?.cast_unsigned())
}

/// The user namespace that owns the namespace `file`; an error if the caller may not see it.
pub(crate) fn owner(file: impl AsFd) -> io::Result<OwnedFd> {
    // SAFETY: NS_GET_USERNS takes no argument and touches no memory.
    let owner = unsafe { libc::ioctl(file.as_fd().as_raw_fd(), libc::NS_GET_USERNS) };
    check(owner.into())?;
    // SAFETY: the call just returned this descriptor, close-on-exec; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(owner) })
}

/// The user namespace in which the user namespace `file` was made; an error if the caller may not see it.
pub(crate) fn parent(file: impl AsFd) -> io::Result<OwnedFd> {
    // SAFETY: NS_GET_PARENT takes no argument and touches no memory.
    let parent = unsafe { libc::ioctl(file.as_fd().as_raw_fd(), libc::NS_GET_PARENT) };
    check(parent.into())?;
    // SAFETY: the call just returned this descriptor, close-on-exec; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(parent) })
}

/// Moves this thread into namespaces: `file` is one namespace or a pidfd, `kinds` are `CLONE_NEW*`
/// bits, of which a pidfd takes several at once.
pub(crate) fn join(file: impl AsFd, kinds: u64) -> io::Result<()> {
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_setns, file.as_fd().as_raw_fd(), kinds) })?;
    Ok(())
}

/// Makes new namespaces for this thread (for pid and time: for its children).
pub(crate) fn unshare(kinds: u64) -> io::Result<()> {
    // SAFETY: integers only; none of the flags used here unshares memory or descriptors.
    check(unsafe { libc::syscall(libc::SYS_unshare, kinds) })?;
    Ok(())
}

/// Sets the NIS domain name of this thread's UTS namespace.
pub(crate) fn set_domain_name(name: &[u8]) -> io::Result<()> {
    // SAFETY: the pointer and the length are one live slice.
    check(unsafe { libc::syscall(libc::SYS_setdomainname, name.as_ptr(), name.len()) })?;
    Ok(())
}

/// The maps of a user namespace in the caller's numbers: what `uid_map` and `gid_map` say.
#[derive(Debug)]
pub(crate) struct IdMaps {
    pub(crate) uids: String,
    pub(crate) gids: String,
}

impl IdMaps {
    /// The caller's id of root, if the first line is root's.
    pub(crate) fn root(&self) -> Option<u32> {
        let mut fields = self.uids.split_ascii_whitespace();
        match (fields.next(), fields.next()) {
            (Some("0"), Some(first)) => first.parse().ok(),
            _ => None,
        }
    }
}

/// The maps of the user namespace `file`.
///
/// The caller must be single-threaded: only the maps of a process can be read, so one is cloned that
/// enters the namespace and ends at once. Its maps can be read until it is reaped.
pub(crate) fn id_maps(file: impl AsFd) -> io::Result<IdMaps> {
    let (pid, ended) = match clone::clone(0, false, None)? {
        Side::Child => {
            // Those in there must not trace a process of the host's.
            let hidden = nix::sys::prctl::set_dumpable(false).is_ok();
            let inside = hidden && join(&file, crate::namespaces::USER).is_ok();
            clone::exit(i32::from(!inside));
        }
        Side::Parent(pid, ended) => (pid, ended),
    };
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}"));
    let maps = pidfd::wait_end(&ended, PATIENCE).and_then(|_| {
        Ok(IdMaps {
            uids: read("uid_map")?,
            gids: read("gid_map")?,
        })
    });
    // It may have been stopped by somebody who sees it.
    let _ = pidfd::signal(&ended, libc::SIGKILL);
    pidfd::reap(pid);
    maps
}
