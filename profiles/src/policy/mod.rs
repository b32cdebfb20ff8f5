//! Turns a named policy and an OCI spec into a hardened spec and a report of every change.

mod hardened;
pub mod report;

pub use hardened::{ContainerRecord, Hardened};
pub use report::{Action, Finding, Report};

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Process, Spec};

/// The administrator's policy file: named policies, the default, and what annotations may do.
#[derive(Debug, Clone)]
pub struct PolicyFile {}

/// One policy with every field settled: what `harden` enforces.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Policy {
    /// The policy's name as the administrator wrote it.
    pub name: String,
}

/// Why a policy file was not accepted.
#[derive(Debug, thiserror::Error)]
#[error("policy file error")]
pub struct PolicyFileError;

/// Why a spec was refused: the rule, the field and the remedy.
#[derive(Debug, thiserror::Error)]
#[error("refused")]
pub struct Refusal;

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

impl PolicyFile {
    /// The policies that hold when there is no file.
    pub fn builtin() -> Self {
        Self {}
    }

    /// Reads a policy file's text; `origin` is named in errors.
    pub fn parse(_text: &str, _origin: &Path) -> Result<Self, PolicyFileError> {
        Err(PolicyFileError)
    }

    /// Reads `path`; a file that does not exist means the built-in policies.
    pub fn load(_path: &Path) -> Result<Self, PolicyFileError> {
        Err(PolicyFileError)
    }
}

/// Hardens a spec as the selected policy says, or refuses it.
pub fn harden(
    _spec: Spec,
    _file: &PolicyFile,
    _selection: &Selection,
    _host: &HostFacts,
) -> Result<Hardened<Spec>, Refusal> {
    Err(Refusal)
}

/// Hardens a process that joins a running container: never more than the container's init may.
pub fn harden_exec(
    _process: Process,
    _container: &ContainerRecord,
) -> Result<Hardened<Process>, Refusal> {
    Err(Refusal)
}
