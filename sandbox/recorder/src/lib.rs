//! Records which system calls and capabilities a group of processes uses.
//!
//! Five BPF programs on the kernel's own tracepoints, assembled here (no compiler, no kernel headers;
//! the kernel's type information says where its fields lie), follow a group of processes through
//! fork, exec and exit and count in maps what they call. The process that holds a [`Recorder`] is all
//! that keeps the programs loaded: however it ends, the kernel unloads them.
//!
//! The group is a map of thread group ids that the fork tracepoint extends, not a cgroup: under
//! cgroup v1, `bpf_get_current_cgroup_id` names a cgroup of the unused unified hierarchy, and a
//! process may move. What enters a container from outside (`exec`) is no descendant of its init; it
//! is recognised at its fork by the pid namespace it is born into.
//!
//! Numbers only: names, and what they mean for a profile, are the workbench's.

/// Assembles extended BPF.
mod asm;
/// Where fields lie in this kernel's structures.
mod btf;
/// Why nothing can be recorded by BPF.
mod error;
/// What any recorder that uses the tracepoint of system calls costs at least.
mod floor;
/// Which arguments are kept, and which calls end a phase.
mod interest;
/// What of this kernel the programs depend on.
mod layout;
/// Records by seccomp notifications, where BPF cannot be used.
mod notify;
/// What a recording found, in numbers.
mod observed;
/// Paths as the kernel's side keeps them.
mod path;
/// Processes: their end, and who belongs together.
pub mod process;
/// The programs that run in the kernel.
mod program;
/// Loads, seeds, reads.
mod recorder;
/// An array that this process and the programs write at the same time.
mod shared;
/// bpf(2).
mod sys;
/// The records of the thread groups that are followed, shared with the programs.
mod tasks;
/// What was done with files and ports.
mod touched;

pub use asm::BadJump;
pub use btf::BtfError;
pub use error::RecorderError;
pub use floor::Floor;
pub use notify::{NotifyError, NotifyRecorder};
pub use observed::{
    Abi, CallSite, Lost, Means, Observed, Phase, SeenArgument, SeenCall, SeenCapability,
};
pub use recorder::{Capacity, Recorder};
pub use touched::{Touched, TouchedPlace, touch};
