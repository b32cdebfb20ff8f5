//! What is mounted below a bind's source, by the kernel's list of mounts (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use cofferdam_profiles::mountinfo::unescape;

use super::binds::open_source;
use super::error::MountProblem;
use super::mounts::Outcome;
use super::{idmap, mapped, sys};

/// A mount below, and the name of its file system.
pub(super) type Below = (PathBuf, String);

/// The first mount below that cannot be mapped by a user namespace; `None` if all can.
pub(super) fn refusing(source: &Path, user: BorrowedFd<'_>) -> Outcome<Option<Below>> {
    for place in places(&mapped::list()?, source) {
        let mount = copy(&place)?;
        if idmap::set(mount.as_fd(), false, user).is_err() {
            return Ok(Some((place, idmap::type_of(mount.as_fd()))));
        }
    }
    Ok(None)
}

/// The mounts below whose files have owners: those that are not the kernel's.
pub(super) fn owned(source: &Path) -> Outcome<Vec<Below>> {
    let mut owned = Vec::new();
    for place in places(&mapped::list()?, source) {
        let mount = copy(&place)?;
        if !idmap::is_kernels(mount.as_fd()) {
            owned.push((place, idmap::type_of(mount.as_fd())));
        }
    }
    Ok(owned)
}

fn copy(place: &Path) -> Outcome<OwnedFd> {
    let failed = |source| MountProblem::System {
        action: "look at what is mounted below the source",
        detail: format!(" at {}", place.display()),
        source,
    };
    let open = open_source(place).map_err(failed)?;
    sys::clone_tree(open.as_fd(), false).map_err(failed)
}

fn places(list: &[u8], source: &Path) -> Vec<PathBuf> {
    let lines = list.split(|byte| *byte == b'\n');
    let places = lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    let places = places.map(|place| PathBuf::from(OsString::from_vec(unescape(place))));
    let mut below: Vec<PathBuf> = places
        .filter(|place| place.starts_with(source) && place != source)
        .collect();
    below.sort();
    // One over another: only the upper one can be seen.
    below.dedup();
    below
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_is_named_once() {
        let list = b"1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:5 / /data rw - ext4 /dev/b rw\n\
            3 2 0:6 / /data/a\\040b rw - nfs s:/ rw\n4 3 0:7 / /data/a\\040b rw - tmpfs t rw\n\
            5 1 0:8 / /database rw - ext4 /dev/c rw\n\n";
        assert_eq!(places(list, Path::new("/data")), [Path::new("/data/a b")]);
        assert_eq!(places(list, Path::new("/")).len(), 3);
        assert!(places(list, Path::new("/database")).is_empty());
    }
}
