//! Whether a holder is alive.

use std::fs;
use std::io;
use std::path::Path;

use super::IdsError;
use crate::id::ContainerId;
use crate::state::{self, Status};

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
        Ok(state) => state.status() == Status::Stopped,
        // The directory is made before a range is taken.
        Err(_) => matches!(container.try_exists(), Ok(false)),
    }
}
