//! Machines of `cofferdam-vmm` with the guest's kernel, and a first process that does what the tests ask. They run
//! where KVM boots it: in the lab.

#![expect(clippy::expect_used, reason = "a test may fail anywhere")]

/// Memory that goes back to the host.
mod balloon;
/// Disks.
mod disks;
/// The monitor as a process, in its jail.
mod jail;
/// Boot, end, pause.
mod life;
/// A machine, and how the guest is asked.
mod machine;
/// Mounts below directories of the host.
mod mounts;
/// Network cards.
mod network;
/// What POSIX asks of a file system.
mod posix;
/// Directories of the host.
mod shares;
/// Streams between host and guest.
mod streams;
