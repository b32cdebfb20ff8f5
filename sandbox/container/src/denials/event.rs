//! What is written about a denied call.

use cofferdam_profiles::apparmor::explain::Meaning;
use cofferdam_profiles::seccomp::denial::{Argument, Explanation};
use serde::{Deserialize, Serialize};

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum Line {
    /// A call was denied.
    Denied(Box<Denied>),
    /// Calls were denied that are not written down one by one.
    Suppressed(Suppressed),
    /// An AppArmor profile of ours denied something.
    Apparmor(Box<Apparmor>),
    /// Messages of AppArmor that are not written down one by one.
    ApparmorSuppressed(ApparmorSuppressed),
}

/// What an AppArmor profile denied, or in complain mode would have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Apparmor {
    /// When, RFC 3339 in UTC.
    pub time: String,
    /// The container's id.
    pub container: String,
    /// The process, by its id on the host; 0 if the kernel does not say.
    pub pid: i32,
    /// The thread's name, escaped.
    pub command: String,
    /// The profile.
    pub profile: String,
    /// It was allowed, for the profile complains only.
    pub allowed: bool,
    /// What was tried, in the kernel's word.
    pub operation: String,
    /// The file or place, escaped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Why, and what would allow it.
    #[serde(flatten)]
    pub meaning: Meaning,
    /// How many messages there were about the container so far, this one included.
    pub total: u64,
}

/// Messages of AppArmor that were not written down one by one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApparmorSuppressed {
    /// When this line was written, RFC 3339 in UTC.
    pub time: String,
    /// The container's id.
    pub container: String,
    /// How many.
    pub count: u64,
    /// The kernel had more to say than could be taken: there are some that nobody counted.
    pub lost: bool,
    /// How many messages there were about the container so far.
    pub total: u64,
}

/// A call that was denied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denied {
    /// When, RFC 3339 in UTC.
    pub time: String,
    /// The container's id.
    pub container: String,
    /// The thread, by its id on the host.
    pub pid: i32,
    /// The thread's name, escaped.
    pub command: String,
    /// The executable as the container sees it, escaped; empty if the process was gone.
    pub executable: String,
    /// The call's architecture.
    pub architecture: String,
    /// The call's name.
    pub syscall: String,
    /// The call's number.
    pub number: u32,
    /// Its arguments.
    pub arguments: Vec<Argument>,
    /// Whether the memory behind the arguments could be read while the caller waited.
    pub complete: bool,
    /// What the caller got, by name.
    pub errno: String,
    /// Why it was denied, and what would allow it.
    pub cause: Explanation,
    /// Where the profile comes from.
    pub profile: String,
    /// Where the edit goes.
    #[serde(default)]
    pub place: String,
    /// How many calls of the container have been denied so far, this one included.
    pub total: u64,
}

/// Calls that were denied and not written down one by one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suppressed {
    /// When this line was written, RFC 3339 in UTC.
    pub time: String,
    /// The container's id.
    pub container: String,
    /// The executable, escaped; empty for calls of several.
    pub executable: String,
    /// The call's name; empty for several.
    pub syscall: String,
    /// How many.
    pub count: u64,
    /// How many calls of the container have been denied so far.
    pub total: u64,
}
