//! Sends events to containerd: in order, one at a time, again after containerd restarted.
//!
//! containerd handles each request on its own, so the next event goes out only after the answer to
//! the one before. While containerd is away events wait in a bounded queue; when it overflows the
//! oldest go, since containerd reads the state anew when it reconnects.

/// A connection to containerd's ttrpc socket.
mod link;
/// containerd's publish binary.
mod program;

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use containerd_shim_protos::protobuf::Message;
use nix::sys::epoll::EpollFlags;
use nix::sys::time::TimeSpec;
use nix::sys::timer::{Expiration, TimerSetTimeFlags};
use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};
use ttrpc::proto::{Code, Response};

use crate::events::{Encoded, Event, EventSink};
use crate::reactor::{Reactor, Source};
use crate::sync::lock;
use link::{Link, LinkError};

/// Events that wait at most.
const QUEUE: usize = 1024;

/// How long to wait before containerd is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// How long containerd may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// How often one event is sent before it is given up; being away does not count.
const ATTEMPTS: u8 = 3;

/// Where events go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// containerd's ttrpc socket.
    Socket(PathBuf),
    /// A program (`containerd publish`), for a containerd without that socket.
    Program {
        /// Its path.
        program: PathBuf,
        /// containerd's address.
        address: String,
    },
    /// Nobody listens.
    Nowhere,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Encoded>,
    attempts: u8,
    link: Option<Link>,
    /// Called once when the queue is empty.
    when_empty: Option<Box<dyn FnOnce() + Send>>,
}

/// Publishes events on the event loop.
pub struct Publisher {
    this: Weak<Publisher>,
    reactor: Weak<Reactor>,
    namespace: String,
    destination: Destination,
    timer: TimerFd,
    state: Mutex<State>,
}

impl Publisher {
    /// A publisher on the event loop.
    pub fn attach(
        reactor: &Arc<Reactor>,
        namespace: String,
        destination: Destination,
    ) -> io::Result<Arc<Self>> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        let publisher = Arc::new_cyclic(|this| Self {
            this: this.clone(),
            reactor: Arc::downgrade(reactor),
            namespace,
            destination,
            timer,
            state: Mutex::default(),
        });
        let source = Arc::clone(&publisher) as Arc<dyn Source>;
        reactor.add(&publisher.timer, EpollFlags::EPOLLIN, source)?;
        Ok(publisher)
    }

    /// Calls `work` once every queued event is out.
    pub fn when_empty(&self, work: Box<dyn FnOnce() + Send>) {
        let mut state = lock(&self.state);
        if state.queue.is_empty() {
            drop(state);
            work();
        } else {
            state.when_empty = Some(work);
        }
    }

    fn set_timer(&self, after: Option<Duration>) {
        let set = match after {
            Some(after) => self.timer.set(
                Expiration::OneShot(TimeSpec::from_duration(after)),
                TimerSetTimeFlags::empty(),
            ),
            None => self.timer.unset(),
        };
        if let Err(errno) = set {
            tracing::warn!(%errno, "cannot set the event timer");
        }
    }

    /// Sends the first event of the queue if nothing is under way.
    fn advance(&self, state: &mut State) {
        let Some(event) = state.queue.front() else {
            if let Some(work) = state.when_empty.take() {
                work();
            }
            return self.set_timer(None);
        };
        let sent = match &self.destination {
            Destination::Nowhere => {
                state.queue.clear();
                return;
            }
            Destination::Program { program, address } => {
                let ran = program::publish(program, address, &self.namespace, event);
                state.queue.pop_front();
                if let Err(error) = ran {
                    tracing::warn!(%error, "cannot publish an event by the publish binary");
                }
                return self.advance(state);
            }
            Destination::Socket(path) => self.send_first(path, state),
        };
        match sent {
            Ok(()) => self.set_timer(Some(ANSWER)),
            Err(error) => self.broke_off(state, &error),
        }
    }

    fn send_first(&self, path: &Path, state: &mut State) -> Result<(), LinkError> {
        let Some(event) = state.queue.front() else {
            return Ok(());
        };
        if state.link.is_none() {
            let (Some(source), Some(reactor)) = (self.this.upgrade(), self.reactor.upgrade())
            else {
                return Err(LinkError::Closed);
            };
            state.link = Some(Link::open(path, &reactor, source)?);
        }
        let Some(link) = &mut state.link else {
            return Ok(());
        };
        if link.awaiting {
            return Ok(());
        }
        link.send(&self.namespace, event)
    }

    fn broke_off(&self, state: &mut State, error: &LinkError) {
        if let Some(link) = state.link.take() {
            if let Some(reactor) = self.reactor.upgrade() {
                reactor.remove(&*link.stream, link.token);
            }
            if link.awaiting {
                self.count_attempt(state);
            }
        }
        tracing::debug!(%error, waiting = state.queue.len(), "cannot publish, trying again");
        self.set_timer((!state.queue.is_empty()).then_some(RETRY));
    }

    fn count_attempt(&self, state: &mut State) {
        state.attempts += 1;
        if state.attempts >= ATTEMPTS {
            state.attempts = 0;
            if let Some(event) = state.queue.pop_front() {
                tracing::warn!(topic = event.topic, "gave up an event");
            }
        }
    }

    /// Reads answers; each ends one event.
    fn receive(&self, state: &mut State) -> Result<(), LinkError> {
        let Some(link) = &mut state.link else {
            return Ok(());
        };
        link.flush()?;
        let Some(frame) = link.read_frame()? else {
            return Ok(());
        };
        if !link.awaiting || frame.stream != link.stream_id {
            return Ok(());
        }
        link.awaiting = false;
        link.stream_id = link.stream_id.wrapping_add(2);
        let response = Response::parse_from_bytes(&frame.payload)?;
        let refused = response
            .status
            .as_ref()
            .filter(|status| status.code != Code::OK.into());
        if let Some(status) = refused {
            let topic = state.queue.front().map(|event| event.topic);
            tracing::warn!(
                topic,
                reason = status.message,
                "containerd refused an event"
            );
        }
        state.attempts = 0;
        state.queue.pop_front();
        self.advance(state);
        Ok(())
    }
}

