//! The programs that run in the kernel, one per tracepoint.
//!
//! The kernel lends helpers that look at tasks and registers only to programs whose licence goes with
//! its own. The programs assembled in this directory are therefore offered, besides under the
//! project's licence, under BSD-2-Clause or GPL-2.0, which is what they tell the kernel.
//!
//! Every program begins by looking the current thread group up. What is not followed costs the tracepoint
//! and a look into an array, which the kernel does without a call; the rest of the group's records is in
//! a hash map, in the rare case that two processes want one place of the array.

/// `cap_capable`: the kernel asks whether a process has a capability.
mod capable;
/// `sys_enter`: a system call begins, after seccomp has let it through.
mod enter;
/// `sched_process_fork`, `_exec` and `_exit`: who is followed, and what it executes.
mod life;

use crate::asm::{Alu, Assembler, BadJump, Helper, Insn, Label, Reg, Test, Width};
use crate::layout::Layout;
use crate::sys::Map;
use crate::tasks::{LEFT, Tasks};

pub(crate) use capable::{ACCOUNTING, capable};
pub(crate) use enter::enter;
pub(crate) use life::{exec, exit, fork};

/// A process's calls before its seccomp filter is on.
pub(crate) const SETUP: u8 = 0;
/// After that, until its first execve.
pub(crate) const RUNTIME: u8 = 1;
/// After that.
pub(crate) const STARTUP: u8 = 2;
/// Since it waits for requests.
pub(crate) const SERVING: u8 = 3;

/// Only what it forks is followed, not the process itself.
pub(crate) const SPAWNER: u8 = 1;
/// It, or what it came from, has called `listen`.
pub(crate) const LISTENED: u8 = 2;

/// Bytes of a path that are kept.
pub(crate) const PATH: i16 = 256;

/// Set in `thread_info.status` during a call by a 32-bit entry (arch/x86/include/asm/thread_info.h).
const TS_COMPAT: i32 = 2;

/// Offsets in a record of a thread group: its id, an executable's number, a phase, flags.
const TASK_GROUP: i16 = 0;
const TASK_EXECUTABLE: i16 = 4;
const TASK_PHASE: i16 = 6;
const TASK_FLAGS: i16 = 7;

/// What the recorder tells the programs, in words of `settings`. Only the recorder writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Setting {
    /// No call is of an earlier phase than this.
    Floor = 0,
    /// What is born into this pid namespace is followed.
    PidNamespace = 1,
    /// The phase of what is born there of a process that is there already and not followed yet.
    Inside = 2,
}

/// What the programs tell the recorder, in words of `counters`. Only the programs write them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Counter {
    /// The number of the next executable.
    NextExecutable = 0,
    LostCalls = 1,
    LostArguments = 2,
    LostTasks = 3,
    LostExecutables = 4,
    LostCapabilities = 5,
}

/// Places in `recent`.
pub(crate) const RECENT: u32 = 1024;

/// The 64-bit words of `settings` and of `counters`.
pub(crate) const WORDS: usize = 8;

impl Setting {
    const fn offset(self) -> i16 {
        self as i16 * 8
    }
}

impl Counter {
    const fn offset(self) -> i16 {
        self as i16 * 8
    }
}

/// The maps that programs and recorder share. Records are made of the little-endian fields that
/// `observed` takes apart.
#[derive(Debug)]
pub(crate) struct Maps {
    /// Records of thread groups, and whose place was taken.
    pub(crate) tasks: Tasks,
    /// One element: what [`Setting`] names.
    pub(crate) settings: Map<u32, [u64; WORDS]>,
    /// One element: what [`Counter`] names.
    pub(crate) counters: Map<u32, [u64; WORDS]>,
    /// What of a call is of interest, see `interest`.
    pub(crate) interest: Map<u32, u32>,
    /// Path -> executable.
    pub(crate) executables: Map<[u64; 32], u64>,
    /// Call site -> how often, but for what `recent` has.
    pub(crate) calls: Map<u64, u64>,
    /// Call sites of late, by their bits: the site, and how often since it has this place.
    pub(crate) recent: Map<u32, [u64; 2]>,
    /// Call site, value, index.
    pub(crate) arguments: Map<[u64; 3], u64>,
    /// Call site, capability -> how often.
    pub(crate) capabilities: Map<[u64; 2], u64>,
}

/// The key of the one element of `settings` and `counters`, kept by all programs at this place of their stack.
const ONLY_KEY: i16 = -8;
/// The current thread group, likewise.
const TASK_KEY: i16 = -4;
/// And its place in the array.
const PLACE_KEY: i16 = -16;

/// A program that does nothing.
pub(crate) fn nothing() -> Result<Vec<Insn>, BadJump> {
    let mut a = Assembler::default();
    a.finish_here();
    a.assemble()
}

/// `R0 = map[stack + key]`, or null.
fn lookup<K, V>(a: &mut Assembler, map: &Map<K, V>, key: i16)
where
    K: crate::sys::Plain,
    V: crate::sys::Plain,
{
    a.map(Reg::R1, map.fd());
    a.alu_reg(Alu::Move, Reg::R2, Reg::Fp);
    a.alu(Alu::Add, Reg::R2, key.into());
    a.call(Helper::MapLookup);
}

