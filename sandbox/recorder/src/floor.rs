//! What any recorder that uses the tracepoint of system calls costs at least.

use std::os::fd::OwnedFd;

use crate::error::RecorderError;
use crate::layout::Layout;
use crate::program;

use crate::sys::Program;

/// A program that does nothing, at every system call of the machine until it is dropped. For
/// benchmarks, to tell the tracepoint's cost from the recorder's.
#[derive(Debug)]
pub struct Floor {
    _program: Program,
    _link: OwnedFd,
}

impl Floor {
    /// Loads it.
    pub fn load() -> Result<Self, RecorderError> {
        let name = "floor";
        let layout = Layout::of_this_kernel()?;
        let code = program::nothing().map_err(|source| RecorderError::Program { name, source })?;
        let program = Program::load(name, &code, layout.enter)
            .map_err(|refused| RecorderError::refused(name, refused))?;
        let link = program
            .attach()
            .map_err(|source| RecorderError::Attach { name, source })?;
        Ok(Self {
            _program: program,
            _link: link,
        })
    }
}
