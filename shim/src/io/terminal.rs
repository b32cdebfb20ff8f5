//! Copies between a terminal's master and containerd's FIFOs, on the event loop.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};

use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;

use super::fifo::make_nonblocking;
use crate::reactor::{Reactor, Source};
use crate::sync::lock;

/// Reads of one direction before the loop turns to others.
const ROUNDS: usize = 32;

/// Bytes per read.
const CHUNK: usize = 8 << 10;

/// containerd's side of a terminal.
#[derive(Debug)]
pub(super) struct Ends {
    /// The reading end of stdin.
    pub(super) stdin: Option<OwnedFd>,
    /// Where output goes.
    pub(super) stdout: Option<OwnedFd>,
}

/// One direction of the copy. What a full destination did not take waits in `pending`.
#[derive(Debug)]
struct Lane {
    from: Option<File>,
    to: Option<File>,
    pending: Vec<u8>,
}

/// What one round of copying came to.
#[derive(Debug, PartialEq, Eq)]
enum Round {
    /// Nothing more until a descriptor becomes ready.
    Waiting,
    /// There is more, but others shall have their turn.
    More,
    /// The source ended or the destination is gone.
    Ended,
}

impl Lane {
    fn copy(&mut self) -> Round {
        let (Some(from), Some(to)) = (&mut self.from, &mut self.to) else {
            return Round::Ended;
        };
        let mut chunk = [0_u8; CHUNK];
        for _ in 0..ROUNDS {
            while !self.pending.is_empty() {
                match to.write(&self.pending) {
                    Ok(n) => drop(self.pending.drain(..n)),
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    Err(e) if e.kind() == ErrorKind::WouldBlock => return Round::Waiting,
                    Err(_) => return Round::Ended,
                }
            }
            self.pending = Vec::new();
            match from.read(&mut chunk) {
                Ok(0) => return Round::Ended,
                Ok(n) => self
                    .pending
                    .extend_from_slice(chunk.get(..n).unwrap_or_default()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Round::Waiting,
                // EIO: the last process that had the terminal open has closed it.
                Err(_) => return Round::Ended,
            }
        }
        Round::More
    }
}

#[derive(Debug, Default)]
struct Tokens {
    master: Option<u64>,
    stdin: Option<u64>,
    stdout: Option<u64>,
}

#[derive(Debug)]
struct State {
    output: Lane,
    input: Lane,
    tokens: Tokens,
}

/// A process's terminal.
pub struct Terminal {
    master: File,
    reactor: Arc<Reactor>,
    state: Mutex<State>,
}

impl std::fmt::Debug for Terminal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Terminal")
            .field("master", &self.master)
            .finish_non_exhaustive()
    }
}

impl Terminal {
    /// Starts copying.
    pub(super) fn attach(
        reactor: &Arc<Reactor>,
        master: OwnedFd,
        ends: Ends,
    ) -> io::Result<Arc<Self>> {
        let master = File::from(master);
        make_nonblocking(&master)?;
        // Without anyone to read the output it is thrown away, so that the process does not stall.
        let stdout = match ends.stdout {
            Some(fd) => File::from(fd),
            None => File::options().write(true).open("/dev/null")?,
        };
        make_nonblocking(&stdout)?;
        let stdin = ends.stdin.map(File::from);
        let output = Lane {
            from: Some(master.try_clone()?),
            to: Some(stdout),
            pending: Vec::new(),
        };
        let input = Lane {
            from: stdin,
            to: Some(master.try_clone()?),
            pending: Vec::new(),
        };
        let state = Mutex::new(State {
            output,
            input,
            tokens: Tokens::default(),
        });
        let terminal = Arc::new(Self {
            master,
            reactor: Arc::clone(reactor),
            state,
        });

        let edge = EpollFlags::EPOLLET;
        let source = || Arc::clone(&terminal) as Arc<dyn Source>;
        // The lock is held over all three: an early readiness waits until the tokens are known.
        let mut guard = lock(&terminal.state);
        let state = &mut *guard;
        let both = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | edge;
        state.tokens.master = Some(reactor.add(&terminal.master, both, source())?);
        if let Some(stdin) = &state.input.from {
            state.tokens.stdin = watch(reactor, stdin, EpollFlags::EPOLLIN | edge, source())?;
        }
        if let Some(stdout) = &state.output.to {
            state.tokens.stdout = watch(reactor, stdout, EpollFlags::EPOLLOUT | edge, source())?;
        }
        drop(guard);
        Ok(terminal)
    }

    /// The terminal's master.
    pub fn master(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }

    /// Copies the output that is there; whether some is left that there was no room for.
    pub(super) fn push_output(&self) -> bool {
        let output = &mut lock(&self.state).output;
        output.copy();
        !output.pending.is_empty()
    }

    /// Stops copying and closes containerd's side.
    pub fn close(&self) {
        let mut state = lock(&self.state);
        // What the terminal still holds and the reader has room for is not lost.
        state.output.copy();
        self.end_input(&mut state);
        self.end_output(&mut state);
    }

    fn end_input(&self, state: &mut State) {
        if let (Some(stdin), Some(token)) = (state.input.from.take(), state.tokens.stdin.take()) {
            self.reactor.remove(&stdin, token);
        }
        state.input.to = None;
    }

    fn end_output(&self, state: &mut State) {
        if let (Some(stdout), Some(token)) = (state.output.to.take(), state.tokens.stdout.take()) {
            self.reactor.remove(&stdout, token);
        }
        state.output.from = None;
        if let Some(token) = state.tokens.master.take() {
            self.reactor.remove(&self.master, token);
        }
    }

    fn copy(&self, state: &mut State) -> io::Result<()> {
        let output = state.output.copy();
        let input = state.input.copy();
        if input == Round::Ended {
            self.end_input(state);
        }
        if output == Round::Ended {
            self.end_input(state);
            self.end_output(state);
        } else if let (true, Some(token)) = (
            output == Round::More || input == Round::More,
            state.tokens.master,
        ) {
            // Edge-triggered: setting the interest again makes a ready descriptor ready anew.
            let both = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
            self.reactor.modify(&self.master, token, both)?;
        }
        Ok(())
    }
}

/// Watches a descriptor; a regular file or `/dev/null` cannot be watched and is always ready.
fn watch(
    reactor: &Reactor,
    file: &File,
    flags: EpollFlags,
    source: Arc<dyn Source>,
) -> io::Result<Option<u64>> {
    match reactor.add(file, flags, source) {
        Ok(token) => Ok(Some(token)),
        Err(e) if e.raw_os_error() == Some(Errno::EPERM as i32) => Ok(None),
        Err(e) => Err(e),
    }
}

impl Source for Terminal {
    fn ready(&self, _reactor: &Reactor, _token: u64, _flags: EpollFlags) {
        let mut state = lock(&self.state);
        if let Err(error) = self.copy(&mut state) {
            tracing::warn!(%error, "cannot go on copying a terminal");
            self.end_input(&mut state);
            self.end_output(&mut state);
        }
    }
}
