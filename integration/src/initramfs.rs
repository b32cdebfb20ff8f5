use std::path::Path;

use crate::error::{At, Result};

/// Writes an archive with a static program as the first process, and the console that the kernel opens for it.
///
/// # Errors
/// If the program cannot be read, or the archive not be written.
pub fn write(path: &Path, program: &Path) -> Result<()> {
    cofferdam_agent::initramfs::write(path, program).at("make", path)
}
