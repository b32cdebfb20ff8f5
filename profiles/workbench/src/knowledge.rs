//! What system calls are for, what harm they can do, and since when there are any.
//!
//! Sources: the manual pages of section 2 (capabilities, versions), `syscalls(2)`, the kernel's own
//! tables. The danger classes say what a call gives to somebody who has taken over a container's
//! process; calls without one still reach kernel code, but code that every program needs.

mod arguments;
mod table;

pub use arguments::{flag_names, value};

use cofferdam_profiles::capability::Capability;

/// What somebody in a container gains by a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Danger {
    /// Loads or replaces code that runs in the kernel.
    KernelCode,
    /// Changes the whole machine: time, swap, power, limits of others.
    Host,
    /// Mounts, namespaces, roots: the walls of the container itself.
    Walls,
    /// Looks into or steers other processes.
    Processes,
    /// Large, young or often broken kernel code that few programs need.
    AttackSurface,
    /// Passes by the filter's or the file system's checks.
    Bypass,
    /// Keys and logs that are not divided between containers.
    Undivided,
    /// Direct access to hardware.
    Hardware,
}

impl Danger {
    /// Every class, the gravest first.
    pub const ALL: [Self; 8] = [
        Self::KernelCode,
        Self::Host,
        Self::Walls,
        Self::Hardware,
        Self::Processes,
        Self::Undivided,
        Self::Bypass,
        Self::AttackSurface,
    ];

    /// What the class is called.
    pub fn title(self) -> &'static str {
        match self {
            Self::KernelCode => "kernel code",
            Self::Host => "whole host",
            Self::Walls => "container walls",
            Self::Processes => "other processes",
            Self::AttackSurface => "attack surface",
            Self::Bypass => "bypass",
            Self::Undivided => "undivided",
            Self::Hardware => "hardware",
        }
    }
}

/// What is known of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Knowledge {
    /// What it is for.
    pub purpose: &'static str,
    /// What harm it can do.
    pub danger: Option<Danger>,
    /// Why.
    pub why: Option<&'static str>,
    /// A capability without which it, or its dangerous part, fails; any one of these is enough.
    pub capabilities: &'static [Capability],
    /// The first Linux that has it; `None`: older than 2.6.16.
    pub since: Option<&'static str>,
}

/// What is known of a call, by its name on any architecture.
pub fn of(name: &str) -> Knowledge {
    let plain = table::PLAIN.iter().find(|(_, names)| names.contains(&name));
    let grave = table::DANGEROUS.iter().find(|grave| grave.name == name);
    let purpose = plain.map_or("not described here; see its manual page", |(what, _)| what);
    let since = table::SINCE.iter().find(|(_, names)| names.contains(&name));
    let gated = table::GATED.iter().find(|(_, names)| names.contains(&name));
    Knowledge {
        purpose: grave.map_or(purpose, |grave| grave.purpose),
        danger: grave.map(|grave| grave.danger),
        why: grave.map(|grave| grave.why),
        capabilities: gated.map_or(&[], |(capabilities, _)| capabilities),
        since: since.map(|(version, _)| *version),
    }
}

/// Every dangerous call, with its class.
pub fn dangerous() -> impl Iterator<Item = (&'static str, Danger)> {
    table::DANGEROUS
        .iter()
        .map(|grave| (grave.name, grave.danger))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use cofferdam_profiles::seccomp::{Arch, resolve, table as calls};

    use super::*;

    /// Every call of the machine is described, and nothing that is no call.
    #[test]
    fn every_call_is_described_once() {
        let mut names: BTreeSet<&str> = BTreeSet::new();
        let arches = [
            Arch::X86_64,
            Arch::X86,
            Arch::Aarch64,
            Arch::Arm,
            Arch::Riscv64,
        ];
        for arch in arches {
            names.extend(calls(arch).values().map(String::as_str));
        }
        let exists = |name: &&str| arches.iter().any(|arch| resolve(*arch, name).is_some());
        let plain = table::PLAIN.iter().flat_map(|(_, names)| names.iter());
        let mut seen = BTreeSet::new();
        for name in plain.chain(table::DANGEROUS.iter().map(|grave| &grave.name)) {
            assert!(seen.insert(*name), "{name} is described twice");
        }
        let strange: Vec<_> = seen.iter().filter(|name| !exists(name)).collect();
        assert!(strange.is_empty(), "no calls: {strange:?}");
        let missing: Vec<_> = names.difference(&seen).collect();
        assert!(missing.is_empty(), "not described: {missing:?}");
        for (_, list) in table::SINCE {
            assert!(list.iter().all(exists), "{list:?}");
        }
        for (_, list) in table::GATED {
            assert!(list.iter().all(exists), "{list:?}");
        }
    }
}
