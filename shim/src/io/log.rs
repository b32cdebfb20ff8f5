//! Copies what a process writes into a log file, on the event loop.
//!
//! The process gets a pipe, not the file: it may open a pipe again (`/dev/stdout`) as whatever user it is,
//! and neither read, rewrite nor truncate what is already logged.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::epoll::EpollFlags;
use nix::unistd::pipe2;

use super::fifo;
use crate::reactor::{Reactor, Source};
use crate::sync::lock;

/// Bytes that are copied at least before the loop turns to others.
const TURN: usize = 256 << 10;

/// Bytes per read.
const CHUNK: usize = 8 << 10;

/// A log before anything is copied to it.
#[derive(Debug)]
pub(super) struct Ends {
    pipe: File,
    file: File,
}

impl Ends {
    /// A log file and the writing end of the pipe that leads to it.
    pub(super) fn to(file: OwnedFd) -> io::Result<(OwnedFd, Self)> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
        let pipe = File::from(reader);
        fifo::make_nonblocking(&pipe)?;
        let file = file.into();
        Ok((writer, Self { pipe, file }))
    }

    /// Copies what the pipe holds, and some of what comes meanwhile.
    fn copy(&mut self, failing: &mut bool) -> Round {
        let mut chunk = [0_u8; CHUNK];
        let mut left = self.turn();
        while left > 0 {
            match self.pipe.read(&mut chunk) {
                Ok(0) => return Round::Ended,
                Ok(n) => {
                    left = left.saturating_sub(n);
                    self.keep(chunk.get(..n).unwrap_or_default(), failing);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Round::Waiting,
                Err(_) => return Round::Ended,
            }
        }
        Round::More
    }

    /// Bytes to copy at one go: a full pipe at least. A process may have made its pipe larger.
    fn turn(&self) -> usize {
        let size = fcntl(&self.pipe, FcntlArg::F_GETPIPE_SZ).unwrap_or_default();
        usize::try_from(size).unwrap_or_default().max(TURN)
    }

    /// What a full disk does not take is lost: a log must not stop the process that writes it.
    fn keep(&mut self, bytes: &[u8], failing: &mut bool) {
        match self.file.write_all(bytes) {
            Ok(()) => *failing = false,
            Err(error) if !*failing => {
                tracing::warn!(%error, "cannot write to a container's log; its output is lost");
                *failing = true;
            }
            Err(_) => {}
        }
    }
}

/// What one round of copying came to.
#[derive(Debug, PartialEq, Eq)]
enum Round {
    /// Nothing more until something is written.
    Waiting,
    /// There is more, but others shall have their turn.
    More,
    /// Nobody can write to the pipe any more.
    Ended,
}

#[derive(Debug)]
struct State {
    /// None once it has ended.
    ends: Option<Ends>,
    token: Option<u64>,
    /// The last write failed.
    failing: bool,
}

