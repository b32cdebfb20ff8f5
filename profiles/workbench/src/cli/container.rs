//! The options that say which container a profile is for.

use clap::ValueEnum;
use cofferdam_profiles::capability::{self, Set};
use cofferdam_profiles::seccomp::Arch;

use crate::dialect::{Kernel, Target};

/// A container, as far as Docker's and Podman's rules depend on it.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "The container (Docker's and Podman's rules depend on it)")]
pub(super) struct Container {
    /// A capability it has beside the fourteen that engines give; `ALL` for every one. Repeatable.
    #[arg(long = "cap", alias = "capabilities", value_name = "CAP", value_delimiter = ',', value_parser = capabilities)]
    add: Vec<Set>,
    /// A capability it does not have; `ALL` for every one not given by --cap. Repeatable.
    #[arg(long = "cap-drop", value_name = "CAP", value_parser = capabilities)]
    drop: Vec<Set>,
    /// Its architecture; this machine's if not given.
    #[arg(long, value_enum)]
    arch: Option<Machine>,
    /// The kernel it runs on, X.Y; one that is newer than any rule asks for if not given.
    #[arg(long, value_name = "X.Y", value_parser = kernel)]
    kernel: Option<Kernel>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Machine {
    /// 64-bit x86
    #[value(name = "x86_64", alias = "amd64")]
    X86_64,
    /// 64-bit ARM
    #[value(name = "aarch64", alias = "arm64")]
    Aarch64,
    /// 64-bit RISC-V
    #[value(name = "riscv64")]
    Riscv64,
}

impl Container {
    /// Whether any of the options was given.
    pub(super) fn is_described(&self) -> bool {
        !self.add.is_empty()
            || !self.drop.is_empty()
            || self.arch.is_some()
            || self.kernel.is_some()
    }

    pub(super) fn target(&self) -> Target {
        let union = |sets: &[Set]| sets.iter().fold(Set::EMPTY, |all, set| all | *set);
        let usual = capability::ENGINE_DEFAULT - union(&self.drop);
        Target {
            capabilities: usual | union(&self.add),
            arch: match self.arch {
                None => Arch::NATIVE,
                Some(Machine::X86_64) => Arch::X86_64,
                Some(Machine::Aarch64) => Arch::Aarch64,
                Some(Machine::Riscv64) => Arch::Riscv64,
            },
            kernel: self.kernel,
        }
    }
}

/// A capability with or without `CAP_`, in any case, or `ALL`.
fn capabilities(text: &str) -> Result<Set, String> {
    if text.eq_ignore_ascii_case("all") {
        return Ok(Set::of(capability::ALL));
    }
    capability::parse(text)
        .map(|one| Set::of(&[one]))
        .ok_or_else(|| "no such capability; they are listed in capabilities(7)".to_owned())
}

fn kernel(text: &str) -> Result<Kernel, String> {
    Kernel::parse(text).ok_or_else(|| "not a version, as in 6.1".to_owned())
}

/// The kinds of calls that a machine's kernel takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Abi {
    /// 64-bit x86
    #[value(name = "x86_64", alias = "amd64")]
    X86_64,
    /// 32-bit x86
    #[value(name = "x86", alias = "i386")]
    X86,
    /// x32: 64-bit x86 with 32-bit pointers
    #[value(name = "x32")]
    X32,
    /// 64-bit ARM
    #[value(name = "aarch64", alias = "arm64")]
    Aarch64,
    /// 32-bit ARM
    #[value(name = "arm")]
    Arm,
    /// 64-bit RISC-V
    #[value(name = "riscv64")]
    Riscv64,
}

/// The architectures that options name.
pub(super) fn abis(abis: &[Abi]) -> Vec<Arch> {
    let arch = |abi: &Abi| match abi {
        Abi::X86_64 => Arch::X86_64,
        Abi::X86 => Arch::X86,
        Abi::X32 => Arch::X32,
        Abi::Aarch64 => Arch::Aarch64,
        Abi::Arm => Arch::Arm,
        Abi::Riscv64 => Arch::Riscv64,
    };
    abis.iter().map(arch).collect()
}
