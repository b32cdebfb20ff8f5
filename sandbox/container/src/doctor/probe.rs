//! The system calls that a probe makes: each asks for something harmless and looks at the answer.
#![expect(unsafe_code, reason = "probing system calls that have no wrapper")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::ptr;

use nix::sys::signal::Signal;

use crate::sys::clone::{self, Side};
use crate::sys::pidfd;

/// Whether a system call exists: called with arguments that it must refuse.
fn exists(result: libc::c_long) -> bool {
    result >= 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ENOSYS)
}

fn fd(result: libc::c_long) -> io::Result<OwnedFd> {
    let fd = i32::try_from(result).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a system call just returned this descriptor to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

const NO_ADDRESS: *const u8 = ptr::null();

pub(super) fn clone3() -> bool {
    // SAFETY: a size of 0 is refused before anything is read.
    exists(unsafe { libc::syscall(libc::SYS_clone3, NO_ADDRESS, 0usize) })
}

pub(super) fn pidfd() -> bool {
    // SAFETY: numbers only.
    let opened = unsafe { libc::syscall(libc::SYS_pidfd_open, std::process::id(), 0u32) };
    fd(opened).is_ok()
}

pub(super) fn openat2() -> bool {
    // SAFETY: a size of 0 is refused before anything is read.
    exists(unsafe { libc::syscall(libc::SYS_openat2, -1, NO_ADDRESS, NO_ADDRESS, 0usize) })
}

pub(super) fn close_range() -> bool {
    // SAFETY: first > last is refused; nothing is closed.
    exists(unsafe { libc::syscall(libc::SYS_close_range, 1u32, 0u32, 0u32) })
}

pub(super) fn mount_setattr() -> bool {
    // SAFETY: a size of 0 is refused before anything is read.
    exists(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            -1,
            NO_ADDRESS,
            0u32,
            NO_ADDRESS,
            0usize,
        )
    })
}

/// A copy of a mount that is nowhere attached.
fn copy_mount(path: &std::ffi::CStr) -> io::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: `path` is a C string that outlives the call.
    fd(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })
}

pub(super) fn open_tree() -> io::Result<()> {
    copy_mount(c"/").map(drop)
}

/// Whether a file system can be configured, which loads its module if need be.
pub(super) fn file_system(name: &std::ffi::CStr) -> io::Result<()> {
    const FSOPEN_CLOEXEC: u32 = 1;
    // SAFETY: `name` is a C string that outlives the call.
    fd(unsafe { libc::syscall(libc::SYS_fsopen, name.as_ptr(), FSOPEN_CLOEXEC) }).map(drop)
}

/// `SECCOMP_GET_ACTION_AVAIL` for an action.
pub(super) fn seccomp_action(action: u32) -> bool {
    const GET_ACTION_AVAIL: u32 = 2;
    // SAFETY: the kernel reads one u32 at the address of `action`, which outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            GET_ACTION_AVAIL,
            0u32,
            ptr::from_ref(&action),
        )
    };
    result == 0
}

/// `KVM_GET_API_VERSION`.
pub(super) fn kvm() -> io::Result<i32> {
    const KVM_GET_API_VERSION: libc::c_ulong = 0xae00;
    let device = File::options().read(true).write(true).open("/dev/kvm")?;
    // SAFETY: this request takes no argument.
    let version = unsafe { libc::ioctl(device.as_raw_fd(), KVM_GET_API_VERSION, 0) };
    if version < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(version)
    }
}

/// A user namespace with one mapped id, held open; its process is gone again.
pub(super) fn user_namespace() -> io::Result<File> {
    const CLONE_NEWUSER: u64 = libc::CLONE_NEWUSER as u64;
    match clone::clone(CLONE_NEWUSER, false, None)? {
        Side::Child => {
            // Killed by the parent; if that dies first the namespace is of no use anyway.
            let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
            loop {
                nix::unistd::pause();
            }
        }
        Side::Parent(pid, process) => {
            let map = |file: &str| std::fs::write(format!("/proc/{pid}/{file}"), b"0 100000 65536");
            let made = map("uid_map")
                .and_then(|()| map("gid_map"))
                .and_then(|()| File::open(format!("/proc/{pid}/ns/user")));
            pidfd::signal(&process, libc::SIGKILL)?;
            pidfd::reap(pid);
            made
        }
    }
}

/// Whether mounts of the file system that holds `path` can be idmapped.
pub(super) fn idmap(user_namespace: &File, path: &Path) -> io::Result<()> {
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes())?;
    map_mount(user_namespace, &copy_mount(&path)?)
}

/// Whether mounts of tmpfs can.
pub(super) fn idmap_tmpfs(user_namespace: &File) -> io::Result<()> {
    const FSOPEN_CLOEXEC: u32 = 1;
    const FSMOUNT_CLOEXEC: u32 = 1;
    const CMD_CREATE: u32 = 6;
    let name = c"tmpfs";
    // SAFETY: `name` is a C string that outlives the call.
    let context = fd(unsafe { libc::syscall(libc::SYS_fsopen, name.as_ptr(), FSOPEN_CLOEXEC) })?;
    let number = context.as_raw_fd();
    // SAFETY: the command takes neither key nor value.
    let made = unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            number,
            CMD_CREATE,
            NO_ADDRESS,
            NO_ADDRESS,
            0,
        )
    };
    if made < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: numbers only.
    let mount = fd(unsafe { libc::syscall(libc::SYS_fsmount, number, FSMOUNT_CLOEXEC, 0u32) })?;
    map_mount(user_namespace, &mount)
}

fn map_mount(user_namespace: &File, mount: &OwnedFd) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: user_namespace.as_raw_fd().unsigned_abs().into(),
    };
    // SAFETY: the path is an empty C string and `attributes` has the size given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            ptr::from_ref(&attributes),
            size_of::<libc::mount_attr>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
