//! What a profile must be before it means anything, and what in it will have no effect.

use oci_spec::runtime::{
    Arch as OciArch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag,
};

use super::action::MAX_ERRNO;
use super::arch::Arch;
use super::numbers;

/// Names in all rules together that a profile may have. The largest profile in the field names some
/// 500 calls.
const MAX_NAMES: usize = 16_384;
/// Conditions in all rules together, an entry's counted for each of its names. Each takes at least
/// one of the 4096 instructions of a filter, and comparing rules takes the square of their number.
const MAX_CONDITIONS: usize = 4096;

/// Why a profile is not one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidProfile {
    /// A rule without names.
    #[error("seccomp rule {rule} names no system call; remove it or name one")]
    NoNames {
        /// Index of the rule in `linux.seccomp.syscalls`.
        rule: usize,
    },
    /// A name that is the empty string.
    #[error("seccomp rule {rule} has an empty name; remove it")]
    EmptyName {
        /// Index of the rule in `linux.seccomp.syscalls`.
        rule: usize,
    },
    /// An argument that no call has.
    #[error(
        "seccomp rule {rule} ({name}) tests argument {index}; system calls have arguments 0 to 5"
    )]
    ArgumentIndex {
        /// Index of the rule in `linux.seccomp.syscalls`.
        rule: usize,
        /// The rule's first name.
        name: String,
        /// The index it has.
        index: usize,
    },
    /// An errno beyond the kernel's range.
    #[error("seccomp errno {errno} of {what} is too large; the kernel returns 0 to 4095")]
    Errno {
        /// Which field.
        what: String,
        /// The value it has.
        errno: u32,
    },
    /// An errno on an action that returns none.
    #[error(
        "{what} has an errno, but the action {action} returns none; remove the errno or use \
         SCMP_ACT_ERRNO"
    )]
    UselessErrno {
        /// Which field.
        what: String,
        /// The action it has.
        action: LinuxSeccompAction,
    },
    /// A listener is asked, but there is none.
    #[error("seccomp rule {rule} ({name}) uses SCMP_ACT_NOTIFY, but no listenerPath is set")]
    NoListener {
        /// Index of the rule in `linux.seccomp.syscalls`.
        rule: usize,
        /// The rule's first name.
        name: String,
    },
    /// The listener would be asked about its own hand-over.
    #[error("SCMP_ACT_NOTIFY cannot be {what}: the listener could never be handed over")]
    NotifyDeadlock {
        /// Where it is used.
        what: &'static str,
    },
    /// More rules than any filter holds.
    #[error(
        "the seccomp profile is too large: {names} names and {conditions} conditions up to rule \
         {rule}; at most 16384 and 4096 are taken"
    )]
    TooLarge {
        /// Index of the rule in `linux.seccomp.syscalls` that is too much.
        rule: usize,
        /// How many names there are so far.
        names: usize,
        /// How many conditions there are so far.
        conditions: usize,
    },
}

/// Something in a profile that has no effect here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// No architecture of any machine this version knows has such a call.
    UnknownName(String),
    /// A real call, but none of this machine's.
    ForeignName(String),
    /// An architecture whose programs this machine cannot run.
    ForeignArchitecture(OciArch),
    /// `SECCOMP_FILTER_FLAG_TSYNC`: a container's process has one thread when the filter goes on.
    UselessFlag(LinuxSeccompFilterFlag),
    /// A rule that names one argument twice holds if either condition does.
    ArgumentTwice {
        /// Index of the rule in `linux.seccomp.syscalls`.
        rule: usize,
        /// The argument.
        index: usize,
    },
}

/// Checks a profile and lists what in it will have no effect.
pub fn validate(profile: &LinuxSeccomp) -> Result<Vec<Warning>, InvalidProfile> {
    check(profile)?;
    Ok(warnings(profile))
}

