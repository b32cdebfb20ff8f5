//! The root file system with the owners of a user namespace, whatever owners it has on disk.
//!
//! An overlay cannot be id-mapped, but its layers can: they are mapped one by one, and an overlay
//! over the mapped layers is mounted for the container alone. It has the same upper directory as the
//! engine's own mount, which nobody changes while the container runs. What the container makes is on
//! disk as if root had made it, so the engine's diff, commit and copy see the usual owners.

/// What an overlay is made of.
mod layers;

/// An overlay over mapped layers.
mod overlay;

/// The way to a layer.
mod trusted;

use std::fs;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, fstatfs};

use super::error::{MountProblem, Result, RootfsError};
use super::mounts::Outcome;
use super::sys::{self, MountAttr};
use super::{idmap, root};

/// Which layers of an overlay are mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layers {
    /// All: what the container makes is on disk as if root had made it.
    All,
    /// Those that are only read: what the container makes has on disk the ids that it has on the host. So
    /// does containerd understand `uidmap=`, which gives the upper directory to the container's root.
    Lower,
}

/// Opens the root file system for a container in the user namespace `user`, whose id 0 is `first` on
/// the host: a detached mount of it, and of what is mounted below it. `note` becomes a link to a directory
/// that is to be removed after it, if one is made.
pub(crate) fn open(
    rootfs: &Path,
    user: BorrowedFd<'_>,
    first: u32,
    layers: Layers,
    note: &Path,
) -> Result<OwnedFd> {
    let directory = root::open(rootfs)?;
    let failed = |problem| RootfsError::Unmappable {
        path: rootfs.to_owned(),
        source: Box::new(problem),
    };
    let kind = fstatfs(&directory).map_err(|errno| {
        failed(MountProblem::system("look at the file system")(
            errno.into(),
        ))
    })?;
    if kind.filesystem_type() == OVERLAYFS_SUPER_MAGIC {
        return of_overlay(directory.as_fd(), rootfs, user, first, layers, note).map_err(failed);
    }
    if layers == Layers::Lower {
        return Err(failed(MountProblem::Layers {
            problem: "it is no overlay, so there is nothing to map but all of it".to_owned(),
        }));
    }
    let tree = sys::clone_tree(directory.as_fd(), true)
        .map_err(MountProblem::system("copy the mount"))
        .map_err(failed)?;
    idmap::set(tree.as_fd(), true, user).map_err(failed)?;
    // The copy of a shared mount is shared too: what is mounted in the container would show on the
    // host, and the kernel refuses to pivot.
    let slave = MountAttr {
        propagation: libc::MS_SLAVE,
        ..MountAttr::default()
    };
    sys::set_attributes(tree.as_fd(), &slave, true)
        .map_err(MountProblem::system("cut the mount off"))
        .map_err(failed)?;
    Ok(tree)
}

fn of_overlay(
    directory: BorrowedFd<'_>,
    rootfs: &Path,
    user: BorrowedFd<'_>,
    first: u32,
    which: Layers,
    note: &Path,
) -> Outcome<OwnedFd> {
    let list = list()?;
    if let Some(place) = layers::below(&list, rootfs) {
        return Err(MountProblem::Layers {
            problem: format!("{} is mounted below it", place.display()),
        });
    }
    let unclear = |why: layers::Unclear| MountProblem::Layers {
        problem: match why {
            layers::Unclear::Unlisted => "the kernel does not list its mount".to_owned(),
            layers::Unclear::Option(option) => format!("its options say {option:?}"),
            layers::Unclear::Relative(path) => format!(
                "its layer {} is relative to a directory that is not known; an image with fewer \
                 layers does without",
                path.display()
            ),
        },
    };
    let number = number(directory)?;
    let mut overlay = layers::Overlay::of(&list, number).map_err(unclear)?;
    overlay.make_absolute(Path::exists).map_err(unclear)?;
    let mut tree = overlay::mount(&overlay, user, first, which, note)?;
    // What the engine's own mount remembers of names that were not there would hide what the container
    // makes from the engine's copy.
    sys::forget_names(directory).map_err(MountProblem::system("refresh the engine's own mount"))?;
    // A part of an overlay is a part of the new one.
    let rest = rootfs.strip_prefix(&overlay.place).unwrap_or(rootfs);
    let part = overlay.root.strip_prefix("/").unwrap_or(&overlay.root);
    let part = part.join(rest);
    if part != Path::new("") {
        tree = overlay::part(tree.as_fd(), &part)?;
    }
    Ok(tree)
}

/// The kernel's list of mounts.
pub(super) fn list() -> Outcome<Vec<u8>> {
    let mut text = Vec::new();
    let read = fs::File::open("/proc/self/mountinfo")
        .and_then(|file| file.take(layers::MAX_LIST + 1).read_to_end(&mut text));
    match read {
        Ok(length) if length as u64 > layers::MAX_LIST => Err(MountProblem::Layers {
            problem: format!(
                "the list of mounts is longer than {} bytes",
                layers::MAX_LIST
            ),
        }),
        Ok(_) => Ok(text),
        Err(source) => Err(MountProblem::system("read the list of mounts")(source)),
    }
}

/// The number of the mount that a descriptor is on.
fn number(directory: BorrowedFd<'_>) -> Outcome<u64> {
    let path = PathBuf::from(format!("/proc/self/fdinfo/{}", directory.as_raw_fd()));
    let failed = MountProblem::system("find the mount's number");
    let text = fs::read_to_string(path).map_err(&failed)?;
    layers::mount_number(&text).ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))
}
