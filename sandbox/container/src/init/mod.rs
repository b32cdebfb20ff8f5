//! What the new process does between the clone and `execve`.
//!
//! It runs as a copy of its parent, single-threaded, without ever returning into the parent's code.

/// The stages that confine a process, the same for init and for one that joins.
mod confine;
/// The init of a new container.
pub(crate) mod container;
/// Finding the program, the home directory.
mod executable;
/// Attaches a filter with a listener, and hands the listener over.
pub(crate) mod handover;
/// A process that joins a running container.
pub(crate) mod join;
/// AppArmor and SELinux labels, written through a checked procfs.
mod label;
/// Landlock rules, opened in the container.
mod landlock;
/// The channel between the parent and the new process.
pub(crate) mod sync;

use std::convert::Infallible;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{Cause, InitFailure, Stage};
use crate::sys::clone;
use sync::InitSide;

/// A step's result.
pub(crate) type Step<T = ()> = Result<T, InitFailure>;

/// Names the stage and the subject of an error.
pub(crate) trait At<T> {
    /// Turns an error into the report to the parent.
    fn at(self, stage: Stage, subject: impl Into<String>) -> Step<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, stage: Stage, subject: impl Into<String>) -> Step<T> {
        self.map_err(|error| failure(stage, subject, &error))
    }
}

/// An I/O error as a report.
pub(crate) fn failure(stage: Stage, subject: impl Into<String>, error: &io::Error) -> InitFailure {
    let cause = match error.raw_os_error() {
        Some(errno) => Cause::Os(errno),
        None => Cause::Text(error.to_string()),
    };
    InitFailure::new(stage, subject, cause)
}

impl<T> At<T> for nix::Result<T> {
    fn at(self, stage: Stage, subject: impl Into<String>) -> Step<T> {
        self.map_err(|errno| InitFailure::new(stage, subject, Cause::Os(errno as i32)))
    }
}

/// An error and its sources in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

/// The exit status of a process that could not execute its program, as runc's init has it.
const FAILED: i32 = 255;

/// Runs `body` as the new process: it executes a program or ends, and never comes back.
pub(crate) fn run(
    mut channel: InitSide,
    body: impl FnOnce(&mut InitSide) -> Step<Infallible>,
) -> ! {
    // A panic must not unwind into what the parent has on its stack.
    let failure = match catch_unwind(AssertUnwindSafe(|| body(&mut channel))) {
        Ok(Err(failure)) => failure,
        Ok(Ok(never)) => match never {},
        Err(_) => InitFailure::new(
            Stage::Sync,
            "container init",
            Cause::Text("it panicked; this is a bug".to_owned()),
        ),
    };
    channel.report(&failure);
    clone::exit(FAILED)
}
