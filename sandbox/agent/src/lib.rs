//! Containers in a virtual machine.
//!
//! The guest's first process ([`guest`]) makes them, as it is told over vsock in [`protocol`]'s messages. On the host a
//! process of its own stands in for each process of theirs ([`stand_in`]): it has the standard streams or the terminal
//! that the engine gave, forwards signals, and ends as the guest's process did. So an engine sees the processes that it
//! knows to wait for, and nothing that the guest says is read by who has rights on the host.

/// Speaking to the guest.
pub mod client;
/// What goes to and fro between a guest's process and what stands in for it.
pub mod frames;
/// The guest's first process.
pub mod guest;
/// The guest's first root file system.
pub mod initramfs;
/// What is asked of the guest, and what it answers.
pub mod protocol;
/// A guest's process, on the host.
pub mod stand_in;
/// Messages on a stream: ttrpc's.
pub mod wire;
