//! Guest memory.

use std::io;

use vm_memory::{
    Address as _, GuestAddress, GuestMemory as _, GuestMemoryMmap, GuestMemoryRegion as _,
};

use crate::arch::layout;
use crate::error::{VmError, VmResult};

/// The memory of a machine; cheap to clone.
pub type Memory = GuestMemoryMmap<()>;

/// Anonymous memory of so many MiB, in one piece below the devices' addresses and one above 4 GiB. The host
/// gives pages as the guest touches them.
///
/// # Errors
///
/// [`VmError::Memory`] where the host has no address space for it.
pub fn anonymous(megabytes: u32) -> VmResult<Memory> {
    Memory::from_ranges(&layout::ranges(u64::from(megabytes) << 20)).map_err(|source| {
        VmError::Memory {
            megabytes,
            source: io::Error::other(source),
        }
    })
}

/// Where the first region ends: what the kernel needs at boot lies below.
pub(crate) fn low_end(memory: &Memory) -> GuestAddress {
    memory.iter().next().map_or(GuestAddress(0), |region| {
        region.last_addr().unchecked_add(1)
    })
}
