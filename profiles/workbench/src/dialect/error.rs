//! Why a file is not a profile, and where.

use super::Dialect;
use super::place::Place;

/// Why a file is not a profile.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DialectError {
    /// Longer than any profile.
    #[error(
        "it has {bytes} bytes; profiles of more than {} are not read",
        super::MAX_BYTES
    )]
    TooLong {
        /// How many it has.
        bytes: usize,
    },
    /// Bytes that are no text.
    #[error("{at}: not UTF-8; save the file as UTF-8 text")]
    NotText {
        /// Where.
        at: Place,
    },
    /// Text that is no JSON.
    #[error("{at}: {wrong}; correct the JSON there")]
    Json {
        /// Where.
        at: Place,
        /// What is wrong.
        wrong: JsonFault,
    },
    /// Text that is no YAML.
    #[error("{at}: {message}; correct the YAML there")]
    Yaml {
        /// Where.
        at: Place,
        /// What the parser says.
        message: String,
    },
    /// YAML that profiles have no need of and that lets a small file grow in memory.
    #[error("{at}: {what} are not read in profiles; write the value out")]
    YamlFeature {
        /// Where.
        at: Place,
        /// What it uses.
        what: &'static str,
    },
    /// Lists in lists in lists.
    #[error("{at}: nested more than {} deep; no profile is", super::MAX_DEPTH)]
    TooDeep {
        /// Where the bound was passed.
        at: Place,
    },
    /// More values than any profile has.
    #[error("{at}: more than {} values; no profile has as many", super::MAX_NODES)]
    TooMany {
        /// Where the bound was passed.
        at: Place,
    },
    /// One key twice in one object: readers differ in which counts.
    #[error("{at}: {key:?} stands here a second time, first at {first}; remove one of the two")]
    DuplicateKey {
        /// The second.
        at: Place,
        /// The key.
        key: String,
        /// The first.
        first: Place,
    },
    /// A value of another kind.
    #[error("{at}: {} must be {wanted}, and is {found}", show(pointer))]
    Kind {
        /// Where.
        at: Place,
        /// Which value, as a JSON pointer.
        pointer: String,
        /// What it must be.
        wanted: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// A value out of range or not one of those there are.
    #[error("{at}: {} is {found:?}; it must be {wanted}", show(pointer))]
    Value {
        /// Where.
        at: Place,
        /// Which value, as a JSON pointer.
        pointer: String,
        /// What it must be.
        wanted: String,
        /// What it is.
        found: String,
    },
    /// A field that must be there.
    #[error("{at}: {} has no {field:?}; add it", show(pointer))]
    Missing {
        /// Where the object begins.
        at: Place,
        /// The object, as a JSON pointer.
        pointer: String,
        /// The field.
        field: &'static str,
    },
    /// Two fields of which there can be one.
    #[error(
        "{at}: {} has both {one:?} and {other:?}; remove one of the two",
        show(pointer)
    )]
    Both {
        /// Where the object begins.
        at: Place,
        /// The object, as a JSON pointer.
        pointer: String,
        /// A field.
        one: &'static str,
        /// The other.
        other: &'static str,
    },
    /// An OCI configuration without a profile.
    #[error(
        "it is a container configuration without linux.seccomp, which lets every call through; \
         add a profile to it"
    )]
    NoSeccomp,
    /// Something else.
    #[error(
        "it is no seccomp profile of a known kind: expected an object with \"defaultAction\", a \
         container's config.json, or a SeccompProfile of the Security Profiles Operator"
    )]
    Unknown,
    /// A resource of the operator that is not a seccomp profile.
    #[error("{at}: it is a {kind:?}, not a SeccompProfile; give the SeccompProfile it belongs to")]
    OtherKind {
        /// Where.
        at: Place,
        /// Its kind.
        kind: String,
    },
    /// A file with more than one profile.
    #[error("it holds several profiles; name one of them, as in FILE#{}", names.join(", FILE#"))]
    Several {
        /// Their names.
        names: Vec<String>,
    },
    /// A name that no profile of the file has.
    #[error("it holds no profile {name:?}; it has: {}", names.join(", "))]
    NoSuchName {
        /// The name.
        name: String,
        /// Those that it has.
        names: Vec<String>,
    },
    /// A profile that adds to another one, which is not there.
    #[error(
        "it adds to the profile {name:?}, without which it has no meaning; give that one's file \
         with --base FILE"
    )]
    BaseNeeded {
        /// The other one's name.
        name: String,
    },
    /// A base for a profile that has none.
    #[error("it names no baseProfileName, so there is nothing to add to a base; remove --base")]
    BaseUnused,
    /// Something the wanted dialect has no words for.
    #[error("{what} cannot be said in the {} dialect; {instead}", dialect.name())]
    Inexpressible {
        /// What.
        what: String,
        /// The dialect.
        dialect: Dialect,
        /// What to do.
        instead: &'static str,
    },
}

impl DialectError {
    /// Where the reader stopped, if that is a place in the file.
    pub fn place(&self) -> Option<Place> {
        match self {
            Self::NotText { at }
            | Self::Json { at, .. }
            | Self::Yaml { at, .. }
            | Self::YamlFeature { at, .. }
            | Self::TooDeep { at }
            | Self::TooMany { at }
            | Self::DuplicateKey { at, .. }
            | Self::Kind { at, .. }
            | Self::Value { at, .. }
            | Self::Missing { at, .. }
            | Self::Both { at, .. }
            | Self::OtherKind { at, .. } => Some(*at),
            _ => None,
        }
    }
}

/// The whole document has the empty pointer.
fn show(pointer: &str) -> &str {
    if pointer.is_empty() {
        "the document"
    } else {
        pointer
    }
}

/// What is wrong with a JSON text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonFault {
    /// The text ends in the middle of a value.
    #[error("the text ends in the middle of a value")]
    End,
    /// A character that cannot stand there.
    #[error("expected {wanted}, found {found:?}")]
    Unexpected {
        /// What can stand there.
        wanted: &'static str,
        /// What does.
        found: char,
    },
    /// An escape that JSON does not have.
    #[error("no such escape in a string")]
    Escape,
    /// A control character in a string.
    #[error("a control character in a string must be escaped")]
    Control,
    /// Not a number in JSON's sense.
    #[error("not a number")]
    Number,
    /// More after the value.
    #[error("there is more after the end of the value")]
    Trailing,
}
