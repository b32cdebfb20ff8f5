//! Guest memory and requests as the server wants them.
//!
//! The server takes a chain of descriptors and memory that has a bitmap of dirty pages. It gets a second view of guest
//! memory with a piece of our own behind it, where the copied request lies, and a chain that is made there.

#![expect(
    unsafe_code,
    reason = "guest memory is seen through a second mapping object"
)]

use std::io::Write as _;

use vhost_user_backend::bitmap::BitmapMmapRegion;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{DescriptorChain, Queue, QueueOwnedT as _, QueueT as _};
use virtiofsd::descriptor_utils::Writer;
use vm_memory::{
    Bytes as _, GuestAddress, GuestMemory as _, GuestMemoryMmap, GuestMemoryRegion as _,
    GuestRegionMmap, MmapRegion,
};

use super::request::{Buffer, MOST_BUFFERS, MOST_BYTES, Request};
use crate::memory::Memory;
use crate::virtio::DeviceError;

/// Guest memory as the server wants it.
pub(super) type View = GuestMemoryMmap<BitmapMmapRegion>;

/// Where our own piece lies: above all that a guest has.
const PLACE: u64 = 1 << 60;
/// Entries of the table: a power of two, for the text and every buffer.
const ENTRIES: u16 = 2048;
const _: () = assert!(MOST_BUFFERS + 1 < ENTRIES as usize);
/// In our piece: the table, the ring that names its first entry for ever, the text.
const TABLE: u64 = PLACE;
const RING: u64 = PLACE + 0x8000;
const TEXT: u64 = PLACE + 0x1_0000;
const SIZE: usize = 0x1_0000 + MOST_BYTES.next_multiple_of(4096);

/// `VRING_DESC_F_NEXT` and `VRING_DESC_F_WRITE` of linux/virtio_ring.h.
const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// A place for one request at a time.
pub(super) struct Desk {
    view: View,
    queue: Queue,
    /// What the view looks at.
    _memory: Memory,
}

impl Desk {
    pub(super) fn new(memory: &Memory) -> Result<Self, DeviceError> {
        let failed = |error: &dyn ToString| {
            DeviceError::Host(
                "view guest memory",
                std::io::Error::other(error.to_string()),
            )
        };
        let mut regions = Vec::new();
        for region in memory.iter() {
            let size = usize::try_from(region.len()).map_err(|error| failed(&error))?;
            // SAFETY: the region is a mapping of that address and size, and `_memory` keeps it for as long as the
            // view is there; the object made here does not unmap it. Rust sees both only as volatile memory.
            let mapping = unsafe {
                MmapRegion::build_raw(region.as_ptr(), size, region.prot(), region.flags())
            };
            let mapping = mapping.map_err(|error| failed(&error))?;
            regions.push(GuestRegionMmap::new(mapping, region.start_addr()));
        }
        let own = MmapRegion::new(SIZE).map_err(|error| failed(&error))?;
        regions.push(GuestRegionMmap::new(own, GuestAddress(PLACE)));
        let regions: Option<Vec<_>> = regions.into_iter().collect();
        let regions = regions.ok_or_else(|| failed(&"it reaches beyond all addresses"))?;
        let view = View::from_regions(regions).map_err(|error| failed(&error))?;

        let mut queue = Queue::new(ENTRIES)?;
        queue.try_set_desc_table_address(GuestAddress(TABLE))?;
        queue.try_set_avail_ring_address(GuestAddress(RING))?;
        queue.set_ready(true);
        // Flags, the index behind the last entry, and an entry: the table's first.
        view.write_obj([0_u16, 1_u16.to_le(), 0_u16], GuestAddress(RING))
            .map_err(|error| failed(&error))?;
        Ok(Self {
            view,
            queue,
            _memory: memory.clone(),
        })
    }

    /// Makes a chain of the request's text, which lies here, and of its buffers, which are the guest's.
    pub(super) fn lay(
        &mut self,
        request: &Request,
    ) -> Result<(&View, DescriptorChain<&View>), DeviceError> {
        let broken = |_| DeviceError::Chain("it does not fit");
        self.view
            .write_slice(&request.text, GuestAddress(TEXT))
            .map_err(broken)?;
        let text = Buffer {
            at: GuestAddress(TEXT),
            size: u32::try_from(request.text.len()).unwrap_or(0),
        };
        let readable = std::iter::once(&text)
            .chain(&request.data)
            .map(|buffer| (buffer, 0));
        let writable = request.answer.iter().map(|buffer| (buffer, WRITE));
        let mut entries = readable.chain(writable).zip(0_u16..).peekable();
        while let Some(((buffer, flags), index)) = entries.next() {
            let more = if entries.peek().is_some() { NEXT } else { 0 };
            let entry = Descriptor::new(buffer.at.0, buffer.size, flags | more, index + 1);
            let at = TABLE + u64::from(index) * 16;
            self.view
                .write_obj(entry, GuestAddress(at))
                .map_err(broken)?;
        }
        self.queue.set_next_avail(0);
        let chain = self.queue.iter(&self.view)?.next();
        let chain = chain.ok_or(DeviceError::Chain("it is empty"))?;
        Ok((&self.view, chain))
    }
}

/// Writes into the chain's buffers for the answer.
pub(super) fn write(
    view: &View,
    chain: DescriptorChain<&View>,
    bytes: &[u8],
) -> std::io::Result<()> {
    Writer::new(view, chain)
        .map_err(std::io::Error::other)?
        .write_all(bytes)
}
