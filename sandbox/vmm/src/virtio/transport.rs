//! The registers of a device: virtio over MMIO (section 4.2).

use std::sync::{Mutex, MutexGuard, PoisonError};

use event_manager::{EventOps, EventSet, EventSubscriber, Events};
use serde::{Deserialize, Serialize};
use virtio_queue::{Queue, QueueState, QueueT as _};
use vmm_sys_util::eventfd::EventFd;

use super::{Device, DeviceError, Interrupt, Queues, Source};
use crate::filter::Thread;
use crate::memory::Memory;

/// "virt".
const MAGIC: u32 = 0x7472_6976;
/// The version that is not the old one.
const VERSION: u32 = 2;
/// Ours: "cofd".
const VENDOR: u32 = 0x6466_6f63;
/// Where the device's own configuration begins.
const CONFIG: u64 = 0x100;

/// `VIRTIO_F_VERSION_1`, which a driver must accept, and `VIRTIO_F_RING_EVENT_IDX`.
const VERSION_1: u64 = 1 << 32;
const EVENT_IDX: u64 = 1 << 29;

/// Bits of the status (section 2.1).
const ACKNOWLEDGE: u32 = 1;
const DRIVER: u32 = 2;
const DRIVER_OK: u32 = 4;
const FEATURES_OK: u32 = 8;
const NEEDS_RESET: u32 = 64;
const FAILED: u32 = 128;

/// The registers, as plain data.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransportState {
    /// Which half of the offered features is read.
    pub offered_half: u32,
    /// Which half of the accepted features is written.
    pub accepted_half: u32,
    /// The features the driver accepted.
    pub accepted: u64,
    /// The queue whose registers are seen.
    pub queue: u32,
    /// How far the driver is.
    pub status: u32,
    /// Changes whenever the configuration does.
    pub generation: u32,
    /// Why an interrupt is pending.
    pub interrupt: u32,
    /// The queues.
    pub queues: Vec<SavedQueue>,
}

/// A queue, as plain data: the fields of `virtio_queue::QueueState`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedQueue {
    pub max_size: u16,
    pub next_avail: u16,
    pub next_used: u16,
    pub event_idx_enabled: bool,
    pub size: u16,
    pub ready: bool,
    pub desc_table: u64,
    pub avail_ring: u64,
    pub used_ring: u64,
}

impl From<QueueState> for SavedQueue {
    fn from(state: QueueState) -> Self {
        Self {
            max_size: state.max_size,
            next_avail: state.next_avail,
            next_used: state.next_used,
            event_idx_enabled: state.event_idx_enabled,
            size: state.size,
            ready: state.ready,
            desc_table: state.desc_table,
            avail_ring: state.avail_ring,
            used_ring: state.used_ring,
        }
    }
}

impl From<SavedQueue> for QueueState {
    fn from(saved: SavedQueue) -> Self {
        Self {
            max_size: saved.max_size,
            next_avail: saved.next_avail,
            next_used: saved.next_used,
            event_idx_enabled: saved.event_idx_enabled,
            size: saved.size,
            ready: saved.ready,
            desc_table: saved.desc_table,
            avail_ring: saved.avail_ring,
            used_ring: saved.used_ring,
        }
    }
}

/// A device and its registers.
pub struct Transport {
    interrupt: Interrupt,
    memory: Memory,
    doorbells: Vec<EventFd>,
    inner: Mutex<Inner>,
}

struct Inner {
    device: Box<dyn Device>,
    registers: TransportState,
    queues: Vec<Queue>,
    /// The doorbells that are listened to, and the device's own descriptors.
    heard: Vec<Source>,
    /// Events were passed over while the driver was not ready: they must come again.
    again: bool,
}

/// Tokens from here on are the device's own.
const OWN: u32 = 1 << 16;

