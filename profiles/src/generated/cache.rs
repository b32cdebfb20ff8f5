//! Made profiles on disk, by everything that an analysis depends on.
//!
//! As with compiled filters, a file is used only if nobody but its owner can have written it, if it
//! holds this very key and if its digest is right; then what it depends on besides the key is looked
//! at. Everything else is made anew. No container can write there.

use std::fs::{self, DirBuilder, OpenOptions};
use std::hash::{DefaultHasher, Hasher as _};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process;

use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::dependency::hold;
use super::{Dependency, Generated, Identity, Made, Origin, Process, RootIdentity, Use};

/// Of the files.
const FORMAT: u32 = 1;
const MAGIC: &[u8] = b"cofferdam generated\n";
const DIGEST: usize = 32;
/// The largest file that is read or written, in bytes.
const MAX_BYTES: usize = 8 << 20;
/// How many profiles are kept.
const MAX_FILES: usize = 256;
/// A file that changed within so many seconds can change again without its times showing it.
const REST: i64 = 2;

/// Everything that an analysis depends on but for single files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// The program that analyses: another one finds something else.
    pub analyst: Identity,
    /// The root file system.
    pub root: RootIdentity,
    /// The plain directory, if it is one.
    pub directory: Option<PathBuf>,
    /// What is started.
    pub process: Process,
    /// What is mounted.
    pub mounts: Vec<MountKey>,
    /// The recordings.
    pub recordings: Vec<(PathBuf, Identity)>,
}

/// A mount, as far as it is the same for every container of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountKey {
    /// Where.
    pub destination: PathBuf,
    /// The type of what is bound there and its bits for executing; none where nothing is bound.
    pub bound: Option<u32>,
    /// With the mounts below the source.
    pub recursive: bool,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    format: u32,
    key: Key,
    generated: Generated,
    dependencies: Vec<Dependency>,
}

/// Made profiles below one directory that only its owner may write.
#[derive(Debug, Clone)]
pub struct GeneratedCache {
    directory: PathBuf,
}

