//! Id-mapped mounts: files keep their owners on disk and show others in the container.
#![expect(
    unsafe_code,
    reason = "a process is cloned to own the user namespace of a mapping"
)]

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use oci_spec::runtime::LinuxIdMapping;

use super::error::MountProblem;
use super::mounts::Outcome;
use super::resolve::c_string;
use super::sys::{self, MountAttr, attr, resolve};

/// Maps `tree` by the mount's own mappings, or by the container's user namespace.
pub(super) fn apply(
    tree: BorrowedFd<'_>,
    recursive: bool,
    uids: Option<&[LinuxIdMapping]>,
    gids: Option<&[LinuxIdMapping]>,
    container: Option<BorrowedFd<'_>>,
) -> Outcome<()> {
    match (uids, gids) {
        (Some(uids), Some(gids)) if !uids.is_empty() && !gids.is_empty() => {
            let userns = namespace_with(uids, gids).map_err(MountProblem::system(
                "make a user namespace with the mapping",
            ))?;
            set(tree, recursive, userns.as_fd())
        }
        (None, None) => match container {
            Some(container) => set(tree, recursive, container),
            None => Err(refused(
                "it needs uidMappings and gidMappings, or a container with a user namespace",
            )),
        },
        _ => Err(refused("uidMappings and gidMappings must both be given")),
    }
}

fn refused(problem: &'static str) -> MountProblem {
    MountProblem::Option {
        option: "idmap".to_owned(),
        problem,
    }
}

/// Maps `tree` by a user namespace.
pub(super) fn set(tree: BorrowedFd<'_>, recursive: bool, userns: BorrowedFd<'_>) -> Outcome<()> {
    let attributes = MountAttr {
        set: attr::IDMAP,
        #[expect(clippy::cast_sign_loss, reason = "a descriptor is never negative")]
        userns: userns.as_raw_fd() as u64,
        ..MountAttr::default()
    };
    sys::set_attributes(tree, &attributes, recursive).map_err(|source| {
        let problem = match source.raw_os_error() {
            Some(libc::EINVAL) => {
                format!("the file system {} cannot be id-mapped", type_of(tree))
            }
            Some(libc::EPERM) => {
                "it is mapped already, or the caller does not own its file system".to_owned()
            }
            _ => return MountProblem::system("id-map the mount")(source),
        };
        MountProblem::IdMap { problem, source }
    })
}

/// File systems by the number that statfs(2) gives (`linux/magic.h`): name, and whether what they show
/// is the kernel's own.
const KNOWN: &[(i64, &str, bool)] = &[
    (0x9123_683e, "btrfs", false),
    (0xef53, "ext4", false),
    (0x5846_5342, "xfs", false),
    (0x6573_5546, "fuse", false),
    (0x6969, "nfs", false),
    (0xff53_4d42, "cifs", false),
    (0x0102_1997, "9p", false),
    (0xe0f5_e1e2, "erofs", false),
    (0x7371_7368, "squashfs", false),
    (0x2fc1_2fc1, "zfs", false),
    (0x794c_7630, "overlay", false),
    (0x0102_1994, "tmpfs", false),
    (0x8584_58f6, "ramfs", false),
    (0x9fa0, "proc", true),
    (0x6265_6572, "sysfs", true),
    (0x0027_e0eb, "cgroup", true),
    (0x6367_7270, "cgroup2", true),
    (0x1cd1, "devpts", true),
    (0x1980_0202, "mqueue", true),
    (0x6e73_6673, "nsfs", true),
    (0x7363_6673, "securityfs", true),
    (0x6462_6720, "debugfs", true),
    (0x7472_6163, "tracefs", true),
    (0xcafe_4a11, "bpf", true),
    (0x9584_58f6, "hugetlbfs", false),
];

fn number(tree: BorrowedFd<'_>) -> Option<i64> {
    let kind = nix::sys::statfs::fstatfs(tree).ok()?.filesystem_type().0;
    Some(kind & 0xffff_ffff)
}

