//! Locks that outlive a panic of their holder, and short-lived threads with small stacks.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{io, thread};

/// Bytes of stack of a worker thread: the deepest path parses JSON of bounded depth.
const WORKER_STACK: usize = 256 << 10;

/// Locks; a poisoned lock is taken as it is, since every holder leaves the value consistent.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs something that may block on a thread of its own.
pub(crate) fn in_background(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new()
        .name(name.to_owned())
        .stack_size(WORKER_STACK)
        .spawn(work)
        .map(drop)
}
