//! The memory of the process that made a call.
//!
//! Read through `/proc/PID/mem`: the descriptor stays with the memory it was opened for. It was
//! opened while the call waited, which is checked after the open; and what was read counts only if
//! the call still waits afterwards. A process of the same container may change the memory meanwhile:
//! then the log says something else than the caller meant. No decision is taken on it.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;

use cofferdam_profiles::seccomp::denial::{Memory, escape};

use crate::sys::notify::{self, Pending};

/// The longest path of an executable that is kept, in bytes.
const LONGEST: usize = 256;

/// Bytes of a page, at most one of which is read at once: a read that meets an unmapped page gives
/// nothing of the mapped one before it on some kernels.
const PAGE: u64 = 4096;

/// The memory of a process that waits.
#[derive(Debug)]
pub(super) struct Caller(Option<File>);

impl Caller {
    /// The process that made the call `pending`, unless it is gone.
    pub(super) fn of(listener: impl AsFd, pending: &Pending) -> Self {
        let file = File::open(format!("/proc/{}/mem", pending.pid)).ok();
        Self(file.filter(|_| notify::is_pending(listener, pending.id)))
    }
}

impl Memory for Caller {
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        let Some(file) = &self.0 else { return 0 };
        let mut done = 0;
        while done < buffer.len() {
            let at = address.wrapping_add(done as u64);
            let room = usize::try_from(PAGE - at % PAGE).unwrap_or(0);
            let end = buffer.len().min(done + room);
            let Some(part) = buffer.get_mut(done..end) else {
                break;
            };
            match file.read_at(part, at) {
                Ok(0) | Err(_) => break,
                Ok(read) => done += read,
            }
        }
        done
    }
}

/// The executable of a thread's process as its container sees it, escaped; empty if it is gone.
pub(super) fn executable(pid: i32) -> String {
    fs::read_link(format!("/proc/{pid}/exe")).map_or_else(
        |_| String::new(),
        |path| {
            let bytes = path.as_os_str().as_bytes();
            escape(bytes.get(..LONGEST).unwrap_or(bytes))
        },
    )
}

/// A thread's name, escaped; empty if it is gone.
pub(super) fn command(pid: i32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    escape(bytes.strip_suffix(b"\n").unwrap_or(&bytes))
}
