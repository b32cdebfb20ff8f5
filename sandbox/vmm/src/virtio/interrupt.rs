//! A device's interrupt.

use std::sync::atomic::{AtomicU32, Ordering};

use vmm_sys_util::eventfd::EventFd;

/// A queue has something new: bit 0 of `InterruptStatus`.
const USED: u32 = 1;
/// The configuration changed, bit 1.
const CONFIG: u32 = 2;

/// Raises a device's interrupt and says why. It has no lock, so that a guest's acknowledgement never waits for
/// a device at work.
#[derive(Debug)]
pub struct Interrupt {
    why: AtomicU32,
    event: EventFd,
}

impl Interrupt {
    /// An interrupt that writes to the event.
    #[must_use]
    pub const fn new(event: EventFd) -> Self {
        Self {
            why: AtomicU32::new(0),
            event,
        }
    }

    /// A queue has something new.
    pub fn used(&self) {
        self.raise(USED);
    }

    /// The configuration changed, or the device needs a reset.
    pub fn config(&self) {
        self.raise(CONFIG);
    }

    fn raise(&self, why: u32) {
        self.why.fetch_or(why, Ordering::SeqCst);
        // It fails where the counter is full: an interrupt is pending then.
        drop(self.event.write(1));
    }

    pub(crate) fn status(&self) -> u32 {
        self.why.load(Ordering::SeqCst)
    }

    pub(crate) fn acknowledge(&self, why: u32) {
        self.why.fetch_and(!why, Ordering::SeqCst);
    }

    pub(crate) fn set(&self, why: u32) {
        self.why.store(why, Ordering::SeqCst);
    }
}
