//! Real programs under load: what generated profiles are judged by.
//!
//! Every program of [`PROGRAMS`] lies in a root file system of Debian packages that
//! `scripts/fetch-programs` unpacks. [`Stage`](stage::Stage) runs it in a hardened container in an
//! enclave and puts it under one of two loads (the scripts in `integration/loads`): one that profiles
//! may be recorded from, and one that is held out and only used to check them.

/// What the kernel says of every process that has ended in an enclave.
pub mod accounting;
/// Profiles made from a program's files.
pub mod generated;
/// The programs.
pub mod programs;
/// A container with a program in it, and its load.
pub mod stage;
/// Reads what strace saw.
pub mod strace;

pub use programs::{PROGRAMS, Program};

/// Which load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Profiles may be recorded from it.
    Recorded,
    /// Never recorded from: it only checks profiles.
    HeldOut,
}

impl Load {
    /// The name of its function in a program's script.
    #[must_use]
    pub fn step(self) -> &'static str {
        match self {
            Self::Recorded => "recorded",
            Self::HeldOut => "held_out",
        }
    }
}
