//! What a filter answers for one call, and which of two answers is the stricter.

use oci_spec::runtime::LinuxSeccompAction;

/// `EPERM`, the errno of `SCMP_ACT_ERRNO` when the profile names none (OCI runtime-spec, "seccomp").
pub(crate) const EPERM: u16 = 1;
/// `ENOSYS`: what a kernel without the call answers.
pub(crate) const ENOSYS: u16 = 38;
/// `MAX_ERRNO` (linux/err.h): the kernel cuts larger values off.
pub(crate) const MAX_ERRNO: u16 = 4095;

/// A filter's answer to one call (`SECCOMP_RET_*`, linux/seccomp.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Kill the whole process with SIGSYS.
    KillProcess,
    /// Kill the calling thread with SIGSYS.
    KillThread,
    /// Send SIGSYS to the calling thread.
    Trap,
    /// Do not run the call; return this errno.
    Errno(u16),
    /// Ask the listener.
    Notify,
    /// Ask the tracer; the value is its message.
    Trace(u16),
    /// Run the call after logging it.
    Log,
    /// Run the call.
    Allow,
}

impl Action {
    /// The action of an OCI rule; `errno` is checked by [`super::validate`].
    pub fn from_oci(action: LinuxSeccompAction, errno: Option<u32>) -> Self {
        let value = u16::try_from(errno.unwrap_or(u32::from(EPERM))).unwrap_or(MAX_ERRNO);
        match action {
            LinuxSeccompAction::ScmpActKillProcess => Self::KillProcess,
            LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => {
                Self::KillThread
            }
            LinuxSeccompAction::ScmpActTrap => Self::Trap,
            LinuxSeccompAction::ScmpActErrno => Self::Errno(value),
            LinuxSeccompAction::ScmpActNotify => Self::Notify,
            LinuxSeccompAction::ScmpActTrace => Self::Trace(value),
            LinuxSeccompAction::ScmpActLog => Self::Log,
            LinuxSeccompAction::ScmpActAllow => Self::Allow,
        }
    }

    /// The action and errno of an OCI rule with this answer.
    pub fn to_oci(self) -> (LinuxSeccompAction, Option<u32>) {
        match self {
            Self::KillProcess => (LinuxSeccompAction::ScmpActKillProcess, None),
            Self::KillThread => (LinuxSeccompAction::ScmpActKillThread, None),
            Self::Trap => (LinuxSeccompAction::ScmpActTrap, None),
            Self::Errno(value) => (LinuxSeccompAction::ScmpActErrno, Some(value.into())),
            Self::Notify => (LinuxSeccompAction::ScmpActNotify, None),
            Self::Trace(value) => (LinuxSeccompAction::ScmpActTrace, Some(value.into())),
            Self::Log => (LinuxSeccompAction::ScmpActLog, None),
            Self::Allow => (LinuxSeccompAction::ScmpActAllow, None),
        }
    }

    /// The value a filter returns for it.
    pub(crate) fn ret(self) -> u32 {
        match self {
            Self::KillProcess => 0x8000_0000,
            Self::KillThread => 0,
            Self::Trap => 0x0003_0000,
            Self::Errno(value) => 0x0005_0000 | u32::from(value),
            Self::Notify => 0x7fc0_0000,
            Self::Trace(value) => 0x7ff0_0000 | u32::from(value),
            Self::Log => 0x7ffc_0000,
            Self::Allow => 0x7fff_0000,
        }
    }

    /// The kernel's order of precedence: the smaller, the stricter (`seccomp(2)`).
    pub fn rank(self) -> u8 {
        match self {
            Self::KillProcess => 0,
            Self::KillThread => 1,
            Self::Trap => 2,
            Self::Errno(_) => 3,
            Self::Notify => 4,
            Self::Trace(_) => 5,
            Self::Log => 6,
            Self::Allow => 7,
        }
    }

    /// The call does not run, whoever is asked.
    pub fn denies(self) -> bool {
        self.rank() <= Self::Errno(0).rank()
    }

    /// The call runs, and nobody is asked first.
    pub fn allows(self) -> bool {
        matches!(self, Self::Allow | Self::Log)
    }
}
