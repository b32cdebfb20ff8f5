//! Paths of a root file system, resolved inside it by the kernel: no symlink, however it is
//! written, leads out.

/// Where the loader looks for shared objects.
pub(crate) mod libraries;
/// Scripts: their interpreter and the commands they name.
pub(crate) mod script;

/// Which paths were looked at.
mod watch;

pub use watch::Touched;

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use cofferdam_profiles::generated::Use;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

/// A directory that programs see as `/`.
#[derive(Debug)]
pub struct RootFs {
    path: PathBuf,
    directory: OwnedFd,
    watch: Option<watch::Watch>,
}

/// Larger files are not programs anybody deploys; a sparse file costs nothing to make.
const MAX_FILE: u64 = 256 * 1024 * 1024;

impl RootFs {
    /// Opens the directory.
    pub fn open(path: &Path) -> io::Result<Self> {
        let directory = fs::OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_DIRECTORY)
            .open(path)?;
        Ok(Self {
            path: path.canonicalize()?,
            directory: directory.into(),
            watch: None,
        })
    }

    /// The same, which remembers every path that is looked at from now on.
    #[must_use]
    pub fn watched(mut self) -> Self {
        self.watch = Some(watch::Watch::default());
        self
    }

    /// Whether it remembers them.
    pub fn is_watched(&self) -> bool {
        self.watch.is_some()
    }

    /// The paths that were looked at; none unless it is [`watched`](Self::watched).
    pub fn touched(&self) -> Vec<Touched> {
        self.watch
            .as_ref()
            .map(watch::Watch::all)
            .unwrap_or_default()
    }

    /// The directory, as it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn open_in(&self, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let opened = openat2(&self.directory, path, how);
        if let Some(watch) = &self.watch {
            let used = if flags.contains(OFlag::O_PATH) {
                Use::Looked
            } else if flags.contains(OFlag::O_DIRECTORY) {
                Use::Listed
            } else {
                Use::Read
            };
            // What cannot be listed or read may be there all the same.
            let there = match (&opened, used) {
                (Ok(_), _) | (_, Use::Looked) => None,
                _ => openat2(&self.directory, path, how.flags(OFlag::O_PATH)).ok(),
            };
            watch.note(path, used, opened.as_ref().ok().or(there.as_ref()));
        }
        Ok(opened?)
    }

    /// Opens a regular file for reading.
    pub(crate) fn file(&self, path: &Path) -> io::Result<(File, fs::Metadata)> {
        // Not blocking: opening a named pipe that nobody writes to would wait for ever.
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let file = File::from(self.open_in(path, flags)?);
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            ));
        }
        Ok((file, metadata))
    }

    /// Where a path leads after all symlinks, as seen from inside.
    pub(crate) fn canonical(&self, path: &Path) -> Option<PathBuf> {
        let found = self.open_in(path, OFlag::O_PATH).ok()?;
        let link = format!("/proc/self/fd/{}", found.as_raw_fd());
        let outside = fs::read_link(link).ok()?;
        let inside = outside.strip_prefix(&self.path).ok()?;
        Some(Path::new("/").join(inside))
    }

    /// Whether a regular file, perhaps behind symlinks, is there.
    pub(crate) fn is_file(&self, path: &Path) -> bool {
        self.metadata(path)
            .is_some_and(|metadata| metadata.is_file())
    }

    pub(crate) fn metadata(&self, path: &Path) -> Option<fs::Metadata> {
        let found = self.open_in(path, OFlag::O_PATH).ok()?;
        File::from(found).metadata().ok()
    }

    /// The names in a directory, sorted; at most `max`. Empty where there is none.
    pub(crate) fn list(&self, path: &Path, max: usize) -> Vec<String> {
        let Ok(directory) = self.open_in(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY) else {
            return Vec::new();
        };
        let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
        let entries = fs::read_dir(link).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .take(max)
            .collect();
        names.sort_unstable();
        names
    }

    /// A small text file; `None` if it is not there, not text, or larger than `max` bytes.
    pub(crate) fn text(&self, path: &Path, max: u64) -> Option<String> {
        let (file, metadata) = self.file(path).ok()?;
        if metadata.len() > max {
            return None;
        }
        let mut content = Vec::new();
        file.take(max).read_to_end(&mut content).ok()?;
        String::from_utf8(content).ok()
    }
}

/// Reads all of a file that was opened with [`RootFs::file`].
pub(crate) fn read(file: File, metadata: &fs::Metadata) -> io::Result<Vec<u8>> {
    if metadata.len() > MAX_FILE {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("{} bytes; at most {MAX_FILE} are analysed", metadata.len()),
        ));
    }
    let mut content = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    file.take(MAX_FILE).read_to_end(&mut content)?;
    Ok(content)
}

use std::os::unix::fs::OpenOptionsExt as _;
