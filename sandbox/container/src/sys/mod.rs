//! System calls that nix does not wrap, each behind a safe function.
#![expect(
    unsafe_code,
    reason = "system calls without a safe wrapper; every block says why it is sound"
)]

/// Cloning a process into new namespaces and a cgroup.
pub(crate) mod clone;
/// Credentials, capabilities, seccomp, keyrings: what a process may do.
pub(crate) mod confine;
/// Inherited descriptors and the program's signal dispositions.
pub(crate) mod inherit;
/// Landlock rulesets.
pub(crate) mod landlock;
/// Detached mounts by descriptor.
pub(crate) mod mount;
/// Namespaces by descriptor.
pub(crate) mod namespace;
/// The loopback interface.
pub(crate) mod network;
/// Seccomp listeners.
pub(crate) mod notify;
/// Processes by descriptor.
pub(crate) mod pidfd;
/// Pseudo-terminals.
pub(crate) mod pty;
/// Scheduling, limits, memory policy, personality.
pub(crate) mod sched;

use std::io;

/// The result of a raw system call as an `io::Result`.
fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
