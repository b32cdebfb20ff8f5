//! What a guest sends: a header, and its data in one piece.
//!
//! The crate `virtio-vsock` 0.11 takes a packet's data in one buffer. Linux 6.12.44 and newer spread what is long over
//! many (`virtio_transport_alloc_skb` makes it of pages), which the specification allows (2.7.4.2).

use vm_memory::Bytes as _;

use super::{Header, MOST, PKT_HEADER_SIZE};
use crate::memory::Memory;
use crate::virtio::DeviceError;
use crate::virtio::device::Chain;

/// The most buffers of one packet: more than pages of the most data, and a header.
const MOST_BUFFERS: usize = 64;

/// A packet of the guest's.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) kind: u16,
    pub(super) header: Header,
    pub(super) data: Vec<u8>,
}

impl Sent {
    pub(super) fn read(chain: Chain<'_>, memory: &Memory) -> Result<Self, DeviceError> {
        let broken = DeviceError::Chain;
        let mut header = [0; PKT_HEADER_SIZE];
        let mut got = 0;
        let mut data = Vec::new();
        let mut wanted = None;
        for descriptor in chain.take(MOST_BUFFERS) {
            if descriptor.is_write_only() {
                return Err(broken("a buffer is of the wrong direction"));
            }
            let length = usize::try_from(descriptor.len()).unwrap_or(usize::MAX);
            let mut used = 0;
            if wanted.is_none() {
                let Some(rest) = header.get_mut(got..) else {
                    break;
                };
                used = rest.len().min(length);
                let part = rest.get_mut(..used).unwrap_or_default();
                memory
                    .read_slice(part, descriptor.addr())
                    .map_err(|_| broken("it lies outside memory"))?;
                got += used;
                if got < PKT_HEADER_SIZE {
                    continue;
                }
                let length = word(&header, 24);
                if length > MOST {
                    return Err(broken("it is longer than a packet may be"));
                }
                wanted = Some(usize::try_from(length).unwrap_or(0));
            }
            let missing = wanted.unwrap_or(0).saturating_sub(data.len());
            let take = missing.min(length - used);
            if take > 0 {
                let start = data.len();
                data.resize(start + take, 0);
                let from = u64::try_from(used).ok();
                let from = from.and_then(|used| descriptor.addr().0.checked_add(used));
                let from = from.ok_or(broken("it lies outside memory"))?;
                let part = data.get_mut(start..).unwrap_or_default();
                memory
                    .read_slice(part, vm_memory::GuestAddress(from))
                    .map_err(|_| broken("it lies outside memory"))?;
            }
        }
        match wanted {
            Some(wanted) if wanted == data.len() => {}
            Some(_) => return Err(broken("it is shorter than it says")),
            None => return Err(broken("it is no packet")),
        }
        let long = |at| u64::from(word(&header, at)) | u64::from(word(&header, at + 4)) << 32;
        let short = |at: usize| {
            let bytes = header
                .get(at..at + 2)
                .and_then(|bytes| bytes.try_into().ok());
            u16::from_le_bytes(bytes.unwrap_or_default())
        };
        Ok(Self {
            from: long(0),
            to: long(8),
            kind: short(28),
            header: Header {
                guest_port: word(&header, 16),
                host_port: word(&header, 20),
                op: short(30),
                flags: word(&header, 32),
                buf_alloc: word(&header, 36),
                fwd_cnt: word(&header, 40),
            },
            data,
        })
    }
}

/// A number of the header (`struct virtio_vsock_hdr` of linux/virtio_vsock.h).
fn word(header: &[u8; PKT_HEADER_SIZE], at: usize) -> u32 {
    let bytes = header
        .get(at..at + 4)
        .and_then(|bytes| bytes.try_into().ok());
    u32::from_le_bytes(bytes.unwrap_or_default())
}
