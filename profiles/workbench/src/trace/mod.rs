//! Calls seen by somebody else: logs of strace.

/// What the names in a log stand for.
mod constants;
/// Lines of `strace -f`.
mod strace;
/// Arguments in a log.
mod value;

pub use strace::{read, read_with};

use std::collections::BTreeMap;

use cofferdam_profiles::seccomp::Arch;

/// Different calls of one name that are told apart; what goes beyond is one call of unknown arguments.
pub const MAX_VARIANTS: usize = 4096;
/// Different calls in one trace; what goes beyond is told apart by name only.
const MAX_CALLS: usize = 65_536;
/// Names of calls in one trace; there are about 500.
const MAX_NAMES: usize = 4096;

/// A system call and its arguments as far as a trace tells them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeenCall {
    /// Of the calling program.
    pub arch: Arch,
    /// As strace and seccomp profiles call it.
    pub name: String,
    /// `None` where the trace shows no number, or nobody wants it.
    pub args: [Option<u64>; 6],
}

/// How often a call was seen, and where first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// How often.
    pub count: u64,
    /// The line of the trace, from 1.
    pub first: u64,
}

/// The calls of a trace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    /// Each different call once.
    pub calls: BTreeMap<SeenCall, Seen>,
    /// Lines that are no part of a log of strace, and the first of them.
    pub unreadable: u64,
    /// The line number of the first unreadable line.
    pub first_unreadable: Option<u64>,
    /// Calls that had begun when the trace ended, or whose end is missing.
    pub unfinished: u64,
    variants: BTreeMap<String, usize>,
}

impl Trace {
    fn see(&mut self, mut call: SeenCall, line: u64) {
        let count = |seen: &mut Seen| seen.count = seen.count.saturating_add(1);
        if let Some(seen) = self.calls.get_mut(&call) {
            return count(seen);
        }
        let names = self.variants.len();
        let known = match self.variants.get_mut(&call.name) {
            Some(known) => known,
            None if names < MAX_NAMES => self.variants.entry(call.name.clone()).or_default(),
            None => return self.refuse(line),
        };
        if *known >= MAX_VARIANTS || self.calls.len() >= MAX_CALLS {
            call.args = [None; 6];
        }
        *known += 1;
        let seen = Seen {
            count: 0,
            first: line,
        };
        count(self.calls.entry(call).or_insert(seen));
    }

    fn refuse(&mut self, line: u64) {
        self.unreadable = self.unreadable.saturating_add(1);
        self.first_unreadable.get_or_insert(line);
    }
}

/// Why a trace cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// It cannot be read.
    #[error("cannot read the trace")]
    Read(#[source] std::io::Error),
    /// A line of hundreds of megabytes.
    #[error(
        "line {line} is longer than any that strace writes; a log of `strace -f -o FILE COMMAND` is expected"
    )]
    Endless {
        /// Which, from 1.
        line: u64,
    },
    /// There is not one call in it.
    #[error(
        "no system call in it{}; a log of `strace -f -o FILE COMMAND` is expected",
        .unreadable.map(|line| format!(" (line {line} is no line of strace)")).unwrap_or_default()
    )]
    Empty {
        /// The first line that was not understood.
        unreadable: Option<u64>,
    },
}
