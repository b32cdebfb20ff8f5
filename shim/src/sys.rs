//! The system calls of the daemon that have no safe wrapper elsewhere.
#![expect(
    unsafe_code,
    reason = "prctl, mallopt, ioctl, open_tree, what a child does before it executes, and file \
              descriptors by number"
)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use nix::fcntl::{FcntlArg, fcntl};
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::SigSet;

/// File descriptors handed to a child are first moved up here, so that no source is overwritten by
/// another one's destination and no duplicate lands on itself with close-on-exec kept.
const SPAWN_SOURCE_FLOOR: RawFd = 64;

/// `POSIX_SPAWN_SETSID` of glibc's <spawn.h>, which nix does not name: the child calls setsid(2).
const SPAWN_SETSID: libc::c_int = 0x80;

/// Keeps the allocator small for a process with few, short-lived threads: one arena for all of them,
/// freed memory goes back to the kernel early, and large buffers are mapped on their own.
pub(crate) fn small_heap() {
    for (parameter, value) in [
        (libc::M_ARENA_MAX, 1),
        (libc::M_TRIM_THRESHOLD, 64 << 10),
        (libc::M_MMAP_THRESHOLD, 64 << 10),
        (libc::M_TOP_PAD, 16 << 10),
    ] {
        // SAFETY: mallopt takes two integers and is called before any other thread exists.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// Gives back what an idle process does not need: freed heap, and the pages of its own program.
///
/// The program's pages are clean and stay in the page cache, which all shims share; without this
/// each shim would keep mapped what it touched while it created its container (the kernel maps 16
/// pages around each fault). They come back by minor faults when the next request needs them.
pub(crate) fn release_memory() {
    // SAFETY: malloc_trim has no preconditions; it takes the allocator's own locks.
    unsafe { libc::malloc_trim(0) };
    // SAFETY: the callback has the signature that dl_iterate_phdr wants and ignores its data.
    unsafe { libc::dl_iterate_phdr(Some(release_segments), std::ptr::null_mut()) };
}

/// Drops the mapped pages of every segment that is never written to.
unsafe extern "C" fn release_segments(
    info: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    _data: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: dl_iterate_phdr passes a valid object for the duration of the call.
    let info = unsafe { &*info };
    // SAFETY: the loader gives the address and the number of the program headers.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    for header in headers {
        if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
            continue;
        }
        // The vDSO is listed too; its address is beyond what a file backs and madvise refuses it.
        let page = 4096;
        let (Ok(address), Ok(size)) = (
            usize::try_from(info.dlpi_addr + header.p_vaddr),
            usize::try_from(header.p_memsz),
        ) else {
            continue;
        };
        let start = address & !(page - 1);
        let length = address + size - start;
        // SAFETY: the range is a segment mapped privately from the executable without write
        // permission, relocations included only in writable ones, so every page that is dropped
        // reads the same from the file when it is touched again.
        unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) };
    }
    0
}

