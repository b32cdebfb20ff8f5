//! The seccomp programs: which are attached, whether they are those stored at creation, and how
//! many system calls they let through.

use std::collections::BTreeSet;
use std::path::Path;

use cofferdam_profiles::seccomp::{Arch, Call, interpret};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::process::ProcDir;
use super::{InspectError, attached};
use crate::state::State;

/// Numbers above this are not in use on any architecture we run on.
const LAST_CALL: u32 = 511;

/// `SECCOMP_RET_ALLOW` and `SECCOMP_RET_LOG` (linux/seccomp.h).
const ALLOW: u32 = 0x7fff_0000;
const LOG: u32 = 0x7ffc_0000;
const ACTION: u32 = 0xffff_0000;

/// Instructions that look at the call (linux/bpf_common.h).
const LD_W_ABS: u16 = 0x20;
const ARGS_OFFSET: u32 = 16;

/// System calls.
#[derive(Debug, Clone, Serialize)]
pub struct Seccomp {
    /// `none`, `strict` or `filter`.
    pub mode: String,
    /// How many programs the kernel says are attached.
    pub attached: u32,
    /// The programs: read from the kernel if that was asked for, else those stored at creation.
    pub programs: Vec<Program>,
    /// The programs come from the kernel.
    pub read_from_kernel: bool,
    /// Native calls that every program lets through whatever their arguments.
    pub allowed: usize,
    /// Native calls let through with some arguments only.
    pub conditional: usize,
}

/// One program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Program {
    /// SHA-256 of its instructions.
    pub sha256: String,
    /// How many instructions it has.
    pub instructions: usize,
    /// It is, byte for byte, one of those stored at creation.
    pub stored: bool,
}

pub(super) fn read(
    state: &State,
    proc: &ProcDir,
    ask: bool,
    unread: &mut Vec<String>,
) -> Result<Seccomp, InspectError> {
    let status = proc.text("status")?;
    let field = |name: &str| -> u32 {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .and_then(|value| value.trim().parse().ok())
            .unwrap_or(0)
    };
    let mode = match field("Seccomp") {
        0 => "none",
        1 => "strict",
        _ => "filter",
    };
    let stored = stored(&state.directory, state.seccomp.len());
    let asked = if ask && mode == "filter" {
        attached::programs(proc.pid)
            .map_err(|e| unread.push(format!("the attached seccomp programs: {e}")))
            .ok()
    } else {
        None
    };
    let read_from_kernel = asked.is_some();
    let programs = match asked {
        Some(programs) => programs,
        None if mode == "filter" => stored.clone(),
        None => vec![],
    };
    let (allowed, conditional) = count(&programs);
    Ok(Seccomp {
        mode: mode.to_owned(),
        attached: field("Seccomp_filters"),
        programs: programs
            .iter()
            .map(|program| Program {
                sha256: hex(&Sha256::digest(program)),
                instructions: program.len() / 8,
                stored: stored.contains(program),
            })
            .collect(),
        read_from_kernel,
        allowed,
        conditional,
    })
}

/// The programs in the state directory: four bytes of flags, then the instructions.
fn stored(directory: &Path, count: usize) -> Vec<Vec<u8>> {
    (0..count)
        .filter_map(|number| {
            let bytes = std::fs::read(directory.join(format!("seccomp-{number}.bpf"))).ok()?;
            Some(bytes.get(4..)?.to_vec())
        })
        .collect()
}

/// Runs the programs over every native call. A call that lets some arguments through and others
/// not is found by trying each constant that a program compares arguments with.
fn count(programs: &[Vec<u8>]) -> (usize, usize) {
    if programs.is_empty() {
        return (0, 0);
    }
    let samples = samples(programs);
    let (mut always, mut sometimes) = (0, 0);
    for number in 0..=LAST_CALL {
        let passes = |args: [u64; 6]| {
            let call = Call {
                audit: Arch::NATIVE.audit(),
                number,
                args,
            };
            programs.iter().all(|program| {
                // A program that cannot be run counts as closed.
                interpret(program, &call).is_ok_and(|answer| matches!(answer & ACTION, ALLOW | LOG))
            })
        };
        let passed = samples.iter().filter(|args| passes(**args)).count();
        if passed == samples.len() {
            always += 1;
        } else if passed > 0 {
            sometimes += 1;
        }
    }
    (always, sometimes)
}

/// Arguments worth trying: nothing, everything, and every constant with its neighbours.
fn samples(programs: &[Vec<u8>]) -> Vec<[u64; 6]> {
    let mut values = BTreeSet::new();
    for program in programs {
        let mut of_argument = false;
        for record in program.chunks_exact(8) {
            let [c0, c1, _, _, k0, k1, k2, k3] = *record else {
                continue;
            };
            let (code, k) = (
                u16::from_ne_bytes([c0, c1]),
                u32::from_ne_bytes([k0, k1, k2, k3]),
            );
            if code == LD_W_ABS {
                of_argument = k >= ARGS_OFFSET;
            } else if of_argument && code & 7 == 5 {
                let k = u64::from(k);
                values.extend([k, k.wrapping_add(1), k.saturating_sub(1), k << 32]);
            }
        }
    }
    // In every place at once: which argument a constant belongs to need not be known.
    let mut samples = vec![[0; 6], [u64::MAX; 6]];
    samples.extend(values.into_iter().map(|value| [value; 6]));
    samples
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(records: &[(u16, u8, u8, u32)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (code, jt, jf, k) in records {
            bytes.extend(code.to_ne_bytes());
            bytes.extend([*jt, *jf]);
            bytes.extend(k.to_ne_bytes());
        }
        bytes
    }

    /// Allows 0 and 1; 2 only if its first argument is 7; else EPERM.
    fn some() -> Vec<u8> {
        program(&[
            (0x20, 0, 0, 0),
            (0x15, 4, 0, 0),
            (0x15, 3, 0, 1),
            (0x15, 0, 3, 2),
            (0x20, 0, 0, 16),
            (0x15, 0, 1, 7),
            (0x06, 0, 0, ALLOW),
            (0x06, 0, 0, 0x0005_0001),
        ])
    }

    #[test]
    fn calls_are_counted_by_running_the_program() {
        let all = program(&[(0x06, 0, 0, ALLOW)]);
        let none = program(&[(0x06, 0, 0, 0)]);
        let broken = program(&[(0xff, 0, 0, 0)]);
        for (name, programs, expected) in [
            ("no program", vec![], (0, 0)),
            ("some", vec![some()], (2, 1)),
            ("all", vec![all.clone()], (512, 0)),
            ("both must allow", vec![all, some()], (2, 1)),
            ("none", vec![none, some()], (0, 0)),
            ("broken", vec![broken], (0, 0)),
        ] {
            assert_eq!(count(&programs), expected, "{name}");
        }
    }
}
