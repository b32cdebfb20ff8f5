//! Seccomp as a whole: profiles in, filters and intersections out.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that cannot go on fails, and says what it skipped or counted"
)]

/// A compiled filter answers every call as its profile says.
mod agree;
/// The loaded filter against what it is there for.
#[expect(unsafe_code, reason = "raw system calls are what is tested")]
mod attack;
/// The built-in default against its promises and against Docker's.
mod builtin;
/// The filter cache against damage, poison and neighbours.
mod cache;
/// The intersection allows what both sides allow.
mod meet;
/// A filter with a listener answers as the one without.
mod notify;
/// Profiles to test with.
mod profiles;
/// Profiles that are refused, and what is warned about.
mod refused;
