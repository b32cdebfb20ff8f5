//! `cap_capable`: the kernel asks whether a process has a capability.

use super::{Counter, Maps, TASK_EXECUTABLE, TASK_PHASE, TS_COMPAT, count, current_task};
use crate::asm::{Alu, Assembler, BadJump, Helper, Insn, Reg, Test, Width};
use crate::layout::Layout;

const CAP_SYS_ADMIN: i32 = 21;
/// `orig_ax` in struct pt_regs: the number of the call that is being served.
const REGS_NUMBER: i16 = 120;
/// Frames of the kernel's stack that are looked at.
const FRAMES: i16 = 8;

const SITE: i16 = -32;
const CAPABILITY: i16 = SITE + 8;
const GRANTED: i16 = CAPABILITY + 1;
const FOR_MEMORY: i16 = CAPABILITY + 2;
const WORD: i16 = -40;
const STACK: i16 = -40 - FRAMES * 8;

/// The kernel's function that asks for CAP_SYS_ADMIN whenever a process maps memory, only to know
/// whether root's reserve may be used, and goes on without. (What it calls, `cap_vm_enough_memory`, is
/// not on the stack: it ends in a jump to `cap_capable`.)
pub(crate) const ACCOUNTING: &str = "security_vm_enough_memory_mm";

/// The program. `accounting` is where [`ACCOUNTING`] begins and ends. R6: context; R7: task.
pub(crate) fn capable(
    maps: &Maps,
    layout: &Layout,
    accounting: Option<(u64, u64)>,
) -> Result<Vec<Insn>, BadJump> {
    let mut a = Assembler::default();
    let (out, refused) = (a.label(), a.label());
    a.alu_reg(Alu::Move, Reg::R6, Reg::R1);
    current_task(&mut a, maps, layout, out);
    a.load(Width::B4, Reg::R9, Reg::R8, layout.task_status);
    a.alu(Alu::And, Reg::R9, TS_COMPAT);
    a.alu(Alu::ShiftRight, Reg::R9, 1);
    a.alu_reg(Alu::Move, Reg::R1, Reg::R8);
    a.call(Helper::TaskPtRegs);
    a.load(Width::B8, Reg::R1, Reg::R0, REGS_NUMBER);
    a.store(Width::B4, Reg::Fp, SITE, Reg::R1);
    a.load(Width::B2, Reg::R1, Reg::R7, TASK_EXECUTABLE);
    a.store(Width::B2, Reg::Fp, SITE + 4, Reg::R1);
    a.load(Width::B1, Reg::R1, Reg::R7, TASK_PHASE);
    a.store(Width::B1, Reg::Fp, SITE + 6, Reg::R1);
    a.store(Width::B1, Reg::Fp, SITE + 7, Reg::R9);
    a.load(Width::B8, Reg::R9, Reg::R6, 24);
    a.store_value(Width::B8, Reg::Fp, CAPABILITY, 0);
    a.store(Width::B1, Reg::Fp, CAPABILITY, Reg::R9);
    a.load(Width::B8, Reg::R1, Reg::R6, 32);
    a.jump_if(Reg::R1, Test::NotEqual, 0, refused);
    a.store_value(Width::B1, Reg::Fp, GRANTED, 1);
    a.place(refused);
    if let Some(range) = accounting {
        note_accounting(&mut a, range);
    }
    let loss = Counter::LostCapabilities;
    count(&mut a, maps, &maps.capabilities, SITE, WORD, loss);
    a.place(out);
    a.finish_here();
    a.assemble()
}

/// Whether the kernel asks on behalf of memory accounting. R9: the capability.
fn note_accounting(a: &mut Assembler, (start, end): (u64, u64)) {
    let (done, inside) = (a.label(), a.label());
    a.jump_if(Reg::R9, Test::NotEqual, CAP_SYS_ADMIN, done);
    a.alu_reg(Alu::Move, Reg::R1, Reg::R6);
    a.alu_reg(Alu::Move, Reg::R2, Reg::Fp);
    a.alu(Alu::Add, Reg::R2, STACK.into());
    a.alu(Alu::Move, Reg::R3, (FRAMES * 8).into());
    a.alu(Alu::Move, Reg::R4, 0);
    a.call(Helper::GetStack);
    a.wide(Reg::R2, start);
    a.wide(Reg::R3, end);
    for frame in 0..FRAMES {
        let next = a.label();
        a.load(Width::B8, Reg::R1, Reg::Fp, STACK + frame * 8);
        a.jump_if_reg(Reg::R1, Test::Less, Reg::R2, next);
        a.jump_if_reg(Reg::R1, Test::Less, Reg::R3, inside);
        a.place(next);
    }
    a.jump(done);
    a.place(inside);
    a.store_value(Width::B1, Reg::Fp, FOR_MEMORY, 1);
    a.place(done);
}
