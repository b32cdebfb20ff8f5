//! Files that an analysis looked at, and whether they are still what they were.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use serde::{Deserialize, Serialize};

use super::medium::{self, Media};

/// With more than these a profile is not kept: looking at all of them again would take longer than
/// the analysis.
pub const MAX_DEPENDENCIES: usize = 8192;

/// What was learnt of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Use {
    /// Where it leads, and what kind of file is there.
    Looked,
    /// The names in it.
    Listed,
    /// What it holds.
    Read,
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// The file's type and its bits for executing.
    pub kind: u32,
    /// The device.
    pub device: u64,
    /// The inode.
    pub inode: u64,
    /// In bytes.
    pub size: u64,
    /// The time of the last change of its content, in seconds and nanoseconds.
    pub modified: (i64, i64),
    /// The time of the last change of the inode, which nobody can set.
    pub changed: (i64, i64),
}

impl Identity {
    /// Of a file that was looked at.
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            kind: metadata.mode() & (libc::S_IFMT | 0o111),
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether it changed at least `seconds` before `now` (both since 1970): younger files can change
    /// once more without their times showing it.
    pub fn is_at_rest(&self, now: i64, seconds: i64) -> bool {
        now.saturating_sub(self.changed.0.max(self.modified.0)) >= seconds
    }

    /// Whether what was learnt of this file holds for what is at its path by now: it is the same file, in
    /// the same state where that was learnt.
    pub fn is_still(&self, now: &Self, used: Use) -> bool {
        self.same(now, used, false)
    }

    /// The same where this one was seen through an overlay whose lowest layer the other lies in: an overlay
    /// has a device of its own, may put its own bits above those of an inode's number, and shows a directory
    /// that something was made in as another one.
    pub fn is_still_below(&self, now: &Self, used: Use) -> bool {
        const NUMBER: u64 = 0xffff_ffff;
        if self.kind & libc::S_IFMT == libc::S_IFDIR {
            return now.kind & libc::S_IFMT == libc::S_IFDIR;
        }
        let below = Self {
            device: now.device,
            inode: now.inode & !NUMBER | self.inode & NUMBER,
            ..*self
        };
        below.same(now, used, false)
    }

    /// Whether what was learnt of the one holds for the other.
    fn same(&self, other: &Self, used: Use, bound: bool) -> bool {
        match used {
            // What stands behind a bind mount differs from container to container.
            Use::Looked if bound => self.kind == other.kind,
            Use::Looked => {
                let key = |id: &Self| (id.kind, id.device, id.inode);
                key(self) == key(other)
            }
            Use::Listed | Use::Read => self == other,
        }
    }
}

/// A path that was looked at, and what was there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// The bind mount it lies behind, by the place in the list of the request; none for the root.
    pub mount: Option<usize>,
    /// Below the root, or below that mount's source; empty for the source itself.
    pub path: PathBuf,
    /// What was learnt.
    pub used: Use,
    /// What was there; nothing if there was nothing.
    pub found: Option<Identity>,
}

/// Opens what a dependency is looked up below.
fn directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)?;
    Ok(file.into())
}

/// The path without what leads from the root to the root: the kernel goes from there to what is mounted
/// over it, where a view of the files may be.
fn below(path: &Path) -> &Path {
    let mut parts = path.components();
    let mut rest = parts.as_path();
    while let Some(Component::RootDir | Component::CurDir | Component::ParentDir) = parts.next() {
        rest = parts.as_path();
    }
    rest
}

