//! A filter whose errno answers come from a listener.
//!
//! Made from the compiled program, instruction by instruction: each `return ERRNO` becomes
//! `return USER_NOTIF`, everything else stays. What the listener must answer is what the original
//! program says of the call ([`errno_of`]): one source for both.
//!
//! One thing is added. Where two programs both answer USER_NOTIF, the one attached last asks *its*
//! listener (`seccomp_run_filters`, kernel/seccomp.c), which may let the call run. The kernel allows
//! one listener per process tree, so while ours lives the workload cannot have its own; but when ours
//! is gone it could, and every denied call would be its to allow. So the program itself refuses to
//! install a listener, with the errno that the kernel has for a second one. That answer is an errno,
//! which no listener is asked about.

use super::action::{Action, ENOSYS, MAX_ERRNO};
use super::arch::Arch;
use super::bpf::{self, Call, Instruction, MAX_INSTRUCTIONS, interpret};
use super::compile::{CompileError, FLAG_NEW_LISTENER, FLAG_WAIT_KILLABLE_RECV, Filter};
use super::numbers;

/// `EBUSY`: the kernel's answer to a second listener.
const EBUSY: u16 = 16;
/// `EPERM`, for what cannot happen.
const EPERM: u16 = 1;

/// `SECCOMP_SET_MODE_FILTER` (linux/seccomp.h).
const SET_MODE_FILTER: u32 = 1;

const ACTION: u32 = 0xffff_0000;
const DATA: u32 = 0x0000_ffff;
const ERRNO: u32 = 0x0005_0000;
const NOTIFY: u32 = 0x7fc0_0000;
const KILL_THREAD: u32 = 0;
const KILL_PROCESS: u32 = 0x8000_0000;
const TRAP: u32 = 0x0003_0000;

/// The filter that asks a listener wherever `filter` answers an errno; `None` if it never does, and
/// so there is nothing to ask.
pub fn notifying(filter: &Filter) -> Result<Option<Filter>, CompileError> {
    let (records, _) = filter.program.as_chunks::<{ Instruction::SIZE }>();
    let mut asks = false;
    let body: Vec<Instruction> = records
        .iter()
        .map(|record| {
            let instruction = Instruction::from_bytes(*record);
            if instruction.is_return() && instruction.value() & ACTION == ERRNO {
                asks = true;
                return Instruction::ret(Action::Notify);
            }
            instruction
        })
        .collect();
    if !asks {
        return Ok(None);
    }
    let mut code = guard(&filter.program);
    code.extend(body);
    if code.len() > MAX_INSTRUCTIONS {
        return Err(CompileError::TooLong {
            instructions: code.len(),
        });
    }
    let program = code.into_iter().flat_map(Instruction::to_bytes).collect();
    let flags = filter.flags | FLAG_NEW_LISTENER | FLAG_WAIT_KILLABLE_RECV;
    Ok(Some(Filter::new(program, flags)))
}

/// The errno that a listener answers where `program`, the original, would have answered it. Never
/// lets a call run: what the program does not deny with an errno is denied too.
pub fn errno_of(program: &[u8], call: &Call) -> u16 {
    match interpret(program, call) {
        Ok(answer) if answer & ACTION == ERRNO => {
            u16::try_from(answer & DATA).map_or(MAX_ERRNO, |errno| errno.min(MAX_ERRNO))
        }
        // A program that asks a listener nobody has: the kernel's own answer.
        Ok(NOTIFY) => ENOSYS,
        _ => EPERM,
    }
}

/// Code that answers EBUSY to `seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, _)` and falls through
/// for all else, on those architectures where `program` may let that call run.
fn guard(program: &[u8]) -> Vec<Instruction> {
    let arches: Vec<(u32, u32)> = Arch::FAMILY
        .iter()
        .filter_map(|arch| {
            let number = numbers::resolve(*arch, "seccomp")?;
            let denied = answer_to_any(program, arch.audit(), number).is_some_and(refuses);
            (!denied).then_some((arch.audit(), number))
        })
        .collect();
    bpf::refuse_flag(
        &arches,
        SET_MODE_FILTER,
        FLAG_NEW_LISTENER,
        Action::Errno(EBUSY),
    )
}

fn refuses(answer: u32) -> bool {
    matches!(answer & ACTION, ERRNO | KILL_THREAD | KILL_PROCESS | TRAP)
}

/// What a program answers to a number whatever the arguments; `None` if it looks at them.
fn answer_to_any(program: &[u8], audit: u32, number: u32) -> Option<u32> {
    bpf::interpret_without_arguments(program, audit, number)
        .ok()
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::super::arch::X32_BIT;
    use super::super::bpf::jump;
    use super::*;

    #[test]
    fn an_errno_is_what_the_program_says_and_never_a_pass() {
        let call = Call {
            audit: Arch::NATIVE.audit(),
            number: 1,
            args: [0; 6],
        };
        let returns = |value: u32| Instruction::returning(value).to_bytes().to_vec();
        for (answer, errno) in [
            (0x0005_0001, 1),
            (0x0005_0026, 38),
            (0x0005_0000, 0),
            (0x0005_ffff, 4095),
            (NOTIFY, ENOSYS),
            (0x7fff_0000, EPERM),
            (0, EPERM),
        ] {
            assert_eq!(errno_of(&returns(answer), &call), errno, "{answer:#x}");
        }
        assert_eq!(errno_of(&[], &call), EPERM);
        assert_eq!(errno_of(&jump(9).to_bytes(), &call), EPERM);
    }

    #[test]
    fn a_filter_without_errnos_has_nothing_to_ask() {
        let program = Instruction::ret(Action::Allow).to_bytes().to_vec();
        let filter = Filter::new(program, 0);
        assert!(notifying(&filter).unwrap().is_none());
    }

    #[test]
    fn x32_shares_the_audit_value() {
        // The guard compares number and audit value in pairs.
        let number = numbers::resolve(Arch::X32, "seccomp");
        if Arch::NATIVE == Arch::X86_64 {
            assert_eq!(number, Some(X32_BIT | 317));
        }
    }
}
