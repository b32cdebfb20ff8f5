use std::os::unix::net::UnixDatagram;

use virtio_queue::{Queue, QueueT as _};
use vm_memory::{Bytes as _, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

use super::*;
use crate::memory::Memory;
use crate::virtio::Interrupt;

const SIZE: u16 = 128;
/// The queues' tables and rings, and where buffers begin.
const PART: u64 = 0x1000;
const BUFFERS_AT: u64 = 0x10_0000;
const MEMORY: usize = 4 << 20;
/// Address, length, direction.
type Buffer = (u64, u32, u16);

const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// A card, whoever is at the other end of its wire, and the driver's memory.
struct Bench {
    net: Net,
    other: UnixDatagram,
    memory: Memory,
    queues: Vec<Queue>,
    interrupt: Interrupt,
    event: EventFd,
    /// How many chains were offered in each queue.
    offered: [u16; 2],
}

impl Bench {
    fn new(features: u64) -> Self {
        let (wire, other) = Wire::pair().expect("a wire");
        let mut net = Net::new(
            wire,
            "02:00:00:00:00:01".parse().expect("an address"),
            Some(1400),
        );
        net.begin(features);
        let memory = Memory::from_ranges(&[(GuestAddress(0), MEMORY)]).expect("memory");
        let queues = (0..2).map(|index| {
            let mut queue = Queue::new(SIZE).expect("a queue");
            let at = |part: u64| u32::try_from((index * 3 + part) * PART).ok();
            queue.set_desc_table_address(at(0), Some(0));
            queue.set_avail_ring_address(at(1), Some(0));
            queue.set_used_ring_address(at(2), Some(0));
            queue.set_ready(true);
            queue
        });
        let event = EventFd::new(libc::EFD_NONBLOCK).expect("an event");
        Self {
            net,
            other,
            memory,
            queues: queues.collect(),
            interrupt: Interrupt::new(event.try_clone().expect("clone")),
            event,
            offered: [0; 2],
        }
    }

    /// Offers a chain of buffers, each chain in descriptors of its own.
    fn offer(&mut self, queue: usize, first: u16, buffers: &[Buffer]) {
        let base = u64::try_from(queue).expect("small") * 3 * PART;
        let count = u16::try_from(buffers.len()).expect("few");
        for (index, &(at, length, direction)) in (first..).zip(buffers) {
            let is_last = index + 1 == first + count;
            let flags = direction | if is_last { 0 } else { NEXT };
            let mut bytes = at.to_le_bytes().to_vec();
            bytes.extend(length.to_le_bytes());
            bytes.extend(flags.to_le_bytes());
            bytes.extend((index + 1).to_le_bytes());
            self.put(base + u64::from(index) * 16, &bytes);
        }
        let offered = self.offered[queue];
        self.put(
            base + PART + 4 + u64::from(offered % SIZE) * 2,
            &first.to_le_bytes(),
        );
        self.offered[queue] += 1;
        self.put(base + PART + 2, &self.offered[queue].to_le_bytes());
    }

    fn put(&self, at: u64, bytes: &[u8]) {
        self.memory
            .write_slice(bytes, GuestAddress(at))
            .expect("within memory");
    }

    fn get(&self, at: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.memory
            .read_slice(&mut bytes, GuestAddress(at))
            .expect("within memory");
        bytes
    }

    /// The chains that came back: how many in all, and of the last ones head and length.
    fn used(&self, queue: usize) -> (u16, Vec<(u32, u32)>) {
        let base = u64::try_from(queue).expect("small") * 3 * PART + 2 * PART;
        let count = u16::from_le_bytes(self.get(base + 2, 2).try_into().expect("two"));
        let number = |at| u32::from_le_bytes(self.get(at, 4).try_into().expect("four"));
        let entries = (0..count.min(SIZE)).map(|index| {
            let at = base + 4 + u64::from(index) * 8;
            (number(at), number(at + 4))
        });
        (count, entries.collect())
    }

    fn call(
        &mut self,
        what: impl FnOnce(&mut Net, &mut Queues<'_>) -> Result<(), DeviceError>,
    ) -> (Result<(), DeviceError>, bool) {
        let mut queues = Queues::new(&self.memory, &mut self.queues, &self.interrupt);
        let outcome = what(&mut self.net, &mut queues);
        (outcome, queues.is_tired())
    }

    fn notify(&mut self, queue: usize) -> Result<(), DeviceError> {
        self.call(|net, queues| net.notified(queue, queues)).0
    }

    fn happen(&mut self) -> Result<(), DeviceError> {
        self.call(|net, queues| net.happened(0, queues)).0
    }
}

/// A header and so many bytes that differ.
fn frame(length: usize) -> Vec<u8> {
    let mut frame = vec![0; HEADER];
    frame.extend((0..length).map(|index| u8::try_from(index % 251).unwrap_or(0)));
    frame
}

#[test]
fn the_driver_reads_address_and_mtu() {
    let bench = Bench::new(0);
    assert_eq!(bench.net.config(), [2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0x78, 5]);
    assert_eq!(bench.net.features() & (MAC | MTU), MAC | MTU);
    let (wire, _other) = Wire::pair().expect("a wire");
    let without = Net::new(wire, "02:00:00:00:00:01".parse().expect("an address"), None);
    assert_eq!(without.features() & MTU, 0);
}

#[test]
fn a_frame_fills_as_many_buffers_as_it_needs_and_they_come_back_at_once() {
    let mut bench = Bench::new(MRG_RXBUF | GUEST_CSUM | GUEST_TSO4);
    let sent = frame(4000);
    bench.other.send(&sent).expect("send");
    // Nowhere to put it: it waits, and no interrupt is raised for nothing.
    bench.happen().expect("go on");
    assert_eq!(bench.used(RX).0, 0);
    for index in 0..2 {
        let at = BUFFERS_AT + u64::from(index) * 0x1000;
        bench.offer(RX, index, &[(at, 1526, WRITE)]);
    }
    drop(bench.event.read());
    bench.notify(RX).expect("go on");
    // Two of three buffers are not enough, and stay the driver's to fill up.
    assert_eq!(bench.used(RX).0, 0);
    bench.offer(
        RX,
        2,
        &[
            (BUFFERS_AT + 0x2000, 1000, WRITE),
            (BUFFERS_AT + 0x3000, 3000, WRITE),
        ],
    );
    bench.notify(RX).expect("go on");
    let (count, entries) = bench.used(RX);
    assert_eq!((count, entries), (3, vec![(0, 1526), (1, 1526), (2, 960)]));
    assert!(bench.event.read().is_ok(), "it is told");
    let mut got = bench.get(BUFFERS_AT, 1526);
    got.extend(bench.get(BUFFERS_AT + 0x1000, 1526));
    got.extend(bench.get(BUFFERS_AT + 0x2000, 960));
    assert_eq!(got[BUFFERS], [3, 0]);
    assert_eq!(got[HEADER..], sent[HEADER..]);
    // What was not needed was not touched.
    assert_eq!(bench.get(BUFFERS_AT + 0x2000 + 960, 40), [0; 40]);
}

/// A driver that wants to hear of the third buffer that comes back hears of the three of one frame.
#[test]
fn buffers_that_come_back_together_are_told() {
    let mut bench = Bench::new(MRG_RXBUF);
    bench.queues[RX].set_event_idx(true);
    // `used_event`, behind the available ring: tell when the first has come back.
    bench.put(PART + 4 + u64::from(SIZE) * 2, &0_u16.to_le_bytes());
    for index in 0..3 {
        bench.offer(
            RX,
            index,
            &[(BUFFERS_AT + u64::from(index) * 0x1000, 1500, WRITE)],
        );
    }
    bench.other.send(&frame(4000)).expect("send");
    bench.happen().expect("go on");
    assert_eq!(bench.used(RX).0, 3);
    assert!(bench.event.read().is_ok());
}

#[test]
fn without_merging_a_frame_has_one_buffer_and_a_larger_one_is_lost() {
    let mut bench = Bench::new(0);
    bench.offer(RX, 0, &[(BUFFERS_AT, 1526, WRITE)]);
    bench.other.send(&frame(2000)).expect("send");
    bench.other.send(&frame(100)).expect("send");
    bench.happen().expect("go on");
    assert_eq!(bench.used(RX), (1, vec![(0, 112)]));
    assert_eq!(bench.get(BUFFERS_AT, 112)[BUFFERS], [1, 0]);
}

#[test]
fn frames_go_out_in_order_and_wait_for_a_full_wire() {
    let mut bench = Bench::new(CSUM | HOST_TSO4);
    // The kernel's buffers fill up at some point.
    let (mut sent, mut got) = (0_u16, 0_u16);
    let mut buffer = [0; 70_000];
    let mut stalled = false;
    for round in 0..400_u16 {
        let mut bytes = frame(2000);
        bytes[HEADER..HEADER + 2].copy_from_slice(&round.to_le_bytes());
        if sent - bench.used(TX).0 == SIZE {
            // The ring is full: the other end must read before it goes on.
            stalled = true;
            while let Ok(length) = bench.other.recv(&mut buffer) {
                assert_eq!(length, 2012);
                assert_eq!(buffer[HEADER..HEADER + 2], got.to_le_bytes());
                got += 1;
            }
            bench.happen().expect("go on");
        }
        let at = BUFFERS_AT + u64::from(round % SIZE) * 0x2000;
        bench.put(at, &bytes);
        bench.offer(TX, round % SIZE, &[(at, 2012, 0)]);
        sent += 1;
        bench.notify(TX).expect("go on");
    }
    assert!(stalled, "the wire took all");
    while got < sent {
        match bench.other.recv(&mut buffer) {
            Ok(_) => {
                assert_eq!(buffer[HEADER..HEADER + 2], got.to_le_bytes());
                got += 1;
            }
            Err(_) => bench.happen().expect("go on"),
        }
    }
    assert_eq!(bench.used(TX).0, sent);
}

#[test]
fn headers_carry_only_what_was_agreed_on() {
    // Features, flags and kind of segments; the flags that go out, or nothing if the device stops.
    let all = CSUM | HOST_TSO4 | HOST_TSO6;
    let cases = [
        (all, 1, 0, Some(1)),
        (all, 0xff, 1, Some(1)),
        (all, 1, 4, Some(1)),
        (all, 1, 3, None),
        (all, 1, 5, None),
        (all, 1, 0x81, None),
        (CSUM, 1, 0, Some(1)),
        (CSUM, 1, 1, None),
        (HOST_TSO4, 1, 1, None),
        (CSUM | HOST_TSO4, 1, 4, None),
        (0, 1, 0, Some(0)),
    ];
    for (index, (features, flags, segments, goes)) in cases.into_iter().enumerate() {
        let mut bench = Bench::new(features);
        let mut bytes = frame(60);
        (bytes[FLAGS], bytes[SEGMENTS]) = (flags, segments);
        bench.put(BUFFERS_AT, &bytes);
        bench.offer(TX, 0, &[(BUFFERS_AT, 72, 0)]);
        let outcome = bench.notify(TX);
        assert_eq!(outcome.is_ok(), goes.is_some(), "case {index}: {outcome:?}");
        let mut got = [0; 100];
        let length = bench.other.recv(&mut got).ok();
        assert_eq!(length, goes.map(|_| 72), "case {index}");
        assert_eq!(goes.map_or(0, |flags| flags), got[FLAGS], "case {index}");
    }
}

#[test]
fn chains_that_are_no_frames_stop_the_device() {
    let huge = u32::try_from(LONGEST).expect("small") + 1;
    let cases: [(&str, usize, Vec<Buffer>); 7] = [
        ("too short", TX, vec![(BUFFERS_AT, 11, 0)]),
        ("empty", TX, vec![(BUFFERS_AT, 0, 0)]),
        ("too long", TX, vec![(BUFFERS_AT, huge, 0)]),
        (
            "too long together",
            TX,
            vec![(BUFFERS_AT, 60_000, 0), (BUFFERS_AT, 60_000, 0)],
        ),
        ("outside memory", TX, vec![(u64::MAX - 100, 72, 0)]),
        ("to be written", TX, vec![(BUFFERS_AT, 72, WRITE)]),
        ("to be read", RX, vec![(BUFFERS_AT, 1526, 0)]),
    ];
    for (name, queue, buffers) in cases {
        let mut bench = Bench::new(CSUM | MRG_RXBUF);
        bench.other.send(&frame(60)).expect("send");
        bench.offer(queue, 0, &buffers);
        assert!(bench.notify(queue).is_err(), "{name}");
        assert!(
            bench.other.recv(&mut [0; 100]).is_err(),
            "{name}: it went out"
        );
        assert_eq!(bench.used(queue).0, 0, "{name}");
    }
    let mut bench = Bench::new(MRG_RXBUF);
    bench.other.send(&frame(60)).expect("send");
    bench.offer(RX, 0, &[(u64::MAX - 100, 72, WRITE)]);
    assert!(bench.happen().is_err());
}

/// Buffers of no bytes, offered without end, hold no frame.
#[test]
fn buffers_that_hold_nothing_do_not_keep_it_busy() {
    let mut bench = Bench::new(MRG_RXBUF);
    bench.other.send(&frame(60)).expect("send");
    let most = u16::try_from(MOST_MERGED).expect("small") - 1;
    for index in 0..most {
        bench.offer(RX, index, &[(BUFFERS_AT, 0, WRITE)]);
    }
    // The next one might hold it.
    let (outcome, tired) = bench.call(|net, queues| net.happened(0, queues));
    assert!(outcome.is_ok() && !tired, "{outcome:?}");
    bench.offer(RX, most, &[(BUFFERS_AT, 0, WRITE)]);
    assert!(bench.notify(RX).is_err());
    assert_eq!(bench.used(RX).0, 0);
}

/// A guest that sends as fast as it is served keeps the thread for a few megabytes at most.
#[test]
fn one_call_moves_so_much_and_no_more() {
    let mut bench = Bench::new(CSUM | HOST_TSO4);
    // A wire that leads nowhere takes all there is.
    bench.other = UnixDatagram::unbound().expect("a socket");
    for index in 0..100 {
        bench.offer(TX, index, &[(BUFFERS_AT, 60_000, 0)]);
    }
    let (outcome, tired) = bench.call(|net, queues| net.notified(TX, queues));
    assert!(outcome.is_ok() && tired);
    assert_eq!(usize::from(bench.used(TX).0), MOST_BYTES / 60_000 + 1);
    let (outcome, tired) = bench.call(|net, queues| net.notified(TX, queues));
    assert!(outcome.is_ok() && !tired);
    assert_eq!(bench.used(TX).0, 100);
}

#[test]
fn a_reset_forgets_the_frame_that_waits() {
    let mut bench = Bench::new(MRG_RXBUF);
    bench.other.send(&frame(60)).expect("send");
    bench.happen().expect("go on");
    bench.net.reset();
    bench.net.begin(MRG_RXBUF);
    bench.offer(RX, 0, &[(BUFFERS_AT, 1526, WRITE)]);
    bench.notify(RX).expect("go on");
    assert_eq!(bench.used(RX).0, 0);
    bench.other.send(&frame(61)).expect("send");
    bench.happen().expect("go on");
    assert_eq!(bench.used(RX), (1, vec![(0, 73)]));
}
