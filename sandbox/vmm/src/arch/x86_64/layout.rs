//! Where things lie in guest physical memory.

use vm_memory::GuestAddress;

/// The segment descriptors of the first moments.
pub(crate) const GDT: GuestAddress = GuestAddress(0x500);
/// The page of parameters for the kernel, `struct boot_params`.
pub(crate) const ZERO_PAGE: GuestAddress = GuestAddress(0x7000);
/// The top of the first stack.
pub(crate) const STACK: GuestAddress = GuestAddress(0x8ff0);
/// Three pages that map the first GiB to itself.
pub(crate) const PML4: GuestAddress = GuestAddress(0x9000);
pub(crate) const PDPT: GuestAddress = GuestAddress(0xa000);
pub(crate) const PD: GuestAddress = GuestAddress(0xb000);
/// The kernel's command line.
pub(crate) const COMMAND_LINE: GuestAddress = GuestAddress(0x2_0000);
/// How long it may be, its end included: `COMMAND_LINE_SIZE` of asm/setup.h.
pub(crate) const COMMAND_LINE_SIZE: usize = 2048;
/// The multiprocessor table, in the last KiB of base memory, where kernels look.
pub(crate) const MP_TABLE: GuestAddress = GuestAddress(0x9_fc00);
/// Where the memory ends that old firmware left to programs.
pub(crate) const BASE_MEMORY_END: u64 = 0x9_fc00;
/// Where memory goes on above the old devices.
pub(crate) const HIGH_MEMORY: GuestAddress = GuestAddress(0x10_0000);

/// From here to 4 GiB there is no memory.
pub const DEVICES: u64 = 0xc000_0000;
/// The virtio devices' registers, a page each.
pub const VIRTIO: u64 = 0xd000_0000;
/// How far they are apart.
pub const VIRTIO_STEP: u64 = 0x1000;
/// Where memory goes on.
const ABOVE_DEVICES: u64 = 1 << 32;

/// The first input of the interrupt controller for virtio devices: those below belong to old devices.
pub const FIRST_INTERRUPT: u32 = 5;
/// The last input: the controller has 24.
pub const LAST_INTERRUPT: u32 = 23;
/// The serial port's.
pub const SERIAL_INTERRUPT: u32 = 4;
/// The serial port's registers.
pub const SERIAL_PORT: u16 = 0x3f8;

/// The two interrupt controllers' registers, as every PC has them.
pub(crate) const IO_APIC: u32 = 0xfec0_0000;
pub(crate) const LOCAL_APIC: u32 = 0xfee0_0000;
/// Three pages for KVM itself, below the firmware's place at the top of 4 GiB.
pub(crate) const KVM_TSS: usize = 0xfffb_d000;

/// The guest's memory, cut at the devices.
#[must_use]
pub fn ranges(bytes: u64) -> Vec<(GuestAddress, usize)> {
    let size = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
    let low = bytes.min(DEVICES);
    let mut ranges = vec![(GuestAddress(0), size(low))];
    if bytes > low {
        ranges.push((GuestAddress(ABOVE_DEVICES), size(bytes - low)));
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_leaves_the_devices_out() {
        let gib = 1 << 30;
        assert_eq!(ranges(gib), [(GuestAddress(0), 1 << 30)]);
        assert_eq!(ranges(3 * gib), [(GuestAddress(0), 3 << 30)]);
        assert_eq!(
            ranges(5 * gib),
            [(GuestAddress(0), 3 << 30), (GuestAddress(1 << 32), 2 << 30)]
        );
    }
}
