//! The mount system calls that the C library does not wrap, one thin function each.
//!
//! Numbers and flags are those of the kernel's `linux/mount.h`, `linux/openat2.h` and
//! `linux/fcntl.h`. Every descriptor made here is close-on-exec.
#![expect(unsafe_code, reason = "system calls without a wrapper in nix or libc")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use nix::unistd::{Gid, Uid};

/// `mount_setattr` and `fsmount` attributes (`linux/mount.h`).
pub(super) mod attr {
    pub(crate) const RDONLY: u64 = 0x1;
    pub(crate) const NOSUID: u64 = 0x2;
    pub(crate) const NODEV: u64 = 0x4;
    pub(crate) const NOEXEC: u64 = 0x8;
    /// The three bits that choose how access times are kept; cleared before one is set.
    pub(crate) const ATIME: u64 = 0x70;
    pub(crate) const NOATIME: u64 = 0x10;
    pub(crate) const STRICTATIME: u64 = 0x20;
    pub(crate) const NODIRATIME: u64 = 0x80;
    pub(crate) const IDMAP: u64 = 0x0010_0000;
    pub(crate) const NOSYMFOLLOW: u64 = 0x0020_0000;
}

/// `openat2` resolution rules (`linux/openat2.h`).
pub(super) mod resolve {
    pub(crate) use libc::{
        RESOLVE_BENEATH as BENEATH, RESOLVE_IN_ROOT as IN_ROOT,
        RESOLVE_NO_MAGICLINKS as NO_MAGICLINKS, RESOLVE_NO_SYMLINKS as NO_SYMLINKS,
        RESOLVE_NO_XDEV as NO_XDEV,
    };
}

const OPEN_TREE_CLONE: libc::c_uint = 1;
const OPEN_TREE_CLOEXEC: libc::c_uint = 0o2_000_000;
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_SET_FD: libc::c_uint = 5;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const FSCONFIG_CMD_RECONFIGURE: libc::c_uint = 7;
const FSPICK_CLOEXEC: libc::c_uint = 1;
const FSPICK_EMPTY_PATH: libc::c_uint = 8;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 0x04;
const MOVE_MOUNT_T_EMPTY_PATH: libc::c_uint = 0x40;
const AT_RECURSIVE: libc::c_uint = 0x8000;
const AT_EMPTY_PATH: libc::c_uint = 0x1000;

