//! For authors of profiles: what `cofferdam profile` does.
//!
//! The meaning of a profile (which call is answered what) is `cofferdam_profiles::seccomp`; this crate
//! reads and writes the dialects that profiles come in, and compares, checks and explains them.

/// The command line `cofferdam-profile`, a file per command.
pub mod cli;
/// The file formats profiles come in.
pub mod dialect;
/// What a workload was seen to do.
pub mod recording;
/// What a profile would have answered to calls that were seen.
pub mod simulate;
/// Calls seen by somebody else: logs of strace.
pub mod trace;
