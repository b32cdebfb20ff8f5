//! Which device answers at an address.

use std::sync::{Arc, Mutex, PoisonError};

use crate::arch::layout;
use crate::console::Serial;
use crate::virtio::Transport;

/// Where a vCPU's reads and writes go that KVM does not serve itself.
#[derive(Clone)]
pub(crate) struct Bus {
    devices: Vec<Arc<Transport>>,
    serial: Arc<Mutex<Serial>>,
}

impl Bus {
    pub(crate) fn new(devices: Vec<Arc<Transport>>, serial: Arc<Mutex<Serial>>) -> Self {
        Self { devices, serial }
    }

    /// The device and the offset in its page.
    fn at(&self, address: u64) -> Option<(&Transport, u64)> {
        let offset = address.checked_sub(layout::VIRTIO)?;
        let index = usize::try_from(offset / layout::VIRTIO_STEP).ok()?;
        let device = self.devices.get(index)?;
        Some((device, offset % layout::VIRTIO_STEP))
    }

    /// Nobody there reads as ones, as on a bus without a device.
    pub(crate) fn read(&self, address: u64, data: &mut [u8]) {
        data.fill(0xff);
        if let Some((device, offset)) = self.at(address) {
            device.read(offset, data);
        }
    }

    pub(crate) fn write(&self, address: u64, data: &[u8]) {
        if let Some((device, offset)) = self.at(address) {
            device.write(offset, data);
        }
    }

    pub(crate) fn read_port(&self, port: u16, data: &mut [u8]) {
        data.fill(0xff);
        if let (Some(offset), [byte]) = (serial_register(port), data) {
            let mut serial = self.serial.lock().unwrap_or_else(PoisonError::into_inner);
            *byte = serial.read(offset);
        }
    }

    pub(crate) fn write_port(&self, port: u16, data: &[u8]) {
        if let (Some(offset), [byte]) = (serial_register(port), data) {
            let mut serial = self.serial.lock().unwrap_or_else(PoisonError::into_inner);
            serial.write(offset, *byte);
        }
    }
}

fn serial_register(port: u16) -> Option<u8> {
    let offset = port.checked_sub(layout::SERIAL_PORT)?;
    u8::try_from(offset).ok().filter(|&offset| offset < 8)
}
