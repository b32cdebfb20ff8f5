//! Device nodes and the links in `/dev`.

/// Nodes that the parent makes.
pub(super) mod mapped;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, makedev, mknodat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, symlinkat, unlinkat};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};

use super::error::{Result, RootfsError};
use super::mounts::Mounted;
use super::resolve::{Kind, c_string, open_or_make};
use super::sys::{self, resolve};

/// The devices every container has (OCI runtime specification, "Default Devices"): name, minor of
/// major 1 or `tty`'s own.
const DEFAULT: [(&str, u64, u64); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Links in `/dev` (the same section).
const LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// What a node should be.
#[derive(Debug, Clone, Copy)]
struct Node {
    kind: SFlag,
    major: u64,
    minor: u64,
    mode: u32,
    owner: Option<(u32, u32)>,
}

impl Node {
    const fn character(major: u64, minor: u64) -> Self {
        Self {
            kind: SFlag::S_IFCHR,
            major,
            minor,
            mode: 0o666,
            owner: None,
        }
    }

    fn from_spec(device: &LinuxDevice) -> Result<Self> {
        let number = |n: i64| {
            u64::try_from(n).map_err(|_| RootfsError::Spec {
                field: "linux.devices",
                problem: format!(
                    "{}: major and minor cannot be negative",
                    device.path().display()
                ),
            })
        };
        let kind = match device.typ() {
            LinuxDeviceType::B => SFlag::S_IFBLK,
            LinuxDeviceType::C | LinuxDeviceType::U => SFlag::S_IFCHR,
            LinuxDeviceType::P => SFlag::S_IFIFO,
            LinuxDeviceType::A => {
                return Err(RootfsError::Spec {
                    field: "linux.devices",
                    problem: format!(
                        "{}: type \"a\" is not a node; use b, c, u or p",
                        device.path().display()
                    ),
                });
            }
        };
        Ok(Self {
            kind,
            major: number(device.major())?,
            minor: number(device.minor())?,
            mode: device.file_mode().unwrap_or(0o666) & 0o7777,
            owner: Some((device.uid().unwrap_or(0), device.gid().unwrap_or(0))),
        })
    }

    fn number(&self) -> u64 {
        if self.kind == SFlag::S_IFIFO {
            0
        } else {
            makedev(self.major, self.minor)
        }
    }

    fn is(&self, stat: &FileStat) -> bool {
        stat.st_mode & libc::S_IFMT == self.kind.bits()
            && (self.kind == SFlag::S_IFIFO || stat.st_rdev == self.number())
    }

    fn fake(&self, path: &Path) -> RootfsError {
        let letter = match self.kind {
            SFlag::S_IFBLK => 'b',
            SFlag::S_IFIFO => 'p',
            _ => 'c',
        };
        RootfsError::FakeDevice {
            path: path.to_owned(),
            expected: format!("{letter} {}:{}", self.major, self.minor),
        }
    }
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl Fn(Errno) -> RootfsError + use<'a> {
    move |errno| RootfsError::Device {
        action,
        path: path.to_owned(),
        source: errno.into(),
    }
}

fn failed_io<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl Fn(std::io::Error) -> RootfsError + use<'a> {
    move |source| RootfsError::Device {
        action,
        path: path.to_owned(),
        source,
    }
}

/// The host's `/dev/null`, checked to be the real one: a mask made of anything else would show a
/// file of the attacker's (CVE-2025-31133).
pub(super) fn host_null() -> Result<OwnedFd> {
    host_device(Path::new("/dev/null"), &Node::character(1, 3))
}

fn host_device(path: &Path, node: &Node) -> Result<OwnedFd> {
    let c_path = c_string(path.as_os_str().as_bytes()).map_err(failed_io("open", path))?;
    let fd = sys::openat2(sys::cwd(), &c_path, libc::O_PATH, 0, resolve::NO_SYMLINKS)
        .map_err(failed_io("open the host's", path))?;
    let stat = fstat(&fd).map_err(failed("look at the host's", path))?;
    if node.is(&stat) {
        Ok(fd)
    } else {
        Err(node.fake(path))
    }
}

/// Makes nodes in the container's root. The caller has set the umask to 0.
pub(super) struct Maker<'a> {
    pub(super) root: BorrowedFd<'a>,
    /// In a user namespace nodes cannot be made, only the host's bound.
    pub(super) bind: bool,
    /// Those that the parent has made, by their paths.
    pub(super) nodes: &'a BTreeMap<PathBuf, OwnedFd>,
    /// What is mounted so far.
    pub(super) mounted: &'a Mounted,
}

