//! What a machine is made of, opened, and put together.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use kvm_ioctls::Kvm;

use super::events::EventThread;
use super::{Vm, image};
use crate::arch::{self, layout};
use crate::bus::Bus;
use crate::config::{ShareConfig, VmConfig};
use crate::console::{Line, Log, Serial};
use crate::error::{KvmAt as _, VmError, VmResult};
use crate::filter::Thread;
use crate::jail::Inside;
use crate::kvm::Machine;
use crate::kvm::vcpu::Vcpus;
use crate::memory;
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
    pub fn assemble(mut self, inside: Option<Inside>) -> VmResult<Vm> {
        let config = &self.config;
        let shares = open_shares(config, inside)?;
        let machine = Machine::new(self.kvm, memory::anonymous(config.memory)?)?;
        let serial = attach_serial(&machine, Log::new(self.started, self.log))?;
        let devices = attach_devices(
            &machine,
            (config.balloon, self.vsock),
            (self.disks, self.cards),
            shares,
        )?;
        let entry = image::load(
            &machine.memory,
            config,
            (&mut self.kernel, &mut self.initramfs),
            devices.len(),
        )?;
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
        Ok(Vm {
            vcpus,
            events,
            devices,
            serial,
            stops: Mutex::new(stops),
            _machine: machine,
        })
    }
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

fn attach_serial(machine: &Machine, log: Log) -> VmResult<Arc<Mutex<Serial>>> {
    let line = machine.interrupt(layout::SERIAL_INTERRUPT)?;
    Ok(Arc::new(Mutex::new(Serial::new(Line(line), log))))
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
