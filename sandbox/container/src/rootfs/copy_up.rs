//! `tmpcopyup`: a tmpfs that starts with what the image has at its destination.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::dir::Dir;
use nix::fcntl::{AtFlags, readlinkat};
use nix::sys::stat::{
    FileStat, Mode, SFlag, UtimensatFlags, fchmod, fstat, fstatat, futimens, mkdirat, mknodat,
    utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat, symlinkat};

use super::sys::{self, resolve};

/// An image may nest directories without end; each level costs a descriptor and a stack frame.
const MAX_DEPTH: usize = 128;

/// One step below a directory: no links, no other mounts.
const STEP: u64 = resolve::BENEATH | resolve::NO_SYMLINKS | resolve::NO_XDEV;

/// Copies what is in the directory `from` into the directory `to`, with owners, modes and times;
/// `to` itself gets the owner and mode of `from`. Sockets are left out.
pub(super) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    // `to` may be an O_PATH descriptor, which fchmod refuses.
    let from = open_directory(from, c".")?;
    let to = open_directory(to, c".")?;
    directory(from, to.as_fd(), 0)
}

fn open_directory(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    sys::openat2(dir, name, libc::O_RDONLY | libc::O_DIRECTORY, 0, STEP)
}

fn directory(from: OwnedFd, to: BorrowedFd<'_>, depth: usize) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    let stat = fstat(&from)?;
    let mut from = Dir::from_fd(from)?;
    let mut names = Vec::new();
    for item in from.iter() {
        let name = item?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    for name in names {
        entry(from.as_fd(), to, &name, depth)?;
    }
    fchown(to, owner(&stat).0, owner(&stat).1)?;
    fchmod(to, mode(&stat))?;
    let (accessed, modified) = times(&stat);
    Ok(futimens(to, &accessed, &modified)?)
}

fn entry(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, depth: usize) -> io::Result<()> {
    let stat = fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let (uid, gid) = owner(&stat);
    match SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT) {
        SFlag::S_IFDIR => {
            mkdirat(to, name, Mode::from_bits_truncate(0o700))?;
            let inner = open_directory(to, name)?;
            return directory(open_directory(from, name)?, inner.as_fd(), depth + 1);
        }
        SFlag::S_IFREG => return file(from, to, name, &stat),
        SFlag::S_IFLNK => symlinkat(readlinkat(from, name)?.as_os_str(), to, name)?,
        kind @ (SFlag::S_IFIFO | SFlag::S_IFCHR | SFlag::S_IFBLK) => {
            mknodat(to, name, kind, mode(&stat), stat.st_rdev)?;
        }
        _ => return Ok(()),
    }
    fchownat(to, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let (accessed, modified) = times(&stat);
    Ok(utimensat(
        to,
        name,
        &accessed,
        &modified,
        UtimensatFlags::NoFollowSymlink,
    )?)
}

fn file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, stat: &FileStat) -> io::Result<()> {
    // Non-blocking: a file that became a FIFO since must not hang init.
    let mut from = File::from(sys::openat2(
        from,
        name,
        libc::O_RDONLY | libc::O_NONBLOCK,
        0,
        STEP,
    )?);
    let create = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
    let mut to = File::from(sys::openat2(to, name, create, 0o600, STEP)?);
    io::copy(&mut from, &mut to)?;
    fchown(&to, owner(stat).0, owner(stat).1)?;
    // After the owner: chown takes set-user-id away.
    fchmod(&to, mode(stat))?;
    let (accessed, modified) = times(stat);
    Ok(futimens(&to, &accessed, &modified)?)
}

fn owner(stat: &FileStat) -> (Option<Uid>, Option<Gid>) {
    (
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )
}

fn mode(stat: &FileStat) -> Mode {
    Mode::from_bits_truncate(stat.st_mode & 0o7777)
}

fn times(stat: &FileStat) -> (TimeSpec, TimeSpec) {
    (
        TimeSpec::new(stat.st_atime, stat.st_atime_nsec),
        TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec),
    )
}
