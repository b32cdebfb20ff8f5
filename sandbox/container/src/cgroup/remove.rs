//! Removing what we made.

use std::fs::remove_dir;
use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::location::{Dir, Location};
use super::{Error, file, procs};

/// How long a cgroup may stay busy.
const LIMIT: Duration = Duration::from_secs(5);

pub(super) fn remove(location: &Location) -> Result<(), Error> {
    let mut first_error = None;
    let mut killed = false;
    for dir in &location.dirs {
        if dir.created_from.is_none() {
            continue;
        }
        if let Err(error) = remove_leaf(location, dir, &mut killed) {
            // Go on: one stuck hierarchy must not leave nine others behind.
            first_error.get_or_insert(error);
            continue;
        }
        remove_parents(dir);
    }
    first_error.map_or(Ok(()), Err)
}

fn remove_leaf(location: &Location, dir: &Dir, killed: &mut bool) -> Result<(), Error> {
    let start = Instant::now();
    let mut pause = Duration::from_micros(200);
    loop {
        let source = match remove_dir(&dir.path) {
            Ok(()) => return Ok(()),
            Err(e) if file::gone(&e) => return Ok(()),
            Err(e) => e,
        };
        if !busy(&source) || start.elapsed() >= LIMIT {
            return Err(Error::Remove {
                path: dir.path.clone(),
                source,
            });
        }
        if !*killed {
            *killed = true;
            procs::kill_all(location)?;
        }
        // A process that joined this hierarchy only is not among the container's.
        procs::kill_tree(&dir.path)?;
        remove_nested(&dir.path)?;
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Removes the cgroups that were made inside the container, deepest first. One that is busy is
/// left for the next attempt.
fn remove_nested(dir: &Path) -> Result<(), Error> {
    for nested in procs::nested(dir)?.iter().rev() {
        match remove_dir(nested) {
            Ok(()) => {}
            Err(e) if file::gone(&e) || busy(&e) => {}
            Err(source) => {
                return Err(Error::Remove {
                    path: nested.clone(),
                    source,
                });
            }
        }
    }
    Ok(())
}

/// Removes the parents that we made, as far as no other container uses them.
fn remove_parents(dir: &Dir) {
    for parent in dir.ours().skip(1) {
        if remove_dir(parent).is_err() {
            break;
        }
    }
}

fn busy(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::ENOTEMPTY))
}
