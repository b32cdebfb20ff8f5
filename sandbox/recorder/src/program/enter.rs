//! `sys_enter`: a system call begins, after seccomp has let it through.

use super::{
    Counter, LISTENED, Maps, PLACE_KEY, RECENT, RUNTIME, SERVING, SETUP, STARTUP, Setting,
    TASK_EXECUTABLE, TASK_FLAGS, TASK_PHASE,
};
use super::{TS_COMPAT, count_or, current_task, lookup, lost, only, update};
use crate::asm::{Alu, Assembler, BadJump, Insn, Reg, Test, Width};
use crate::interest;
use crate::layout::Layout;

/// Where struct pt_regs has arguments 0 to 5 of a 64-bit call: di, si, dx, r10, r8, r9.
const NATIVE: [i16; 6] = [112, 104, 96, 56, 72, 64];
/// And of a 32-bit call: bx, cx, dx, si, di, bp.
const COMPAT: [i16; 6] = [40, 88, 96, 104, 112, 32];

/// `SECCOMP_SET_MODE_FILTER` (linux/seccomp.h).
const SET_MODE_FILTER: i32 = 1;
/// Without `__X32_SYSCALL_BIT`: x32 has the 64-bit numbers.
const PLAIN_NUMBER: i32 = 0x3fff_ffff;

/// The call site on the stack, then a word, then the key of an argument.
const SITE: i16 = -24;
const SITE_EXECUTABLE: i16 = SITE + 4;
const SITE_PHASE: i16 = SITE + 6;
const SITE_ABI: i16 = SITE + 7;
const WORD: i16 = -32;
const ARGUMENT: i16 = -56;
const ARGUMENT_VALUE: i16 = ARGUMENT + 8;
const ARGUMENT_INDEX: i16 = ARGUMENT + 16;
const INTEREST_KEY: i16 = -12;
/// A place in `recent`, and whose it was.
const PLACE: i16 = -64;
const EVICTED: i16 = -72;

/// The program. R6: context; R7: task; R8: interest; R9: ABI, then phase.
pub(crate) fn enter(maps: &Maps, layout: &Layout) -> Result<Vec<Insn>, BadJump> {
    let mut a = Assembler::default();
    let out = a.label();
    a.alu_reg(Alu::Move, Reg::R6, Reg::R1);
    current_task(&mut a, maps, layout, out);
    a.load(Width::B4, Reg::R9, Reg::R8, layout.task_status);
    a.alu(Alu::And, Reg::R9, TS_COMPAT);
    a.alu(Alu::ShiftRight, Reg::R9, 1);
    a.load(Width::B8, Reg::R8, Reg::R6, 8);
    a.store(Width::B4, Reg::Fp, SITE, Reg::R8);
    a.load(Width::B2, Reg::R1, Reg::R7, TASK_EXECUTABLE);
    a.store(Width::B2, Reg::Fp, SITE_EXECUTABLE, Reg::R1);
    a.store(Width::B1, Reg::Fp, SITE_ABI, Reg::R9);
    find_interest(&mut a, maps);
    find_phase(&mut a, maps, out);
    a.store(Width::B1, Reg::Fp, SITE_PHASE, Reg::R9);
    count_call(&mut a, maps);
    a.jump_if(Reg::R8, Test::Equal, 0, out);
    a.load(Width::B8, Reg::R6, Reg::R6, 0);
    note_filter(&mut a);
    for index in 0..NATIVE.len() {
        argument(&mut a, maps, index);
    }
    a.place(out);
    a.finish_here();
    a.assemble()
}

