//! Putting processes into the container's cgroups.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use nix::unistd::Pid;

use super::host::{Mode, join, parse_own};
use super::location::Location;
use super::{Error, file};

/// The quick way into a container's cgroups: everything is opened before the clone.
///
/// The parent passes `clone_fd` to clone3 (`CLONE_INTO_CGROUP`); the child calls `join` first
/// thing, while it has one thread and before it unshares its cgroup namespace. The files were
/// opened by the parent, so a child in a new user namespace may still write to them.
#[derive(Debug)]
pub(super) struct Entry {
    /// `tasks` of each v1 hierarchy, or `cgroup.procs` of the unified one, and the directory.
    tasks: Vec<(File, PathBuf)>,
    /// The directory in the unified hierarchy.
    unified: Option<(File, PathBuf)>,
}

impl Entry {
    pub(super) fn into(location: &Location) -> Result<Self, Error> {
        // Linux kills what is cloned into a cgroup that has ever been killed by `cgroup.kill`
        // (kernel/cgroup/cgroup.c, cgroup_post_fork: the parent's cgroup does not have the same
        // `kill_seq`). One that was there before us may have been, so it is joined by writing.
        let dirs = location
            .dirs
            .iter()
            .map(|d| (d.path.clone(), d.is_unified(), d.created_from.is_some()));
        Self::open(dirs)
    }

    /// Opens directories, each unified or not, and if so to be cloned into or not.
    fn open(dirs: impl Iterator<Item = (PathBuf, bool, bool)>) -> Result<Self, Error> {
        let mut entry = Self {
            tasks: Vec::new(),
            unified: None,
        };
        for (path, unified, clone) in dirs {
            let opened = if unified && clone {
                OpenOptions::new()
                    .read(true)
                    .custom_flags(libc::O_DIRECTORY)
                    .open(&path)
            } else {
                let name = if unified { "cgroup.procs" } else { "tasks" };
                OpenOptions::new().write(true).open(path.join(name))
            };
            match opened {
                Ok(file) if unified && clone => entry.unified = Some((file, path)),
                Ok(file) => entry.tasks.push((file, path)),
                Err(source) => return Err(Error::Open { path, source }),
            }
        }
        Ok(entry)
    }

    /// The cgroup for clone3's `CLONE_INTO_CGROUP`, if there is a unified hierarchy.
    pub(super) fn clone_fd(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(|(dir, _)| dir.as_fd())
    }

    /// In the child: joins every hierarchy that it was not cloned into. The caller must have one thread only, since just
    /// the calling thread moves.
    pub(super) fn join(&self) -> Result<(), Error> {
        for (tasks, path) in &self.tasks {
            // "0" is the writer itself: the kernel then skips the lock that makes joins slow.
            (&*tasks).write_all(b"0").map_err(|source| Error::Join {
                path: path.clone(),
                pid: 0,
                source,
            })?;
        }
        Ok(())
    }

    /// Moves a whole process in from outside.
    pub(super) fn add(&self, pid: Pid) -> Result<(), Error> {
        let v1 = self.tasks.iter().map(|(_, path)| path);
        let unified = self.unified.iter().map(|(_, path)| path);
        for path in v1.chain(unified) {
            file::write_raw(&path.join("cgroup.procs"), &pid.to_string()).map_err(|source| {
                Error::Join {
                    path: path.clone(),
                    pid: pid.as_raw(),
                    source,
                }
            })?;
        }
        Ok(())
    }
}

/// The way in for exec.
pub(super) fn exec_entry(
    location: &Location,
    init: Pid,
    below: Option<&str>,
) -> Result<Entry, Error> {
    let below = below.map(nested).transpose()?;
    let unified = match (&below, location.unified()) {
        (None, Some(dir)) => Some(unified_for_exec(location, dir, init)?),
        _ => None,
    };
    Entry::open(location.dirs.iter().map(|dir| {
        let path = match (&below, &unified) {
            (Some(below), _) => dir.path.join(below),
            (None, Some(unified)) if dir.is_unified() => unified.clone(),
            _ => dir.path.clone(),
        };
        (path, dir.is_unified(), true)
    }))
}

/// A nested cgroup's name as given to `exec --cgroup`: below the container's, no way out.
fn nested(below: &str) -> Result<PathBuf, Error> {
    let path = Path::new(below.trim_start_matches('/'));
    let plain = path
        .components()
        .all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if plain && !below.contains(['\0', '\n']) {
        Ok(path.to_owned())
    } else {
        Err(Error::BadPath {
            path: below.to_owned(),
            reason: "is not a cgroup below the container's",
        })
    }
}

/// In v2 a cgroup that hands controllers to children takes no processes itself: when the
/// container did that (systemd inside it does), go where its init is, if that is inside.
fn unified_for_exec(location: &Location, dir: &Path, init: Pid) -> Result<PathBuf, Error> {
    let handed_down = file::read_optional(&dir.join("cgroup.subtree_control"))?.unwrap_or_default();
    if handed_down.trim().is_empty() || location.mode == Mode::V1 {
        return Ok(dir.to_owned());
    }
    let text = file::read(Path::new(&format!("/proc/{init}/cgroup")))?;
    let mount = location
        .dirs
        .iter()
        .find(|d| d.is_unified())
        .map_or(Path::new(super::host::MOUNT_ROOT), |d| &d.mount);
    let of_init = parse_own(&text)
        .into_iter()
        .find(|(controllers, _)| controllers.is_empty())
        .map(|(_, path)| join(mount, &path));
    match of_init {
        Some(path) if path.starts_with(dir) => Ok(path),
        _ => Err(Error::Join {
            path: dir.to_owned(),
            pid: init.as_raw(),
            source: io::Error::from_raw_os_error(libc::EBUSY),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_names_stay_below() {
        for (given, ok) in [
            ("a", true),
            ("/a/b", true),
            ("../a", false),
            ("a/../../b", false),
            ("a\nb", false),
        ] {
            assert_eq!(nested(given).is_ok(), ok, "{given:?}");
        }
    }
}
