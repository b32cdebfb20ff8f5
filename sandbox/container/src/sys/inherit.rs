//! Inherited descriptors and the program's signal dispositions.

use std::io;

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
