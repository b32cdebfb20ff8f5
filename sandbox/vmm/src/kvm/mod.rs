//! The machine: its KVM file descriptors, memory and vCPUs.

#![expect(unsafe_code, reason = "guest memory is given to KVM by address")]

/// A vCPU and its thread.
pub(crate) mod vcpu;

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{IoEventAddress, Kvm, VmFd};
use vm_memory::{Address as _, GuestMemory as _, GuestMemoryRegion as _};
use vmm_sys_util::eventfd::EventFd;

use crate::arch;
use crate::error::{KvmAt as _, VmError, VmResult};
use crate::memory::Memory;

/// A virtual machine without vCPUs.
pub(crate) struct Machine {
    pub(crate) kvm: Kvm,
    pub(crate) vm: VmFd,
    /// Held for as long as the machine: KVM knows it by address.
    pub(crate) memory: Memory,
}

impl Machine {
    /// Makes the machine, gives it memory, and what KVM emulates itself.
    pub(crate) fn new(kvm: Kvm, memory: Memory) -> VmResult<Self> {
        let vm = kvm.create_vm().kvm("make a machine")?;
        for (slot, region) in (0..).zip(memory.iter()) {
            let host = region.as_ptr();
            let region = kvm_userspace_memory_region {
                slot,
                flags: 0,
                guest_phys_addr: region.start_addr().raw_value(),
                memory_size: region.len(),
                userspace_addr: u64::try_from(host.addr()).unwrap_or(u64::MAX),
            };
            // SAFETY: the region is mapped for as long as `memory` lives, which the machine owns a share of
            // and drops after `vm`'s last use; slots do not overlap, for the regions do not.
            unsafe { vm.set_user_memory_region(region) }.kvm("give the machine its memory")?;
        }
        arch::prepare(&vm)?;
        Ok(Self { kvm, vm, memory })
    }

    /// An event that raises this input of the interrupt controller.
    pub(crate) fn interrupt(&self, input: u32) -> VmResult<EventFd> {
        let event = event("make an interrupt")?;
        self.vm
            .register_irqfd(&event, input)
            .kvm("connect an interrupt")?;
        Ok(event)
    }

    /// An event that the guest raises by writing the number of a queue at an address.
    pub(crate) fn doorbell(&self, address: u64, queue: u32) -> VmResult<EventFd> {
        let event = event("make a queue's notification")?;
        self.vm
            .register_ioevent(&event, &IoEventAddress::Mmio(address), queue)
            .kvm("connect a queue's notification")?;
        Ok(event)
    }
}

fn event(action: &'static str) -> VmResult<EventFd> {
    EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)
        .map_err(|source| VmError::Host(action, source))
}
