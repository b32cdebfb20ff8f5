//! Paths of a root file system, resolved inside it by the kernel: no symlink, however it is
//! written, leads out.

/// Where the loader looks for shared objects.
pub(crate) mod libraries;
/// Scripts: their interpreter and the commands they name.
pub(crate) mod script;

/// Which paths were looked at.
mod watch;

pub use watch::{Found, Touched};

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
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

    /// Finds what a path leads to without opening it. An image may hold anything, and to open a device
    /// is to use it: a watchdog starts, a tape rewinds.
    fn find(&self, path: &Path, used: Use) -> io::Result<OwnedFd> {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let found = openat2(&self.directory, path, how);
        if let Some(watch) = &self.watch {
            watch.note(path, used, found.as_ref().ok());
        }
        Ok(found?)
    }

    /// Opens a regular file for reading; nothing else is opened.
    pub(crate) fn file(&self, path: &Path) -> io::Result<(File, fs::Metadata)> {
        let found = File::from(self.find(path, Use::Read)?);
        let metadata = found.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            ));
        }
        // The same file, whatever the path leads to by now.
        let file = File::open(link(&found))?;
        Ok((file, metadata))
    }

    /// Where a path leads after all symlinks, as seen from inside.
    pub(crate) fn canonical(&self, path: &Path) -> Option<PathBuf> {
        let found = self.find(path, Use::Looked).ok()?;
        let outside = fs::read_link(link(&found)).ok()?;
        let inside = outside.strip_prefix(&self.path).ok()?;
        Some(Path::new("/").join(inside))
    }

    /// Whether a regular file, perhaps behind symlinks, is there.
    pub(crate) fn is_file(&self, path: &Path) -> bool {
        self.metadata(path)
            .is_some_and(|metadata| metadata.is_file())
    }

    pub(crate) fn metadata(&self, path: &Path) -> Option<fs::Metadata> {
        let found = self.find(path, Use::Looked).ok()?;
        File::from(found).metadata().ok()
    }

    /// The names in a directory, sorted; at most `max`. Empty where there is none.
    pub(crate) fn list(&self, path: &Path, max: usize) -> Vec<String> {
        let Ok(found) = self.find(path, Use::Listed) else {
            return Vec::new();
        };
        // Opened as a directory or not at all.
        let entries = fs::read_dir(link(&found)).into_iter().flatten().flatten();
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

/// What a descriptor was opened for, as a path.
fn link(found: &impl AsRawFd) -> PathBuf {
    format!("/proc/self/fd/{}", found.as_raw_fd()).into()
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

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};

    /// What lies at the path is made, and told of its being opened.
    fn watched(root: &Path, name: &str, make: impl Fn(&Path) -> nix::Result<()>) -> Inotify {
        let path = root.join(name);
        make(&path).unwrap();
        let opens = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).unwrap();
        opens.add_watch(&path, AddWatchFlags::IN_OPEN).unwrap();
        opens
    }

    #[test]
    fn what_is_no_regular_file_is_not_even_opened() {
        let directory = tempfile::tempdir().unwrap();
        let mut there = vec![(
            "pipe",
            watched(directory.path(), "pipe", |path| {
                nix::unistd::mkfifo(path, Mode::S_IRWXU)
            }),
        )];
        // Only root makes devices: here one that it harms nobody to open.
        if nix::unistd::geteuid().is_root() {
            let null = |path: &Path| mknod(path, SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 3));
            there.push(("device", watched(directory.path(), "device", null)));
        }
        let root = RootFs::open(directory.path()).unwrap().watched();
        for (name, opens) in there {
            let path = Path::new("/").join(name);
            assert!(root.file(&path).is_err());
            assert_eq!(root.text(&path, 100), None);
            assert!(root.list(&path, 100).is_empty());
            assert!(!root.is_file(&path));
            assert!(root.canonical(&path).is_some());
            let quiet = opens.read_events();
            assert_eq!(quiet.map(|events| events.len()), Err(nix::Error::EAGAIN));
            // An open that asks afterwards what it is would have been seen.
            let mut naive = fs::OpenOptions::new();
            naive.read(true).custom_flags(nix::libc::O_NONBLOCK);
            naive.open(directory.path().join(name)).unwrap();
            assert_eq!(opens.read_events().unwrap().len(), 1);
        }
    }

    #[test]
    fn links_are_followed_inside_only() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("file"), "text").unwrap();
        let link = |to: &str, name: &str| {
            std::os::unix::fs::symlink(to, directory.path().join(name)).unwrap();
        };
        link("../../file", "up");
        link("/etc/passwd", "out");
        link("/", "top");
        let root = RootFs::open(directory.path()).unwrap();
        assert_eq!(root.text(Path::new("/up"), 100).as_deref(), Some("text"));
        assert_eq!(root.text(Path::new("/out"), 1 << 20), None);
        assert_eq!(
            root.list(Path::new("/top"), 9),
            ["file", "out", "top", "up"]
        );
    }
}