/// Counts the call: in this CPU's array of recent ones if it has its place there, else among all, and takes
/// the place. No other program runs on this CPU meanwhile; the kernel counts those it did not run.
fn count_call(a: &mut Assembler, maps: &Maps) {
    let (miss, empty, done) = (a.label(), a.label(), a.label());
    a.load(Width::B8, Reg::R1, Reg::Fp, SITE);
    a.alu_reg(Alu::Move, Reg::R2, Reg::R1);
    // The executable's and the phase's bits over those of the number.
    for bits in [29, 18] {
        a.alu(Alu::ShiftRight, Reg::R2, bits);
        a.alu_reg(Alu::Xor, Reg::R1, Reg::R2);
    }
    a.alu(Alu::And, Reg::R1, (RECENT - 1).cast_signed());
    a.store(Width::B4, Reg::Fp, PLACE_KEY, Reg::R1);
    lookup(a, &maps.recent, PLACE_KEY);
    a.jump_if(Reg::R0, Test::Equal, 0, done);
    a.load(Width::B8, Reg::R1, Reg::R0, 0);
    a.load(Width::B8, Reg::R2, Reg::Fp, SITE);
    a.jump_if_reg(Reg::R1, Test::NotEqual, Reg::R2, miss);
    a.load(Width::B8, Reg::R1, Reg::R0, 8);
    a.alu(Alu::Add, Reg::R1, 1);
    a.store(Width::B8, Reg::R0, 8, Reg::R1);
    a.jump(done);
    a.place(miss);
    a.store(Width::B8, Reg::Fp, PLACE, Reg::R0);
    count_or(a, maps, &maps.calls, SITE, WORD, Counter::LostCalls, done);
    a.load(Width::B8, Reg::R1, Reg::Fp, PLACE);
    a.load(Width::B8, Reg::R2, Reg::R1, 0);
    a.store(Width::B8, Reg::Fp, EVICTED, Reg::R2);
    lookup(a, &maps.calls, EVICTED);
    a.load(Width::B8, Reg::R1, Reg::Fp, PLACE);
    // Whoever had the place came by the list of all; the first had none before.
    a.jump_if(Reg::R0, Test::Equal, 0, empty);
    a.load(Width::B8, Reg::R2, Reg::R1, 8);
    a.atomic_add(Reg::R0, 0, Reg::R2);
    a.place(empty);
    a.load(Width::B8, Reg::R2, Reg::Fp, SITE);
    a.store(Width::B8, Reg::R1, 0, Reg::R2);
    a.store_value(Width::B8, Reg::R1, 8, 0);
    a.place(done);
}

/// `R8 = interest[number of R8, ABI of R9]`
fn find_interest(a: &mut Assembler, maps: &Maps) {
    let (none, done) = (a.label(), a.label());
    a.alu(Alu::And, Reg::R8, PLAIN_NUMBER);
    a.jump_if(
        Reg::R8,
        Test::AtLeast,
        interest::NUMBERS.cast_signed(),
        none,
    );
    a.alu(
        Alu::ShiftLeft,
        Reg::R9,
        interest::NUMBERS.ilog2().cast_signed(),
    );
    a.alu_reg(Alu::Add, Reg::R8, Reg::R9);
    a.store(Width::B4, Reg::Fp, INTEREST_KEY, Reg::R8);
    lookup(a, &maps.interest, INTEREST_KEY);
    a.jump_if(Reg::R0, Test::Equal, 0, none);
    a.load(Width::B4, Reg::R8, Reg::R0, 0);
    a.jump(done);
    a.place(none);
    a.alu(Alu::Move, Reg::R8, 0);
    a.place(done);
}

