//! The listening socket, its connections and their replies.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, Weak};

use containerd_shim_protos::protobuf::Message;
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{getsockopt, sockopt};
use ttrpc::proto::{Code, MESSAGE_TYPE_REQUEST, MESSAGE_TYPE_RESPONSE, Request, Response};

use super::frame::{self, Decoder};
use crate::reactor::{Reactor, Source};
use crate::sync::lock;

/// Bytes a peer may leave unread before its connection is closed.
const MAX_OUTBOX: usize = 8 << 20;

/// What a failed request is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The gRPC status code, from which containerd makes its error kind.
    pub code: Code,
    /// What the user sees.
    pub message: String,
}

/// Answers requests.
pub trait Handler: Send + Sync {
    /// Called on the loop's thread, so it must not block; the reply may be sent later.
    fn call(&self, request: Request, reply: Reply);
}

/// The one answer to a request.
pub struct Reply {
    connection: Weak<Connection>,
    stream: u32,
    sent: bool,
}

impl Reply {
    /// Answers with an encoded message or a status. A peer that went away is no error.
    pub fn send(mut self, result: Result<Vec<u8>, Status>) {
        self.deliver(result);
    }

    fn deliver(&mut self, result: Result<Vec<u8>, Status>) {
        self.sent = true;
        let Some(connection) = self.connection.upgrade() else {
            return;
        };
        let mut response = Response::new();
        let (code, message) = match result {
            Ok(payload) => {
                response.payload = payload;
                (Code::OK, String::new())
            }
            Err(status) => (status.code, status.message),
        };
        let status = response.status.mut_or_insert_default();
        status.code = code.into();
        status.message = message;
        connection.respond(self.stream, &response);
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.sent {
            let message = "the shim dropped the request".to_owned();
            self.deliver(Err(Status {
                code: Code::INTERNAL,
                message,
            }));
        }
    }
}

/// Accepts connections from our own user only.
pub struct Listener {
    socket: UnixListener,
    handler: Arc<dyn Handler>,
}

impl Listener {
    /// Serves `handler` on a socket that is already bound and listening.
    pub fn attach(
        reactor: &Reactor,
        socket: UnixListener,
        handler: Arc<dyn Handler>,
    ) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        let listener = Arc::new(Self { socket, handler });
        let source = Arc::clone(&listener) as Arc<dyn Source>;
        reactor
            .add(&listener.socket, EpollFlags::EPOLLIN, source)
            .map(drop)
    }

    fn accept(&self, reactor: &Reactor) -> io::Result<()> {
        let (stream, _) = self.socket.accept()?;
        let peer = getsockopt(&stream, sockopt::PeerCredentials)?;
        if peer.uid() != nix::unistd::geteuid().as_raw() {
            tracing::warn!(uid = peer.uid(), pid = peer.pid(), "refused a connection");
            return Ok(());
        }
        stream.set_nonblocking(true)?;
        let connection = Arc::new_cyclic(|this| Connection {
            this: this.clone(),
            stream,
            handler: Arc::clone(&self.handler),
            decoder: Mutex::default(),
            outbox: Mutex::default(),
        });
        let flags = EpollFlags::EPOLLIN
            | EpollFlags::EPOLLOUT
            | EpollFlags::EPOLLRDHUP
            | EpollFlags::EPOLLET;
        reactor.add(
            &connection.stream,
            flags,
            Arc::clone(&connection) as Arc<dyn Source>,
        )?;
        Ok(())
    }
}

impl Source for Listener {
    fn ready(&self, reactor: &Reactor, _token: u64, _flags: EpollFlags) {
        match self.accept(reactor) {
            Ok(()) => {}
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => tracing::warn!(%error, "cannot accept a connection"),
        }
    }
}

