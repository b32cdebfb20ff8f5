//! Whether a holder is alive.

use std::fs;
use std::io;
use std::path::Path;

use super::IdsError;
use crate::cgroup::Cgroup;
use crate::id::ContainerId;
use crate::state::{self, State, Status};

/// Removes every holder whose container is gone or dead, and every range that nobody holds.
pub(super) fn remove_dead(directory: &Path) -> Result<(), IdsError> {
    let failed = |source| IdsError::Lease {
        action: "look for user ids of dead containers in",
        path: directory.to_owned(),
        source,
    };
    for range in fs::read_dir(directory).map_err(failed)? {
        let range = range.map_err(failed)?.path();
        // Given back meanwhile.
        let Ok(holders) = fs::read_dir(&range) else {
            continue;
        };
        for holder in holders.flatten() {
            let holder = holder.path();
            if fs::read_link(&holder).is_ok_and(|container| is_dead(&container)) {
                remove(fs::remove_file(&holder)).map_err(failed)?;
            }
        }
        match fs::remove_dir(&range) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            other => remove(other).map_err(failed)?,
        }
    }
    Ok(())
}

/// Removes what `container` holds: for a container that was not told its range before its creator died.
pub(super) fn remove_of(directory: &Path, container: &Path) -> io::Result<()> {
    let Ok(ranges) = fs::read_dir(directory) else {
        return Ok(());
    };
    for range in ranges {
        let range = range?.path();
        let Ok(holders) = fs::read_dir(&range) else {
            continue;
        };
        for holder in holders.flatten() {
            let holder = holder.path();
            if fs::read_link(&holder).is_ok_and(|held_by| held_by == container) {
                remove(fs::remove_file(&holder))?;
                match fs::remove_dir(&range) {
                    Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                    other => remove(other)?,
                }
            }
        }
    }
    Ok(())
}

fn remove(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Whether neither init nor a creator of a container lives. What cannot be told counts as alive.
fn is_dead(container: &Path) -> bool {
    let (Some(root), Some(name)) = (container.parent(), container.file_name()) else {
        return false;
    };
    let Some(id) = name.to_str().and_then(|name| ContainerId::parse(name).ok()) else {
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
            .and_then(|cgroup| cgroup.pids(true))
            .is_ok_and(|pids| pids.is_empty()),
        // Nobody can tell, unless there never was one.
        None => state.pid.is_none(),
    }
}
