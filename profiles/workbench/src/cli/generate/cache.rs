//! Where summaries of files are kept between runs. Who can write there decides what is found in a
//! program, so it is only used if nobody else can.

use std::env;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::files;

/// The directory to use: the one that was asked for, or the user's; none if it is not safe.
pub(super) fn directory(asked: Option<&Path>, none: bool) -> Option<PathBuf> {
    if none {
        return None;
    }
    let directory = match asked {
        Some(asked) => asked.to_owned(),
        None => usual()?,
    };
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory);
    let state = made.and_then(|()| fs::metadata(&directory));
    match state {
        Ok(state) if is_private(&state) => Some(directory),
        Ok(_) => {
            let place = directory.display();
            files::note(&format!(
                "{place} is not used to keep summaries, as others own it or can write to it"
            ));
            None
        }
        // Without one it takes longer, that is all.
        Err(error) => {
            if asked.is_some() {
                files::note(&format!(
                    "cannot keep summaries in {}: {error}",
                    directory.display()
                ));
            }
            None
        }
    }
}

fn is_private(state: &fs::Metadata) -> bool {
    state.uid() == nix::unistd::geteuid().as_raw() && state.mode() & 0o022 == 0
}

fn usual() -> Option<PathBuf> {
    let absolute = |name: &str| {
        let path = PathBuf::from(env::var_os(name)?);
        path.is_absolute().then_some(path)
    };
    let cache = absolute("XDG_CACHE_HOME");
    let cache = cache.or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("cofferdam/summaries"))
}