/// Makes orphaned descendants our children: init and exec processes once their helper has exited.
pub(crate) fn become_subreaper() -> io::Result<()> {
    // SAFETY: PR_SET_CHILD_SUBREAPER takes one integer and touches no memory.
    let rc = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    if rc == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Takes ownership of a file descriptor inherited under a fixed number and marks it close-on-exec.
///
/// To be called once per number, by the code that defines what the number means.
pub(crate) fn inherited(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_SETFD takes an integer; an fd that is not open gives EBADF.
    let rc = unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    if rc < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the fcntl above shows that it is open, and the caller calls once per number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Lets a child have its three standard streams and no descriptor of ours besides, however it was
/// opened.
pub(crate) fn inherit_no_more_than_streams(command: &mut Command) {
    let close = || {
        // SAFETY: close_range takes three integers, and with this flag closes nothing before execve.
        let rc = unsafe {
            let flag = libc::CLOSE_RANGE_CLOEXEC;
            libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, flag)
        };
        if rc == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    };
    // SAFETY: between fork and execve it makes one system call and allocates nothing.
    unsafe { command.pre_exec(close) };
}

/// Sets the window size of a terminal, in character cells.
pub(crate) fn set_window_size(terminal: impl AsFd, columns: u16, rows: u16) -> io::Result<()> {
    let size = libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCSWINSZ reads one winsize, which outlives the call.
    let rc = unsafe {
        libc::ioctl(
            terminal.as_fd().as_raw_fd(),
            libc::TIOCSWINSZ,
            &raw const size,
        )
    };
    if rc == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Gives the calling thread a working directory of its own, apart from the other threads'.
pub(crate) fn own_working_directory() -> io::Result<()> {
    // SAFETY: unshare takes one integer.
    let rc = unsafe { libc::unshare(libc::CLONE_FS) };
    if rc == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A read-only clone of the mount that `file` is on, showing only `file`.
///
/// A program executed through it cannot be written to through `/proc/PID/exe` (CVE-2019-5736),
/// because the write would have to pass a read-only mount.
pub(crate) fn read_only_clone(file: &Path) -> io::Result<OwnedFd> {
    let path = c_string(file.as_os_str().as_encoded_bytes())?;
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: the path is a C string that outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: open_tree returned a new descriptor that nobody else owns.
    let tree = unsafe { OwnedFd::from_raw_fd(fd) };
    let attr = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the empty path and the attributes outlive the call, and the size is theirs.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if rc == 0 {
        Ok(tree)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Executes `program` with exactly the given file descriptors, an empty signal mask, default signal
/// dispositions and a session of its own. Returns its pid; the reaper collects it.
///
/// The memory is shared with the child until it executes (`CLONE_VFORK`), so nothing is copied.
pub(crate) fn spawn(
    program: &CStr,
    args: &[CString],
    env: &[CString],
    fds: &[(&OwnedFd, RawFd)],
) -> io::Result<i32> {
    let mut actions = PosixSpawnFileActions::init()?;
    let mut sources = Vec::with_capacity(fds.len());
    for (fd, target) in fds {
        let copy = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(SPAWN_SOURCE_FLOOR))?;
        // SAFETY: F_DUPFD_CLOEXEC returned a new descriptor that nobody else owns.
        sources.push(unsafe { OwnedFd::from_raw_fd(copy) });
        actions.add_dup2(copy, *target)?;
    }
    let mut attributes = PosixSpawnAttr::init()?;
    attributes.set_flags(
        PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK
            | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF
            | PosixSpawnFlags::from_bits_retain(SPAWN_SETSID),
    )?;
    attributes.set_sigmask(&SigSet::empty())?;
    attributes.set_sigdefault(&SigSet::all())?;
    Ok(posix_spawn(program, &actions, &attributes, args, env)?.as_raw())
}

/// This process's environment in the form that [`spawn`] takes.
pub(crate) fn environment() -> Vec<CString> {
    std::env::vars_os()
        .filter_map(|(key, value)| {
            let mut entry = key.into_encoded_bytes();
            entry.push(b'=');
            entry.extend_from_slice(value.as_encoded_bytes());
            CString::new(entry).ok()
        })
        .collect()
}

/// Bytes as a C string; a zero byte inside is an error.
pub(crate) fn c_string(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))
}

/// Reaps one child that has ended: its pid and its exit code, or 128 plus the signal that ended it.
///
/// nix's wrapper loses the pid of a child killed by a real-time signal, hence the raw call.
pub(crate) fn reap() -> io::Result<Option<(i32, u32)>> {
    loop {
        let mut status = 0;
        // SAFETY: the status outlives the call; -1 means any child.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        if pid == 0 {
            return Ok(None);
        }
        if pid < 0 {
            match io::Error::last_os_error() {
                e if e.raw_os_error() == Some(libc::ECHILD) => return Ok(None),
                e if e.kind() == io::ErrorKind::Interrupted => continue,
                e => return Err(e),
            }
        }
        let code = if libc::WIFEXITED(status) {
            libc::WEXITSTATUS(status)
        } else if libc::WIFSIGNALED(status) {
            128 + libc::WTERMSIG(status)
        } else {
            continue;
        };
        return Ok(Some((pid, u32::try_from(code).unwrap_or(u32::MAX))));
    }
}

/// Signals a process that is a child of ours and has not been reaped, so its pid is its own.
pub(crate) fn kill(pid: i32, signal: i32) -> io::Result<()> {
    if pid <= 0 {
        // 0 and negative numbers are process groups.
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    // SAFETY: kill takes two integers.
    let rc = unsafe { libc::kill(pid, signal) };
    if rc == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_has_its_streams_only() {
        let file = std::fs::File::open("/dev/null").unwrap();
        // Without close-on-exec, as an engine hands descriptors over for the container.
        let left = nix::unistd::dup(&file).unwrap();
        let test = format!("test -e /proc/self/fd/{}", left.as_raw_fd());
        let has = |only_streams: bool| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", &test]);
            if only_streams {
                inherit_no_more_than_streams(&mut command);
            }
            command.status().unwrap().success()
        };
        assert!(has(false));
        assert!(!has(true));
    }
}
