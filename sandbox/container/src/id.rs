//! Container ids: the only form in which a name from outside becomes part of a path.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::IdError;

/// The longest id in bytes, as runc has it.
const LONGEST: usize = 1024;

/// A checked container id: letters, digits and `_+-.`, neither `.` nor `..`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerId(String);

impl ContainerId {
    /// Checks `text`; every id that this accepts is a plain file name.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        if text.is_empty() {
            return Err(IdError::Empty);
        }
        if text.len() > LONGEST {
            return Err(IdError::TooLong { length: text.len() });
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_+-.".contains(&b);
        if text == "." || text == ".." || !text.bytes().all(plain) {
            return Err(IdError::Characters {
                id: text.to_owned(),
            });
        }
        Ok(Self(text.to_owned()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The container's state directory below `root`.
    pub fn directory(&self, root: &Path) -> PathBuf {
        root.join(&self.0)
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_ids() {
        for good in ["a", "web-1", "a.b", "..a", "x_y+z", &"n".repeat(LONGEST)] {
            assert_eq!(
                ContainerId::parse(good).map(|i| i.to_string()).as_deref(),
                Ok(good)
            );
        }
        let long = "n".repeat(LONGEST + 1);
        for bad in [
            "", ".", "..", "a/b", "../x", "/", "a b", "a\0", "a\n", "é", &long,
        ] {
            assert!(
                ContainerId::parse(bad).is_err(),
                "{bad:?} was taken for an id"
            );
        }
    }
}
