//! A private directory that does not outlive the program. Whoever holds its lock is using it: what a
//! program left that was killed is removed by the next one.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::fcntl::{Flock, FlockArg};
use tempfile::TempDir;

/// See the module.
#[derive(Debug)]
pub struct Scratch {
    root: PathBuf,
    directory: TempDir,
    _lock: Flock<File>,
}

const PREFIX: &str = "cofferdam-image-";
/// A directory younger than this may be one that its owner has not locked yet.
const YOUNG: Duration = Duration::from_secs(60);
/// More directories than this are left to later programs.
const MAX_SWEPT: usize = 64;

impl Scratch {
    /// Makes one in the system's directory for temporary files, after removing those that nobody uses.
    pub fn new() -> io::Result<Self> {
        Self::below(&std::env::temp_dir())
    }

    /// Makes one below `parent`.
    pub fn below(parent: &Path) -> io::Result<Self> {
        sweep(parent);
        // Only this user can look into it: `tempfile` makes directories so.
        let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
        let lock = lock(directory.path()).map_err(|(error, _)| error)?;
        let root = directory.path().join("root");
        fs::create_dir(&root)?;
        Ok(Self {
            root,
            directory,
            _lock: lock,
        })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Where a root file system goes.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

type Failed = (io::Error, Option<File>);

fn lock(directory: &Path) -> Result<Flock<File>, Failed> {
    let opened = fs::OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_DIRECTORY | nix::libc::O_NOFOLLOW)
        .open(directory);
    let file = opened.map_err(|error| (error, None))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|(file, errno)| (errno.into(), Some(file)))
}

/// Removes directories of programs that are gone. What cannot be removed stays: this is tidying up.
fn sweep(parent: &Path) {
    let own = nix::unistd::geteuid().as_raw();
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| {
        let name = entry.file_name();
        name.to_str().is_some_and(|name| name.starts_with(PREFIX))
    });
    for entry in ours.take(MAX_SWEPT) {
        let Ok(metadata) = fs::symlink_metadata(entry.path()) else {
            continue;
        };
        let age = metadata
            .modified()
            .ok()
            .and_then(|time| SystemTime::now().duration_since(time).ok());
        if !metadata.is_dir() || metadata.uid() != own || age.is_none_or(|age| age < YOUNG) {
            continue;
        }
        if let Ok(_lock) = lock(&entry.path()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
