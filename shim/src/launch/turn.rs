//! Whose turn it is to analyse: few analyses run at once on a host, however many containers start.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Below the directory of compiled filters: a file to lock for each analysis that may run.
pub(super) const TURNS: &str = "analyses";
/// Each may take much memory, so not even a large host runs more.
const MOST: usize = 4;
/// How long to sleep between two looks.
const PAUSE: Duration = Duration::from_millis(25);

/// A turn, which ends with this value or with this process.
#[derive(Debug)]
pub(super) struct Turn {
    _lock: File,
}

/// How many analyses run at once here.
pub(super) fn most() -> usize {
    thread::available_parallelism().map_or(1, |cores| cores.get().min(MOST))
}

/// Waits for one of `most` turns; `None` if there is none before the deadline.
pub(super) fn wait(directory: &Path, most: usize, deadline: Instant) -> io::Result<Option<Turn>> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let open = |place: usize| {
        OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            // Who can open it can keep others waiting.
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(directory.join(place.to_string()))
    };
    let files = (0..most).map(open).collect::<io::Result<Vec<_>>>()?;
    loop {
        for file in &files {
            match file.try_lock() {
                Ok(()) => {
                    let _lock = file.try_clone()?;
                    return Ok(Some(Turn { _lock }));
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_so_many_have_a_turn() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("turns");
        let now = || wait(&place, 2, Instant::now()).unwrap();
        let first = now().unwrap();
        let _second = now().unwrap();
        assert!(now().is_none());
        let ends = thread::spawn(move || {
            thread::sleep(Duration::from_millis(100));
            drop(first);
        });
        let deadline = Instant::now() + Duration::from_secs(60);
        let third = wait(&place, 2, deadline).unwrap();
        assert!(third.is_some());
        ends.join().unwrap();
        assert!(now().is_none());
        drop(third);
        assert!(now().is_some());
    }

    #[test]
    fn a_link_in_the_place_of_a_lock_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(dir.path().join("made"), dir.path().join("0")).unwrap();
        wait(dir.path(), 1, Instant::now()).unwrap_err();
        assert!(!dir.path().join("made").exists());
    }
}
