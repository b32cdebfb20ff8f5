//! Everything that ends a verb early, and the exit status that runc gives it.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use cofferdam_container as container;
use cofferdam_profiles::policy::{PolicyFileError, Refusal};

use super::flags::FlagError;
use crate::launch::LaunchError;
use crate::vm::OpError;

/// Why a verb did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CliError {
    /// No such verb.
    #[error("no help topic for {verb:?}; `cofferdam --help` lists the commands")]
    UnknownVerb {
        /// The word in its place.
        verb: String,
    },
    /// A wrong flag.
    #[error("{flag}; see `cofferdam {verb}{}--help`", if verb.is_empty() { "" } else { " " })]
    Flag {
        /// The verb; empty for a global flag.
        verb: &'static str,
        /// What is wrong; not a source, as the message quotes it before the advice.
        flag: FlagError,
    },
    /// Too few or too many plain words.
    #[error("cofferdam: {verb:?} requires {wanted}; see `cofferdam {verb} --help`")]
    Arguments {
        /// The verb.
        verb: &'static str,
        /// `exactly 1 argument(s)`.
        wanted: String,
    },
    /// An argument that is not UTF-8 where text is needed.
    #[error("the argument {0:?} is not UTF-8")]
    NotText(String),
    /// Flags that cannot stand together, or a value out of its range.
    #[error("{0}")]
    Usage(&'static str),
    /// A value that has no meaning here.
    #[error("invalid {what} {value:?}; {expected}")]
    Value {
        /// What it is for.
        what: &'static str,
        /// The value.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// Not a container id.
    #[error(transparent)]
    Id(#[from] container::IdError),
    /// The bundle cannot be launched.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The recording that the policy granted did not begin.
    #[error(transparent)]
    Recording(#[from] crate::recording::RecordingError),
    /// The policy refuses the process.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The policy file is wrong.
    #[error(transparent)]
    PolicyFile(#[from] PolicyFileError),
    /// There is no policy of this name.
    #[error("there is no policy {name:?}; known policies: {known}")]
    UnknownPolicy {
        /// The name asked for.
        name: String,
        /// Those that exist.
        known: String,
    },
    /// The container cannot be looked at.
    #[error(transparent)]
    Inspect(#[from] container::inspect::InspectError),
    /// What is stored about the container.
    #[error(transparent)]
    State(#[from] container::StateError),
    /// Create failed.
    #[error(transparent)]
    Create(#[from] container::CreateError),
    /// Start failed.
    #[error(transparent)]
    Start(#[from] container::StartError),
    /// Exec failed.
    #[error(transparent)]
    Exec(#[from] container::ExecError),
    /// Kill failed.
    #[error(transparent)]
    Kill(#[from] container::KillError),
    /// Not a signal.
    #[error(transparent)]
    Signal(#[from] container::signal::UnknownSignal),
    /// Delete failed.
    #[error(transparent)]
    Delete(#[from] container::DeleteError),
    /// Something with a virtual machine.
    #[error(transparent)]
    Machine(#[from] crate::vm::MachineError),
    /// Pause, resume, update, ps or events failed.
    #[error(transparent)]
    Cgroup(#[from] container::CgroupOpError),
    /// The container is not in the state for this.
    #[error("container with id {id} is not running")]
    NotRunning {
        /// The id.
        id: String,
    },
    /// The container's policy leaves denied calls silent.
    #[error(
        "the denied calls of container {id} are not explained; select a policy with \
         `denials = \"explain\"` (or, if the policy file lists it under [annotations], the annotation \
         cofferdam.dev/denials=explain) and create the container again"
    )]
    NotExplained {
        /// The id.
        id: String,
    },
    /// What explains denied calls cannot begin.
    #[error(transparent)]
    Serve(#[from] container::denials::ServeError),
    /// The log of denied calls cannot be read.
    #[error("cannot read the log of denied calls {}", path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A descriptor to pass on is not there.
    #[error("--preserve-fds={count}: file for descriptor {fd} doesn't exist")]
    MissingDescriptor {
        /// How many were promised.
        count: u32,
        /// The first that is missing.
        fd: u32,
    },
    /// A file to read or write.
    #[error("cannot {action} {}", path.display())]
    File {
        /// `read`, `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file that is not the JSON it should be.
    #[error("{} is not {expected}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A system call failed.
    #[error("cannot {action}")]
    System {
        /// What was being done.
        action: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The program that has a verb for us cannot be executed.
    #[error("cannot execute {}, which has this command; `make install` puts it there", path.display())]
    Companion {
        /// Where it was looked for.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something runc has and we do not.
    #[error("{what} is not supported: {why}")]
    Unsupported {
        /// What was asked.
        what: &'static str,
        /// Why it is not there, or what to use.
        why: &'static str,
    },
}

impl<E: Error> From<OpError<E>> for CliError
where
    Self: From<E>,
{
    fn from(error: OpError<E>) -> Self {
        match error {
            OpError::Host(error) => error.into(),
            OpError::Machine(error) => Self::Machine(error),
        }
    }
}

impl CliError {
    /// The exit status; `exec` has its own, since a caller takes small ones for the process's.
    pub(crate) fn status(&self, verb: &str) -> u8 {
        match self {
            Self::UnknownVerb { .. } => 3,
            Self::Flag { .. } | Self::Arguments { .. } => 1,
            _ if verb == "exec" => 255,
            _ => 1,
        }
    }

    /// A failed write to the standard output.
    pub(crate) fn output(source: io::Error) -> Self {
        Self::System {
            action: "write to the standard output",
            source,
        }
    }
}

/// An error and its causes on one line, each said once.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        // Transparent wrappers and messages that quote their source repeat it.
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_is_said_once() {
        let error = CliError::File {
            action: "read",
            path: "/x".into(),
            source: io::Error::from_raw_os_error(2),
        };
        assert_eq!(
            chain(&error),
            "cannot read /x: No such file or directory (os error 2)"
        );
        let error = CliError::from(container::IdError::Empty);
        assert_eq!(chain(&error), "container id cannot be empty");
    }

    #[test]
    fn statuses_are_those_of_runc() {
        assert_eq!(CliError::Usage("x").status("create"), 1);
        assert_eq!(CliError::Usage("x").status("exec"), 255);
        assert_eq!(CliError::UnknownVerb { verb: "x".into() }.status(""), 3);
    }
}
