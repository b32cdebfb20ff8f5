//! Seccomp listeners: receiving a denied call, answering it, and the page in which a call that is
//! being answered outlives the process that answers it.

use std::cell::UnsafeCell;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use cofferdam_profiles::seccomp::Call;

use super::check;

/// linux/seccomp.h, with the sizes of the structures below.
const RECEIVE: libc::c_ulong = 0xc050_2100;
const SEND: libc::c_ulong = 0xc018_2101;
const ID_VALID: libc::c_ulong = 0x4008_2102;
const SET_FLAGS: libc::c_ulong = 0x4008_2104;
/// Linux 6.6: wake the listener on the caller's CPU, which halves the time of a call.
const SYNC_WAKE_UP: u64 = 1;

/// `struct seccomp_notif`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Received {
    id: u64,
    pid: u32,
    flags: u32,
    number: i32,
    arch: u32,
    instruction: u64,
    args: [u64; 6],
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

const _: () = assert!(size_of::<Received>() == 80 && size_of::<Response>() == 24);

/// A call that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pending {
    /// The kernel's name for it.
    pub(crate) id: u64,
    /// The thread that made it, as this process sees it; 0 if it does not.
    pub(crate) pid: i32,
    /// The call itself, as the filter saw it.
    pub(crate) call: Call,
}

impl From<Received> for Pending {
    fn from(received: Received) -> Self {
        Self {
            id: received.id,
            pid: received.pid.cast_signed(),
            call: Call {
                audit: received.arch,
                number: received.number.cast_unsigned(),
                args: received.args,
            },
        }
    }
}

/// Whether the call still waits: the process that made it is there, and has its pid.
pub(crate) fn is_pending(listener: impl AsFd, id: u64) -> bool {
    // SAFETY: the ioctl reads one u64, which outlives the call.
    unsafe { libc::ioctl(listener.as_fd().as_raw_fd(), ID_VALID, &raw const id) == 0 }
}

/// Whether a descriptor is a seccomp listener. No call has the id 0.
pub(crate) fn is_listener(fd: impl AsFd) -> bool {
    let none = 0u64;
    // SAFETY: as above; on another kind of descriptor this number means nothing or fails.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), ID_VALID, &raw const none) };
    result < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ENOENT)
}

/// Asks for the quick way to wake the listener, where the kernel has it.
pub(crate) fn wake_quickly(listener: impl AsFd) {
    // SAFETY: the argument is an integer.
    let _ = unsafe { libc::ioctl(listener.as_fd().as_raw_fd(), SET_FLAGS, SYNC_WAKE_UP) };
}

/// Answers a call with an errno. There is no way in this program to answer anything else.
pub(crate) fn deny(listener: impl AsFd, id: u64, errno: u16) -> io::Result<()> {
    let response = Response {
        id,
        value: 0,
        error: -i32::from(errno),
        flags: 0,
    };
    // SAFETY: the ioctl reads one response of the size in its number, which outlives the call.
    let sent = unsafe { libc::ioctl(listener.as_fd().as_raw_fd(), SEND, &raw const response) };
    check(sent.into()).map(drop)
}

/// What a listener's worker and its keeper share.
#[repr(C)]
struct Page {
    /// Which listener `call` came from.
    serial: AtomicU32,
    /// `call` is being answered.
    busy: AtomicBool,
    /// How many calls have been received.
    total: AtomicU64,
    /// How many of them the log speaks of.
    accounted: AtomicU64,
    /// Written by the kernel.
    call: UnsafeCell<Received>,
}

/// A page that survives the worker: the kernel writes the call it hands out straight into it, so no
/// call is ever lost between the kernel and a worker that is killed.
#[derive(Debug)]
pub(crate) struct Desk {
    page: NonNull<Page>,
}

impl Desk {
    /// An empty page, shared with the children of this process.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: a new anonymous mapping at an address of the kernel's choice.
        let page = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size_of::<Page>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if page == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // All-zero is a valid page, and it is never unmapped: it lives as long as the process.
        let page = NonNull::new(page.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { page })
    }

    fn page(&self) -> &Page {
        // SAFETY: mapped in `new`, large enough, aligned to a page, never unmapped. What changes
        // behind the reference is atomic or in an UnsafeCell.
        unsafe { self.page.as_ref() }
    }

    /// Receives the next call of the listener `serial`. It is on the desk until [`Self::clear`].
    pub(crate) fn receive(&self, listener: impl AsFd, serial: u32) -> io::Result<Pending> {
        let page = self.page();
        // SAFETY: only the one worker touches the call, and the keeper only when that is gone.
        unsafe { *page.call.get() = Received::default() };
        page.serial.store(serial, Ordering::SeqCst);
        page.busy.store(true, Ordering::SeqCst);
        // SAFETY: the ioctl writes one structure of the size in its number to memory of ours, which
        // must be zeroed and is.
        let result = unsafe { libc::ioctl(listener.as_fd().as_raw_fd(), RECEIVE, page.call.get()) };
        if let Err(error) = check(result.into()) {
            page.busy.store(false, Ordering::SeqCst);
            return Err(error);
        }
        page.total.fetch_add(1, Ordering::SeqCst);
        // SAFETY: as above.
        Ok(unsafe { *page.call.get() }.into())
    }

    /// Nothing is being answered.
    pub(crate) fn clear(&self) {
        self.page().busy.store(false, Ordering::SeqCst);
    }

    /// The call that a worker had when it ended, and which listener it came from.
    pub(crate) fn left(&self) -> Option<(u32, Pending)> {
        if !self.is_busy() {
            return None;
        }
        // SAFETY: the worker that wrote it is gone, and the next one calls this first.
        let call: Pending = unsafe { *self.page().call.get() }.into();
        (call.id != 0).then(|| (self.page().serial.load(Ordering::SeqCst), call))
    }

    /// A call is being answered.
    pub(crate) fn is_busy(&self) -> bool {
        self.page().busy.load(Ordering::SeqCst)
    }

    /// How many calls have been received.
    pub(crate) fn total(&self) -> u64 {
        self.page().total.load(Ordering::SeqCst)
    }

    /// The log speaks of so many more calls.
    pub(crate) fn account(&self, calls: u64) {
        self.page().accounted.fetch_add(calls, Ordering::SeqCst);
    }

    /// How many of the calls received the log does not speak of.
    pub(crate) fn unaccounted(&self) -> u64 {
        let accounted = self.page().accounted.load(Ordering::SeqCst);
        self.total().saturating_sub(accounted)
    }
}
