//! What of the processor the guest sees.

use kvm_bindings::CpuId;

use crate::error::VmResult;

/// `CPUID.1:ECX[24]`: the local timer can wait for a value of the time-stamp counter, and needs no calibration.
const TSC_DEADLINE: u32 = 1 << 24;
/// `CPUID.1:ECX[31]`: the processor is virtual.
const HYPERVISOR: u32 = 1 << 31;
/// `CPUID.1:EDX[28]`: there is more than one logical processor in the package.
const HYPER_THREADING: u32 = 1 << 28;

/// The host's features as KVM gives them, with the vCPU's own number in them. KVM leaves it to its user to name the
/// local timer's `deadline`.
pub(super) fn of(features: &CpuId, index: u8, vcpus: u8, deadline: bool) -> VmResult<CpuId> {
    let mut cpuid = features.clone();
    let number = u32::from(index);
    for entry in cpuid.as_mut_slice() {
        match entry.function {
            1 => {
                entry.ecx |= HYPERVISOR | if deadline { TSC_DEADLINE } else { 0 };
                entry.ebx = (entry.ebx & 0xffff) | number << 24 | u32::from(vcpus) << 16;
                if vcpus > 1 {
                    entry.edx |= HYPER_THREADING;
                } else {
                    entry.edx &= !HYPER_THREADING;
                }
            }
            // Intel's topology by levels: all vCPUs are cores of one package.
            0xb | 0x1f => {
                let bits = u8::BITS - (vcpus - 1).leading_zeros();
                (entry.eax, entry.ebx, entry.ecx) = match entry.index {
                    0 => (0, 1, 1 << 8),
                    1 => (bits, vcpus.into(), entry.index | 2 << 8),
                    level => (0, 0, level),
                };
                entry.edx = number;
            }
            // AMD's: the vCPU is its own core, there is one node.
            0x8000_001e => {
                entry.eax = number;
                entry.ebx = number;
                entry.ecx = 0;
            }
            0x8000_0008 => entry.ecx = u32::from(vcpus - 1),
            _ => {}
        }
    }
    Ok(cpuid)
}

#[cfg(test)]
mod tests {
    use kvm_bindings::kvm_cpuid_entry2;

    use super::*;

    fn entry(function: u32, index: u32) -> kvm_cpuid_entry2 {
        kvm_cpuid_entry2 {
            function,
            index,
            ebx: 0xaa55_1234,
            ..kvm_cpuid_entry2::default()
        }
    }

    #[test]
    fn each_processor_has_its_number_and_knows_how_many_there_are() {
        let features = [entry(1, 0), entry(0xb, 0), entry(0xb, 1)];
        let features = CpuId::from_entries(&features).expect("entries");
        let cpuid = of(&features, 3, 4, true).expect("cpuid");
        let [first, smt, core] = cpuid.as_slice() else {
            panic!("three entries");
        };
        assert_eq!(first.ebx, 0x0304_1234);
        assert_eq!(first.ecx, HYPERVISOR | TSC_DEADLINE);
        assert_ne!(first.edx & HYPER_THREADING, 0);
        assert_eq!((smt.ebx, smt.edx), (1, 3));
        assert_eq!((core.eax, core.ebx, core.edx), (2, 4, 3));
    }
}
