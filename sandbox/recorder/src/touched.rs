//! What was done with files and ports, as a recording has it.

use std::collections::{BTreeMap, BTreeSet};

/// What was done with a file: bits.
pub mod touch {
    /// Opened for reading.
    pub const READ: u16 = 1 << 0;
    /// Opened for writing, or truncated.
    pub const WRITE: u16 = 1 << 1;
    /// Executed, or asked to be loaded by what was.
    pub const EXECUTE: u16 = 1 << 2;
    /// Mapped as code.
    pub const MAP_EXECUTE: u16 = 1 << 3;
    /// Made, or moved there.
    pub const CREATE: u16 = 1 << 4;
    /// Removed, or moved away.
    pub const REMOVE: u16 = 1 << 5;
    /// A directory opened.
    pub const LIST: u16 = 1 << 6;
    /// A command to a device.
    pub const IOCTL: u16 = 1 << 7;
    /// Locked.
    pub const LOCK: u16 = 1 << 8;
    /// Made as a device node.
    pub const MAKE_DEVICE: u16 = 1 << 9;
}

/// A file, or a directory and all below it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TouchedPlace {
    /// The path in the mount namespace of who did it, without links.
    pub path: Vec<u8>,
    /// Names below it differ from run to run.
    pub subtree: bool,
}

/// What was done with files and ports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    /// Bits of [`touch`] for each place.
    pub files: BTreeMap<TouchedPlace, u16>,
    /// Names that something was moved or linked from and to, in different directories.
    pub moved: BTreeSet<(Vec<u8>, Vec<u8>)>,
    /// Ports that a socket of the internet families was bound to, whatever its protocol.
    pub bound: BTreeSet<u16>,
    /// Ports that one was connected to.
    pub connected: BTreeSet<u16>,
    /// Ways to files that are not followed here and were used: 32-bit calls, io_uring, file handles.
    pub unseen: BTreeSet<&'static str>,
    /// Paths that found no room.
    pub lost: u64,
}
