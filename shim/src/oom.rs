//! Watches a container for want of memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use cofferdam_container::State;
use cofferdam_container::cgroup::{Cgroup, Error, OomWatch};
use nix::sys::epoll::EpollFlags;

use crate::backend::{OomGuard, OomWatcher};
use crate::reactor::{Reactor, Source};
use crate::vm;

/// Why a container's memory is not watched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WatchError {
    /// The cgroup does not say.
    #[error(transparent)]
    Cgroup(#[from] Error),
    /// The event loop does not take it.
    #[error("cannot watch the cgroup's events")]
    Loop(#[from] std::io::Error),
}

struct Watch {
    watch: OomWatch,
    seen: AtomicU64,
    notify: Box<dyn Fn() + Send + Sync>,
}

/// Ends the watch when dropped.
struct Guard {
    watch: Arc<Watch>,
    reactor: Weak<Reactor>,
    token: u64,
}

/// Calls `notify` whenever the kernel has killed a process of the container for want of memory. A
/// container without a cgroup is not watched.
pub(crate) fn watch(
    state: &State,
    reactor: &Arc<Reactor>,
    notify: Box<dyn Fn() + Send + Sync>,
) -> Result<Option<OomGuard>, WatchError> {
    let watch = match (vm::events_of(state), &state.cgroup) {
        (Some(events), _) => OomWatch::of_bytes(&events)?,
        (None, Some(location)) => Cgroup::open(location)?.oom_watch()?,
        (None, None) => return Ok(None),
    };
    let seen = AtomicU64::new(watch.count()?.unwrap_or(0));
    let watch = Arc::new(Watch {
        watch,
        seen,
        notify,
    });
    let source = Arc::clone(&watch) as Arc<dyn Source>;
    let token = reactor.add(&watch.watch, EpollFlags::EPOLLIN, source)?;
    Ok(Some(Box::new(Guard {
        watch,
        reactor: Arc::downgrade(reactor),
        token,
    })))
}

impl Watch {
    fn tell(&self, count: u64) {
        if self.seen.fetch_max(count, Ordering::Relaxed) < count {
            (self.notify)();
        }
    }
}

impl OomWatcher for Guard {
    fn look(&self) {
        // Without an answer the cgroup is gone; the event loop reports other failures.
        if let Ok(Some(count)) = self.watch.watch.count() {
            self.watch.tell(count);
        }
    }
}

impl Source for Watch {
    fn ready(&self, reactor: &Reactor, token: u64, _flags: EpollFlags) {
        let counted = self.watch.drain().and_then(|()| self.watch.count());
        match counted {
            // v1 reports the removal of the cgroup the same way; only the count tells.
            Ok(Some(count)) => {
                self.tell(count);
            }
            Ok(None) => reactor.remove(&self.watch, token),
            Err(error) => {
                tracing::warn!(%error, "no longer watching a container's memory");
                reactor.remove(&self.watch, token);
            }
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(reactor) = self.reactor.upgrade() {
            reactor.remove(&self.watch.watch, self.token);
        }
    }
}
