//! One policy with every field settled.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::device::DeviceMatch;
use super::landlock::LandlockRules;
use crate::apparmor::Mode;
use crate::capability::Set;
use crate::seccomp::Compat32;

/// What a rule does with a request that goes beyond it; the tightest comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The container is refused.
    Deny,
    /// The container starts without what it asked for; the report says so.
    Strip,
    /// The container gets what it asked for; the report says so.
    Allow,
}

/// Which seccomp profile a container gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeccompChoice {
    /// What the engine's profile, the built-in default and one that is made of the container's own
    /// files all allow.
    Generate,
    /// What both the engine's profile and the built-in default allow; when the engine has none,
    /// the built-in default.
    Intersect,
    /// The built-in default, whatever the engine asks for.
    Default,
    /// The engine's profile as it is; when the engine has none, none.
    Engine,
}

/// What becomes of a system call that the seccomp filter answers with an errno.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Denials {
    /// The caller gets the errno; nobody else learns of it.
    #[default]
    Silent,
    /// The caller gets the same errno from a listener, which writes down what was denied and why.
    /// This costs a small process for each container.
    Explain,
}

/// Whether the root file system is read-only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadOnlyRootfs {
    /// Always.
    Required,
    /// Where the spec asks for it.
    Asked,
}

/// Where the workload runs; the tightest comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// In a virtual machine of its own.
    Microvm,
    /// On the host's kernel.
    HostKernel,
}

/// Whose user ids a container has; the tightest comes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UserNamespace {
    /// A range of its own, which no other container has; where the engine asks for a mapping, that.
    Own,
    /// What the engine asks for; the host's ids if it asks for nothing.
    #[default]
    Engine,
}

/// Which AppArmor profile a container gets; the tightest comes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ApparmorChoice {
    /// One that is made for it. A profile that the engine names is kept, unless it is one that the
    /// engine gives every container.
    Generate,
    /// The one that the engine names.
    #[default]
    Engine,
}

/// What may be missing on this host without refusing the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BestEffort {
    /// An engine's default AppArmor profile where the kernel has no AppArmor, and one at all where
    /// the engine names none and none of the engines' defaults is loaded. Also a made profile, where
    /// the kernel has no AppArmor or the host no compiler.
    Apparmor,
    /// SELinux labels where the kernel has no SELinux.
    Selinux,
    /// Landlock, or the parts of it that the policy asks for and the kernel does not have.
    Landlock,
    /// A profile made of the container's files, where none can be made: the container then gets
    /// what [`SeccompChoice::Intersect`] gives.
    GeneratedSeccomp,
    /// A user namespace of the container's own, where the kernel refuses one, no ids are left, or a
    /// file system cannot show its files with other owners.
    UserNamespace,
}

impl fmt::Display for BestEffort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// Which capabilities a container may have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilityRules {
    /// The most a container can get.
    pub bounding: Set,
    /// A capability that is neither in `bounding` nor in what engines give by default.
    pub beyond: Verdict,
}

/// Which of the host's namespaces a container may share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostNamespaces {
    /// The host's processes.
    pub pid: Verdict,
    /// The host's network.
    pub network: Verdict,
    /// The host's System V IPC and POSIX message queues.
    pub ipc: Verdict,
    /// The host's name.
    pub uts: Verdict,
    /// The host's view of the cgroup hierarchy.
    pub cgroup: Verdict,
    /// The host's user ids; `strip` does not exist here.
    pub user: Verdict,
}

/// Which mounts a container may have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRules {
    /// A bind mount of a sensitive host path.
    pub sensitive: Verdict,
    /// Host paths that are sensitive besides the built-in list.
    pub paths: BTreeSet<PathBuf>,
    /// Host paths, with all below them, that are not sensitive although the list says so.
    pub allow: BTreeSet<PathBuf>,
    /// A mount that propagates back to the host (`shared`, `rshared`).
    pub shared_propagation: Verdict,
    /// A writable sysfs or cgroup mount.
    pub kernel_write: Verdict,
    /// A file system type beyond proc, sysfs, tmpfs, devpts, mqueue, cgroup and binds.
    pub other_types: Verdict,
    /// A bind mount of a file system that cannot show its files with the owners of the container's
    /// user namespace: they all belong to nobody in there. `strip` does not exist here.
    #[serde(default = "deny")]
    pub unmapped: Verdict,
}

/// Which devices a container may have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRules {
    /// A device beyond the engines' defaults and `allow`.
    pub beyond: Verdict,
    /// Devices that a container may ask for.
    pub allow: BTreeSet<DeviceMatch>,
}

