//! Layers by their paths, along directories that nobody but root can change.
//!
//! The kernel names an overlay's layers by the paths that the engine gave it. Who could rename a directory
//! on the way would choose what is mounted, so such a way is refused.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open as open_path, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, fstat};

use crate::rootfs::error::MountProblem;
use crate::rootfs::mounts::Outcome;

/// So many links are followed, as many as the kernel follows.
const MAX_LINKS: usize = 40;

/// Why a layer cannot be opened.
enum Refused {
    System(Errno),
    /// This directory can be changed by others.
    Open(PathBuf),
}

impl From<Errno> for Refused {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

/// Opens a directory. Engines name layers by links of their own, so those are followed, one by one.
pub(super) fn open(path: &Path) -> Outcome<OwnedFd> {
    walk(path).map_err(|refused| match refused {
        Refused::System(errno) => MountProblem::System {
            action: "open the layer",
            detail: format!(" {}", path.display()),
            source: io::Error::from(errno),
        },
        Refused::Open(directory) => MountProblem::Layers {
            problem: format!(
                "others than root can put something else in the place of its layer {}: {} must belong to \
                 root and be writable by root alone",
                path.display(),
                directory.display()
            ),
        },
    })
}

/// Directories from the root to where the walk is, each with its path.
struct Way(Vec<(OwnedFd, PathBuf)>);

impl Way {
    fn at_root() -> Result<Self, Errno> {
        let root = open_path("/", directory(), Mode::empty())?;
        Ok(Self(vec![(root, PathBuf::from("/"))]))
    }

    fn here(&self) -> Result<&(OwnedFd, PathBuf), Errno> {
        self.0.last().ok_or(Errno::ENOENT)
    }

    fn up(&mut self) {
        // The directory above the root is the root.
        if self.0.len() > 1 {
            self.0.pop();
        }
    }
}

fn directory() -> OFlag {
    OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC
}

fn walk(path: &Path) -> Result<OwnedFd, Refused> {
    if !path.is_absolute() {
        return Err(Errno::EINVAL.into());
    }
    let mut way = Way::at_root()?;
    let mut names = VecDeque::new();
    let mut links = 0;
    put_before(&mut names, path);
    while let Some(name) = names.pop_front() {
        if name == "/" {
            way = Way::at_root()?;
            continue;
        }
        if name == ".." {
            way.up();
            continue;
        }
        let (here, place) = way.here()?;
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let next = openat(here, name.as_os_str(), flags, Mode::empty())?;
        let (above, status) = (fstat(here)?, fstat(&next)?);
        if !is_roots_alone(&above, &status) {
            return Err(Refused::Open(place.clone()));
        }
        match status.st_mode & libc::S_IFMT {
            libc::S_IFDIR => {
                let place = place.join(&name);
                way.0.push((next, place));
            }
            libc::S_IFLNK if links < MAX_LINKS => {
                links += 1;
                put_before(&mut names, Path::new(&readlinkat(&next, "")?));
            }
            libc::S_IFLNK => return Err(Errno::ELOOP.into()),
            _ => return Err(Errno::ENOTDIR.into()),
        }
    }
    way.0
        .pop()
        .map(|(last, _)| last)
        .ok_or(Errno::ENOENT.into())
}

fn put_before(names: &mut VecDeque<OsString>, path: &Path) {
    for component in path.components().rev() {
        if component != Component::CurDir {
            names.push_front(component.as_os_str().to_owned());
        }
    }
}

/// Whether only root can rename or replace `entry` of the directory `above`. In a sticky one, such as
/// `/tmp`, that is who owns either. The group root is root's.
fn is_roots_alone(above: &FileStat, entry: &FileStat) -> bool {
    let own = nix::unistd::geteuid().as_raw();
    let is_roots = |status: &FileStat| status.st_uid == 0 || status.st_uid == own;
    let others = match above.st_gid {
        0 => libc::S_IWOTH,
        _ => libc::S_IWGRP | libc::S_IWOTH,
    };
    let writable = above.st_mode & others != 0;
    let sticky = above.st_mode & libc::S_ISVTX != 0;
    is_roots(above) && (!writable || (sticky && is_roots(entry)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    fn is_at(found: &OwnedFd, path: &Path) -> bool {
        let (found, wanted) = (fstat(found).unwrap(), fs::metadata(path).unwrap());
        (found.st_dev, found.st_ino) == (wanted.dev(), wanted.ino())
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn links_are_followed_and_every_directory_on_the_way_is_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let layer = base.join("store/1/diff");
        fs::create_dir_all(&layer).unwrap();
        fs::create_dir(base.join("l")).unwrap();
        symlink("../store/1/diff", base.join("l/SHORT")).unwrap();
        symlink(base.join("l"), base.join("names")).unwrap();
        symlink("loop", base.join("loop")).unwrap();
        fs::write(base.join("file"), "").unwrap();
        // What a layer's own mode says is the image's affair.
        mode(&layer, 0o777);
        let short = base.join("names/SHORT");
        for path in [&layer, &short, &base.join("store/../l/./SHORT")] {
            assert!(is_at(&open(path).unwrap(), &layer), "{}", path.display());
        }
        for path in ["loop", "file", "file/x", "absent"] {
            assert!(open(&base.join(path)).is_err(), "{path}");
        }
        assert!(open(Path::new("store")).is_err());
        for place in ["store", "store/1", "l"] {
            let place = base.join(place);
            mode(&place, 0o757);
            let error = open(&short).unwrap_err().to_string();
            assert!(
                error.contains(&format!("{} must", place.display())),
                "{error}"
            );
            mode(&place, 0o1777);
            assert!(open(&short).is_ok());
            mode(&place, 0o755);
        }
    }

    #[test]
    fn who_can_rename_is_told_by_owner_mode_and_group() {
        let status = |uid, gid, mode| {
            let mut status = fstat(fs::File::open("/").unwrap()).unwrap();
            (status.st_uid, status.st_gid) = (uid, gid);
            status.st_mode = libc::S_IFDIR | mode;
            status
        };
        for (above, entry, roots_alone) in [
            ((0, 0, 0o755), 0, true),
            ((0, 0, 0o755), 1234, true),
            ((0, 0, 0o775), 1234, true),
            ((0, 5, 0o775), 0, false),
            ((0, 0, 0o757), 0, false),
            ((0, 5, 0o1777), 0, true),
            ((0, 5, 0o1777), 1234, false),
            ((1234, 0, 0o755), 0, false),
        ] {
            let (uid, gid, mode) = above;
            let found = is_roots_alone(&status(uid, gid, mode), &status(entry, 0, 0o755));
            assert_eq!(found, roots_alone, "{above:?} {entry}");
        }
    }
}