/// Whether a mount shows what belongs to the kernel, whoever looks at it.
pub(super) fn is_kernels(tree: BorrowedFd<'_>) -> bool {
    let number = number(tree);
    KNOWN
        .iter()
        .any(|(known, _, kernels)| *kernels && Some(*known) == number)
        || is_device(tree)
}

/// A device node, as the host has them in a file system of the kernel's.
fn is_device(tree: BorrowedFd<'_>) -> bool {
    let mode = nix::sys::stat::fstat(tree).map_or(0, |stat| stat.st_mode);
    matches!(mode & libc::S_IFMT, libc::S_IFCHR | libc::S_IFBLK)
}

/// The name of a mount's file system.
pub(super) fn type_of(tree: BorrowedFd<'_>) -> String {
    let Some(number) = number(tree) else {
        return "there".to_owned();
    };
    match KNOWN.iter().find(|(known, _, _)| *known == number) {
        Some((_, name, _)) => (*name).to_owned(),
        None => format!("of magic number {number:#x}"),
    }
}

/// A user namespace that has these mappings, kept alive by the descriptor alone.
///
/// Needs to be called in a single-threaded process: the clone does not execute.
pub(super) fn namespace_with(
    uids: &[LinuxIdMapping],
    gids: &[LinuxIdMapping],
) -> io::Result<OwnedFd> {
    let child = pausing_child()?;
    let result = map_and_open(child, uids, gids);
    // Killed whatever happened: it has nothing else to do.
    let _ = kill(child, Signal::SIGKILL);
    let _ = waitpid(child, None);
    result
}

/// A child in a user namespace of its own that waits to be killed.
fn pausing_child() -> io::Result<Pid> {
    let flags = libc::CLONE_NEWUSER | libc::SIGCHLD;
    let parent = Pid::this().as_raw();
    // SAFETY: without CLONE_VM and with a null stack this is fork(2) into a new user namespace;
    // the process is single-threaded and the child calls only async-signal-safe functions.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => loop {
            // SAFETY: prctl(PR_SET_PDEATHSIG), getppid, _exit and pause have no conditions.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                // A parent that ended before that sends no signal, and nobody else ends this.
                if libc::getppid() != parent {
                    libc::_exit(1);
                }
                libc::pause();
            }
        },
        pid => Ok(Pid::from_raw(i32::try_from(pid).map_err(io::Error::other)?)),
    }
}

fn map_and_open(
    child: Pid,
    uids: &[LinuxIdMapping],
    gids: &[LinuxIdMapping],
) -> io::Result<OwnedFd> {
    // A procfs of the present pid namespace: the host's may number the child otherwise.
    let proc = super::detached_proc().map_err(io::Error::other)?;
    let write = |file: &str, mappings: &[LinuxIdMapping]| -> io::Result<()> {
        let text: String = mappings
            .iter()
            .map(|m| format!("{} {} {}\n", m.container_id(), m.host_id(), m.size()))
            .collect();
        let path = c_string(format!("{child}/{file}").as_bytes())?;
        let fd = sys::openat2(proc.as_fd(), &path, libc::O_WRONLY, 0, resolve::NO_XDEV)?;
        io::Write::write_all(&mut fs::File::from(fd), text.as_bytes())
    };
    write("uid_map", uids)?;
    write("gid_map", gids)?;
    let path = format!("{child}/ns/user");
    // The one magic link we do want to follow, in a procfs that we have just made.
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    Ok(nix::fcntl::openat(
        proc.as_fd(),
        path.as_str(),
        flags,
        Mode::empty(),
    )?)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A user namespace whose root is `first`.
    pub(in crate::rootfs) fn namespace(first: u32) -> OwnedFd {
        let map = serde_json::json!([{"containerID": 0, "hostID": first, "size": 65536}]);
        let map: Vec<LinuxIdMapping> = serde_json::from_value(map).unwrap();
        namespace_with(&map, &map).unwrap()
    }
}
