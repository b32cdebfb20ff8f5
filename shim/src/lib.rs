//! Who calls us: two front ends over one life cycle.
//!
//! The shim daemon answers containerd. It stays small and never clones a container itself: for
//! `create` and `exec` it executes the `cofferdam` binary with a hidden verb, hands it the
//! container's stdio, and exchanges one request and one answer with it as data.

// ---- The border between the two ----------------------------------------------------------------

/// What the shim daemon and its short-lived helper process say to each other.
pub mod helper;

// ---- The containerd shim (`containerd-shim-cofferdam-v2`) --------------------------------------

/// How containerd starts the shim, and how it cleans up after one that died.
pub mod bootstrap;

/// The Task service: from a request's bytes to the task table and back.
pub mod service;

/// The task table: every container of this shim, its processes, and the order of what happens.
pub mod tasks;

/// What the life cycle needs of whatever runs a container.
pub mod backend;

/// The backend that runs containers on the host's kernel.
pub mod host;

/// Which kind of failure an error of the container crate is.
mod failure;

/// Mounts the root file system that containerd's snapshotter describes.
pub mod mounts;

/// The stdio of a process: FIFOs handed straight to it, loggers, files, terminals.
pub mod io;

/// The socket over which the helper hands us the master of a new terminal.
mod console;

/// The runtime options that containerd's configuration and `ctr` hand to the shim.
pub mod options;

/// What happened to tasks, in the form containerd takes it.
pub mod events;

/// Sends events to containerd: in order, one at a time, again after containerd restarted.
pub mod publisher;

/// Cgroup figures in the form that containerd's clients read.
mod metrics;

/// Watches a container for want of memory.
mod oom;

/// Denied calls as containerd events.
mod denial_events;

/// The one place that reaps children.
mod reap;

/// ttrpc over Unix sockets without a thread per connection or per request.
pub mod rpc;

/// One epoll loop in which everything that only waits lives.
pub mod reactor;

/// The daemon's log, written to the FIFO that containerd copies into its own.
mod logging;

/// Locks, and short-lived threads with small stacks.
mod sync;

/// The system calls of the daemon that have no safe wrapper elsewhere.
mod sys;
/// Containers in a virtual machine.
mod vm;

// ---- The OCI command line (`cofferdam`) --------------------------------------------------------

/// The OCI command line `cofferdam`: a drop-in for runc 1.1, and verbs of our own.
pub mod cli;

/// From a bundle to a hardened spec, and from a request to join to a hardened process.
pub mod launch;

/// The hidden verb that answers and explains the denied calls of one container.
pub(crate) mod denials_verb;

/// Finds the program beside this one that knows more of profiles.
pub(crate) mod companion;

/// Begins the recording that a policy granted.
pub(crate) mod recording;

/// The hidden verb that the shim daemon executes: one request in, one answer out, as data.
pub(crate) mod helper_verb;
