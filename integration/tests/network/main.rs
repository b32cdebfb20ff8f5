//! A pod's network at both ends, without a VM: a namespace plays the guest, whose card is a tap, and a thread carries
//! frames between its tap and the pod's, as a VM's monitor does. The VM itself is in `tests/microvm/network.rs`.

#![expect(clippy::expect_used, reason = "a test may fail anywhere")]

/// What is read on the host is what the guest is given.
mod hand_over;
/// Joining a pod's interface to a tap.
mod join;
/// A node, pods, guests.
mod stand;
