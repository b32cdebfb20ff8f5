//! A document to the profile that a container gets: which rules are for it.
//!
//! As Docker does (moby `profiles/seccomp`) and containers/common: a rule counts if the container
//! has every capability it includes and none it excludes, likewise its architecture and kernel.

use cofferdam_profiles::capability::Set;
use cofferdam_profiles::seccomp::Arch;
use oci_spec::runtime::{Arch as OciArch, LinuxSeccomp, LinuxSeccompArg, LinuxSyscall};

use super::document::{Condition, Document, Entry, Kernel, Profile};
use super::error::DialectError;

/// The container a profile is resolved for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Its bounding set.
    pub capabilities: Set,
    /// Its native architecture.
    pub arch: Arch,
    /// The kernel it runs on; `None`: newer than any a profile asks for.
    pub kernel: Option<Kernel>,
}

/// A profile for one container, and what became of the document's rules.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// What the container gets.
    pub profile: LinuxSeccomp,
    /// For each rule of it, the index of its origin in the document's list.
    pub origins: Vec<usize>,
    /// The document's rules that are not for this container.
    pub excluded: Vec<usize>,
}

impl Document {
    /// The profile in the form an OCI spec carries, for a container.
    pub fn oci(&self, target: &Target) -> Result<LinuxSeccomp, DialectError> {
        self.resolve(target).map(|resolved| resolved.profile)
    }

    /// The profile for a container, and where its rules come from.
    pub fn resolve(&self, target: &Target) -> Result<Resolved, DialectError> {
        if let Some(name) = &self.profile.base {
            return Err(DialectError::BaseNeeded { name: name.clone() });
        }
        let mut origins = Vec::new();
        let mut excluded = Vec::new();
        let mut syscalls = Vec::new();
        for (at, entry) in self.profile.syscalls.iter().enumerate() {
            if entry.is_for(target) {
                origins.push(at);
                syscalls.push(entry.to_oci());
            } else {
                excluded.push(at);
            }
        }
        let mut profile = LinuxSeccomp::default();
        profile.set_default_action(self.profile.default_action);
        profile.set_default_errno_ret(self.profile.default_errno);
        profile.set_architectures(self.profile.architectures_for(target.arch));
        profile.set_flags(self.profile.flags.clone());
        profile.set_listener_path(self.profile.listener_path.as_ref().map(Into::into));
        profile.set_listener_metadata(self.profile.listener_metadata.clone());
        profile.set_syscalls(Some(syscalls));
        Ok(Resolved {
            profile,
            origins,
            excluded,
        })
    }

    /// The profile with the rules of the one it names as its base, which go first.
    pub fn with_base(mut self, base: &Self) -> Result<Self, DialectError> {
        if self.profile.base.take().is_none() {
            return Err(DialectError::BaseUnused);
        }
        let own = std::mem::take(&mut self.profile.syscalls);
        self.profile.syscalls = base.profile.syscalls.iter().cloned().chain(own).collect();
        // A base that has a base itself still needs that one.
        self.profile.base = base.profile.base.clone();
        Ok(self)
    }
}

impl Profile {
    /// The architectures in force on a machine; Docker's map may leave it out.
    fn architectures_for(&self, native: Arch) -> Option<Vec<OciArch>> {
        let Some(map) = self.arch_map.as_ref().filter(|map| !map.is_empty()) else {
            return self.architectures.clone();
        };
        let own = map
            .iter()
            .find(|entry| entry.architecture == native.to_oci());
        own.map(|entry| {
            let sub = entry.sub_architectures.iter().copied();
            [entry.architecture].into_iter().chain(sub).collect()
        })
    }
}

impl Entry {
    /// Whether the rule counts for a container.
    pub fn is_for(&self, target: &Target) -> bool {
        let Condition {
            capabilities,
            arches,
            min_kernel,
        } = &self.includes;
        let included = capabilities
            .iter()
            .all(|one| target.capabilities.contains(*one))
            && (arches.is_empty() || arches.iter().any(|arch| is_called(target.arch, arch)))
            && min_kernel.is_none_or(|least| target.is_at_least(least));
        let Condition {
            capabilities,
            arches,
            min_kernel,
        } = &self.excludes;
        let excluded = capabilities
            .iter()
            .any(|one| target.capabilities.contains(*one))
            || arches.iter().any(|arch| is_called(target.arch, arch))
            || min_kernel.is_some_and(|least| target.is_at_least(least));
        included && !excluded
    }

    /// The rule without its conditions on the container.
    pub fn to_oci(&self) -> LinuxSyscall {
        let args: Vec<LinuxSeccompArg> = self.args.clone();
        let mut out = LinuxSyscall::default();
        out.set_names(self.names.clone());
        out.set_action(self.action);
        out.set_errno_ret(self.errno);
        out.set_args((!args.is_empty()).then_some(args));
        out
    }
}

impl Target {
    fn is_at_least(&self, least: Kernel) -> bool {
        self.kernel.is_none_or(|kernel| kernel >= least)
    }
}

/// The names that `includes.arches` has for an architecture: Go's and libseccomp's.
fn is_called(arch: Arch, name: &str) -> bool {
    let names: &[&str] = match arch {
        Arch::X86_64 => &["amd64"],
        Arch::X86 => &["386", "x86"],
        Arch::X32 => &["x32"],
        Arch::Aarch64 => &["arm64"],
        Arch::Arm => &["arm"],
        Arch::Riscv64 => &["riscv64"],
    };
    names.contains(&name)
}
