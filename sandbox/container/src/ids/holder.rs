//! Whether a holder is alive.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::IdsError;
use crate::cgroup::Cgroup;
use crate::state::{self, State, Status};

/// Removes every holder whose container is gone or dead, and every range that nobody holds.
pub(super) fn remove_dead(directory: &Path) -> Result<(), IdsError> {
    remove_where(directory, is_dead).map_err(|source| IdsError::Lease {
        action: "look for user ids of dead containers in",
        path: directory.to_owned(),
        source,
    })
}

/// Removes what `container` holds: for a container that was not told its range before its creator died.
pub(super) fn remove_of(directory: &Path, container: &Path) -> io::Result<()> {
    match remove_where(directory, |held_by| held_by == container) {
        // Nobody ever took any.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes the holders whose containers are to go, and every range that nobody holds: one that is just
/// being taken is tried again by who takes it.
fn remove_where(directory: &Path, is_to_go: impl Fn(&Path) -> bool) -> io::Result<()> {
    for range in fs::read_dir(directory)? {
        let range = range?.path();
        for (holder, container) in of_range(&range) {
            if is_to_go(&container) {
                // Its state is lost, or nobody deleted it: it may have left processes to the others of its pod.
                remove(super::unbind(&range))?;
                remove(fs::remove_file(&holder))?;
            }
        }
        match fs::remove_dir(&range) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            other => remove(other)?,
        }
    }
    Ok(())
}

/// The holders of a range, and whose they are; none if it was given back meanwhile.
pub(super) fn of_range(range: &Path) -> impl Iterator<Item = (PathBuf, PathBuf)> + use<> {
    let holders = fs::read_dir(range).into_iter().flatten().flatten();
    holders.filter_map(|holder| {
        let holder = holder.path();
        let container = fs::read_link(&holder).ok()?;
        Some((holder, container))
    })
}

fn remove(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Whether neither init nor a creator of a container lives. What cannot be told counts as alive.
fn is_dead(container: &Path) -> bool {
    let Some((root, id)) = state::of_directory(container) else {
        return false;
    };
    match state::load(root, &id) {
        // Looked at twice: a creator that has just finished is gone, and what it wrote last is read only now.
        Ok(state) => {
            state.status() == Status::Stopped
                && is_empty(&state)
                && state::load(root, &id).is_ok_and(|now| now.status() == Status::Stopped)
        }
        // The directory is made before a range is taken.
        Err(_) => matches!(container.try_exists(), Ok(false)),
    }
}

/// Whether no process of a container is left: in a shared pid namespace others outlive init.
fn is_empty(state: &State) -> bool {
    match &state.cgroup {
        Some(location) if location.dirs.iter().all(|dir| !dir.path.exists()) => true,
        Some(location) => Cgroup::open(location)
            .and_then(|cgroup| cgroup.is_empty())
            .unwrap_or(false),
        // Nobody can tell, unless there never was one.
        None => state.pid.is_none(),
    }
}
