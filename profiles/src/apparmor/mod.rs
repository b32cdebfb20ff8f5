//! AppArmor profiles: made of a container's capabilities and of what its files may be used for, and
//! what the kernel says when it denies something by one.
//!
//! A profile is named by its own content, so that containers that get the same share one, and what
//! was compiled once can be kept.

/// What the kernel writes when a profile denies or would have denied something.
pub mod audit;
/// Why something was denied, and what would allow it.
pub mod explain;
/// Paths as a profile writes them.
mod pattern;
/// The text of a profile.
mod text;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::access::Access;
use crate::capability::Set;

/// What the names of our profiles begin with.
pub const PREFIX: &str = "cofferdam-";

/// The longest text of a profile, in bytes.
pub const MAX_PROFILE_BYTES: usize = 8 << 20;

/// Whether what a profile denies is denied, or only written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// It is denied.
    #[default]
    Enforce,
    /// It is allowed and written down, but for what is denied by name.
    Complain,
}

/// An open standard stream of the container, which the profile must let it keep: the kernel takes
/// away what a program inherits and its profile does not allow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stream {
    /// Its path on the host.
    pub path: PathBuf,
    /// It is a FIFO. An engine makes those of a later process beside it.
    pub fifo: bool,
}

/// What a profile is made of.
#[derive(Debug, Clone, Default)]
pub struct Shape<'a> {
    /// The capabilities of the bounding set.
    pub capabilities: Set,
    /// What may be done with files and sockets; `None` leaves them alone but for the kernel's own
    /// files.
    pub access: Option<&'a Access>,
    /// The standard streams; they count with `access` only.
    pub streams: &'a [Stream],
    /// Whether it denies.
    pub mode: Mode,
    /// Makes the profile this container's own, and has the kernel write down also what is denied by
    /// name: so each of its messages can be told whose it is.
    pub owner: Option<&'a str>,
    /// The profile that the runtime runs under, if any: it must be able to end the container.
    pub runtime: Option<&'a str>,
}

/// A profile of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// `cofferdam-` and 32 hexadecimal digits of the text's SHA-256.
    pub name: String,
    /// The text, for `apparmor_parser`.
    pub text: String,
    /// Whether it denies.
    pub mode: Mode,
    /// What was asked for and an AppArmor profile cannot say, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

/// Why no profile can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// There is too much of it.
    #[error(
        "the AppArmor profile is longer than {MAX_PROFILE_BYTES} bytes; allow whole directories \
         instead of their files"
    )]
    TooLong,
    /// The runtime's own profile has a name that no rule can hold.
    #[error("the runtime itself is confined as {label:?}, which no AppArmor rule can name")]
    Runtime {
        /// The name.
        label: String,
    },
}

/// Makes a profile.
pub fn generate(shape: &Shape<'_>) -> Result<Profile, ProfileError> {
    text::generate(shape)
}

/// Whether a name is one of ours: nothing else can be, for it is all lower-case digits.
pub fn is_ours(name: &str) -> bool {
    let digits = name.strip_prefix(PREFIX);
    digits.is_some_and(|d| {
        d.len() == text::DIGITS && d.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}
