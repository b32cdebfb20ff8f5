//! `sched_process_fork`, `_exec` and `_exit`: who is followed, and what it executes.

use super::{
    Counter, LEFT, Maps, PATH, RUNTIME, SETUP, SPAWNER, STARTUP, Setting, TASK_EXECUTABLE,
    TASK_FLAGS, TASK_GROUP, TASK_KEY, TASK_PHASE,
};
use super::{current_task, find_task, lookup, lost, only, place_of, update};
use crate::asm::{Alu, Assembler, BadJump, Helper, Insn, Label, Reg, Test, Width};
use crate::layout::Layout;

const CHILD_KEY: i16 = -12;
const RECORD: i16 = -24;
const RECORD_FLAGS: i16 = RECORD + TASK_FLAGS;

/// A new process is what its parent is; or it is born into the container: from outside, or of a process
/// that is inside and not followed yet, for a container is looked round while it runs.
///
/// Runs before the child does, so no call of it is missed. R6: parent; R7: child; R8: its thread group.
pub(crate) fn fork(maps: &Maps, layout: &Layout) -> Result<Vec<Insn>, BadJump> {
    let mut a = Assembler::default();
    let (out, outsider, insert) = (a.label(), a.label(), a.label());
    a.load(Width::B8, Reg::R7, Reg::R1, 8);
    a.load(Width::B4, Reg::R8, Reg::R7, layout.task_tgid);
    a.load(Width::B8, Reg::R6, Reg::R1, 0);
    a.load(Width::B4, Reg::R1, Reg::R6, layout.task_tgid);
    // A thread.
    a.jump_if_reg(Reg::R1, Test::Equal, Reg::R8, out);
    a.store(Width::B4, Reg::Fp, TASK_KEY, Reg::R1);
    a.store(Width::B4, Reg::Fp, CHILD_KEY, Reg::R8);
    find_task(&mut a, maps, outsider);
    a.load(Width::B8, Reg::R1, Reg::R0, 0);
    a.store(Width::B8, Reg::Fp, RECORD, Reg::R1);
    a.load(Width::B1, Reg::R1, Reg::Fp, RECORD_FLAGS);
    a.alu(Alu::And, Reg::R1, i32::from(!SPAWNER));
    a.store(Width::B1, Reg::Fp, RECORD_FLAGS, Reg::R1);
    a.jump(insert);
    a.place(outsider);
    a.load(Width::B8, Reg::R1, Reg::R7, layout.task_nsproxy);
    a.jump_if(Reg::R1, Test::Equal, 0, out);
    a.load(Width::B8, Reg::R1, Reg::R1, layout.nsproxy_pid);
    a.jump_if(Reg::R1, Test::Equal, 0, out);
    a.load(Width::B4, Reg::R9, Reg::R1, layout.pid_namespace_inode);
    only(&mut a, &maps.settings, out);
    a.load(Width::B8, Reg::R1, Reg::R0, Setting::PidNamespace.offset());
    a.jump_if_reg(Reg::R1, Test::NotEqual, Reg::R9, out);
    a.store_value(Width::B8, Reg::Fp, RECORD, SETUP.into());
    a.load(Width::B1, Reg::R9, Reg::R0, Setting::Inside.offset());
    // A process can put its children into its own pid namespace or one further down: a parent on the
    // child's level is in the same.
    for task in [Reg::R6, Reg::R7] {
        a.load(Width::B8, task, task, layout.task_thread_pid);
        a.jump_if(task, Test::Equal, 0, out);
        a.load(Width::B4, task, task, layout.pid_level);
    }
    a.jump_if_reg(Reg::R6, Test::NotEqual, Reg::R7, insert);
    a.store(Width::B1, Reg::Fp, RECORD + TASK_PHASE, Reg::R9);
    a.place(insert);
    a.load(Width::B4, Reg::R1, Reg::Fp, CHILD_KEY);
    a.store(Width::B4, Reg::Fp, RECORD + TASK_GROUP, Reg::R1);
    insert_child(&mut a, maps, out);
    a.place(out);
    a.finish_here();
    a.assemble()
}

/// Keeps the record of the child: in its place if that is free, or its own by a missed exit; else among the
/// others.
fn insert_child(a: &mut Assembler, maps: &Maps, out: Label) {
    let (take, taken) = (a.label(), a.label());
    place_of(a, maps, CHILD_KEY, out);
    a.alu_reg(Alu::Move, Reg::R9, Reg::R0);
    a.load(Width::B8, Reg::R8, Reg::R9, 0);
    a.jump_if(Reg::R8, Test::Equal, 0, take);
    a.wide(Reg::R1, LEFT);
    a.jump_if_reg(Reg::R8, Test::Equal, Reg::R1, take);
    a.load(Width::B4, Reg::R1, Reg::R9, TASK_GROUP);
    a.load(Width::B4, Reg::R2, Reg::Fp, CHILD_KEY);
    a.jump_if_reg(Reg::R1, Test::NotEqual, Reg::R2, taken);
    a.place(take);
    a.load(Width::B8, Reg::R1, Reg::Fp, RECORD);
    a.alu_reg(Alu::Move, Reg::R0, Reg::R8);
    a.atomic_compare_exchange(Reg::R9, 0, Reg::R1);
    a.jump_if_reg(Reg::R0, Test::Equal, Reg::R8, out);
    a.place(taken);
    update(a, &maps.tasks.others, CHILD_KEY, RECORD, false);
    a.jump_if(Reg::R0, Test::Equal, 0, out);
    lost(a, maps, Counter::LostTasks);
}

