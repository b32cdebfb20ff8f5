//! The architectures a process can present to a filter on this machine.
//!
//! A CPU runs its own binaries and those of its 32-bit predecessor; what else a profile lists is
//! dead weight in a filter (no call can carry that architecture) and is left out.

use libseccomp::ScmpArch;
use oci_spec::runtime::Arch as OciArch;

/// The bit that makes an x86-64 number an x32 one (`__X32_SYSCALL_BIT`, asm/unistd.h).
pub(crate) const X32_BIT: u32 = 0x4000_0000;

/// One calling convention the kernel offers here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86 (`int 0x80`, ia32 emulation).
    X86,
    /// x32: 64-bit registers, 32-bit pointers; shares x86-64's audit value, with bit 30 set.
    X32,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM (EABI).
    Arm,
    /// 64-bit RISC-V.
    Riscv64,
}

impl Arch {
    /// The architecture this program was built for.
    pub const NATIVE: Self = if cfg!(target_arch = "x86_64") {
        Self::X86_64
    } else if cfg!(target_arch = "aarch64") {
        Self::Aarch64
    } else if cfg!(target_arch = "riscv64") {
        Self::Riscv64
    } else {
        panic!("no seccomp support for this architecture")
    };

    /// Every architecture whose calls the kernel accepts on this machine, the native one first.
    pub const FAMILY: &'static [Self] = Self::NATIVE.family();

    /// Every architecture whose calls the kernel accepts on a machine with this native one.
    pub const fn family(self) -> &'static [Self] {
        match self {
            Self::X86_64 | Self::X86 | Self::X32 => &[Self::X86_64, Self::X86, Self::X32],
            Self::Aarch64 | Self::Arm => &[Self::Aarch64, Self::Arm],
            Self::Riscv64 => &[Self::Riscv64],
        }
    }

    /// The architecture an OCI profile names, if this machine can present it.
    pub(crate) fn from_oci(arch: OciArch) -> Option<Self> {
        Self::from_oci_on(arch, Self::NATIVE)
    }

    /// The architecture an OCI profile names, if a machine with that native one can present it.
    pub(crate) fn from_oci_on(arch: OciArch, native: Self) -> Option<Self> {
        let arch = match arch {
            OciArch::ScmpArchNative => native,
            OciArch::ScmpArchX86_64 => Self::X86_64,
            OciArch::ScmpArchX86 => Self::X86,
            OciArch::ScmpArchX32 => Self::X32,
            OciArch::ScmpArchAarch64 => Self::Aarch64,
            OciArch::ScmpArchArm => Self::Arm,
            OciArch::ScmpArchRiscv64 => Self::Riscv64,
            _ => return None,
        };
        native.family().contains(&arch).then_some(arch)
    }

    /// The name an OCI profile has for it.
    pub fn to_oci(self) -> OciArch {
        match self {
            Self::X86_64 => OciArch::ScmpArchX86_64,
            Self::X86 => OciArch::ScmpArchX86,
            Self::X32 => OciArch::ScmpArchX32,
            Self::Aarch64 => OciArch::ScmpArchAarch64,
            Self::Arm => OciArch::ScmpArchArm,
            Self::Riscv64 => OciArch::ScmpArchRiscv64,
        }
    }

    /// libseccomp's token for it.
    pub(crate) fn to_libseccomp(self) -> ScmpArch {
        match self {
            Self::X86_64 => ScmpArch::X8664,
            Self::X86 => ScmpArch::X86,
            Self::X32 => ScmpArch::X32,
            Self::Aarch64 => ScmpArch::Aarch64,
            Self::Arm => ScmpArch::Arm,
            Self::Riscv64 => ScmpArch::Riscv64,
        }
    }

    /// `seccomp_data.arch` of its calls (`AUDIT_ARCH_*`, linux/audit.h).
    pub fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
            Self::Riscv64 => 0xc000_00f3,
        }
    }

    /// The last number that existed in Linux 5.0, before the architectures' tables were joined at
    /// 403: every author of a profile can be taken to have known the calls up to it.
    pub(crate) fn long_known(self) -> u32 {
        match self {
            Self::X86_64 => 334,
            Self::X32 => X32_BIT | 547,
            Self::X86 => 386,
            Self::Aarch64 | Self::Riscv64 => 293,
            Self::Arm => 398,
        }
    }
}
