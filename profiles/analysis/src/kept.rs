//! Whole results between runs: a profile of the same command in the same files is read, not made,
//! after a second look at every path that the analysis looked at. Only in a directory of summaries
//! that nobody else may write to: whoever can write there decides what is found.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cofferdam_profiles::generated::{Dependency, MAX_DEPENDENCIES, Media, Use};
use oci_spec::runtime::LinuxSeccomp;
use serde::{Deserialize, Serialize};

use crate::analyse::Options;
use crate::entry::{Entry, EntryError, Generated, generate};
use crate::rootfs::RootFs;
use crate::store;
use crate::summary::{digest, hex};

/// A file that changed within so many seconds can change again without its times showing it.
const REST: i64 = 2;
/// The largest result that is read or written, in bytes.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// A result on disk.
#[derive(Deserialize)]
struct Kept {
    key: Key,
    dependencies: Vec<Dependency>,
    generated: Generated,
    profile: LinuxSeccomp,
}

/// As [`Kept`], to be written.
#[derive(Serialize)]
struct Keeping<'a> {
    key: &'a Key,
    dependencies: &'a [Dependency],
    generated: &'a Generated,
    profile: &'a LinuxSeccomp,
}

/// Everything that a result depends on but for files of the root.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Key {
    /// The analysing program: device, inode, size and the time of the last change.
    by: (u64, u64, u64, i64, i64),
    root: PathBuf,
    args: Vec<String>,
    path: Option<String>,
    cwd: PathBuf,
}

impl Key {
    fn of(root: &RootFs, entry: &Entry<'_>) -> io::Result<Self> {
        let by = fs::metadata("/proc/self/exe")?;
        Ok(Self {
            by: (by.dev(), by.ino(), by.size(), by.ctime(), by.ctime_nsec()),
            root: root.path().to_owned(),
            args: entry.args.to_owned(),
            path: entry.path.map(str::to_owned),
            cwd: entry.cwd.to_owned(),
        })
    }

    fn name(&self) -> io::Result<String> {
        let digest = digest(&serde_json::to_vec(self)?);
        Ok(format!("{}.result", hex(&digest[..16])))
    }
}

/// As [`generate`], but for a result that was kept and still holds. Kept is only what is made in a root
/// that is [watched](RootFs::watched) from its opening on.
///
/// # Errors
/// As [`generate`]'s; a cache that cannot be read or written only costs time.
pub fn generate_or_recall(
    root: &RootFs,
    entry: &Entry<'_>,
    options: &Options,
) -> Result<Generated, EntryError> {
    let directory = options.cache.as_deref().filter(|_| root.is_watched());
    let kept = directory.and_then(|directory| {
        let key = Key::of(root, entry).ok()?;
        let name = key.name().ok()?;
        Some((directory, key, name))
    });
    let Some((directory, key, name)) = kept else {
        return generate(root, entry, options);
    };
    if let Ok(Some(generated)) = recall(&key, directory, &name) {
        return Ok(generated);
    }
    let asked = now();
    let generated = generate(root, entry, options)?;
    // Time was limited when programs were left out; there may be more of it next time.
    if generated.left_out.is_empty() {
        // Without it, the next run makes the result again.
        let _ = keep(&key, directory, &name, root, &generated, asked);
    }
    Ok(generated)
}

fn recall(key: &Key, directory: &Path, name: &str) -> io::Result<Option<Generated>> {
    let kept: Kept = serde_json::from_slice(&store::read(directory, name, MAX_BYTES)?)?;
    if kept.key != *key || !Dependency::all_hold(&kept.dependencies, &key.root)? {
        return Ok(None);
    }
    let mut generated = kept.generated;
    generated.profile = kept.profile;
    Ok(Some(generated))
}

fn keep(
    key: &Key,
    directory: &Path,
    name: &str,
    root: &RootFs,
    generated: &Generated,
    asked: i64,
) -> io::Result<()> {
    let touched = root.touched();
    if touched.len() > MAX_DEPENDENCIES {
        return Ok(());
    }
    let base = fs::File::open(&key.root)?.into();
    let media = Media::default();
    let mut dependencies = Vec::with_capacity(touched.len());
    for one in touched {
        let found = Dependency::inside(&base, &one.path, &media)?;
        let rests = found.as_ref().is_none_or(|id| id.is_at_rest(asked, REST));
        if !(rests || one.used == Use::Looked) || found.is_some() != one.found.is_some() {
            return Ok(());
        }
        dependencies.push(Dependency {
            mount: None,
            path: one.path,
            used: one.used,
            found,
        });
    }
    let text = serde_json::to_vec(&Keeping {
        key,
        dependencies: &dependencies,
        generated,
        profile: &generated.profile,
    })?;
    if text.len() as u64 > MAX_BYTES {
        return Ok(());
    }
    store::write(directory, name, &text)?;
    store::tidy(directory)
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |time| i64::try_from(time.as_secs()).unwrap_or(0))
}
