//! Masked and read-only paths.
//!
//! Both must hold whatever the image contains: a path that is not there needs nothing, any other
//! error stops the container.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::sys::stat::fstat;

use super::error::{MountProblem, Result, RootfsError};
use super::filesystem::Context;
use super::resolve::{c_string, open_in};
use super::sys::{self, MountAttr, attr, resolve};

fn failed<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> RootfsError + use<'a> {
    move |source| RootfsError::Protect {
        action,
        path: path.to_owned(),
        source,
    }
}

/// `None` where there is nothing to protect.
fn open_present(
    root: BorrowedFd<'_>,
    path: &Path,
    action: &'static str,
) -> Result<Option<OwnedFd>> {
    match open_in(root, path) {
        Ok(fd) => Ok(Some(fd)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {
            Ok(None)
        }
        Err(error) => Err(failed(action, path)(error)),
    }
}

/// Makes `path` read-only together with all that is mounted below it. The other attributes of the
/// mount (nosuid, nodev, noexec) stay.
pub(super) fn read_only(root: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let failed = failed("make read-only", path);
    let Some(target) = open_present(root, path, "make read-only")? else {
        return Ok(());
    };
    let tree = sys::clone_tree(target.as_fd(), true).map_err(&failed)?;
    let attributes = MountAttr {
        set: attr::RDONLY,
        ..MountAttr::default()
    };
    sys::set_attributes(tree.as_fd(), &attributes, true).map_err(&failed)?;
    sys::attach(tree.as_fd(), target.as_fd()).map_err(&failed)
}

/// One mount that is put on many places: the first time itself, then copies of it.
struct Cover {
    mount: OwnedFd,
    used: bool,
}

impl Cover {
    fn put_on(&mut self, target: BorrowedFd<'_>) -> io::Result<()> {
        if self.used {
            let copy = sys::clone_tree(self.mount.as_fd(), false)?;
            return sys::attach(copy.as_fd(), target);
        }
        sys::attach(self.mount.as_fd(), target)?;
        self.used = true;
        Ok(())
    }
}

/// Masks paths: files by `/dev/null`, directories by one empty read-only tmpfs for all.
pub(super) struct Masker<'a> {
    root: BorrowedFd<'a>,
    null: Cover,
    empty: Option<Cover>,
    label: &'a str,
}

impl<'a> Masker<'a> {
    /// `null` is a detached, read-only mount of the real null device.
    pub(super) fn new(root: BorrowedFd<'a>, null: OwnedFd, label: &'a str) -> Self {
        Self {
            root,
            null: Cover {
                mount: null,
                used: false,
            },
            empty: None,
            label,
        }
    }

    /// Masks `path`; a `*` in a component stands for any text within it.
    pub(super) fn mask(&mut self, path: &Path) -> Result<()> {
        if path.as_os_str().as_bytes().contains(&b'*') {
            for found in matches(self.root, path)? {
                self.mask_one(&found)?;
            }
            return Ok(());
        }
        self.mask_one(path)
    }

    fn mask_one(&mut self, path: &Path) -> Result<()> {
        let Some(target) = open_present(self.root, path, "mask")? else {
            return Ok(());
        };
        let failed = failed("mask", path);
        let mode = fstat(&target)
            .map_err(|errno| failed(errno.into()))?
            .st_mode;
        if mode & libc::S_IFMT == libc::S_IFDIR {
            let empty = match &mut self.empty {
                Some(empty) => empty,
                none => none.insert(Cover {
                    mount: empty_directory(self.label).map_err(|problem| RootfsError::Mount {
                        fstype: "tmpfs".to_owned(),
                        from: PathBuf::from("tmpfs"),
                        destination: path.to_owned(),
                        source: Box::new(problem),
                    })?,
                    used: false,
                }),
            };
            empty.put_on(target.as_fd()).map_err(&failed)
        } else {
            self.null.put_on(target.as_fd()).map_err(&failed)
        }
    }
}

/// A detached read-only mount of `/dev/null`; made while the host's mounts are still here.
/// Read-only keeps container root from changing the mode of the host's node; writing to the
/// device works on all the same.
pub(super) fn null_cover(null: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let tree = sys::clone_tree(null, false)?;
    let attributes = MountAttr {
        set: attr::RDONLY | attr::NOSUID | attr::NOEXEC,
        propagation: libc::MS_PRIVATE,
        ..MountAttr::default()
    };
    sys::set_attributes(tree.as_fd(), &attributes, false)?;
    Ok(tree)
}

fn empty_directory(label: &str) -> std::result::Result<OwnedFd, MountProblem> {
    let context = Context::open("tmpfs")?;
    context.source(b"tmpfs")?;
    // Read-only in the superblock as well as in the mount.
    context.set("ro", None)?;
    context.set("nr_inodes", Some("1"))?;
    context.set("mode", Some("755"))?;
    if !label.is_empty() {
        context.set("context", Some(label))?;
    }
    context.mount(attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC)
}

/// The existing paths that a pattern stands for.
fn matches(root: BorrowedFd<'_>, pattern: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![PathBuf::from("/")];
    for component in pattern.components().skip(1) {
        let component = component.as_os_str();
        if !component.as_bytes().contains(&b'*') {
            found.iter_mut().for_each(|path| path.push(component));
            continue;
        }
        let mut next = Vec::new();
        for directory in &found {
            for name in names(root, directory)? {
                if matches_component(component.as_bytes(), &name) {
                    next.push(directory.join(std::ffi::OsStr::from_bytes(&name)));
                }
            }
        }
        found = next;
    }
    Ok(found)
}

fn names(root: BorrowedFd<'_>, directory: &Path) -> Result<Vec<Vec<u8>>> {
    let failed = failed("mask what is in", directory);
    let path = c_string(directory.as_os_str().as_bytes()).map_err(&failed)?;
    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
    let rules = resolve::IN_ROOT | resolve::NO_MAGICLINKS;
    let fd = match sys::openat2(root, &path, flags, 0, rules) {
        Ok(fd) => fd,
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(failed(error)),
    };
    let mut directory = Dir::from_fd(fd).map_err(|errno| failed(errno.into()))?;
    let mut names = Vec::new();
    for entry in directory.iter() {
        let name = entry
            .map_err(|errno| failed(errno.into()))?
            .file_name()
            .to_bytes()
            .to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// `cpu*` matches `cpu`, `cpu0` and `cpufreq`. In linear space and at worst quadratic time.
fn matches_component(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where the last star is, and how much of the name it has taken so far.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, n));
            p += 1;
        } else if pattern.get(p) == Some(&name[n]) {
            p += 1;
            n += 1;
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            p = at + 1;
            n = taken + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stay_within_a_component() {
        for (pattern, name, expected) in [
            ("cpu*", "cpu0", true),
            ("cpu*", "cpu", true),
            ("cpu*", "xcpu0", false),
            ("*", "anything", true),
            ("a*b*c", "aXXbYYc", true),
            ("a*b*c", "aXXcYYb", false),
            ("exact", "exact", true),
            ("exact", "exactly", false),
        ] {
            assert_eq!(
                matches_component(pattern.as_bytes(), name.as_bytes()),
                expected,
                "{pattern} {name}"
            );
        }
    }
}
