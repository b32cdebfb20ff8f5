//! Paths of a container in their one normal form.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest path, in bytes (`PATH_MAX`, which counts a NUL).
pub const MAX_PATH_BYTES: usize = 4095;

/// Why something is no path of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not begin at the root.
    #[error("a path must be absolute")]
    Relative,
    /// It leads upwards: what that means depends on links.
    #[error("a path must not have \"..\"")]
    Parent,
    /// It has a NUL byte.
    #[error("a path must not have a NUL byte")]
    Nul,
    /// It is longer than the kernel takes.
    #[error("a path has at most {MAX_PATH_BYTES} bytes")]
    TooLong,
}

/// An absolute path without empty components, `.` and `..`, and without a slash at the end. Any byte
/// but NUL can be in it. Ordered so that what is below a path follows it at once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AccessPath(Vec<u8>);

impl AccessPath {
    /// The root.
    pub fn root() -> Self {
        Self(b"/".to_vec())
    }

    /// Brings bytes into the normal form.
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<Self, PathError> {
        let bytes = bytes.as_ref();
        if bytes.first() != Some(&b'/') {
            return Err(PathError::Relative);
        }
        if bytes.len() > MAX_PATH_BYTES {
            return Err(PathError::TooLong);
        }
        if bytes.contains(&0) {
            return Err(PathError::Nul);
        }
        let mut normal = Vec::with_capacity(bytes.len());
        for component in bytes.split(|b| *b == b'/') {
            match component {
                b"" | b"." => {}
                b".." => return Err(PathError::Parent),
                name => {
                    normal.push(b'/');
                    normal.extend_from_slice(name);
                }
            }
        }
        if normal.is_empty() {
            normal.push(b'/');
        }
        Ok(Self(normal))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// It as a path.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// Whether it is the root.
    pub fn is_root(&self) -> bool {
        self.0 == b"/"
    }

    /// Its components; the root has none.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|name| !name.is_empty())
    }

    /// The directory it is in; the root has none.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        match self.0.iter().rposition(|b| *b == b'/') {
            Some(at) if at > 0 => self.0.get(..at).map(|bytes| Self(bytes.to_vec())),
            _ => Some(Self::root()),
        }
    }

    /// All directories it is in, up to the root.
    pub fn parents(&self) -> impl Iterator<Item = Self> {
        std::iter::successors(self.parent(), Self::parent)
    }

    /// Whether it lies below `other`, and is not `other` itself.
    pub fn is_below(&self, other: &Self) -> bool {
        if other.is_root() {
            return !self.is_root();
        }
        let rest = self.0.strip_prefix(other.0.as_slice());
        rest.is_some_and(|rest| rest.first() == Some(&b'/'))
    }
}

impl PartialOrd for AccessPath {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for AccessPath {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.components().cmp(other.components())
    }
}

/// With what is not UTF-8 replaced, and control characters escaped.
impl fmt::Display for AccessPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in String::from_utf8_lossy(&self.0).chars() {
            if c.is_control() {
                write!(f, "{}", c.escape_default())?;
            } else {
                write!(f, "{c}")?;
            }
        }
        Ok(())
    }
}

/// What a path is in JSON: its text, or where it is not UTF-8, its bytes in hexadecimal digits.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Bytes { hex: String },
}

impl Serialize for AccessPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => {
                let hex = self.0.iter().map(|b| format!("{b:02x}")).collect();
                Written::Bytes { hex }.serialize(serializer)
            }
        }
    }
}

impl<'de> Deserialize<'de> for AccessPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = match Written::deserialize(deserializer)? {
            Written::Text(text) => text.into_bytes(),
            Written::Bytes { hex } => unhex(&hex)
                .ok_or_else(|| D::Error::custom("\"hex\" must be pairs of hexadecimal digits"))?,
        };
        Self::new(bytes).map_err(D::Error::custom)
    }
}

fn unhex(hex: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| {
        char::from(b)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    let pair = |[high, low]: &[u8; 2]| Some(digit(*high)? << 4 | digit(*low)?);
    if rest.is_empty() {
        pairs.iter().map(pair).collect()
    } else {
        None
    }
}
