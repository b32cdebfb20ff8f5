//! Denied calls as containerd events: the listener of a container sends each line of its log as a
//! datagram, and a few of them are published. Every event has the number of calls denied so far, so
//! what is left out shows.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cofferdam_container::denials::Line;
use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, socketpair};

use crate::events::Denial;
use crate::reactor::{Reactor, Source};
use crate::sync::lock;

/// Events at once.
const BURST: u32 = 10;
/// The time after which there may be one more.
const EVERY: Duration = Duration::from_secs(1);
/// The longest line; a longer one is not published.
const LONGEST: usize = 32 * 1024;
/// Lines read before the loop serves others.
const BATCH: usize = 32;

/// Both ends of the channel from the listener to the daemon: ours, which never waits, and theirs.
pub(crate) fn channel() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC;
    Ok(socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        flags,
    )?)
}

struct Bucket {
    tokens: u32,
    since: Instant,
}

impl Bucket {
    fn take(&mut self, now: Instant) -> bool {
        while self.tokens < BURST && now.duration_since(self.since) >= EVERY {
            self.tokens += 1;
            self.since += EVERY;
        }
        if self.tokens == BURST {
            self.since = now;
        }
        let some = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        some
    }
}

struct Watch {
    channel: OwnedFd,
    bucket: Mutex<Bucket>,
    notify: Box<dyn Fn(Denial) + Send + Sync>,
}

/// Calls `notify` on the loop's thread for some of the lines that come, until the listener has ended.
pub(crate) fn watch(
    channel: OwnedFd,
    reactor: &Reactor,
    notify: Box<dyn Fn(Denial) + Send + Sync>,
) -> io::Result<()> {
    let bucket = Bucket {
        tokens: BURST,
        since: Instant::now(),
    };
    let watch = Arc::new(Watch {
        channel,
        bucket: Mutex::new(bucket),
        notify,
    });
    let source = Arc::clone(&watch) as Arc<dyn Source>;
    reactor.add(&watch.channel, EpollFlags::EPOLLIN, source)?;
    Ok(())
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

impl Source for Watch {
    fn ready(&self, reactor: &Reactor, token: u64, _flags: EpollFlags) {
        let mut buffer = vec![0; LONGEST];
        for _ in 0..BATCH {
            match recv(
                self.channel.as_raw_fd(),
                &mut buffer,
                MsgFlags::MSG_DONTWAIT,
            ) {
                Err(Errno::EAGAIN) => return,
                Err(Errno::EINTR) => {}
                Ok(0) | Err(_) => return reactor.remove(&self.channel, token),
                Ok(length) => {
                    let line = buffer.get(..length).unwrap_or_default();
                    // A line that was cut is no JSON.
                    if let Ok(line) = serde_json::from_slice::<Line>(line)
                        && lock(&self.bucket).take(Instant::now())
                    {
                        (self.notify)(Denial::of(&line));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_at_once_and_then_one_in_a_second() {
        let start = Instant::now();
        let mut bucket = Bucket {
            tokens: BURST,
            since: start,
        };
        let mut taken = |at: u64| {
            let now = start + Duration::from_millis(at);
            (0..100).filter(|_| bucket.take(now)).count()
        };
        assert_eq!(taken(0), 10);
        assert_eq!(taken(900), 0);
        assert_eq!(taken(1000), 1);
        assert_eq!(taken(3500), 2);
        assert_eq!(taken(100_000), 10);
    }
}
