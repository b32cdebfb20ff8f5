//! What the caller must look at on the host before a spec can be judged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::access::Access;
use crate::apparmor::Stream;
use crate::generated::Outcome;
use oci_spec::runtime::{Hook, Hooks, Mount, Spec};

/// What the caller found out about this host; `profiles` looks at nothing itself.
#[derive(Debug, Clone, Default)]
pub struct HostFacts {
    /// The kernel has AppArmor on.
    pub apparmor: bool,
    /// The engines' default AppArmor profiles that are loaded in enforce mode (see
    /// [`is_engine_profile`](super::is_engine_profile)); asked for only where the spec names none, or
    /// unconfined.
    pub apparmor_profiles: Vec<String>,
    /// There is a compiler for AppArmor profiles; asked for only where
    /// [`PolicyFile::wants_apparmor`](super::PolicyFile::wants_apparmor) says so, as are the next two.
    pub apparmor_compiler: bool,
    /// The profile that the caller itself runs under, if any.
    pub apparmor_own: Option<String>,
    /// The standard streams that the container gets.
    pub streams: Vec<Stream>,
    /// The bundle, absolute: tells this container from others that run.
    pub bundle: PathBuf,
    /// The kernel has SELinux on.
    pub selinux: bool,
    /// Cgroup v2 is the only hierarchy.
    pub cgroup_v2: bool,
    /// Bind mount sources and the root's path as the spec names them -> the same with every
    /// symlink resolved. One that is missing here is refused.
    pub mount_sources: BTreeMap<PathBuf, PathBuf>,
    /// Namespace paths as the spec names them -> whose they are. One that is missing here is
    /// refused.
    pub namespaces: BTreeMap<PathBuf, NamespaceOwner>,
    /// The caller's own resource limits by lower-case name (`nofile`), soft and hard. One that is
    /// missing here counts as unlimited.
    pub limits: BTreeMap<String, (u64, u64)>,
    /// Paths to mask that depend on this host's hardware, such as
    /// `/sys/devices/system/cpu/cpu0/thermal_throttle`.
    pub masked_paths: Vec<String>,
    /// The profile made of the container's files, where
    /// [`PolicyFile::wants_generated`](super::PolicyFile::wants_generated) says that one is wanted.
    /// One that is missing here counts as one that cannot be made.
    pub generated: Option<Outcome>,
    /// The ABI version of the kernel's Landlock; `None` if it has none.
    pub landlock_abi: Option<u32>,
    /// The access documents that [`PolicyFile::wants_access`](super::PolicyFile::wants_access) names,
    /// or why one cannot be used. One that is missing here is refused.
    pub access: BTreeMap<PathBuf, Result<Access, String>>,
}

/// A profile that must be made of a container's files before its spec can be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// A recording, or a directory of them, to merge in.
    pub recordings: Option<PathBuf>,
}

/// Whose a namespace is that a spec joins by path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamespaceOwner {
    /// The host's own: the same inode as the caller's.
    Host,
    /// Another one, such as a pod's.
    Other,
}

/// The paths of a spec that the caller must look at to fill [`HostFacts`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Questions {
    /// Paths to resolve for [`HostFacts::mount_sources`]; relative ones start at the bundle.
    pub mount_sources: BTreeSet<PathBuf>,
    /// Paths to compare with the caller's own namespaces for [`HostFacts::namespaces`].
    pub namespaces: BTreeSet<PathBuf>,
    /// The spec names no AppArmor profile, or none at all by `unconfined`:
    /// [`HostFacts::apparmor_profiles`] is wanted.
    pub apparmor_profiles: bool,
}

impl Questions {
    /// What must be looked at for `spec`.
    pub fn of(spec: &Spec) -> Self {
        let mounts = spec.mounts().iter().flatten();
        let sources = mounts
            .filter(|m| is_bind(m))
            .filter_map(|m| m.source().clone());
        let root = spec.root().iter().map(|root| root.path().clone());
        let linux = spec.linux().as_ref();
        let namespaces = linux.and_then(|l| l.namespaces().as_ref());
        let profile = spec
            .process()
            .as_ref()
            .and_then(|p| p.apparmor_profile().as_deref());
        Self {
            apparmor_profiles: profile.is_none_or(|p| p.is_empty() || p.contains("unconfined")),
            mount_sources: sources.chain(root).collect(),
            namespaces: namespaces
                .into_iter()
                .flatten()
                .filter_map(|n| named(n.path().as_deref()))
                .map(Path::to_owned)
                .collect(),
        }
    }
}

/// A path that says something; engines write an absent one as an empty one too.
pub(crate) fn named(path: Option<&Path>) -> Option<&Path> {
    path.filter(|p| !p.as_os_str().is_empty())
}

/// Every hook, in the order in which they run.
pub(crate) fn hooks(hooks: &Hooks) -> impl Iterator<Item = &Hook> {
    [
        hooks.prestart(),
        hooks.create_runtime(),
        hooks.create_container(),
        hooks.start_container(),
        hooks.poststart(),
        hooks.poststop(),
    ]
    .into_iter()
    .flatten()
    .flatten()
}

/// Whether a mount shows an existing directory or file of the host.
pub(crate) fn is_bind(mount: &Mount) -> bool {
    mount.typ().as_deref() == Some("bind") || has_option(mount, &["bind", "rbind"])
}

/// Whether a mount has one of the options.
pub(crate) fn has_option(mount: &Mount, names: &[&str]) -> bool {
    let mut options = mount.options().iter().flatten();
    options.any(|option| names.contains(&option.as_str()))
}

/// Whether a mount is read-only; as in fstab the last word counts.
pub(crate) fn is_read_only(mount: &Mount) -> bool {
    let mut options = mount.options().iter().flatten().map(String::as_str);
    options
        .rfind(|o| matches!(*o, "ro" | "rw" | "rro" | "rrw"))
        .is_some_and(|o| o.ends_with("ro"))
}
