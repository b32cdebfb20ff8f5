//! The page of parameters for the kernel.

use linux_loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use linux_loader::configurator::linux::LinuxBootConfigurator;
use linux_loader::configurator::{BootConfigurator as _, BootParams};
use vm_memory::{Address as _, GuestAddress, GuestMemory as _, GuestMemoryRegion as _};

use super::layout::{BASE_MEMORY_END, COMMAND_LINE, HIGH_MEMORY, ZERO_PAGE};
use crate::error::{VmError, VmResult};
use crate::memory::Memory;

/// `boot_flag` of Documentation/arch/x86/boot.rst.
const BOOT_FLAG: u16 = 0xaa55;
/// "HdrS".
const HEADER: u32 = 0x5372_6448;
/// `KASLR_FLAG` of `loadflags`: the kernel shall place its page tables, direct map and vmalloc at random.
const KASLR: u8 = 1 << 1;
/// A boot loader without a number of its own.
const LOADER: u8 = 0xff;
/// The kernel's alignment is its own affair: it is loaded where its file says.
const ALIGNMENT: u32 = 0x0100_0000;
/// `E820_RAM`.
const RAM: u32 = 1;

/// Where the first root file system lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Initramfs {
    pub(crate) at: GuestAddress,
    pub(crate) size: u32,
}

pub(super) fn write(memory: &Memory, command_line_size: u32, initramfs: Initramfs) -> VmResult {
    let address = |at: GuestAddress| u32::try_from(at.raw_value()).unwrap_or(u32::MAX);
    let mut page = boot_params {
        hdr: setup_header {
            type_of_loader: LOADER,
            boot_flag: BOOT_FLAG,
            loadflags: KASLR,
            header: HEADER,
            cmd_line_ptr: address(COMMAND_LINE),
            cmdline_size: command_line_size,
            kernel_alignment: ALIGNMENT,
            ramdisk_image: address(initramfs.at),
            ramdisk_size: initramfs.size,
            ..setup_header::default()
        },
        ..boot_params::default()
    };
    let mut ranges = vec![(0, BASE_MEMORY_END)];
    for region in memory.iter() {
        let start = region.start_addr().raw_value().max(HIGH_MEMORY.raw_value());
        ranges.push((start, region.last_addr().raw_value() + 1 - start));
    }
    for ((addr, size), entry) in ranges.into_iter().zip(&mut page.e820_table) {
        *entry = boot_e820_entry {
            addr,
            size,
            type_: RAM,
        };
        page.e820_entries += 1;
    }
    let params = BootParams::new(&page, ZERO_PAGE);
    LinuxBootConfigurator::write_bootparams(&params, memory).map_err(VmError::Parameters)
}
