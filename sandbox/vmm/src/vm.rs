//! From a description to a running machine.

/// The thread that serves devices.
mod events;
/// What lies in guest memory before the first instruction.
mod image;

use std::fmt::Arguments;
use std::fs::File;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::arch::{self, VcpuState, layout};
use crate::bus::Bus;
use crate::config::VmConfig;
use crate::console::{Line, Log, Serial};
use crate::error::{KvmAt as _, VmError, VmResult};
use crate::kvm::Machine;
use crate::kvm::vcpu::{Stop, Vcpus};
use crate::memory;
use crate::virtio::block::Block;
use crate::virtio::entropy::Entropy;
use crate::virtio::fs::{Fs, OwnFiles, prepare_thread};
use crate::virtio::net::Net;
use crate::virtio::vsock::Vsock;
use crate::virtio::{Device, Transport, TransportState};
use events::EventThread;

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
    /// It cannot go on.
    Wrong(VmError),
}

/// What a paused machine is, but its memory, what KVM emulates, and the streams between host and guest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VmState {
    /// Each vCPU.
    pub vcpus: Vec<VcpuState>,
    /// Each device's registers, in the order of their addresses.
    pub devices: Vec<TransportState>,
}

/// A running machine. Dropped, it ends.
pub struct Vm {
    // In this order they go: vCPUs use devices, and all use the machine's memory.
    vcpus: Vcpus,
    events: Vec<EventThread>,
    devices: Vec<Arc<Transport>>,
    serial: Arc<Mutex<Serial>>,
    stops: Mutex<Receiver<Stop>>,
    _machine: Machine,
}

impl Vm {
    /// Boots the kernel. `log` gets the first MiB of what the guest writes to its serial port.
    ///
    /// # Errors
    ///
    /// Whatever is missing or does not fit.
    pub fn boot(config: &VmConfig, log: Option<File>) -> VmResult<Self> {
        let started = Instant::now();
        config.check()?;
        let machine = Machine::new(memory::anonymous(config.memory)?)?;
        let serial = attach_serial(&machine, Log::new(started, log))?;
        let devices = attach_devices(&machine, config)?;
        let entry = image::load(&machine.memory, config, devices.len())?;
        let bus = Bus::new(devices.clone(), Arc::clone(&serial));
        let (sender, stops) = channel();
        let vcpus = {
            let features = arch::features(&machine.kvm)?;
            let mut fds = Vec::new();
            for index in 0..config.vcpus {
                let fd = machine
                    .vm
                    .create_vcpu(index.into())
                    .kvm("make a processor")?;
                arch::begin(&fd, index, config.vcpus, &features, entry)?;
                fds.push(fd);
            }
            let msrs = machine
                .kvm
                .get_msr_index_list()
                .kvm("list model-specific registers")?;
            Vcpus::new(fds, &bus, &msrs.as_slice().into(), &sender)?
        };
        let events = start_devices(&devices)?;
        vcpus.resume();
        Ok(Self {
            vcpus,
            events,
            devices,
            serial,
            stops: Mutex::new(stops),
            _machine: machine,
        })
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
        })
    }

    /// Goes on after a pause.
    pub fn resume(&self) {
        self.events.iter().for_each(EventThread::resume);
        self.vcpus.resume();
    }

    /// From the call of [`Vm::boot`] to the guest's [`BOOTED`](crate::console::BOOTED), if it has come.
    #[must_use]
    pub fn boot_time(&self) -> Option<Duration> {
        let serial = self.serial.lock().unwrap_or_else(PoisonError::into_inner);
        serial.log().boot_time()
    }

    /// The last lines of what the guest wrote to its serial port.
    #[must_use]
    pub fn last_lines(&self, count: usize) -> Vec<String> {
        let serial = self.serial.lock().unwrap_or_else(PoisonError::into_inner);
        serial.log().last_lines(count)
    }
}

fn attach_serial(machine: &Machine, log: Log) -> VmResult<Arc<Mutex<Serial>>> {
    let line = machine.interrupt(layout::SERIAL_INTERRUPT)?;
    Ok(Arc::new(Mutex::new(Serial::new(Line(line), log))))
}

fn attach_devices(machine: &Machine, config: &VmConfig) -> VmResult<Vec<Arc<Transport>>> {
    let mut devices: Vec<Box<dyn Device>> = vec![Box::new(Entropy)];
    if let Some(vsock) = &config.vsock {
        let device = Vsock::bind(vsock.cid, &vsock.socket).map_err(|source| VmError::File {
            action: "listen at",
            path: vsock.socket.clone(),
            source,
        })?;
        devices.push(Box::new(device));
    }
    for disk in &config.disks {
        devices.push(Box::new(Block::open(disk)?));
    }
    for card in &config.network {
        devices.push(Box::new(Net::open(card)?));
    }
    if !config.shares.is_empty() {
        let own = OwnFiles::open().map_err(|source| VmError::File {
            action: "open",
            path: "/proc/self/fd".into(),
            source,
        })?;
        for share in &config.shares {
            devices.push(Box::new(Fs::open(share, &own)?));
        }
    }
    let most = usize::try_from(layout::LAST_INTERRUPT - layout::FIRST_INTERRUPT + 1).unwrap_or(0);
    if devices.len() > most {
        return Err(VmError::TooManyDevices { most });
    }
    devices
        .into_iter()
        .zip(0_u32..)
        .map(|(device, index)| attach(machine, device, index))
        .collect()
}

/// Starts the threads that serve devices: one for all that are quick, one for each that may be slow.
fn start_devices(devices: &[Arc<Transport>]) -> VmResult<Vec<EventThread>> {
    let (slow, quick): (Vec<_>, Vec<_>) =
        devices.iter().cloned().partition(|device| device.is_slow());
    let mut threads = vec![EventThread::start("devices", &quick, || Ok(()))?];
    for device in slow {
        threads.push(EventThread::start("share", &[device], prepare_thread)?);
    }
    Ok(threads)
}

fn attach(machine: &Machine, device: Box<dyn Device>, index: u32) -> VmResult<Arc<Transport>> {
    let interrupt = machine.interrupt(layout::FIRST_INTERRUPT + index)?;
    // `QueueNotify`.
    let bell = layout::VIRTIO + layout::VIRTIO_STEP * u64::from(index) + 0x50;
    let doorbells = (0_u32..)
        .zip(device.queue_sizes())
        .map(|(queue, _)| machine.doorbell(bell, queue))
        .collect::<VmResult<_>>()?;
    let transport = Transport::new(device, machine.memory.clone(), interrupt, doorbells)?;
    Ok(Arc::new(transport))
}
