use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::ptr;

use nix::fcntl::{FcntlArg, fcntl};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

/// Writes to the beginning of a file through a shared mapping.
pub(crate) fn map(path: &str, bytes: &[u8]) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let (size, protection) = (bytes.len(), ProtFlags::READ | ProtFlags::WRITE);
    #[expect(unsafe_code, reason = "a mapping is used by address")]
    // SAFETY: the kernel chooses the place, which is of that size and nobody else's until it is given back.
    unsafe {
        let place = mmap(
            ptr::null_mut(),
            size,
            protection,
            MapFlags::SHARED,
            &file,
            0,
        )?;
        ptr::copy_nonoverlapping(bytes.as_ptr(), place.cast(), size);
        munmap(place, size)?;
    }
    file.sync_all()
}

/// Whether a second open file gets a lock that a first one has, of both kinds, and when it is given back.
pub(crate) fn lock(path: &str) -> io::Result<String> {
    let open = || OpenOptions::new().read(true).write(true).open(path);
    let (first, second) = (open()?, open()?);
    first.lock()?;
    let taken = second.try_lock().is_ok();
    first.unlock()?;
    let free = second.try_lock().is_ok();
    let range = libc::flock {
        l_type: i16::try_from(libc::F_WRLCK).map_err(io::Error::other)?,
        l_whence: i16::try_from(libc::SEEK_SET).map_err(io::Error::other)?,
        l_start: 10,
        l_len: 5,
        l_pid: 0,
    };
    fcntl(&first, FcntlArg::F_OFD_SETLK(&range))?;
    let taken_range = fcntl(&second, FcntlArg::F_OFD_SETLK(&range)).is_ok();
    drop(first);
    let free_range = fcntl(&second, FcntlArg::F_OFD_SETLK(&range)).is_ok();
    Ok(format!("{taken} {free} {taken_range} {free_range}"))
}

/// Mounts a directory a second time, with its ids mapped as they are in the user namespace of a process.
pub(crate) fn mount_mapped(source: &str, place: &str, process: &str) -> io::Result<()> {
    fs::create_dir_all(place)?;
    let namespace = File::open(format!("/proc/{process}/ns/user"))?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(rustix::fs::CWD, source, flags)?;
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::try_from(namespace.as_raw_fd()).map_err(io::Error::other)?,
    };
    let here = CString::default();
    #[expect(unsafe_code, reason = "no crate has this call")]
    // SAFETY: the path is a C string and the attributes are of the size that is said; both live on.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            here.as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(move_mount(&tree, "", rustix::fs::CWD, place, flags)?)
}
