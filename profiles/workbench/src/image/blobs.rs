//! The parts of an image by name: files of an archive, or of a layout's directory.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::budget::Budget;
use super::error::ImageError;
use super::tarball::{self, Kind};
use super::tree::inside;

/// A SHA-256, as images name their parts by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Digest {
    hex: String,
}

impl Digest {
    pub(super) fn parse(text: &str) -> Result<Self, ImageError> {
        let hex = text.strip_prefix("sha256:").unwrap_or_default();
        let is_hex = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
        if hex.len() != 64 || !hex.bytes().all(is_hex) {
            return Err(ImageError::Algorithm {
                digest: text.chars().take(100).collect(),
            });
        }
        Ok(Self {
            hex: hex.to_owned(),
        })
    }

    /// Where a layout keeps it.
    pub(super) fn blob(&self) -> String {
        format!("blobs/sha256/{}", self.hex)
    }

    pub(super) fn check(&self, bytes: &[u8]) -> Result<(), ImageError> {
        self.compare(Sha256::new_with_prefix(bytes))
    }

    fn compare(&self, found: Sha256) -> Result<(), ImageError> {
        use std::fmt::Write as _;
        let mut hex = String::new();
        for byte in found.finalize() {
            // Writing to a String does not fail.
            let _ = write!(hex, "{byte:02x}");
        }
        if hex == self.hex {
            return Ok(());
        }
        Err(ImageError::Digest { blob: self.blob() })
    }
}

/// A reader that hashes what passes.
pub(super) struct Hashing<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Hashing<R> {
    pub(super) fn new(inner: R) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
        }
    }

    /// Whether all of it has the digest.
    pub(super) fn check(mut self, digest: &Digest) -> io::Result<Result<(), ImageError>> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(digest.compare(self.hash))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

/// See the module.
pub(super) enum Blobs<S> {
    Archive {
        source: S,
        members: HashMap<String, At>,
    },
    Directory(PathBuf),
}

/// Where a member of an archive is.
#[derive(Debug, Clone)]
pub(super) enum At {
    Bytes {
        offset: u64,
        size: u64,
    },
    /// Old versions of Docker save equal layers once.
    Link(String),
}

impl<S: Read + Seek> Blobs<S> {
    /// The members of a tar archive that is not compressed.
    pub(super) fn archive(mut source: S, budget: &Budget<'_>) -> Result<Self, ImageError> {
        let failed = |source| ImageError::Layer {
            layer: "archive".to_owned(),
            source,
        };
        let mut members = HashMap::new();
        let mut names = 0;
        let mut archive = tar::Archive::new(&mut source);
        let entries = archive.entries_with_seek().map_err(failed)?;
        tarball::each(entries, failed, |member, _| {
            budget.entry()?;
            let Some(name) = inside(&member.name).ok().and_then(text) else {
                return Ok(());
            };
            let at = match member.kind {
                Kind::File if member.refused.is_none() => At::Bytes {
                    offset: member.offset,
                    size: member.size,
                },
                Kind::Symlink => {
                    let above = Path::new(&name).parent().unwrap_or(Path::new(""));
                    match beside(above, Path::new(&member.link)) {
                        Some(target) => At::Link(target),
                        None => return Ok(()),
                    }
                }
                _ => return Ok(()),
            };
            let link = match &at {
                At::Link(target) => target.len(),
                At::Bytes { .. } => 0,
            };
            let bytes = name.len().saturating_add(link) as u64;
            // The first of a name counts: a later one could be an addition.
            if let Entry::Vacant(new) = members.entry(name) {
                new.insert(at);
                names += bytes;
            }
            budget.names(names)
        })?;
        Ok(Self::Archive { source, members })
    }

    /// A part, and how many bytes it has.
    pub(super) fn open(&mut self, name: &str) -> Result<Option<Box<dyn Read + '_>>, ImageError> {
        let failed = |source| ImageError::Layer {
            layer: name.to_owned(),
            source,
        };
        match self {
            Self::Directory(directory) => {
                let Ok(path) = inside(name.as_ref()) else {
                    return Ok(None);
                };
                match regular(&directory.join(path)) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    opened => Ok(opened.map_err(failed)?.map(|file| Box::new(file) as _)),
                }
            }
            Self::Archive { source, members } => {
                let mut at = members.get(name);
                if let Some(At::Link(target)) = at {
                    at = members.get(target);
                }
                let Some(At::Bytes { offset, size }) = at else {
                    return Ok(None);
                };
                source.seek(SeekFrom::Start(*offset)).map_err(failed)?;
                Ok(Some(Box::new(source.take(*size))))
            }
        }
    }

    /// A part that is read as a whole.
    pub(super) fn small(&mut self, name: &str, max: u64) -> Result<Option<Vec<u8>>, ImageError> {
        let Some(part) = self.open(name)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        let read = part.take(max + 1).read_to_end(&mut bytes);
        read.map_err(|source| ImageError::Layer {
            layer: name.to_owned(),
            source,
        })?;
        if bytes.len() as u64 > max {
            return Err(ImageError::Limit {
                what: "bytes in a description",
                limit: max,
                remedy: "another tool",
            });
        }
        Ok(Some(bytes))
    }

    /// The same, of a blob, which must have its digest.
    pub(super) fn proven(&mut self, digest: &Digest, max: u64) -> Result<Vec<u8>, ImageError> {
        let blob = digest.blob();
        let Some(bytes) = self.small(&blob, max)? else {
            return Err(ImageError::Missing { blob });
        };
        digest.check(&bytes)?;
        Ok(bytes)
    }
}

/// A directory of the same layout.
pub(super) fn directory(path: &Path) -> Blobs<File> {
    Blobs::Directory(path.to_owned())
}

/// Opens a regular file; nothing else is opened, as to open a device is to use it.
fn regular(path: &Path) -> io::Result<Option<File>> {
    let found = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_PATH)
        .open(path)?;
    if !found.metadata()?.is_file() {
        return Ok(None);
    }
    File::open(format!("/proc/self/fd/{}", found.as_raw_fd())).map(Some)
}

fn text(path: PathBuf) -> Option<String> {
    path.into_os_string().into_string().ok()
}

/// Where a link of an archive leads, as words: `..` as well, as long as it stays inside.
fn beside(above: &Path, link: &Path) -> Option<String> {
    let mut path = above.to_owned();
    for component in link.components() {
        match component {
            std::path::Component::Normal(name) => path.push(name),
            std::path::Component::ParentDir if path.pop() => {}
            std::path::Component::CurDir => {}
            _ => return None,
        }
    }
    text(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
    use nix::sys::stat::Mode;

    #[test]
    fn a_part_that_is_no_file_is_not_even_opened() {
        let layout = tempfile::tempdir().unwrap();
        let path = layout.path().join("index.json");
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
        let opens = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).unwrap();
        opens.add_watch(&path, AddWatchFlags::IN_OPEN).unwrap();
        let mut blobs = directory(layout.path());
        assert_eq!(blobs.small("index.json", 100).unwrap(), None);
        let quiet = opens.read_events();
        assert_eq!(quiet.map(|events| events.len()), Err(nix::Error::EAGAIN));
        // An open that asks afterwards what it is would have been seen.
        let mut naive = OpenOptions::new();
        naive.read(true).custom_flags(nix::libc::O_NONBLOCK);
        naive.open(&path).unwrap();
        assert_eq!(opens.read_events().unwrap().len(), 1);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "{}").unwrap();
        let read = blobs.small("index.json", 100).unwrap();
        assert_eq!(read.as_deref(), Some(&b"{}"[..]));
    }
}
