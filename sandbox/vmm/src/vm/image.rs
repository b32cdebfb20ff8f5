//! What lies in guest memory before the first instruction.

use std::fs::File;
use std::io::{Seek as _, SeekFrom};

use linux_loader::cmdline::Cmdline;
use linux_loader::loader::{Elf, KernelLoader as _, load_cmdline};
use vm_memory::{Address as _, Bytes as _, GuestAddress};

use crate::arch::{self, Initramfs, layout};
use crate::config::VmConfig;
use crate::error::{VmError, VmResult};
use crate::memory::{self, Memory};

/// Console and clock as the machine has them; a panic resets it, which ends it, by a triple fault. Its reports come
/// in spite of `quiet`.
const COMMAND_LINE: &str =
    "console=ttyS0 quiet reboot=t panic=-1 tsc=reliable no_timer_check 8250.nr_uarts=1";
/// Guest pages, bytes.
const PAGE: u64 = 4096;

/// Puts kernel, first root file system, command line and parameters into memory; returns the kernel's entry.
pub(super) fn load(
    memory: &Memory,
    config: &VmConfig,
    (kernel, initramfs): (&mut File, &mut File),
    devices: usize,
) -> VmResult<GuestAddress> {
    let loaded = Elf::load(memory, None, kernel, Some(layout::HIGH_MEMORY)).map_err(|source| {
        VmError::Kernel {
            path: config.kernel.clone(),
            source,
        }
    })?;
    let initramfs = load_initramfs(memory, config, initramfs, loaded.kernel_end)?;
    let line = command_line(config, devices).map_err(VmError::CommandLine)?;
    load_cmdline(memory, layout::COMMAND_LINE, &line).map_err(|source| VmError::Kernel {
        path: config.kernel.clone(),
        source,
    })?;
    let size = line
        .as_cstring()
        .map_or(0, |line| line.as_bytes_with_nul().len());
    arch::write_boot_data(
        memory,
        config.vcpus,
        u32::try_from(size).unwrap_or(0),
        initramfs,
    )?;
    Ok(loaded.kernel_load)
}

/// At the end of low memory, where the kernel's own growth does not reach.
fn load_initramfs(
    memory: &Memory,
    config: &VmConfig,
    file: &mut File,
    kernel_end: u64,
) -> VmResult<Initramfs> {
    let failed = |source| VmError::File {
        action: "read the initramfs",
        path: config.initramfs.clone(),
        source,
    };
    let size = file.seek(SeekFrom::End(0)).map_err(failed)?;
    file.rewind().map_err(failed)?;
    let end = memory::low_end(memory).raw_value();
    let too_small = VmError::TooSmall {
        megabytes: config.memory,
        needed: kernel_end.saturating_add(size),
    };
    let at = end
        .checked_sub(size)
        .map(|at| at & !(PAGE - 1))
        .filter(|&at| at >= kernel_end);
    let (Some(at), Ok(size)) = (at.map(GuestAddress), u32::try_from(size)) else {
        return Err(too_small);
    };
    let length = usize::try_from(size).unwrap_or(usize::MAX);
    memory
        .read_exact_volatile_from(at, file, length)
        .map_err(|source| VmError::Place {
            what: "the initramfs",
            at,
            source,
        })?;
    Ok(Initramfs { at, size })
}

/// Ours, the devices, and what the description adds.
fn command_line(
    config: &VmConfig,
    devices: usize,
) -> Result<Cmdline, linux_loader::cmdline::Error> {
    let mut line = Cmdline::new(layout::COMMAND_LINE_SIZE)?;
    line.insert_str(COMMAND_LINE)?;
    for (index, interrupt) in (0..devices).zip(layout::FIRST_INTERRUPT..) {
        let at =
            GuestAddress(layout::VIRTIO + layout::VIRTIO_STEP * u64::try_from(index).unwrap_or(0));
        line.add_virtio_mmio_device(layout::VIRTIO_STEP, at, interrupt, None)?;
    }
    if !config.command_line.is_empty() {
        line.insert_str(&config.command_line)?;
    }
    Ok(line)
}
