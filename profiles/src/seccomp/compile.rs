//! A profile to the program the kernel runs.
//!
//! libseccomp compiles the calls that are decided by their number alone. In front of its program
//! stands one of our own with what libseccomp cannot say, or says otherwise than the model: calls
//! newer than the library, conditions on arguments, 32-bit x86's multiplexed calls, and ENOSYS for
//! calls newer than the profile. The kernel evaluates the argument-free part once, at attach time,
//! into a bitmap; what has to run at each call then stands first instead of behind 300 others.

use std::collections::BTreeMap;
use std::io::{Read, Seek};

use libseccomp::{ScmpAction, ScmpFilterContext, ScmpSyscall, error::SeccompError};
use nix::sys::memfd::{MFdFlags, memfd_create};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompFilterFlag};
use sha2::{Digest, Sha256};

use super::action::{Action, ENOSYS};
use super::arch::{Arch, X32_BIT};
use super::bpf::{self, Instruction, MAX_INSTRUCTIONS};
use super::model::{Decision, Model, Table};
use super::numbers;
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
    fn new(program: Vec<u8>, flags: u32) -> Self {
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
    /// libseccomp refused.
    #[error("libseccomp cannot {doing}")]
    Libseccomp {
        /// The step that failed.
        doing: String,
        /// Its error.
        #[source]
        source: SeccompError,
    },
    /// libseccomp's program could not be read back.
    #[error("cannot read the filter back from memory")]
    ReadBack(#[source] std::io::Error),
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

/// Compiles a profile with libseccomp.
pub fn compile(profile: &LinuxSeccomp) -> Result<Filter, CompileError> {
    validate::check(profile)?;
    let model = Model::new(profile);
    let mut program = prelude(&model)?;
    program.extend(by_libseccomp(&model)?);
    let instructions = program.len() / Instruction::SIZE;
    if instructions > MAX_INSTRUCTIONS {
        return Err(CompileError::TooLong { instructions });
    }
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

/// Our own part: falls through at its end for what it does not decide.
fn prelude(model: &Model) -> Result<Vec<u8>, CompileError> {
    let mut blocks = Vec::new();
    let mut seen = Vec::new();
    for arch in model.tables.keys() {
        if !seen.contains(&arch.audit()) {
            seen.push(arch.audit());
            let block = block(model, arch.audit());
            blocks.push((arch.audit(), block));
        }
    }
    let total: usize = blocks.iter().map(|(_, block)| block.len() + 4).sum();
    if total > MAX_INSTRUCTIONS {
        return Err(CompileError::TooLong {
            instructions: total,
        });
    }
    // From the last block to the first, as each one ends with a jump over all that follow.
    let mut code: Vec<Instruction> = Vec::new();
    for (audit, mut body) in blocks.into_iter().rev() {
        if !code.is_empty() {
            body.push(bpf::jump(code.len()));
        }
        let mut front = bpf::when_equal(audit, body);
        front.append(&mut code);
        code = front;
    }
    let start = [Instruction::load_arch()];
    Ok(start
        .into_iter()
        .chain(code)
        .flat_map(Instruction::to_bytes)
        .collect())
}

/// The part for one audit value: on x86-64 that of x32 too, whose numbers are the higher ones.
fn block(model: &Model, audit: u32) -> Vec<Instruction> {
    let mut code = vec![Instruction::load_number()];
    let mut native = Vec::new();
    let mut x32 = None;
    for (arch, table) in &model.tables {
        if arch.audit() != audit {
            continue;
        }
        let part = part(model, *arch, table);
        if *arch == Arch::X32 {
            x32 = Some(part);
        } else {
            native = part;
        }
    }
    if audit == Arch::X32.audit() {
        let body = match x32 {
            None => vec![Instruction::ret(model.foreign())],
            Some(mut part) => {
                part.push(bpf::jump(native.len()));
                part
            }
        };
        code.extend(bpf::when_at_least(X32_BIT, body));
    }
    code.extend(native);
    code
}

/// The part for one architecture.
fn part(model: &Model, arch: Arch, table: &Table) -> Vec<Instruction> {
    let mut code = Vec::new();
    if let Some(newest) = table.newest {
        let enosys = vec![Instruction::ret(Action::Errno(ENOSYS))];
        code.extend(bpf::when_above(newest, enosys));
    }
    for (number, decision) in ours(model, arch, table) {
        code.extend(bpf::when_equal(number, bpf::decide(&decision)));
    }
    code
}

/// What libseccomp must not be asked about on this architecture.
fn ours(model: &Model, arch: Arch, table: &Table) -> Vec<(u32, Decision)> {
    let mut names_of: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
    for name in model.names.keys() {
        if let Some(number) = numbers::resolve(arch, name) {
            names_of.entry(number).or_default().push(name);
        }
    }
    let multiplexer = |number: u32| {
        arch == Arch::X86
            && numbers::MULTIPLEXERS_X86
                .iter()
                .any(|(_, own)| *own == number)
    };
    // libseccomp answers as the model does if each of the number's names is one it has under that
    // number, and each name's rule is by itself the number's decision.
    let same = |number: u32, decision: &Decision| {
        let names = names_of.get(&number).map(Vec::as_slice).unwrap_or_default();
        matches!(decision, Decision::Always(_))
            && names.iter().all(|name| {
                numbers::by_libseccomp(arch, name) == Some(number)
                    && model.by_name(name) == *decision
            })
    };
    let mut out = table.decisions.clone();
    if arch == Arch::X86 {
        for (_, number) in numbers::MULTIPLEXERS_X86 {
            out.entry(*number)
                .or_insert(Decision::Always(model.default));
        }
    }
    out.retain(|number, decision| multiplexer(*number) || !same(*number, decision));
    out.into_iter().collect()
}

/// libseccomp's part: every name that is decided by its number alone.
fn by_libseccomp(model: &Model) -> Result<Vec<u8>, CompileError> {
    let failed = |doing: &str| {
        let doing = doing.to_owned();
        move |source| CompileError::Libseccomp { doing, source }
    };
    let mut context = ScmpFilterContext::new(to_libseccomp(model.default))
        .map_err(failed("start a filter with this default action"))?;
    context
        .set_act_badarch(to_libseccomp(model.foreign()))
        .map_err(failed("set the action for other architectures"))?;
    for arch in model.tables.keys() {
        context
            .add_arch(arch.to_libseccomp())
            .map_err(failed("add an architecture"))?;
    }
    for name in model.names.keys() {
        let (Decision::Always(action), Ok(call)) =
            (model.by_name(name), ScmpSyscall::from_name(name))
        else {
            continue;
        };
        if action != model.default {
            context
                .add_rule(to_libseccomp(action), call)
                .map_err(failed(&format!("add a rule for {name}")))?;
        }
    }
    export(&context)
}

fn export(context: &ScmpFilterContext) -> Result<Vec<u8>, CompileError> {
    // libseccomp 2.5 writes a program to a descriptor only; this one never leaves memory.
    let memory = memfd_create("seccomp-filter", MFdFlags::MFD_CLOEXEC)
        .map_err(|errno| CompileError::ReadBack(errno.into()))?;
    context
        .export_bpf(&memory)
        .map_err(|source| CompileError::Libseccomp {
            doing: "write the filter".to_owned(),
            source,
        })?;
    let mut file = std::fs::File::from(memory);
    let mut program = Vec::new();
    file.rewind()
        .and_then(|()| file.read_to_end(&mut program))
        .map_err(CompileError::ReadBack)?;
    Ok(program)
}

fn to_libseccomp(action: Action) -> ScmpAction {
    match action {
        Action::KillProcess => ScmpAction::KillProcess,
        Action::KillThread => ScmpAction::KillThread,
        Action::Trap => ScmpAction::Trap,
        Action::Errno(value) => ScmpAction::Errno(value.into()),
        Action::Notify => ScmpAction::Notify,
        Action::Trace(value) => ScmpAction::Trace(value),
        Action::Log => ScmpAction::Log,
        Action::Allow => ScmpAction::Allow,
    }
}