impl Maker<'_> {
    /// The default devices, the spec's own, and the links; nothing if `/dev` is the host's own.
    pub(super) fn run(&self, devices: &[LinuxDevice]) -> Result<()> {
        let place = open_or_make(self.root, Path::new("/dev"), Kind::Directory)
            .map_err(failed_io("open", Path::new("/dev")))?;
        if self.mounted.is_hosts(&place.path) {
            return Ok(());
        }
        let dev = place.fd.as_fd();
        for (name, major, minor) in DEFAULT {
            let path = Path::new("/dev").join(name);
            if !devices.iter().any(|device| *device.path() == path) {
                self.node(dev, OsStr::new(name), &path, &Node::character(major, minor))?;
            }
        }
        for device in devices {
            self.one_of_spec(dev, device)?;
        }
        links(dev)
    }

    fn one_of_spec(&self, dev: BorrowedFd<'_>, device: &LinuxDevice) -> Result<()> {
        let path = device.path();
        let node = Node::from_spec(device)?;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(RootfsError::Spec {
                field: "linux.devices",
                problem: format!("{:?} is not the path of a node", path.display()),
            });
        };
        if parent == Path::new("/dev") {
            return self.node(dev, name, path, &node);
        }
        let directory = open_or_make(self.root, parent, Kind::Directory)
            .map_err(failed_io("make the directory of", path))?;
        if self.mounted.is_hosts(&directory.path) {
            return Err(RootfsError::DeviceInBind {
                path: path.to_owned(),
                directory: directory.path,
            });
        }
        self.node(directory.fd.as_fd(), name, path, &node)
    }

    fn node(&self, dir: BorrowedFd<'_>, name: &OsStr, path: &Path, node: &Node) -> Result<()> {
        if self.bind && node.kind != SFlag::S_IFIFO {
            return self.bind_node(dir, name, path, node);
        }
        let mode = Mode::from_bits_truncate(node.mode);
        match mknodat(dir, name, node.kind, mode, node.number()) {
            Ok(()) => {}
            Err(Errno::EEXIST) => {
                let stat = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)
                    .map_err(failed("look at", path))?;
                if !node.is(&stat) {
                    return Err(node.fake(path));
                }
                // It is the image's or the engine's own: owner and mode stay.
                return Ok(());
            }
            // No CAP_MKNOD here (a container in a container).
            Err(Errno::EPERM) if node.kind != SFlag::S_IFIFO => {
                return self.bind_node(dir, name, path, node);
            }
            Err(errno) => return Err(failed("make the device", path)(errno)),
        }
        match node.owner {
            None | Some((0, 0)) => Ok(()),
            Some((uid, gid)) => fchownat(
                dir,
                name,
                Some(Uid::from_raw(uid)),
                Some(Gid::from_raw(gid)),
                AtFlags::AT_SYMLINK_NOFOLLOW,
            )
            .map_err(failed("set the owner of", path)),
        }
    }

    /// Binds the node that was made for it, or the host's of the same path, if it is the same device.
    fn bind_node(&self, dir: BorrowedFd<'_>, name: &OsStr, path: &Path, node: &Node) -> Result<()> {
        let place = open_or_make(dir, Path::new(name), Kind::File)
            .map_err(failed_io("make the place of", path))?;
        let attach = |tree: &OwnedFd| {
            sys::attach(tree.as_fd(), place.fd.as_fd()).map_err(failed_io("bind", path))
        };
        if let Some(made) = self.nodes.get(path) {
            return attach(made);
        }
        let host = host_device(path, node)?;
        attach(&sys::clone_tree(host.as_fd(), false).map_err(failed_io("bind", path))?)
    }
}

fn links(dev: BorrowedFd<'_>) -> Result<()> {
    let path_of = |name: &str| Path::new("/dev").join(name);
    let link = |target: &str, name: &str| match symlinkat(target, dev, name) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(failed("make the link", &path_of(name))(errno)),
    };
    for (name, target) in LINKS {
        link(target, name)?;
    }
    // As in runc: only where the kernel has it (and it is masked by default).
    if nix::sys::stat::lstat("/proc/kcore").is_ok() {
        link("/proc/kcore", "core")?;
    }
    // The image's own /dev/ptmx would be the host's pty master: replaced by the container's.
    let ptmx: PathBuf = path_of("ptmx");
    match symlinkat("pts/ptmx", dev, "ptmx") {
        Ok(()) => Ok(()),
        Err(Errno::EEXIST) => {
            unlinkat(dev, "ptmx", UnlinkatFlags::NoRemoveDir).map_err(failed("replace", &ptmx))?;
            symlinkat("pts/ptmx", dev, "ptmx").map_err(failed("make the link", &ptmx))
        }
        Err(errno) => Err(failed("make the link", &ptmx)(errno)),
    }
}
