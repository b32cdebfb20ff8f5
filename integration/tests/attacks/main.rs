//! Attacks from inside a container. Each is shown to work on an unprotected process first, so that a
//! pass means the guarantee holds and not that the attack was made wrongly. What could hurt a host
//! is opened, never written; everything runs in an enclave.

/// Where attacks are made.
mod arena;
/// Forbidden system calls.
mod calls;
/// Terminals that are put somewhere else.
mod console;
/// Ways out through the runtime itself.
mod escapes;
/// Volumes on file systems in user space.
mod fuse;
/// What Landlock bounds.
mod landlock;
/// What a container holds of the host's.
mod leases;
/// Mounts, masks and nodes that are led somewhere else.
mod mounts;
/// Names that change while the runtime looks at them.
mod races;
/// Whose user ids a container has.
mod users;
