use std::path::{Path, PathBuf};

use crate::{
    command::Cmd,
    error::{Error, Result},
};

/// A script of the work tree.
#[must_use]
pub fn script(name: &str) -> PathBuf {
    tree().join("scripts").join(name)
}

/// What is asked of the guest's kernel: options, one a line, and comments.
#[must_use]
pub fn fragment() -> PathBuf {
    tree().join("sandbox/guest/kernel.config")
}

/// The directory with the kernel that microVMs boot: `vmlinux`, `config`, and `sha256`, which `sha256sum
/// --check` reads.
///
/// # Errors
/// If `scripts/fetch-guest` has not built it, or cannot tell.
pub fn kernel() -> Result<PathBuf> {
    // What the script says of itself.
    const NOT_BUILT: i32 = 3;
    let found = Cmd::new(script("fetch-guest")).arg("--find").run()?;
    if found.code() == NOT_BUILT {
        return Err(Error::Missing {
            what: "the guest's kernel".to_owned(),
            remedy: "run make guest",
        });
    }
    Ok(PathBuf::from(found.ok()?.stdout.trim()))
}

fn tree() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}