/// `map[stack + key] = stack + value`; R0 is 0 if that went well.
fn update<K, V>(a: &mut Assembler, map: &Map<K, V>, key: i16, value: i16, only_new: bool)
where
    K: crate::sys::Plain,
    V: crate::sys::Plain,
{
    a.map(Reg::R1, map.fd());
    a.alu_reg(Alu::Move, Reg::R2, Reg::Fp);
    a.alu(Alu::Add, Reg::R2, key.into());
    a.alu_reg(Alu::Move, Reg::R3, Reg::Fp);
    a.alu(Alu::Add, Reg::R3, value.into());
    a.alu(Alu::Move, Reg::R4, i32::from(only_new));
    a.call(Helper::MapUpdate);
}

/// `R7 =` the record of the current thread group; goes to `out` if it is not followed.
/// R8 is the task itself.
fn current_task(a: &mut Assembler, maps: &Maps, layout: &Layout, out: Label) {
    a.call(Helper::CurrentTaskBtf);
    a.alu_reg(Alu::Move, Reg::R8, Reg::R0);
    a.load(Width::B4, Reg::R0, Reg::R8, layout.task_tgid);
    a.store(Width::B4, Reg::Fp, TASK_KEY, Reg::R0);
    find_task(a, maps, out);
    a.alu_reg(Alu::Move, Reg::R7, Reg::R0);
    a.load(Width::B1, Reg::R1, Reg::R7, TASK_FLAGS);
    a.jump_if(Reg::R1, Test::AnyBit, SPAWNER.into(), out);
}

/// `R0 =` the record of the thread group on the stack at `TASK_KEY`; goes to `out` if there is none.
fn find_task(a: &mut Assembler, maps: &Maps, out: Label) {
    let found = a.label();
    place_of(a, maps, TASK_KEY, out);
    a.load(Width::B8, Reg::R1, Reg::R0, 0);
    a.jump_if(Reg::R1, Test::Equal, 0, out);
    a.load(Width::B4, Reg::R1, Reg::R0, TASK_GROUP);
    a.load(Width::B4, Reg::R2, Reg::Fp, TASK_KEY);
    a.jump_if_reg(Reg::R1, Test::Equal, Reg::R2, found);
    lookup(a, &maps.tasks.others, TASK_KEY);
    a.jump_if(Reg::R0, Test::Equal, 0, out);
    a.place(found);
}

/// `R0 =` the place in the array for the thread group on the stack at `key`.
fn place_of(a: &mut Assembler, maps: &Maps, key: i16, out: Label) {
    a.load(Width::B4, Reg::R1, Reg::Fp, key);
    a.alu(Alu::And, Reg::R1, maps.tasks.mask().cast_signed());
    a.store(Width::B4, Reg::Fp, PLACE_KEY, Reg::R1);
    lookup(a, maps.tasks.places.map(), PLACE_KEY);
    a.jump_if(Reg::R0, Test::Equal, 0, out);
}

/// `R0 =` the one element; goes to `out` where there is none, which the verifier wants to see.
fn only(a: &mut Assembler, map: &Map<u32, [u64; WORDS]>, out: Label) {
    a.store_value(Width::B4, Reg::Fp, ONLY_KEY, 0);
    lookup(a, map, ONLY_KEY);
    a.jump_if(Reg::R0, Test::Equal, 0, out);
}

/// Counts a loss.
fn lost(a: &mut Assembler, maps: &Maps, what: Counter) {
    let done = a.label();
    only(a, &maps.counters, done);
    a.alu(Alu::Move, Reg::R1, 1);
    a.atomic_add(Reg::R0, what.offset(), Reg::R1);
    a.place(done);
}

/// Adds one to `map[stack + key]`, which it makes if need be; `zero` is a place for a word.
fn count<K>(a: &mut Assembler, maps: &Maps, map: &Map<K, u64>, key: i16, zero: i16, loss: Counter)
where
    K: crate::sys::Plain,
{
    let done = a.label();
    count_or(a, maps, map, key, zero, loss, done);
    a.place(done);
}

/// `count`; goes to `full` if there is no room.
fn count_or<K>(
    a: &mut Assembler,
    maps: &Maps,
    map: &Map<K, u64>,
    key: i16,
    zero: i16,
    loss: Counter,
    full: Label,
) where
    K: crate::sys::Plain,
{
    let found = a.label();
    lookup(a, map, key);
    a.jump_if(Reg::R0, Test::NotEqual, 0, found);
    // If another CPU makes it first, this does nothing and the second lookup finds that one.
    a.store_value(Width::B8, Reg::Fp, zero, 0);
    update(a, map, key, zero, true);
    lookup(a, map, key);
    a.jump_if(Reg::R0, Test::NotEqual, 0, found);
    lost(a, maps, loss);
    a.jump(full);
    a.place(found);
    a.alu(Alu::Move, Reg::R1, 1);
    a.atomic_add(Reg::R0, 0, Reg::R1);
}
