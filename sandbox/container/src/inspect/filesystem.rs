//! The container's files as seen from its own root: what is masked, what is read-only, which
//! device nodes there are.
//!
//! Paths are resolved with openat2(2) inside the container's root, so that a link planted there
//! cannot lead us to the host's files; `O_PATH` touches no device.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, SFlag, fstat, major, minor};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use oci_spec::runtime::Spec;
use serde::Serialize;

use super::mounts::{HostPath, writable_host_paths};
use super::process::ProcDir;
use crate::cgroup::devices::USUAL;

/// How much of /dev is looked at.
const MAX_NODES: usize = 4096;
const MAX_DEPTH: usize = 4;

/// The container's files.
#[derive(Debug, Clone, Serialize)]
pub struct FileSystem {
    /// The root is mounted read-only.
    pub root_read_only: bool,
    /// Every path that should be masked, and what is there.
    pub masked: Vec<PathCheck>,
    /// Every path that should be read-only, and what is there.
    pub read_only: Vec<PathCheck>,
    /// Where the container can write to the host's files.
    pub writable_host_paths: Vec<HostPath>,
    /// Device nodes in /dev.
    pub devices: Vec<DeviceNode>,
}

/// What protects one path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PathCheck {
    /// The path in the container.
    pub path: PathBuf,
    /// What was found there.
    pub cover: Cover,
}

/// How a path is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cover {
    /// There is nothing at that path.
    Absent,
    /// The null device is mounted over it.
    Null,
    /// An empty read-only directory is mounted over it.
    Empty,
    /// It is mounted read-only.
    ReadOnly,
    /// It is open to the container.
    Exposed,
    /// It could not be looked at.
    Unknown,
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceNode {
    /// The path in the container.
    pub path: PathBuf,
    /// `b` or `c`.
    pub kind: char,
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// Permission bits.
    pub mode: u32,
}

pub(super) fn read(proc: &ProcDir, spec: &Spec) -> io::Result<FileSystem> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = openat(proc.fd(), "root", flags, Mode::empty())?;
    let linux = spec.linux().as_ref();
    let check = |paths: Option<&Vec<String>>, look: fn(&OwnedFd, &Path) -> Cover| {
        paths
            .into_iter()
            .flatten()
            .map(|path| PathCheck {
                path: PathBuf::from(path),
                cover: look(&root, Path::new(path)),
            })
            .collect()
    };
    let mountinfo = String::from_utf8_lossy(&proc.raw("mountinfo")?).into_owned();
    let host = std::fs::read("/proc/self/mountinfo")?;
    let mut writable = writable_host_paths(&mountinfo, &String::from_utf8_lossy(&host));
    // A user namespace cannot have nodes of its own: the usual devices are the host's, bound one by one.
    writable.retain(|path| path.file_system != "devtmpfs" || !is_usual(&root, &path.destination));
    Ok(FileSystem {
        root_read_only: read_only(root.as_fd())?,
        masked: check(linux.and_then(|l| l.masked_paths().as_ref()), mask),
        read_only: check(
            linux.and_then(|l| l.readonly_paths().as_ref()),
            read_only_path,
        ),
        writable_host_paths: writable,
        devices: devices(&root),
    })
}

/// Whether a path of the container is one of the devices that every container has.
fn is_usual(root: &OwnedFd, path: &Path) -> bool {
    let Ok(stat) = inside(root, path, OFlag::O_PATH).and_then(fstat) else {
        return false;
    };
    let device = (major(stat.st_rdev), minor(stat.st_rdev));
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    kind == SFlag::S_IFCHR
        && USUAL.iter().any(|(major, minor)| {
            u64::from(*major) == device.0 && minor.is_none_or(|m| u64::from(m) == device.1)
        })
}

fn inside(root: &OwnedFd, path: &Path, flags: OFlag) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(root, path, how)
}

fn read_only(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(fstatvfs(fd)?.flags().contains(FsFlags::ST_RDONLY))
}

