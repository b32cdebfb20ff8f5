//! Containers from create to delete, driven through the example `life`: `create` and `exec` must be
//! called in a single-threaded process, which a test is not.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "tests"
)]

/// A bundle, and the commands on it.
mod bundle;

/// What one container process could try on us or on its neighbours.
mod attacks;
/// create, start, exec, kill, delete.
mod basics;
/// SIGKILL at every moment.
mod faults;
/// What is enforced, read back from the kernel.
mod inspect;
/// The fields of the spec, seen from inside.
mod spec;
/// Pseudo-terminals.
mod terminal;
/// Containers with a user namespace, made or joined.
mod userns;
