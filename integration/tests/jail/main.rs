//! What a machine's jail and the filters of its threads hold back. Each attack succeeds without them. A machine in its
//! jail is in `microvm`.

#![expect(clippy::expect_used, reason = "a test may fail anywhere")]

/// Attacks, in the jail and out of it.
mod attacks;
/// The two processes: ids, namespaces, ends.
mod processes;
/// A directory to be locked up in, and the probe.
mod yard;
