//! Plays a driver that means harm: what the tests and the fuzz targets `virtio` and `share` run.

/// A guest that asks a shared directory for what it likes.
pub mod share;

use std::io::Write as _;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use virtio_queue::{Queue, QueueT as _};
use vm_memory::{Bytes as _, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

use super::balloon::Balloon;
use super::block::Block;
use super::entropy::Entropy;
use super::net::{Net, Wire};
use super::vsock::Vsock;
use super::{Device, DeviceError, Interrupt, Queues, Transport};
use crate::config::DiskConfig;
use crate::memory::Memory;

/// Guest memory, bytes: the rings, and what descriptors may point to.
const MEMORY: usize = 0x1_0000;
/// Each queue's table, available and used ring are so far apart.
const PART: u64 = 0x800;
const SIZE: u16 = 16;

/// A device with its queues in the driver's hands, and a host that has connected to it where it can.
pub struct Stage {
    device: Box<dyn Device>,
    memory: Memory,
    queues: Vec<Queue>,
    interrupt: Interrupt,
    _dir: tempfile::TempDir,
    host: Host,
}

/// Who is at the other end.
enum Host {
    Nobody,
    /// Of a stream.
    Stream(UnixStream),
    /// Of a wire.
    Wire(UnixDatagram),
}

/// A frame that fills several buffers of a driver's.
const FRAME: [u8; 3000] = [0x55; 3000];

impl Host {
    /// It may be full, or gone.
    fn act(&mut self) {
        match self {
            Self::Nobody => {}
            Self::Stream(stream) => drop(stream.write(b"more")),
            Self::Wire(wire) => {
                drop(wire.send(&FRAME));
                drop(wire.recv(&mut [0; 100]));
            }
        }
    }
}

/// What a round does not find: a machine that can run the test.
type Anything<T> = Result<T, Box<dyn std::error::Error>>;

impl Stage {
    /// The device of that number, counted round.
    ///
    /// # Errors
    ///
    /// Where the host has no memory, files or sockets for it.
    pub fn new(which: u8) -> Anything<Self> {
        let dir = tempfile::tempdir()?;
        let mut host = Host::Nobody;
        let mut device: Box<dyn Device> = match which % 7 {
            0 => Box::new(Entropy),
            kind @ (1 | 2) => {
                let path = dir.path().join("disk");
                std::fs::write(&path, [7; 8192])?;
                let writable = kind == 1;
                Box::new(Block::open(&DiskConfig { path, writable })?)
            }
            4 => Box::new(share::device(dir.path(), false)?),
            6 => Box::new(Balloon),
            5 => {
                let (wire, end) = Wire::pair()?;
                end.send(&FRAME)?;
                host = Host::Wire(end);
                Box::new(Net::new(wire, "02:00:00:00:00:01".parse()?, Some(1500)))
            }
            _ => {
                let path = dir.path().join("socket");
                let listener: UnixListener = Vsock::listen(&path)?;
                let mut stream = UnixStream::connect(&path)?;
                stream.write_all(b"CONNECT 1024\nhello")?;
                stream.set_nonblocking(true)?;
                host = Host::Stream(stream);
                Box::new(Vsock::new(3, listener)?)
            }
        };
        device.begin(device.features());
        let memory = Memory::from_ranges(&[(GuestAddress(0), MEMORY)])?;
        let mut queues = Vec::new();
        for (index, _) in (0_u32..).zip(device.queue_sizes()) {
            let mut queue = Queue::new(SIZE)?;
            let at = |part: u32| {
                let address = u64::from(index * 3 + part) * PART;
                u32::try_from(address).ok()
            };
            queue.set_desc_table_address(at(0), Some(0));
            queue.set_avail_ring_address(at(1), Some(0));
            queue.set_used_ring_address(at(2), Some(0));
            queue.set_ready(true);
            queues.push(queue);
        }
        Ok(Self {
            device,
            memory,
            queues,
            interrupt: Interrupt::new(EventFd::new(libc::EFD_NONBLOCK)?),
            _dir: dir,
            host,
        })
    }

    /// The driver writes all of its memory and notifies every queue; the host's events come between. Says why the
    /// device stopped, where it did.
    ///
    /// # Errors
    ///
    /// Where memory cannot be written, which it can.
    pub fn round(&mut self, bytes: &[u8]) -> Anything<Option<DeviceError>> {
        let part = bytes.get(..bytes.len().min(MEMORY)).unwrap_or_default();
        self.memory.write_slice(part, GuestAddress(0))?;
        for queue in 0..self.queues.len() {
            let mut queues = Queues::new(&self.memory, &mut self.queues, &self.interrupt);
            if let Err(error) = self.device.notified(queue, &mut queues) {
                self.device.reset();
                return Ok(Some(error));
            }
            for source in self.device.sources() {
                let mut queues = Queues::new(&self.memory, &mut self.queues, &self.interrupt);
                if let Err(error) = self.device.happened(source.token, &mut queues) {
                    self.device.reset();
                    return Ok(Some(error));
                }
            }
            self.host.act();
            self.device.unheard();
        }
        Ok(None)
    }

    /// What the driver finds in its memory.
    ///
    /// # Errors
    ///
    /// None in fact.
    pub fn memory(&self) -> Anything<Vec<u8>> {
        let mut bytes = vec![0; MEMORY];
        self.memory.read_slice(&mut bytes, GuestAddress(0))?;
        Ok(bytes)
    }
}

/// Registers in the driver's hands: five bytes are an offset and a value to write there, and each is read.
///
/// # Errors
///
/// Where the host has no memory or events for it.
pub fn registers(bytes: &[u8]) -> Anything<()> {
    let memory = Memory::from_ranges(&[(GuestAddress(0), MEMORY)])?;
    let event = || EventFd::new(libc::EFD_NONBLOCK);
    let transport = Transport::new(Box::new(Entropy), memory, event()?, vec![event()?])?;
    for chunk in bytes.chunks_exact(5) {
        let [offset, word @ ..] = chunk else {
            continue;
        };
        // Registers are four bytes apart; the last ones are the device's configuration.
        let offset = u64::from(*offset) * 4;
        transport.write(offset, word);
        for size in [1, 2, 4, 8] {
            transport.read(offset, &mut vec![0; size]);
        }
    }
    let _ = transport.state();
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_is_in_memory_a_device_goes_on_or_stops(
            which in 0_u8..7,
            rounds in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..0x3000), 1..4),
        ) {
            let mut stage = Stage::new(which).expect("a stage");
            for bytes in rounds {
                let _ = stage.round(&bytes).expect("memory");
            }
        }

        #[test]
        fn whatever_is_written_to_registers_they_answer(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            registers(&bytes).expect("a device");
        }
    }

    /// A queue with these descriptors of address, length, flags and next, all of them offered.
    fn offer(heads: &[u16], descriptors: &[Descriptor], count: u16) -> Vec<u8> {
        let mut bytes = vec![0; MEMORY];
        for (index, (address, length, flags, next)) in descriptors.iter().enumerate() {
            let at = index * 16;
            bytes[at..at + 8].copy_from_slice(&address.to_le_bytes());
            bytes[at + 8..at + 12].copy_from_slice(&length.to_le_bytes());
            bytes[at + 12..at + 14].copy_from_slice(&flags.to_le_bytes());
            bytes[at + 14..at + 16].copy_from_slice(&next.to_le_bytes());
        }
        let available = usize::try_from(PART).expect("small");
        bytes[available + 2..available + 4].copy_from_slice(&count.to_le_bytes());
        for (index, head) in heads.iter().enumerate() {
            let at = available + 4 + index * 2;
            bytes[at..at + 2].copy_from_slice(&head.to_le_bytes());
        }
        bytes
    }

    const NEXT: u16 = 1;
    const WRITE: u16 = 2;

    #[test]
    fn broken_chains_stop_or_end_but_never_hang() {
        let buffer = 0x8000;
        let cases: [(&str, Vec<u8>, bool); 5] = [
            ("good", offer(&[0], &[(buffer, 64, WRITE, 0)], 1), false),
            (
                "a circle",
                offer(&[0], &[(buffer, 8, WRITE | NEXT, 0)], 1),
                false,
            ),
            (
                "outside memory",
                offer(&[0], &[(1 << 40, 64, WRITE, 0)], 1),
                true,
            ),
            (
                "past the end of the address space",
                offer(&[0], &[(u64::MAX - 3, 64, WRITE, 0)], 1),
                true,
            ),
            (
                "more than the ring has",
                offer(&[0], &[(buffer, 64, WRITE, 0)], SIZE + 1),
                true,
            ),
        ];
        for (name, bytes, stops) in cases {
            let mut stage = Stage::new(0).expect("a stage");
            let stopped = stage.round(&bytes).expect("memory");
            assert_eq!(stopped.is_some(), stops, "{name}: {stopped:?}");
            let place = usize::try_from(buffer).expect("small");
            let after = stage.memory().expect("memory");
            let filled = after[place..place + 64].iter().any(|&byte| byte != 0);
            assert_eq!(filled, !stops, "{name}");
        }
    }

    /// A request for the disk's first sectors, whose header lies at 0x9000.
    fn request(kind: u32, sector: u64, length: u32, flags: u16) -> Vec<u8> {
        let mut bytes = offer(
            &[0],
            &[
                (0x9000, 16, NEXT, 1),
                (0xa000, length, NEXT | flags, 2),
                (0xb000, 1, WRITE, 0),
            ],
            1,
        );
        bytes[0x9000..0x9004].copy_from_slice(&kind.to_le_bytes());
        bytes[0x9008..0x9010].copy_from_slice(&sector.to_le_bytes());
        bytes[0xb000] = 0xee;
        bytes
    }

    #[test]
    fn reports_of_pages_are_taken_within_memory_only() {
        // What is reported, whether the device stops, and whether page 8 is zero afterwards. The rings are in
        // the pages before, of which no reports come.
        let page = 0x8000;
        let cases: [(Vec<Descriptor>, bool, bool); 7] = [
            (vec![(page, 0x1000, WRITE, 0)], false, true),
            (vec![(page + 1, 0x1000, WRITE, 0)], false, false),
            (vec![(page, 0x8000, WRITE, 0)], false, true),
            (vec![(page, 0x8001, WRITE, 0)], true, false),
            (vec![(page, 0x1000, 0, 0)], true, false),
            (vec![(1 << 40, 0x1000, WRITE, 0)], true, false),
            (vec![(u64::MAX - 0xfff, 0x1000, WRITE, 0)], true, false),
        ];
        let reports = usize::try_from(6 * PART).expect("small");
        for (index, (ranges, stops, gone)) in cases.into_iter().enumerate() {
            let mut stage = Stage::new(6).expect("a stage");
            let mut bytes = vec![0; MEMORY];
            // The third queue's parts are six further on.
            let offered = offer(&[0], &ranges, 1);
            bytes[reports..reports + 0x1000].copy_from_slice(&offered[..0x1000]);
            bytes[0x8000..].fill(7);
            let stopped = stage.round(&bytes).expect("memory");
            assert_eq!(stopped.is_some(), stops, "case {index}: {stopped:?}");
            let after = stage.memory().expect("memory");
            assert_eq!(
                after[0x8000..0x9000].iter().all(|&byte| byte == 0),
                gone,
                "case {index}"
            );
        }
    }

    /// Address, length, flags, next.
    type Descriptor = (u64, u32, u16, u16);

    #[test]
    fn a_disk_answers_within_its_bounds_only() {
        // A writable disk of sixteen sectors; what its status says, or nothing if it stops.
        let cases = [
            (request(0, 0, 512, WRITE), Some(0)),
            (request(0, 15, 512, WRITE), Some(0)),
            (request(0, 16, 512, WRITE), Some(1)),
            (request(0, 15, 1024, WRITE), Some(1)),
            (request(0, u64::MAX, 512, WRITE), Some(1)),
            (request(0, u64::MAX / 512, 512, WRITE), Some(1)),
            (request(0, 0, 100, WRITE), Some(1)),
            (request(1, 0, 512, 0), Some(0)),
            (request(99, 0, 512, WRITE), Some(2)),
            // A buffer that cannot be written, and one that must not be.
            (request(0, 0, 512, 0), None),
            (request(1, 0, 512, WRITE), None),
        ];
        for (index, (bytes, status)) in cases.into_iter().enumerate() {
            let mut stage = Stage::new(1).expect("a stage");
            let stopped = stage.round(&bytes).expect("memory");
            assert_eq!(
                stopped.is_none(),
                status.is_some(),
                "case {index}: {stopped:?}"
            );
            let after = stage.memory().expect("memory");
            assert_eq!(after[0xb000], status.unwrap_or(0xee), "case {index}");
            let read = status == Some(0) && bytes[0x9000] == 0;
            assert_eq!(after[0xa000] == 7, read, "case {index}");
        }
        // Not to be written.
        let mut stage = Stage::new(2).expect("a stage");
        assert!(
            stage
                .round(&request(1, 0, 512, 0))
                .expect("memory")
                .is_none()
        );
        assert_eq!(stage.memory().expect("memory")[0xb000], 1);
    }
}
