//! Which streams there are.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use vm_memory::VolatileSlice;

use super::connection::{CREDIT, Connection, Greeting, Left, Said};
use super::{Header, Source, op};

/// The token of the socket that the host connects to.
pub(super) const LISTENER: u32 = 0;
/// The token of the clock.
pub(super) const CLOCK: u32 = u32::MAX >> 8;
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
    /// Given up to turn somebody away when there is no other.
    spare: Option<OwnedFd>,
    /// Closed once the event loop has let go of them.
    grave: Vec<UnixStream>,
    last_token: u32,
    last_port: u32,
    /// The stream that was served last: the next one's turn is after it.
    served: u32,
}

impl Muxer {
    /// Keeps a descriptor to spare, of which this is a copy.
    pub(super) fn keep_spare(&mut self, listener: &UnixListener) {
        if self.spare.is_none() {
            // Where there is none it is tried again.
            self.spare = listener.as_fd().try_clone_to_owned().ok();
        }
    }

    /// Takes in whoever knocks. Beyond the most they are turned away, and so they are where the process has no
    /// descriptor for them but the one that is spared for that.
    pub(super) fn accept(&mut self, listener: &UnixListener) {
        loop {
            let knocked = match listener.accept() {
                Ok((stream, _)) => {
                    self.take_in(stream);
                    true
                }
                // The kernel looks for a number before it looks who is there: perhaps nobody.
                Err(error) if is_full(&error) && self.spare.take().is_some() => {
                    listener.accept().is_ok()
                }
                Err(_) => false,
            };
            self.keep_spare(listener);
            if !knocked {
                break;
            }
        }
    }

    fn take_in(&mut self, stream: UnixStream) {
        if self.streams.len() >= MOST_STREAMS || stream.set_nonblocking(true).is_err() {
            return;
        }
        let token = self.new_token();
        self.streams
            .insert(token, Stream::Greeting(Greeting::new(stream)));
        // What it has said already makes no further event.
        self.happened(token);
    }

    /// Whether the guest owes somebody an answer.
    pub(super) fn has_unanswered(&self) -> bool {
        self.streams
            .values()
            .any(|stream| matches!(stream, Stream::Connection(one) if one.is_unanswered()))
    }

    /// Some time has passed: whom the guest does not answer is turned away.
    pub(super) fn tick(&mut self) {
        let tokens: Vec<u32> = self.streams.keys().copied().collect();
        for token in tokens {
            if let Some(Stream::Connection(connection)) = self.streams.get_mut(&token) {
                let left = connection.tick();
                self.after(token, left);
            }
        }
    }

