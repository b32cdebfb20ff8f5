//! The lab: a Debian guest in QEMU that is thrown away after use and has what the machine may lack
//! (AppArmor, a pure cgroup v2, systemd as the first process). docs/lab.md says how it is used.

/// What runs commands in the guest.
pub mod agent;
/// What can go wrong.
pub mod error;
/// The guest: its disks, its start, what runs in it.
pub mod lab;
/// What host and guest say to each other.
pub mod wire;
