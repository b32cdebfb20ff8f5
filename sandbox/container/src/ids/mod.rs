//! Who has which range of user ids.
//!
//! A range that is taken is a directory, named by its first id, in [`DIRECTORY`]; each holder is a
//! symbolic link in it that leads to a container's state directory. Making a directory and making a
//! link are each one step that either happens or does not, so there is no lock and nothing to mend:
//! a directory without holders is being taken or given back, and whoever finds its link refused
//! because the directory is gone starts again. Whoever holds a range looks for others whose ids overlap with
//! it, which are there if the files gave ranges of another alignment before, and gives it back if there
//! are. A holder whose container is gone, or whose init and
//! creator are dead, counts for nothing; it is removed when no free range is left. Its range becomes free only
//! if no process has one of the ids any more, for the directory goes, and with it what it said of processes.
//!
//! A range's directory has the sticky bit as long as the processes of all who ever held it end with their
//! inits. Who gives the range back last then need not look for processes that still have its ids.

/// Whether a holder is alive.
mod holder;
/// Which user ids processes have.
mod users;

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use cofferdam_profiles::userns::{MAX_FILE, Ranges, RangesError, SIZE, USER};
use serde::{Deserialize, Serialize};
pub(crate) use users::of_status as users_of;

/// Where ranges are taken, for all state roots of this host.
pub const DIRECTORY: &str = "/run/cofferdam/.ids";

/// The last id of a container.
pub(crate) const LAST: u32 = SIZE - 1;

/// The mode of a range's directory while all of its holders end with their inits.
const BOUND: u32 = 0o1700;

/// Its mode from the first holder on whose processes may outlive its init.
const UNBOUND: u32 = 0o700;

/// How often a range that was given back under our hands is tried again.
const TRIES: u32 = 16;

/// Why a container gets no ids of its own.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdsError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What the files say is wrong.
    #[error(transparent)]
    Ranges(#[from] RangesError),
    /// Every range is taken.
    #[error(
        "all {count} ranges of {SIZE} user ids are taken; give the user {USER} more in /etc/subuid \
         and /etc/subgid"
    )]
    Exhausted {
        /// How many there are.
        count: u32,
    },
    /// A range cannot be taken.
    #[error("cannot {action} {}", path.display())]
    Lease {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A range that a container holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Id 0 of the container, as the host sees it.
    pub first: u32,
    /// How many ids follow it, this one counted.
    pub size: u32,
    /// The link that says so.
    holder: PathBuf,
}

/// The ranges that this host's files give.
pub fn ranges() -> Result<Ranges, IdsError> {
    let read = |path: &str| {
        let failed = |source| IdsError::Read {
            path: path.into(),
            source,
        };
        match fs::File::open(path) {
            Ok(file) => {
                let mut text = Vec::new();
                // One byte more than is taken, so that the parser sees what is too long.
                let limited = io::Read::take(file, MAX_FILE as u64 + 1);
                io::Read::read_to_end(&mut { limited }, &mut text).map_err(failed)?;
                Ok(String::from_utf8_lossy(&text).into_owned())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(failed(error)),
        }
    };
    Ok(Ranges::of(&read("/etc/subuid")?, &read("/etc/subgid")?)?)
}

/// Takes a range below `directory` that nobody has, for the container whose state directory is
/// `container`; it must be there already. `token` makes the holder's name: unique while it holds.
pub fn take(
    directory: &Path,
    ranges: &Ranges,
    container: &Path,
    token: &str,
) -> Result<Lease, IdsError> {
    let count = ranges.count();
    if let Some(lease) = find(directory, ranges, container, token)? {
        return Ok(lease);
    }
    holder::remove_dead(directory)?;
    find(directory, ranges, container, token)?.ok_or(IdsError::Exhausted { count })
}

/// Holds the range that begins at `first` together with those who have it.
pub fn share(
    directory: &Path,
    first: u32,
    container: &Path,
    token: &str,
) -> Result<Option<Lease>, IdsError> {
    hold(&directory.join(first.to_string()), first, container, token)
}

/// Gives back what a container that was never finished holds. Looks through all ranges.
pub(crate) fn release_of(directory: &Path, container: &Path) -> io::Result<()> {
    holder::remove_of(directory, container)
}

/// Tries every range once, from one that depends on the token: who starts at the same time rarely
/// tries the same ones.
fn find(
    directory: &Path,
    ranges: &Ranges,
    container: &Path,
    token: &str,
) -> Result<Option<Lease>, IdsError> {
    let count = ranges.count();
    let start = token.bytes().fold(0_u32, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    });
    for step in 0..count {
        let index = (start % count + step) % count;
        let Some(first) = ranges.first(index) else {
            continue;
        };
        let path = directory.join(first.to_string());
        // Given back by another between our two steps: it is free again.
        for _ in 0..TRIES {
            if !make(directory, &path)? {
                break;
            }
            let Some(lease) = hold(&path, first, container, token)? else {
                continue;
            };
            // From the hold on the range stays: of two that overlap the later one sees the other here.
            match overlapping(directory, first, SIZE) {
                Ok(taken) if taken.iter().all(|other| *other == first) => return Ok(Some(lease)),
                overlaps => {
                    lease.release(container).map_err(|source| IdsError::Lease {
                        action: "give back the user ids in",
                        path: path.clone(),
                        source,
                    })?;
                    overlaps?;
                    break;
                }
            }
        }
    }
    Ok(None)
}

