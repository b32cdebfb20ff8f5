//! What confines the process of a machine, so that a guest that takes it over is still nowhere.
//!
//! Inside are namespaces of its own of every kind, a root that is the directory shared with the guest and nothing
//! else, ids that are nobody's on the host, limits, and no capabilities but those that serving files takes, within its
//! own user namespace. The mount, network, IPC, UTS and PID namespaces belong to the host's user namespace, in which the
//! process has no capability at all.
//!
//! Linux puts only children into a new PID namespace, so there are two processes: the outer one waits for the inner one
//! and ends as it did, and when the outer one ends, however it does, the kernel kills the inner one. Whoever started it
//! has one process to watch and to kill.

#![expect(unsafe_code, reason = "a fork, and calls that no crate has")]

/// The process that waits outside.
mod keeper;
/// Limits, ids and capabilities.
mod privileges;
/// What the process sees of files.
mod root;

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, fork, sethostname};

use crate::config::{JailConfig, VmConfig};
use crate::error::{VmError, VmResult};

/// What the inner process may need, and cannot get inside.
#[derive(Debug)]
pub struct Inside {
    /// Its own `/proc/self/fd`, and no way out of that directory.
    pub descriptors: OwnedFd,
}

/// What the jail is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Guest memory, MiB.
    pub memory: u32,
    /// vCPUs.
    pub vcpus: u8,
    /// Whether files are served to the guest under their owners' ids.
    pub files: bool,
}

impl Needs {
    /// What a machine needs.
    #[must_use]
    pub const fn of(config: &VmConfig) -> Self {
        Self {
            memory: config.memory,
            vcpus: config.vcpus,
            files: true,
        }
    }
}

/// Goes in: the process that this returns in is another than the one that called, with the same descriptors. The caller
/// waits outside, ends with the other's status, and removes the files in `leave` before.
///
/// # Errors
///
/// [`VmError::Jail`], in whichever of the two processes something failed; the other one ends.
/// [`VmError::Threads`] where the process has more than one.
pub fn enter(config: &JailConfig, needs: Needs, leave: &[PathBuf]) -> VmResult<Inside> {
    check_single()?;
    let (outer, inner) = UnixStream::pair().map_err(failed("make a pair of sockets"))?;
    unshare(CloneFlags::CLONE_NEWPID)
        .map_err(io::Error::from)
        .map_err(failed("make a PID namespace"))?;
    // SAFETY: there is one thread, so no lock is held by another that the child would lack.
    match unsafe { fork() }.map_err(|errno| failed("start a process")(errno.into()))? {
        ForkResult::Parent { child } => {
            drop(inner);
            Err(keeper::keep(child, config, outer, leave))
        }
        ForkResult::Child => {
            drop(outer);
            become_inner(config, needs, inner)
        }
    }
}

/// The calling thread has no capability any more.
pub(crate) fn no_capabilities() -> io::Result<()> {
    privileges::keep(&[])
}

/// Closes all descriptors above the standard ones that a process was started with, but these. To be called before the
/// process opens any: what owns one would close it again.
pub fn close_inherited(kept: &[RawFd]) {
    close_above(libc::STDERR_FILENO, kept);
}

fn close_above(last: RawFd, kept: &[RawFd]) {
    let mut kept: Vec<RawFd> = kept.iter().copied().filter(|&fd| fd > last).collect();
    kept.sort_unstable();
    let mut first = last + 1;
    for fd in kept.into_iter().chain([RawFd::MAX]) {
        if first < fd {
            // SAFETY: by the contract of the callers nothing here owns a descriptor in the range. It fails where there
            // is no such call, before Linux 5.9; the jail takes newer ones.
            unsafe { libc::close_range(first.cast_unsigned(), (fd - 1).cast_unsigned(), 0) };
        }
        first = fd.saturating_add(1);
    }
}

fn failed(action: &'static str) -> impl Fn(io::Error) -> VmError {
    move |source| VmError::Jail { action, source }
}

fn check_single() -> VmResult {
    let threads = fs::read_dir("/proc/self/task")
        .map_err(failed("count threads in /proc/self/task"))?
        .count();
    if threads == 1 {
        Ok(())
    } else {
        Err(VmError::Threads { threads })
    }
}

fn become_inner(config: &JailConfig, needs: Needs, mut outer: UnixStream) -> VmResult<Inside> {
    let spaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    let call = |action| move |errno: nix::Error| failed(action)(errno.into());
    unshare(spaces).map_err(call("make namespaces"))?;
    sethostname("vm").map_err(call("set the host name"))?;
    let descriptors = root::change(&config.root)?;
    privileges::limit(needs)?;
    // Last, for it takes away all power over the others.
    unshare(CloneFlags::CLONE_NEWUSER).map_err(call("make a user namespace"))?;
    let mut byte = [0];
    outer
        .write_all(&byte)
        .and_then(|()| outer.read_exact(&mut byte))
        .map_err(failed("get ids from the process outside"))?;
    privileges::drop_all(needs.files)?;
    // After the change of ids, which would undo both.
    prctl::set_dumpable(false).map_err(call("forbid core dumps"))?;
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(call("be bound to the process outside"))?;
    // It may have gone before that.
    outer
        .write_all(&byte)
        .and_then(|()| outer.read_exact(&mut byte))
        .map_err(failed("hear from the process outside"))?;
    Ok(Inside { descriptors })
}
