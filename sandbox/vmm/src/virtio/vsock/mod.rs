//! Streams between host and guest (section 5.10). The host connects to a Unix socket and says
//! `CONNECT PORT`, as Firecracker has it; a guest can accept, and can connect to nothing.

/// One stream.
mod connection;
/// Which streams there are.
mod muxer;
/// What a guest sends.
mod sent;

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use virtio_vsock::packet::{PKT_HEADER_SIZE, VsockPacket};
use vm_memory::VolatileSlice;

use super::{Device, DeviceError, Kind, Queues, Source};
use muxer::Muxer;
use sent::Sent;

/// The host's address (linux/vm_sockets.h).
pub(crate) const HOST_CID: u64 = 2;
/// Kinds of sockets: streams are all there is.
const STREAM: u16 = 1;
/// The most data of one packet, bytes: what a Linux driver's buffers take.
const MOST: u32 = 64 << 10;

/// How long the guest has to answer a request is counted in these.
const TICK: Duration = Duration::from_secs(1);

/// The queues.
const RX: usize = 0;
const TX: usize = 1;

/// What a packet is for (5.10.6).
pub(crate) mod op {
    pub(crate) const REQUEST: u16 = 1;
    pub(crate) const RESPONSE: u16 = 2;
    pub(crate) const RST: u16 = 3;
    pub(crate) const SHUTDOWN: u16 = 4;
    pub(crate) const RW: u16 = 5;
    pub(crate) const CREDIT_UPDATE: u16 = 6;
    pub(crate) const CREDIT_REQUEST: u16 = 7;
}

/// The other side's packet but its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) host_port: u32,
    pub(crate) guest_port: u32,
    pub(crate) op: u16,
    pub(crate) flags: u32,
    /// How much the sender can take, and what it has handed on so far: bytes, counted round and round.
    pub(crate) buf_alloc: u32,
    pub(crate) fwd_cnt: u32,
}

/// The device.
#[derive(Debug)]
pub struct Vsock {
    cid: u64,
    listener: UnixListener,
    /// Removed with the device.
    path: Option<PathBuf>,
    muxer: Muxer,
    /// Runs while the guest owes somebody an answer.
    clock: TimerFd,
    running: bool,
}

impl Vsock {
    /// A device whose guest has this address. The listener must not block.
    ///
    /// # Errors
    ///
    /// What the kernel says where it gives no clock.
    pub fn new(cid: u32, listener: UnixListener) -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let mut muxer = Muxer::default();
        muxer.keep_spare(&listener);
        Ok(Self {
            cid: cid.into(),
            listener,
            path: None,
            muxer,
            clock: TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?,
            running: false,
        })
    }

    /// A device that listens at this path, where nothing may be yet, and that leaves nothing there.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn bind(cid: u32, path: &Path) -> io::Result<Self> {
        let mut device = Self::new(cid, Self::listen(path)?)?;
        device.path = Some(path.to_owned());
        Ok(device)
    }

    /// Listens at this path, where nothing may be yet.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn listen(path: &Path) -> io::Result<UnixListener> {
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }

    /// The path that would be removed with the device, and is not any more.
    pub(crate) fn take_path(&mut self) -> Option<PathBuf> {
        self.path.take()
    }

    fn take_all(&mut self, queues: &mut Queues<'_>) -> Result<(), DeviceError> {
        while let Some(chain) = queues.next(TX)? {
            let head = chain.head_index();
            let mut sent = Sent::read(chain, queues.memory())?;
            let header = sent.header;
            if sent.from == self.cid && sent.to == HOST_CID {
                if sent.kind == STREAM {
                    let data = VolatileSlice::from(sent.data.as_mut_slice());
                    let has = header.op == op::RW && !data.is_empty();
                    self.muxer.receive(header, has.then_some(&data));
                } else if header.op != op::RST {
                    self.muxer.refuse(header.host_port, header.guest_port);
                }
            }
            queues.done(TX, head, 0)?;
        }
        queues.tell(TX)
    }

    /// Ticks are counted, not time: a pause of the machine is one at most.
    fn run_clock(&mut self) -> Result<(), DeviceError> {
        if self.running || !self.muxer.has_unanswered() {
            return Ok(());
        }
        let next = Expiration::OneShot(TimeSpec::from_duration(TICK));
        self.clock
            .set(next, TimerSetTimeFlags::empty())
            .map_err(|errno| DeviceError::Host("set a clock", errno.into()))?;
        self.running = true;
        Ok(())
    }

    fn give_all(&mut self, queues: &mut Queues<'_>) -> Result<(), DeviceError> {
        while self.muxer.has_due() {
            let Some(mut chain) = queues.next(RX)? else {
                break;
            };
            let head = chain.head_index();
            let mut packet = VsockPacket::from_rx_virtq_chain(queues.memory(), &mut chain, MOST)
                .map_err(|_| DeviceError::Chain("it is no buffer for a packet"))?;
            if packet.data_slice().is_none_or(|room| room.is_empty()) {
                return Err(DeviceError::Chain("a buffer for packets has no room"));
            }
            let Some((header, size)) = self.muxer.next(packet.data_slice()) else {
                queues.put_back(RX);
                break;
            };
            packet
                .set_header_from_raw(&[0; PKT_HEADER_SIZE])
                .map_err(|_| DeviceError::Chain("its header cannot be written"))?;
            packet
                .set_src_cid(HOST_CID)
                .set_dst_cid(self.cid)
                .set_src_port(header.host_port)
                .set_dst_port(header.guest_port)
                .set_type(STREAM)
                .set_op(header.op)
                .set_flags(header.flags)
                .set_buf_alloc(header.buf_alloc)
                .set_fwd_cnt(header.fwd_cnt)
                .set_len(size);
            let written = u32::try_from(PKT_HEADER_SIZE).unwrap_or(0) + size;
            queues.done(RX, head, written)?;
        }
        queues.tell(RX)
    }
}

