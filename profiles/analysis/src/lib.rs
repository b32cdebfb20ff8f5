//! Which system calls the programs of a root file system can make, found without running them.
//!
//! Every object of a program is summarised once: a graph of its functions and its data, and the
//! system calls each function makes. The objects are then put together as the dynamic loader would
//! put them, and a search from where execution starts finds what can run. What is not certain is
//! said, and widens the result; it is never left out.
//!
//! This crate needs no root and starts no process; whatever it reads is treated as hostile.

/// One program, from path to result.
mod analyse;
/// What code refers to.
mod code;
/// Files of x86-64 Linux.
mod elf;
/// Everything that one process of a container may run, from its command line to a profile.
mod entry;
/// Why there is no result.
mod error;
/// Where an address lies among many.
mod index;
/// Whole results between runs.
mod kept;
/// What kind of program it is, and how far its result can be trusted.
mod kind;
/// Objects put together, and the search.
mod link;
/// Work for all the processors there are.
mod parallel;
/// A result as a seccomp profile.
mod profile;
/// What an analysis found.
mod result;
/// Paths inside a root file system.
mod rootfs;
/// The directory that is kept between runs.
mod store;
/// What one object can do.
mod summary;

pub use analyse::{Options, analyse};
pub use elf::ElfError;
pub use entry::{Entry, EntryError, Generated, LeftOut, generate};
pub use error::AnalysisError;
pub use kept::generate_or_recall;
pub use kind::{Confidence, Kind};
pub use profile::to_profile;
pub use result::{Analysis, Certainty, Evidence, ObjectInfo, Serving, Unresolved};
pub use rootfs::{Found, RootFs, Touched};
pub use store::{is_private, tidy};
pub use summary::Why;

/// Analyses the bytes of one object and forgets the result: for tests and fuzzing, which look for
/// panics and for input that takes long. The number of functions and of system calls found.
pub fn inspect_object(bytes: &[u8]) -> Result<(u32, usize), ElfError> {
    let image = elf::Image::parse(bytes)?;
    let summary = summary::summarise(&image);
    Ok((summary.functions, summary.calls.len()))
}
