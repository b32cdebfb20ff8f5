//! Where a path leads, as the caller sees it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};

use super::super::sys;

/// `AT_FDCWD` as an argument has it: the upper half is anything.
const WORKING_DIRECTORY: u32 = libc::AT_FDCWD.cast_unsigned();

/// Whether a link at the end is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    Follow,
    /// The name itself is meant.
    Name,
}

/// What a path leads to.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: Vec<u8>,
    /// The names below differ from run to run.
    pub(super) subtree: bool,
    pub(super) exists: bool,
    pub(super) directory: bool,
    pub(super) device: bool,
    /// A regular file.
    file: Option<File>,
}

impl Found {
    /// The beginning of a regular file.
    pub(super) fn head(&self, most: usize) -> Vec<u8> {
        let Some(file) = &self.file else {
            return Vec::new();
        };
        let own = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
        let mut bytes = vec![0; most];
        let length = File::open(own)
            .and_then(|file| file.read_at(&mut bytes, 0))
            .unwrap_or(0);
        bytes.truncate(length);
        bytes
    }
}

/// A thread's view of the files.
#[derive(Debug)]
pub(super) struct View {
    thread: u32,
    memory: File,
    root: File,
    /// Where its root is in its mount namespace: `/`, unless it called chroot.
    root_path: Vec<u8>,
}

impl View {
    /// None if the thread is gone.
    pub(super) fn of(thread: u32) -> Option<Self> {
        let root = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
            .open(format!("/proc/{thread}/root"))
            .ok()?;
        Some(Self {
            thread,
            memory: super::memory(thread)?,
            root,
            root_path: link(&format!("/proc/{thread}/root"))?,
        })
    }

    /// A string without its NUL; none if there is none so short.
    pub(super) fn string(&self, address: u64, most: usize) -> Option<Vec<u8>> {
        let bytes = super::read(&self.memory, address, most);
        let end = bytes.iter().position(|b| *b == 0)?;
        bytes.get(..end).map(<[u8]>::to_vec)
    }

    pub(super) fn bytes(&self, address: u64, length: usize) -> Vec<u8> {
        super::read(&self.memory, address, length)
    }

    pub(super) fn word(&self, address: u64) -> Option<u64> {
        let bytes = self.bytes(address, 8);
        Some(u64::from_ne_bytes(bytes.try_into().ok()?))
    }

    /// What a descriptor is open on; none if that has no path.
    pub(super) fn descriptor(&self, fd: u64) -> Option<Found> {
        let fd = u32::try_from(fd & u64::from(u32::MAX)).ok()?;
        let name = format!("/proc/{}/fd/{fd}", self.thread);
        let path = link(&name)?;
        if !path.starts_with(b"/") || path.starts_with(b"/memfd:") || path.ends_with(b" (deleted)")
        {
            return None;
        }
        let kind = fs::metadata(&name).ok()?.file_type();
        Some(general(Found {
            path,
            subtree: false,
            exists: true,
            directory: kind.is_dir(),
            device: kind.is_char_device() || kind.is_block_device(),
            file: None,
        }))
    }

