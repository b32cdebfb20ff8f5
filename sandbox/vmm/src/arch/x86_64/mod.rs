//! x86-64: the 64-bit boot protocol of Linux (Documentation/arch/x86/boot.rst), without firmware.

/// What KVM emulates of a machine besides its processors.
mod chips;
/// What of the processor the guest sees.
mod cpuid;
/// Where things lie in guest physical memory.
pub mod layout;
/// The table that tells the kernel its processors and interrupt controller.
mod mptable;
/// The registers a vCPU begins with, and all that it has.
mod registers;
/// Floating point and vector registers.
mod vectors;
/// The page of parameters for the kernel.
mod zero_page;

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, KVM_PIT_SPEAKER_DUMMY, kvm_pit_config};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};
use vm_memory::GuestAddress;

use crate::error::{KvmAt as _, VmResult};
use crate::memory::Memory;

pub use chips::ChipsState;
pub use registers::VcpuState;
pub(crate) use zero_page::Initramfs;

/// Makes what KVM emulates itself. Before the vCPUs: they get their local interrupt controllers from it.
pub(crate) fn prepare(vm: &VmFd) -> VmResult {
    // Three pages that KVM wants for itself on Intel; any free place will do.
    vm.set_tss_address(layout::KVM_TSS)
        .kvm("reserve its task state")?;
    vm.create_irq_chip().kvm("make the interrupt controllers")?;
    let pit = kvm_pit_config {
        flags: KVM_PIT_SPEAKER_DUMMY,
        ..kvm_pit_config::default()
    };
    vm.create_pit2(pit).kvm("make the timer")
}

/// What KVM can give to guests.
#[derive(Debug)]
pub(crate) struct Features {
    cpuid: CpuId,
    /// The local timer waits for the time-stamp counter.
    deadline: bool,
}

/// What of the host's processor KVM can give to guests.
pub(crate) fn features(kvm: &Kvm) -> VmResult<Features> {
    let cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES);
    Ok(Features {
        cpuid: cpuid.kvm("tell the processor's features")?,
        deadline: kvm.check_extension(Cap::TscDeadlineTimer),
    })
}

/// Writes what the kernel reads at boot.
pub(crate) fn write_boot_data(
    memory: &Memory,
    vcpus: u8,
    command_line_size: u32,
    initramfs: Initramfs,
) -> VmResult {
    mptable::write(memory, vcpus)?;
    zero_page::write(memory, command_line_size, initramfs)?;
    registers::write_tables(memory)
}

/// Gives a vCPU its features, and all else as it was in another machine.
pub(crate) fn restore(
    vcpu: &VcpuFd,
    index: u8,
    vcpus: u8,
    features: &Features,
    state: &VcpuState,
) -> VmResult {
    let cpuid = cpuid::of(&features.cpuid, index, vcpus, features.deadline)?;
    vcpu.set_cpuid2(&cpuid).kvm("set a processor's features")?;
    state.write(vcpu)
}

/// Gives a vCPU its features and interrupt lines, and the first one the kernel's entry.
pub(crate) fn begin(
    vcpu: &VcpuFd,
    index: u8,
    vcpus: u8,
    features: &Features,
    entry: GuestAddress,
) -> VmResult {
    let cpuid = cpuid::of(&features.cpuid, index, vcpus, features.deadline)?;
    vcpu.set_cpuid2(&cpuid).kvm("set a processor's features")?;
    registers::set_interrupt_lines(vcpu)?;
    // The others wait for the kernel's start-up interrupt.
    if index == 0 {
        registers::set_entry(vcpu, entry)?;
    }
    Ok(())
}