/// A log that is being written.
pub(super) struct Log {
    reactor: Arc<Reactor>,
    state: Mutex<State>,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl Log {
    /// Starts copying.
    pub(super) fn attach(reactor: &Arc<Reactor>, ends: Ends) -> io::Result<Arc<Self>> {
        let log = Arc::new(Self {
            reactor: Arc::clone(reactor),
            state: Mutex::new(State {
                ends: Some(ends),
                token: None,
                failing: false,
            }),
        });
        // The lock is held: an early readiness waits until the token is known.
        let mut state = lock(&log.state);
        if let Some(ends) = &state.ends {
            let source = Arc::clone(&log) as Arc<dyn Source>;
            let token = reactor.add(&ends.pipe, interest(), source)?;
            state.token = Some(token);
        }
        drop(state);
        Ok(log)
    }

    /// Copies what is there; a process that goes on writing does not keep it.
    pub(super) fn flush(&self) {
        let State { ends, failing, .. } = &mut *lock(&self.state);
        if let Some(ends) = ends {
            ends.copy(failing);
        }
    }

    /// Copies what is left and closes both.
    pub(super) fn close(&self) {
        self.flush();
        self.end(&mut lock(&self.state));
    }

    fn end(&self, state: &mut State) {
        if let (Some(ends), Some(token)) = (state.ends.take(), state.token.take()) {
            self.reactor.remove(&ends.pipe, token);
        }
    }
}

fn interest() -> EpollFlags {
    EpollFlags::EPOLLIN | EpollFlags::EPOLLET
}

impl Source for Log {
    fn ready(&self, reactor: &Reactor, _token: u64, _flags: EpollFlags) {
        let mut state = lock(&self.state);
        let State {
            ends,
            token,
            failing,
        } = &mut *state;
        let Some(open) = ends else {
            return;
        };
        let again = match open.copy(failing) {
            Round::Waiting => Ok(()),
            // Edge-triggered: setting the interest again makes a ready descriptor ready anew.
            Round::More => match *token {
                Some(token) => reactor.modify(open.pipe.as_fd(), token, interest()),
                None => Ok(()),
            },
            Round::Ended => {
                self.end(&mut state);
                return;
            }
        };
        if let Err(error) = again {
            tracing::warn!(%error, "cannot go on copying a container's output to its log");
            self.end(&mut state);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::reactor::Idle;

    fn log() -> (tempfile::NamedTempFile, OwnedFd, Ends) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (writer, ends) = Ends::to(file.reopen().unwrap().into()).unwrap();
        (file, writer, ends)
    }

    #[test]
    fn everything_arrives_while_it_is_written() {
        const SIZE: usize = 3 << 20;
        let (file, writer, ends) = log();
        let reactor = Arc::new(Reactor::new().unwrap());
        let log = Log::attach(&reactor, ends).unwrap();
        let running = Arc::clone(&reactor);
        let looping = std::thread::spawn(move || running.run(|_| Idle::Sleep));
        // More than the pipe holds, so it waits for the loop.
        let mut writer = File::from(writer);
        writer.write_all(&vec![b'x'; SIZE]).unwrap();
        drop(writer);
        let started = Instant::now();
        while lock(&log.state).ends.is_some() && started.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(lock(&log.state).ends.is_none(), "it ends with its writers");
        reactor.stop();
        looping.join().unwrap().unwrap();
        assert_eq!(fs::read(file.path()).unwrap(), vec![b'x'; SIZE]);
    }

    #[test]
    fn what_was_written_is_there_after_a_flush_and_after_the_end() {
        let (file, writer, ends) = log();
        let reactor = Arc::new(Reactor::new().unwrap());
        let log = Log::attach(&reactor, ends).unwrap();
        let mut writer = File::from(writer);
        writer.write_all(b"one ").unwrap();
        log.flush();
        assert_eq!(fs::read(file.path()).unwrap(), b"one ");
        // Somebody in the container may still have it open.
        writer.write_all(b"two").unwrap();
        log.close();
        assert_eq!(fs::read(file.path()).unwrap(), b"one two");
        assert!(lock(&log.state).ends.is_none());
    }

    /// A process may enlarge its pipe, fill it and exit.
    #[test]
    fn a_flush_takes_all_that_an_enlarged_pipe_holds() {
        const SIZE: usize = 900 << 10;
        let (file, writer, ends) = log();
        fcntl(&writer, FcntlArg::F_SETPIPE_SZ(1 << 20)).unwrap();
        let reactor = Arc::new(Reactor::new().unwrap());
        let log = Log::attach(&reactor, ends).unwrap();
        File::from(writer).write_all(&vec![b'x'; SIZE]).unwrap();
        log.flush();
        assert_eq!(fs::read(file.path()).unwrap().len(), SIZE);
    }

    #[test]
    fn a_full_disk_does_not_stop_the_writer() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let (writer, mut ends) = Ends::to(full.into()).unwrap();
        let mut writer = File::from(writer);
        let mut failing = false;
        for _ in 0..4 {
            writer.write_all(&[b'x'; CHUNK]).unwrap();
            assert_eq!(ends.copy(&mut failing), Round::Waiting);
            assert!(failing);
        }
    }
}
