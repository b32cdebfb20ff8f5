//! A profile as its file says it, before it is known for which container it is.

use std::fmt;

use cofferdam_profiles::capability::Capability;
use oci_spec::runtime::LinuxSeccompFilterFlag;
use oci_spec::runtime::{Arch as OciArch, LinuxSeccompAction, LinuxSeccompArg};

use super::place::Place;

/// The families of file formats that profiles come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// `linux.seccomp` of the OCI runtime specification, alone or in a `config.json`.
    Oci,
    /// Docker's: rules by capability, architecture and kernel.
    Docker,
    /// Podman's (containers/common): Docker's, with errnos by name.
    Podman,
    /// The Security Profiles Operator's `SeccompProfile`.
    Spo,
}

impl Dialect {
    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Oci => "OCI",
            Self::Docker => "Docker",
            Self::Podman => "Podman",
            Self::Spo => "Security Profiles Operator",
        }
    }
}

/// A profile and where it was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// What it is written in.
    pub dialect: Dialect,
    /// The JSON pointer to the profile inside the file, such as `/linux/seccomp`.
    pub root: String,
    /// The name the file gives it.
    pub name: Option<String>,
    /// What it says.
    pub profile: Profile,
    /// Fields that no reader of this dialect knows, as JSON pointers.
    pub unknown: Vec<(Place, String)>,
}

/// What the dialects can say, all together.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// The answer where no rule matches.
    pub default_action: LinuxSeccompAction,
    /// Its errno.
    pub default_errno: Option<u32>,
    /// The architectures, as in the OCI specification.
    pub architectures: Option<Vec<OciArch>>,
    /// The architectures by native one, as Docker has them.
    pub arch_map: Option<Vec<ArchMap>>,
    /// `seccomp(2)` flags.
    pub flags: Option<Vec<LinuxSeccompFilterFlag>>,
    /// The socket of the agent that answers `SCMP_ACT_NOTIFY`.
    pub listener_path: Option<String>,
    /// What it is told.
    pub listener_metadata: Option<String>,
    /// The profile this one adds its rules to, by name.
    pub base: Option<String>,
    /// The rules.
    pub syscalls: Vec<Entry>,
}

/// A native architecture and those that go with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchMap {
    /// The native one.
    pub architecture: OciArch,
    /// The others.
    pub sub_architectures: Vec<OciArch>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Where it stands.
    pub at: Place,
    /// The JSON pointer to it.
    pub pointer: String,
    /// Whether it has one `name` instead of `names`.
    pub singular: bool,
    /// The calls.
    pub names: Vec<String>,
    /// The answer.
    pub action: LinuxSeccompAction,
    /// Its errno.
    pub errno: Option<u32>,
    /// The conditions.
    pub args: Vec<LinuxSeccompArg>,
    /// What the author notes.
    pub comment: Option<String>,
    /// The rule is for containers of which all of this is true.
    pub includes: Condition,
    /// The rule is not for containers of which any of this is true.
    pub excludes: Condition,
}

/// What can be said of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Condition {
    /// Capabilities in its bounding set.
    pub capabilities: Vec<Capability>,
    /// Its architecture, by the names of Go or libseccomp.
    pub arches: Vec<String>,
    /// The kernel is at least this one.
    pub min_kernel: Option<Kernel>,
}

impl Condition {
    /// Nothing is said.
    pub fn is_empty(&self) -> bool {
        self == &Self::default()
    }
}

/// A kernel's version, `X.Y`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kernel {
    /// X.
    pub major: u32,
    /// Y.
    pub minor: u32,
}

impl Kernel {
    /// Reads `X.Y`, with or without more behind it, such as `6.1.0-18-amd64`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '.');
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next()?;
        let digits = minor.find(|c: char| !c.is_ascii_digit());
        let minor = minor.get(..digits.unwrap_or(minor.len()))?.parse().ok()?;
        Some(Self { major, minor })
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}