/// The ranges that are taken and have one of `count` ids from `first` on.
fn overlapping(directory: &Path, first: u32, count: u32) -> Result<Vec<u32>, IdsError> {
    let failed = |source| IdsError::Lease {
        action: "look for ranges that overlap in",
        path: directory.to_owned(),
        source,
    };
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let end = u64::from(first) + u64::from(count);
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        let taken = name.to_str().and_then(|name| name.parse::<u32>().ok());
        let overlaps = |taken: &u32| {
            u64::from(*taken) < end && u64::from(first) < u64::from(*taken) + u64::from(SIZE)
        };
        found.extend(taken.filter(overlaps));
    }
    Ok(found)
}

/// Whether one of `count` ids from `first` on is, or may become, one of a container's own.
pub(crate) fn are_containers(directory: &Path, first: u32, count: u32) -> Result<bool, IdsError> {
    Ok(ranges()?.meet(first, count) || !overlapping(directory, first, count)?.is_empty())
}

/// The state directories of those who hold the range that begins at `first`.
pub(crate) fn holders(directory: &Path, first: u32) -> impl Iterator<Item = PathBuf> + use<> {
    holder::of_range(&directory.join(first.to_string())).map(|(_, container)| container)
}

/// The first ids of the ranges that `container` holds, and whether it holds them alone.
pub(crate) fn held_by(directory: &Path, container: &Path) -> io::Result<Vec<(u32, bool)>> {
    let ranges = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut held = Vec::new();
    for range in ranges {
        let range = range?;
        let name = range.file_name();
        let Some(first) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let (its, others): (Vec<_>, Vec<_>) =
            holder::of_range(&range.path()).partition(|(_, held_by)| held_by == container);
        if !its.is_empty() {
            held.push((first, others.is_empty()));
        }
    }
    Ok(held)
}

/// Whether a holder of the range, be it gone, may have left processes with its ids. What cannot be read
/// may, and what an older version made, which does not say.
pub(crate) fn may_be_in_use(directory: &Path, first: u32) -> bool {
    let range = fs::metadata(directory.join(first.to_string()));
    range.map_or(true, |range| range.permissions().mode() & 0o7777 != BOUND)
}

fn unbind(range: &Path) -> io::Result<()> {
    fs::set_permissions(range, fs::Permissions::from_mode(UNBOUND))
}

/// Makes a range's directory; `false` if it is there.
fn make(directory: &Path, path: &Path) -> Result<bool, IdsError> {
    let failed = |source| IdsError::Lease {
        action: "take the user ids",
        path: path.to_owned(),
        source,
    };
    let mut builder = fs::DirBuilder::new();
    builder.mode(BOUND);
    match builder.create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o711)
                .create(directory)
                .map_err(failed)?;
            match builder.create(path) {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
                Err(error) => Err(failed(error)),
            }
        }
        Err(error) => Err(failed(error)),
    }
}

/// Puts a holder into a range's directory; `None` if that is gone.
fn hold(path: &Path, first: u32, container: &Path, token: &str) -> Result<Option<Lease>, IdsError> {
    let holder = path.join(token);
    match symlink(container, &holder) {
        Ok(()) => Ok(Some(Lease {
            first,
            size: SIZE,
            holder,
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(IdsError::Lease {
            action: "hold the user ids by",
            path: holder,
            source,
        }),
    }
}

impl Lease {
    /// Says that this holder's processes may outlive its init.
    pub(crate) fn may_leave_processes(&self) -> io::Result<()> {
        let Some(directory) = self.holder.parent() else {
            return Ok(());
        };
        unbind(directory)
    }

    /// Gives the range back; it is free once its last holder has. Can be done again. What `container`
    /// does not hold is left: a state that outlived the list of holders may name what is another's now.
    pub fn release(&self, container: &Path) -> io::Result<()> {
        let Some(directory) = self.holder.parent() else {
            return Ok(());
        };
        match fs::read_link(&self.holder) {
            Ok(held_by) if held_by == container => {}
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        match fs::remove_file(&self.holder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        match fs::remove_dir(directory) {
            // Somebody else has it, or it is gone.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound
                ) =>
            {
                Ok(())
            }
            other => other,
        }
    }

    /// The id on the host of a container's id, if it has one.
    pub(crate) fn on_host(&self, id: u32) -> Option<u32> {
        (id < self.size).then(|| self.first + id)
    }
}

#[cfg(test)]
mod tests;
