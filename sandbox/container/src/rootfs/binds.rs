//! Binds: from the host's path to a detached copy with all its options applied.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::error::MountProblem;
use super::mounts::{Entry, Outcome};
use super::options::{MountOptions, Propagation};
use super::resolve::c_string;
use super::sys::{self, MountAttr, attr, resolve};
use super::{Owners, RootfsOptions, idmap};

/// Opens a source that policy has approved. The path is canonical, so a link in it means that
/// somebody changed it since: refused.
pub(super) fn open_source(path: &Path) -> io::Result<OwnedFd> {
    let path = c_string(path.as_os_str().as_bytes())?;
    sys::openat2(sys::cwd(), &path, libc::O_PATH, 0, resolve::NO_SYMLINKS)
}

/// A detached copy of a bind's source with all its options applied.
pub(super) fn open_bind(entry: &Entry<'_>, options: &RootfsOptions) -> Outcome<OwnedFd> {
    let tree = copy(entry, options)?;
    if let Some(recursive) = entry.options.idmap {
        by_spec(tree.as_fd(), recursive, entry, None)?;
    }
    apply(tree.as_fd(), &entry.options)?;
    Ok(tree)
}

/// The same for a container with a user namespace; with the type of the file system if that could not
/// be mapped.
pub(super) fn open_mapped(
    entry: &Entry<'_>,
    options: &RootfsOptions,
    owners: Owners<'_>,
) -> Outcome<(OwnedFd, Option<String>)> {
    let tree = copy(entry, options)?;
    // In the host's mount namespace the copy of a shared mount is shared with it.
    // What lies below keeps that even where the spec says what the top is to be.
    if !matches!(entry.options.propagation, Some((Propagation::Shared, _))) {
        let slave = MountAttr {
            propagation: libc::MS_SLAVE,
            ..MountAttr::default()
        };
        sys::set_attributes(tree.as_fd(), &slave, true)
            .map_err(MountProblem::system("cut the mount off"))?;
    }
    let mut unmapped = None;
    if let Some(recursive) = entry.options.idmap {
        by_spec(tree.as_fd(), recursive, entry, Some(owners.user))?;
    } else if owners.first.is_some() {
        let recursive = entry.options.bind.unwrap_or(false);
        match idmap::set(tree.as_fd(), recursive, owners.user) {
            Ok(()) => {}
            // What it shows belongs to the kernel, not to anybody on a disk.
            Err(_) if idmap::is_kernels(tree.as_fd()) => {}
            Err(problem) if !problem.is_unmappable() => return Err(problem),
            Err(_) => {
                let kind = idmap::type_of(tree.as_fd());
                if !owners.may_be_unmapped && !is_engines_own(entry.mount.destination(), &kind) {
                    return Err(MountProblem::Unmappable { kind });
                }
                unmapped = Some(kind);
            }
        }
    }
    apply(tree.as_fd(), &entry.options)?;
    Ok((tree, unmapped))
}

/// What engines make for each container. On their default places below `/run` it is on tmpfs, which
/// Linux maps from 6.3 on.
const ENGINES_OWN: &[&str] = &[
    "/dev/shm",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/run/.containerenv",
];

/// Whether a bind has nothing of anybody's on it: then its being unmapped takes little from the
/// container, and nothing from anybody else. What a container makes in `/dev/shm` is its own either way.
pub(crate) fn is_engines_own(destination: &Path, kind: &str) -> bool {
    kind == "tmpfs"
        && ENGINES_OWN
            .iter()
            .any(|place| destination == Path::new(place))
}

/// Maps as the spec asks for.
fn by_spec(
    tree: BorrowedFd<'_>,
    recursive: bool,
    entry: &Entry<'_>,
    container: Option<BorrowedFd<'_>>,
) -> Outcome<()> {
    let uids = entry.mount.uid_mappings().as_deref();
    let gids = entry.mount.gid_mappings().as_deref();
    idmap::apply(tree, recursive, uids, gids, container)
}

/// A detached copy of a bind's source.
fn copy(entry: &Entry<'_>, options: &RootfsOptions) -> Outcome<OwnedFd> {
    let bundled;
    let path = if entry.source.is_absolute() {
        entry.source
    } else {
        bundled = options.bundle.join(entry.source);
        &bundled
    };
    let source = open_source(path).map_err(|source| MountProblem::System {
        action: "open the source",
        detail: if source.raw_os_error() == Some(libc::ELOOP) {
            ": its path has become a symbolic link since it was approved".to_owned()
        } else {
            String::new()
        },
        source,
    })?;
    let recursive = entry.options.bind.unwrap_or(false);
    sys::clone_tree(source.as_fd(), recursive).map_err(|source| MountProblem::System {
        action: "copy the source's mount",
        detail: if source.raw_os_error() == Some(libc::EINVAL) {
            ": it may be unbindable, or need `rbind` in a user namespace".to_owned()
        } else {
            String::new()
        },
        source,
    })
}

/// Sets a bind's attributes and propagation.
pub(super) fn apply(tree: BorrowedFd<'_>, options: &MountOptions) -> Outcome<()> {
    let failed = |source: io::Error| MountProblem::System {
        action: "set the mount's options",
        detail: if source.raw_os_error() == Some(libc::EPERM) {
            ": the user namespace may not lift what the host's mount has".to_owned()
        } else {
            String::new()
        },
        source,
    };
    let propagation = |recursive| match options.propagation {
        Some((kind, r)) if r == recursive => kind.flag(),
        _ => 0,
    };
    for recursive in [true, false] {
        let mut wanted = if recursive {
            options.recursive
        } else {
            options.attributes
        };
        if !recursive {
            // `rw`, `suid`, `dev`, `exec` say "as the source is": a container never gets more than
            // the host's own mount gives.
            wanted.clear &= attr::ATIME;
        }
        let attributes = MountAttr {
            propagation: propagation(recursive),
            ..wanted.to_mount_attr()
        };
        if !wanted.is_empty() || attributes.propagation != 0 {
            sys::set_attributes(tree, &attributes, recursive).map_err(failed)?;
        }
    }
    Ok(())
}