/// The kernel's `struct mount_attr`, version 0.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct MountAttr {
    /// Attributes to set.
    pub(super) set: u64,
    /// Attributes to clear; done before setting.
    pub(super) clear: u64,
    /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE`, or 0 for no change.
    pub(super) propagation: u64,
    /// With [`attr::IDMAP`]: the user namespace that holds the mapping.
    pub(super) userns: u64,
}

#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

fn descriptor(result: libc::c_long) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let raw = i32::try_from(result).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: the system call just returned this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

fn done(result: libc::c_long) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// The current directory, as the `dirfd` of a call.
pub(super) const fn cwd() -> BorrowedFd<'static> {
    // SAFETY: AT_FDCWD is not -1 and is never closed; the kernel reads it as "current directory".
    unsafe { BorrowedFd::borrow_raw(libc::AT_FDCWD) }
}

/// openat2(2). `mode` counts only with `O_CREAT`.
pub(super) fn openat2(
    dir: BorrowedFd<'_>,
    path: &CStr,
    flags: libc::c_int,
    mode: u32,
    resolve: u64,
) -> io::Result<OwnedFd> {
    let how = OpenHow {
        #[expect(clippy::cast_sign_loss, reason = "open flags are a bit set")]
        flags: (flags | libc::O_CLOEXEC) as u64,
        mode: u64::from(mode),
        resolve,
    };
    loop {
        // SAFETY: `path` is a C string and `how` a live struct of the size given; the kernel only
        // reads both.
        let result = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                dir.as_raw_fd(),
                path.as_ptr(),
                ptr::from_ref(&how),
                size_of::<OpenHow>(),
            )
        };
        match descriptor(result) {
            // A rename somewhere raced with "..": the kernel asks to try again.
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
            other => return other,
        }
    }
}

/// open_tree(2) of what a descriptor refers to, as a detached copy.
pub(super) fn clone_tree(from: BorrowedFd<'_>, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH;
    if recursive {
        flags |= AT_RECURSIVE;
    }
    // SAFETY: the path is an empty C string; the kernel only reads it.
    descriptor(unsafe { libc::syscall(libc::SYS_open_tree, from.as_raw_fd(), c"".as_ptr(), flags) })
}

/// fsopen(2): a context for a file system of this type.
pub(super) fn fsopen(fstype: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: `fstype` is a C string; the kernel only reads it.
    descriptor(unsafe { libc::syscall(libc::SYS_fsopen, fstype.as_ptr(), FSOPEN_CLOEXEC) })
}

fn fsconfig(
    context: BorrowedFd<'_>,
    command: libc::c_uint,
    key: Option<&CStr>,
    value: Option<&CStr>,
    number: libc::c_int,
) -> io::Result<()> {
    let key = key.map_or(ptr::null(), CStr::as_ptr);
    let value = value.map_or(ptr::null(), CStr::as_ptr);
    // SAFETY: `key` and `value` are C strings or null, as the command wants; the kernel only
    // reads them.
    done(unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            command,
            key,
            value,
            number,
        )
    })
}

/// fsconfig(2) for an option without a value.
pub(super) fn fsconfig_flag(context: BorrowedFd<'_>, key: &CStr) -> io::Result<()> {
    fsconfig(context, FSCONFIG_SET_FLAG, Some(key), None, 0)
}

/// fsconfig(2) for an option with a value (the kernel takes at most 255 bytes).
pub(super) fn fsconfig_string(context: BorrowedFd<'_>, key: &CStr, value: &CStr) -> io::Result<()> {
    fsconfig(context, FSCONFIG_SET_STRING, Some(key), Some(value), 0)
}

/// fsconfig(2) for an option whose value is what a descriptor refers to.
pub(super) fn fsconfig_descriptor(
    context: BorrowedFd<'_>,
    key: &CStr,
    value: BorrowedFd<'_>,
) -> io::Result<()> {
    fsconfig(context, FSCONFIG_SET_FD, Some(key), None, value.as_raw_fd())
}

/// fsconfig(2): makes the superblock.
pub(super) fn fsconfig_create(context: BorrowedFd<'_>) -> io::Result<()> {
    fsconfig(context, FSCONFIG_CMD_CREATE, None, None, 0)
}

/// fsmount(2): a detached mount of the context's superblock.
pub(super) fn fsmount(context: BorrowedFd<'_>, attributes: u64) -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    descriptor(unsafe {
        libc::syscall(
            libc::SYS_fsmount,
            context.as_raw_fd(),
            FSMOUNT_CLOEXEC,
            attributes,
        )
    })
}

/// Makes a mounted file system forget the names that it has looked up and that nobody uses, by a
/// reconfiguration that changes nothing (`reconfigure_super` of the kernel's `fs/super.c`).
pub(super) fn forget_names(directory: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the path is an empty C string; the kernel only reads it.
    let context = descriptor(unsafe {
        libc::syscall(
            libc::SYS_fspick,
            directory.as_raw_fd(),
            c"".as_ptr(),
            FSPICK_CLOEXEC | FSPICK_EMPTY_PATH,
        )
    })?;
    fsconfig(context.as_fd(), FSCONFIG_CMD_RECONFIGURE, None, None, 0)
}

/// What the file system said about the last failure of this context, for the error message.
pub(super) fn fs_messages(context: BorrowedFd<'_>) -> String {
    let mut text = String::new();
    let mut line = [0_u8; 512];
    while let Ok(length) = nix::unistd::read(context, &mut line) {
        if length == 0 {
            break;
        }
        let message = String::from_utf8_lossy(&line[..length]);
        // "e tmpfs: Unknown parameter 'x'": a severity letter, then the message.
        let message = message.get(2..).unwrap_or(&message).trim();
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(message);
    }
    text
}

/// move_mount(2): puts a mount on the place that `target` refers to.
pub(super) fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: both paths are empty C strings; the kernel only reads them.
    done(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            target.as_raw_fd(),
            c"".as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH,
        )
    })
}

/// mount_setattr(2) on the mount that a descriptor refers to.
pub(super) fn set_attributes(
    mount: BorrowedFd<'_>,
    attributes: &MountAttr,
    recursive: bool,
) -> io::Result<()> {
    set_attributes_at(mount, c"", attributes, recursive)
}

/// mount_setattr(2) on the mount at `path`.
pub(super) fn set_attributes_at(
    dir: BorrowedFd<'_>,
    path: &CStr,
    attributes: &MountAttr,
    recursive: bool,
) -> io::Result<()> {
    let mut flags = if path.is_empty() { AT_EMPTY_PATH } else { 0 };
    if recursive {
        flags |= AT_RECURSIVE;
    }
    // SAFETY: `path` is a C string and `attributes` a live struct of the size given; the kernel
    // only reads both.
    done(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir.as_raw_fd(),
            path.as_ptr(),
            flags,
            ptr::from_ref(attributes),
            size_of::<MountAttr>(),
        )
    })
}

/// pivot_root(2) with the current directory as both the new root and the place of the old one.
pub(super) fn pivot_here() -> io::Result<()> {
    // SAFETY: both paths are C strings; the kernel only reads them.
    done(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })
}

/// `SECBIT_NO_SETUID_FIXUP` (`linux/securebits.h`): changing user ids leaves capabilities alone.
const NO_SETUID_FIXUP: libc::c_int = 1 << 2;

/// Runs `work` with the file system user and group `id`, and with all capabilities that this thread
/// has. An error means that `work` has not run, or that this thread is not what it was: the caller
/// must not go on.
pub(super) fn as_owner<T>(id: u32, work: impl FnOnce() -> T) -> io::Result<T> {
    // SAFETY: PR_GET_SECUREBITS takes no argument.
    let before = unsafe { libc::prctl(libc::PR_GET_SECUREBITS) };
    done(before.into())?;
    secure_bits(before | NO_SETUID_FIXUP)?;
    let user = nix::unistd::setfsuid(Uid::from_raw(id));
    let group = nix::unistd::setfsgid(Gid::from_raw(id));
    // The calls answer what was; only asking again tells whether they did it.
    let (nobody, none) = (Uid::from_raw(u32::MAX), Gid::from_raw(u32::MAX));
    let is =
        nix::unistd::setfsuid(nobody).as_raw() == id && nix::unistd::setfsgid(none).as_raw() == id;
    let result = is.then(work);
    nix::unistd::setfsuid(user);
    nix::unistd::setfsgid(group);
    if secure_bits(before).is_err() {
        // Going on with other rights than before would be somebody else's hole.
        std::process::abort();
    }
    result.ok_or_else(|| io::Error::from_raw_os_error(libc::EPERM))
}

fn secure_bits(bits: libc::c_int) -> io::Result<()> {
    // SAFETY: PR_SET_SECUREBITS takes a number.
    done(unsafe { libc::prctl(libc::PR_SET_SECUREBITS, bits) }.into())
}