/// The checks alone.
pub(crate) fn check(profile: &LinuxSeccomp) -> Result<(), InvalidProfile> {
    let default = profile.default_action();
    if default == LinuxSeccompAction::ScmpActNotify {
        return Err(InvalidProfile::NotifyDeadlock {
            what: "the default action",
        });
    }
    check_errno(default, profile.default_errno_ret(), || {
        "the default".to_owned()
    })?;
    let (mut names, mut conditions) = (0usize, 0usize);
    for (rule, entry) in profile.syscalls().iter().flatten().enumerate() {
        let args = entry.args().as_deref().unwrap_or_default();
        names = names.saturating_add(entry.names().len());
        conditions = conditions.saturating_add(entry.names().len().saturating_mul(args.len()));
        if names > MAX_NAMES || conditions > MAX_CONDITIONS {
            return Err(InvalidProfile::TooLarge {
                rule,
                names,
                conditions,
            });
        }
        let Some(first) = entry.names().first() else {
            return Err(InvalidProfile::NoNames { rule });
        };
        if entry.names().iter().any(String::is_empty) {
            return Err(InvalidProfile::EmptyName { rule });
        }
        if let Some(arg) = args.iter().find(|arg| arg.index() > 5) {
            return Err(InvalidProfile::ArgumentIndex {
                rule,
                name: first.clone(),
                index: arg.index(),
            });
        }
        check_errno(entry.action(), entry.errno_ret(), || {
            format!("rule {rule} ({first})")
        })?;
        if entry.action() == LinuxSeccompAction::ScmpActNotify {
            if profile
                .listener_path()
                .as_ref()
                .is_none_or(|path| path.as_os_str().is_empty())
            {
                return Err(InvalidProfile::NoListener {
                    rule,
                    name: first.clone(),
                });
            }
            if entry.names().iter().any(|name| name == "write") {
                return Err(InvalidProfile::NotifyDeadlock {
                    what: "used on write",
                });
            }
        }
    }
    Ok(())
}

fn check_errno(
    action: LinuxSeccompAction,
    errno: Option<u32>,
    what: impl FnOnce() -> String,
) -> Result<(), InvalidProfile> {
    match errno {
        None => Ok(()),
        Some(errno) => match action {
            LinuxSeccompAction::ScmpActErrno if errno > u32::from(MAX_ERRNO) => {
                Err(InvalidProfile::Errno {
                    what: what(),
                    errno,
                })
            }
            LinuxSeccompAction::ScmpActTrace if errno > u32::from(u16::MAX) => {
                Err(InvalidProfile::Errno {
                    what: what(),
                    errno,
                })
            }
            LinuxSeccompAction::ScmpActErrno | LinuxSeccompAction::ScmpActTrace => Ok(()),
            action => Err(InvalidProfile::UselessErrno {
                what: what(),
                action,
            }),
        },
    }
}

fn warnings(profile: &LinuxSeccomp) -> Vec<Warning> {
    let mut out = Vec::new();
    for arch in profile.architectures().iter().flatten() {
        if Arch::from_oci(*arch).is_none() {
            out.push(Warning::ForeignArchitecture(*arch));
        }
    }
    for flag in profile.flags().iter().flatten() {
        if *flag == LinuxSeccompFilterFlag::SeccompFilterFlagTsync {
            out.push(Warning::UselessFlag(*flag));
        }
    }
    for (rule, entry) in profile.syscalls().iter().flatten().enumerate() {
        for name in entry.names() {
            if numbers::known(name) {
                continue;
            }
            out.push(if numbers::known_elsewhere(name) {
                Warning::ForeignName(name.clone())
            } else {
                Warning::UnknownName(name.clone())
            });
        }
        let mut indexes: Vec<usize> = entry
            .args()
            .iter()
            .flatten()
            .map(|arg| arg.index())
            .collect();
        indexes.sort_unstable();
        if let Some(pair) = indexes.windows(2).find(|pair| pair.first() == pair.last()) {
            out.extend(pair.first().map(|index| Warning::ArgumentTwice {
                rule,
                index: *index,
            }));
        }
    }
    out
}
