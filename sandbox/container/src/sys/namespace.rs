//! Namespaces by descriptor.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

use super::check;

/// The `CLONE_NEW*` bit of the namespace that `file` refers to; an error if it is not a namespace.
pub(crate) fn kind_of(file: impl AsFd) -> io::Result<u64> {
    // SAFETY: NS_GET_NSTYPE takes no argument and touches no memory.
    let kind = unsafe { libc::ioctl(file.as_fd().as_raw_fd(), libc::NS_GET_NSTYPE) };
    Ok(check(kind.into())?.cast_unsigned())
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
