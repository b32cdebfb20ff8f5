//! A profile to the program the kernel runs.
//!
//! At attach time the kernel checks and translates a filter, and runs it once for every number to
//! learn which need no filter at all. Both cost by the instruction, so the program matters: a
//! search over ranges of numbers with the same answer, see `assembly`. libseccomp also has no
//! numbers for calls newer than itself, and drops the argument conditions of calls that 32-bit x86
//! multiplexes. The tests hold our programs against the ones it makes.

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompFilterFlag};
use sha2::{Digest, Sha256};

use super::action::{Action, ENOSYS};
use super::arch::{Arch, X32_BIT};
use super::assembly::{Assembly, Segment};
use super::bpf::{self, Instruction, MAX_INSTRUCTIONS};
use super::model::{Decision, Model, Table};
use super::validate::{self, InvalidProfile};

/// `SECCOMP_FILTER_FLAG_LOG` (linux/seccomp.h).
pub const FLAG_LOG: u32 = 1 << 1;
/// `SECCOMP_FILTER_FLAG_SPEC_ALLOW` (linux/seccomp.h).
pub const FLAG_SPEC_ALLOW: u32 = 1 << 2;
/// `SECCOMP_FILTER_FLAG_NEW_LISTENER` (linux/seccomp.h): `seccomp(2)` returns the listener's
/// descriptor, which must be sent to `listenerPath`.
pub const FLAG_NEW_LISTENER: u32 = 1 << 3;
/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV` (linux/seccomp.h).
pub const FLAG_WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// A compiled filter, ready for `seccomp(2)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// `struct sock_filter` records, native endian, 8 bytes each (linux/filter.h).
    pub program: Vec<u8>,
    /// `SECCOMP_FILTER_FLAG_*` bits (linux/seccomp.h).
    pub flags: u32,
    /// SHA-256 of the program and the flags, lower-case hexadecimal.
    pub id: String,
}

impl Filter {
    pub(crate) fn new(program: Vec<u8>, flags: u32) -> Self {
        let id = hex(&Self::digest(&program, flags));
        Self { program, flags, id }
    }

    /// What `id` is made of.
    pub(crate) fn digest(program: &[u8], flags: u32) -> [u8; 32] {
        let hasher = Sha256::new().chain_update(program);
        hasher.chain_update(flags.to_le_bytes()).finalize().into()
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or('0');
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)])
        .collect()
}

/// Why a profile could not be compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The profile is not valid.
    #[error("the seccomp profile is not valid")]
    Invalid(#[from] InvalidProfile),
    /// The kernel takes at most 4096 instructions.
    #[error(
        "the seccomp profile makes a filter of {instructions} instructions; the kernel takes at \
         most 4096: use fewer argument conditions"
    )]
    TooLong {
        /// How many there would be.
        instructions: usize,
    },
}

/// Compiles a profile.
pub fn compile(profile: &LinuxSeccomp) -> Result<Filter, CompileError> {
    validate::check(profile)?;
    let code = program(&Model::new(profile));
    if code.len() > MAX_INSTRUCTIONS {
        return Err(CompileError::TooLong {
            instructions: code.len(),
        });
    }
    let program = code.into_iter().flat_map(Instruction::to_bytes).collect();
    Ok(Filter::new(program, flags(profile)))
}

fn flags(profile: &LinuxSeccomp) -> u32 {
    let notifies = profile
        .syscalls()
        .iter()
        .flatten()
        .any(|entry| Action::from_oci(entry.action(), entry.errno_ret()) == Action::Notify);
    let listener = if notifies { FLAG_NEW_LISTENER } else { 0 };
    let listed = profile.flags().iter().flatten();
    listed.fold(listener, |bits, flag| {
        bits | match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => FLAG_LOG,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => FLAG_SPEC_ALLOW,
            // The kernel refuses this one without a listener.
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv if notifies => {
                FLAG_WAIT_KILLABLE_RECV
            }
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 0,
            // One thread has nobody to synchronise with, and with a listener the kernel refuses.
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 0,
        }
    })
}

/// The architecture first, then the number, then, for some calls, the arguments.
fn program(model: &Model) -> Vec<Instruction> {
    let mut code = Assembly::default();
    let mut other = code.answer(&Decision::Always(model.foreign()));
    let arches = model.tables.keys().filter(|arch| **arch != Arch::X32);
    for arch in arches.rev() {
        let search = code.search(&segments(model, *arch), u32::MAX);
        let body = code.load_number(search);
        other = code.branch(bpf::Compare::Equal, arch.audit(), body, other);
    }
    code.load_arch(other);
    code.finish()
}

/// The whole number line of an audit value: on x86-64 its upper part is x32's.
fn segments(model: &Model, arch: Arch) -> Vec<Segment> {
    let mut out = Vec::new();
    let end = if arch == Arch::X86_64 { X32_BIT } else { 0 };
    if let Some(table) = model.tables.get(&arch) {
        fill(&mut out, model, table, 0, end);
    }
    if arch == Arch::X86_64 {
        match model.tables.get(&Arch::X32) {
            Some(table) => fill(&mut out, model, table, X32_BIT, 0),
            None => push(&mut out, X32_BIT, Decision::Always(model.foreign())),
        }
    }
    out
}

/// The numbers from `start` to before `end` (0: to the last).
fn fill(out: &mut Vec<Segment>, model: &Model, table: &Table, start: u32, end: u32) {
    let unlisted = |number| {
        let newer = table.newest.is_some_and(|newest| number > newest);
        Decision::Always(if newer {
            Action::Errno(ENOSYS)
        } else {
            model.default
        })
    };
    push(out, start, unlisted(start));
    for (number, decision) in &table.decisions {
        push(out, *number, decision.clone());
        let next = number.wrapping_add(1);
        if next != end {
            push(out, next, unlisted(next));
        }
    }
    // The last listed number may lie below the first that is taken for newer.
    if let Some(next) = table.newest.map(|newest| newest.wrapping_add(1))
        && next != end
        && out.last().is_none_or(|last| last.first < next)
    {
        push(out, next, unlisted(next));
    }
}

/// Numbers come in order; a number may come again, with the answer that counts.
fn push(out: &mut Vec<Segment>, first: u32, decision: Decision) {
    if out.last().is_some_and(|last| last.first == first) {
        out.pop();
    }
    if out.last().is_none_or(|last| last.decision != decision) {
        out.push(Segment { first, decision });
    }
}
