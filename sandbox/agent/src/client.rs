//! Speaking to the guest, from the host. The guest may be anybody's: what it says is bounded in length and in time.

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect as connect_socket, socket,
};
use ttrpc::proto::{Code, MESSAGE_TYPE_REQUEST, MESSAGE_TYPE_RESPONSE, Request, Response};

use crate::protocol::{Answer, CALLS, Call, SERVICE};
use crate::wire::{self, WireError};

/// How long a call may take.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// What of a guest's message is passed on, bytes.
const MAX_MESSAGE: usize = 4096;
/// The longest line that answers `CONNECT`, bytes.
const MAX_LINE: usize = 32;

/// Why a guest did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no connection.
    #[error("cannot connect to the virtual machine at {path}")]
    Connect {
        /// The socket.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nothing listens in the guest.
    #[error("the virtual machine's agent does not listen")]
    Refused,
    /// A message was lost.
    #[error("cannot speak to the virtual machine's agent")]
    Wire(#[from] WireError),
    /// What it said cannot be read, or is the answer to something else.
    #[error("the virtual machine's agent answers {method} with what is no answer to it")]
    Answer {
        /// What was asked.
        method: &'static str,
    },
    /// It did not do it.
    #[error("in the virtual machine: {message}")]
    Failed {
        /// The kind of failure.
        code: Code,
        /// Its words, made harmless.
        message: String,
    },
}

/// Connects to a port of the guest behind the monitor's socket.
///
/// # Errors
///
/// [`ClientError::Connect`], and [`ClientError::Refused`] where nothing listens there.
pub fn connect(socket: &Path, port: u32, limit: Duration) -> Result<UnixStream, ClientError> {
    let failed = |source| ClientError::Connect {
        path: socket.display().to_string(),
        source,
    };
    let stream = open(socket, limit).map_err(failed)?;
    let mut until = Until::new(&stream, limit);
    let line = format!("CONNECT {port}\n");
    until.write_all(line.as_bytes()).map_err(failed)?;
    let mut line = Vec::new();
    let mut byte = [0];
    while byte != *b"\n" {
        match until.read(&mut byte) {
            Ok(0) => return Err(ClientError::Refused),
            Ok(_) if line.len() < MAX_LINE => line.extend(byte),
            Ok(_) => return Err(ClientError::Refused),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Err(ClientError::Refused);
            }
            Err(error) => return Err(failed(error)),
        }
    }
    if line.starts_with(b"OK ") {
        stream.set_read_timeout(None).map_err(failed)?;
        stream.set_write_timeout(None).map_err(failed)?;
        Ok(stream)
    } else {
        Err(ClientError::Refused)
    }
}

/// A connection that is made in time or not: its other end may not accept any.
fn open(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    let socket = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // The kernel waits for a place in the queue for as long as for one in the buffer.
    let stream = UnixStream::from(socket);
    stream.set_write_timeout(Some(limit))?;
    connect_socket(stream.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(stream)
}

/// A stream until a moment: a peer that sends a byte now and then does not put that off.
struct Until<'a> {
    stream: &'a UnixStream,
    end: Instant,
}

impl<'a> Until<'a> {
    fn new(stream: &'a UnixStream, limit: Duration) -> Self {
        Self {
            stream,
            end: Instant::now() + limit,
        }
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            Err(io::ErrorKind::TimedOut.into())
        } else {
            Ok(Some(left))
        }
    }
}

impl io::Read for Until<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        (&mut &*self.stream).read(buffer)
    }
}

impl io::Write for Until<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        (&mut &*self.stream).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection for calls, one after the other.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    next: u32,
    patience: Duration,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn connect(socket: &Path) -> Result<Self, ClientError> {
        Ok(Self::over(connect(socket, CALLS, PATIENCE)?))
    }

    /// Connects to a guest that may still boot: tries until `limit` is over or `alive` says that it is no use.
    ///
    /// # Errors
    ///
    /// The last [`ClientError`].
    pub fn await_boot(
        socket: &Path,
        limit: Duration,
        mut alive: impl FnMut() -> bool,
    ) -> Result<Self, ClientError> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match connect(socket, CALLS, left.max(Duration::from_millis(1))) {
                Ok(stream) => return Ok(Self::over(stream)),
                Err(error) if left.is_zero() || !alive() => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Uses a connection to the guest's port for calls.
    #[must_use]
    pub const fn over(stream: UnixStream) -> Self {
        Self {
            stream,
            next: 1,
            patience: PATIENCE,
        }
    }

    /// Gives each call so much time.
    #[must_use]
    pub const fn within(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn call(&mut self, call: &Call) -> Result<Answer, ClientError> {
        let method = call.method();
        let mut request = Request::new();
        SERVICE.clone_into(&mut request.service);
        method.clone_into(&mut request.method);
        request.payload = serde_json::to_vec(call).map_err(|_| ClientError::Answer { method })?;
        let stream = self.next;
        // A client's streams are odd.
        self.next = self.next.wrapping_add(2);
        let mut until = Until::new(&self.stream, self.patience);
        wire::write(&mut until, stream, MESSAGE_TYPE_REQUEST, &request)?;
        let most = call.longest_answer();
        let (of, response): (u32, Response) = wire::read(&mut until, MESSAGE_TYPE_RESPONSE, most)?;
        if of != stream {
            return Err(ClientError::Answer { method });
        }
        let status = response.status.unwrap_or_default();
        match status.code.enum_value() {
            Ok(Code::OK) => serde_json::from_slice(&response.payload)
                .map_err(|_| ClientError::Answer { method }),
            Ok(code) => Err(ClientError::Failed {
                code,
                message: harmless(&status.message),
            }),
            Err(_) => Err(ClientError::Answer { method }),
        }
    }

    /// Asks for something that has nothing to tell.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn done(&mut self, call: &Call) -> Result<(), ClientError> {
        match self.call(call)? {
            Answer::Done => Ok(()),
            _ => Err(ClientError::Answer {
                method: call.method(),
            }),
        }
    }
}

/// A guest's words for logs and terminals: of bounded length, without what a terminal obeys.
#[must_use]
pub fn harmless(text: &str) -> String {
    // Marks that turn the direction of text around are no control characters.
    let turns = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars()
        .filter(|c| !c.is_control() && !turns(*c))
        .take(MAX_MESSAGE)
        .collect()
}
