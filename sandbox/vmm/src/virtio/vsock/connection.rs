//! One stream.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use vm_memory::{ReadVolatile as _, VolatileSlice};

use super::{Header, op};

/// What is kept of what the guest sent and the host has not read, bytes.
pub(super) const CREDIT: u32 = 64 << 10;

/// How many ticks the guest has to answer a request.
pub(super) const PATIENCE: u32 = 30;

/// Flags of a shutdown: no more is taken, no more is sent.
const NO_RECEIVE: u32 = 1;
const NO_SEND: u32 = 2;

/// How a step left the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// It goes on.
    Open,
    /// It is over, and the guest knows.
    Over,
    /// It is over, and the guest must be told.
    Broken,
}

/// One stream between a Unix socket of the host and a port of the guest.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: UnixStream,
    pub(super) host_port: u32,
    pub(super) guest_port: u32,
    /// The guest said yes.
    open: bool,
    /// How many ticks it has not.
    age: u32,
    request_owed: bool,
    credit_owed: bool,
    /// Something may be read from the host.
    readable: bool,
    /// The host will send no more; whether it has gone altogether.
    ended: Option<bool>,
    end_told: bool,
    /// The guest will send no more; whether it will take no more, either.
    guest_ended: bool,
    guest_gone: bool,
    /// The guest knows the stream no more; what it sent goes to the host all the same.
    forgotten: bool,
    /// For the host, of which so many bytes at the front are not the guest's.
    outgoing: VecDeque<u8>,
    own: usize,
    /// Bytes of the guest's that the host took, as last told, and all.
    told: u32,
    forwarded: u32,
    /// Bytes sent to the guest; what it can take, and what it handed on.
    sent: u32,
    guest_alloc: u32,
    guest_forwarded: u32,
}

impl Connection {
    /// A stream that the guest is to be asked about.
    pub(super) fn new(stream: UnixStream, host_port: u32, guest_port: u32) -> Self {
        Self {
            stream,
            host_port,
            guest_port,
            open: false,
            age: 0,
            request_owed: true,
            credit_owed: false,
            readable: true,
            ended: None,
            end_told: false,
            guest_ended: false,
            guest_gone: false,
            forgotten: false,
            outgoing: VecDeque::new(),
            own: 0,
            told: 0,
            forwarded: 0,
            sent: 0,
            guest_alloc: 0,
            guest_forwarded: 0,
        }
    }

    /// Whether the guest has not said yes yet.
    pub(super) const fn is_unanswered(&self) -> bool {
        !self.open
    }

    /// Some time has passed.
    pub(super) fn tick(&mut self) -> Left {
        self.age += u32::from(!self.open);
        if self.age > PATIENCE {
            Left::Broken
        } else {
            Left::Open
        }
    }

    /// How much the guest can take, bytes. Counters run round; one that lies gets less.
    const fn guest_credit(&self) -> u32 {
        let under_way = self.sent.wrapping_sub(self.guest_forwarded);
        self.guest_alloc.saturating_sub(under_way)
    }

    /// Whether the guest must hear something, as far as is known without reading.
    pub(super) const fn is_due(&self) -> bool {
        !self.forgotten && self.is_owed()
    }

    const fn is_owed(&self) -> bool {
        self.request_owed
            || self.credit_owed
            || (self.open && self.readable && self.ended.is_none() && self.guest_credit() > 0)
            || (self.ended.is_some() && !self.end_told)
    }

