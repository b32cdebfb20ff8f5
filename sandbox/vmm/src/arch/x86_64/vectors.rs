//! Floating point and vector registers.

#![expect(unsafe_code, reason = "the size of what KVM reads is not in its type")]

use kvm_bindings::kvm_xsave;
use kvm_ioctls::VcpuFd;

use crate::error::{KvmAt as _, VmError, VmResult};

/// Words of the area that `KVM_GET_XSAVE` gives. What has more (tiles) a process must ask for, and this one does not.
const WORDS: usize = 1024;

/// The area as the processor writes it with `xsave` (Intel SDM volume 1, 13.4): all vectors, in full.
pub(super) fn read(vcpu: &VcpuFd) -> VmResult<Vec<u32>> {
    let area = vcpu.get_xsave().kvm("read a processor's vectors")?;
    Ok(area.region.to_vec())
}

pub(super) fn write(vcpu: &VcpuFd, words: &[u32]) -> VmResult {
    let region = <[u32; WORDS]>::try_from(words).map_err(|_| VmError::Kvm {
        action: "set a processor's vectors",
        source: kvm_ioctls::Error::new(libc::EINVAL),
    })?;
    let area = kvm_xsave {
        region,
        ..kvm_xsave::default()
    };
    // SAFETY: KVM reads more than the area's 4096 bytes only with features that the process has asked for by
    // arch_prctl(2), which it does not.
    unsafe { vcpu.set_xsave(&area) }.kvm("set a processor's vectors")
}
