//! Another network namespace.

use std::io;
use std::os::fd::BorrowedFd;
use std::thread;

use nix::sched::{CloneFlags, setns};

use crate::{NetworkError, NetworkResult};

/// Does something in another network namespace, on a thread of its own: the caller stays where it is.
///
/// # Errors
///
/// [`NetworkError::Namespace`] where that cannot be entered, else what the work says.
pub fn within<T: Send>(
    namespace: BorrowedFd<'_>,
    work: impl FnOnce() -> NetworkResult<T> + Send,
) -> NetworkResult<T> {
    let inside = move || {
        setns(namespace, CloneFlags::CLONE_NEWNET)
            .map_err(|error| NetworkError::Namespace(error.into()))?;
        work()
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("network".to_owned());
        let thread = thread
            .spawn_scoped(scope, inside)
            .map_err(NetworkError::Namespace)?;
        let ended = thread.join();
        ended.unwrap_or_else(|_| {
            Err(NetworkError::Namespace(io::Error::other(
                "its thread ended",
            )))
        })
    })
}
