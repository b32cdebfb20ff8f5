//! The profile of containers that bring none, and the bound of those that do.
//!
//! What it decides, beside the lists of names:
//! - **Default EPERM**; ENOSYS for `clone3`, io_uring and the like, and for every call newer than
//!   the newest the profile names, so that libraries fall back.
//! - **`clone3` answers ENOSYS** without CAP_SYS_ADMIN: its flags lie in memory, where no filter
//!   can look, so libc is made to use `clone`, whose namespace flags are refused.
//! - **Socket families** are a list (Unix, IPv4, IPv6, netlink, packet; a few more with
//!   CAP_NET_ADMIN), so AF_ALG and AF_VSOCK, which no namespace confines, and the kernel's seldom
//!   used protocols are out of reach. The comparison is with all 64 bits: the kernel looks at the
//!   lower 32, so garbage above them must not pass for another family.
//! - **`ioctl`** refuses TIOCSTI and TIOCLINUX (input forged into the terminal), comparing the
//!   lower 32 bits, because C libraries extend the command's sign.
//! - **x32 is not listed**, so its numbers get ENOSYS. **32-bit x86 is**, so that 32-bit programs
//!   run; but there `socketcall` makes sockets of any family with its arguments in memory, so its
//!   subcalls `socket` and `socketpair` are refused unless [`Compat32::Socketcall`] is asked for.
//!   musl falls back to the direct calls of Linux 4.3; 32-bit glibc does not, and loses sockets.

/// The calls by what they are for.
#[rustfmt::skip]
mod names;

use oci_spec::runtime::{
    Capabilities, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSyscall,
};

use serde::{Deserialize, Serialize};

use super::action::{Action, ENOSYS, EPERM};
use super::arch::Arch;
use super::args::{Op, Test};

/// What 32-bit programs get on a 64-bit machine; the tightest comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compat32 {
    /// Nothing: every 32-bit call gets ENOSYS.
    Refused,
    /// The same as 64-bit ones, but on x86 no sockets through `socketcall`.
    #[default]
    Filtered,
    /// `socketcall` too, and with it every socket family: for 32-bit glibc.
    Socketcall,
}

/// What the built-in default depends on.
#[derive(Debug, Clone)]
pub struct DefaultProfile<'a> {
    /// The container's bounding set.
    pub capabilities: &'a Capabilities,
    /// The native architecture of the container's programs.
    pub arch: Arch,
    /// What 32-bit programs get.
    pub compat32: Compat32,
}

/// The built-in default for a container with this bounding set.
pub fn default_profile(capabilities: &Capabilities, arch: Arch) -> LinuxSeccomp {
    DefaultProfile {
        capabilities,
        arch,
        compat32: Compat32::default(),
    }
    .build()
}

// Flags of clone(2) that make a namespace (linux/sched.h); CLONE_NEWTIME is no flag of `clone`.
const CLONE_NAMESPACES: u64 = 0x0002_0000 // CLONE_NEWNS
    | 0x0200_0000 // CLONE_NEWCGROUP
    | 0x0400_0000 // CLONE_NEWUTS
    | 0x0800_0000 // CLONE_NEWIPC
    | 0x1000_0000 // CLONE_NEWUSER
    | 0x2000_0000 // CLONE_NEWPID
    | 0x4000_0000; // CLONE_NEWNET

/// AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET (linux/socket.h).
const FAMILIES: &[u64] = &[1, 2, 10, 16, 17];
/// With CAP_NET_ADMIN also AF_KEY, AF_CAN, AF_BLUETOOTH, AF_IEEE802154, AF_XDP.
const FAMILIES_OF_ADMINS: &[u64] = &[15, 29, 31, 36, 44];

