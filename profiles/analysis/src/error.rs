//! Why an analysis gave no result.

use std::io;
use std::path::PathBuf;

use crate::elf::ElfError;

/// Why a program could not be analysed.
#[derive(Debug, thiserror::Error)]
pub enum AnalysisError {
    /// The program, an interpreter or the loader cannot be read.
    #[error("cannot read {} in the root file system; name a program that is in it", path.display())]
    Read {
        /// As seen from inside.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is there, but it is no program this analysis understands.
    #[error("cannot analyse {}", path.display())]
    Format {
        /// As seen from inside.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ElfError,
    },
    /// A shared object the program cannot start without is not there.
    #[error("{} needs {library}, which is not in the root file system", object.display())]
    Missing {
        /// Who needs it.
        object: PathBuf,
        /// What it needs.
        library: String,
    },
    /// Interpreters whose interpreters are scripts, and so on.
    #[error("{}: the chain of script interpreters is longer than the kernel follows", path.display())]
    Interpreters {
        /// The script.
        path: PathBuf,
    },
    /// More shared objects than any program has.
    #[error("{}: more than {limit} shared objects; the root file system is not one to trust", path.display())]
    TooManyObjects {
        /// The program.
        path: PathBuf,
        /// How many are followed.
        limit: usize,
    },
}
