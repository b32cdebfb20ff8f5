//! For authors of profiles: what `cofferdam profile` does.
//!
//! The meaning of a profile (which call is answered what) is `cofferdam_profiles::seccomp`; this crate
//! reads and writes the dialects that profiles come in, and compares, checks and explains them.

/// Profiles compared and combined by what they mean.
pub mod algebra;
/// The command line `cofferdam-profile`, a file per command.
pub mod cli;
/// The file formats profiles come in.
pub mod dialect;
/// Why a profile answers a call as it does.
pub mod explain;
/// Images without an engine.
pub mod image;
/// What calls are for and what harm they can do.
pub mod knowledge;
/// Finds what is wrong with a profile.
pub mod lint;
/// A profile as one HTML page.
pub mod page;
/// What a workload was seen to do.
pub mod recording;
/// What a profile would have answered to calls that were seen.
pub mod simulate;
/// Calls seen by somebody else: logs of strace.
pub mod trace;
/// A command in a container under a profile.
pub mod trial;
/// Answers and conditions in words.
pub mod words;
