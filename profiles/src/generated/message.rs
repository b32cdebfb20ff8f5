//! What is asked of the program that analyses, and what it answers: JSON on its standard streams.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Dependency, Generated};

/// The hidden verb of `cofferdam-profile`.
pub const VERB: &str = "at-start";
/// Of the messages: both sides are installed together, and one that is not is refused.
pub const VERSION: u32 = 1;
/// The longest request, in bytes.
pub const MAX_REQUEST: u64 = 4 << 20;
/// The longest answer, in bytes.
pub const MAX_ANSWER: u64 = 8 << 20;

/// What a container's process is started with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its command line.
    pub args: Vec<String>,
    /// Its `PATH`.
    pub path: Option<String>,
    /// Its working directory.
    pub cwd: PathBuf,
}

/// A mount of the container, in the spec's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where, as seen from inside.
    pub destination: PathBuf,
    /// What of the host is bound there, with every symlink resolved; absent for a file system of its
    /// own, which is taken for empty.
    pub source: Option<PathBuf>,
    /// With the mounts below the source.
    pub recursive: bool,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`].
    pub version: u32,
    /// The root file system, with every symlink resolved.
    pub root: PathBuf,
    /// What is mounted over it.
    pub mounts: Vec<Mount>,
    /// What is started.
    pub process: Process,
    /// Files of recordings to merge in.
    pub recordings: Vec<PathBuf>,
    /// Where summaries of single files are kept.
    pub summaries: PathBuf,
}

/// A profile, and what it depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Made {
    /// The profile.
    pub generated: Generated,
    /// What was looked at; or why the profile holds for this start only, in plain words.
    pub dependencies: Result<Vec<Dependency>, String>,
}

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The request is not one, or of another version.
    Request,
    /// The container's files cannot be seen as it will see them.
    View,
    /// The program is not there or cannot be analysed.
    Program,
    /// A recording cannot be used.
    Recording,
}

/// Why there is no profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind.
    pub kind: FailureKind,
    /// In plain words.
    pub message: String,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The profile.
    Made(Box<Made>),
    /// None.
    Failed(Failure),
}
