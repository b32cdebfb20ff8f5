//! Streams between host and guest (section 5.10). The host connects to a Unix socket and says
//! `CONNECT PORT`, as Firecracker has it; a guest can accept, and can connect to nothing.

/// One stream.
mod connection;
/// Which streams there are.
mod muxer;

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use virtio_vsock::packet::{PKT_HEADER_SIZE, VsockPacket};

use super::{Device, DeviceError, Kind, Queues, Source};
use muxer::Muxer;

/// The host's address (linux/vm_sockets.h).
pub(crate) const HOST_CID: u64 = 2;
/// Kinds of sockets: streams are all there is.
const STREAM: u16 = 1;
/// The most data of one packet, bytes: what a Linux driver's buffers take.
const MOST: u32 = 64 << 10;

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
}

impl Vsock {
    /// A device whose guest has this address. The listener must not block.
    #[must_use]
    pub fn new(cid: u32, listener: UnixListener) -> Self {
        Self {
            cid: cid.into(),
            listener,
            path: None,
            muxer: Muxer::default(),
        }
    }

    /// A device that listens at this path, where nothing may be yet, and that leaves nothing there.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn bind(cid: u32, path: &Path) -> io::Result<Self> {
        let mut device = Self::new(cid, Self::listen(path)?);
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
        while let Some(mut chain) = queues.next(TX)? {
            let head = chain.head_index();
            let packet = VsockPacket::from_tx_virtq_chain(queues.memory(), &mut chain, MOST)
                .map_err(|_| DeviceError::Chain("it is no packet"))?;
            let header = Header {
                host_port: packet.dst_port(),
                guest_port: packet.src_port(),
                op: packet.op(),
                flags: packet.flags(),
                buf_alloc: packet.buf_alloc(),
                fwd_cnt: packet.fwd_cnt(),
            };
            if packet.src_cid() == self.cid && packet.dst_cid() == HOST_CID {
                let data = packet.data_slice().filter(|_| header.op == op::RW);
                if packet.type_() == STREAM {
                    self.muxer.receive(header, data);
                } else if header.op != op::RST {
                    self.muxer.refuse(header.host_port, header.guest_port);
                }
            }
            queues.done(TX, head, 0)?;
        }
        queues.tell(TX)
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
        if token == muxer::LISTENER {
            self.muxer.accept(&self.listener);
        } else {
            self.muxer.happened(token);
        }
        self.give_all(queues)
    }

    fn sources(&self) -> Vec<Source> {
        let mut sources = vec![Source {
            fd: self.listener.as_raw_fd(),
            token: muxer::LISTENER,
        }];
        sources.extend(self.muxer.sources());
        sources
    }

    fn unheard(&mut self) {
        self.muxer.bury();
    }
}
