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
        // By now: the path may lead elsewhere than when it was read.
        let now = Dependency::inside(&base, &one.path, &media)?;
        let found = one.found.map(|found| found.identity);
        let same = match (&found, &now) {
            (None, None) => true,
            (Some(then), Some(now)) => then.is_still(now, one.used),
            _ => false,
        };
        let rests = found.as_ref().is_none_or(|id| id.is_at_rest(asked, REST));
        if !(one.steady && same && (rests || one.used == Use::Looked)) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::time::Duration;

    const STATIC: &[u8] = b"\xbf\x00\x00\x00\x00\xb8NUMB\x0f\x05";

    /// A program of one segment that makes one call.
    fn program(number: u32) -> Vec<u8> {
        let mut file = vec![0; 120];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[16] = 3;
        file[18] = 62;
        file[24] = 120;
        file[32] = 64;
        file[54] = 56;
        file[56] = 1;
        file[64] = 1;
        file[68] = 5;
        let size = (120 + STATIC.len()) as u64;
        file[96..104].copy_from_slice(&size.to_le_bytes());
        file[104..112].copy_from_slice(&size.to_le_bytes());
        file.extend_from_slice(STATIC);
        file[126..130].copy_from_slice(&number.to_le_bytes());
        file
    }

    /// Two old files of a directory that another process can write to, and a link that it turns from one
    /// to the other after the first was read.
    #[test]
    fn a_link_that_is_swapped_meanwhile_gets_nobody_anothers_profile() {
        let directory = tempfile::tempdir().unwrap();
        let cache = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let (umask, sync) = (95, 162);
        for (name, number) in [("one", umask), ("two", sync)] {
            fs::write(path(name), program(number)).unwrap();
            fs::set_permissions(path(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        std::thread::sleep(Duration::from_millis(3_200));
        let turn = |to: &str| {
            symlink(to, path("new")).unwrap();
            fs::rename(path("new"), path("server")).unwrap();
        };
        let run = |meanwhile: &dyn Fn()| {
            turn("one");
            let args = ["/server".to_owned()];
            let entry = Entry {
                args: &args,
                path: None,
                cwd: Path::new("/"),
            };
            let root = RootFs::open(directory.path()).unwrap().watched();
            let key = Key::of(&root, &entry).unwrap();
            let generated = generate(&root, &entry, &Options::default()).unwrap();
            assert!(generated.syscalls.contains_key("umask"));
            meanwhile();
            keep(&key, cache.path(), "kept", &root, &generated, now()).unwrap();
            let kept = recall(&key, cache.path(), "kept").unwrap_or_default();
            let _ = fs::remove_file(cache.path().join("kept"));
            (kept, root.touched())
        };
        let (kept, _) = run(&|| {});
        assert!(kept.unwrap().syscalls.contains_key("umask"));
        let (kept, touched) = run(&|| turn("two"));
        assert!(kept.is_none());
        // What is at the paths by now, noted as what was read, is such a result: for the other file.
        let base = fs::File::open(directory.path()).unwrap().into();
        let media = Media::default();
        let noted = touched.into_iter().map(|one| Dependency {
            mount: None,
            found: Dependency::inside(&base, &one.path, &media).unwrap(),
            path: one.path,
            used: one.used,
        });
        let noted: Vec<_> = noted.collect();
        assert!(Dependency::all_hold(&noted, directory.path()).unwrap());
        // One that was turned and turned back is no other.
        let (kept, _) = run(&|| {
            turn("two");
            turn("one");
        });
        assert!(kept.unwrap().syscalls.contains_key("umask"));
    }
}
