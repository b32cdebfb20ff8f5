//! What a recording found, in numbers.

use std::collections::{BTreeMap, BTreeSet};

use crate::program;
use crate::touched::Touched;

/// When a call was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Before the seccomp filter was put on: not what a filter has to allow.
    Setup,
    /// From there to the payload's execve.
    Runtime,
    /// Until it waits for requests.
    Startup,
    /// Afterwards.
    Serving,
}

impl Phase {
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Setup => program::SETUP,
            Self::Runtime => program::RUNTIME,
            Self::Startup => program::STARTUP,
            Self::Serving => program::SERVING,
        }
    }

    pub(crate) fn of(number: u8) -> Self {
        match number {
            program::SETUP => Self::Setup,
            program::RUNTIME => Self::Runtime,
            program::STARTUP => Self::Startup,
            _ => Self::Serving,
        }
    }
}

/// Which table of numbers a call's number is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Abi {
    /// x86-64.
    Native,
    /// x86-64 with 32-bit pointers.
    X32,
    /// 32-bit x86: `int 0x80` and the 32-bit entries, also from a 64-bit process.
    X86,
}

/// `__X32_SYSCALL_BIT`
const X32_BIT: u32 = 0x4000_0000;

/// Where a call comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallSite {
    /// Index of [`Observed::executables`].
    pub executable: u16,
    /// When.
    pub phase: Phase,
    /// Whose number it is.
    pub abi: Abi,
    /// As the ABI has it, without x32's bit.
    pub number: u32,
}

impl CallSite {
    /// From the word that the programs make of it.
    pub(crate) fn unpack(word: u64) -> Self {
        let [a, b, c, d, e, f, phase, abi] = word.to_le_bytes();
        let number = u32::from_le_bytes([a, b, c, d]);
        let (abi, number) = match abi {
            // -1 is an interrupt, which only the capabilities have.
            0 if number & X32_BIT != 0 && number != u32::MAX => (Abi::X32, number & !X32_BIT),
            0 => (Abi::Native, number),
            _ => (Abi::X86, number),
        };
        Self {
            executable: u16::from_le_bytes([e, f]),
            phase: Phase::of(phase),
            abi,
            number,
        }
    }
}

/// A call that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenCall {
    /// From where.
    pub site: CallSite,
    /// How often.
    pub count: u64,
}

/// A value that an argument had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenArgument {
    /// Of which call.
    pub site: CallSite,
    /// 0 to 5.
    pub index: u8,
    /// All 64 bits, as seccomp would see them; of a 32-bit call the lower 32.
    pub value: u64,
}

/// A capability that the kernel asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenCapability {
    /// During which call; the number is `u32::MAX` outside of one.
    pub site: CallSite,
    /// `CAP_*`.
    pub capability: u8,
    /// Whether the process had it.
    pub granted: bool,
    /// Asked by memory accounting, which only wants to know whether root's reserve may be used and
    /// does without: not a need of the program.
    pub accounting: bool,
    /// How often.
    pub count: u64,
}

/// How it was observed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Means {
    /// BPF on the kernel's tracepoints: every call.
    #[default]
    Bpf,
    /// Seccomp notifications: every call that was not predicted, and no capabilities.
    Notify,
}

/// What could not be kept, by kind. Anything but zeros means that the recording is not complete.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// Calls that found the map of call sites full.
    pub calls: u64,
    /// Values of arguments that found theirs full.
    pub arguments: u64,
    /// Processes that found the map of processes full, with everything they did.
    pub tasks: u64,
    /// Executables that found theirs full; what they called was kept without their name.
    pub executables: u64,
    /// Capabilities that found theirs full.
    pub capabilities: u64,
    /// Events for which the kernel did not run a program.
    pub missed: u64,
    /// Files that found no room.
    pub files: u64,
}

impl Lost {
    /// All of it.
    pub fn total(&self) -> u64 {
        [
            self.calls,
            self.arguments,
            self.tasks,
            self.executables,
            self.capabilities,
            self.missed,
            self.files,
        ]
        .iter()
        .fold(0, |sum, one| sum.saturating_add(*one))
    }
}

/// What a recording found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// How.
    pub means: Means,
    /// Paths as given to execve; of scripts, the interpreter's. 0 is what ran when the recording
    /// began and has not executed anything since.
    pub executables: BTreeMap<u16, String>,
    /// Calls, sorted by site.
    pub calls: Vec<SeenCall>,
    /// Values of arguments.
    pub arguments: Vec<SeenArgument>,
    /// Capabilities.
    pub capabilities: Vec<SeenCapability>,
    /// Whether the kernel has the tracepoint that tells of capabilities (Linux 6.14).
    pub knows_capabilities: bool,
    /// Whether [`SeenCapability::accounting`] could be found out.
    pub knows_accounting: bool,
    /// Whether a filter was put on before the payload began, so that [`Phase::Setup`] ended there.
    pub saw_filter: bool,
    /// Native numbers of calls that were let through unseen.
    pub predicted: BTreeSet<u32>,
    /// Whether what was recorded had to give up the right to gain privileges (`no_new_privs`).
    pub lost_privileges: bool,
    /// What was done with files and ports; none where that was not asked for.
    pub touched: Option<Touched>,
    /// What could not be kept.
    pub lost: Lost,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_sites_come_apart_as_the_programs_put_them_together() {
        let word = |number: u32, executable: u16, phase: u8, abi: u8| {
            let [a, b, c, d] = number.to_le_bytes();
            let [e, f] = executable.to_le_bytes();
            u64::from_le_bytes([a, b, c, d, e, f, phase, abi])
        };
        let table = [
            (word(59, 7, 2, 0), 59, 7, Phase::Startup, Abi::Native),
            (word(59, 0, 3, 1), 59, 0, Phase::Serving, Abi::X86),
            (word(X32_BIT | 1, 0, 0, 0), 1, 0, Phase::Setup, Abi::X32),
            (
                word(u32::MAX, 1, 1, 0),
                u32::MAX,
                1,
                Phase::Runtime,
                Abi::Native,
            ),
        ];
        for (word, number, executable, phase, abi) in table {
            let expected = CallSite {
                executable,
                phase,
                abi,
                number,
            };
            assert_eq!(CallSite::unpack(word), expected);
        }
    }
}
