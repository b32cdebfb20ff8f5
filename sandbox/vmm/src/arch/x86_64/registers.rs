//! The registers a vCPU begins with, and all that it has.

use kvm_bindings::{
    Msrs, kvm_debugregs, kvm_fpu, kvm_lapic_state, kvm_mp_state, kvm_msr_entry, kvm_regs,
    kvm_segment, kvm_sregs, kvm_vcpu_events, kvm_xcrs,
};
use kvm_ioctls::VcpuFd;
use vm_memory::{Address as _, Bytes as _, GuestAddress};

use super::layout::{GDT, PD, PDPT, PML4, STACK, ZERO_PAGE};
use super::vectors;
use crate::error::{KvmAt as _, VmError, VmResult};
use crate::memory::Memory;

/// Bits of the control registers (Intel SDM volume 3, 2.5).
const CR0_PE: u64 = 1;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
/// Long mode, enabled and active.
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
/// Bit 1 of the flags is always set.
const FLAGS: u64 = 1 << 1;
/// A present, writable entry; with the third one that is a page of 2 MiB.
const PRESENT_WRITABLE: u64 = 0b11;
const LARGE: u64 = 1 << 7;
/// What the processor has after `finit`, and the reset value of MXCSR.
const FPU_CONTROL: u16 = 0x37f;
const MXCSR: u32 = 0x1f80;
/// Segment descriptors: a null one, 64-bit code, data, and a task state.
const DESCRIPTORS: [u64; 4] = [
    0,
    0x00af_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0x008f_8b00_0000_ffff,
];
/// Offsets of the two local interrupt lines in the local controller's registers.
const LINT0: usize = 0x350;
const LINT1: usize = 0x360;
/// How they deliver: from the old controller, and as non-maskable.
const EXTERNAL: u32 = 0b111 << 8;
const NON_MASKABLE: u32 = 0b100 << 8;
const DELIVERY: u32 = 0b111 << 8;

/// The state of a vCPU, as plain data.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct VcpuState {
    /// Running, halted or waiting to be started.
    pub mp_state: kvm_mp_state,
    /// General registers.
    pub regs: kvm_regs,
    /// Segments, control registers.
    pub sregs: kvm_sregs,
    /// Floating point and vectors: the area of `xsave`, in words.
    pub xsave: Vec<u32>,
    /// Extended control registers.
    pub xcrs: kvm_xcrs,
    /// Debug registers.
    pub debug: kvm_debugregs,
    /// The local interrupt controller.
    pub lapic: kvm_lapic_state,
    /// Model-specific registers that KVM lists, as number and value.
    pub msrs: Vec<(u32, u64)>,
    /// Interrupts and exceptions under way.
    pub events: kvm_vcpu_events,
    /// How fast the time-stamp counter runs, kHz.
    pub tsc_khz: u32,
}

impl VcpuState {
    /// Reads all of it from a vCPU that does not run.
    ///
    /// # Errors
    ///
    /// [`VmError::Kvm`].
    pub fn read(vcpu: &VcpuFd, msrs: &[u32]) -> VmResult<Self> {
        // First: reading it lets KVM take in a start-up interrupt that is under way, which changes the
        // registers below. The events come last for the same reason (api.rst, KVM_GET_VCPU_EVENTS).
        let mp_state = vcpu.get_mp_state().kvm("read a processor's run state")?;
        Ok(Self {
            mp_state,
            regs: vcpu.get_regs().kvm("read a processor's registers")?,
            sregs: vcpu
                .get_sregs()
                .kvm("read a processor's system registers")?,
            xsave: vectors::read(vcpu)?,
            xcrs: vcpu.get_xcrs().kvm("read a processor's extended control")?,
            debug: vcpu
                .get_debug_regs()
                .kvm("read a processor's debug registers")?,
            lapic: vcpu.get_lapic().kvm("read a local interrupt controller")?,
            msrs: read_msrs(vcpu, msrs)?,
            events: vcpu.get_vcpu_events().kvm("read a processor's events")?,
            tsc_khz: vcpu.get_tsc_khz().kvm("read a processor's frequency")?,
        })
    }

