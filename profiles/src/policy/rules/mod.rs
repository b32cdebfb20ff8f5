//! The rules, a module for each concept; each reads the policy and changes the spec.

/// The AppArmor profile that is made for the container.
pub(crate) mod apparmor;
/// Capability sets.
pub(crate) mod capabilities;
/// Whether denied system calls are explained.
pub(crate) mod denials;
/// Device nodes and the device rules of the cgroup.
pub(crate) mod devices;
/// The filter that is made of the container's own files.
mod generated;
/// OCI hooks.
pub(crate) mod hooks;
/// AppArmor profiles and SELinux labels.
pub(crate) mod labels;
/// What Landlock is told.
pub(crate) mod landlock;
/// Mounts: where they come from, and what the container may do through them.
pub(crate) mod mounts;
/// Namespaces shared with the host.
pub(crate) mod namespaces;
/// Masked and read-only paths.
pub(crate) mod paths;
/// Which pod a container belongs to.
mod pods;
/// Specs with all that `--privileged` asks for.
pub(crate) mod privileged;
/// User, new privileges and resource limits.
pub(crate) mod process;
/// The seccomp filter.
pub(crate) mod seccomp;
/// Which host paths are sensitive.
pub(crate) mod sensitive;
/// Kernel parameters.
pub(crate) mod sysctls;
