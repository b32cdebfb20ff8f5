//! Virtio devices and the registers they are reached by (Virtual I/O Device Version 1.2).

/// Memory that the guest does not need.
pub mod balloon;
/// Block devices: files as disks.
pub mod block;
/// What a device is to the transport.
mod device;
/// Random numbers.
pub mod entropy;
/// File systems: directories of the host.
pub mod fs;
/// A driver that means harm, for tests.
#[cfg(any(test, feature = "hostile"))]
pub mod hostile;
/// A device's interrupt.
mod interrupt;
/// Network cards: taps of the host's.
pub mod net;
/// The registers of a device: virtio over MMIO.
mod transport;
/// Streams between host and guest.
pub mod vsock;

pub use device::{Device, DeviceError, Kind, Queues, Source};
pub use interrupt::Interrupt;
pub use transport::{Transport, TransportState};
