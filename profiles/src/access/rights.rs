//! What may be done with a file.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign, Not};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One thing that may be done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u16)]
pub enum Right {
    /// Open a file for reading.
    Read = 1 << 0,
    /// Open a file for writing, or truncate it.
    Write = 1 << 1,
    /// Execute a file.
    Execute = 1 << 2,
    /// Map a file as code, as a loader does with libraries.
    MapExecute = 1 << 3,
    /// Make the file, directory, link, socket or FIFO, or move something there.
    Create = 1 << 4,
    /// Remove it, or move it away.
    Remove = 1 << 5,
    /// Read a directory's entries.
    List = 1 << 6,
    /// Send commands to a device.
    Ioctl = 1 << 7,
    /// Lock a file.
    Lock = 1 << 8,
    /// Make a device node.
    MakeDevice = 1 << 9,
}

/// Every right with its word.
const WORDS: [(Right, &str); 10] = [
    (Right::Read, "read"),
    (Right::Write, "write"),
    (Right::Execute, "execute"),
    (Right::MapExecute, "map-execute"),
    (Right::Create, "create"),
    (Right::Remove, "remove"),
    (Right::List, "list"),
    (Right::Ioctl, "ioctl"),
    (Right::Lock, "lock"),
    (Right::MakeDevice, "make-device"),
];

/// A set of rights; in JSON a list of their words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, PartialOrd, Ord)]
pub struct Rights(u16);

impl Rights {
    /// None.
    pub const NONE: Self = Self(0);
    /// All there are.
    pub const ALL: Self = Self((1 << 10) - 1);
    /// To look at files and directories.
    pub const LOOK: Self = Self::of(&[Right::Read, Right::List, Right::Lock]);
    /// To run programs, besides looking.
    pub const RUN: Self = Self::of(&[
        Right::Read,
        Right::List,
        Right::Lock,
        Right::Execute,
        Right::MapExecute,
    ]);
    /// To change files and directories, besides looking and running.
    pub const CHANGE: Self = Self::of(&[
        Right::Read,
        Right::List,
        Right::Lock,
        Right::Execute,
        Right::MapExecute,
        Right::Write,
        Right::Create,
        Right::Remove,
    ]);

    /// The set of these.
    pub const fn of(rights: &[Right]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < rights.len() {
            bits |= rights[at] as u16;
            at += 1;
        }
        Self(bits)
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `right` is among them.
    pub const fn has(self, right: Right) -> bool {
        self.0 & right as u16 != 0
    }

    /// Whether all of `other` are among them.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Right> {
        let all = WORDS.into_iter().map(|(right, _)| right);
        all.filter(move |right| self.has(*right))
    }
}

impl Right {
    /// The word that stands for it in documents.
    pub fn word(self) -> &'static str {
        let found = WORDS.iter().find(|(right, _)| *right == self);
        found.map_or("", |(_, word)| word)
    }
}

impl From<Right> for Rights {
    fn from(right: Right) -> Self {
        Self(right as u16)
    }
}

impl BitOr for Rights {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Rights {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitAnd for Rights {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Not for Rights {
    type Output = Self;
    fn not(self) -> Self {
        Self(!self.0 & Self::ALL.0)
    }
}

/// The words with commas.
impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, right) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{}", right.word())?;
        }
        Ok(())
    }
}

impl Serialize for Rights {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Rights {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let words = Vec::<Right>::deserialize(deserializer)?;
        let rights = Self::of(&words);
        if rights.is_empty() {
            return Err(D::Error::custom("a rule must allow something"));
        }
        Ok(rights)
    }
}
