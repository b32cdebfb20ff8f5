use std::{io, path::PathBuf, process::ExitStatus, time::Duration};

/// A failure of the harness, or of a command that a test expects to succeed.
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
    #[error("cannot start {program}")]
    Spawn {
        /// The program.
        program: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A command ended otherwise than expected.
    #[error("`{command}` ended with {status}\n--- stdout\n{stdout}--- stderr\n{stderr}")]
    Command {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it printed.
        stdout: String,
        /// What it complained about.
        stderr: String,
    },
    /// Something that was waited for did not come about.
    #[error("{what}: not within {within:?} ({detail})")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        within: Duration,
        /// The last thing seen.
        detail: String,
    },
    /// Something the tests need is not on this machine.
    #[error("{what} is missing: {remedy}")]
    Missing {
        /// What is missing.
        what: String,
        /// How to get it.
        remedy: &'static str,
    },
    /// An answer was not the JSON it should be.
    #[error("cannot read {what} as JSON: {text}")]
    Json {
        /// Whose answer.
        what: String,
        /// The answer.
        text: String,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// A program did not get through its load.
    #[error("{program} did not get through its {load} load: {why}")]
    Load {
        /// The program.
        program: &'static str,
        /// The load.
        load: &'static str,
        /// Its output.
        why: String,
    },
    /// An executable could not be analysed.
    #[error("cannot make a profile for {program}")]
    Analysis {
        /// The executable, as seen from inside its root file system.
        program: String,
        /// Why not.
        #[source]
        source: Box<cofferdam_analysis::AnalysisError>,
    },
    /// An executable could not be analysed.
    #[error("cannot make a profile for {program}")]
    Entry {
        /// The executable, as seen from inside its root file system.
        program: String,
        /// Why not.
        #[source]
        source: Box<cofferdam_analysis::EntryError>,
    },
    /// Cases of a table failed.
    #[error("{} of {total} cases failed: {}", failed.len(), failed.join(", "))]
    Cases {
        /// Names of the failed cases.
        failed: Vec<String>,
        /// How many ran.
        total: usize,
    },
}

/// The harness's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The error and everything that caused it, on one line each.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            text.push_str(&format!("\n  caused by: {error}"));
            source = error.source();
        }
        text
    }
}

/// Adds the path and the deed to an I/O error.
pub trait At<T> {
    /// Says what was being done to which file.
    ///
    /// # Errors
    /// The I/O error, with its place.
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
