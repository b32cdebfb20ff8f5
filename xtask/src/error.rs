//! Errors of the lab say what was being done, to what, and what to do next.

use std::{io, path::PathBuf, process::ExitStatus};

/// A failure of the lab itself; a command that fails in the guest is an exit status.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read, written or made.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// What was being done, for instance `read`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A program could not be started.
    #[error("cannot start {program}: is it installed? (scripts/setup)")]
    Spawn {
        /// The program.
        program: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A program that prepares the lab failed.
    #[error("{program} ended with {status}; its own messages say why")]
    Preparation {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// A program's output was not what it should be.
    #[error("cannot read what cargo says of its artifacts")]
    Artifacts(#[source] serde_json::Error),
    /// A step names a test that the workspace has not.
    #[error("{package} has no test called {target}; mend xtask/src/lab/steps.rs")]
    NoTest {
        /// The package.
        package: &'static str,
        /// The test's target.
        target: &'static str,
    },
    /// A program that the guest's tests run is not there.
    #[error("{program} is not built; run make build")]
    NotBuilt {
        /// The program.
        program: &'static str,
    },
    /// A guest's thread ended badly.
    #[error("the thread of a guest panicked; its message is above")]
    Panicked,
    /// The guest did not get ready.
    #[error("the guest did not get ready; the end of its console:\n{console}")]
    NotReady {
        /// The last lines of its console.
        console: String,
    },
    /// The guest stopped answering while a command ran.
    #[error("the guest's agent was lost; the end of its console:\n{console}")]
    Lost {
        /// Why.
        #[source]
        source: crate::wire::Error,
        /// The last lines of its console.
        console: String,
    },
    /// The guest answered something that is no answer.
    #[error("the guest's agent answered {answer} where a result was due: is it of this build?")]
    Unexpected {
        /// What it answered.
        answer: String,
    },
    /// The agent cannot go on.
    #[error("the lab's agent cannot serve its port")]
    Agent(#[source] crate::wire::Error),
    /// The command line makes no sense.
    #[error("{0}; `cargo xtask help` says what there is")]
    Usage(String),
}

/// A result of the lab.
pub type Result<T> = std::result::Result<T, Error>;

/// Adds to an I/O error what was being done, and to which file.
pub trait At<T> {
    /// The error with `doing` ("read", "make") and the path.
    ///
    /// # Errors
    /// The same failure, said better.
    fn at(self, doing: &'static str, path: impl Into<PathBuf>) -> Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, doing: &'static str, path: impl Into<PathBuf>) -> Result<T> {
        self.map_err(|source| Error::File {
            doing,
            path: path.into(),
            source,
        })
    }
}
