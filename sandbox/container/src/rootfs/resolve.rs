//! Finding and making paths inside the container's root without ever leaving it.
//!
//! The image, and volumes that other containers write to at this moment, decide what these paths
//! look like (CVE-2021-30465): nothing here is looked up twice by name, every step goes through a
//! descriptor, and the kernel keeps links and `..` inside the root.

use std::collections::VecDeque;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::fcntl::readlinkat;
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use super::sys::{openat2, resolve};

/// What to make where nothing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    /// An empty file: the place for a file bind.
    File,
}

/// The kernel follows 40 links in a path (`MAXSYMLINKS`); so do we.
const MAX_LINKS: u32 = 40;

pub(super) fn c_string(bytes: &[u8]) -> io::Result<CString> {
    // A nul byte in a path from a JSON file: refuse it as the kernel would.
    CString::new(bytes).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

/// Opens `path` below `root` with `O_PATH`, links followed inside the root.
pub(super) fn open_in(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    open_with(root, path, resolve::IN_ROOT | resolve::NO_MAGICLINKS)
}

/// Opens `path` below `root` with `O_PATH`; a link anywhere in it is an error (`ELOOP`).
pub(super) fn open_ordinary(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    open_with(root, path, resolve::IN_ROOT | resolve::NO_SYMLINKS)
}

fn open_with(root: BorrowedFd<'_>, path: &Path, rules: u64) -> io::Result<OwnedFd> {
    let path = c_string(path.as_os_str().as_bytes())?;
    openat2(root, &path, libc::O_PATH, 0, rules)
}

/// The components of `path` with `.` and `..` taken out. Exact where no component is a link.
pub(super) fn lexical(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

/// A place in the container to mount on.
#[derive(Debug)]
pub(super) struct Place {
    /// `O_PATH` descriptor of it.
    pub(super) fd: OwnedFd,
    /// Its path in the container, all links resolved.
    pub(super) path: PathBuf,
    /// It was not there before.
    pub(super) made: bool,
}

/// Opens `path` below `root`, making what is missing.
pub(super) fn open_or_make(root: BorrowedFd<'_>, path: &Path, kind: Kind) -> io::Result<Place> {
    // The usual case in one call: everything is there and nothing is a link.
    match open_ordinary(root, path) {
        Ok(fd) => Ok(Place {
            fd,
            path: lexical(path),
            made: false,
        }),
        // Something is missing or is a link.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ELOOP)) => {
            Walk::new(root, path).run(kind)
        }
        Err(error) => Err(error),
    }
}

/// One walk from the root towards a path, a component at a time.
struct Walk<'a> {
    root: BorrowedFd<'a>,
    /// Where we are; `None` is the root.
    here: Option<OwnedFd>,
    /// The components that led here; none of them was a link.
    done: Vec<OsString>,
    /// What is still to go.
    ahead: VecDeque<OsString>,
    links: u32,
    made: bool,
}

impl<'a> Walk<'a> {
    fn new(root: BorrowedFd<'a>, path: &Path) -> Self {
        let mut walk = Self {
            root,
            here: None,
            done: Vec::new(),
            ahead: VecDeque::new(),
            links: 0,
            made: false,
        };
        walk.put_ahead(path);
        walk
    }

    /// Puts the components of `path` before what is still to go.
    fn put_ahead(&mut self, path: &Path) {
        for component in path.components().rev() {
            match component {
                Component::Normal(name) => self.ahead.push_front(name.to_owned()),
                Component::ParentDir => self.ahead.push_front(OsString::from("..")),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
    }

    fn run(mut self, kind: Kind) -> io::Result<Place> {
        while let Some(name) = self.ahead.pop_front() {
            if name == ".." {
                self.up()?;
            } else {
                self.down(&name, kind)?;
            }
        }
        let mut path = PathBuf::from("/");
        path.extend(&self.done);
        let fd = match self.here {
            Some(fd) => fd,
            None => self.root.try_clone_to_owned()?,
        };
        Ok(Place {
            fd,
            path,
            made: self.made,
        })
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.here.as_ref().map_or(self.root, AsFd::as_fd)
    }

    /// `..` by looking the shorter path up again: asking the kernel for the parent of `here` could
    /// leave the root if somebody moved the directory meanwhile.
    fn up(&mut self) -> io::Result<()> {
        self.done.pop();
        if self.done.is_empty() {
            self.here = None;
            return Ok(());
        }
        let shorter: PathBuf = self.done.iter().collect();
        self.here = Some(open_ordinary(self.root, &shorter)?);
        Ok(())
    }

    fn down(&mut self, name: &OsStr, kind: Kind) -> io::Result<()> {
        let c_name = c_string(name.as_bytes())?;
        let look = |here: BorrowedFd<'_>| {
            openat2(
                here,
                &c_name,
                libc::O_PATH | libc::O_NOFOLLOW,
                0,
                resolve::BENEATH | resolve::NO_MAGICLINKS,
            )
        };
        let fd = match look(self.here()) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                self.make(name, kind)?;
                self.made = true;
                look(self.here())?
            }
            other => other?,
        };
        let file_type = SFlag::from_bits_truncate(fstat(&fd)?.st_mode & libc::S_IFMT);
        if file_type == SFlag::S_IFLNK {
            return self.follow(&fd);
        }
        if !self.ahead.is_empty() && file_type != SFlag::S_IFDIR {
            return Err(io::Error::from_raw_os_error(libc::ENOTDIR));
        }
        self.here = Some(fd);
        self.done.push(name.to_owned());
        Ok(())
    }

    fn make(&self, name: &OsStr, kind: Kind) -> io::Result<()> {
        if kind == Kind::File && self.ahead.is_empty() {
            let c_name = c_string(name.as_bytes())?;
            let flags = libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_WRONLY;
            return match openat2(self.here(), &c_name, flags, 0o644, resolve::BENEATH) {
                Ok(_) => Ok(()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                Err(error) => Err(error),
            };
        }
        match mkdirat(self.here(), name, Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(nix::errno::Errno::EEXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Goes on with a link's target, read as a path of the container.
    fn follow(&mut self, link: &OwnedFd) -> io::Result<()> {
        self.links += 1;
        // The links of procfs (`self/fd/3`, `self/root`) do not lead where their text says.
        if self.links > MAX_LINKS || fstatfs(link)?.filesystem_type() == PROC_SUPER_MAGIC {
            return Err(io::Error::from_raw_os_error(libc::ELOOP));
        }
        let target = PathBuf::from(readlinkat(link, "")?);
        if target.is_absolute() {
            self.done.clear();
            self.here = None;
        }
        self.put_ahead(&target);
        Ok(())
    }
}
