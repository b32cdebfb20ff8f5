//! Why nothing can be recorded by BPF.

use std::io;

use crate::asm::BadJump;
use crate::btf::BtfError;
use crate::layout::{BTF, LayoutError};
use crate::sys::Refused;

/// Why nothing can be recorded, or what was recorded cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecorderError {
    /// Not a machine the programs are written for.
    #[error("the BPF recorder knows x86-64 only, not {}", std::env::consts::ARCH)]
    Machine,
    /// The kernel does not describe itself.
    #[error("cannot read the kernel's type information {BTF} (CONFIG_DEBUG_INFO_BTF)")]
    NoTypes(#[source] io::Error),
    /// The kernel describes itself otherwise than expected.
    #[error("cannot use the kernel's type information {BTF}")]
    Types(#[from] BtfError),
    /// A mistake in this crate.
    #[error("cannot assemble the program {name}")]
    Program {
        /// Which.
        name: &'static str,
        /// What is wrong with it.
        #[source]
        source: BadJump,
    },
    /// No memory, or no right to it.
    #[error("cannot make the BPF map {name} (needs root, or CAP_BPF and CAP_PERFMON)")]
    Map {
        /// Which.
        name: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The verifier, or the lack of a right.
    #[error("the kernel refuses the BPF program {name}{}", last_line(log))]
    Refused {
        /// Which.
        name: &'static str,
        /// What the verifier said.
        log: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No such tracepoint, or no right to it.
    #[error("cannot attach the BPF program {name} to its tracepoint")]
    Attach {
        /// Which.
        name: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A map does not take or give a value.
    #[error("cannot use the recorder's map {name}")]
    Use {
        /// Which.
        name: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel does not say how many events it dropped.
    #[error("cannot ask the kernel how many events it did not deliver")]
    Misses(#[source] io::Error),
}

impl RecorderError {
    pub(crate) fn refused(name: &'static str, refused: Refused) -> Self {
        Self::Refused {
            name,
            log: refused.log,
            source: refused.source,
        }
    }
}

fn last_line(log: &str) -> String {
    let said = log
        .lines()
        .rev()
        .find(|line| !line.is_empty() && !line.starts_with("processed "));
    said.map_or_else(String::new, |line| format!(": {line}"))
}

impl From<LayoutError> for RecorderError {
    fn from(error: LayoutError) -> Self {
        match error {
            LayoutError::Read(source) => Self::NoTypes(source),
            LayoutError::Btf(source) => Self::Types(source),
        }
    }
}
