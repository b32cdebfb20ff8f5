//! Summaries on disk, by the SHA-256 of the file they were made from. A build id would be cheaper
//! to read, but whoever builds an image chooses it, and could so answer for another image's file.
//! What a file's content is, is remembered by its identity (device, inode, size, both times) once
//! it has been at rest for a while.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

use super::{FORMAT, Summary};
use crate::store;

/// A directory of summaries. Whatever cannot be read or does not match is made again.
#[derive(Debug, Clone)]
pub(crate) struct SummaryCache {
    directory: PathBuf,
}

/// A file younger than this can change without its times showing it.
const AT_REST: Duration = Duration::from_secs(3);
const MAX_ENTRY: u64 = 512 * 1024 * 1024;
const DIGEST: usize = 32;

/// So many summaries are kept between two looks at how much there is.
const TIDIED: u64 = 64;

static KEPT: AtomicU64 = AtomicU64::new(0);

impl SummaryCache {
    pub(crate) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
        }
    }

    /// The summary of a file at rest, without looking at its content.
    pub(crate) fn by_identity(&self, metadata: &fs::Metadata) -> Option<(Vec<u8>, Summary)> {
        let key = identity(metadata)?;
        let digest = self.read(&format!("{key}.id"))?;
        let summary = self.by_digest(&digest)?;
        Some((digest, summary))
    }

    /// The summary of a content.
    pub(crate) fn by_digest(&self, digest: &[u8]) -> Option<Summary> {
        if digest.len() != DIGEST {
            return None;
        }
        let body = self.read(&format!("{}.summary", hex(digest)))?;
        let (head, body) = body.split_at_checked(DIGEST)?;
        let (checksum, body) = body.split_at_checked(8)?;
        if head != digest || checksum != quick_sum(body) {
            return None;
        }
        let (format, summary): (u32, Summary) = postcard::from_bytes(body).ok()?;
        (format == FORMAT && is_sound(&summary)).then_some(summary)
    }

    /// Keeps a summary; with the file's identity, if that says which file it is. A full or read-only
    /// disk only costs time, so failure is not an error.
    pub(crate) fn keep(&self, metadata: Option<&fs::Metadata>, digest: &[u8], summary: &Summary) {
        let name = format!("{}.summary", hex(digest));
        let Ok(body) = postcard::to_stdvec(&(FORMAT, summary)) else {
            return;
        };
        let mut entry = digest.to_vec();
        entry.extend_from_slice(&quick_sum(&body));
        entry.extend_from_slice(&body);
        if self.write(&name, &entry).is_ok() {
            if let Some(metadata) = metadata {
                self.remember(metadata, digest);
            }
            // Every so often, and first of all: images come and go.
            if KEPT.fetch_add(1, Ordering::Relaxed).is_multiple_of(TIDIED) {
                // What cannot be tidied now is tidied another time.
                let _ = store::tidy(&self.directory);
            }
        }
    }

    /// Remembers which content a file at rest has.
    pub(crate) fn remember(&self, metadata: &fs::Metadata, digest: &[u8]) {
        if let Some(key) = identity(metadata) {
            // As above: without it, the next start reads the file.
            let _ = self.write(&format!("{key}.id"), digest);
        }
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        store::read(&self.directory, name, MAX_ENTRY).ok()
    }

    fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        store::write(&self.directory, name, content)
    }
}

pub(crate) fn digest(content: &[u8]) -> Vec<u8> {
    Sha256::digest(content).to_vec()
}

/// A file's identity as a name, if it has been at rest long enough to have one.
fn identity(metadata: &fs::Metadata) -> Option<String> {
    let changed = Duration::new(
        u64::try_from(metadata.ctime()).ok()?,
        u32::try_from(metadata.ctime_nsec()).ok()?,
    );
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .ok()?;
    if now.checked_sub(changed)? < AT_REST {
        return None;
    }
    let mut hash = Sha256::new();
    hash.update(FORMAT.to_le_bytes());
    for number in [metadata.dev(), metadata.ino(), metadata.size()] {
        hash.update(number.to_le_bytes());
    }
    for number in [
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    ] {
        hash.update(number.to_le_bytes());
    }
    Some(hex(&hash.finalize()[..16]))
}

/// FNV-1a over words: an entry that was torn or damaged does not pass; who can forge one owns the
/// directory.
fn quick_sum(body: &[u8]) -> [u8; 8] {
    let words = body.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    });
    let sum = words.fold(0xcbf2_9ce4_8422_2325_u64, |sum, word| {
        (sum ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(29)
    });
    (sum ^ body.len() as u64).to_le_bytes()
}

/// Indices that point nowhere would make edges disappear.
fn is_sound(summary: &Summary) -> bool {
    let nodes = summary.addresses.len();
    summary.offsets.len() == nodes + 1
        && summary.offsets.is_sorted()
        && summary.offsets.last().is_some_and(|last| {
            usize::try_from(*last).is_ok_and(|last| last == summary.edges.len())
        })
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
