//! The model, the interpreter, libseccomp and the kernel say the same of every profile there is.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on fails, and says what it counted and could not find"
)]

/// Random calls, near to where a profile changes its mind.
mod calls;
/// Real profiles and generated ones.
mod corpus;
/// A compiled filter against the evaluator, a million calls each.
mod interpreter;
/// A compiled filter in the kernel against the evaluator.
#[expect(unsafe_code, reason = "filters are put on a child process")]
mod kernel;
/// libseccomp's filters against ours.
mod libseccomp;
