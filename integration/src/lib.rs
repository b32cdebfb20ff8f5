//! Harness for the tests against real engines, the faults, the demonstration and the benchmarks.
//!
//! Every engine runs in an [`Enclave`](enclave::Enclave): its own process, mount and network
//! namespaces and its own `/run`. So nothing of the machine's is touched, what a test leaves behind
//! can be told exactly ([`residue`]), and everything dies with the test even if it is killed.
//!
//! A suite is a table of [`Case`](cases::Case)s that is run against each version of an engine:
//!
//! ```no_run
//! use cofferdam_integration::{cases, containerd::{Containerd, Version}, error::Result};
//!
//! fn says_hello(engine: &Containerd) -> Result<()> {
//!     assert_eq!(engine.run("hello", &["echo", "hello"])?.stdout, "hello\n");
//!     Ok(())
//! }
//!
//! fn suite() -> Result<()> {
//!     let Some(_root) = cofferdam_integration::gate::root() else { return Ok(()) };
//!     let engine = Containerd::start(Version::V1_6)?;
//!     cases::run(&engine, &[("says_hello", says_hello)])
//! }
//! ```

/// Finds the binaries of this build and the engines to test against.
pub mod binaries;
/// OCI bundles for the command line.
pub mod bundle;
/// Runs a table of cases against one engine and compares what is left after each.
pub mod cases;
/// What Docker and Podman have in common, and the cases that hold for both.
pub mod client;
/// Builds commands with a time limit and keeps what they printed.
pub mod command;
/// Real images under `baseline`, with runc as the control.
pub mod compat;
/// A private containerd and its `ctr`.
pub mod containerd;
/// A private dockerd and its client.
pub mod docker;
/// Namespaces of its own for an engine and everything it starts.
pub mod enclave;
/// What can go wrong in the harness itself.
pub mod error;
/// File systems in user space.
pub mod fuse;
/// Decides whether a test can run here; a skip is visible and can be forbidden.
pub mod gate;
/// The kernel that microVMs boot.
pub mod guest;
/// Images made without a registry.
pub mod image;
/// A first root file system for microVMs.
pub mod initramfs;
/// Real programs under load, for generated profiles.
pub mod loads;
/// Network namespaces.
pub mod netns;
/// Podman with storage of its own.
pub mod podman;
/// What a test left behind.
pub mod residue;
/// Programs of a few instructions.
pub mod tiny;
