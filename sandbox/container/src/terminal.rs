//! Terminals, for who stands between two.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use crate::sys::{inherit, pty};

/// The size of a terminal in characters: rows and columns.
pub fn size(terminal: impl AsFd) -> io::Result<(u16, u16)> {
    pty::size(terminal)
}

/// Sets the size of a terminal, by either of its ends.
pub fn set_size(terminal: impl AsFd, rows: u16, columns: u16) -> io::Result<()> {
    pty::set_size(terminal, rows, columns)
}

/// The master of a new terminal, as [`CreateOptions`](crate::CreateOptions)'s console socket gets it.
pub fn receive(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut name = [0_u8; 256];
    let mut buffer = [IoSliceMut::new(&mut name)];
    let mut space = nix::cmsg_space!([i32; 1]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut buffer, Some(&mut space), flags)?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control
            && let [fd] = fds.as_slice()
        {
            return Ok(inherit::owned(*fd));
        }
    }
    Err(io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the helper sent no file descriptor",
    ))
}
