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

fn set(tree: BorrowedFd<'_>, recursive: bool, userns: BorrowedFd<'_>) -> Outcome<()> {
    let attributes = MountAttr {
        set: attr::IDMAP,
        #[expect(clippy::cast_sign_loss, reason = "a descriptor is never negative")]
        userns: userns.as_raw_fd() as u64,
        ..MountAttr::default()
    };
    sys::set_attributes(tree, &attributes, recursive).map_err(|source| {
        let detail = match source.raw_os_error() {
            Some(libc::EINVAL) => {
                format!(": the file system {} cannot be id-mapped", type_of(tree))
            }
            Some(libc::EPERM) => {
                ": it is mapped already, or the caller does not own its file system".to_owned()
            }
            _ => String::new(),
        };
        MountProblem::System {
            action: "id-map the mount",
            detail,
            source,
        }
    })
}

/// The name of a mount's file system, for the error message.
fn type_of(tree: BorrowedFd<'_>) -> String {
    use nix::sys::statfs::{
        BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, FUSE_SUPER_MAGIC, NFS_SUPER_MAGIC,
        OVERLAYFS_SUPER_MAGIC, PROC_SUPER_MAGIC, TMPFS_MAGIC, fstatfs,
    };
    let Ok(kind) = fstatfs(tree).map(|stat| stat.filesystem_type()) else {
        return "there".to_owned();
    };
    let known = [
        (BTRFS_SUPER_MAGIC, "btrfs"),
        (EXT4_SUPER_MAGIC, "ext4"),
        (FUSE_SUPER_MAGIC, "fuse"),
        (NFS_SUPER_MAGIC, "nfs"),
        (OVERLAYFS_SUPER_MAGIC, "overlay"),
        (PROC_SUPER_MAGIC, "proc"),
        (TMPFS_MAGIC, "tmpfs"),
    ];
    match known.iter().find(|(magic, _)| *magic == kind) {
        Some((_, name)) => (*name).to_owned(),
        None => format!("of magic number {:#x}", kind.0),
    }
}

/// A user namespace that has these mappings, kept alive by the descriptor alone.
///
/// Needs to be called in a single-threaded process: the clone does not execute.
fn namespace_with(uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> io::Result<OwnedFd> {
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
    // SAFETY: without CLONE_VM and with a null stack this is fork(2) into a new user namespace;
    // the process is single-threaded and the child calls only async-signal-safe functions.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => loop {
            // SAFETY: prctl(PR_SET_PDEATHSIG) and pause have no conditions.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
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
