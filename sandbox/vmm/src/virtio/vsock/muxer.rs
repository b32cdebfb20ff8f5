//! Which streams there are.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::{UnixListener, UnixStream};

use vm_memory::VolatileSlice;

use super::connection::{CREDIT, Connection, Greeting, Left, Said};
use super::{Header, Source, op};

/// The token of the socket that the host connects to.
pub(super) const LISTENER: u32 = 0;
/// Streams at once; each may hold [`CREDIT`] bytes.
const MOST_STREAMS: usize = 256;
/// Refusals that wait for room in the guest's queue; the guest is not told of more.
const MOST_REFUSALS: usize = 256;
/// The host's ports begin here: those below have a meaning to the guest.
const FIRST_PORT: u32 = 1 << 30;

#[derive(Debug)]
enum Stream {
    Greeting(Greeting),
    Connection(Connection),
}

/// All streams of a guest, by the token that the event loop knows them by.
#[derive(Debug, Default)]
pub(super) struct Muxer {
    streams: BTreeMap<u32, Stream>,
    tokens: HashMap<(u32, u32), u32>,
    refusals: VecDeque<(u32, u32)>,
    /// Closed once the event loop has let go of them.
    grave: Vec<UnixStream>,
    last_token: u32,
    last_port: u32,
    /// The stream that was served last: the next one's turn is after it.
    served: u32,
}

impl Muxer {
    /// Takes in whoever knocks. Beyond the most they are turned away.
    pub(super) fn accept(&mut self, listener: &UnixListener) {
        while let Ok((stream, _)) = listener.accept() {
            if self.streams.len() >= MOST_STREAMS || stream.set_nonblocking(true).is_err() {
                continue;
            }
            let token = self.new_token();
            self.streams
                .insert(token, Stream::Greeting(Greeting::new(stream)));
            // What it has said already makes no further event.
            self.happened(token);
        }
    }

    fn new_token(&mut self) -> u32 {
        loop {
            self.last_token = self.last_token.wrapping_add(1) & (u32::MAX >> 8);
            if self.last_token != LISTENER && !self.streams.contains_key(&self.last_token) {
                return self.last_token;
            }
        }
    }

    fn new_port(&mut self, guest_port: u32) -> u32 {
        loop {
            self.last_port = FIRST_PORT | self.last_port.wrapping_add(1) & (FIRST_PORT - 1);
            if !self.tokens.contains_key(&(self.last_port, guest_port)) {
                return self.last_port;
            }
        }
    }

    /// Something happened at a stream's end.
    pub(super) fn happened(&mut self, token: u32) {
        match self.streams.get_mut(&token) {
            Some(Stream::Connection(connection)) => {
                let left = connection.happened();
                self.after(token, left);
            }
            Some(Stream::Greeting(greeting)) => match greeting.read() {
                Said::More => {}
                Said::Nonsense => self.remove(token),
                Said::Connect(port) => self.connect(token, port),
            },
            None => {}
        }
    }

    fn connect(&mut self, token: u32, guest_port: u32) {
        let Some(Stream::Greeting(greeting)) = self.streams.remove(&token) else {
            return;
        };
        let host_port = self.new_port(guest_port);
        self.tokens.insert((host_port, guest_port), token);
        let connection = Connection::new(greeting.stream, host_port, guest_port);
        self.streams.insert(token, Stream::Connection(connection));
    }

    /// A packet of the guest's.
    pub(super) fn receive(&mut self, header: Header, data: Option<&VolatileSlice<'_>>) {
        let ports = (header.host_port, header.guest_port);
        let token = self.tokens.get(&ports).copied();
        match token.and_then(|token| Some((token, self.streams.get_mut(&token)?))) {
            Some((token, Stream::Connection(connection))) => {
                let left = connection.receive(header, data);
                self.after(token, left);
            }
            // A refusal is not answered by another.
            _ if header.op != op::RST => self.refuse(header.host_port, header.guest_port),
            _ => {}
        }
    }

    /// The guest is told that there is no such stream.
    pub(super) fn refuse(&mut self, host_port: u32, guest_port: u32) {
        if self.refusals.len() < MOST_REFUSALS {
            self.refusals.push_back((host_port, guest_port));
        }
    }

    fn after(&mut self, token: u32, left: Left) {
        if left == Left::Open {
            return;
        }
        if left == Left::Broken
            && let Some(Stream::Connection(connection)) = self.streams.get(&token)
        {
            let (host, guest) = (connection.host_port, connection.guest_port);
            self.refuse(host, guest);
        }
        self.remove(token);
    }

    fn remove(&mut self, token: u32) {
        match self.streams.remove(&token) {
            Some(Stream::Connection(connection)) => {
                self.tokens
                    .remove(&(connection.host_port, connection.guest_port));
                self.grave.push(connection.stream);
            }
            Some(Stream::Greeting(greeting)) => self.grave.push(greeting.stream),
            None => {}
        }
    }

    /// Whether the guest may have to hear something.
    pub(super) fn has_due(&self) -> bool {
        !self.refusals.is_empty() || self.due().is_some()
    }

    /// The next stream, in turn, that has something for the guest.
    fn due(&self) -> Option<u32> {
        let after = self.streams.range(self.served.saturating_add(1)..);
        let mut in_turn = after.chain(self.streams.range(..=self.served));
        let is_due = |stream: &Stream| matches!(stream, Stream::Connection(one) if one.is_due());
        in_turn.find_map(|(&token, stream)| is_due(stream).then_some(token))
    }

    /// The next packet for the guest, whose data goes into `room`.
    pub(super) fn next(&mut self, room: Option<&VolatileSlice<'_>>) -> Option<(Header, u32)> {
        if let Some((host_port, guest_port)) = self.refusals.pop_front() {
            let header = Header {
                host_port,
                guest_port,
                op: op::RST,
                flags: 0,
                buf_alloc: CREDIT,
                fwd_cnt: 0,
            };
            return Some((header, 0));
        }
        // Each turn either gives a packet or finds that a stream has nothing to read.
        while let Some(token) = self.due() {
            self.served = token;
            let Some(Stream::Connection(connection)) = self.streams.get_mut(&token) else {
                return None;
            };
            let (packet, left) = connection.next(room);
            self.after(token, left);
            if packet.is_some() {
                return packet;
            }
        }
        None
    }

    /// The guest has forgotten all streams.
    pub(super) fn reset(&mut self) {
        let tokens: Vec<u32> = self.streams.keys().copied().collect();
        for token in tokens {
            self.remove(token);
        }
        self.refusals.clear();
    }

    pub(super) fn sources(&self) -> impl Iterator<Item = Source> {
        self.streams.iter().map(|(&token, stream)| Source {
            fd: match stream {
                Stream::Greeting(greeting) => greeting.stream.as_raw_fd(),
                Stream::Connection(connection) => connection.stream.as_raw_fd(),
            },
            token,
        })
    }

    /// Closes what the event loop has let go of.
    pub(super) fn bury(&mut self) {
        self.grave.clear();
    }
}
