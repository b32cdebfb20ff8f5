//! Cloning a process into new namespaces and a cgroup.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use nix::unistd::Pid;

/// Which side of the clone this is.
#[derive(Debug)]
pub(crate) enum Side {
    /// The new process.
    Child,
    /// The caller, with the new process's pid as seen here and a descriptor of it.
    Parent(Pid, OwnedFd),
}

/// Makes a process with a copy of this one's memory.
///
/// `namespaces` are `CLONE_NEW*` bits. With `sibling` the new process becomes a child of our parent.
/// With `cgroup`, a v2 cgroup's directory, it starts inside that cgroup.
///
/// The caller must be single-threaded: the child goes on with this thread only, so a lock that
/// another thread held would stay locked in it.
pub(crate) fn clone(
    namespaces: u64,
    sibling: bool,
    cgroup: Option<BorrowedFd<'_>>,
) -> io::Result<Side> {
    let mut pidfd: RawFd = -1;
    // SAFETY: all-zero is a valid `clone_args`: null pointers and no flags.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = namespaces | libc::CLONE_PIDFD.cast_unsigned() as u64;
    args.pidfd = (&raw mut pidfd) as u64;
    if sibling {
        // The kernel wants no exit signal here: the siblings' common parent's choice is taken.
        args.flags |= libc::CLONE_PARENT.cast_unsigned() as u64;
    } else {
        args.exit_signal = libc::SIGCHLD.cast_unsigned().into();
    }
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd().cast_unsigned().into();
    }
    // SAFETY: `args` is a `clone_args` of the size given, and `pidfd` outlives the call. Without
    // CLONE_VM the child gets a copy of this stack and goes on from here like after fork(2).
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const args,
            size_of::<libc::clone_args>(),
        )
    };
    match super::check(result)? {
        0 => Ok(Side::Child),
        pid => {
            // SAFETY: the kernel stored a new descriptor there, and nothing else owns it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            let pid = i32::try_from(pid).map_err(io::Error::other)?;
            Ok(Side::Parent(Pid::from_raw(pid), pidfd))
        }
    }
}

/// linux/sched.h; libc's constant does not fit the type it gives it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Ends this process at once: no destructors, no exit handlers, which belong to the parent.
pub(crate) fn exit(status: i32) -> ! {
    // SAFETY: _exit(2) has no preconditions and does not return.
    unsafe { libc::_exit(status) }
}