impl GeneratedCache {
    /// A cache below `directory`, which is made on first use.
    pub fn at(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
        }
    }

    /// Where the profile of `key` is kept.
    pub fn path_of(&self, key: &Key) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        // What cannot be written as JSON is not kept either.
        hasher.write(&serde_json::to_vec(key).unwrap_or_default());
        self.directory
            .join(format!("{:016x}.json", hasher.finish()))
    }

    /// The profile of `key`, if it is there and nothing that it depends on has changed. `root` is the
    /// root file system, `sources` what is bound, by place in the list of mounts.
    pub fn get(&self, key: &Key, root: &Path, sources: &[Option<PathBuf>]) -> Option<Generated> {
        let entry = read(&self.path_of(key))?;
        let holds = entry.format == FORMAT
            && entry.key == *key
            && hold(&entry.dependencies, root, sources).unwrap_or(false);
        holds.then(|| {
            let mut generated = entry.generated;
            generated.provenance.origin = Origin::Kept;
            generated
        })
    }

    /// Keeps a profile that was made for `key`; else says in it why not, which costs the next start
    /// an analysis and is no failure. `asked` is when the analysis was asked for, in seconds since 1970.
    pub fn keep(&self, key: &Key, made: Made, asked: i64) -> Generated {
        let mut generated = made.generated;
        let kept = made
            .dependencies
            .and_then(|dependencies| self.try_keep(key, &generated, dependencies, asked));
        generated.provenance.origin = match kept {
            Ok(()) => Origin::Made,
            Err(why) => Origin::NotKept(why),
        };
        generated
    }

    fn try_keep(
        &self,
        key: &Key,
        generated: &Generated,
        mut dependencies: Vec<Dependency>,
        asked: i64,
    ) -> Result<(), String> {
        let layers = key.root.is_layers();
        // The layers say it all, but for what is mounted over them.
        dependencies.retain(|dependency| !layers || dependency.mount.is_some());
        let rests = |dependency: &Dependency| {
            let found = dependency.found.as_ref();
            dependency.used == Use::Looked || found.is_none_or(|id| id.is_at_rest(asked, REST))
        };
        if !key.root.is_at_rest(asked, REST) || !dependencies.iter().all(rests) {
            return Err(format!(
                "files changed within the last {REST} seconds and may change again unseen"
            ));
        }
        let entry = Entry {
            format: FORMAT,
            key: key.clone(),
            generated: generated.clone(),
            dependencies,
        };
        let written = serde_json::to_vec(&entry)
            .map_err(io::Error::from)
            .and_then(|body| self.write(&self.path_of(key), &body));
        written.map_err(|error| format!("cannot write {}: {error}", self.directory.display()))
    }

    /// Writes beside and renames, so that a reader sees nothing or all of it.
    fn write(&self, path: &Path, body: &[u8]) -> io::Result<()> {
        if body.len() > MAX_BYTES {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)?;
        self.make_room()?;
        let temporary = path.with_extension(format!("{}.tmp", process::id()));
        // What a killed process of the same id may have left behind.
        let _ = fs::remove_file(&temporary);
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .and_then(|mut file| {
                file.write_all(MAGIC)?;
                file.write_all(&Sha256::digest(body))?;
                file.write_all(body)
            })
            .and_then(|()| fs::rename(&temporary, path));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// Removes the oldest when there are too many.
    fn make_room(&self) -> io::Result<()> {
        let mut files: Vec<(i64, PathBuf)> = fs::read_dir(&self.directory)?
            .flatten()
            .filter(|entry| is_own(&entry.path()))
            .map(|entry| {
                let age = entry.metadata().map_or(0, |found| found.mtime());
                (age, entry.path())
            })
            .collect();
        files.sort_unstable();
        let surplus = (files.len() + 1).saturating_sub(MAX_FILES);
        for (_, path) in files.into_iter().take(surplus) {
            let _ = fs::remove_file(path);
        }
        Ok(())
    }
}

/// Whether the cache makes files of such names.
fn is_own(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let (stem, end) = name
        .and_then(|name| name.split_once('.'))
        .unwrap_or(("", ""));
    stem.len() == 16
        && stem.bytes().all(|byte| byte.is_ascii_hexdigit())
        && (end == "json" || end.ends_with(".tmp"))
}