    /// Gives all of it to a vCPU that has its features and has not run.
    ///
    /// # Errors
    ///
    /// [`VmError::Kvm`], and where this machine's time-stamp counter runs at another speed.
    pub fn write(&self, vcpu: &VcpuFd) -> VmResult {
        let here = vcpu.get_tsc_khz().kvm("read a processor's frequency")?;
        if here != self.tsc_khz {
            vcpu.set_tsc_khz(self.tsc_khz)
                .kvm("set a processor's frequency")?;
        }
        // The extended control registers say which vectors there are; the base of the local controller is among the
        // system registers; its timer is armed by a model-specific register. Events last, as when they are read.
        vcpu.set_mp_state(self.mp_state)
            .kvm("set a processor's run state")?;
        vcpu.set_regs(&self.regs)
            .kvm("set a processor's registers")?;
        vcpu.set_sregs(&self.sregs)
            .kvm("set a processor's system registers")?;
        vcpu.set_xcrs(&self.xcrs)
            .kvm("set a processor's extended control")?;
        vectors::write(vcpu, &self.xsave)?;
        vcpu.set_debug_regs(&self.debug)
            .kvm("set a processor's debug registers")?;
        vcpu.set_lapic(&self.lapic)
            .kvm("set a local interrupt controller")?;
        write_msrs(vcpu, &self.msrs)?;
        vcpu.set_vcpu_events(&self.events)
            .kvm("set a processor's events")
    }
}

/// Most that KVM reads in one call (`MAX_IO_MSRS`).
const MSRS_A_CALL: usize = 256;

fn read_msrs(vcpu: &VcpuFd, numbers: &[u32]) -> VmResult<Vec<(u32, u64)>> {
    let action = "read a processor's model-specific registers";
    let mut values = Vec::new();
    for part in numbers.chunks(MSRS_A_CALL) {
        let mut rest = part;
        // It stops at the first that it lists and still does not have.
        while !rest.is_empty() {
            let entries: Vec<kvm_msr_entry> = rest
                .iter()
                .map(|&index| kvm_msr_entry {
                    index,
                    ..kvm_msr_entry::default()
                })
                .collect();
            let mut msrs = Msrs::from_entries(&entries).map_err(|_| VmError::Kvm {
                action,
                source: kvm_ioctls::Error::new(libc::EINVAL),
            })?;
            let read = vcpu.get_msrs(&mut msrs).kvm(action)?;
            let got = msrs.as_slice().iter().take(read);
            values.extend(got.map(|entry| (entry.index, entry.data)));
            rest = rest.get(read + 1..).unwrap_or_default();
        }
    }
    Ok(values)
}

/// Some are only read: those must be here what they were there.
fn write_msrs(vcpu: &VcpuFd, values: &[(u32, u64)]) -> VmResult {
    let action = "set a processor's model-specific registers";
    let wrong = || VmError::Kvm {
        action,
        source: kvm_ioctls::Error::new(libc::EINVAL),
    };
    let mut rest = values;
    while !rest.is_empty() {
        let entries: Vec<kvm_msr_entry> = rest
            .iter()
            .take(MSRS_A_CALL)
            .map(|&(index, data)| kvm_msr_entry {
                index,
                data,
                ..kvm_msr_entry::default()
            })
            .collect();
        let msrs = Msrs::from_entries(&entries).map_err(|_| wrong())?;
        let written = vcpu.set_msrs(&msrs).kvm(action)?;
        rest = rest.get(written..).unwrap_or_default();
        if written < entries.len()
            && let Some((&(index, data), others)) = rest.split_first()
        {
            if read_msrs(vcpu, &[index])? != [(index, data)] {
                return Err(wrong());
            }
            rest = others;
        }
    }
    Ok(())
}

