//! A connection to containerd's ttrpc socket: one event out, its answer in.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::shim::events::ForwardRequest;
use nix::sys::epoll::EpollFlags;
use ttrpc::proto::{MESSAGE_TYPE_REQUEST, Request};

use super::ANSWER;
use crate::events::{Encoded, timestamp};
use crate::reactor::{Reactor, Source};
use crate::rpc::frame::{self, Decoder};

pub(super) const SERVICE: &str = "containerd.services.events.ttrpc.v1.Events";

/// A connection, and the request that is on its way.
pub(super) struct Link {
    pub(super) stream: Arc<UnixStream>,
    pub(super) token: u64,
    decoder: Decoder,
    unsent: Vec<u8>,
    pub(super) stream_id: u32,
    /// The first event of the queue was sent and its answer is awaited.
    pub(super) awaiting: bool,
}

/// Why an exchange with containerd broke off.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("containerd closed the connection")]
    Closed,
    #[error("the connection failed")]
    Io(#[from] io::Error),
    #[error(transparent)]
    TooLong(#[from] frame::TooLong),
    #[error("an answer or event cannot be coded")]
    Coding(#[from] containerd_shim_protos::protobuf::Error),
}

impl Link {
    /// Connects and lets the event loop watch the connection for `source`.
    pub(super) fn open(
        path: &Path,
        reactor: &Reactor,
        source: Arc<dyn Source>,
    ) -> Result<Self, LinkError> {
        // A Unix socket connects at once or not at all, unless its backlog is full.
        let stream = Arc::new(UnixStream::connect(path)?);
        stream.set_nonblocking(true)?;
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        let token = reactor.add(&*stream, flags, source)?;
        // Client streams have odd numbers.
        Ok(Self {
            stream,
            token,
            decoder: Decoder::default(),
            unsent: Vec::new(),
            stream_id: 1,
            awaiting: false,
        })
    }

    /// Sends an event; its answer is awaited from now on.
    pub(super) fn send(&mut self, namespace: &str, event: &Encoded) -> Result<(), LinkError> {
        let mut envelope = Envelope::new();
        envelope.timestamp = timestamp(event.at);
        namespace.clone_into(&mut envelope.namespace);
        event.topic.clone_into(&mut envelope.topic);
        envelope.event = MessageField::some(event.any.clone());
        let mut forward = ForwardRequest::new();
        forward.envelope = MessageField::some(envelope);
        let mut request = Request::new();
        SERVICE.clone_into(&mut request.service);
        "Forward".clone_into(&mut request.method);
        request.payload = forward.write_to_bytes()?;
        request.timeout_nano = i64::try_from(ANSWER.as_nanos()).unwrap_or(0);
        let payload = request.write_to_bytes()?;
        self.unsent = frame::encode(self.stream_id, MESSAGE_TYPE_REQUEST, &payload)?;
        self.awaiting = true;
        self.flush()
    }

    /// Sends what the socket takes.
    pub(super) fn flush(&mut self) -> Result<(), LinkError> {
        while !self.unsent.is_empty() {
            match (&*self.stream).write(&self.unsent) {
                Ok(n) => drop(self.unsent.drain(..n)),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// The next frame, if all of it is there.
    pub(super) fn read_frame(&mut self) -> Result<Option<frame::Frame>, LinkError> {
        let mut chunk = [0_u8; 1024];
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(Some(frame));
            }
            match (&*self.stream).read(&mut chunk) {
                Ok(0) => return Err(LinkError::Closed),
                Ok(n) => self.decoder.push(chunk.get(..n).unwrap_or_default()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(e) => return Err(e.into()),
            }
        }
    }
}
