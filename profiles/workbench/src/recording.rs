//! What a workload was seen to do, by phase and by executable.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The version of the format that this code writes.
pub const VERSION: u32 = 1;

/// What one or several runs of a workload called.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recording {
    /// [`VERSION`].
    pub version: u32,
    /// What the author calls it.
    pub name: String,
    /// How many runs went into it.
    pub runs: u32,
    /// Events that could not be kept. A recording that lost any must not become a profile.
    pub lost: u64,
    /// The calls of each phase.
    pub phases: Phases,
    /// By the path of the executable that called, inside the container.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub executables: BTreeMap<String, BTreeSet<String>>,
    /// Capabilities the kernel asked for and found, with how often.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub capabilities: BTreeMap<String, u64>,
}

/// Which call was seen when.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phases {
    /// Before the payload was executed: the runtime's own.
    #[serde(default)]
    pub runtime: Calls,
    /// From the payload's execve until it serves.
    #[serde(default)]
    pub startup: Calls,
    /// Afterwards.
    #[serde(default)]
    pub serving: Calls,
}

/// System calls by name.
pub type Calls = BTreeMap<String, Call>;

/// One system call as seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// How often.
    pub count: u64,
    /// The values of arguments that are worth telling apart, by index.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<u8, BTreeSet<u64>>,
}
