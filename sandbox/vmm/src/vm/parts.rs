//! What a machine is made of, opened, and put together.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use kvm_ioctls::{Kvm, VcpuFd};
use vm_memory::{GuestMemory as _, GuestMemoryRegion};

use super::events::EventThread;
use super::{Vm, VmState, image};
use crate::arch::{self, Features, layout};
use crate::bus::Bus;
use crate::config::{ShareConfig, VmConfig};
use crate::console::{Line, Log, SavedSerial, Serial};
use crate::error::{KvmAt as _, VmError, VmResult};
use crate::filter::Thread;
use crate::jail::Inside;
use crate::kvm::Machine;
use crate::kvm::vcpu::Vcpus;
use crate::memory::{self, Memory};
use crate::virtio::balloon::Balloon;
use crate::virtio::block::Block;
use crate::virtio::entropy::Entropy;
use crate::virtio::fs::{Fs, OwnFiles};
use crate::virtio::net::Net;
use crate::virtio::vsock::Vsock;
use crate::virtio::{Device, Transport};

/// All that a machine takes of the host, opened: from here on no path is followed but those of shared directories.
#[derive(Debug)]
pub struct Parts {
    config: VmConfig,
    kvm: Kvm,
    kernel: File,
    initramfs: File,
    vsock: Option<Vsock>,
    disks: Vec<Block>,
    cards: Vec<Net>,
    log: Option<File>,
    started: Instant,
}

impl Parts {
    /// Opens everything. `log` gets the first MiB of what the guest writes to its serial port.
    ///
    /// # Errors
    ///
    /// Whatever is missing or out of its range.
    pub fn open(config: &VmConfig, log: Option<File>) -> VmResult<Self> {
        let started = Instant::now();
        config.check()?;
        let vsock = config.vsock.as_ref().map(|vsock| {
            Vsock::bind(vsock.cid, &vsock.socket).map_err(|source| VmError::File {
                action: "listen at",
                path: vsock.socket.clone(),
                source,
            })
        });
        Ok(Self {
            config: config.clone(),
            kvm: Kvm::new().map_err(VmError::OpenKvm)?,
            kernel: open("open the kernel", &config.kernel)?,
            initramfs: open("open the initramfs", &config.initramfs)?,
            disks: config
                .disks
                .iter()
                .map(Block::open)
                .collect::<VmResult<_>>()?,
            cards: config
                .network
                .iter()
                .map(Net::open)
                .collect::<VmResult<_>>()?,
            // After what may fail: a socket left there would be in the way of the next try.
            vsock: vsock.transpose()?,
            log,
            started,
        })
    }

    /// The files that were made and are to be removed with the machine; from now on that is the caller's to do.
    pub fn take_files(&mut self) -> Vec<PathBuf> {
        self.vsock
            .as_mut()
            .and_then(Vsock::take_path)
            .into_iter()
            .collect()
    }

    /// Puts the machine together, in the process that will run it: all but its first instruction. Its threads are
    /// confined.
    ///
    /// # Errors
    ///
    /// What does not fit, or KVM or the host refuses.
    pub fn assemble(self, inside: Option<Inside>) -> VmResult<Vm> {
        let memory = memory::anonymous(self.config.memory)?;
        let (frame, config, mut kernel, mut initramfs) = self.attach(inside, memory, None)?;
        let entry = image::load(
            &frame.machine.memory,
            &config,
            (&mut kernel, &mut initramfs),
            frame.devices.len(),
        )?;
        let vcpus = frame.make_vcpus(config.vcpus, |fd, index, features| {
            arch::begin(fd, index, config.vcpus, features, entry)
        })?;
        frame.start(vcpus)
    }

    /// Puts a machine together that goes on where another of the same parts was paused, with its memory. Streams between
    /// host and guest are not there any more.
    ///
    /// # Errors
    ///
    /// [`VmError::State`] where the state is another kind of machine's, and whatever KVM or the host refuses.
    pub fn restore(self, inside: Option<Inside>, memory: Memory, state: &VmState) -> VmResult<Vm> {
        if memory_size(&memory) != u64::from(self.config.memory) << 20 {
            return Err(VmError::State("its memory has another size"));
        }
        if !self.config.shares.is_empty() {
            // What the guest has open there is known to the old server alone.
            return Err(VmError::State("it has shared directories"));
        }
        let (frame, config, _, _) = self.attach(inside, memory, Some(&state.serial))?;
        if state.devices.len() != frame.devices.len() {
            return Err(VmError::State("it has other devices"));
        }
        if state.vcpus.len() != usize::from(config.vcpus) {
            return Err(VmError::State("it has another number of processors"));
        }
        for (device, state) in frame.devices.iter().zip(&state.devices) {
            device.restore(state)?;
        }
        let vcpus = frame.make_vcpus(config.vcpus, |fd, index, features| {
            let state = state.vcpus.get(usize::from(index)).ok_or(VmError::Ended)?;
            arch::restore(fd, index, config.vcpus, features, state)
        })?;
        state.chips.write(&frame.machine.vm)?;
        frame.start(vcpus)
    }

