//! What the image and the engine asked for, what they got, and why.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::capability::Set;
use crate::generated::Provenance;
use crate::seccomp::Allowed;

/// A rule of the policy; its name is what reports, refusals and the documentation use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// A spec with all that `--privileged` asks for.
    Privileged,
    /// The user the process runs as.
    RunAsRoot,
    /// Capability sets.
    Capabilities,
    /// The `no_new_privs` flag.
    NoNewPrivileges,
    /// Resource limits.
    Rlimits,
    /// AppArmor profiles.
    Apparmor,
    /// SELinux labels.
    Selinux,
    /// Namespaces shared with the host.
    HostNamespaces,
    /// The container's user ids on the host.
    UserNamespace,
    /// The read-only root file system.
    ReadOnlyRootfs,
    /// Bind mounts of sensitive host paths.
    SensitiveMounts,
    /// Mounts that propagate to the host.
    MountPropagation,
    /// Writable kernel file systems, and types of file systems.
    KernelMounts,
    /// Device nodes and the device rules of the cgroup.
    Devices,
    /// Paths that are hidden.
    MaskedPaths,
    /// Paths that are read-only.
    ReadonlyPaths,
    /// Kernel parameters.
    Sysctls,
    /// The seccomp filter.
    Seccomp,
    /// Whether denied system calls are explained.
    Denials,
    /// Files, ports and neighbours, bounded by Landlock.
    Landlock,
    /// OCI hooks.
    Hooks,
    /// Where the workload runs.
    Isolation,
    /// How the policy was selected.
    Selection,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// What happened to one field of the spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Asked for and granted.
    Granted,
    /// Not asked for, added by the policy.
    Added,
    /// Asked for, taken away.
    Removed,
    /// Asked for, given in a tighter form.
    Tightened,
    /// Could not be enforced here; the policy says best effort.
    Unenforced,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// One change, or one deliberate absence of change, with its reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The policy rule.
    pub rule: Rule,
    /// The field of the spec, such as `process.capabilities.bounding`.
    pub field: String,
    /// What was done.
    pub action: Action,
    /// What the spec asked for, in plain words.
    pub asked: String,
    /// What it got.
    pub got: String,
    /// Why, in plain words.
    pub reason: String,
}

/// What a container got, in a few figures.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The user and group ids of the process.
    pub user: String,
    /// The bounding set.
    pub capabilities_kept: Set,
    /// What was asked for and is not in the bounding set.
    pub capabilities_dropped: Set,
    /// Whether `no_new_privs` is set.
    pub no_new_privileges: bool,
    /// Where the seccomp profile comes from; `none` when there is none.
    pub seccomp: String,
    /// How many native system calls the profile allows; `None` without a profile.
    pub seccomp_allowed: Option<Allowed>,
    /// How many paths are masked.
    pub masked_paths: usize,
    /// How many paths are read-only.
    pub readonly_paths: usize,
    /// Whether the root file system is read-only.
    pub read_only_rootfs: bool,
    /// Where the calls of a profile come from that was made of the container's files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generated: Option<Provenance>,
    /// The name of the recording that is made of what the container calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<String>,
}

/// The report of one hardening.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The policy in force and how it was chosen.
    pub policy: String,
    /// What the container got, in a few figures.
    pub summary: Summary,
    /// Every finding, in the order of the spec's fields.
    pub findings: Vec<Finding>,
}
