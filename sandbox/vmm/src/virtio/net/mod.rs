//! Network cards: taps of the host's (section 5.1). One queue in each direction; check sums and large segments are
//! left to whoever can make them last.

#[cfg(test)]
mod tests;
/// The host's end of a card's wire.
mod wire;

use std::io;
use std::os::fd::AsRawFd as _;

use cofferdam_network::Mac;
use cofferdam_network::tap::{HEADER, Offloads};
use vm_memory::{Bytes as _, GuestAddress};

use super::device::Chain;
use super::{Device, DeviceError, Kind, Queues, Source};
use crate::config::NetworkConfig;
use crate::error::VmResult;
pub use wire::Wire;

/// Features: check sums and segments of TCP that the host makes and that the guest makes, what the configuration has,
/// and frames that fill several buffers.
const CSUM: u64 = 1 << 0;
const GUEST_CSUM: u64 = 1 << 1;
const MTU: u64 = 1 << 3;
const MAC: u64 = 1 << 5;
const GUEST_TSO4: u64 = 1 << 7;
const GUEST_TSO6: u64 = 1 << 8;
const HOST_TSO4: u64 = 1 << 11;
const HOST_TSO6: u64 = 1 << 12;
const MRG_RXBUF: u64 = 1 << 15;

/// The header's fields (5.1.6): flags, kind of segments, and how many buffers a frame fills.
const FLAGS: usize = 0;
const SEGMENTS: usize = 1;
const BUFFERS: std::ops::Range<usize> = 10..12;
/// The one flag that a guest sets: a check sum is still to be made.
const NEEDS_CSUM: u8 = 1;
/// Kinds of segments: none, TCP over IPv4, over IPv6.
const WHOLE: u8 = 0;
const TCP4: u8 = 1;
const TCP6: u8 = 4;

/// The longest frame with its header, bytes: 64 KiB of IP and the link's own headers.
const LONGEST: usize = HEADER + (64 << 10) + 64;
/// The most buffers that a frame may fill; Linux's are no smaller than a frame of 1514 bytes, so 44 will do.
const MOST_MERGED: usize = 64;
/// The most pieces of memory of a frame.
const MOST_PIECES: usize = 1024;
/// How many bytes are moved in one direction in one call.
const MOST_BYTES: usize = 4 << 20;

/// The queues.
const RX: usize = 0;
const TX: usize = 1;

/// A card.
#[derive(Debug)]
pub struct Net {
    wire: Wire,
    mac: Mac,
    mtu: Option<u16>,
    /// What the driver accepted.
    accepted: u64,
    /// The wire has not heard yet what the driver accepted.
    is_new: bool,
    /// A frame that came in and that waits for the guest's buffers; empty, if there is none.
    incoming: Vec<u8>,
    /// Where frames lie on their way.
    frame: Box<[u8]>,
}

/// What became of a frame that came in.
enum Placed {
    /// The guest has it, or can never have it.
    Gone,
    /// It waits for buffers.
    Waits,
}

impl Net {
    /// A card at the tap of the description.
    ///
    /// # Errors
    ///
    /// [`VmError::Tap`](crate::VmError::Tap) where there is none that can be used.
    pub fn open(config: &NetworkConfig) -> VmResult<Self> {
        Ok(Self::new(Wire::open(config)?, config.mac, config.mtu))
    }

    /// A card with this address at the wire.
    #[must_use]
    pub fn new(wire: Wire, mac: Mac, mtu: Option<u16>) -> Self {
        Self {
            wire,
            mac,
            mtu,
            accepted: 0,
            is_new: true,
            incoming: Vec::new(),
            frame: vec![0; LONGEST].into_boxed_slice(),
        }
    }

    fn has(&self, features: u64) -> bool {
        self.accepted & features == features
    }

    /// On the thread of devices, not on that of the vCPU that began: it is the one that may ask the kernel for it.
    fn tell_wire(&mut self) -> Result<(), DeviceError> {
        if self.is_new {
            self.wire.set_offloads(Offloads {
                checksums: self.has(GUEST_CSUM),
                tcp4: self.has(GUEST_TSO4),
                tcp6: self.has(GUEST_TSO6),
            })?;
            self.is_new = false;
        }
        Ok(())
    }

