//! The channel between the parent and the new process: a pair of sockets that keep messages apart.
//!
//! A failure travels as data ([`InitFailure`] in JSON). The end of the stream says that the process
//! executed its program, or is gone.

use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::Pid;

use crate::error::InitFailure;

/// What the new process tells its parent.
#[derive(Debug)]
pub(crate) enum Report {
    /// From the process in between: this is init.
    Init(Pid),
    /// The namespaces and the mounts are there: the hooks of the runtime's namespaces may run.
    Hooks,
    /// Everything that can fail is done, but for start and `execve`.
    Ready,
    /// It cannot go on and is ending.
    Failed(InitFailure),
    /// `execve` has closed the channel, or the process is gone.
    End,
}

const INIT: u8 = b'i';
const HOOKS: u8 = b'h';
const READY: u8 = b'r';
const FAILED: u8 = b'f';
/// The parent's only word.
const GO: u8 = b'g';

/// The longest report in bytes; a longer text of an error is cut.
const LONGEST: usize = 16 * 1024;

/// The parent's end.
#[derive(Debug)]
pub(crate) struct ParentSide(OwnedFd);

/// The new process's end.
#[derive(Debug)]
pub(crate) struct InitSide {
    socket: Option<OwnedFd>,
}

/// A connected pair.
pub(crate) fn pair() -> io::Result<(ParentSide, InitSide)> {
    let (parent, init) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?;
    Ok((ParentSide(parent), InitSide { socket: Some(init) }))
}

fn read(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match nix::unistd::read(socket, buffer) {
            Err(nix::errno::Errno::EINTR) => {}
            // The other process was killed with our message unread.
            Err(nix::errno::Errno::ECONNRESET) => return Ok(0),
            other => return Ok(other?),
        }
    }
}

/// `send` and not `write`: a peer that is gone must be an error, not a SIGPIPE.
fn send(socket: &OwnedFd, message: &[u8]) -> io::Result<()> {
    use nix::sys::socket::{MsgFlags, send};
    use std::os::fd::AsRawFd as _;
    send(socket.as_raw_fd(), message, MsgFlags::MSG_NOSIGNAL)?;
    Ok(())
}

impl ParentSide {
    /// Lets the new process go on.
    pub(crate) fn go(&self) -> io::Result<()> {
        send(&self.0, &[GO])
    }

    /// Waits for the next report.
    pub(crate) fn next(&self) -> io::Result<Report> {
        let mut buffer = vec![0; LONGEST];
        let length = read(&self.0, &mut buffer)?;
        let bad = || io::Error::from(io::ErrorKind::InvalidData);
        Ok(match buffer[..length].split_first() {
            None => Report::End,
            Some((&HOOKS, _)) => Report::Hooks,
            Some((&READY, _)) => Report::Ready,
            Some((&INIT, rest)) => {
                let pid = rest.try_into().map_err(|_| bad())?;
                Report::Init(Pid::from_raw(i32::from_ne_bytes(pid)))
            }
            Some((&FAILED, rest)) => Report::Failed(serde_json::from_slice(rest)?),
            Some(_) => return Err(bad()),
        })
    }
}

impl InitSide {
    fn socket(&self) -> io::Result<&OwnedFd> {
        self.socket
            .as_ref()
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))
    }

    /// Waits for the parent's go-ahead; an error if the parent is gone.
    pub(crate) fn wait(&self) -> io::Result<()> {
        let mut buffer = [0; 1];
        match read(self.socket()?, &mut buffer)? {
            1 if buffer == [GO] => Ok(()),
            _ => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
        }
    }

    /// Tells the parent init's pid.
    pub(crate) fn send_init(&self, pid: Pid) -> io::Result<()> {
        let [a, b, c, d] = pid.as_raw().to_ne_bytes();
        send(self.socket()?, &[INIT, a, b, c, d])
    }

    /// Asks for the hooks, and waits until they have run.
    pub(crate) fn hooks(&self) -> io::Result<()> {
        send(self.socket()?, &[HOOKS])?;
        self.wait()
    }

    /// Says that everything is done, and waits until the parent has written it down: a process whose
    /// parent died before that must not live on unknown.
    pub(crate) fn ready(&self) -> io::Result<()> {
        send(self.socket()?, &[READY])?;
        self.wait()
    }

    /// The parent need not know any more.
    pub(crate) fn close(&mut self) {
        self.socket = None;
    }

    /// Reports a failure, to the parent, or where nobody listens any more to the standard error.
    pub(crate) fn report(&self, failure: &InitFailure) {
        let Some(socket) = &self.socket else {
            let _ = writeln!(io::stderr(), "{failure}");
            return;
        };
        let mut failure = failure.clone();
        failure.subject = cut(failure.subject);
        if let crate::error::Cause::Text(text) = failure.cause {
            failure.cause = crate::error::Cause::Text(cut(text));
        }
        let mut message = vec![FAILED];
        if serde_json::to_writer(&mut message, &failure).is_ok() {
            // write(2) and not send(2): nearly every seccomp filter allows it.
            let _ = nix::unistd::write(socket.as_fd(), &message);
        }
    }
}

/// JSON makes up to six bytes of one.
fn cut(mut text: String) -> String {
    let mut end = text.len().min(1024);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Cause, Stage};

    #[test]
    fn a_failure_arrives_as_it_was_sent() {
        let (parent, init) = pair().expect("a pair");
        let failure = InitFailure::new(Stage::Executable, "nope", Cause::NotInPath);
        init.report(&failure);
        drop(init);
        assert!(matches!(parent.next(), Ok(Report::Failed(f)) if f == failure));
        assert!(matches!(parent.next(), Ok(Report::End)));
    }

    #[test]
    fn a_huge_failure_is_cut_and_still_arrives() {
        let (parent, init) = pair().expect("a pair");
        let failure = InitFailure::new(
            Stage::Rootfs,
            "\u{1}".repeat(100_000),
            Cause::Text("é".repeat(100_000)),
        );
        init.report(&failure);
        assert!(matches!(parent.next(), Ok(Report::Failed(f)) if f.stage == Stage::Rootfs));
    }

    #[test]
    fn a_dead_parent_is_an_error() {
        let (parent, init) = pair().expect("a pair");
        drop(parent);
        assert!(init.wait().is_err());
        assert!(init.ready().is_err());
    }
}
