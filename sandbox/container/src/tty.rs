//! The container's pseudo-terminal.
//!
//! Both ends come from descriptors: the master is opened below a checked devpts mount, the other end
//! by asking the master itself. No path of the container decides what becomes the terminal
//! (CVE-2025-52565).

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::sys::stat::{SFlag, fstat};
use nix::sys::statfs::{FsType, fstatfs};

use crate::sys::pty;

/// A pair: the master for the engine, the terminal for the container.
#[derive(Debug)]
pub(crate) struct Console {
    master: OwnedFd,
    terminal: OwnedFd,
}

/// What travels beside the descriptor; runc sends the master's name, and readers only log it.
const MASTER_NAME: &[u8] = b"/dev/ptmx";

/// linux/magic.h.
const DEVPTS_MAGIC: FsType = FsType(0x1cd1);

/// `/dev/ptmx` and `/dev/pts/ptmx` are character device 5:2 (Documentation/admin-guide/devices.txt).
const PTMX: libc::dev_t = libc::makedev(5, 2);

impl Console {
    /// Makes a pty in the container's devpts: the given mount, or else what is at `/dev/pts`.
    pub(crate) fn open(devpts: Option<BorrowedFd<'_>>) -> io::Result<Self> {
        let found;
        let devpts = match devpts {
            Some(mount) => mount,
            None => {
                let how = OpenHow::new()
                    .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
                    .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
                found = openat2(AT_FDCWD, "/dev/pts", how)?;
                found.as_fd()
            }
        };
        let how = OpenHow::new()
            .flags(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)
            .resolve(
                ResolveFlag::RESOLVE_BENEATH
                    | ResolveFlag::RESOLVE_NO_XDEV
                    | ResolveFlag::RESOLVE_NO_SYMLINKS,
            );
        // Checked before the open: opening an arbitrary device can have effects.
        check_devpts(devpts)?;
        let master = openat2(devpts, "ptmx", how)?;
        let status = fstat(&master)?;
        let is_device = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT == SFlag::S_IFCHR;
        if !is_device || status.st_rdev != PTMX {
            return Err(io::Error::other("/dev/pts/ptmx is not a pty master"));
        }
        pty::unlock(&master)?;
        let terminal = pty::open_peer(&master)?;
        check_devpts(&terminal)?;
        Ok(Self { master, terminal })
    }

    /// The container's end.
    pub(crate) fn terminal(&self) -> BorrowedFd<'_> {
        self.terminal.as_fd()
    }

    /// Sets the first size, in rows and columns.
    pub(crate) fn set_size(&self, (rows, columns): (u16, u16)) -> io::Result<()> {
        pty::set_size(&self.master, rows, columns)
    }

    /// Hands the master to the engine; this process keeps only the container's end, as its
    /// controlling terminal and standard streams. It must lead a session without a terminal.
    pub(crate) fn attach(self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let descriptors = [self.master.as_raw_fd()];
        sendmsg::<()>(
            socket.as_raw_fd(),
            &[IoSlice::new(MASTER_NAME)],
            &[ControlMessage::ScmRights(&descriptors)],
            MsgFlags::MSG_NOSIGNAL,
            None,
        )?;
        pty::make_controlling(&self.terminal)?;
        nix::unistd::dup2_stdin(&self.terminal)?;
        nix::unistd::dup2_stdout(&self.terminal)?;
        nix::unistd::dup2_stderr(&self.terminal)?;
        Ok(())
    }
}

fn check_devpts(file: impl AsFd) -> io::Result<()> {
    if fstatfs(file)?.filesystem_type() == DEVPTS_MAGIC {
        Ok(())
    } else {
        Err(io::Error::other(
            "/dev/pts of the container is not a devpts",
        ))
    }
}