const NAME: i16 = -24 - PATH;
const NUMBER: i16 = NAME - 8;

/// A process executes a program: its executable, and the end of the runtime's phase.
///
/// Of a script the interpreter is kept, for it is what calls. R6: context; R7: task.
pub(crate) fn exec(maps: &Maps, layout: &Layout) -> Result<Vec<Insn>, BadJump> {
    let mut a = Assembler::default();
    let (out, started, found, set) = (a.label(), a.label(), a.label(), a.label());
    a.alu_reg(Alu::Move, Reg::R6, Reg::R1);
    current_task(&mut a, maps, layout, out);
    a.load(Width::B1, Reg::R1, Reg::R7, TASK_PHASE);
    a.jump_if(Reg::R1, Test::Greater, RUNTIME.into(), started);
    a.store_value(Width::B1, Reg::R7, TASK_PHASE, STARTUP.into());
    a.place(started);
    for word in 0..PATH / 8 {
        a.store_value(Width::B8, Reg::Fp, NAME + word * 8, 0);
    }
    a.load(Width::B8, Reg::R1, Reg::R6, 16);
    a.load(Width::B8, Reg::R3, Reg::R1, layout.bprm_interp);
    a.alu_reg(Alu::Move, Reg::R1, Reg::Fp);
    a.alu(Alu::Add, Reg::R1, NAME.into());
    a.alu(Alu::Move, Reg::R2, PATH.into());
    a.call(Helper::ProbeReadKernelStr);
    // A program that executes itself stays what it is.
    let other = a.label();
    for (word, text) in [(NAME, *b"/proc/se"), (NAME + 8, *b"lf/exe\0\0")] {
        a.load(Width::B8, Reg::R1, Reg::Fp, word);
        a.wide(Reg::R2, u64::from_le_bytes(text));
        a.jump_if_reg(Reg::R1, Test::NotEqual, Reg::R2, other);
    }
    a.jump(out);
    a.place(other);
    lookup(&mut a, &maps.executables, NAME);
    a.jump_if(Reg::R0, Test::NotEqual, 0, found);
    only(&mut a, &maps.counters, out);
    a.alu(Alu::Move, Reg::R1, 1);
    a.atomic_fetch_add(Reg::R0, Counter::NextExecutable.offset(), Reg::R1);
    a.store(Width::B8, Reg::Fp, NUMBER, Reg::R1);
    update(&mut a, &maps.executables, NAME, NUMBER, true);
    lookup(&mut a, &maps.executables, NAME);
    a.jump_if(Reg::R0, Test::NotEqual, 0, found);
    lost(&mut a, maps, Counter::LostExecutables);
    a.alu(Alu::Move, Reg::R1, 0);
    a.jump(set);
    a.place(found);
    a.load(Width::B8, Reg::R1, Reg::R0, 0);
    a.place(set);
    a.store(Width::B2, Reg::R7, TASK_EXECUTABLE, Reg::R1);
    a.place(out);
    a.finish_here();
    a.assemble()
}

/// The last thread of a process ends: its number may mean another process soon.
pub(crate) fn exit(maps: &Maps, layout: &Layout) -> Result<Vec<Insn>, BadJump> {
    let mut a = Assembler::default();
    let (out, other) = (a.label(), a.label());
    a.load(Width::B8, Reg::R6, Reg::R1, 0);
    a.load(Width::B8, Reg::R1, Reg::R6, layout.task_signal);
    a.load(Width::B4, Reg::R1, Reg::R1, layout.signal_live);
    a.jump_if(Reg::R1, Test::NotEqual, 0, out);
    a.load(Width::B4, Reg::R1, Reg::R6, layout.task_tgid);
    a.store(Width::B4, Reg::Fp, TASK_KEY, Reg::R1);
    place_of(&mut a, maps, TASK_KEY, out);
    a.load(Width::B8, Reg::R1, Reg::R0, 0);
    a.jump_if(Reg::R1, Test::Equal, 0, out);
    a.load(Width::B4, Reg::R1, Reg::R0, TASK_GROUP);
    a.load(Width::B4, Reg::R2, Reg::Fp, TASK_KEY);
    a.jump_if_reg(Reg::R1, Test::NotEqual, Reg::R2, other);
    a.wide(Reg::R1, LEFT);
    a.store(Width::B8, Reg::R0, 0, Reg::R1);
    a.place(other);
    a.map(Reg::R1, maps.tasks.others.fd());
    a.alu_reg(Alu::Move, Reg::R2, Reg::Fp);
    a.alu(Alu::Add, Reg::R2, TASK_KEY.into());
    a.call(Helper::MapDelete);
    a.place(out);
    a.finish_here();
    a.assemble()
}