    fn new_token(&mut self) -> u32 {
        loop {
            self.last_token = self.last_token.wrapping_add(1) & (u32::MAX >> 8);
            if ![LISTENER, CLOCK].contains(&self.last_token)
                && !self.streams.contains_key(&self.last_token)
            {
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

/// Whether there are too many open files, here or in all.
fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::Shutdown;

    use super::*;
    use crate::virtio::vsock::Vsock;
    use crate::virtio::vsock::connection::PATIENCE;

    /// A guest's half, played here, and a host that connected to port 7.
    struct Played {
        muxer: Muxer,
        host: UnixStream,
        ports: (u32, u32),
        _dir: tempfile::TempDir,
    }

    impl Played {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("a directory");
            let path = dir.path().join("socket");
            let listener = Vsock::listen(&path).expect("listen");
            let mut host = UnixStream::connect(&path).expect("connect");
            host.write_all(b"CONNECT 7\n").expect("write");
            let mut muxer = Muxer::default();
            muxer.accept(&listener);
            let request = muxer.next(None).expect("a request").0;
            assert_eq!((request.op, request.guest_port), (op::REQUEST, 7));
            Self {
                muxer,
                host,
                ports: (request.host_port, 7),
                _dir: dir,
            }
        }

        fn say(&mut self, op: u16, flags: u32, data: &mut [u8]) {
            let (host_port, guest_port) = self.ports;
            let header = Header {
                host_port,
                guest_port,
                op,
                flags,
                buf_alloc: 1000,
                fwd_cnt: 0,
            };
            let data = VolatileSlice::from(data);
            self.muxer.receive(header, Some(&data));
        }

        fn hear(&mut self) -> Option<(u16, u32)> {
            let mut room = [0; 4096];
            let room = VolatileSlice::from(&mut room[..]);
            let (header, size) = self.muxer.next(Some(&room))?;
            Some((header.op, size))
        }

        fn accept(&mut self) {
            self.say(op::RESPONSE, 0, &mut []);
            let mut line = [0; 14];
            self.host.read_exact(&mut line).expect("an answer");
            assert!(line.starts_with(b"OK "));
        }
    }

    #[test]
    fn more_than_the_credit_breaks_the_stream() {
        let mut played = Played::new();
        played.accept();
        // The host reads nothing: its socket takes some, and no more than the credit is kept.
        let mut rounds = 0;
        while played.hear().is_none_or(|heard| heard.0 != op::RST) {
            played.say(op::RW, 0, &mut [1; 8192]);
            rounds += 1;
            assert!(rounds < 1000, "it takes without end");
        }
        assert!(played.muxer.streams.is_empty() && played.muxer.tokens.is_empty());
    }

    #[test]
    fn no_more_is_sent_than_the_guest_takes() {
        let mut played = Played::new();
        played.accept();
        played.host.write_all(&[1; 5000]).expect("write");
        assert_eq!(played.hear(), Some((op::RW, 1000)));
        assert_eq!(played.hear(), None);
    }

    #[test]
    fn what_was_sent_arrives_though_the_guest_forgets() {
        let mut played = Played::new();
        played.accept();
        let mut sent = 0;
        // Until the host's socket takes no more.
        loop {
            played.say(op::RW, 0, &mut [1; 8192]);
            sent += 8192;
            let Some(Stream::Connection(one)) = played.muxer.streams.values().next() else {
                panic!("the stream is gone");
            };
            if one.is_holding() {
                break;
            }
        }
        played.say(op::SHUTDOWN, 3, &mut []);
        played.say(op::RST, 0, &mut []);
        assert!(!played.muxer.has_due());
        let token = *played.muxer.streams.keys().next().expect("it drains");
        let mut got = 0;
        let mut room = vec![0; 1 << 16];
        while got < sent {
            got += played.host.read(&mut room).expect("read");
            played.muxer.happened(token);
        }
        played.muxer.bury();
        assert_eq!(played.host.read(&mut room).expect("read"), 0);
        assert!(played.muxer.streams.is_empty());
    }

    #[test]
    fn hosts_that_go_leave_nothing() {
        // Before the guest answered, after it did, and after a half of it went.
        for case in 0..3 {
            let mut played = Played::new();
            let token = *played.muxer.streams.keys().next().expect("a stream");
            if case > 0 {
                played.accept();
            }
            if case == 2 {
                played.host.shutdown(Shutdown::Write).expect("shut down");
                played.muxer.happened(token);
                assert_eq!(played.hear(), Some((op::SHUTDOWN, 0)));
            }
            let (other, _) = UnixStream::pair().expect("a pair");
            drop(std::mem::replace(&mut played.host, other));
            played.muxer.happened(token);
            let last = std::iter::from_fn(|| played.hear()).last();
            assert!(
                last.is_some_and(|(op, _)| op == op::RST || op == op::SHUTDOWN),
                "{case}"
            );
            assert!(played.muxer.streams.is_empty(), "{case}");
        }
    }

    #[test]
    fn refusals_do_not_pile_up() {
        let mut played = Played::new();
        for port in 0..10_000 {
            played.ports = (port, port);
            played.say(op::RW, 0, &mut [1; 10]);
            played.say(op::RST, 0, &mut []);
        }
        assert_eq!(played.muxer.refusals.len(), MOST_REFUSALS);
    }

    #[test]
    fn who_is_not_answered_is_turned_away() {
        let mut played = Played::new();
        for _ in 0..PATIENCE {
            assert!(played.muxer.has_unanswered());
            played.muxer.tick();
            assert_eq!(played.hear(), None);
        }
        played.muxer.tick();
        assert_eq!(played.hear(), Some((op::RST, 0)));
        played.muxer.bury();
        assert_eq!(played.host.read(&mut [0]).expect("read"), 0);
        assert!(!played.muxer.has_unanswered());
        // Who is answered stays.
        let mut played = Played::new();
        played.accept();
        for _ in 0..=PATIENCE {
            assert!(!played.muxer.has_unanswered());
            played.muxer.tick();
        }
        assert_eq!(played.hear(), None);
        assert_eq!(played.muxer.streams.len(), 1);
    }
}