/// An entry that can be trusted, but for what it depends on.
fn read(path: &Path) -> Option<Entry> {
    let file = OpenOptions::new()
        .read(true)
        // A link or a FIFO somebody put there must neither be followed nor block.
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).bits())
        .open(path)
        .ok()?;
    let found = file.metadata().ok()?;
    let own = found.uid() == geteuid().as_raw() && found.mode() & 0o022 == 0;
    let length = usize::try_from(found.len()).ok()?;
    if !found.is_file() || !own || length > MAX_BYTES + MAGIC.len() + DIGEST {
        return None;
    }
    let mut bytes = Vec::with_capacity(length);
    file.take(found.len()).read_to_end(&mut bytes).ok()?;
    let (digest, body) = bytes.strip_prefix(MAGIC)?.split_at_checked(DIGEST)?;
    if Sha256::digest(body).as_slice() != digest {
        return None;
    }
    serde_json::from_slice(body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generated::{Confidence, Provenance};
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::{SystemTime, UNIX_EPOCH};

    fn now() -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        now.as_secs().try_into().unwrap()
    }

    fn key(dir: &Path) -> Key {
        let found = fs::metadata(dir).unwrap();
        Key {
            analyst: Identity::of(&found),
            root: RootIdentity::Directory,
            directory: Some(dir.to_owned()),
            process: Process {
                args: vec!["nginx".to_owned()],
                path: None,
                cwd: "/".into(),
            },
            mounts: Vec::new(),
            recordings: Vec::new(),
        }
    }

    fn made() -> Made {
        Made {
            generated: Generated {
                profile: oci_spec::runtime::LinuxSeccomp::default(),
                provenance: Provenance {
                    program: "/usr/sbin/nginx".into(),
                    programs: 1,
                    confidence: Confidence::High,
                    reasons: Vec::new(),
                    unresolved: 0,
                    calls: BTreeMap::new(),
                    recordings: Vec::new(),
                    origin: Origin::Made,
                },
            },
            dependencies: Ok(Vec::new()),
        }
    }

    #[test]
    fn what_is_kept_is_found_by_its_whole_key_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let cache = GeneratedCache::at(&dir.path().join("cache"));
        let key = key(dir.path());
        assert!(cache.get(&key, dir.path(), &[]).is_none());
        cache.keep(&key, made(), now());
        let found = cache.get(&key, dir.path(), &[]).unwrap();
        assert_eq!(found.provenance.origin, Origin::Kept);
        let mode = fs::metadata(dir.path().join("cache")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o700);

        let mut others = vec![key.clone(); 4];
        others[0].process.args.push("-g".to_owned());
        others[1].process.path = Some("/bin".to_owned());
        others[2].analyst.changed.1 += 1;
        others[3].mounts.push(MountKey {
            destination: "/usr/bin".into(),
            bound: Some(0o040_755),
            recursive: true,
        });
        for other in others {
            assert!(cache.get(&other, dir.path(), &[]).is_none(), "{other:?}");
            // Even where a file is there under its name.
            fs::copy(cache.path_of(&key), cache.path_of(&other)).unwrap();
            assert!(cache.get(&other, dir.path(), &[]).is_none(), "{other:?}");
        }
    }

    #[test]
    fn a_file_that_was_touched_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let cache = GeneratedCache::at(&dir.path().join("cache"));
        let key = key(dir.path());
        cache.keep(&key, made(), now());
        let path = cache.path_of(&key);
        let good = fs::read(&path).unwrap();
        let found = || cache.get(&key, dir.path(), &[]).is_some();
        for at in (0..good.len()).step_by(7) {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad).unwrap();
            assert!(!found(), "byte {at}");
            fs::write(&path, &good[..at]).unwrap();
            assert!(!found(), "cut at {at}");
        }
        fs::write(&path, &good).unwrap();
        assert!(found());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(!found());
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        fs::write(dir.path().join("cache/elsewhere"), &good).unwrap();
        assert!(!found());
    }

    #[test]
    fn a_file_that_just_changed_is_not_relied_on() {
        let dir = tempfile::tempdir().unwrap();
        let cache = GeneratedCache::at(&dir.path().join("cache"));
        let key = key(dir.path());
        fs::write(dir.path().join("program"), "x").unwrap();
        let identity = Identity::of(&fs::metadata(dir.path().join("program")).unwrap());
        let dependency = Dependency {
            mount: None,
            path: "/program".into(),
            used: Use::Read,
            found: Some(identity),
        };
        let mut young = made();
        young.dependencies = Ok(vec![dependency.clone()]);
        let origin = cache.keep(&key, young, now()).provenance.origin;
        assert!(matches!(origin, Origin::NotKept(_)), "{origin:?}");
        assert!(cache.get(&key, dir.path(), &[]).is_none());
        let mut none = made();
        none.dependencies = Err("a reason".to_owned());
        let origin = cache.keep(&key, none, now()).provenance.origin;
        assert_eq!(origin, Origin::NotKept("a reason".to_owned()));
    }

    #[test]
    fn the_cache_does_not_grow_without_bound() {
        let dir = tempfile::tempdir().unwrap();
        let cache = GeneratedCache::at(dir.path());
        let mut key = key(dir.path());
        for number in 0..MAX_FILES + 5 {
            key.process.args = vec![number.to_string()];
            cache.keep(&key, made(), now());
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), MAX_FILES);
        assert!(cache.get(&key, dir.path(), &[]).is_some());
    }
}
