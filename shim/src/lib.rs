//! Who calls us: two front ends over one life cycle.
//!
//! The shim daemon answers containerd. It stays small and never clones a container itself: for
//! `create` and `exec` it executes the `cofferdam` binary with a hidden verb, hands it the
//! container's stdio, and exchanges one request and one answer with it as data.

// ---- The border between the two ----------------------------------------------------------------

/// What the shim daemon and its short-lived helper process say to each other.
pub mod helper;

// ---- The containerd shim (`containerd-shim-cofferdam-v2`) --------------------------------------

// ---- The OCI command line (`cofferdam`) --------------------------------------------------------

/// The OCI command line `cofferdam`: a drop-in for runc 1.1, and verbs of our own.
pub mod cli;

/// From a bundle to a hardened spec, and from a request to join to a hardened process.
pub mod launch;

/// The hidden verb that the shim daemon executes: one request in, one answer out, as data.
pub(crate) mod helper_verb;
