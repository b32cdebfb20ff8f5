//! The policies that are built in: `baseline` and `restricted`.

use std::collections::{BTreeMap, BTreeSet};

use super::landlock::LandlockRules;
use super::model::{
    ApparmorChoice, BestEffort, CapabilityRules, Denials, DeviceRules, HostNamespaces, Isolation,
    MountRules, Policy, ReadOnlyRootfs, SeccompChoice, SysctlRules, UserNamespace, Verdict,
};
use crate::apparmor::Mode;
use crate::capability::{self, Capability};
use crate::seccomp::Compat32;

/// The name of the policy that holds when nobody chose one.
pub(super) const BASELINE: &str = "baseline";

/// The name of the tighter built-in policy.
pub(super) const RESTRICTED: &str = "restricted";

/// Keeps ordinary images working and refuses what reaches for the host.
pub(crate) fn baseline() -> Policy {
    Policy {
        name: BASELINE.to_owned(),
        isolation: Isolation::HostKernel,
        privileged: Verdict::Deny,
        run_as_root: Verdict::Allow,
        no_new_privileges: true,
        seccomp: SeccompChoice::Intersect,
        seccomp_recordings: None,
        seccomp_compat32: Compat32::Filtered,
        denials: Denials::Silent,
        read_only_rootfs: ReadOnlyRootfs::Asked,
        user_namespace: UserNamespace::Own,
        masked_paths: BTreeSet::new(),
        readonly_paths: BTreeSet::new(),
        best_effort: BTreeSet::from([BestEffort::Apparmor]),
        apparmor: ApparmorChoice::Engine,
        apparmor_documents: BTreeSet::new(),
        apparmor_mode: Mode::Enforce,
        apparmor_unconfined: Verdict::Deny,
        selinux_unconfined: Verdict::Deny,
        selinux_types: BTreeSet::new(),
        landlock: LandlockRules::default(),
        hooks: Verdict::Allow,
        capabilities: CapabilityRules {
            bounding: capability::BASELINE,
            beyond: Verdict::Deny,
        },
        host_namespaces: HostNamespaces {
            pid: Verdict::Deny,
            network: Verdict::Deny,
            ipc: Verdict::Deny,
            uts: Verdict::Deny,
            // Docker on cgroup v1 and `ctr` give the host's by default: those get a private one.
            cgroup: Verdict::Strip,
            user: Verdict::Allow,
        },
        mounts: MountRules {
            sensitive: Verdict::Deny,
            paths: BTreeSet::new(),
            allow: BTreeSet::new(),
            shared_propagation: Verdict::Strip,
            kernel_write: Verdict::Strip,
            other_types: Verdict::Deny,
            unmapped: Verdict::Deny,
        },
        devices: DeviceRules {
            beyond: Verdict::Deny,
            allow: BTreeSet::new(),
        },
        sysctls: SysctlRules {
            beyond: Verdict::Deny,
            allow: BTreeSet::new(),
        },
        rlimits: BTreeMap::from([("nofile".to_owned(), 1 << 20)]),
    }
}

/// Kubernetes' Pod Security Standard "restricted", as far as an OCI spec shows it: non-root, no
/// capability but NET_BIND_SERVICE, no new privileges, a seccomp filter, nothing of the host.
pub(crate) fn restricted() -> Policy {
    let baseline = baseline();
    Policy {
        name: RESTRICTED.to_owned(),
        run_as_root: Verdict::Deny,
        best_effort: BTreeSet::new(),
        capabilities: CapabilityRules {
            bounding: capability::Set::of(&[Capability::NetBindService]),
            beyond: Verdict::Deny,
        },
        mounts: MountRules {
            shared_propagation: Verdict::Deny,
            kernel_write: Verdict::Deny,
            ..baseline.mounts.clone()
        },
        ..baseline
    }
}