impl EventSink for Publisher {
    fn publish(&self, event: Event) {
        let encoded = match event.encode() {
            Ok(encoded) => encoded,
            Err(error) => return tracing::error!(%error, "cannot encode an event"),
        };
        let mut state = lock(&self.state);
        if state.queue.len() >= QUEUE {
            // The first may be on its way; the second is the oldest that is not.
            let dropped = state.queue.remove(1).map(|event| event.topic);
            tracing::warn!(topic = dropped, "dropped an event: containerd is away");
        }
        state.queue.push_back(encoded);
        if state.queue.len() == 1 {
            self.advance(&mut state);
        }
    }
}

impl Source for Publisher {
    fn ready(&self, _reactor: &Reactor, token: u64, _flags: EpollFlags) {
        let mut state = lock(&self.state);
        let ours = state.link.as_ref().map(|link| link.token);
        if ours == Some(token) {
            if let Err(error) = self.receive(&mut state) {
                self.broke_off(&mut state, &error);
            }
            return;
        }
        // The timer: nothing is connected, or an answer is overdue.
        if state.link.as_ref().is_some_and(|link| link.awaiting) {
            let overdue = io::Error::from(ErrorKind::TimedOut);
            return self.broke_off(&mut state, &overdue.into());
        }
        self.set_timer(None);
        self.advance(&mut state);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;
    use std::thread;

    use containerd_shim_protos::shim::events::ForwardRequest;
    use ttrpc::proto::{MESSAGE_TYPE_RESPONSE, Request};

    use super::link::SERVICE;
    use super::*;
    use crate::reactor::Idle;
    use crate::rpc::frame::{self, Decoder};

    /// Plays containerd: answers `count` events and returns their topics.
    fn serve(path: &Path, count: usize) -> Vec<String> {
        let listener = UnixListener::bind(path).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let (mut decoder, mut topics) = (Decoder::default(), Vec::new());
        let mut chunk = [0; 300];
        while topics.len() < count {
            let n = stream.read(&mut chunk).unwrap();
            assert_ne!(n, 0);
            decoder.push(&chunk[..n]);
            while let Some(frame) = decoder.next_frame().unwrap() {
                let request = Request::parse_from_bytes(&frame.payload).unwrap();
                assert_eq!(request.service, SERVICE);
                let forward = ForwardRequest::parse_from_bytes(&request.payload).unwrap();
                topics.push(forward.envelope.topic.clone());
                let mut response = Response::new();
                response.status.mut_or_insert_default().code = Code::OK.into();
                let payload = response.write_to_bytes().unwrap();
                let wire = frame::encode(frame.stream, MESSAGE_TYPE_RESPONSE, &payload).unwrap();
                stream.write_all(&wire).unwrap();
            }
        }
        std::fs::remove_file(path).unwrap();
        topics
    }

    #[test]
    fn events_wait_for_containerd_and_keep_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let reactor = Arc::new(Reactor::new().unwrap());
        let publisher =
            Publisher::attach(&reactor, "ns".to_owned(), Destination::Socket(path.clone()))
                .unwrap();
        let running = Arc::clone(&reactor);
        let server = thread::spawn(move || running.run(|_| Idle::Sleep));
        let id = || "c".to_owned();
        publisher.publish(Event::Oom { id: id() });
        publisher.publish(Event::Paused { id: id() });
        assert_eq!(serve(&path, 2), ["/tasks/oom", "/tasks/paused"]);
        // containerd restarts: the old connection is gone, the socket is bound anew.
        publisher.publish(Event::Resumed { id: id() });
        publisher.publish(Event::Start { id: id(), pid: 1 });
        assert_eq!(serve(&path, 2), ["/tasks/resumed", "/tasks/start"]);
        let stop = Arc::clone(&reactor);
        publisher.when_empty(Box::new(move || stop.stop()));
        server.join().unwrap().unwrap();
    }
}
