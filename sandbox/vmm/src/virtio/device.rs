//! What a device is to the transport.

use std::os::fd::RawFd;

use virtio_queue::{DescriptorChain, Queue, QueueOwnedT as _, QueueT as _};
use vm_memory::{Bytes as _, GuestAddress};

use super::Interrupt;
use crate::filter::Thread;
use crate::memory::Memory;

/// The number of a kind of device (section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A network card.
    Network = 1,
    /// A disk.
    Block = 2,
    /// Random numbers.
    Entropy = 4,
    /// Memory that the guest does not need.
    Balloon = 5,
    /// Streams between host and guest.
    Vsock = 19,
    /// A directory of the host.
    FileSystem = 26,
}

/// The guest broke the device's rules, or the host cannot go on: the device stops and asks for its reset.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// A ring that is not where it may be, or runs in circles.
    #[error("a queue's ring is broken")]
    Ring(#[from] virtio_queue::Error),
    /// A descriptor that does not belong there.
    #[error("a chain of descriptors is broken: {0}")]
    Chain(&'static str),
    /// The host fails.
    #[error("the host cannot {0}")]
    Host(&'static str, #[source] std::io::Error),
}

/// A file descriptor of the host whose events the device wants to hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// The descriptor; open for as long as it is listed.
    pub fd: RawFd,
    /// What the device is told it by.
    pub token: u32,
}

/// What is put into a queue for the device and taken out of it.
pub(super) type Chain<'a> = DescriptorChain<&'a Memory>;

/// A running device's queues, its memory and its interrupt.
#[derive(Debug)]
pub struct Queues<'a> {
    pub(super) memory: &'a Memory,
    pub(super) queues: &'a mut [Queue],
    pub(super) interrupt: &'a Interrupt,
    /// How many chains may still be taken in this call.
    left: u16,
    /// The ring does not know how much came back in this call.
    must_tell: bool,
}

/// The chains that a device takes in one call: no more than a full ring, so that a guest that fills it as fast as it
/// is emptied keeps the thread from no other device.
const MOST_CHAINS: u16 = 256;

/// What a used ring begins with, and one entry of it, bytes (section 2.7.8).
const USED_HEADER: u64 = 4;
const USED_ELEMENT: u64 = 8;

impl<'a> Queues<'a> {
    /// For a device's own tests and the fuzz targets; the transport makes them else.
    pub fn new(memory: &'a Memory, queues: &'a mut [Queue], interrupt: &'a Interrupt) -> Self {
        Self {
            memory,
            queues,
            interrupt,
            left: MOST_CHAINS,
            must_tell: false,
        }
    }

    /// Guest memory.
    #[must_use]
    pub const fn memory(&self) -> &'a Memory {
        self.memory
    }

    /// The next chain that the guest put into the queue. After the last one the guest rings for new ones. None come,
    /// either, once so many were taken as one call may: then the device is called again.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Ring`] where the guest claims more entries than the ring has.
    pub fn next(&mut self, index: usize) -> Result<Option<Chain<'a>>, DeviceError> {
        let Some(queue) = self.queues.get_mut(index) else {
            return Ok(None);
        };
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        if let Some(chain) = queue.iter(self.memory)?.next() {
            return Ok(Some(chain));
        }
        // From now on the guest rings for what it adds; what it has added meanwhile it did not ring for.
        if queue.enable_notification(self.memory)? {
            return Ok(queue.iter(self.memory)?.next());
        }
        Ok(None)
    }

    /// The device has done enough in this call: it takes no more chains, and is called again.
    pub fn tire(&mut self) {
        self.left = 0;
    }

    /// Whether the device stopped because it took so many as it may.
    pub(super) const fn is_tired(&self) -> bool {
        self.left == 0
    }

    /// Puts the last chain back: it will be the next again.
    pub fn put_back(&mut self, index: usize) {
        if let Some(queue) = self.queues.get_mut(index) {
            queue.go_to_previous_position();
        }
    }

    /// Gives a chain back to the guest, with so many bytes written into it.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Ring`] where the used ring cannot be written.
    pub fn done(&mut self, index: usize, head: u16, written: u32) -> Result<(), DeviceError> {
        match self.queues.get_mut(index) {
            Some(queue) => Ok(queue.add_used(self.memory, head, written)?),
            None => Ok(()),
        }
    }

    /// Gives several chains back at once: the guest sees all of them or none.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Ring`] where the used ring cannot be written.
    pub fn done_all(&mut self, index: usize, chains: &[(u16, u32)]) -> Result<(), DeviceError> {
        let Some((&(last, written), before)) = chains.split_last() else {
            return Ok(());
        };
        if let Some(queue) = self.queues.get_mut(index) {
            // The index, which says how many there are, is written by `add_used` alone.
            let mut next = queue.next_used();
            for &(head, written) in before {
                let place = u64::from(next % queue.size().max(1)) * USED_ELEMENT + USED_HEADER;
                let mut entry = [0; 8];
                let (id, length) = entry.split_at_mut(4);
                id.copy_from_slice(&u32::from(head).to_le_bytes());
                length.copy_from_slice(&written.to_le_bytes());
                let at = queue.used_ring().checked_add(place).map(GuestAddress);
                let at = at.ok_or(virtio_queue::Error::AddressOverflow)?;
                self.memory
                    .write_slice(&entry, at)
                    .map_err(virtio_queue::Error::GuestMemory)?;
                next = next.wrapping_add(1);
            }
            queue.set_next_used(next);
            self.must_tell |= !before.is_empty();
        }
        self.done(index, last, written)
    }

    /// Interrupts the guest if it wants to know that chains came back.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Ring`] where the ring cannot be read.
    pub fn tell(&mut self, index: usize) -> Result<(), DeviceError> {
        if let Some(queue) = self.queues.get_mut(index)
            && (queue.needs_notification(self.memory)? || self.must_tell)
        {
            self.interrupt.used();
        }
        Ok(())
    }
}

/// A virtio device. The transport calls it on the thread that serves events, one call at a time.
pub trait Device: Send {
    /// Its number.
    fn kind(&self) -> Kind;
    /// The features it offers, besides those of the transport.
    fn features(&self) -> u64 {
        0
    }
    /// How many entries each of its queues may have.
    fn queue_sizes(&self) -> &'static [u16];
    /// Its configuration; what lies outside reads as zero.
    fn config(&self) -> Vec<u8> {
        Vec::new()
    }
    /// The driver is ready, with these features of the offered ones.
    fn begin(&mut self, features: u64) {
        let _ = features;
    }
    /// The driver forgets all about the device.
    fn reset(&mut self);
    /// The guest put something into a queue.
    ///
    /// # Errors
    ///
    /// [`DeviceError`]; the device then stops until its reset.
    fn notified(&mut self, queue: usize, queues: &mut Queues<'_>) -> Result<(), DeviceError>;
    /// Something happened at a file descriptor.
    ///
    /// # Errors
    ///
    /// [`DeviceError`]; the device then stops until its reset.
    fn happened(&mut self, token: u32, queues: &mut Queues<'_>) -> Result<(), DeviceError> {
        let _ = (token, queues);
        Ok(())
    }
    /// The kind of thread that serves it: where that is not the devices', one of its own, for a request may take long.
    fn thread(&self) -> Thread {
        Thread::Devices
    }
    /// The file descriptors it listens to now; asked again after each call.
    fn sources(&self) -> Vec<Source> {
        Vec::new()
    }
    /// What it listed before and lists no more is not listened to any longer, and may be closed.
    fn unheard(&mut self) {}
}
