//! Finds `cofferdam-profile`, which stands beside this executable: what starts containers links no
//! disassembler and no BPF.

use std::env;
use std::io;
use std::path::{Path, PathBuf};

/// The program.
pub(crate) const PROGRAM: &str = "cofferdam-profile";

/// Where it must be. Never looked up in `PATH` or a working directory, which may be a user's.
///
/// A process that protects its executable runs from a mount or a file without a place of its own;
/// what it was called by then tells (see [`cofferdam_container::self_exe::protect`]).
pub(crate) fn path() -> io::Result<PathBuf> {
    let called = env::args_os().next().map(PathBuf::from);
    find(env::current_exe().ok(), called)
}

/// Beside `own`, else beside what we were `called` by, else beside what that leads to. The last of
/// these places if it is nowhere, so that somebody can be told where it is missing.
fn find(own: Option<PathBuf>, called: Option<PathBuf>) -> io::Result<PathBuf> {
    let called = called.filter(|path| path.is_absolute());
    let real = called.as_deref().and_then(|path| path.canonicalize().ok());
    let own = own.filter(|path| path.is_absolute());
    let candidates = [own, called, real].into_iter().flatten();
    let places: Vec<PathBuf> = candidates.map(|path| beside(&path)).collect();
    let found = places.iter().find(|path| path.is_file());
    found.or(places.last()).cloned().ok_or_else(|| {
        let why = format!("cannot tell where this executable lies, beside which {PROGRAM} is");
        io::Error::new(io::ErrorKind::NotFound, why)
    })
}

fn beside(path: &Path) -> PathBuf {
    path.with_file_name(PROGRAM)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn nothing_is_looked_for_in_a_working_directory_or_a_search_path() {
        let none = |called: &str| find(None, Some(called.into()));
        for relative in ["cofferdam", "./cofferdam", "bin/cofferdam", ""] {
            none(relative).unwrap_err();
        }
        find(None, None).unwrap_err();
        let missing = none("/none/cofferdam").unwrap();
        assert_eq!(missing, Path::new("/none").join(PROGRAM));
    }

    #[test]
    fn it_is_beside_what_was_called_or_what_that_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(dir.path()).unwrap();
        for name in ["real", "links"] {
            fs::create_dir(base.join(name)).unwrap();
        }
        for name in ["cofferdam", PROGRAM] {
            fs::write(base.join("real").join(name), "").unwrap();
        }
        let link = base.join("links/cofferdam");
        std::os::unix::fs::symlink(base.join("real/cofferdam"), &link).unwrap();
        let own = Some(PathBuf::from("/memfd:cofferdam (deleted)"));
        let wanted = base.join("real").join(PROGRAM);
        assert_eq!(find(own.clone(), Some(link.clone())).unwrap(), wanted);
        let beside_link = base.join("links").join(PROGRAM);
        fs::write(&beside_link, "").unwrap();
        assert_eq!(find(own, Some(link)).unwrap(), beside_link);
    }
}
