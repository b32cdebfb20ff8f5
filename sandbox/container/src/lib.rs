//! How a workload is confined on the host kernel.
//!
//! The caller is a single-threaded process: [`create`] and [`exec`] clone without executing, so no
//! other thread may hold a lock that the child would need.

/// Container ids: the only form in which a name from outside becomes part of a path.
pub mod id;

/// Signals by name and number, the real-time ones included.
pub mod signal;

/// What a caller chooses about one container or one joined process.
pub mod options;

/// What can go wrong, an enum per operation, with the stage of init that failed as data.
pub mod error;

/// What is kept about a container, and what the kernel says about it now.
pub mod state;

/// Times as the OCI state has them.
mod clock;

/// Denied system calls, explained.
pub mod denials;

/// AppArmor profiles of ours: loaded at create, unloaded when the last that has one is gone.
pub mod apparmor;

/// The spec's hooks.
mod hooks;

/// What the new process does between the clone and `execve`.
mod init;

/// What the parent sets on a new process: resource limits, scheduling, the OOM score.
mod limits;

/// The namespaces of a spec: which are made, which are joined.
mod namespaces;

/// Memory policy and CPU lists.
mod numa;

/// Who has which range of user ids.
pub mod ids;

/// A process of the spec, checked and turned into what the system calls take.
mod process;

/// The seccomp programs of a container, kept so that every later process gets the same bytes.
mod seccomp;

/// System calls that nix does not wrap.
mod sys;

/// The container's pseudo-terminal.
mod tty;

/// Terminals, for who stands between two.
pub mod terminal;

/// create, start, exec, kill, delete and the cgroup verbs.
pub mod lifecycle;

/// Keeps the container from reaching our own executable (CVE-2019-5736).
pub mod self_exe;

/// The container's file system: mounts, devices, pivot, masked and read-only paths.
pub mod rootfs;

/// Control groups: v1, v2 and through systemd.
pub mod cgroup;

/// What is enforced on a running container, read back from the kernel.
pub mod inspect;

/// What this kernel can enforce.
pub mod doctor;

pub use error::{
    CgroupOpError, CreateError, DeleteError, ExecError, IdError, KillError, StartError, StateError,
};
pub use id::ContainerId;
pub use lifecycle::{create, delete, exec, kill, pause, ps, resume, start, stats, update};
pub use options::{CreateOptions, ExecOptions};
pub use signal::Signal;
pub use state::{Listener, State, Status, list, load, load_record};