/// What is at a path that should be masked.
fn mask(root: &OwnedFd, path: &Path) -> Cover {
    let fd = match inside(root, path, OFlag::O_PATH) {
        Ok(fd) => fd,
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Cover::Absent,
        Err(_) => return Cover::Unknown,
    };
    let (Ok(stat), Ok(fs)) = (fstat(&fd), fstatfs(&fd)) else {
        return Cover::Unknown;
    };
    match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
        // 1:3 is the null device whatever the node is called; a file bound there by a trick
        // (CVE-2025-31133) is not.
        SFlag::S_IFCHR if (major(stat.st_rdev), minor(stat.st_rdev)) == (1, 3) => Cover::Null,
        SFlag::S_IFDIR if fs.filesystem_type() == TMPFS_MAGIC => {
            let listed = inside(root, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
                .and_then(Dir::from_fd)
                .map(|mut dir| dir.iter().flatten().count());
            match (listed, read_only(fd.as_fd())) {
                // "." and ".." only.
                (Ok(..=2), Ok(true)) => Cover::Empty,
                (Err(_), _) | (_, Err(_)) => Cover::Unknown,
                _ => Cover::Exposed,
            }
        }
        _ => Cover::Exposed,
    }
}

/// What is at a path that should be read-only.
fn read_only_path(root: &OwnedFd, path: &Path) -> Cover {
    match inside(root, path, OFlag::O_PATH) {
        Ok(fd) => match read_only(fd.as_fd()) {
            Ok(true) => Cover::ReadOnly,
            Ok(false) => Cover::Exposed,
            Err(_) => Cover::Unknown,
        },
        Err(Errno::ENOENT | Errno::ENOTDIR) => Cover::Absent,
        Err(_) => Cover::Unknown,
    }
}

/// The device nodes below /dev, in the order of their paths.
fn devices(root: &OwnedFd) -> Vec<DeviceNode> {
    let mut found = Vec::new();
    let mut level = vec![PathBuf::from("/dev")];
    for _ in 0..MAX_DEPTH {
        let mut next = Vec::new();
        for path in level {
            list(root, &path, &mut found, &mut next);
        }
        level = next;
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn list(root: &OwnedFd, path: &Path, found: &mut Vec<DeviceNode>, below: &mut Vec<PathBuf>) {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    let Ok(mut dir) = inside(root, path, flags).and_then(Dir::from_fd) else {
        return;
    };
    for entry in dir.iter().flatten() {
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." || found.len() + below.len() >= MAX_NODES {
            continue;
        }
        let path = path.join(std::os::unix::ffi::OsStrExt::from_bytes(name) as &std::ffi::OsStr);
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
        let Ok(stat) = inside(root, &path, flags).and_then(|fd| fstat(&fd)) else {
            continue;
        };
        let kind = match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFBLK => 'b',
            SFlag::S_IFCHR => 'c',
            SFlag::S_IFDIR => {
                below.push(path);
                continue;
            }
            _ => continue,
        };
        found.push(DeviceNode {
            path,
            kind,
            major: major(stat.st_rdev),
            minor: minor(stat.st_rdev),
            mode: stat.st_mode & 0o7777,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_judged_by_what_is_there() {
        let root =
            nix::fcntl::open("/", OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        for (path, cover) in [
            ("/dev/null", Cover::Null),
            ("/dev/zero", Cover::Exposed),
            ("/proc/self", Cover::Exposed),
            ("/proc/no-such-file", Cover::Absent),
            ("/proc/version/below-a-file", Cover::Absent),
        ] {
            assert_eq!(mask(&root, Path::new(path)), cover, "{path}");
        }
    }

    #[test]
    fn links_stay_inside_the_root() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/null", dir.path().join("absolute")).unwrap();
        std::os::unix::fs::symlink("../../../../dev/null", dir.path().join("dots")).unwrap();
        let root = nix::fcntl::open(
            dir.path(),
            OFlag::O_PATH | OFlag::O_DIRECTORY,
            Mode::empty(),
        )
        .unwrap();
        for link in ["/absolute", "/dots"] {
            assert_eq!(mask(&root, Path::new(link)), Cover::Absent, "{link}");
        }
    }
}
