//! How much an image may make this program do.

use std::cell::Cell;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::ImageError;

/// What an image may have at most.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes, unpacked: of all layers together.
    pub bytes: u64,
    /// Files, directories, links: of all layers together.
    pub entries: u64,
    /// Bytes of names that are remembered at a time: a layer's, or an archive's.
    pub names: u64,
    /// Set by somebody else when it is to end.
    pub interrupted: Arc<AtomicBool>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 16 << 30,
            entries: 1_000_000,
            names: 64 << 20,
            interrupted: Arc::default(),
        }
    }
}

/// What is left of it.
pub(super) struct Budget<'a> {
    limits: &'a Limits,
    bytes: Cell<u64>,
    entries: Cell<u64>,
    told: Cell<u64>,
    tell: &'a dyn Fn(u64),
}

/// As many bytes pass between two reports.
const REPORT: u64 = 8 << 20;

impl<'a> Budget<'a> {
    pub(super) fn new(limits: &'a Limits, tell: &'a dyn Fn(u64)) -> Self {
        Self {
            limits,
            bytes: Cell::new(0),
            entries: Cell::new(0),
            told: Cell::new(0),
            tell,
        }
    }

    /// How many bytes have passed.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// One more entry.
    pub(super) fn entry(&self) -> Result<(), ImageError> {
        self.entries.set(self.entries.get() + 1);
        self.check()
    }

    /// Whether one of the limits was reached: the reason why a reader gave an error.
    pub(super) fn check(&self) -> Result<(), ImageError> {
        if self.limits.interrupted.load(Ordering::Relaxed) {
            return Err(ImageError::Interrupted);
        }
        if self.bytes.get() > self.limits.bytes {
            return Err(ImageError::Limit {
                what: "bytes when it is unpacked",
                limit: self.limits.bytes,
                remedy: "--max-unpacked",
            });
        }
        if self.entries.get() > self.limits.entries {
            return Err(ImageError::Limit {
                what: "entries",
                limit: self.limits.entries,
                remedy: "--max-entries",
            });
        }
        Ok(())
    }

    /// Whether so many bytes of names can be remembered.
    pub(super) fn names(&self, bytes: u64) -> Result<(), ImageError> {
        if bytes > self.limits.names {
            return Err(ImageError::Limit {
                what: "bytes in the names of one layer",
                limit: self.limits.names,
                remedy: "another tool",
            });
        }
        Ok(())
    }

    /// A reader that counts.
    pub(super) fn reader<R: Read>(&self, inner: R) -> Budgeted<'_, R> {
        Budgeted {
            budget: self,
            inner,
        }
    }
}

/// Counts what is read, and ends with an error when it is too much.
pub(super) struct Budgeted<'a, R> {
    budget: &'a Budget<'a>,
    inner: R,
}

impl<R: Read> Read for Budgeted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let budget = self.budget;
        if budget.check().is_err() {
            // Only to end it: the caller asks the budget why.
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let count = self.inner.read(buffer)?;
        let bytes = budget.bytes.get().saturating_add(count as u64);
        budget.bytes.set(bytes);
        if bytes - budget.told.get() >= REPORT {
            budget.told.set(bytes);
            (budget.tell)(bytes);
        }
        Ok(count)
    }
}
