//! From a description to a running machine.

/// The thread that serves devices.
mod events;
/// What lies in guest memory before the first instruction.
mod image;
/// What a machine is made of, opened, and put together.
mod parts;

use std::fmt::Arguments;
use std::fs::File;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::arch::{ChipsState, VcpuState};
use crate::config::VmConfig;
use crate::console::{SavedSerial, Serial};
use crate::error::{VmError, VmResult};
use crate::kvm::Machine;
use crate::kvm::vcpu::{Stop, Vcpus};
use crate::memory::Memory;
use crate::virtio::{Transport, TransportState};
use events::EventThread;
pub use parts::Parts;

/// Lines that a guest's doings can make this process print.
const MOST_LINES: u32 = 100;

/// Says something on the standard error; a guest cannot make it say much.
pub(crate) fn say(what: Arguments<'_>) {
    static SAID: AtomicU32 = AtomicU32::new(0);
    if SAID.fetch_add(1, Ordering::Relaxed) < MOST_LINES {
        #[expect(clippy::print_stderr, reason = "the process's report")]
        {
            eprintln!("cofferdam-vmm: {what}");
        }
    }
}

/// How a machine ended.
#[derive(Debug)]
pub enum End {
    /// The guest reset it, as our kernels do to power off.
    Reset,
    /// The guest's kernel panicked; its last lines say why.
    Panicked,
    /// It cannot go on.
    Wrong(VmError),
}

/// What a paused machine is, but its memory, and the streams between host and guest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VmState {
    /// Each vCPU.
    pub vcpus: Vec<VcpuState>,
    /// Each device's registers, in the order of their addresses.
    pub devices: Vec<TransportState>,
    /// What KVM emulates besides the vCPUs.
    pub chips: ChipsState,
    /// The serial port.
    pub serial: SavedSerial,
}

/// A running machine. Dropped, it ends.
pub struct Vm {
    // In this order they go: vCPUs use devices, and all use the machine's memory.
    vcpus: Vcpus,
    events: Vec<EventThread>,
    devices: Vec<Arc<Transport>>,
    serial: Arc<Mutex<Serial>>,
    stops: Mutex<Receiver<Stop>>,
    machine: Machine,
}

impl Vm {
    /// Boots the kernel, outside of any jail. `log` gets the first MiB of what the guest writes to its serial port.
    ///
    /// # Errors
    ///
    /// Whatever is missing or does not fit.
    pub fn boot(config: &VmConfig, log: Option<File>) -> VmResult<Self> {
        let vm = Parts::open(config, log)?.assemble(None)?;
        vm.resume();
        Ok(vm)
    }

    /// Waits so long for the machine's end, or without limit; one thread at a time. None come where the time is up, or
    /// the end was told before.
    #[must_use]
    pub fn wait(&self, limit: Option<Duration>) -> Option<End> {
        let stops = self.stops.lock().unwrap_or_else(PoisonError::into_inner);
        let stop = match limit {
            Some(limit) => stops.recv_timeout(limit).ok()?,
            None => stops.recv().ok()?,
        };
        Some(match stop {
            Stop::Reset if self.serial().log().panicked() => End::Panicked,
            Stop::Reset => End::Reset,
            Stop::Wrong(error) => End::Wrong(error),
        })
    }

    /// Stops all vCPUs and then the devices, and tells what they are.
    ///
    /// # Errors
    ///
    /// [`VmError::Ended`] where the machine has ended meanwhile.
    pub fn pause(&self) -> VmResult<VmState> {
        // The vCPUs first: a device at rest would be woken by them again.
        let vcpus = self.vcpus.pause()?;
        self.events.iter().for_each(EventThread::pause);
        Ok(VmState {
            vcpus,
            devices: self.devices.iter().map(|device| device.state()).collect(),
            chips: ChipsState::read(&self.machine.vm)?,
            serial: self.serial().state(),
        })
    }

    /// Goes on after a pause, or begins.
    pub fn resume(&self) {
        self.events.iter().for_each(EventThread::resume);
        self.vcpus.resume();
    }

    /// Guest memory. It outlives the machine with whoever has it.
    #[must_use]
    pub fn memory(&self) -> Memory {
        self.machine.memory.clone()
    }

    /// From the call of [`Parts::open`] to the guest's [`BOOTED`](crate::console::BOOTED), if it has come.
    #[must_use]
    pub fn boot_time(&self) -> Option<Duration> {
        self.serial().log().boot_time()
    }

    /// The last lines of what the guest wrote to its serial port.
    #[must_use]
    pub fn last_lines(&self, count: usize) -> Vec<String> {
        self.serial().log().last_lines(count)
    }

    fn serial(&self) -> MutexGuard<'_, Serial> {
        self.serial.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