/// What is at `path` below `base`, or nothing. Inside the root links lead where the container would
/// see them lead; behind a mount none may lead out. Fails where an identity says nothing.
fn look(base: &OwnedFd, path: &Path, bound: bool, media: &Media) -> io::Result<Option<Identity>> {
    let path = if bound {
        path.strip_prefix("/").unwrap_or(path)
    } else {
        below(path)
    };
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let inside = if bound {
        ResolveFlag::RESOLVE_BENEATH
    } else {
        ResolveFlag::RESOLVE_IN_ROOT
    };
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(inside | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    match openat2(base, path, how) {
        Ok(found) => medium::identity(media, &File::from(found)).map(Some),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENAMETOOLONG) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Dependency {
    /// What is at `path` inside the root file system `base` is open for, links followed inside.
    pub fn inside(base: &OwnedFd, path: &Path, media: &Media) -> io::Result<Option<Identity>> {
        look(base, path, false, media)
    }

    /// Whether everything inside a root file system without mounts is as it was.
    pub fn all_hold(dependencies: &[Self], root: &Path) -> io::Result<bool> {
        hold(dependencies, root, &[])
    }

    /// What is behind a bind mount's source now. Fails where a link leads out of it.
    pub fn behind(source: &Path, path: &Path, media: &Media) -> io::Result<Option<Identity>> {
        let base = directory(source)?;
        if path.as_os_str().is_empty() {
            return medium::identity(media, &File::from(base)).map(Some);
        }
        look(&base, path, true, media)
    }
}

/// Whether everything is as it was. `sources`: what is bound, by place in the list of mounts.
pub(super) fn hold(
    dependencies: &[Dependency],
    root: &Path,
    sources: &[Option<PathBuf>],
) -> io::Result<bool> {
    let media = Media::default();
    let base = directory(root)?;
    let mut bound: BTreeMap<usize, OwnedFd> = BTreeMap::new();
    for dependency in dependencies {
        let now = match dependency.mount {
            None => look(&base, &dependency.path, false, &media)?,
            Some(mount) => {
                let Some(Some(source)) = sources.get(mount) else {
                    return Ok(false);
                };
                if dependency.path.as_os_str().is_empty() {
                    Dependency::behind(source, &dependency.path, &media)?
                } else {
                    let base = match bound.entry(mount) {
                        Entry::Occupied(open) => open.into_mut(),
                        Entry::Vacant(new) => new.insert(directory(source)?),
                    };
                    look(base, &dependency.path, true, &media)?
                }
            }
        };
        let same = match (&dependency.found, &now) {
            (None, None) => true,
            (Some(then), Some(now)) => then.same(now, dependency.used, dependency.mount.is_some()),
            _ => false,
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// What there is at a path, as an analysis would note it.
    fn note(root: &Path, path: &str, used: Use) -> Dependency {
        let base = directory(root).unwrap();
        Dependency {
            mount: None,
            path: path.into(),
            used,
            found: look(&base, Path::new(path), false, &Media::default()).unwrap(),
        }
    }

    #[test]
    fn a_change_of_what_was_used_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir(root.join("bin")).unwrap();
        fs::write(root.join("bin/a"), "a").unwrap();
        fs::write(root.join("bin/b"), "b").unwrap();
        symlink("/bin/a", root.join("link")).unwrap();
        let all = [
            note(root, "/link", Use::Read),
            note(root, "/bin", Use::Listed),
            note(root, "/bin/none", Use::Looked),
            note(root, "/../../link", Use::Looked),
        ];
        let held = |at: usize| hold(&all[at..=at], root, &[]).unwrap();
        assert!((0..all.len()).all(held));
        // Another target of the link: what was read through it is another file.
        fs::remove_file(root.join("link")).unwrap();
        symlink("/bin/b", root.join("link")).unwrap();
        assert_eq!(
            (0..4).map(held).collect::<Vec<_>>(),
            [false, true, true, false]
        );
        // What was not there is there.
        fs::write(root.join("bin/none"), "").unwrap();
        assert!(!held(1) && !held(2));
    }

    #[test]
    fn what_lies_on_a_file_system_that_others_date_is_no_dependency() {
        let media = Media::default();
        let proc = Path::new("/proc");
        let version = Path::new("version");
        assert!(Dependency::inside(&directory(proc).unwrap(), version, &media).is_err());
        assert!(Dependency::behind(proc, version, &media).is_err());
        assert!(Dependency::behind(proc, Path::new(""), &media).is_err());
        // What is not there is not there on any.
        let none = Dependency::behind(proc, Path::new("none"), &media).unwrap();
        assert_eq!(none, None);
        // One of an earlier start that now lies there does not hold, whatever it says of itself.
        let then = Dependency {
            mount: None,
            path: "/version".into(),
            used: Use::Read,
            found: Some(Identity::of(&fs::metadata("/proc/version").unwrap())),
        };
        assert!(!hold(&[then], proc, &[]).unwrap_or(false));
    }

    #[test]
    fn links_behind_a_mount_do_not_lead_out() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/etc/passwd", dir.path().join("out")).unwrap();
        fs::write(dir.path().join("in"), "").unwrap();
        assert!(Dependency::behind(dir.path(), Path::new("out"), &Media::default()).is_err());
        let found = Dependency::behind(dir.path(), Path::new("in"), &Media::default()).unwrap();
        assert!(found.is_some());
        let lost = Dependency {
            mount: Some(1),
            path: "in".into(),
            used: Use::Looked,
            found,
        };
        let sources = [None, None];
        assert!(!hold(&[lost], dir.path(), &sources).unwrap());
    }
}
