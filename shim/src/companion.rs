//! Finds `cofferdam-profile`, which stands beside this executable: what starts containers links no
//! disassembler and no BPF.

use std::env;
use std::path::{Path, PathBuf};

/// The program.
pub(crate) const PROGRAM: &str = "cofferdam-profile";

/// Where it must be. Never looked up in `PATH`, which may be a user's.
///
/// A process that protects its executable runs from a mount or a file without a place of its own;
/// what it was called by then tells (see [`cofferdam_container::self_exe::protect`]).
pub(crate) fn path() -> PathBuf {
    let called = env::args_os().next().map(PathBuf::from);
    let called = called.filter(|path| path.components().count() > 1);
    let own = env::current_exe().ok();
    let real = called.as_deref().and_then(|path| path.canonicalize().ok());
    let candidates = [own, called, real];
    let beside = candidates.into_iter().flatten().map(|path| beside(&path));
    let mut last = PathBuf::from(PROGRAM);
    for path in beside {
        if path.is_file() {
            return path;
        }
        last = path;
    }
    last
}

fn beside(path: &Path) -> PathBuf {
    path.with_file_name(PROGRAM)
}
