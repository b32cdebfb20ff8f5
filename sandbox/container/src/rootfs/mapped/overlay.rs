//! An overlay over mapped layers.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};

use nix::sys::statvfs::{FsFlags, fstatvfs};

use super::Layers;
use super::layers::{Overlay, common};
use super::trusted;
use crate::init::chain;
use crate::rootfs::aside;
use crate::rootfs::error::MountProblem;
use crate::rootfs::filesystem::Context;
use crate::rootfs::idmap;
use crate::rootfs::mounts::Outcome;
use crate::rootfs::resolve::c_string;
use crate::rootfs::sys::{self, attr, resolve};

/// Places for mapped layers, on kernels that take no descriptors.
mod staging;

/// The layers, mapped.
struct Mapped {
    lower: Vec<OwnedFd>,
    writable: Option<Writable>,
}

/// The mapped directory that holds the upper and the work directory, and where they are in it.
struct Writable {
    tree: OwnedFd,
    upper: PathBuf,
    work: PathBuf,
}

/// Mounts an overlay over the mapped layers of another, detached. `note` becomes a link to the work
/// directory that is made for it and is to be removed after it, whatever comes of it.
pub(super) fn mount(
    overlay: &Overlay,
    user: BorrowedFd<'_>,
    first: u32,
    which: Layers,
    note: &Path,
) -> Outcome<OwnedFd> {
    let lower = overlay.lower.iter().map(|path| layer(path, Some(user)));
    let user_of_upper = (which == Layers::All).then_some(user);
    let mapped = Mapped {
        lower: lower.collect::<Outcome<_>>()?,
        writable: match &overlay.upper {
            Some((upper, work)) => Some(writable(
                upper,
                work,
                user_of_upper,
                &work_name(first, note),
                note,
            )?),
            None => None,
        },
    };
    // What an overlay does to its layers it does as who mounted it: that must be somebody who has an
    // id in the layers' mapping, or their owner would be nobody. Root's capabilities stay.
    let tree = sys::as_owner(first, || by_descriptors(overlay, &mapped))
        .map_err(MountProblem::system("act as the container's root"))?;
    let tree = match tree {
        Err(problem) if is_too_old(&problem) => {
            let tree = sys::as_owner(first, || staging::mount(overlay, &mapped))
                .map_err(MountProblem::system("act as the container's root"))?;
            // Both reasons: which of the two ways this kernel has is not known.
            tree.map_err(|by_paths| MountProblem::Layers {
                problem: format!("{}; {}", chain(&problem), chain(&by_paths)),
            })?
        }
        other => other?,
    };
    // An overlay that cannot write to its work directory is mounted read-only and says nothing.
    let flags = fstatvfs(&tree)
        .map_err(|errno| MountProblem::system("look at the new overlay")(errno.into()))?
        .flags();
    let asked = overlay.upper.is_none() || overlay.flags.iter().any(|flag| flag == "ro");
    if flags.contains(FsFlags::ST_RDONLY) && !asked {
        return Err(MountProblem::Layers {
            problem: "the overlay over mapped layers cannot write to its upper directory"
                .to_owned(),
        });
    }
    Ok(tree)
}

/// A directory below a detached mount, as a mount of its own.
pub(super) fn part(tree: BorrowedFd<'_>, path: &Path) -> Outcome<OwnedFd> {
    let failed = MountProblem::system("open the part of the overlay that is the root");
    let directory = below(tree, path).map_err(&failed)?;
    match sys::clone_tree(directory.as_fd(), false) {
        Err(error) if aside::is_needed(&error) => aside::within(tree, || {
            sys::clone_tree(directory.as_fd(), false).map_err(&failed)
        }),
        other => other.map_err(&failed),
    }
}

fn below(tree: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let path = c_string(path.as_os_str().as_bytes())?;
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    sys::openat2(
        tree,
        &path,
        flags,
        0,
        resolve::BENEATH | resolve::NO_SYMLINKS,
    )
}

/// A copy of a layer's mount, mapped.
fn layer(path: &Path, user: Option<BorrowedFd<'_>>) -> Outcome<OwnedFd> {
    mapped(&trusted::open(path)?, path, user)
}

fn mapped(directory: &OwnedFd, path: &Path, user: Option<BorrowedFd<'_>>) -> Outcome<OwnedFd> {
    let tree =
        sys::clone_tree(directory.as_fd(), false).map_err(|source| MountProblem::System {
            action: "copy the mount of the layer",
            detail: format!(" {}", path.display()),
            source,
        })?;
    if let Some(user) = user {
        idmap::set(tree.as_fd(), false, user)?;
    }
    Ok(tree)
}

