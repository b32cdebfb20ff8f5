//! Turns a named policy and an OCI spec into a hardened spec and a report of every change.

/// The built-in policies.
mod builtin;
/// Devices by type and number, as policies name them.
pub mod device;
/// The administrator's policy file.
mod file;
/// The recipe: a spec and a policy in, a hardened spec and a report out.
mod harden;
/// The type that only `harden` can make.
mod hardened;
/// Applies verdicts and collects findings and denials.
mod judge;
/// The tightest of two policies.
mod meet;
/// One policy with every field settled.
pub mod model;
/// Why a spec was refused.
mod refusal;
/// What was asked, what was given, and why.
pub mod report;
/// The rules, a module for each concept.
mod rules;
/// Which policy holds.
mod select;
/// Reads `config.json` and checks that it makes sense.
pub mod spec;

#[cfg(test)]
mod harden_tests;

pub use file::{PolicyFile, PolicyFileError};
pub use harden::{harden, harden_exec};
pub use hardened::{ContainerRecord, Hardened};
pub use model::Policy;
pub use refusal::{Denial, Refusal};
pub use report::{Action, Finding, Report, Rule, Summary};
pub use select::{ANNOTATIONS, POLICY_ANNOTATION};
pub use spec::{SpecError, parse_spec};

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Who chose a policy besides the file's default and the spec's annotations.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// `--policy NAME` of the command line, or `COFFERDAM_POLICY`.
    pub command_line: Option<String>,
    /// The `policy` of the containerd runtime handler's options.
    pub handler: Option<String>,
}

/// What the caller found out about this host; `profiles` looks at nothing itself.
#[derive(Debug, Clone, Default)]
pub struct HostFacts {
    /// The kernel has AppArmor on.
    pub apparmor: bool,
    /// The kernel has SELinux on.
    pub selinux: bool,
    /// Cgroup v2 is the only hierarchy.
    pub cgroup_v2: bool,
    /// Bind mount sources as the spec names them -> the same with every symlink resolved.
    pub mount_sources: BTreeMap<PathBuf, PathBuf>,
}