/// Writes descriptors and page tables for the first moments.
pub(super) fn write_tables(memory: &Memory) -> VmResult {
    let put = |what, at: GuestAddress, words: &[u64]| {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        memory
            .write_slice(&bytes, at)
            .map_err(|source| VmError::Place { what, at, source })
    };
    put("the segment descriptors", GDT, &DESCRIPTORS)?;
    put(
        "the page tables",
        PML4,
        &[PDPT.raw_value() | PRESENT_WRITABLE],
    )?;
    put(
        "the page tables",
        PDPT,
        &[PD.raw_value() | PRESENT_WRITABLE],
    )?;
    let pages: Vec<u64> = (0..512)
        .map(|page| page << 21 | PRESENT_WRITABLE | LARGE)
        .collect();
    put("the page tables", PD, &pages)
}

/// The local interrupt lines as firmware would have left them.
pub(super) fn set_interrupt_lines(vcpu: &VcpuFd) -> VmResult {
    let mut lapic = vcpu.get_lapic().kvm("read a local interrupt controller")?;
    for (offset, delivery) in [(LINT0, EXTERNAL), (LINT1, NON_MASKABLE)] {
        if let Some(place) = lapic.regs.get_mut(offset..offset + 4) {
            let mut bytes = [0; 4];
            for (to, from) in bytes.iter_mut().zip(place.iter()) {
                *to = from.cast_unsigned();
            }
            let value = u32::from_le_bytes(bytes) & !DELIVERY | delivery;
            for (to, from) in place.iter_mut().zip(value.to_le_bytes()) {
                *to = from.cast_signed();
            }
        }
    }
    vcpu.set_lapic(&lapic)
        .kvm("set a local interrupt controller")
}

/// The first vCPU at the kernel's entry: long mode, memory mapped to itself, the parameters in `rsi`.
pub(super) fn set_entry(vcpu: &VcpuFd, entry: GuestAddress) -> VmResult {
    let mut sregs = vcpu
        .get_sregs()
        .kvm("read a processor's system registers")?;
    let code = segment(1);
    let data = segment(2);
    (sregs.cs, sregs.tr) = (code, segment(3));
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.gdt.base = GDT.raw_value();
    sregs.gdt.limit = 8 * 4 - 1;
    sregs.cr3 = PML4.raw_value();
    sregs.cr4 |= CR4_PAE;
    sregs.cr0 |= CR0_PE | CR0_PG;
    sregs.efer |= EFER_LME | EFER_LMA;
    vcpu.set_sregs(&sregs)
        .kvm("set a processor's system registers")?;
    let fpu = kvm_fpu {
        fcw: FPU_CONTROL,
        mxcsr: MXCSR,
        ..kvm_fpu::default()
    };
    vcpu.set_fpu(&fpu).kvm("set a processor's floating point")?;
    let regs = kvm_regs {
        rip: entry.raw_value(),
        rsp: STACK.raw_value(),
        rbp: STACK.raw_value(),
        rsi: ZERO_PAGE.raw_value(),
        rflags: FLAGS,
        ..kvm_regs::default()
    };
    vcpu.set_regs(&regs).kvm("set a processor's registers")
}

/// The descriptor of that number, as the processor holds it once it is loaded.
fn segment(index: u16) -> kvm_segment {
    let descriptor = DESCRIPTORS.get(usize::from(index)).copied().unwrap_or(0);
    let bits =
        |at: u32, count: u32| u8::try_from(descriptor >> at & ((1 << count) - 1)).unwrap_or(0);
    kvm_segment {
        base: 0,
        // In units of a page.
        limit: u32::MAX,
        selector: index * 8,
        type_: bits(40, 4),
        s: bits(44, 1),
        dpl: bits(45, 2),
        present: bits(47, 1),
        avl: bits(52, 1),
        l: bits(53, 1),
        db: bits(54, 1),
        g: bits(55, 1),
        unusable: 0,
        padding: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_what_the_descriptors_say() {
        let code = segment(1);
        assert_eq!(
            (code.selector, code.type_, code.l, code.db, code.g),
            (8, 0xb, 1, 0, 1)
        );
        let data = segment(2);
        assert_eq!(
            (data.selector, data.type_, data.s, data.present),
            (16, 3, 1, 1)
        );
        let task = segment(3);
        assert_eq!((task.type_, task.s, task.present), (0xb, 0, 1));
    }
}
