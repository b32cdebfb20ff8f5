//! What the process sees of files.

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, pivot_root};

use super::failed;
use crate::error::VmResult;

/// linux/mount.h.
const OPEN_TREE_CLONE: libc::c_uint = 1;
const MOUNT_ATTR_NOSUID: u64 = 2;
const MOUNT_ATTR_NODEV: u64 = 4;
const MOUNT_ATTR_NOEXEC: u64 = 8;

/// linux/mount.h.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Makes the directory the root, in which mounts that the host adds below it appear, and lets go of everything else.
/// Returns the process's own `/proc/self/fd` as a mount of its own: what is above it cannot be reached.
pub(super) fn change(root: &Path) -> VmResult<OwnedFd> {
    let step = |action| move |errno: nix::Error| failed(action)(errno.into());
    let none = None::<&Path>;
    // Mounts come in from the host, and none go out.
    mount(none, "/", none, MsFlags::MS_SLAVE | MsFlags::MS_REC, none)
        .map_err(step("part with the host's mounts"))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    // Processes only: no settings of the kernel's.
    mount(
        Some("proc"),
        "/proc",
        Some("proc"),
        flags,
        Some("subset=pid"),
    )
    .map_err(step("mount /proc"))?;
    let descriptors = clone_tree(c"/proc/self/fd").map_err(failed("open /proc/self/fd"))?;
    let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(root), root, none, bind, none).map_err(step("mount the shared directory"))?;
    chdir(root).map_err(step("go to the shared directory"))?;
    make_harmless(c".").map_err(failed(
        "forbid devices and programs in the shared directory",
    ))?;
    // The old root is put over the new one, and taken off again.
    pivot_root(".", ".").map_err(step("change the root"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(step("let go of the old root"))?;
    chdir("/").map_err(step("go to the new root"))?;
    Ok(descriptors)
}

/// A detached bind mount of the directory.
fn clone_tree(path: &std::ffi::CStr) -> io::Result<OwnedFd> {
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC.cast_unsigned();
    // SAFETY: the path is a C string.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    let fd = i32::try_from(fd).unwrap_or(-1);
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What is mounted there now has no devices, programs and set-user-id bits.
fn make_harmless(path: &std::ffi::CStr) -> io::Result<()> {
    let attributes = MountAttr {
        attr_set: MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path is a C string; `attributes` has the kernel's layout and the size given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<MountAttr>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