    /// Where `path` leads from a descriptor, or from the working directory.
    pub(super) fn resolve(&self, base: Option<u64>, path: &[u8], last: Last) -> Option<Found> {
        if path.is_empty() {
            return None;
        }
        let absolute = self.absolute(base, path)?;
        if let Some(found) = self.own(&absolute) {
            return found;
        }
        let trimmed = trim(&absolute);
        let followed = match last {
            Last::Follow => self.open(trimmed, true),
            Last::Name => self.open(trimmed, false),
        };
        match followed {
            Ok(file) => self.found(file, trimmed, last),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                let (parent, name) = split(trimmed)?;
                let parent = self.open(parent, true).ok()?;
                let mut path = link(&own_link(&parent))?;
                push(&mut path, name);
                Some(general(Found {
                    path,
                    subtree: false,
                    exists: false,
                    directory: false,
                    device: false,
                    file: None,
                }))
            }
            Err(_) => None,
        }
    }

    /// `path` from the thread's root; `..` is left for the kernel.
    fn absolute(&self, base: Option<u64>, path: &[u8]) -> Option<Vec<u8>> {
        if path.starts_with(b"/") {
            return Some(path.to_vec());
        }
        let start = match base.map(|fd| (fd & u64::from(u32::MAX)).try_into().unwrap_or(0)) {
            None | Some(WORKING_DIRECTORY) => format!("/proc/{}/cwd", self.thread),
            Some(fd) => format!("/proc/{}/fd/{fd}", self.thread),
        };
        let start = link(&start)?;
        let mut absolute = match self.root_path.as_slice() {
            b"/" => start,
            root => start.strip_prefix(root)?.to_vec(),
        };
        push(&mut absolute, path);
        Some(absolute)
    }

    /// Paths whose meaning is the caller's own, and not that of who looks: `Some(None)` where they lead
    /// nowhere that has a path.
    fn own(&self, path: &[u8]) -> Option<Option<Found>> {
        let text = std::str::from_utf8(path).ok()?;
        let fd = match text {
            "/dev/stdin" => "0",
            "/dev/stdout" => "1",
            "/dev/stderr" => "2",
            _ => ["/dev/fd/", "/proc/self/fd/", "/proc/thread-self/fd/"]
                .iter()
                .find_map(|prefix| text.strip_prefix(prefix))
                .unwrap_or_default(),
        };
        if let Ok(fd) = fd.parse::<u32>() {
            return Some(self.descriptor(fd.into()));
        }
        let own = ["/proc/self", "/proc/thread-self"].iter().any(|prefix| {
            let rest = text.strip_prefix(prefix);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        own.then(|| {
            Some(Found {
                path: b"/proc".to_vec(),
                subtree: true,
                exists: true,
                directory: false,
                device: false,
                file: None,
            })
        })
    }

    fn open(&self, path: &[u8], follow: bool) -> io::Result<File> {
        sys::open_in(self.root.as_fd(), path, follow).map(File::from)
    }

    fn found(&self, file: File, asked: &[u8], last: Last) -> Option<Found> {
        let metadata = file.metadata().ok()?;
        let kind = metadata.file_type();
        let path = match last {
            Last::Follow => link(&own_link(&file))?,
            // The name of a link itself: its directory's path, and the name.
            Last::Name => {
                let (parent, name) = split(asked)?;
                let parent = self.open(parent, true).ok()?;
                let mut path = link(&own_link(&parent))?;
                push(&mut path, name);
                path
            }
        };
        if !path.starts_with(b"/") {
            return None;
        }
        Some(general(Found {
            path,
            subtree: false,
            exists: true,
            directory: kind.is_dir(),
            device: kind.is_char_device() || kind.is_block_device(),
            file: kind.is_file().then_some(file),
        }))
    }
}

/// Numbers of processes and terminals differ from run to run: the directory they are in stands for all.
fn general(mut found: Found) -> Found {
    for (directory, most) in [(&b"/proc/"[..], 1), (b"/dev/pts/", 1)] {
        let rest = found.path.strip_prefix(directory);
        let mut names = rest.into_iter().flat_map(|rest| rest.split(|b| *b == b'/'));
        if names.by_ref().take(most).any(is_number) {
            found.path = trim(directory).to_vec();
            found.subtree = true;
        }
    }
    found
}

fn is_number(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(u8::is_ascii_digit)
}

fn own_link(file: &File) -> String {
    format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file))
}

fn link(path: &str) -> Option<Vec<u8>> {
    Some(fs::read_link(path).ok()?.as_os_str().as_bytes().to_vec())
}

/// Without slashes at the end.
fn trim(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|b| *b != b'/').map_or(1, |at| at + 1);
    path.get(..end).unwrap_or(path)
}

/// The directory and the last name; none of the root, `.` and `..`.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = path.iter().rposition(|b| *b == b'/')?;
    let (parent, name) = (path.get(..=at)?, path.get(at + 1..)?);
    let named = !name.is_empty() && name != b"." && name != b"..";
    named.then_some((parent, name))
}

fn push(path: &mut Vec<u8>, name: &[u8]) {
    if path.last() != Some(&b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_come_apart() {
        assert_eq!(trim(b"/a/b//"), b"/a/b");
        assert_eq!(trim(b"///"), b"/");
        assert_eq!(split(b"/a/b"), Some((&b"/a/"[..], &b"b"[..])));
        assert_eq!(split(b"/"), None);
        assert_eq!(split(b"/a/.."), None);
    }

    #[test]
    fn the_own_thread_sees_what_it_has() {
        let directory = tempfile::tempdir().expect("a directory");
        let real = fs::canonicalize(directory.path()).expect("real");
        fs::write(real.join("file"), "x").expect("written");
        std::os::unix::fs::symlink("file", real.join("link")).expect("linked");
        let view = View::of(std::process::id()).expect("this process");
        let path = |name: &str| real.join(name).as_os_str().as_bytes().to_vec();
        let find = |name: &str, last| view.resolve(None, &path(name), last);
        let followed = find("link", Last::Follow).expect("found");
        assert_eq!((followed.path, followed.exists), (path("file"), true));
        let named = find("link", Last::Name).expect("found");
        assert_eq!((named.path, named.exists), (path("link"), true));
        let missing = find("./none", Last::Follow).expect("its directory is there");
        assert_eq!((missing.path, missing.exists), (path("none"), false));
        assert!(find("none/none", Last::Follow).is_none());
        let process = view.resolve(None, b"/proc/1/status", Last::Follow);
        let process = process.expect("found");
        assert_eq!(
            (process.path.as_slice(), process.subtree),
            (&b"/proc"[..], true)
        );
        let own = view.resolve(None, b"/proc/self/maps", Last::Follow);
        assert!(own.expect("found").subtree);
        let open = File::open(real.join("file")).expect("open");
        let fd = std::os::fd::AsRawFd::as_raw_fd(&open);
        let by_fd = view.resolve(None, format!("/dev/fd/{fd}").as_bytes(), Last::Follow);
        assert_eq!(by_fd.expect("found").path, path("file"));
    }
}