struct Connection {
    this: Weak<Connection>,
    stream: UnixStream,
    handler: Arc<dyn Handler>,
    decoder: Mutex<Decoder>,
    outbox: Mutex<Vec<u8>>,
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the peer closed it")]
    Closed,
    #[error("it failed")]
    Failed(#[from] io::Error),
    #[error(transparent)]
    TooLong(#[from] frame::TooLong),
    #[error("a message of type {0} came where a request was expected")]
    NotARequest(u8),
    #[error("the peer does not read its answers")]
    Stuck,
}

impl Connection {
    fn receive(&self) -> Result<(), Ended> {
        let mut chunk = [0_u8; 4096];
        loop {
            let n = match (&self.stream).read(&mut chunk) {
                Ok(0) => return Err(Ended::Closed),
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e.into()),
            };
            lock(&self.decoder).push(chunk.get(..n).unwrap_or_default());
            loop {
                let next = lock(&self.decoder).next_frame()?;
                let Some(frame) = next else { break };
                if frame.kind != MESSAGE_TYPE_REQUEST {
                    return Err(Ended::NotARequest(frame.kind));
                }
                self.dispatch(frame);
            }
        }
    }

    fn dispatch(&self, frame: frame::Frame) {
        let reply = Reply {
            connection: self.this.clone(),
            stream: frame.stream,
            sent: false,
        };
        match Request::parse_from_bytes(&frame.payload) {
            Ok(request) => self.handler.call(request, reply),
            Err(e) => {
                let message = format!("cannot decode the request: {e}");
                reply.send(Err(Status {
                    code: Code::INVALID_ARGUMENT,
                    message,
                }));
            }
        }
    }

    fn respond(&self, stream: u32, response: &Response) {
        let sent = response
            .write_to_bytes()
            .map_err(io::Error::other)
            .map_err(Ended::from);
        let sent = sent.and_then(|payload| {
            let wire = frame::encode(stream, MESSAGE_TYPE_RESPONSE, &payload)?;
            lock(&self.outbox).extend_from_slice(&wire);
            self.flush()
        });
        if let Err(reason) = sent {
            tracing::debug!(%reason, "cannot answer");
            // The loop sees the hang-up and ends the connection.
            self.stream
                .shutdown(std::net::Shutdown::Both)
                .unwrap_or_default();
        }
    }

    /// Writes what is due. What the socket does not take stays for its next readiness.
    fn flush(&self) -> Result<(), Ended> {
        let mut outbox = lock(&self.outbox);
        while !outbox.is_empty() {
            match (&self.stream).write(&outbox) {
                Ok(n) => drop(outbox.drain(..n)),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    return if outbox.len() > MAX_OUTBOX {
                        Err(Ended::Stuck)
                    } else {
                        Ok(())
                    };
                }
                Err(e) => return Err(e.into()),
            }
        }
        *outbox = Vec::new();
        Ok(())
    }
}

impl Source for Connection {
    fn ready(&self, reactor: &Reactor, token: u64, _flags: EpollFlags) {
        // Edge-triggered: both directions are tried until they would block.
        if let Err(reason) = self.flush().and_then(|()| self.receive()) {
            if !matches!(reason, Ended::Closed) {
                tracing::warn!(%reason, "ended a connection");
            }
            reactor.remove(&self.stream, token);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::reactor::Idle;

    /// Answers `echo` at once, keeps `park` until the next `release`.
    #[derive(Default)]
    struct Parking(Mutex<Vec<Reply>>);

    impl Handler for Parking {
        fn call(&self, request: Request, reply: Reply) {
            match request.method.as_str() {
                "park" => lock(&self.0).push(reply),
                "release" => {
                    for parked in lock(&self.0).drain(..) {
                        parked.send(Ok(b"parked".to_vec()));
                    }
                    reply.send(Ok(Vec::new()));
                }
                "echo" => reply.send(Ok(request.payload)),
                _ => drop(reply),
            }
        }
    }

    fn request(stream: u32, method: &str) -> Vec<u8> {
        let mut request = Request::new();
        request.method = method.to_owned();
        request.payload = b"payload".to_vec();
        let payload = request.write_to_bytes().unwrap();
        frame::encode(stream, MESSAGE_TYPE_REQUEST, &payload).unwrap()
    }

    fn read_responses(stream: &mut UnixStream, count: usize) -> Vec<(u32, Response)> {
        let mut decoder = Decoder::default();
        let mut responses = Vec::new();
        let mut chunk = [0; 512];
        while responses.len() < count {
            let n = stream.read(&mut chunk).unwrap();
            assert_ne!(n, 0, "the server closed the connection");
            decoder.push(&chunk[..n]);
            while let Some(frame) = decoder.next_frame().unwrap() {
                let response = Response::parse_from_bytes(&frame.payload).unwrap();
                responses.push((frame.stream, response));
            }
        }
        responses
    }

    #[test]
    fn a_thousand_parked_requests_do_not_hold_up_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let socket = UnixListener::bind(&path).unwrap();
        let reactor = Arc::new(Reactor::new().unwrap());
        Listener::attach(&reactor, socket, Arc::new(Parking::default())).unwrap();
        let running = Arc::clone(&reactor);
        let server = thread::spawn(move || running.run(|_| Idle::Sleep));

        let mut client = UnixStream::connect(&path).unwrap();
        for n in 0..1000 {
            client.write_all(&request(n * 2 + 1, "park")).unwrap();
        }
        client.write_all(&request(3001, "echo")).unwrap();
        let echoed = read_responses(&mut client, 1);
        assert_eq!(echoed[0].0, 3001);
        assert_eq!(echoed[0].1.payload, b"payload");
        client.write_all(&request(3003, "release")).unwrap();
        assert_eq!(read_responses(&mut client, 1001).len(), 1001);
        client.write_all(&request(3005, "unknown")).unwrap();
        let dropped = read_responses(&mut client, 1);
        assert_eq!(dropped[0].1.status.code, Code::INTERNAL.into());

        reactor.stop();
        server.join().unwrap().unwrap();
    }
}