/// `R9 =` the phase of this call, which may begin with it.
fn find_phase(a: &mut Assembler, maps: &Maps, out: crate::asm::Label) {
    let (listens, waits, serves, known) = (a.label(), a.label(), a.label(), a.label());
    a.load(Width::B1, Reg::R9, Reg::R7, TASK_PHASE);
    a.jump_if(
        Reg::R8,
        Test::AnyBit,
        interest::LISTEN.cast_signed(),
        listens,
    );
    a.jump_if(
        Reg::R8,
        Test::AnyBit,
        interest::ACCEPT.cast_signed(),
        serves,
    );
    a.jump_if(Reg::R8, Test::AnyBit, interest::SERVE.cast_signed(), waits);
    a.jump(known);
    a.place(listens);
    a.load(Width::B1, Reg::R1, Reg::R7, TASK_FLAGS);
    a.alu(Alu::Or, Reg::R1, LISTENED.into());
    a.store(Width::B1, Reg::R7, TASK_FLAGS, Reg::R1);
    a.jump(known);
    a.place(waits);
    a.load(Width::B1, Reg::R1, Reg::R7, TASK_FLAGS);
    a.alu(Alu::And, Reg::R1, LISTENED.into());
    a.jump_if(Reg::R1, Test::Equal, 0, known);
    a.place(serves);
    // The runtime serves nobody: what a payload begins with is its start.
    a.jump_if(Reg::R9, Test::Less, STARTUP.into(), known);
    a.alu(Alu::Move, Reg::R9, SERVING.into());
    a.store(Width::B1, Reg::R7, TASK_PHASE, Reg::R9);
    a.place(known);
    // A mark by the user holds for every process at once.
    let late = a.label();
    only(a, &maps.settings, out);
    a.load(Width::B8, Reg::R1, Reg::R0, Setting::Floor.offset());
    a.jump_if_reg(Reg::R9, Test::AtLeast, Reg::R1, late);
    a.alu_reg(Alu::Move, Reg::R9, Reg::R1);
    a.place(late);
}

/// The phase after this call, if it puts a filter on. R6: struct pt_regs.
fn note_filter(a: &mut Assembler) {
    let done = a.label();
    a.jump_if(Reg::R9, Test::NotEqual, SETUP.into(), done);
    a.alu_reg(Alu::Move, Reg::R1, Reg::R8);
    a.alu(Alu::And, Reg::R1, interest::FILTER.cast_signed());
    a.jump_if(Reg::R1, Test::Equal, 0, done);
    a.load(Width::B8, Reg::R1, Reg::R6, NATIVE[0]);
    a.jump_if(Reg::R1, Test::NotEqual, SET_MODE_FILTER, done);
    a.store_value(Width::B1, Reg::R7, TASK_PHASE, RUNTIME.into());
    a.place(done);
}

/// Keeps the value of an argument, if it is of interest. R6: struct pt_regs.
fn argument(a: &mut Assembler, maps: &Maps, index: usize) {
    let (wanted, compat, have, done) = (a.label(), a.label(), a.label(), a.label());
    a.jump_if(Reg::R8, Test::AnyBit, 1 << index, wanted);
    a.jump(done);
    a.place(wanted);
    a.load(Width::B8, Reg::R1, Reg::Fp, SITE);
    a.store(Width::B8, Reg::Fp, ARGUMENT, Reg::R1);
    a.load(Width::B1, Reg::R1, Reg::Fp, SITE_ABI);
    a.jump_if(Reg::R1, Test::NotEqual, 0, compat);
    a.load(Width::B8, Reg::R1, Reg::R6, NATIVE[index]);
    a.jump(have);
    a.place(compat);
    a.load(Width::B4, Reg::R1, Reg::R6, COMPAT[index]);
    a.place(have);
    a.store(Width::B8, Reg::Fp, ARGUMENT_VALUE, Reg::R1);
    let number = i32::try_from(index).unwrap_or(0);
    a.store_value(Width::B8, Reg::Fp, ARGUMENT_INDEX, number);
    lookup(a, &maps.arguments, ARGUMENT);
    a.jump_if(Reg::R0, Test::NotEqual, 0, done);
    a.store_value(Width::B8, Reg::Fp, WORD, 1);
    update(a, &maps.arguments, ARGUMENT, WORD, false);
    a.jump_if(Reg::R0, Test::Equal, 0, done);
    lost(a, maps, Counter::LostArguments);
    a.place(done);
}
