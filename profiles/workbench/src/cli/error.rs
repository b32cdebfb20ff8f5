//! Why a command could not be done, and how that is told.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use cofferdam_profiles::access::AccessError;
use cofferdam_profiles::apparmor::ProfileError;
use cofferdam_profiles::seccomp::InvalidProfile;

use super::Format;
use crate::algebra::AlgebraError;
use crate::dialect::DialectError;
use crate::explain::ExplainError;
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
    /// A file that is no access document.
    #[error("cannot use {} as an access document", path.display())]
    Access {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: AccessError,
    },
    /// No AppArmor profile can be made of it.
    #[error("cannot make an AppArmor profile")]
    Apparmor(#[source] ProfileError),
    /// A file that cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file that is not evidence.
    #[error("{} is not the evidence of `cofferdam profile generate`", path.display())]
    Evidence {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
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
    /// A profile that predicts nothing.
    #[error("cannot predict by {}", path.display())]
    Prediction {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: cofferdam_profiles::seccomp::InvalidProfile,
    },
    /// A recording.
    #[error(transparent)]
    Record(#[from] super::RecordError),
    /// An analysis.
    #[error(transparent)]
    Generate(#[from] super::GenerateError),
    /// A profile that cannot be explained.
    #[error("cannot explain {}", path.display())]
    Explain {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: ExplainError,
    },
    /// A call that the machine does not have.
    #[error(
        "no call {name:?} on this machine{}", if *elsewhere { "; name another with --arch" } else { "; is it a library's name for one?" }
    )]
    NoSuchCall {
        /// The name.
        name: String,
        /// This computer has one, if not the machine asked for.
        elsewhere: bool,
    },
    /// An argument that is neither a number nor a known name.
    #[error(
        "{text:?} is no number from 0 to 18446744073709551615 and no name of a flag or value that is known here"
    )]
    Argument {
        /// The argument.
        text: String,
    },
    /// Profiles that cannot be compared or combined.
    #[error("cannot work with these profiles")]
    Algebra(#[from] AlgebraError),
    /// No profile says exactly what is wanted.
    #[error(
        "no one profile says exactly that of {calls} calls ({examples}); take the nearest with \
         --approximate, or name the kinds of calls that matter with --abi"
    )]
    Inexact {
        /// How many calls.
        calls: usize,
        /// Some of them.
        examples: String,
    },
    /// A command that could not be tried.
    #[error(transparent)]
    Trial(#[from] crate::trial::TrialError),
    /// Repairs go into files.
    #[error("the standard input cannot be repaired; give `lint --fix` a file")]
    FixStdin,
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