    fn receive_all(&mut self, queues: &mut Queues<'_>) -> Result<(), DeviceError> {
        let mut moved = 0;
        while !self.incoming.is_empty() || self.receive()? {
            let length = self.incoming.len();
            if matches!(self.place(queues)?, Placed::Waits) {
                break;
            }
            self.incoming.clear();
            moved += length.max(HEADER);
            if moved > MOST_BYTES {
                queues.tire();
            }
        }
        queues.tell(RX)
    }

    /// Takes a frame off the wire; false where there is none.
    fn receive(&mut self) -> Result<bool, DeviceError> {
        loop {
            match self.wire.read(&mut self.frame) {
                // What is shorter than its header is none.
                Ok(length) if length <= HEADER => {}
                Ok(length) => {
                    let frame = self.frame.get(..length).unwrap_or_default();
                    self.incoming.extend_from_slice(frame);
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The interface is down: there is nothing to read until it is up.
                Err(error) if error.raw_os_error() == Some(libc::EIO) => return Ok(false),
                Err(error) => return Err(DeviceError::Host("read from the tap", error)),
            }
        }
    }

    /// Puts the frame that came in into as many of the guest's buffers as it fills.
    fn place(&mut self, queues: &mut Queues<'_>) -> Result<Placed, DeviceError> {
        let most = if self.has(MRG_RXBUF) { MOST_MERGED } else { 1 };
        let (mut taken, mut pieces) = (Vec::new(), Vec::new());
        let mut left = self.incoming.len();
        while left > 0 {
            let chain = if taken.len() < most {
                queues.next(RX)?
            } else if self.has(MRG_RXBUF) {
                return Err(DeviceError::Chain("so many buffers do not hold a frame"));
            } else {
                // Larger than what the guest asked for: nobody could deliver it.
                put_back(queues, taken.len());
                return Ok(Placed::Gone);
            };
            let Some(chain) = chain else {
                put_back(queues, taken.len());
                return Ok(Placed::Waits);
            };
            let head = chain.head_index();
            let written = reserve(chain, left, &mut pieces)?;
            taken.push((head, u32::try_from(written).unwrap_or(0)));
            left -= written;
        }
        let buffers = u16::try_from(taken.len()).unwrap_or(1).to_le_bytes();
        if let Some(field) = self.incoming.get_mut(BUFFERS) {
            field.copy_from_slice(&buffers);
        }
        let mut rest = self.incoming.as_slice();
        for (at, size) in pieces {
            let Some((part, after)) = rest.split_at_checked(size) else {
                break;
            };
            let written = queues.memory().write_slice(part, at);
            written.map_err(|_| DeviceError::Chain("a buffer lies outside memory"))?;
            rest = after;
        }
        queues.done_all(RX, &taken)?;
        Ok(Placed::Gone)
    }

    fn send_all(&mut self, queues: &mut Queues<'_>) -> Result<(), DeviceError> {
        let mut moved = 0;
        while let Some(chain) = queues.next(TX)? {
            let head = chain.head_index();
            let length = gather(chain, queues, &mut self.frame)?;
            self.check_header()?;
            let frame = self.frame.get(..length).unwrap_or_default();
            match self.wire.write(frame) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // The wire says when it takes more.
                    queues.put_back(TX);
                    break;
                }
                Err(error) if error.raw_os_error() == Some(libc::EBADFD) => {
                    return Err(DeviceError::Host("write to the tap", error));
                }
                // The interface is down, or this frame is none: networks lose frames.
                Err(_) => {}
            }
            queues.done(TX, head, 0)?;
            moved += length;
            if moved > MOST_BYTES {
                queues.tire();
            }
        }
        queues.tell(TX)
    }

    /// Refuses what was not agreed on, and takes out what has no meaning on the wire: the header is the host
    /// kernel's to read.
    fn check_header(&mut self) -> Result<(), DeviceError> {
        let agreed = match self.frame.get(SEGMENTS) {
            Some(&WHOLE) => true,
            Some(&TCP4) => self.has(CSUM | HOST_TSO4),
            Some(&TCP6) => self.has(CSUM | HOST_TSO6),
            _ => false,
        };
        if !agreed {
            return Err(DeviceError::Chain(
                "its segments are of a kind that was not agreed on",
            ));
        }
        let mask = if self.has(CSUM) { NEEDS_CSUM } else { 0 };
        if let Some(flags) = self.frame.get_mut(FLAGS) {
            *flags &= mask;
        }
        Ok(())
    }
}

