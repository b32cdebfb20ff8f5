//! The one place that reaps children: everyone else is told by the task table.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use nix::sys::epoll::EpollFlags;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::backend::Backend;
use crate::events::{EventSink, Exit};
use crate::reactor::{Reactor, Source};
use crate::sys;
use crate::tasks::Tasks;

/// Blocks the signals that the daemon takes as events. To be called before any thread is started.
pub(crate) fn block_signals() -> io::Result<()> {
    Ok(handled().thread_block()?)
}

fn handled() -> SigSet {
    let mut set = SigSet::empty();
    set.add(Signal::SIGCHLD);
    set
}

/// Reaps children whenever one has ended.
pub(crate) struct Reaper<B, S> {
    signals: SignalFd,
    tasks: Arc<Tasks<B, S>>,
}

impl<B: Backend, S: EventSink> Reaper<B, S> {
    /// Starts reaping on the event loop.
    pub(crate) fn attach(reactor: &Reactor, tasks: Arc<Tasks<B, S>>) -> io::Result<()> {
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let signals = SignalFd::with_flags(&handled(), flags)?;
        let reaper = Arc::new(Self { signals, tasks });
        let source = Arc::clone(&reaper) as Arc<dyn Source>;
        reactor
            .add(&reaper.signals, EpollFlags::EPOLLIN, source)
            .map(drop)
    }
}

impl<B: Backend, S: EventSink> Source for Reaper<B, S> {
    fn ready(&self, _reactor: &Reactor, _token: u64, _flags: EpollFlags) {
        // Read before reaping: a child that ends in between signals again. Several ends can share
        // one signal, hence the loop over waitpid.
        while let Ok(Some(_)) = self.signals.read_signal() {}
        self.tasks.reap(next_exit);
    }
}

/// The next child that has ended.
fn next_exit() -> Option<(i32, Exit)> {
    match sys::reap() {
        Ok(ended) => ended.map(|(pid, status)| {
            (
                pid,
                Exit {
                    status,
                    at: SystemTime::now(),
                },
            )
        }),
        Err(error) => {
            tracing::warn!(%error, "cannot reap");
            None
        }
    }
}
