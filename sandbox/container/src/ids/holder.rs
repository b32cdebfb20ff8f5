//! Whether a holder is alive.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::IdsError;
use crate::cgroup::Cgroup;
use crate::state::{self, State, Status};

/// Removes every holder whose container is gone or dead, and every range that nobody holds. A range is kept as
/// long as processes have its ids: of a container without a cgroup, of one that shared a pid namespace, or of
/// one whose state somebody removed.
pub(super) fn remove_dead(directory: &Path) -> Result<(), IdsError> {
    remove_unused(directory).map_err(|source| IdsError::Lease {
        action: "look for user ids of dead containers in",
        path: directory.to_owned(),
        source,
    })
}

fn remove_unused(directory: &Path) -> io::Result<()> {
    let mut dead = Vec::new();
    for range in fs::read_dir(directory)? {
        let range = range?.path();
        let (its, living): (Vec<_>, Vec<_>) =
            of_range(&range).partition(|(_, container)| is_dead(container));
        dead.push((range, its, living.is_empty()));
    }
    // After it is known who is dead: what a living container starts meanwhile is not seen.
    let users = super::users::all()?;
    for (range, its, unheld) in dead {
        // The dead one stays its holder, so that its own delete can still end them.
        if unheld && is_used(&range, &users) {
            continue;
        }
        for (holder, _) in its {
            remove_holder(&range, &holder)?;
        }
        remove_range(&range)?;
    }
    Ok(())
}

/// Whether one of the users is of this range.
fn is_used(range: &Path, users: &BTreeSet<u32>) -> bool {
    let name = range.file_name().and_then(|name| name.to_str());
    let first = name.and_then(|name| name.parse::<u32>().ok());
    first.is_some_and(|first| {
        let last = first.saturating_add(super::LAST);
        users.range(first..=last).next().is_some()
    })
}

/// Removes what `container` holds: for a container that was not told its range before its creator died. Who
/// calls has ended its processes where it was the only holder.
pub(super) fn remove_of(directory: &Path, container: &Path) -> io::Result<()> {
    let ranges = match fs::read_dir(directory) {
        // Nobody ever took any.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for range in ranges {
        let range = range?.path();
        let mut held = false;
        for (holder, _) in of_range(&range).filter(|(_, held_by)| held_by == container) {
            remove_holder(&range, &holder)?;
            held = true;
        }
        if held {
            remove_range(&range)?;
        }
    }
    Ok(())
}

/// Removes a holder whose state is lost, or whom nobody deleted: it may have left processes to the others of
/// its pod.
fn remove_holder(range: &Path, holder: &Path) -> io::Result<()> {
    remove(super::unbind(range))?;
    remove(fs::remove_file(holder))
}

/// Removes a range that nobody holds: one that is just being taken is tried again by who takes it.
fn remove_range(range: &Path) -> io::Result<()> {
    match fs::remove_dir(range) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        other => remove(other),
    }
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
