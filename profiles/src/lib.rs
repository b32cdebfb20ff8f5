//! What a workload may do.
//!
//! Pure logic: this crate does no I/O beyond the paths it is handed, needs no root, and never
//! starts a process. Everything it reads (configs, policies, annotations) is treated as hostile.

/// Turns a named policy and an OCI spec into a hardened spec and a report of every change.
pub mod policy;

/// What a container may do with files, ports and its neighbours: the model behind Landlock and AppArmor.
pub mod access;

/// Landlock: what the kernel is told of the model, and what it cannot enforce.
pub mod landlock;

/// Profiles that are made of a container's files when it starts, and their cache.
pub mod generated;

/// Seccomp: the built-in default, OCI JSON in and out, intersection, compilation, the filter cache.
pub mod seccomp;

/// AppArmor profiles, and what the kernel says when it denies something by one.
pub mod apparmor;

/// Linux capabilities by name and number, and the sets the field uses as defaults.
pub mod capability;

/// Ranges of user ids for containers.
pub mod userns;

/// Fields of the kernel's list of mounts.
pub mod mountinfo;
