//! Sockets between guest and host.
#![expect(unsafe_code, reason = "a descriptor from accept")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, VsockAddr, accept4, bind, listen as begin, socket,
};

/// A port that the host connects to.
#[derive(Debug)]
pub(super) struct Listener(OwnedFd);

/// Listens at a port.
pub(super) fn listen(port: u32) -> io::Result<Listener> {
    let socket = socket(
        AddressFamily::Vsock,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    bind(
        socket.as_raw_fd(),
        &VsockAddr::new(libc::VMADDR_CID_ANY, port),
    )?;
    begin(&socket, Backlog::new(128)?)?;
    Ok(Listener(socket))
}

impl Listener {
    /// The next connection. Only the host has any to offer: processes of the guest have no way to this address.
    pub(super) fn accept(&self) -> io::Result<File> {
        loop {
            match accept4(self.0.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
                // SAFETY: the call gave a new descriptor, which nothing else owns.
                Ok(accepted) => return Ok(unsafe { File::from_raw_fd(accepted) }),
                Err(Errno::EINTR | Errno::ECONNABORTED) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}
