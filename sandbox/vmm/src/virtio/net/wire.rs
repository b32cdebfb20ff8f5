//! The host's end of a card's wire.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
#[cfg(any(test, feature = "hostile"))]
use std::os::unix::net::UnixDatagram;

use cofferdam_network::tap::{Offloads, Tap};

use crate::config::NetworkConfig;
use crate::error::{VmError, VmResult};
use crate::virtio::DeviceError;

/// The host's end of a card's wire. A read or write is one frame with its header, and does not block.
#[derive(Debug)]
pub struct Wire(End);

#[derive(Debug)]
enum End {
    /// The kernel's network.
    Tap(Tap),
    /// Whoever plays it.
    #[cfg(any(test, feature = "hostile"))]
    Socket(UnixDatagram),
}

impl Wire {
    pub(super) fn open(config: &NetworkConfig) -> VmResult<Self> {
        let tap = match (&config.tap, config.fd) {
            (_, Some(fd)) => Tap::inherited(fd),
            (name, None) => Tap::open(name.as_deref().unwrap_or_default()),
        };
        Ok(Self(End::Tap(tap.map_err(VmError::Tap)?)))
    }

    /// A wire whose other end is a test's.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    #[cfg(any(test, feature = "hostile"))]
    pub fn pair() -> io::Result<(Self, UnixDatagram)> {
        let (one, other) = UnixDatagram::pair()?;
        one.set_nonblocking(true)?;
        other.set_nonblocking(true)?;
        Ok((Self(End::Socket(one)), other))
    }

    pub(super) fn set_offloads(&self, offloads: Offloads) -> Result<(), DeviceError> {
        match &self.0 {
            End::Tap(tap) => tap.set_offloads(offloads).map_err(|error| {
                DeviceError::Host("set the tap's offloads", io::Error::other(error))
            }),
            #[cfg(any(test, feature = "hostile"))]
            End::Socket(_) => Ok(()),
        }
    }

    pub(super) fn read(&mut self, frame: &mut [u8]) -> io::Result<usize> {
        match &self.0 {
            End::Tap(tap) => {
                let mut tap = tap;
                tap.read(frame)
            }
            #[cfg(any(test, feature = "hostile"))]
            End::Socket(socket) => socket.recv(frame),
        }
    }

    pub(super) fn write(&mut self, frame: &[u8]) -> io::Result<usize> {
        match &self.0 {
            End::Tap(tap) => {
                let mut tap = tap;
                tap.write(frame)
            }
            #[cfg(any(test, feature = "hostile"))]
            End::Socket(socket) => socket.send(frame),
        }
    }
}

impl AsRawFd for Wire {
    fn as_raw_fd(&self) -> RawFd {
        match &self.0 {
            End::Tap(tap) => tap.as_raw_fd(),
            #[cfg(any(test, feature = "hostile"))]
            End::Socket(socket) => socket.as_raw_fd(),
        }
    }
}
