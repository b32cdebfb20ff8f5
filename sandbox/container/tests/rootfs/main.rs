//! The container's file system as the kernel makes it.
//!
//! Every case runs in a process of its own, single-threaded, in new mount, pid, IPC, UTS, network
//! and cgroup namespaces: this program executes itself with the case's name. Nothing reaches the
//! host: its mounts are private copies there, and all files are below a temporary directory.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test program that reports its own results"
)]

mod attacks;
mod binds;
mod harness;
mod masks;
mod plain;
mod userns;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut cases = Vec::new();
    cases.extend_from_slice(plain::CASES);
    cases.extend_from_slice(binds::CASES);
    cases.extend_from_slice(masks::CASES);
    cases.extend_from_slice(attacks::CASES);
    cases.extend_from_slice(userns::CASES);
    harness::main(&cases)
}