    /// Whether something waits for the host.
    #[cfg(test)]
    pub(super) fn is_holding(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// A packet of the guest's.
    pub(super) fn receive(&mut self, header: Header, data: Option<&VolatileSlice<'_>>) -> Left {
        self.guest_alloc = header.buf_alloc;
        self.guest_forwarded = header.fwd_cnt;
        match header.op {
            op::RESPONSE if !self.open && !self.request_owed => {
                self.open = true;
                let answer = format!("OK {}\n", self.host_port);
                self.own = answer.len();
                self.outgoing.extend(answer.into_bytes());
            }
            // It does not wait for what it sent to arrive.
            op::RST if self.guest_ended && !self.outgoing.is_empty() => self.forgotten = true,
            op::RST => return Left::Over,
            _ if !self.open => return Left::Broken,
            op::RW if !self.guest_ended => {
                if let Some(data) = data
                    && !self.keep(data)
                {
                    return Left::Broken;
                }
            }
            op::SHUTDOWN => {
                self.guest_gone |= header.flags & NO_RECEIVE != 0;
                self.guest_ended |= header.flags & NO_SEND != 0;
            }
            op::CREDIT_UPDATE => {}
            op::CREDIT_REQUEST => self.credit_owed = true,
            _ => return Left::Broken,
        }
        self.flush()
    }

    /// False where the guest sent more than it was allowed.
    fn keep(&mut self, data: &VolatileSlice<'_>) -> bool {
        let kept = self.outgoing.len() - self.own + data.len();
        if kept > usize::try_from(CREDIT).unwrap_or(usize::MAX) {
            return false;
        }
        let mut bytes = vec![0; data.len()];
        data.copy_to(&mut bytes[..]);
        self.outgoing.extend(bytes);
        true
    }

    /// Something happened at the host's end.
    pub(super) fn happened(&mut self) -> Left {
        self.readable = true;
        // Nothing of the host's is left to be read: it ended before, or was never let in.
        if (!self.open || self.ended.is_some()) && self.has_gone() {
            return Left::Broken;
        }
        self.flush()
    }

    /// Writes to the host what it takes.
    fn flush(&mut self) -> Left {
        while !self.outgoing.is_empty() {
            let (front, _) = self.outgoing.as_slices();
            let count = match self.stream.write(front) {
                Ok(0) => return Left::Broken,
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(_) => return Left::Broken,
            };
            self.outgoing.drain(..count);
            let own = count.min(self.own);
            self.own -= own;
            let counted = u32::try_from(count - own).unwrap_or(u32::MAX);
            self.forwarded = self.forwarded.wrapping_add(counted);
        }
        if self.forwarded.wrapping_sub(self.told) >= CREDIT / 4 {
            self.credit_owed = true;
        }
        if !self.outgoing.is_empty() {
            return Left::Open;
        }
        if self.forgotten {
            return Left::Over;
        }
        if self.guest_ended && self.guest_gone {
            return Left::Broken;
        }
        if self.guest_ended {
            // It fails where the host has gone, which is seen when it is read from.
            drop(self.stream.shutdown(Shutdown::Write));
        }
        Left::Open
    }

    /// The next packet for the guest, whose data goes into `room`; none where there is none after all.
    pub(super) fn next(
        &mut self,
        room: Option<&VolatileSlice<'_>>,
    ) -> (Option<(Header, u32)>, Left) {
        if self.request_owed {
            self.request_owed = false;
            return (Some((self.header(op::REQUEST, 0), 0)), Left::Open);
        }
        if self.open && self.readable && self.ended.is_none() && self.guest_credit() > 0 {
            let size = room.map_or(0, |room| self.read(room));
            if size > 0 {
                self.sent = self.sent.wrapping_add(size);
                return (Some((self.header(op::RW, 0), size)), Left::Open);
            }
        }
        if let Some(gone) = self.ended
            && !self.end_told
        {
            self.end_told = true;
            let flags = if gone { NO_SEND | NO_RECEIVE } else { NO_SEND };
            let left = if gone { Left::Over } else { Left::Open };
            return (Some((self.header(op::SHUTDOWN, flags), 0)), left);
        }
        if self.credit_owed {
            return (Some((self.header(op::CREDIT_UPDATE, 0), 0)), Left::Open);
        }
        (None, Left::Open)
    }

    /// Every packet tells what there is room for.
    fn header(&mut self, op: u16, flags: u32) -> Header {
        self.told = self.forwarded;
        self.credit_owed = false;
        Header {
            host_port: self.host_port,
            guest_port: self.guest_port,
            op,
            flags,
            buf_alloc: CREDIT,
            fwd_cnt: self.forwarded,
        }
    }

    /// Reads from the host straight into the guest's buffer. None come: it is not readable, or has ended.
    fn read(&mut self, room: &VolatileSlice<'_>) -> u32 {
        let most = room
            .len()
            .min(usize::try_from(self.guest_credit()).unwrap_or(usize::MAX));
        let Ok(mut part) = room.subslice(0, most) else {
            return 0;
        };
        loop {
            match self.stream.read_volatile(&mut part) {
                Ok(0) => self.ended = Some(self.has_gone()),
                Ok(count) => return u32::try_from(count).unwrap_or(0),
                Err(vm_memory::VolatileMemoryError::IOError(error))
                    if error.kind() == std::io::ErrorKind::Interrupted =>
                {
                    continue;
                }
                Err(vm_memory::VolatileMemoryError::IOError(error))
                    if error.kind() == std::io::ErrorKind::WouldBlock =>
                {
                    self.readable = false;
                }
                Err(_) => self.ended = Some(true),
            }
            return 0;
        }
    }

    /// Whether the host's end is closed in both directions.
    fn has_gone(&self) -> bool {
        let mut fds = [PollFd::new(self.stream.as_fd(), PollFlags::empty())];
        let polled = poll(&mut fds, PollTimeout::ZERO);
        let [fd] = fds;
        polled.is_err()
            || fd
                .revents()
                .is_some_and(|events| events.contains(PollFlags::POLLHUP))
    }
}

/// A host that has connected and not yet said where to.
#[derive(Debug)]
pub(super) struct Greeting {
    pub(super) stream: UnixStream,
    line: Vec<u8>,
}

/// The longest line: `CONNECT`, ten digits and its end.
const LINE: usize = 32;

/// What a host said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// Not all of it yet.
    More,
    /// To this port.
    Connect(u32),
    /// Something else, or it went away.
    Nonsense,
}

impl Greeting {
    pub(super) const fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            line: Vec::new(),
        }
    }

    /// Reads no further than the line's end: what follows is the guest's.
    pub(super) fn read(&mut self) -> Said {
        let mut byte = [0];
        loop {
            match self.stream.read(&mut byte) {
                Ok(0) => return Said::Nonsense,
                Ok(_) if byte == *b"\n" => return parse(&self.line),
                Ok(_) if self.line.len() < LINE => self.line.extend(byte),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Said::More,
                Ok(_) | Err(_) => return Said::Nonsense,
            }
        }
    }
}

fn parse(line: &[u8]) -> Said {
    std::str::from_utf8(line)
        .ok()
        .and_then(|line| line.strip_prefix("CONNECT "))
        .and_then(|port| port.trim_end_matches('\r').parse().ok())
        .map_or(Said::Nonsense, Said::Connect)
}
