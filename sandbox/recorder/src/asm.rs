//! An assembler for the extended BPF that the recorder's programs need.
//!
//! Instructions are those of the kernel's Documentation/bpf/standardization/instruction-set.rst.

use std::os::fd::{AsRawFd as _, BorrowedFd};

/// A register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Reg {
    /// The answer of a helper, and of the program.
    R0 = 0,
    /// Arguments of helpers, overwritten by them.
    R1 = 1,
    R2 = 2,
    R3 = 3,
    R4 = 4,
    /// Kept across helpers.
    R6 = 6,
    R7 = 7,
    R8 = 8,
    R9 = 9,
    /// The end of the stack, read only.
    Fp = 10,
}

/// How wide a load or store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Width {
    B1 = 0x10,
    B2 = 0x08,
    B4 = 0x00,
    B8 = 0x18,
}

/// A comparison, of all 64 bits and without sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Test {
    Equal = 0x10,
    Greater = 0x20,
    AtLeast = 0x30,
    AnyBit = 0x40,
    NotEqual = 0x50,
    Less = 0xa0,
}

/// Arithmetic on all 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Alu {
    Add = 0x00,
    Or = 0x40,
    And = 0x50,
    ShiftLeft = 0x60,
    ShiftRight = 0x70,
    Xor = 0xa0,
    Move = 0xb0,
}

/// The kernel's helper functions, by their numbers in include/uapi/linux/bpf.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Helper {
    MapLookup = 1,
    MapUpdate = 2,
    MapDelete = 3,
    GetStack = 67,
    ProbeReadKernelStr = 115,
    CurrentTaskBtf = 158,
    TaskPtRegs = 175,
}

const CLASS_LD_IMM64: u8 = 0x18;
const CLASS_LDX_MEM: u8 = 0x61;
const CLASS_ST_MEM: u8 = 0x62;
const CLASS_STX_MEM: u8 = 0x63;
const CLASS_STX_ATOMIC: u8 = 0xc3;
const CLASS_JMP: u8 = 0x05;
const CLASS_ALU64: u8 = 0x07;
const FROM_REGISTER: u8 = 0x08;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// The source register that makes a 64-bit immediate the address of the map of that descriptor.
const PSEUDO_MAP_FD: u8 = 1;
/// The atomic operation that also returns the value before.
const FETCH: i32 = 1;
const COMPARE_EXCHANGE: i32 = 0xf0 | FETCH;

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Insn {
    code: u8,
    /// dst in the low four bits, src in the high.
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// A place in a program that jumps lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Label(usize);

/// A program in the making.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    code: Vec<Insn>,
    /// Where each label is, once placed.
    places: Vec<Option<usize>>,
    /// Which instructions jump to which label.
    jumps: Vec<(usize, Label)>,
}

/// A jump to a label that was never placed, or too far away: a mistake in the program, not input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("instruction {0} of the program jumps nowhere")]
pub struct BadJump(usize);

impl Assembler {
    fn push(&mut self, code: u8, dst: u8, src: u8, offset: i16, immediate: i32) {
        self.code.push(Insn {
            code,
            registers: (src << 4) | dst,
            offset,
            immediate,
        });
    }

    /// A label to jump to, to be placed later.
    pub(crate) fn label(&mut self) -> Label {
        self.places.push(None);
        Label(self.places.len() - 1)
    }

    /// The label means the next instruction.
    pub(crate) fn place(&mut self, label: Label) {
        if let Some(place) = self.places.get_mut(label.0) {
            *place = Some(self.code.len());
        }
    }

    /// `dst = *(width *)(src + offset)`
    pub(crate) fn load(&mut self, width: Width, dst: Reg, src: Reg, offset: i16) {
        self.push(CLASS_LDX_MEM | width as u8, dst as u8, src as u8, offset, 0);
    }

    /// `*(width *)(dst + offset) = src`
    pub(crate) fn store(&mut self, width: Width, dst: Reg, offset: i16, src: Reg) {
        self.push(CLASS_STX_MEM | width as u8, dst as u8, src as u8, offset, 0);
    }

    /// `*(width *)(dst + offset) = value`
    pub(crate) fn store_value(&mut self, width: Width, dst: Reg, offset: i16, value: i32) {
        self.push(CLASS_ST_MEM | width as u8, dst as u8, 0, offset, value);
    }

    /// `dst op= value`
    pub(crate) fn alu(&mut self, operation: Alu, dst: Reg, value: i32) {
        self.push(CLASS_ALU64 | operation as u8, dst as u8, 0, 0, value);
    }

    /// `dst op= src`
    pub(crate) fn alu_reg(&mut self, operation: Alu, dst: Reg, src: Reg) {
        let code = CLASS_ALU64 | FROM_REGISTER | operation as u8;
        self.push(code, dst as u8, src as u8, 0, 0);
    }

    /// `dst = value`, all 64 bits of it.
    pub(crate) fn wide(&mut self, dst: Reg, value: u64) {
        let halves = value.to_le_bytes();
        let [a, b, c, d, e, f, g, h] = halves;
        let low = i32::from_le_bytes([a, b, c, d]);
        let high = i32::from_le_bytes([e, f, g, h]);
        self.push(CLASS_LD_IMM64, dst as u8, 0, 0, low);
        self.push(0, 0, 0, 0, high);
    }

