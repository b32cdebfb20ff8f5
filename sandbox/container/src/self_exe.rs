//! Keeps the container from reaching our own executable (CVE-2019-5736).
//!
//! A container's process can open `/proc/PID/exe` of a process that is about to execute the
//! container's program, and write to it later. What it opens keeps the mount that the program was
//! executed from: if that mount is read-only, the write fails for ever.

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io::{self, Seek as _};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt};
use std::path::Path;

use nix::fcntl::{AtFlags, FcntlArg, OFlag, SealFlag, fcntl, open};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::Mode;
use nix::sys::statfs::fstatfs;
use nix::sys::statvfs::FsFlags;

use crate::sys::mount;

/// Our executable, whatever it is called now.
const SELF: &str = "/proc/self/exe";

/// Makes sure that `/proc/self/exe` cannot be written through, executing ourselves again if it could.
///
/// To be called first, while single-threaded. Costs a system call or two where the caller of this
/// process has executed it through [`read_only_copy`] already; else one `execve`.
pub fn protect() -> io::Result<()> {
    if is_protected()? {
        return Ok(());
    }
    let copy = read_only_copy(File::open(SELF)?)?;
    let mut arguments = strings(std::env::args_os().map(OsStringExt::into_vec))?;
    // The copy has no place of its own; programs beside ours are found by what we are called.
    if let Some(own) = arguments.first_mut()
        && !own.as_bytes().starts_with(b"/")
    {
        // Under the name it was called by, which can mean something.
        let place = fs::read_link(SELF)?;
        let name = Path::new(OsStr::from_bytes(own.as_bytes())).file_name();
        let place = name.map_or_else(|| place.clone(), |name| place.with_file_name(name));
        *own = CString::new(place.into_os_string().into_vec())?;
    }
    let environment = strings(std::env::vars_os().map(|(name, value)| {
        let mut entry = name.into_vec();
        entry.push(b'=');
        entry.extend(value.into_vec());
        entry
    }))?;
    match nix::unistd::execveat(&copy, c"", &arguments, &environment, AtFlags::AT_EMPTY_PATH) {
        Ok(never) => match never {},
        Err(errno) => Err(errno.into()),
    }
}

/// A descriptor to execute `program` from that its processes cannot write through: on a detached
/// read-only mount of its own, or without the right to mount a sealed copy in memory.
pub fn read_only_copy(program: impl AsFd) -> io::Result<OwnedFd> {
    let mounted = mount::clone_mount(program.as_fd())
        .and_then(|tree| mount::make_read_only(&tree).map(|()| tree));
    match mounted {
        Ok(tree) => Ok(tree),
        Err(_) => sealed_copy(program.as_fd()),
    }
}

fn sealed_copy(program: impl AsFd) -> io::Result<OwnedFd> {
    let mut from = File::open(format!("/proc/self/fd/{}", program.as_fd().as_raw_fd()))?;
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut copy: File = memfd_create("cofferdam", flags)?.into();
    io::copy(&mut from, &mut copy)?;
    copy.rewind()?;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(seals()))?;
    // Reopened for reading: a program that is open for writing cannot be executed (ETXTBSY).
    Ok(File::open(format!("/proc/self/fd/{}", copy.as_raw_fd()))?.into())
}

fn seals() -> SealFlag {
    SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE
}

/// On a read-only mount, or a sealed file in memory.
fn is_protected() -> io::Result<bool> {
    let exe = open(SELF, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    if fstatfs(&exe)?.flags().contains(FsFlags::ST_RDONLY) {
        return Ok(true);
    }
    // A file with a name is not one in memory; asking costs less than opening it.
    if !fs::read_link(SELF)?
        .as_os_str()
        .as_encoded_bytes()
        .starts_with(b"/memfd:")
    {
        return Ok(false);
    }
    let found = fcntl(File::open(SELF)?, FcntlArg::F_GET_SEALS)?;
    Ok(SealFlag::from_bits_truncate(found).contains(seals()))
}

fn strings(list: impl Iterator<Item = Vec<u8>>) -> io::Result<Vec<CString>> {
    list.map(|bytes| CString::new(bytes).map_err(io::Error::other))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_sealed_copy_cannot_be_written() {
        let copy = sealed_copy(File::open(SELF).expect("self")).expect("a copy");
        let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
        let write = fs::OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut file| file.write_all(b"x"));
        assert!(write.is_err());
    }

    /// Of a program that has a name only its mount can be what protects it, and that does.
    #[test]
    fn a_program_is_as_protected_as_its_mount() {
        let file = fs::read_link(SELF).expect("our path");
        let mount = nix::sys::statvfs::statvfs(&file).expect("its mount");
        let read_only = mount.flags().contains(FsFlags::ST_RDONLY);
        assert_eq!(is_protected().expect("looked"), read_only);
        // Elsewhere it is refused only while it runs, and not by every kernel.
        let write = fs::OpenOptions::new().append(true).open(&file);
        let refused = write.is_err_and(|e| e.raw_os_error() == Some(libc::EROFS));
        assert_eq!(refused, read_only);
    }
}