    /// What both have in common: memory, and devices at their places.
    fn attach(
        self,
        inside: Option<Inside>,
        memory: Memory,
        serial: Option<&SavedSerial>,
    ) -> VmResult<(Frame, VmConfig, File, File)> {
        let config = self.config;
        let shares = open_shares(&config, inside)?;
        let machine = Machine::new(self.kvm, memory)?;
        let log = Log::new(self.started, self.log);
        let serial = attach_serial(&machine, log, serial)?;
        let devices = attach_devices(
            &machine,
            (config.balloon, self.vsock),
            (self.disks, self.cards),
            shares,
        )?;
        let frame = Frame {
            machine,
            serial,
            devices,
        };
        Ok((frame, config, self.kernel, self.initramfs))
    }
}

/// A machine without processors.
struct Frame {
    machine: Machine,
    serial: Arc<Mutex<Serial>>,
    devices: Vec<Arc<Transport>>,
}

impl Frame {
    fn make_vcpus(
        &self,
        count: u8,
        begin: impl Fn(&VcpuFd, u8, &Features) -> VmResult,
    ) -> VmResult<Vec<VcpuFd>> {
        let features = arch::features(&self.machine.kvm)?;
        let make = |index: u8| {
            let fd = self.machine.vm.create_vcpu(index.into());
            let fd = fd.kvm("make a processor")?;
            begin(&fd, index, &features)?;
            Ok(fd)
        };
        (0..count).map(make).collect()
    }

    /// Starts the threads, which are confined, and wait.
    fn start(self, vcpus: Vec<VcpuFd>) -> VmResult<Vm> {
        let bus = Bus::new(self.devices.clone(), Arc::clone(&self.serial));
        let (sender, stops) = channel();
        let msrs = self.machine.kvm.get_msr_index_list();
        let msrs = msrs.kvm("list model-specific registers")?;
        let vcpus = Vcpus::new(vcpus, &bus, &msrs.as_slice().into(), &sender)?;
        Ok(Vm {
            vcpus,
            events: start_devices(&self.devices)?,
            devices: self.devices,
            serial: self.serial,
            stops: Mutex::new(stops),
            machine: self.machine,
        })
    }
}

fn memory_size(memory: &Memory) -> u64 {
    memory.iter().map(GuestMemoryRegion::len).sum()
}

fn open(action: &'static str, path: &Path) -> VmResult<File> {
    File::open(path).map_err(|source| VmError::File {
        action,
        path: path.to_owned(),
        source,
    })
}

/// In a jail only what is below its root is there to be shared.
fn open_shares(config: &VmConfig, inside: Option<Inside>) -> VmResult<Vec<Fs>> {
    if config.shares.is_empty() {
        return Ok(Vec::new());
    }
    let own = match inside {
        Some(inside) => OwnFiles::from(inside.descriptors),
        None => OwnFiles::open().map_err(|source| VmError::File {
            action: "open",
            path: "/proc/self/fd".into(),
            source,
        })?,
    };
    let open = |share: &ShareConfig| {
        let mut share = share.clone();
        if let Some(jail) = &config.jail
            && let Ok(below) = share.path.strip_prefix(&jail.root)
        {
            share.path = Path::new("/").join(below);
        }
        Fs::open(&share, &own)
    };
    config.shares.iter().map(open).collect()
}

/// Starts the threads that serve devices: one for all that are quick, one for each that may be slow.
fn start_devices(devices: &[Arc<Transport>]) -> VmResult<Vec<EventThread>> {
    let (quick, slow): (Vec<_>, Vec<_>) = devices
        .iter()
        .cloned()
        .partition(|device| device.thread() == Thread::Devices);
    let mut threads = vec![EventThread::start(Thread::Devices, &quick)?];
    for device in slow {
        threads.push(EventThread::start(device.thread(), &[device])?);
    }
    Ok(threads)
}

fn attach_serial(
    machine: &Machine,
    log: Log,
    saved: Option<&SavedSerial>,
) -> VmResult<Arc<Mutex<Serial>>> {
    let line = Line(machine.interrupt(layout::SERIAL_INTERRUPT)?);
    let serial = match saved {
        Some(saved) => Serial::restore(line, log, saved)
            .ok_or(VmError::State("its serial port holds too much"))?,
        None => Serial::new(line, log),
    };
    Ok(Arc::new(Mutex::new(serial)))
}

fn attach_devices(
    machine: &Machine,
    (balloon, vsock): (bool, Option<Vsock>),
    (disks, cards): (Vec<Block>, Vec<Net>),
    shares: Vec<Fs>,
) -> VmResult<Vec<Arc<Transport>>> {
    let mut devices: Vec<Box<dyn Device>> = vec![Box::new(Entropy)];
    if balloon {
        devices.push(Box::new(Balloon));
    }
    if let Some(vsock) = vsock {
        devices.push(Box::new(vsock));
    }
    for disk in disks {
        devices.push(Box::new(disk));
    }
    for card in cards {
        devices.push(Box::new(card));
    }
    for share in shares {
        devices.push(Box::new(share));
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
