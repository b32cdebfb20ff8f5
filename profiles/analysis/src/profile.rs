//! A result as a seccomp profile.

use cofferdam_profiles::seccomp;
use oci_spec::runtime::{Arch, Capabilities, LinuxSeccomp, LinuxSeccompAction, LinuxSyscall};

use crate::result::Analysis;

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// Newer calls that libraries try first and have an older one for, which they use on ENOSYS only.
/// They answer ENOSYS where the result does not have them.
const FALLBACKS: &[&str] = &[
    "clone3",
    "close_range",
    "copy_file_range",
    "epoll_pwait2",
    "execveat",
    "faccessat2",
    "fchmodat2",
    "futex_waitv",
    "getrandom",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "landlock_create_ruleset",
    "membarrier",
    "memfd_create",
    "openat2",
    "pidfd_open",
    "pidfd_send_signal",
    "preadv2",
    "process_madvise",
    "pwritev2",
    "renameat2",
    "rseq",
    "statx",
];

/// Where a number is not known, it could be any that a container may use at all: the built-in
/// default for one without capabilities, with its conditions, but for calls that are allowed
/// anyway.
fn widen(rules: &mut Vec<LinuxSyscall>, allowed: &[String]) {
    let default = seccomp::default_profile(&Capabilities::default(), seccomp::Arch::X86_64);
    for rule in default.syscalls().iter().flatten() {
        let new = |name: &&String| {
            let known = seccomp::resolve(seccomp::Arch::X86_64, name).is_some();
            known && !allowed.contains(name)
        };
        let names: Vec<String> = rule.names().iter().filter(new).cloned().collect();
        if !names.is_empty() {
            let mut rule = rule.clone();
            rule.set_names(names);
            rules.push(rule);
        }
    }
}

/// Allows what was found and denies the rest: EPERM, or ENOSYS for calls that have an older
/// fallback. `clone3` always answers ENOSYS, as its flags lie where no filter can look; `clone` is
/// then allowed in its place. If the number of a reachable call is not known, everything that the
/// built-in default allows is allowed.
pub fn to_profile(analysis: &Analysis) -> LinuxSeccomp {
    of_calls(analysis.syscalls.keys(), analysis.is_widened())
}

/// The same, of calls by name; widened if the number of a reachable call is not known.
pub(crate) fn of_calls<'a>(
    calls: impl Iterator<Item = &'a String>,
    is_widened: bool,
) -> LinuxSeccomp {
    let mut allowed: Vec<String> = calls.cloned().collect();
    if allowed.iter().any(|name| name == "clone3") {
        allowed.retain(|name| name != "clone3");
        if !allowed.iter().any(|name| name == "clone") {
            allowed.push("clone".to_owned());
            allowed.sort_unstable();
        }
    }
    let mut allow = LinuxSyscall::default();
    allow.set_names(allowed.clone());
    allow.set_action(LinuxSeccompAction::ScmpActAllow);
    let mut rules = vec![allow];
    if is_widened {
        widen(&mut rules, &allowed);
    }
    let known = |name: &&&str| seccomp::resolve(seccomp::Arch::X86_64, name).is_some();
    let absent: Vec<String> = FALLBACKS
        .iter()
        .filter(known)
        .filter(|name| {
            !rules
                .iter()
                .any(|rule| rule.names().iter().any(|own| own == *name))
        })
        .map(|name| (*name).to_owned())
        .collect();
    let mut refuse = LinuxSyscall::default();
    refuse.set_names(absent);
    refuse.set_action(LinuxSeccompAction::ScmpActErrno);
    refuse.set_errno_ret(Some(ENOSYS));
    let mut profile = LinuxSeccomp::default();
    profile.set_default_action(LinuxSeccompAction::ScmpActErrno);
    profile.set_default_errno_ret(Some(EPERM));
    profile.set_architectures(Some(vec![Arch::ScmpArchX86_64]));
    if !refuse.names().is_empty() {
        rules.push(refuse);
    }
    profile.set_syscalls(Some(rules));
    profile
}