    /// `dst = map`
    pub(crate) fn map(&mut self, dst: Reg, map: BorrowedFd<'_>) {
        let fd = map.as_raw_fd();
        self.push(CLASS_LD_IMM64, dst as u8, PSEUDO_MAP_FD, 0, fd);
        self.push(0, 0, 0, 0, 0);
    }

    /// `*(u64 *)(dst + offset) += src`, so that no other CPU's addition is lost.
    pub(crate) fn atomic_add(&mut self, dst: Reg, offset: i16, src: Reg) {
        let code = CLASS_STX_ATOMIC | Width::B8 as u8;
        self.push(code, dst as u8, src as u8, offset, Alu::Add as i32);
    }

    /// `atomic_add`; `src` becomes the value before.
    pub(crate) fn atomic_fetch_add(&mut self, dst: Reg, offset: i16, src: Reg) {
        let code = CLASS_STX_ATOMIC | Width::B8 as u8;
        self.push(code, dst as u8, src as u8, offset, Alu::Add as i32 | FETCH);
    }

    /// If `*(u64 *)(dst + offset)` is R0, it becomes `src`, at once; R0 becomes the value before.
    pub(crate) fn atomic_compare_exchange(&mut self, dst: Reg, offset: i16, src: Reg) {
        let code = CLASS_STX_ATOMIC | Width::B8 as u8;
        self.push(code, dst as u8, src as u8, offset, COMPARE_EXCHANGE);
    }

    /// Goes on at the label if the comparison with a constant holds.
    pub(crate) fn jump_if(&mut self, dst: Reg, test: Test, value: i32, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.push(CLASS_JMP | test as u8, dst as u8, 0, 0, value);
    }

    /// Goes on at the label if the comparison with a register holds.
    pub(crate) fn jump_if_reg(&mut self, dst: Reg, test: Test, src: Reg, label: Label) {
        self.jumps.push((self.code.len(), label));
        let code = CLASS_JMP | FROM_REGISTER | test as u8;
        self.push(code, dst as u8, src as u8, 0, 0);
    }

    /// Goes on at the label.
    pub(crate) fn jump(&mut self, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.push(CLASS_JMP, 0, 0, 0, 0);
    }

    /// Calls a helper: arguments in R1 to R5, answer in R0.
    pub(crate) fn call(&mut self, helper: Helper) {
        self.push(CALL, 0, 0, 0, helper as i32);
    }

    /// Ends the program with the answer 0.
    pub(crate) fn finish_here(&mut self) {
        self.alu(Alu::Move, Reg::R0, 0);
        self.push(EXIT, 0, 0, 0, 0);
    }

    /// The program, its jumps filled in.
    pub(crate) fn assemble(mut self) -> Result<Vec<Insn>, BadJump> {
        for (at, label) in &self.jumps {
            let bad = BadJump(*at);
            let place = self.places.get(label.0).copied().flatten().ok_or(bad)?;
            // Jumps count from the instruction after them; all of ours go forward.
            let distance = place.checked_sub(at + 1).ok_or(bad)?;
            let insn = self.code.get_mut(*at).ok_or(bad)?;
            insn.offset = i16::try_from(distance).map_err(|_| bad)?;
        }
        Ok(self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The encodings of the instruction set document, byte for byte.
    #[test]
    fn instructions_are_encoded_as_the_kernel_reads_them() {
        let mut a = Assembler::default();
        let end = a.label();
        a.load(Width::B4, Reg::R3, Reg::R1, 8);
        a.store_value(Width::B8, Reg::Fp, -8, -1);
        a.store(Width::B2, Reg::R2, 4, Reg::R7);
        a.jump_if(Reg::R3, Test::NotEqual, 5, end);
        a.atomic_add(Reg::R6, 16, Reg::R1);
        a.wide(Reg::R1, 0x1234_5678_9abc_def0);
        a.place(end);
        a.finish_here();
        let code: Vec<_> = a
            .assemble()
            .expect("assembles")
            .iter()
            .map(|i| (i.code, i.registers, i.offset, i.immediate))
            .collect();
        let expected = [
            (0x61, 0x13, 8, 0),
            (0x7a, 0x0a, -8, -1),
            (0x6b, 0x72, 4, 0),
            (0x55, 0x03, 3, 5),
            (0xdb, 0x16, 16, 0),
            (0x18, 0x01, 0, 0x9abc_def0_u32.cast_signed()),
            (0x00, 0x00, 0, 0x1234_5678),
            (0xb7, 0x00, 0, 0),
            (0x95, 0x00, 0, 0),
        ];
        assert_eq!(code, expected);
    }

    #[test]
    fn a_label_that_was_never_placed_is_an_error() {
        let mut a = Assembler::default();
        let label = a.label();
        a.jump(label);
        assert_eq!(a.assemble(), Err(BadJump(0)));
    }
}
