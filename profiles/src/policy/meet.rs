//! The tightest of two policies.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::model::{
    ApparmorChoice, CapabilityRules, DeviceRules, HostNamespaces, MountRules, Policy,
    SeccompChoice, SysctlRules,
};

impl Policy {
    /// The policy that allows only what both allow: it denies what either denies, else strips what
    /// either strips; lists of what is allowed are intersected, lists of what is hidden united.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Self {
        let (a, b) = (self, other);
        Self {
            name: names(&a.name, &b.name),
            isolation: a.isolation.min(b.isolation),
            privileged: a.privileged.min(b.privileged),
            run_as_root: a.run_as_root.min(b.run_as_root),
            no_new_privileges: a.no_new_privileges || b.no_new_privileges,
            seccomp: a.seccomp.meet(b.seccomp),
            seccomp_recordings: recordings(a, b),
            seccomp_compat32: a.seccomp_compat32.min(b.seccomp_compat32),
            denials: a.denials.min(b.denials),
            read_only_rootfs: a.read_only_rootfs.min(b.read_only_rootfs),
            user_namespace: a.user_namespace.min(b.user_namespace),
            masked_paths: &a.masked_paths | &b.masked_paths,
            readonly_paths: &a.readonly_paths | &b.readonly_paths,
            best_effort: &a.best_effort & &b.best_effort,
            apparmor: a.apparmor.min(b.apparmor),
            apparmor_documents: documents(a, b),
            apparmor_mode: a.apparmor_mode.min(b.apparmor_mode),
            apparmor_unconfined: a.apparmor_unconfined.min(b.apparmor_unconfined),
            selinux_unconfined: a.selinux_unconfined.min(b.selinux_unconfined),
            selinux_types: &a.selinux_types & &b.selinux_types,
            landlock: a.landlock.meet(&b.landlock),
            hooks: a.hooks.min(b.hooks),
            capabilities: a.capabilities.meet(&b.capabilities),
            host_namespaces: a.host_namespaces.meet(&b.host_namespaces),
            mounts: a.mounts.meet(&b.mounts),
            devices: a.devices.meet(&b.devices),
            sysctls: a.sysctls.meet(&b.sysctls),
            rlimits: lowest(&a.rlimits, &b.rlimits),
        }
    }
}

impl SeccompChoice {
    /// `generate` is below all others, for its profile is intersected with theirs; `intersect` is
    /// below the other two, which cannot be compared.
    fn meet(self, other: Self) -> Self {
        match (self, other) {
            (Self::Generate, _) | (_, Self::Generate) => Self::Generate,
            _ if self == other => self,
            _ => Self::Intersect,
        }
    }
}

/// Recordings allow more calls: two policies that make profiles with different ones have none in
/// common. What a policy names that makes no profile has no effect.
fn recordings(a: &Policy, b: &Policy) -> Option<PathBuf> {
    let of = |policy: &Policy| match policy.seccomp {
        SeccompChoice::Generate => Some(policy.seccomp_recordings.clone()),
        _ => None,
    };
    match (of(a), of(b)) {
        (Some(one), Some(other)) if one == other => one,
        (Some(one), None) | (None, Some(one)) => one,
        (Some(_), Some(_)) => None,
        (None, None) if a.seccomp_recordings == b.seccomp_recordings => {
            a.seccomp_recordings.clone()
        }
        (None, None) => None,
    }
}

/// A profile allows what all documents allow, so both sides' count; what a policy names that makes no
/// profile has no effect.
fn documents(a: &Policy, b: &Policy) -> BTreeSet<PathBuf> {
    let alike = a.apparmor == b.apparmor;
    let of = |policy: &Policy| match policy.apparmor {
        ApparmorChoice::Engine if !alike => BTreeSet::new(),
        _ => policy.apparmor_documents.clone(),
    };
    &of(a) | &of(b)
}

impl CapabilityRules {
    fn meet(&self, other: &Self) -> Self {
        Self {
            bounding: self.bounding & other.bounding,
            beyond: self.beyond.min(other.beyond),
        }
    }
}

impl HostNamespaces {
    fn meet(&self, other: &Self) -> Self {
        Self {
            pid: self.pid.min(other.pid),
            network: self.network.min(other.network),
            ipc: self.ipc.min(other.ipc),
            uts: self.uts.min(other.uts),
            cgroup: self.cgroup.min(other.cgroup),
            user: self.user.min(other.user),
        }
    }
}

impl MountRules {
    fn meet(&self, other: &Self) -> Self {
        Self {
            sensitive: self.sensitive.min(other.sensitive),
            paths: &self.paths | &other.paths,
            allow: &self.allow & &other.allow,
            shared_propagation: self.shared_propagation.min(other.shared_propagation),
            kernel_write: self.kernel_write.min(other.kernel_write),
            other_types: self.other_types.min(other.other_types),
            unmapped: self.unmapped.min(other.unmapped),
        }
    }
}

impl DeviceRules {
    fn meet(&self, other: &Self) -> Self {
        Self {
            beyond: self.beyond.min(other.beyond),
            allow: &self.allow & &other.allow,
        }
    }
}

impl SysctlRules {
    fn meet(&self, other: &Self) -> Self {
        Self {
            beyond: self.beyond.min(other.beyond),
            allow: &self.allow & &other.allow,
        }
    }
}

fn names(a: &str, b: &str) -> String {
    let all: BTreeSet<&str> = a.split('+').chain(b.split('+')).collect();
    all.into_iter().collect::<Vec<_>>().join("+")
}

fn lowest(a: &BTreeMap<String, u64>, b: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let mut lowest = a.clone();
    for (name, limit) in b {
        lowest
            .entry(name.clone())
            .and_modify(|l| *l = (*l).min(*limit))
            .or_insert(*limit);
    }
    lowest
}