impl Transport {
    /// Registers for the device. The guest rings `doorbells`, one for each queue.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Ring`] where the device names a queue size that is no power of two.
    pub fn new(
        device: Box<dyn Device>,
        memory: Memory,
        interrupt: EventFd,
        doorbells: Vec<EventFd>,
    ) -> Result<Self, DeviceError> {
        let queues = device.queue_sizes().iter().map(|&size| Queue::new(size));
        Ok(Self {
            interrupt: Interrupt::new(interrupt),
            memory,
            doorbells,
            inner: Mutex::new(Inner {
                queues: queues.collect::<Result<_, _>>()?,
                device,
                registers: TransportState::default(),
                heard: Vec::new(),
                again: false,
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which thread serves it.
    pub(crate) fn thread(&self) -> Thread {
        self.lock().device.thread()
    }

    /// The registers and queues, to be kept.
    #[must_use]
    pub fn state(&self) -> TransportState {
        let inner = self.lock();
        TransportState {
            interrupt: self.interrupt.status(),
            queues: inner
                .queues
                .iter()
                .map(|queue| queue.state().into())
                .collect(),
            ..inner.registers.clone()
        }
    }

    /// Makes the registers and queues what they were; the device itself begins anew, with the same features.
    ///
    /// # Errors
    ///
    /// [`DeviceError`] where the state is another device's, or its queues lie outside memory.
    pub fn restore(&self, state: &TransportState) -> Result<(), DeviceError> {
        let mut inner = self.lock();
        let queue = |&saved: &SavedQueue| Queue::try_from(QueueState::from(saved));
        let queues: Result<Vec<Queue>, _> = state.queues.iter().map(queue).collect();
        let queues = queues?;
        let sizes = inner.device.queue_sizes();
        let same = |(queue, &size): (&Queue, &u16)| queue.max_size() == size;
        if queues.len() != sizes.len() || !queues.iter().zip(sizes).all(same) {
            return Err(DeviceError::Chain("the queues are another device's"));
        }
        inner.queues = queues;
        inner.registers = TransportState {
            interrupt: 0,
            queues: Vec::new(),
            ..state.clone()
        };
        self.interrupt.set(state.interrupt);
        if state.status & DRIVER_OK != 0 {
            if !inner.features_fit() || !inner.begin(&self.memory) {
                return Err(DeviceError::Chain("its features or queues are none"));
            }
            inner.again = true;
            // What was in the queues then is served now.
            for bell in &self.doorbells {
                drop(bell.write(1));
            }
        }
        Ok(())
    }

    /// A read by the driver.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        if offset >= CONFIG {
            let config = self.lock().device.config();
            let from = usize::try_from(offset - CONFIG).unwrap_or(usize::MAX);
            let there = config.get(from..).unwrap_or_default();
            data.fill(0);
            for (to, byte) in data.iter_mut().zip(there) {
                *to = *byte;
            }
        } else if let Ok(word) = <&mut [u8; 4]>::try_from(data) {
            *word = self.register(offset).to_le_bytes();
        }
    }

    fn register(&self, offset: u64) -> u32 {
        match offset {
            0x00 => return MAGIC,
            0x04 => return VERSION,
            0x0c => return VENDOR,
            // Without the lock: a driver asks at each interrupt.
            0x60 => return self.interrupt.status(),
            _ => {}
        }
        let inner = self.lock();
        let registers = &inner.registers;
        let queue = || inner.queues.get(usize::try_from(registers.queue).ok()?);
        match offset {
            0x08 => inner.device.kind() as u32,
            0x10 => half(inner.offered(), registers.offered_half),
            0x34 => queue().map_or(0, |queue| queue.max_size().into()),
            0x44 => queue().map_or(0, |queue| queue.ready().into()),
            0x70 => registers.status,
            // There is no shared memory: its length is -1 (4.2.2).
            0xb0 | 0xb4 | 0xb8 | 0xbc => u32::MAX,
            0xfc => registers.generation,
            _ => 0,
        }
    }

    /// A write by the driver.
    pub fn write(&self, offset: u64, data: &[u8]) {
        let Ok(word) = <[u8; 4]>::try_from(data) else {
            return;
        };
        let value = u32::from_le_bytes(word);
        match offset {
            0x50 => self.ring(value),
            0x64 => self.interrupt.acknowledge(value),
            0x70 => self.set_status(value),
            _ => self.lock().set(offset, value),
        }
    }

    /// KVM rings the doorbells itself; this is for queues that have none.
    fn ring(&self, queue: u32) {
        if let Some(bell) = usize::try_from(queue)
            .ok()
            .and_then(|index| self.doorbells.get(index))
        {
            drop(bell.write(1));
        }
    }

    fn set_status(&self, value: u32) {
        let mut inner = self.lock();
        let before = inner.registers.status;
        if value == 0 {
            inner.reset();
            self.interrupt.set(0);
            // The event loop lets go of the device's descriptors.
            self.ring(0);
            return;
        }
        if before & NEEDS_RESET != 0 {
            return;
        }
        let added = value & !before;
        let allowed = match added {
            ACKNOWLEDGE => before == 0,
            DRIVER => before == ACKNOWLEDGE,
            FEATURES_OK => before == ACKNOWLEDGE | DRIVER && inner.features_fit(),
            DRIVER_OK => before == ACKNOWLEDGE | DRIVER | FEATURES_OK,
            FAILED => true,
            _ => false,
        };
        // Bits are only added; what is not allowed does not stick, which drivers look at.
        if before & !value != 0 || !allowed {
            return;
        }
        inner.registers.status = value;
        if added == DRIVER_OK {
            if !inner.begin(&self.memory) {
                self.stop(&mut inner);
            }
            inner.again = true;
            self.ring(0);
        }
    }

    /// The device asks for its reset, and does nothing till then.
    fn stop(&self, inner: &mut Inner) {
        inner.registers.status |= NEEDS_RESET;
        inner.registers.generation = inner.registers.generation.wrapping_add(1);
        self.interrupt.config();
    }

    fn serve(
        &self,
        work: impl FnOnce(&mut dyn Device, &mut Queues<'_>) -> Result<(), DeviceError>,
    ) {
        let mut guard = self.lock();
        let inner = &mut *guard;
        if inner.registers.status & (DRIVER_OK | NEEDS_RESET | FAILED) != DRIVER_OK {
            return;
        }
        let mut queues = Queues::new(&self.memory, &mut inner.queues, &self.interrupt);
        let outcome = work(&mut *inner.device, &mut queues);
        if queues.is_tired() {
            // All of them: it is not known which it was.
            for bell in &self.doorbells {
                drop(bell.write(1));
            }
        }
        if let Err(error) = outcome {
            crate::vm::say(format_args!(
                "the guest's {:?} device stops: {}",
                inner.device.kind(),
                crate::error::chain(&error)
            ));
            self.stop(inner);
        }
    }

    /// Listens to what the device wants to hear now.
    fn listen(&self, ops: &mut EventOps) {
        let mut inner = self.lock();
        let wanted = inner.device.sources();
        let events = |source: &Source| {
            let set = EventSet::IN | EventSet::OUT | EventSet::EDGE_TRIGGERED;
            Events::with_data_raw(source.fd, source.token.saturating_add(OWN), set)
        };
        let again = std::mem::take(&mut inner.again);
        for source in inner
            .heard
            .iter()
            .filter(|source| again || !wanted.contains(source))
        {
            // Before it is closed: the loop's own table would keep its number.
            drop(ops.remove(events(source)));
        }
        for source in wanted
            .iter()
            .filter(|source| again || !inner.heard.contains(source))
        {
            if let Err(error) = ops.add(events(source)) {
                crate::vm::say(format_args!("cannot listen to a descriptor: {error:?}"));
            }
        }
        inner.heard = wanted;
        inner.device.unheard();
    }
}

impl EventSubscriber for Transport {
    fn process(&self, events: Events, ops: &mut EventOps) {
        let token = events.data();
        if let Some(own) = token.checked_sub(OWN) {
            self.serve(|device, queues| device.happened(own, queues));
        } else {
            let index = usize::try_from(token).unwrap_or(usize::MAX);
            if let Some(bell) = self.doorbells.get(index) {
                drop(bell.read());
            }
            self.serve(|device, queues| device.notified(index, queues));
        }
        self.listen(ops);
    }

    fn init(&self, ops: &mut EventOps) {
        for (token, bell) in (0..).zip(&self.doorbells) {
            if let Err(error) = ops.add(Events::with_data(bell, token, EventSet::IN)) {
                crate::vm::say(format_args!("cannot listen to a queue: {error:?}"));
            }
        }
        self.listen(ops);
    }
}

impl Inner {
    fn offered(&self) -> u64 {
        self.device.features() | VERSION_1 | EVENT_IDX
    }

    fn features_fit(&self) -> bool {
        let accepted = self.registers.accepted;
        accepted & !self.offered() == 0 && accepted & VERSION_1 != 0
    }

    /// False where a queue is not as it must be.
    fn begin(&mut self, memory: &Memory) -> bool {
        let accepted = self.registers.accepted;
        for queue in &mut self.queues {
            queue.set_event_idx(accepted & EVENT_IDX != 0);
        }
        self.device.begin(accepted);
        self.queues
            .iter()
            .all(|queue| !queue.ready() || queue.is_valid(memory))
    }

    fn reset(&mut self) {
        self.device.reset();
        for queue in &mut self.queues {
            queue.reset();
        }
        let generation = self.registers.generation;
        self.registers = TransportState {
            generation,
            ..TransportState::default()
        };
    }

    fn set(&mut self, offset: u64, value: u32) {
        let registers = &mut self.registers;
        match offset {
            0x14 => registers.offered_half = value,
            0x20 if registers.status & FEATURES_OK == 0 => {
                registers.accepted = with_half(registers.accepted, registers.accepted_half, value);
            }
            0x24 => registers.accepted_half = value,
            0x30 => registers.queue = value,
            _ => self.set_queue(offset, value),
        }
    }

    /// A queue's registers, while the driver sets the device up.
    fn set_queue(&mut self, offset: u64, value: u32) {
        let setting_up = ACKNOWLEDGE | DRIVER | FEATURES_OK;
        if self.registers.status != setting_up {
            return;
        }
        let index = usize::try_from(self.registers.queue).unwrap_or(usize::MAX);
        let Some(queue) = self.queues.get_mut(index) else {
            return;
        };
        match offset {
            // Too large a number is ignored by the queue.
            0x38 => queue.set_size(u16::try_from(value).unwrap_or(u16::MAX)),
            0x44 => queue.set_ready(value == 1),
            0x80 => queue.set_desc_table_address(Some(value), None),
            0x84 => queue.set_desc_table_address(None, Some(value)),
            0x90 => queue.set_avail_ring_address(Some(value), None),
            0x94 => queue.set_avail_ring_address(None, Some(value)),
            0xa0 => queue.set_used_ring_address(Some(value), None),
            0xa4 => queue.set_used_ring_address(None, Some(value)),
            _ => {}
        }
    }
}

fn half(word: u64, which: u32) -> u32 {
    let bytes = word.to_le_bytes();
    let [a, b, c, d, e, f, g, h] = bytes;
    match which {
        0 => u32::from_le_bytes([a, b, c, d]),
        1 => u32::from_le_bytes([e, f, g, h]),
        _ => 0,
    }
}

fn with_half(word: u64, which: u32, value: u32) -> u64 {
    match which {
        0 => word & !u64::from(u32::MAX) | u64::from(value),
        1 => word & u64::from(u32::MAX) | u64::from(value) << 32,
        _ => word,
    }
}
