//! The guest's first root file system.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Writes an archive with a static program as the first process, and the console that the kernel opens for it.
///
/// # Errors
///
/// If the program cannot be read, or the archive not be written.
pub fn write(path: &Path, program: &Path) -> io::Result<()> {
    let bytes = fs::read(program)?;
    fill(File::create(path)?, &bytes)
}

fn fill(mut file: File, program: &[u8]) -> io::Result<()> {
    let node = |name: &str, mode| cpio::newc::Builder::new(name).mode(mode);
    let size = u32::try_from(program.len()).map_err(io::Error::other)?;
    node("dev", 0o040_755).write(&mut file, 0).finish()?;
    // Before there is a devtmpfs.
    let console = node("dev/console", 0o020_600).rdev_major(5).rdev_minor(1);
    console.write(&mut file, 0).finish()?;
    let mut init = node("init", 0o100_755).write(&mut file, size);
    init.write_all(program)?;
    init.finish()?;
    cpio::newc::trailer(&mut file).map(drop)
}
