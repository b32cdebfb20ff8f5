//! Mounts that no device is opened in, nothing executed, and no right gained: an image is hostile, and
//! this process is the host's root.
#![expect(
    unsafe_code,
    reason = "mount_setattr has no safe wrapper; it alone changes a whole tree at once"
)]

use nix::errno::Errno;
use nix::libc;

/// Changes every mount of this mount namespace, which has to be our own.
pub(super) fn all() -> Result<(), Errno> {
    // SAFETY: all members are plain numbers.
    let mut change: libc::mount_attr = unsafe { std::mem::zeroed() };
    change.attr_set = libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;
    // SAFETY: the path is a string that lives as long as the program, the structure is alive and as large
    // as it is said to be.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            c"/".as_ptr(),
            libc::AT_RECURSIVE,
            &raw const change,
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(done).map(drop)
}