/// Which kernel parameters a container may set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SysctlRules {
    /// A parameter beyond the safe ones and `allow`.
    pub beyond: Verdict,
    /// Namespaced parameters a container may set besides the safe ones.
    pub allow: BTreeSet<String>,
}

/// One policy with every field settled: what `harden` enforces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The policy's name as the administrator wrote it; the names joined by `+` after a
    /// [`meet`](Policy::meet).
    pub name: String,
    /// Where the workload runs.
    pub isolation: Isolation,
    /// A spec that has all that `--privileged` asks for.
    pub privileged: Verdict,
    /// User id 0; `strip` does not exist here.
    pub run_as_root: Verdict,
    /// Whether `no_new_privs` is set whatever the spec says.
    pub no_new_privileges: bool,
    /// Which seccomp profile a container gets.
    pub seccomp: SeccompChoice,
    /// Recordings whose calls a made profile allows besides what the files say: a file, or a
    /// directory of them. Records of older versions do not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seccomp_recordings: Option<PathBuf>,
    /// What the built-in default lets 32-bit programs do; an older record has no say.
    #[serde(default)]
    pub seccomp_compat32: Compat32,
    /// What becomes of denied calls. Records of older versions do not have it.
    #[serde(default)]
    pub denials: Denials,
    /// Whether the root file system is read-only.
    pub read_only_rootfs: ReadOnlyRootfs,
    /// Whose user ids a container has. Records of older versions do not have it.
    #[serde(default)]
    pub user_namespace: UserNamespace,
    /// Paths masked besides the field's defaults.
    pub masked_paths: BTreeSet<String>,
    /// Paths made read-only besides the field's defaults.
    pub readonly_paths: BTreeSet<String>,
    /// What may be missing on this host.
    pub best_effort: BTreeSet<BestEffort>,
    /// Which AppArmor profile a container gets. Records of older versions do not have it.
    #[serde(default)]
    pub apparmor: ApparmorChoice,
    /// Access documents; a made profile allows what all of them allow.
    #[serde(default)]
    pub apparmor_documents: BTreeSet<PathBuf>,
    /// Whether a made profile denies.
    #[serde(default)]
    pub apparmor_mode: Mode,
    /// To run without an AppArmor profile on a host that has AppArmor, asked for (`unconfined`) or
    /// by naming none; `strip` does not exist here.
    pub apparmor_unconfined: Verdict,
    /// SELinux types that are neither containers' (`container_*`, `svirt_*`) nor in
    /// `selinux_types`, such as `spc_t`; `strip` does not exist here.
    #[serde(default = "deny")]
    pub selinux_unconfined: Verdict,
    /// SELinux types that a container may have besides those. Records of older versions do not have
    /// it.
    #[serde(default)]
    pub selinux_types: BTreeSet<String>,
    /// What Landlock bounds. Records of older versions do not have it.
    #[serde(default)]
    pub landlock: LandlockRules,
    /// OCI hooks, which run on the host with the engine's rights.
    pub hooks: Verdict,
    /// Which capabilities a container may have.
    pub capabilities: CapabilityRules,
    /// Which of the host's namespaces a container may share.
    pub host_namespaces: HostNamespaces,
    /// Which mounts a container may have.
    pub mounts: MountRules,
    /// Which devices a container may have.
    pub devices: DeviceRules,
    /// Which kernel parameters a container may set.
    pub sysctls: SysctlRules,
    /// The highest resource limits, by the name of [`Rlimit`](super::limits::NAMES).
    pub rlimits: BTreeMap<String, u64>,
}

/// What a record says that was written before the field existed.
fn deny() -> Verdict {
    Verdict::Deny
}

impl Policy {
    /// Whether a container may start with the host's user ids where it cannot have its own.
    pub fn may_lack_own_ids(&self) -> bool {
        self.best_effort.contains(&BestEffort::UserNamespace)
    }

    /// Whether a bind mount may show files that belong to nobody in the container's user namespace.
    pub fn may_mount_unmapped(&self) -> bool {
        self.mounts.unmapped == Verdict::Allow
    }

    /// The line that takes `one` as best effort too: what a policy lists takes the place of what the extended one
    /// does.
    pub(crate) fn with_best_effort(&self, one: BestEffort) -> String {
        let mut list = self.best_effort.clone();
        list.insert(one);
        let names: Vec<_> = list.iter().map(|name| format!("\"{name}\"")).collect();
        format!("best_effort = [{}]", names.join(", "))
    }

    /// How an administrator would loosen this policy by `line`.
    pub(crate) fn remedy(&self, line: &str) -> String {
        if self.name.contains('+') {
            return format!("select a policy with `{line}` that no annotation tightens");
        }
        format!("select a policy that extends {:?} with `{line}`", self.name)
    }
}
