//! Binds: from the host's path to a detached copy with all its options applied.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::error::MountProblem;
use super::mounts::{Entry, Outcome};
use super::options::{MountOptions, Propagation};
use super::resolve::c_string;
use super::sys::{self, MountAttr, attr, resolve};
use super::{Owners, RootfsOptions, idmap, submounts};

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

/// The same for a container with a user namespace; with what could not be mapped.
pub(super) fn open_mapped(
    entry: &Entry<'_>,
    options: &RootfsOptions,
    owners: Owners<'_>,
) -> Outcome<(OwnedFd, Vec<Unmapped>)> {
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
    let mut unmapped = Vec::new();
    if let Some(recursive) = entry.options.idmap {
        by_spec(tree.as_fd(), recursive, entry, Some(owners.user))?;
    } else if owners.first.is_some() {
        let recursive = entry.options.bind.unwrap_or(false);
        if let Err(problem) = idmap::set(tree.as_fd(), recursive, owners.user) {
            let source = source_path(entry, options);
            unmapped = without(tree.as_fd(), entry, &source, problem, owners)?;
        }
    }
    apply(tree.as_fd(), &entry.options)?;
    Ok((tree, unmapped))
}

/// What of a bind goes into the container unmapped, where it cannot be mapped.
fn without(
    tree: BorrowedFd<'_>,
    entry: &Entry<'_>,
    source: &Path,
    problem: MountProblem,
    owners: Owners<'_>,
) -> Outcome<Vec<Unmapped>> {
    let recursive = entry.options.bind.unwrap_or(false);
    let destination = entry.mount.destination();
    if idmap::is_kernels(tree) {
        // What it shows belongs to the kernel, not to anybody on a disk. What lies below may not.
        let below = if recursive {
            submounts::owned(source)?
        } else {
            Vec::new()
        };
        let below = below.into_iter().map(|(place, kind)| Unmapped {
            destination: destination.join(place.strip_prefix(source).unwrap_or(&place)),
            kind,
            because: Because::Kernel,
        });
        return Ok(below.collect());
    }
    if !problem.is_unmappable() {
        return Err(problem);
    }
    let top = idmap::type_of(tree);
    let below = if recursive {
        submounts::refusing(source, owners.user)?
    } else {
        None
    };
    let because = if below.is_none() && is_engines_own(source, destination, &top) {
        Because::Engine
    } else {
        Because::Policy
    };
    let kind = match below {
        Some((place, kind)) => format!("{kind} at {}", place.display()),
        None => top,
    };
    if because == Because::Policy && !owners.may_be_unmapped {
        return Err(MountProblem::Unmappable { kind });
    }
    Ok(vec![Unmapped {
        destination: destination.clone(),
        kind,
        because,
    }])
}

/// A mount whose files belong to nobody in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmapped {
    /// Where it is in the container.
    pub destination: PathBuf,
    /// The type of the file system that cannot be mapped, and where below the source it is.
    pub kind: String,
    /// Why it is there all the same.
    pub because: Because,
}

/// Why a mount may be unmapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// The policy says so.
    Policy,
    /// The engine made it for the container, with nothing of anybody's on it.
    Engine,
    /// It lies below a file system of the kernel's, which cannot be mapped either.
    Kernel,
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
/// Engines keep it in a directory named by the container's or sandbox's id: Podman and CRI-O in
/// `*-containers/ID/userdata`, containerd in `sandboxes/ID`, Docker in `containers/ID` and `mounts` there.
fn is_engines_own(source: &Path, destination: &Path, kind: &str) -> bool {
    let known = ENGINES_OWN.iter().map(Path::new);
    let mut known = known.filter(|place| *place == destination);
    if kind != "tmpfs" || !known.any(|place| place.file_name() == source.file_name()) {
        return false;
    }
    let names: Vec<&[u8]> = source.iter().rev().skip(1).map(OsStr::as_bytes).collect();
    let (id, collection) = match names[..] {
        [b"userdata", id, of, ..] if of.ends_with(b"-containers") => (id, true),
        [id, b"sandboxes", of, ..] => (id, of.starts_with(b"io.containerd.")),
        [b"mounts", id, b"containers", ..] | [id, b"containers", ..] => (id, true),
        _ => return false,
    };
    collection && id.len() == ID_DIGITS && id.iter().all(u8::is_ascii_hexdigit)
}

/// The length of an id that engines make.
const ID_DIGITS: usize = 64;

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

/// The source of a bind on the host.
fn source_path<'a>(entry: &Entry<'a>, options: &RootfsOptions) -> Cow<'a, Path> {
    if entry.source.is_absolute() {
        Cow::Borrowed(entry.source)
    } else {
        Cow::Owned(options.bundle.join(entry.source))
    }
}

/// A detached copy of a bind's source.
fn copy(entry: &Entry<'_>, options: &RootfsOptions) -> Outcome<OwnedFd> {
    let path = source_path(entry, options);
    let source = open_source(&path).map_err(|source| MountProblem::System {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_an_engine_made_is_its_own() {
        let id = "0123456789abcdef".repeat(4);
        for (source, destination, kind, own) in [
            (
                "/run/c/overlay-containers/ID/userdata/shm",
                "/dev/shm",
                "tmpfs",
                true,
            ),
            (
                "/run/c/overlay-containers/ID/userdata/hosts",
                "/etc/hosts",
                "tmpfs",
                true,
            ),
            (
                "/run/c/overlay-containers/ID/userdata/.containerenv",
                "/run/.containerenv",
                "tmpfs",
                true,
            ),
            (
                "/run/c/io.containerd.grpc.v1.cri/sandboxes/ID/shm",
                "/dev/shm",
                "tmpfs",
                true,
            ),
            ("/d/containers/ID/mounts/shm", "/dev/shm", "tmpfs", true),
            (
                "/d/containers/ID/resolv.conf",
                "/etc/resolv.conf",
                "tmpfs",
                true,
            ),
            // A volume that somebody shares between containers.
            ("/run/shared", "/dev/shm", "tmpfs", false),
            ("/dev/shm", "/dev/shm", "tmpfs", false),
            ("/run/shared/shm", "/dev/shm", "tmpfs", false),
            ("/run/sandboxes/ID/shm", "/dev/shm", "tmpfs", false),
            (
                "/run/c/overlay-containers/ID/userdata/shm",
                "/data",
                "tmpfs",
                false,
            ),
            (
                "/run/c/overlay-containers/ID/userdata/shm",
                "/dev/shm",
                "nfs",
                false,
            ),
            (
                "/run/c/overlay-containers/mine/userdata/shm",
                "/dev/shm",
                "tmpfs",
                false,
            ),
            ("/d/containers/ID/secret", "/etc/hosts", "tmpfs", false),
        ] {
            let source = source.replace("ID", &id);
            let found = is_engines_own(Path::new(&source), Path::new(destination), kind);
            assert_eq!(found, own, "{source} at {destination}, {kind}");
        }
    }
}