fn put_back(queues: &mut Queues<'_>, count: usize) {
    for _ in 0..count {
        queues.put_back(RX);
    }
}

/// Where in a chain's buffers the next bytes will lie, of which there are so many left.
fn reserve(
    chain: Chain<'_>,
    left: usize,
    pieces: &mut Vec<(GuestAddress, usize)>,
) -> Result<usize, DeviceError> {
    let mut reserved = 0;
    for descriptor in chain {
        if reserved == left {
            break;
        }
        if !descriptor.is_write_only() {
            return Err(DeviceError::Chain("a buffer is of the wrong direction"));
        }
        if pieces.len() == MOST_PIECES {
            return Err(DeviceError::Chain("it has too many buffers"));
        }
        let size = usize::try_from(descriptor.len()).unwrap_or(usize::MAX);
        let size = size.min(left - reserved);
        pieces.push((descriptor.addr(), size));
        reserved += size;
    }
    Ok(reserved)
}

/// Copies a frame out of a chain: what the guest changes later is of no account.
fn gather(chain: Chain<'_>, queues: &Queues<'_>, frame: &mut [u8]) -> Result<usize, DeviceError> {
    let mut length = 0_usize;
    for (index, descriptor) in chain.enumerate() {
        if descriptor.is_write_only() {
            return Err(DeviceError::Chain("a buffer is of the wrong direction"));
        }
        let size = usize::try_from(descriptor.len()).unwrap_or(usize::MAX);
        let end = length.saturating_add(size);
        let Some(place) = frame.get_mut(length..end).filter(|_| index < MOST_PIECES) else {
            return Err(DeviceError::Chain("it is longer than any frame"));
        };
        let read = queues.memory().read_slice(place, descriptor.addr());
        read.map_err(|_| DeviceError::Chain("a buffer lies outside memory"))?;
        length = end;
    }
    if length < HEADER {
        return Err(DeviceError::Chain("it has no header"));
    }
    Ok(length)
}

impl Device for Net {
    fn kind(&self) -> Kind {
        Kind::Network
    }

    fn features(&self) -> u64 {
        let segments = HOST_TSO4 | HOST_TSO6 | GUEST_TSO4 | GUEST_TSO6;
        let mtu = self.mtu.map_or(0, |_| MTU);
        CSUM | GUEST_CSUM | MAC | MRG_RXBUF | segments | mtu
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[256, 256]
    }

    fn config(&self) -> Vec<u8> {
        // The address, the link's state and the number of pairs of queues, which need features that it has not,
        // and the MTU.
        let mut config = self.mac.bytes().to_vec();
        config.extend([0; 4]);
        config.extend(self.mtu.unwrap_or(0).to_le_bytes());
        config
    }

    fn begin(&mut self, features: u64) {
        self.accepted = features;
        self.is_new = true;
    }

    fn reset(&mut self) {
        self.accepted = 0;
        self.is_new = true;
        self.incoming.clear();
    }

    fn notified(&mut self, queue: usize, queues: &mut Queues<'_>) -> Result<(), DeviceError> {
        self.tell_wire()?;
        match queue {
            TX => self.send_all(queues),
            _ => self.receive_all(queues),
        }
    }

    fn happened(&mut self, _token: u32, queues: &mut Queues<'_>) -> Result<(), DeviceError> {
        self.tell_wire()?;
        // It is told of one edge, which may have been either.
        self.send_all(queues)?;
        self.receive_all(queues)
    }

    fn sources(&self) -> Vec<Source> {
        vec![Source {
            fd: self.wire.as_raw_fd(),
            token: 0,
        }]
    }
}