impl Drop for Vsock {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // Somebody may have removed it.
            drop(std::fs::remove_file(path));
        }
    }
}

impl Device for Vsock {
    fn kind(&self) -> Kind {
        Kind::Vsock
    }

    fn queue_sizes(&self) -> &'static [u16] {
        // The third tells the driver of changes of the transport, of which there are none yet.
        &[128, 128, 16]
    }

    fn config(&self) -> Vec<u8> {
        self.cid.to_le_bytes().to_vec()
    }

    fn reset(&mut self) {
        self.muxer.reset();
    }

    fn notified(&mut self, queue: usize, queues: &mut Queues<'_>) -> Result<(), DeviceError> {
        if queue == TX {
            self.take_all(queues)?;
        }
        self.give_all(queues)
    }

    fn happened(&mut self, token: u32, queues: &mut Queues<'_>) -> Result<(), DeviceError> {
        match token {
            muxer::LISTENER => self.muxer.accept(&self.listener),
            muxer::CLOCK => {
                // It does not block: that it ticked is all that is to be known.
                let _ = self.clock.wait();
                self.running = false;
                self.muxer.tick();
            }
            stream => self.muxer.happened(stream),
        }
        self.give_all(queues)?;
        self.run_clock()
    }

    fn sources(&self) -> Vec<Source> {
        let mut sources = vec![
            Source {
                fd: self.listener.as_raw_fd(),
                token: muxer::LISTENER,
            },
            Source {
                fd: self.clock.as_fd().as_raw_fd(),
                token: muxer::CLOCK,
            },
        ];
        sources.extend(self.muxer.sources());
        sources
    }

    fn unheard(&mut self) {
        self.muxer.bury();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    #[test]
    fn the_clock_runs_while_an_answer_is_owed() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("socket");
        let listener = Vsock::listen(&path).expect("listen");
        let mut device = Vsock::new(3, listener).expect("a device");
        let ticks = |device: &Vsock, milliseconds: u16| {
            let mut fds = [PollFd::new(device.clock.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::from(milliseconds)).expect("poll")
        };
        device.run_clock().expect("nothing to do");
        assert_eq!(ticks(&device, 1500), 0);
        let mut host = UnixStream::connect(&path).expect("connect");
        host.write_all(b"CONNECT 7\n").expect("write");
        device.muxer.accept(&device.listener);
        for _ in 0..2 {
            device.run_clock().expect("it runs");
            assert_eq!(ticks(&device, 10_000), 1);
            device.clock.wait().expect("it ticked");
            device.running = false;
        }
    }
}
