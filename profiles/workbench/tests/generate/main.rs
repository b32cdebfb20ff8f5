//! `cofferdam profile generate` and the images it reads: what comes out of them, and what does not get in.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

/// Images made by hand.
mod archive;
/// The command as a user runs it.
mod command;
/// Images made to do harm.
mod hostile;
/// Layers that change each other.
mod layers;
/// Signals, and what programs leave behind.
mod left_over;
/// An object of a few hundred bytes.
#[path = "../../../analysis/tests/support/mod.rs"]
mod support;
