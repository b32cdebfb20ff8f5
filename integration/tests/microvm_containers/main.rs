//! Containers in virtual machines, by the command line: what a user does with one, and what goes wrong. They run where
//! KVM boots the guest's kernel: in the lab. What engines do is in `tests/containerd`.

#![expect(clippy::expect_used, reason = "a test may fail anywhere")]

/// What ends badly and must leave nothing behind.
mod faults;
/// Run, join, look, pause, limit.
mod life;
/// The pod's network.
mod network;
/// Files of the host's.
mod volumes;
/// Bundles and containers straight on the guest of the lab.
mod yard;
