//! A root file system being put together. Every path is resolved inside it by the kernel, and what
//! is made or removed is the last component only, by its directory's descriptor: no link leads out.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Seek as _, SeekFrom};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{FileStat, Mode, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, linkat, symlinkat, unlinkat};

use super::error::Refusal;

/// See the module.
pub(super) struct Tree {
    root: OwnedFd,
    path: PathBuf,
    /// The directory that was used last: archives go through one after the other.
    last: Option<(PathBuf, Rc<OwnedFd>)>,
}

/// Why something was not made.
#[derive(Debug)]
pub(super) enum TreeError {
    /// Nothing honest.
    Refused(Refusal),
    /// A file, or a link that leads nowhere, is on the way.
    Unreachable,
    /// The disk.
    Io(io::Error),
}

impl From<Errno> for TreeError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::ENOTDIR | Errno::ELOOP => Self::Unreachable,
            Errno::ENAMETOOLONG => Self::Refused(Refusal::Long),
            errno => Self::Io(errno.into()),
        }
    }
}

impl From<io::Error> for TreeError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

type Result<T> = std::result::Result<T, TreeError>;

/// Directories within each other. Whoever removes the tree holds one open for each.
const MAX_DEPTH: usize = 128;
const MAX_NAME: usize = 255;
const MAX_PATH: usize = 4096;
/// Larger files are only read if they are programs or scripts; of others the size is kept.
const ALWAYS_KEPT: u64 = 1 << 20;

