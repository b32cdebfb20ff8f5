//! The socket over which the helper hands us the master of a new terminal.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use cofferdam_container::terminal;

use crate::backend::BackendError;

/// Both ends, or neither if no terminal is wanted.
pub(crate) struct Socket(Option<(UnixStream, OwnedFd)>);

impl Socket {
    /// A socket if a terminal is wanted.
    pub(crate) fn new(wanted: bool) -> Result<Self, BackendError> {
        if !wanted {
            return Ok(Self(None));
        }
        let (ours, theirs) = UnixStream::pair().map_err(BackendError::Console)?;
        Ok(Self(Some((ours, theirs.into()))))
    }

    /// The helper's end.
    pub(crate) fn theirs(&self) -> Option<&OwnedFd> {
        self.0.as_ref().map(|(_, theirs)| theirs)
    }

    /// The terminal's master, which the helper sent before it answered.
    pub(crate) fn receive(self) -> Result<Option<OwnedFd>, BackendError> {
        let Some((ours, theirs)) = self.0 else {
            return Ok(None);
        };
        // With the other end closed, a helper that sent nothing is an end of file, not a hang.
        drop(theirs);
        terminal::receive(&ours)
            .map(Some)
            .map_err(BackendError::Console)
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::os::fd::AsRawFd as _;

    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

    use super::*;

    #[test]
    fn the_master_arrives_or_its_absence_is_an_error() {
        assert!(Socket::new(false).unwrap().receive().unwrap().is_none());
        assert!(Socket::new(true).unwrap().receive().is_err());
        let socket = Socket::new(true).unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let fds = [null.as_raw_fd()];
        let theirs = socket.theirs().unwrap().as_raw_fd();
        let rights = [ControlMessage::ScmRights(&fds)];
        let bytes = [IoSlice::new(b"/dev/ptmx")];
        sendmsg::<()>(theirs, &bytes, &rights, MsgFlags::empty(), None).unwrap();
        assert!(socket.receive().unwrap().is_some());
    }
}
