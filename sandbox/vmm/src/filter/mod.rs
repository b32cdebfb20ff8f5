//! Which system calls each thread may make.
//!
//! The profiles are `sandbox/vmm/profiles/*.json`, in the format of OCI specs; the build compiles them. A call that a
//! filter refuses ends the process with one line that names it.

#![expect(unsafe_code, reason = "seccomp(2), and a signal handler")]

/// What happens when a call is refused.
mod trap;

use std::cell::Cell;
use std::fmt;
use std::io;

use nix::sys::prctl;

use crate::error::{VmError, VmResult};
use crate::jail;

/// What the process ends with when a filter refuses a call.
pub const REFUSED: u8 = 4;

/// The kinds of threads there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Thread {
    /// The process outside the jail: waits for the one inside.
    Keeper,
    /// Waits for the machine's end.
    Main,
    /// Serves the devices that answer at once.
    Devices,
    /// Serves a disk.
    Disk,
    /// Serves a directory of the host.
    Share,
    /// Runs the guest.
    Vcpu,
}

impl Thread {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Keeper,
        Self::Main,
        Self::Devices,
        Self::Disk,
        Self::Share,
        Self::Vcpu,
    ];

    /// Its name, and its profile's.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Keeper => "keeper",
            Self::Main => "main",
            Self::Devices => "devices",
            Self::Disk => "disk",
            Self::Share => "share",
            Self::Vcpu => "vcpu",
        }
    }

    /// Its filter: `struct sock_filter` records.
    #[must_use]
    pub const fn program(self) -> &'static [u8] {
        match self {
            Self::Keeper => include_bytes!(concat!(env!("OUT_DIR"), "/keeper.bpf")),
            Self::Main => include_bytes!(concat!(env!("OUT_DIR"), "/main.bpf")),
            Self::Devices => include_bytes!(concat!(env!("OUT_DIR"), "/devices.bpf")),
            Self::Disk => include_bytes!(concat!(env!("OUT_DIR"), "/disk.bpf")),
            Self::Share => include_bytes!(concat!(env!("OUT_DIR"), "/share.bpf")),
            Self::Vcpu => include_bytes!(concat!(env!("OUT_DIR"), "/vcpu.bpf")),
        }
    }

    /// Whether it acts under the ids and with the powers that the guest's files take.
    const fn serves_files(self) -> bool {
        match self {
            Self::Share => true,
            Self::Keeper | Self::Main | Self::Devices | Self::Disk | Self::Vcpu => false,
        }
    }
}

impl fmt::Display for Thread {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

thread_local! {
    /// What the calling thread is, for the report of a refusal.
    static OWN: Cell<Option<Thread>> = const { Cell::new(None) };
}

/// linux/filter.h.
#[repr(C)]
struct Program {
    length: u16,
    records: *const u8,
}

/// Confines the calling thread for good: no capabilities but those of its kind, no new ones, and its filter.
///
/// # Errors
///
/// [`VmError::Filter`].
pub fn confine(thread: Thread) -> VmResult {
    let failed = |source| VmError::Filter { thread, source };
    let program = thread.program();
    let length =
        u16::try_from(program.len() / RECORD).map_err(|error| failed(io::Error::other(error)))?;
    trap::catch().map_err(failed)?;
    if !thread.serves_files() {
        jail::no_capabilities().map_err(failed)?;
    }
    prctl::set_no_new_privs().map_err(|errno| failed(errno.into()))?;
    OWN.set(Some(thread));
    let program = Program {
        length,
        records: program.as_ptr(),
    };
    // SAFETY: the program has the kernel's layout and the length given, and is only read.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const program,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(failed(io::Error::last_os_error()))
    }
}

/// Bytes of a `struct sock_filter`.
const RECORD: usize = 8;

#[cfg(test)]
mod tests;