impl Tree {
    /// Into an empty directory.
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self {
            root: nix::fcntl::open(path, flags, Mode::empty())?,
            path: path.canonicalize()?,
            last: None,
        })
    }

    fn open(&self, path: &Path) -> nix::Result<OwnedFd> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        openat2(
            &self.root,
            path,
            OpenHow::new().flags(flags).resolve(resolve),
        )
    }

    /// A directory, made where it is not there yet.
    fn directory(&mut self, path: &Path) -> Result<Rc<OwnedFd>> {
        if let Some((known, directory)) = &self.last
            && known == path
        {
            return Ok(Rc::clone(directory));
        }
        let found = match self.open(path) {
            Err(Errno::ENOENT) => self.make(path)?,
            found => found?,
        };
        let found = Rc::new(found);
        self.check_depth(&found)?;
        self.last = Some((path.to_owned(), Rc::clone(&found)));
        Ok(found)
    }

    fn make(&mut self, path: &Path) -> Result<OwnedFd> {
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(TreeError::Unreachable);
        };
        let above = self.directory(above)?;
        match mkdirat(&*above, name, Mode::S_IRWXU) {
            // A link that leads nowhere; the open below says so.
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(openat(&*above, name, flags, Mode::empty())?)
    }

    /// Links can make a path lead deeper than its own components.
    fn check_depth(&self, directory: &OwnedFd) -> Result<()> {
        let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
        let path = fs::read_link(link)?;
        let inside = path.strip_prefix(&self.path);
        match inside.map(|inside| inside.components().count()) {
            Ok(depth) if depth < MAX_DEPTH => Ok(()),
            _ => Err(TreeError::Refused(Refusal::Deep)),
        }
    }

    fn place<'a>(&mut self, path: &'a Path) -> Result<(Rc<OwnedFd>, &'a OsStr)> {
        let name = path.file_name().ok_or(TreeError::Unreachable)?;
        let above = self.directory(path.parent().unwrap_or(Path::new("")))?;
        Ok((above, name))
    }

    /// A place with nothing in it.
    fn clear(&mut self, path: &Path) -> Result<(Rc<OwnedFd>, OsString)> {
        let (above, name) = self.place(path)?;
        self.erase(&above, name)?;
        Ok((above, name.to_owned()))
    }

    /// Makes a directory, or leaves the one that is there.
    pub(super) fn make_directory(&mut self, path: &Path) -> Result<()> {
        let (above, name) = self.place(path)?;
        if state(&above, name)?.is_some_and(|state| is_directory(&state)) {
            return Ok(());
        }
        self.erase(&above, name)?;
        Ok(mkdirat(&*above, name, Mode::S_IRWXU)?)
    }

    /// Makes a file. Of a large one that is neither a program nor a script only the size is kept, for
    /// no analysis reads it.
    pub(super) fn make_file(
        &mut self,
        path: &Path,
        size: u64,
        mode: u32,
        content: &mut dyn Read,
    ) -> Result<()> {
        let (above, name) = self.clear(path)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
        let mode = Mode::from_bits_truncate(0o600 | mode & 0o111);
        let file = openat(&*above, name.as_os_str(), flags | OFlag::O_CLOEXEC, mode)?;
        let mut file = File::from(file);
        let mut head = Vec::new();
        content.take(4).read_to_end(&mut head)?;
        if size > ALWAYS_KEPT && head != b"\x7fELF" && !head.starts_with(b"#!") {
            file.set_len(size)?;
            return Ok(());
        }
        io::copy(&mut head.as_slice().chain(content), &mut file)?;
        let written = file.seek(SeekFrom::End(0))?;
        if written != size {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(())
    }

    /// Makes a symbolic link to anywhere: who follows it does so inside the tree.
    pub(super) fn make_symlink(&mut self, path: &Path, target: &OsStr) -> Result<()> {
        if target.is_empty() || target.len() >= MAX_PATH {
            return Err(TreeError::Refused(Refusal::Long));
        }
        let (above, name) = self.clear(path)?;
        Ok(symlinkat(target, &*above, name.as_os_str())?)
    }

    /// Makes another name for a file of the tree.
    pub(super) fn make_hardlink(&mut self, path: &Path, target: &Path) -> Result<()> {
        let (from, old) = self.place(target)?;
        // A link to itself would lose the file.
        if path == target {
            return Ok(());
        }
        let is_file = state(&from, old)?.is_some_and(|state| !is_directory(&state));
        if !is_file {
            return Err(TreeError::Unreachable);
        }
        let (above, name) = self.clear(path)?;
        match linkat(&*from, old, &*above, name.as_os_str(), AtFlags::empty()) {
            // Clearing removed it: the link was to something below its own place.
            Err(Errno::ENOENT) => Err(TreeError::Unreachable),
            done => Ok(done?),
        }
    }

    /// Removes a file or a whole directory, if it is there.
    pub(super) fn remove(&mut self, path: &Path) -> Result<()> {
        let Some(name) = path.file_name() else {
            return Ok(());
        };
        let above = match self.open(path.parent().unwrap_or(Path::new(""))) {
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(()),
            above => above?,
        };
        self.erase(&above, name)
    }

    /// The names in a directory; none if it is not there.
    pub(super) fn list(&self, path: &Path) -> Result<Vec<OsString>> {
        let Ok(directory) = self.open(path) else {
            return Ok(Vec::new());
        };
        let mut names = Vec::new();
        for entry in fs::read_dir(format!("/proc/self/fd/{}", directory.as_raw_fd()))? {
            names.push(entry?.file_name());
        }
        Ok(names)
    }

    fn erase(&mut self, above: &OwnedFd, name: &OsStr) -> Result<()> {
        let Some(state) = state(above, name)? else {
            return Ok(());
        };
        // Whatever was known of directories may be about this one.
        self.last = None;
        if is_directory(&state) {
            // Does not follow links, and the last component is none.
            let path = format!("/proc/self/fd/{}", above.as_raw_fd());
            return Ok(fs::remove_dir_all(Path::new(&path).join(name))?);
        }
        Ok(unlinkat(above, name, UnlinkatFlags::NoRemoveDir)?)
    }
}

fn state(above: &OwnedFd, name: &OsStr) -> Result<Option<FileStat>> {
    match fstatat(above, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(state) => Ok(Some(state)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn is_directory(state: &FileStat) -> bool {
    state.st_mode & nix::libc::S_IFMT == nix::libc::S_IFDIR
}

/// An entry's name as a path below the root: without `/` and `.`, and refused with a `..`.
pub(super) fn inside(name: &OsStr) -> std::result::Result<PathBuf, Refusal> {
    let mut path = PathBuf::new();
    if name.len() >= MAX_PATH || name.as_bytes().contains(&0) {
        return Err(Refusal::Long);
    }
    let mut depth = 0;
    for component in Path::new(name).components() {
        match component {
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            Component::ParentDir => return Err(Refusal::Upwards),
            Component::Normal(name) => {
                depth += 1;
                if name.len() > MAX_NAME {
                    return Err(Refusal::Long);
                }
                path.push(name);
            }
        }
    }
    if depth > MAX_DEPTH {
        return Err(Refusal::Deep);
    }
    Ok(path)
}
