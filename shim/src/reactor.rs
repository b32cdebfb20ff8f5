//! One epoll loop in which everything that only waits lives: connections, children, terminals,
//! out-of-memory watches and the event publisher. A sleeping container thus costs no thread, but one for each log
//! file.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::sync::lock;

/// Something with a file descriptor that becomes ready.
pub trait Source: Send + Sync {
    /// Called on the loop's thread. It must not block.
    fn ready(&self, reactor: &Reactor, token: u64, flags: EpollFlags);
}

/// The loop and its registered sources.
pub struct Reactor {
    epoll: Epoll,
    sources: Mutex<HashMap<u64, Arc<dyn Source>>>,
    next: AtomicU64,
    stopping: AtomicBool,
    waker: EventFd,
}

/// How long nothing must have happened before the loop counts as idle.
pub const IDLE_MILLISECONDS: u16 = 500;

/// What an idle loop does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idle {
    /// Wait for events, however long.
    Sleep,
    /// Ask again if nothing happens.
    AskAgain,
}

/// The token of the loop's own waker.
const WAKER: u64 = 0;

impl Reactor {
    /// A loop without sources.
    pub fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let waker = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        epoll.add(&waker, EpollEvent::new(EpollFlags::EPOLLIN, WAKER))?;
        Ok(Self {
            epoll,
            sources: Mutex::default(),
            next: AtomicU64::new(WAKER + 1),
            stopping: AtomicBool::new(false),
            waker,
        })
    }

    /// Watches `fd` for `flags` on behalf of `source`. The token names the registration.
    pub fn add(
        &self,
        fd: impl AsFd,
        flags: EpollFlags,
        source: Arc<dyn Source>,
    ) -> io::Result<u64> {
        let token = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.sources).insert(token, source);
        if let Err(e) = self.epoll.add(fd, EpollEvent::new(flags, token)) {
            lock(&self.sources).remove(&token);
            return Err(e.into());
        }
        Ok(token)
    }

    /// Changes what a registration watches for.
    pub fn modify(&self, fd: impl AsFd, token: u64, flags: EpollFlags) -> io::Result<()> {
        Ok(self.epoll.modify(fd, &mut EpollEvent::new(flags, token))?)
    }

    /// Ends a registration. Ending one twice does nothing.
    pub fn remove(&self, fd: impl AsFd, token: u64) {
        lock(&self.sources).remove(&token);
        match self.epoll.delete(fd) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => tracing::warn!(%errno, "cannot stop watching a file descriptor"),
        }
    }

    /// Serves the sources until [`Reactor::stop`].
    ///
    /// Whenever nothing has happened for [`IDLE_MILLISECONDS`], calls `idle` with the number of times
    /// it has been called since something happened; while it says so, after as long again.
    pub fn run(&self, idle: impl Fn(u32) -> Idle) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); 32];
        let short = EpollTimeout::from(IDLE_MILLISECONDS);
        let (mut timeout, mut rounds) = (short, 0);
        while !self.stopping.load(Ordering::Acquire) {
            let n = match self.epoll.wait(&mut events, timeout) {
                Ok(n) => n,
                Err(Errno::EINTR) => continue,
                Err(e) => return Err(e.into()),
            };
            (timeout, rounds) = match n {
                0 => match idle(rounds) {
                    Idle::AskAgain => (short, rounds.saturating_add(1)),
                    Idle::Sleep => (EpollTimeout::NONE, 0),
                },
                _ => (short, 0),
            };
            for event in events.iter().take(n) {
                let token = event.data();
                if token == WAKER {
                    continue;
                }
                // Looked up for each event: an earlier one of this batch may have removed it.
                let source = lock(&self.sources).get(&token).cloned();
                if let Some(source) = source {
                    source.ready(self, token, event.events());
                }
            }
        }
        Ok(())
    }

    /// Ends [`Reactor::run`] from any thread.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        if let Err(errno) = self.waker.write(1) {
            tracing::warn!(%errno, "cannot wake the event loop");
        }
    }
}