/// The upper directory and the work directory must be on one mount: that of what holds both.
fn writable(
    upper: &Path,
    work: &Path,
    user: Option<BorrowedFd<'_>>,
    name: &str,
    note: &Path,
) -> Outcome<Writable> {
    let Some(both) = common(upper, work) else {
        return Err(MountProblem::Layers {
            problem: format!("{} is inside of {}", work.display(), upper.display()),
        });
    };
    let directory = trusted::open(both)?;
    // It is opened by its name in there: nobody else may put something in its place.
    trusted::open(upper)?;
    // An overlay makes what it needs in its work directory anew when it is mounted: with the engine's,
    // the engine's own mount could not copy a file up any more. And a volatile overlay marks it, and is
    // not mounted again with one that is marked.
    fresh_work(&both.join(name), note)?;
    Ok(Writable {
        tree: mapped(&directory, both, user)?,
        upper: upper.strip_prefix(both).unwrap_or(upper).to_owned(),
        work: name.into(),
    })
}

/// The name of a container's work directory. Containers of a pod have the same ids, and may have the same
/// root file system; `note` is in the container's state directory, so no other container has it.
fn work_name(first: u32, note: &Path) -> String {
    let mut hasher = DefaultHasher::new();
    note.hash(&mut hasher);
    format!("cofferdam-work-{first}-{:016x}", hasher.finish())
}

/// Makes a work directory of the container's own beside the engine's.
fn fresh_work(path: &Path, note: &Path) -> Outcome<()> {
    let failed = |source| MountProblem::System {
        action: "make the work directory",
        detail: format!(" {}", path.display()),
        source,
    };
    // That of a container that had the same name and ids, and was not deleted.
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    // The link first: whatever happens from here on, who removes the container finds the directory.
    symlink(path, note).map_err(failed)?;
    fs::DirBuilder::new()
        .mode(0o700)
        .create(path)
        .map_err(failed)
}

/// Linux takes layers that are mounted nowhere from 6.15 on.
fn by_descriptors(overlay: &Overlay, mapped: &Mapped) -> Outcome<OwnedFd> {
    let context = Context::open("overlay")?;
    context.source(b"overlay")?;
    let lower = mapped.lower.len() - overlay.data_only;
    for (index, layer) in mapped.lower.iter().enumerate() {
        let key = if index < lower {
            c"lowerdir+"
        } else {
            c"datadir+"
        };
        context.set_descriptor(key, layer.as_fd())?;
    }
    if let Some(writable) = &mapped.writable {
        let tree = writable.tree.as_fd();
        for (key, path) in [(c"upperdir", &writable.upper), (c"workdir", &writable.work)] {
            let directory = below(tree, path).map_err(MountProblem::system(
                "open the directory that takes changes",
            ))?;
            context.set_descriptor(key, directory.as_fd())?;
        }
    }
    for (name, value) in &overlay.options {
        context.set(name, value.as_deref())?;
    }
    context.mount(attributes(&overlay.flags))
}

fn is_too_old(problem: &MountProblem) -> bool {
    matches!(problem, MountProblem::System { source, .. }
        if matches!(source.raw_os_error(), Some(libc::EINVAL | libc::EBADF | libc::EOPNOTSUPP)))
}

/// The words of a mount as attributes of another.
fn attributes(words: &[String]) -> u64 {
    words.iter().fold(0, |set, word| {
        set | match word.as_str() {
            "ro" => attr::RDONLY,
            "nosuid" => attr::NOSUID,
            "nodev" => attr::NODEV,
            "noexec" => attr::NOEXEC,
            "noatime" => attr::NOATIME,
            "nodiratime" => attr::NODIRATIME,
            "nosymfollow" => attr::NOSYMFOLLOW,
            _ => 0,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two containers of a pod on one root file system: the second took the first's directory away.
    #[test]
    fn containers_with_the_same_ids_have_work_directories_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let [mut made, mut again] = [vec![], vec![]];
        for container in ["one", "two"] {
            let state = dir.path().join(container);
            fs::create_dir(&state).unwrap();
            let note = state.join("work");
            let work = dir.path().join(work_name(100_000, &note));
            fresh_work(&work, &note).unwrap();
            fs::write(work.join("file"), "").unwrap();
            assert_eq!(fs::read_link(&note).unwrap(), work);
            again.push(dir.path().join(work_name(100_000, &note)));
            made.push(work);
        }
        assert_eq!(made, again);
        assert_ne!(made[0], made[1]);
        assert!(made.iter().all(|work| work.join("file").exists()));
    }
}