/// PER_LINUX, PER_LINUX32, each also with UNAME26, and the query (linux/personality.h).
const PERSONALITIES: &[u64] = &[0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// TIOCSTI and TIOCLINUX (asm-generic/ioctls.h; the same on every architecture here).
const TERMINAL_INJECTION: &[u64] = &[0x5412, 0x541c];

/// SYS_SOCKET and SYS_SOCKETPAIR (linux/net.h).
const SOCKETCALL_MAKING: &[u64] = &[1, 8];

impl DefaultProfile<'_> {
    /// The profile, in the form an OCI spec carries.
    pub fn build(&self) -> LinuxSeccomp {
        let mut rules: Vec<LinuxSyscall> = Vec::new();
        let mut allowed: Vec<&str> = names::ALLOWED.concat();
        for (capabilities, names) in names::BY_CAPABILITY {
            if capabilities
                .iter()
                .any(|wanted| self.capabilities.contains(wanted))
            {
                allowed.extend(*names);
            }
        }
        let x86 = self.arch == Arch::X86_64;
        if self.compat32 == Compat32::Socketcall {
            allowed.push("socketcall");
        }
        let absent = names::ABSENT.iter().copied();
        let absent: Vec<&str> = absent.filter(|name| !allowed.contains(name)).collect();
        let clone = !allowed.contains(&"clone");
        rules.push(rule(&allowed, Action::Allow, &[]));
        rules.push(rule(&absent, Action::Errno(ENOSYS), &[]));
        if clone {
            let none = test(0, Op::MaskedEq(CLONE_NAMESPACES), 0);
            rules.push(rule(&["clone"], Action::Allow, &[none]));
        }
        let administers = self.capabilities.contains(&Capability::NetAdmin);
        let more = if administers { FAMILIES_OF_ADMINS } else { &[] };
        let families = FAMILIES.iter().chain(more);
        for family in families {
            let names = ["socket", "socketpair"];
            rules.push(rule(&names, Action::Allow, &[test(0, Op::Eq, *family)]));
        }
        for persona in PERSONALITIES {
            rules.push(rule(
                &["personality"],
                Action::Allow,
                &[test(0, Op::Eq, *persona)],
            ));
        }
        rules.extend(all_but("ioctl", 1, TERMINAL_INJECTION));
        if x86 && self.compat32 == Compat32::Filtered {
            rules.extend(all_but("socketcall", 0, SOCKETCALL_MAKING));
        }
        let mut profile = LinuxSeccomp::default();
        profile.set_default_action(LinuxSeccompAction::ScmpActErrno);
        profile.set_default_errno_ret(Some(EPERM.into()));
        profile.set_architectures(Some(self.architectures()));
        profile.set_syscalls(Some(rules));
        profile
    }

    fn architectures(&self) -> Vec<oci_spec::runtime::Arch> {
        let compat = match self.arch {
            Arch::X86_64 => Some(Arch::X86),
            Arch::Aarch64 => Some(Arch::Arm),
            _ => None,
        };
        let compat = compat.filter(|_| self.compat32 != Compat32::Refused);
        [self.arch]
            .into_iter()
            .chain(compat)
            .map(Arch::to_oci)
            .collect()
    }
}

/// The call with any value in the lower 32 bits of one argument but these. The strictest rule that
/// matches wins (see `model`), so the one that always matches says "else".
fn all_but(name: &'static str, index: u8, values: &'static [u64]) -> Vec<LinuxSyscall> {
    let denied = values.iter().map(|value| {
        let low = test(index, Op::MaskedEq(0xffff_ffff), *value);
        rule(&[name], Action::Errno(EPERM), &[low])
    });
    denied.chain([rule(&[name], Action::Allow, &[])]).collect()
}

fn test(index: u8, op: Op, value: u64) -> LinuxSeccompArg {
    Test { index, op, value }.to_oci()
}

fn rule(names: &[&str], action: Action, args: &[LinuxSeccompArg]) -> LinuxSyscall {
    let (action, errno) = action.to_oci();
    let mut rule = LinuxSyscall::default();
    rule.set_names(names.iter().map(|name| (*name).to_owned()).collect());
    rule.set_action(action);
    rule.set_errno_ret(errno);
    rule.set_args((!args.is_empty()).then(|| args.to_vec()));
    rule
}
