//! Why a command could not be done, and how that is told.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use cofferdam_profiles::seccomp::InvalidProfile;

use super::Format;
use crate::dialect::DialectError;
use crate::recording::RecordingError;
use crate::trace::TraceError;

/// Why a command could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CliError {
    /// A file that cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file that is longer than any of its kind.
    #[error("{} has more than {bound} bytes; no such file is read", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The bound, in bytes.
        bound: u64,
    },
    /// A file that is not a profile, or not one that can be used so.
    #[error("cannot use {} as a seccomp profile", path.display())]
    Profile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: DialectError,
    },
    /// A profile that means nothing.
    #[error("{} cannot be used", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: InvalidProfile,
    },
    /// A trace that cannot be used.
    #[error("cannot use the trace {}", path.display())]
    Trace {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: TraceError,
    },
    /// A file that is not a recording.
    #[error("cannot use {} as a recording of `cofferdam profile record`", path.display())]
    Recording {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: RecordingError,
    },
    /// A recording.
    #[error(transparent)]
    Record(#[from] super::RecordError),
    /// The standard output.
    #[error("cannot write to the standard output")]
    Print(#[source] io::Error),
}

/// Tells an error with its causes, each once, on the standard error.
#[expect(clippy::print_stderr, reason = "this is where errors are told")]
pub(super) fn tell(error: &CliError, format: Format) {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    match format {
        Format::Human => eprintln!("cofferdam profile: {text}"),
        Format::Json => eprintln!("{}", serde_json::json!({ "error": text })),
    }
}
