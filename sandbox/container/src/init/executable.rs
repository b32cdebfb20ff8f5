//! Finding the program, the home directory.
//!
//! All paths here are the container's: this runs after the pivot and as the container's user.

use std::ffi::{CStr, CString};
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::Step;
use crate::error::{Cause, InitFailure, Stage};
use crate::process::ProcessPlan;
use crate::sys::confine;

/// Where programs are looked for when the process has no `PATH`.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The path of the program to execute, which is there and may be executed.
pub(crate) fn find(process: &ProcessPlan) -> Step<CString> {
    let Some(program) = process.args.first() else {
        return Err(failure("", Cause::NotInPath));
    };
    let name = program.to_string_lossy();
    if program.to_bytes().contains(&b'/') {
        return match usable(program) {
            Ok(()) => Ok(program.clone()),
            Err(cause) => Err(failure(&name, cause)),
        };
    }
    let path = process.variable("PATH").unwrap_or(DEFAULT_PATH);
    for directory in path.split(|&b| b == b':') {
        // A relative directory would make the working directory part of the search.
        if directory.first() != Some(&b'/') {
            continue;
        }
        let candidate = [directory, b"/", program.to_bytes()].concat();
        let Ok(candidate) = CString::new(candidate) else {
            continue;
        };
        if usable(&candidate).is_ok() {
            return Ok(candidate);
        }
    }
    Err(failure(&name, Cause::NotInPath))
}

fn failure(name: &str, cause: Cause) -> InitFailure {
    InitFailure::new(Stage::Executable, name, cause)
}

/// Whether this is a file that this process may execute.
fn usable(path: &CStr) -> Result<(), Cause> {
    let os = |error: io::Error| Cause::Os(error.raw_os_error().unwrap_or(libc::EIO));
    let metadata =
        fs::metadata(Path::new(std::ffi::OsStr::from_bytes(path.to_bytes()))).map_err(os)?;
    if !metadata.is_file() {
        return Err(Cause::Os(libc::EACCES));
    }
    confine::may_execute(path).map_err(os)
}

/// The most bytes of a container's `/etc/passwd` that are read.
const LARGEST_PASSWD: u64 = 1 << 20;

/// `HOME=` as the container's `/etc/passwd` has it for `uid`, else `/`.
pub(crate) fn home(uid: u32) -> CString {
    let mut text = Vec::new();
    // The file is the image's: it may be a FIFO or endless.
    let opened = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open("/etc/passwd");
    if let Ok(file) = opened
        && file.metadata().is_ok_and(|m| m.is_file())
    {
        let _ = file.take(LARGEST_PASSWD).read_to_end(&mut text);
    }
    let home = home_in(&text, uid).unwrap_or(b"/");
    CString::new([b"HOME=", home].concat()).unwrap_or_else(|_| c"HOME=/".to_owned())
}

/// The sixth field of the first line whose third is `uid`.
fn home_in(passwd: &[u8], uid: u32) -> Option<&[u8]> {
    passwd.split(|&b| b == b'\n').find_map(|line| {
        let mut fields = line.split(|&b| b == b':');
        let id = std::str::from_utf8(fields.nth(2)?).ok()?;
        if id.parse() != Ok(uid) {
            return None;
        }
        fields.nth(2).filter(|home| !home.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_of_a_user() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nbroken\n\n:::\nweb:x:33:33::/srv:/bin/sh\nno:x:7:7:::\n";
        for (uid, home) in [
            (0, Some(&b"/root"[..])),
            (33, Some(b"/srv")),
            (7, None),
            (1000, None),
        ] {
            assert_eq!(home_in(passwd, uid), home, "{uid}");
        }
        assert_eq!(home_in(b"\0\xff:\xff:\xff", 0), None);
    }

    #[test]
    fn usable_files() {
        assert_eq!(usable(c"/proc/self/exe"), Ok(()));
        assert_eq!(usable(c"/"), Err(Cause::Os(libc::EACCES)));
        assert_eq!(usable(c"/nonexistent/x"), Err(Cause::Os(libc::ENOENT)));
        assert_eq!(usable(c"/proc/self/exe/x"), Err(Cause::Os(libc::ENOTDIR)));
    }
}
