//! AppArmor and SELinux labels, written through a checked procfs.
//!
//! The label takes effect at `execve`. A container that can put something else over `/proc` must not
//! be able to turn the write into one to another file (CVE-2019-16884, CVE-2025-52881): the file is
//! opened before the container's mounts are entered, and every component must be on procfs itself.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use super::{At as _, Step};
use crate::error::Stage;
use crate::process::ProcessPlan;

/// The file that takes the label of this thread's next program, opened.
#[derive(Debug)]
pub(crate) struct Label {
    file: File,
    text: Vec<u8>,
    what: &'static str,
}

impl Label {
    /// Opens what the process's label needs; must run in the new process itself (the kernel lets a
    /// thread write its own label only) and before the container's mounts are entered.
    pub(crate) fn open(process: &ProcessPlan) -> Step<Option<Self>> {
        let apparmor = process
            .apparmor
            .as_ref()
            .filter(|profile| profile.as_bytes() != b"unconfined" || apparmor_is_on());
        let (what, text, paths): (_, _, &[&str]) = match (apparmor, &process.selinux) {
            (None, None) => return Ok(None),
            (Some(profile), None) => (
                "apply the AppArmor profile",
                [b"exec ", profile.as_bytes()].concat(),
                &["thread-self/attr/apparmor/exec", "thread-self/attr/exec"],
            ),
            (None, Some(label)) => (
                "apply the SELinux label",
                label.as_bytes().to_vec(),
                &["thread-self/attr/exec"],
            ),
            (Some(_), Some(_)) => {
                return Err(io::Error::other("a process cannot have both"))
                    .at(Stage::Label, "AppArmor profile and SELinux label");
            }
        };
        let file = open_first(paths).at(Stage::Label, what)?;
        Ok(Some(Self { file, text, what }))
    }

    /// Writes the label: it counts from `execve` on.
    pub(crate) fn apply(mut self) -> Step {
        self.file.write_all(&self.text).at(Stage::Label, self.what)
    }
}

/// The module's own parameter file: its presence alone says only that it was compiled in.
fn apparmor_is_on() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled")
        .is_ok_and(|text| text.first() == Some(&b'Y'))
}

/// Opens the first of `paths` that exists for writing, below a procfs root that nothing covers.
fn open_first(paths: &[&str]) -> io::Result<File> {
    /// PROC_ROOT_INO of linux/proc_fs.h.
    const PROC_ROOT_INODE: u64 = 1;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let proc = open("/proc", flags, Mode::empty())?;
    let is_procfs = fstatfs(&proc)?.filesystem_type() == PROC_SUPER_MAGIC;
    if !is_procfs || nix::sys::stat::fstat(&proc)?.st_ino != PROC_ROOT_INODE {
        return Err(io::Error::other("/proc is not a procfs"));
    }
    let how = OpenHow::new()
        .flags(OFlag::O_WRONLY | OFlag::O_CLOEXEC)
        .resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_XDEV
                | ResolveFlag::RESOLVE_NO_MAGICLINKS,
        );
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for path in paths {
        match openat2(proc.as_fd(), *path, how) {
            Ok(file) => return Ok(file.into()),
            Err(nix::errno::Errno::ENOENT) => {
                last = io::Error::other("the kernel has no such security module");
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_procfs_is_written() {
        // What exists there is a procfs file; what does not is named as such.
        assert!(open_first(&["thread-self/comm"]).is_ok());
        assert!(open_first(&["thread-self/attr/nothing", "nothing"]).is_err());
        // A magic link out of procfs is refused even though it can be written.
        assert!(open_first(&["thread-self/fd/1"]).is_err());
        assert!(open_first(&["thread-self/cwd/x"]).is_err());
    }
}
