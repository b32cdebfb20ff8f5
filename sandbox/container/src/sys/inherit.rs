//! Inherited descriptors and the program's signal dispositions.

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};

use super::check;

/// Marks every descriptor from `first` upward to be closed by `execve`.
pub(crate) fn close_from_on_exec(first: u32) -> io::Result<()> {
    // SAFETY: only a flag changes; no descriptor that Rust owns is closed.
    check(unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    })?;
    Ok(())
}

/// Takes over the descriptors with these numbers, keeps them from children, and closes every other one
/// from 3 upward. To be called before anything else has opened one.
pub(crate) fn take_and_close_others(wanted: &[Option<i32>]) -> io::Result<Vec<Option<OwnedFd>>> {
    let mut keep: Vec<u32> = wanted
        .iter()
        .flatten()
        .map(|fd| fd.cast_unsigned())
        .collect();
    keep.sort_unstable();
    let mut first = 3u32;
    for fd in keep.into_iter().chain([u32::MAX]) {
        if first < fd {
            let last = if fd == u32::MAX { fd } else { fd - 1 };
            // SAFETY: the caller says that nothing in this process owns a descriptor yet.
            check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
        }
        first = fd.saturating_add(1).max(3);
    }
    let take = |fd: i32| {
        // SAFETY: F_SETFD takes an integer; a number that is not open gives EBADF.
        check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }.into())?;
        Ok(owned(fd))
    };
    wanted.iter().map(|fd| fd.map(take).transpose()).collect()
}

/// Owns a descriptor that a system call has just made for us, or that was handed to this process.
pub(crate) fn owned(fd: i32) -> OwnedFd {
    // SAFETY: the callers pass what accept4(2) or SCM_RIGHTS have just returned, or what they were
    // told to take over: nothing else owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Gives every signal its default action and unblocks all of them, as a new program expects.
pub(crate) fn reset_signals() -> io::Result<()> {
    /// The kernel's `struct sigaction`; all-zero is SIG_DFL without flags.
    #[repr(C)]
    struct KernelAction {
        handler: usize,
        flags: u64,
        restorer: usize,
        mask: u64,
    }
    /// `sizeof(sigset_t)` in the kernel.
    const SET_SIZE: usize = 8;
    let default = KernelAction {
        handler: libc::SIG_DFL,
        flags: 0,
        restorer: 0,
        mask: 0,
    };
    for signal in 1..=64 {
        if signal == libc::SIGKILL || signal == libc::SIGSTOP {
            continue;
        }
        // SAFETY: `default` has the kernel's layout; no handler of ours is needed after this, since
        // all that follows is execve or _exit.
        check(unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                &raw const default,
                std::ptr::null_mut::<KernelAction>(),
                SET_SIZE,
            )
        })?;
    }
    let none = 0u64;
    // SAFETY: `none` is a kernel signal set of the size given.
    check(unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const none,
            std::ptr::null_mut::<u64>(),
            SET_SIZE,
        )
    })?;
    Ok(())
}
