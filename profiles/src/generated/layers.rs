//! What a container's root file system consists of, as far as that can be told without reading it.
//!
//! An overlay is its layers. The lower ones are an image's where they lie in an engine's store, which
//! engines never change once they are there, so the directory's identity stands for all below it (its
//! inode's time of change tells it from a later one that got the same number). An overlay over anybody's
//! directories (`podman run --rootfs DIR:O`) counts as a plain directory. The upper one is the container's own: what it holds is told
//! file by file, and so is the small layer that Docker puts between (`ID-init`), but by what it says,
//! as every container has its own. Any other root is a plain directory: it is told by the files that
//! the analysis looked at.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Identity;
use super::medium;
use crate::mountinfo;

/// So many files of a container's own are told one by one.
const MAX_OWN: usize = 256;
/// The longest list of mounts that is read, in bytes.
const MAX_MOUNTS: usize = 8 << 20;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootIdentity {
    /// An overlay.
    Layers {
        /// The lower directories, the uppermost first.
        lower: Vec<Lower>,
        /// What the container changed.
        own: Vec<Own>,
    },
    /// A directory, or a file system whose parts are not known.
    Directory,
}

/// A layer that is not the container's to change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lower {
    /// An image's.
    Image(Identity),
    /// Docker's own, by what it says.
    Init(Vec<Own>),
}

/// A file of a layer that is told file by file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    /// Below the layer; as bytes, for it need not be text.
    path: Vec<u8>,
    /// Type, bits for executing, and device number, which make a whiteout.
    kind: (u32, u64),
    /// Where a link leads.
    target: Vec<u8>,
    /// Which file it is; absent where type and place say all.
    identity: Option<Identity>,
}

/// Why a root cannot be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayersError {
    /// The kernel's list, or a layer.
    #[error("cannot look at {}", path.display())]
    Look {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its own layer has too much in it.
    #[error("the container changed more than {MAX_OWN} files of its image")]
    Changed,
    /// Something is mounted in it that is no mount of the container.
    #[error("{} is mounted in the root file system, and the spec does not say so", path.display())]
    Mounted {
        /// Where, as seen from outside.
        path: PathBuf,
    },
}

impl LayersError {
    /// Whether a profile can be made all the same, but not kept.
    pub fn is_for_this_start_only(&self) -> bool {
        matches!(self, Self::Changed | Self::Mounted { .. })
    }
}

impl RootIdentity {
    /// Of the root file system at `root`, a path with every symlink resolved. `destinations`: where the
    /// spec mounts something over it.
    pub fn of<'a>(
        root: &Path,
        destinations: impl IntoIterator<Item = &'a Path>,
    ) -> Result<Self, LayersError> {
        let list = Path::new("/proc/self/mountinfo");
        let text = fs::read(list).map_err(|source| LayersError::Look {
            path: list.to_owned(),
            source,
        })?;
        if let Some(path) = foreign(&text, root, destinations) {
            return Err(LayersError::Mounted { path });
        }
        match overlay(&text, root) {
            Some(options) => Self::of_overlay(&options),
            None => Ok(Self::Directory),
        }
    }

    fn of_overlay(options: &Overlay) -> Result<Self, LayersError> {
        let mut lower = Vec::new();
        for (place, path) in options.lower.iter().enumerate() {
            let failed = |source| LayersError::Look {
                path: path.clone(),
                source,
            };
            if !medium::is_own(path) {
                return Ok(Self::Directory);
            }
            let real = fs::canonicalize(path).map_err(failed)?;
            if place == 0 && is_init(&real) {
                lower.push(Lower::Init(own_files(path, false)?));
            } else if !is_of_an_engine(&real) {
                return Ok(Self::Directory);
            } else {
                let found = fs::metadata(path).map_err(failed)?;
                lower.push(Lower::Image(Identity::of(&found)));
            }
        }
        let own = match &options.upper {
            Some(upper) if !medium::is_own(upper) => return Ok(Self::Directory),
            Some(upper) => own_files(upper, true)?,
            None => Vec::new(),
        };
        Ok(Self::Layers { lower, own })
    }

    /// Whether it is told by its layers.
    pub fn is_layers(&self) -> bool {
        matches!(self, Self::Layers { .. })
    }

    /// Whether nothing that is told by its times changed within the last `seconds` before `now`.
    pub fn is_at_rest(&self, now: i64, seconds: i64) -> bool {
        let Self::Layers { own, .. } = self else {
            return true;
        };
        own.iter()
            .filter_map(|file| file.identity.as_ref())
            .all(|identity| identity.is_at_rest(now, seconds))
    }
}

/// Docker's overlay2 driver calls it `.../ID-init/diff`; an image's layer has no such name.
fn is_init(real: &Path) -> bool {
    let directory = real.parent().and_then(Path::file_name);
    real.file_name().is_some_and(|name| name == "diff")
        && directory.is_some_and(|name| name.as_bytes().ends_with(b"-init"))
}

/// Whether engines keep layers at such places: containerd at `.../snapshots/NUMBER/fs`, Docker at
/// `.../overlay2/ID/diff`, Podman at `.../overlay/ID/diff`.
fn is_of_an_engine(real: &Path) -> bool {
    let mut names = real.iter().rev().map(|name| name.as_bytes());
    let (Some(last), Some(id), Some(store)) = (names.next(), names.next(), names.next()) else {
        return false;
    };
    match (store, last) {
        (b"snapshots", b"fs") => id.iter().all(u8::is_ascii_digit),
        // 64 hexadecimal digits; from BuildKit 25 letters and digits.
        (b"overlay2" | b"overlay", b"diff") => {
            id.len() >= 25 && id.iter().all(u8::is_ascii_alphanumeric)
        }
        _ => false,
    }
}

/// Every file below a layer. `by_identity`: also which file it is, not only what it says.
fn own_files(layer: &Path, by_identity: bool) -> Result<Vec<Own>, LayersError> {
    let mut files = Vec::new();
    let mut open = vec![layer.to_owned()];
    while let Some(directory) = open.pop() {
        let failed = |source| LayersError::Look {
            path: directory.clone(),
            source,
        };
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if files.len() >= MAX_OWN {
                return Err(LayersError::Changed);
            }
            let found = entry.metadata().map_err(failed)?;
            let path = entry.path();
            files.push(own_file(layer, &path, &found, by_identity).map_err(failed)?);
            if found.is_dir() {
                open.push(path);
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn own_file(layer: &Path, path: &Path, found: &Metadata, by_identity: bool) -> io::Result<Own> {
    let kind = found.file_type();
    let target = match kind.is_symlink() {
        true => fs::read_link(path)?.into_os_string().into_vec(),
        false => Vec::new(),
    };
    let device = match kind.is_char_device() || kind.is_block_device() {
        true => found.rdev(),
        false => 0,
    };
    let says_it_all = !kind.is_file() || found.len() == 0;
    let identity = Identity::of(found);
    let below = path.strip_prefix(layer).unwrap_or(path);
    Ok(Own {
        path: below.as_os_str().as_bytes().to_owned(),
        kind: (identity.kind, device),
        target,
        identity: (by_identity || !says_it_all).then_some(identity),
    })
}

/// The directories of an overlay.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Overlay {
    lower: Vec<PathBuf>,
    upper: Option<PathBuf>,
}

impl Overlay {
    /// Whether something holds for each of them.
    pub(super) fn all(&self, holds: impl Fn(&Path) -> bool) -> bool {
        let mut all = self.lower.iter().chain(&self.upper);
        all.all(|path| holds(path))
    }
}

/// What is mounted below `root` in the kernel's list, and at none of the spec's `destinations`.
fn foreign<'a>(
    mountinfo: &[u8],
    root: &Path,
    destinations: impl IntoIterator<Item = &'a Path>,
) -> Option<PathBuf> {
    let inside = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
    let known: Vec<PathBuf> = destinations.into_iter().map(inside).collect();
    let lines = mountinfo.split(|byte| *byte == b'\n');
    let mut places = lines.filter_map(|line| Some(unescape(line.split(|b| *b == b' ').nth(4)?)));
    places.find(|place| place != root && place.starts_with(root) && !known.contains(place))
}

/// A path of the list.
fn unescape(text: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsString::from_vec(mountinfo::unescape(text)))
}

/// The overlay that is mounted at `root`, by proc_pid_mountinfo(5); `None` if there is none, or its
/// directories cannot be told from its options.
fn overlay(mountinfo: &[u8], root: &Path) -> Option<Overlay> {
    let wanted = root.as_os_str().as_bytes();
    // The last one mounted there hides those before it.
    let fields = line(mountinfo, |fields| fields.get(4) == Some(&wanted))?;
    // A part of a file system is not the whole of its layers.
    if fields.get(3) != Some(&&b"/"[..]) {
        return None;
    }
    overlay_of(&fields)
}

/// As [`overlay`], by the mount's number, and also of a part.
pub(super) fn mounted(mountinfo: &[u8], mount: u64) -> Option<Overlay> {
    let wanted = mount.to_string();
    let fields = line(mountinfo, |fields| {
        fields.first() == Some(&wanted.as_bytes())
    })?;
    overlay_of(&fields)
}

/// The last line of the list that is wanted.
fn line(mountinfo: &[u8], wanted: impl Fn(&[&[u8]]) -> bool) -> Option<Vec<&[u8]>> {
    if mountinfo.len() > MAX_MOUNTS {
        return None;
    }
    let lines = mountinfo.split(|byte| *byte == b'\n').rev();
    let mut lines = lines.map(|line| line.split(|byte| *byte == b' ').collect::<Vec<_>>());
    lines.find(|fields| wanted(fields))
}

fn overlay_of(fields: &[&[u8]]) -> Option<Overlay> {
    let separator = fields.iter().position(|field| *field == b"-")?;
    let (kind, options) = (fields.get(separator + 1)?, fields.get(separator + 3)?);
    // Escapes: who calls directories so can wait for an analysis.
    if *kind != b"overlay" || options.contains(&b'\\') {
        return None;
    }
    let mut overlay = Overlay {
        lower: Vec::new(),
        upper: None,
    };
    for option in options.split(|byte| *byte == b',') {
        let at = option.iter().position(|byte| *byte == b'=');
        let (name, value) = option.split_at(at.unwrap_or(option.len()));
        let value = value.get(1..).unwrap_or_default();
        let path = |bytes: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(bytes));
        match name {
            b"lowerdir" | b"lowerdir+" => {
                // `::` begins data-only layers, whose files appear elsewhere.
                overlay
                    .lower
                    .extend(value.split(|byte| *byte == b':').map(path));
            }
            b"upperdir" => overlay.upper = Some(path(value)),
            b"datadir+" => return None,
            _ => {}
        }
    }
    let mut all = overlay.lower.iter().chain(&overlay.upper);
    let whole = !overlay.lower.is_empty() && all.all(|path| path.is_absolute());
    whole.then_some(overlay)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn overlay_with(options: &str) -> Option<Overlay> {
        let text = format!(
            "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
             22 1 0:31 / /b/rootfs rw,relatime shared:3 - overlay overlay rw,{options}\n"
        );
        overlay(text.as_bytes(), Path::new("/b/rootfs"))
    }

    #[test]
    fn the_layers_of_an_overlay_are_read_from_the_list_of_mounts() {
        let found = overlay_with("lowerdir=/l/2:/l/1,upperdir=/u,workdir=/w,xino=off").unwrap();
        assert_eq!(found.lower, [Path::new("/l/2"), Path::new("/l/1")]);
        assert_eq!(found.upper.as_deref(), Some(Path::new("/u")));
        for unknown in [
            "lowerdir=2/fs:1/fs,upperdir=/u",
            "lowerdir=/l/a\\040b,upperdir=/u",
            "lowerdir=/l/1::/data",
            "upperdir=/u",
        ] {
            assert_eq!(overlay_with(unknown), None, "{unknown}");
        }
        let text = "22 1 0:31 /part /b/rootfs rw - overlay overlay rw,lowerdir=/l\n";
        assert_eq!(overlay(text.as_bytes(), Path::new("/b/rootfs")), None);
        let hidden = "1 0 0:1 / /r rw - overlay o rw,lowerdir=/l\n2 1 0:2 / /r rw - tmpfs t rw\n";
        assert_eq!(overlay(hidden.as_bytes(), Path::new("/r")), None);
    }

    #[test]
    fn a_change_in_the_containers_own_layer_is_another_root() {
        let dir = tempfile::tempdir().unwrap();
        let lower = dir.path().join("snapshots/1/fs");
        let upper = dir.path().join("upper");
        fs::create_dir_all(&lower).unwrap();
        fs::create_dir_all(&upper).unwrap();
        let options = Overlay {
            lower: vec![lower.clone()],
            upper: Some(upper.clone()),
        };
        let now = || RootIdentity::of_overlay(&options).unwrap();
        let pristine = now();
        assert_eq!(pristine, now());
        // A whiteout needs root to make; its name alone is enough of a difference.
        fs::write(upper.join("empty"), "").unwrap();
        let changed = now();
        assert_ne!(pristine, changed);
        fs::write(upper.join("empty"), "x").unwrap();
        assert_ne!(changed, now());
        fs::remove_file(upper.join("empty")).unwrap();
        assert_eq!(pristine, now());
        fs::create_dir(lower.join("new")).unwrap();
        assert_ne!(pristine, now());
        for number in 0..=MAX_OWN {
            fs::write(upper.join(number.to_string()), "").unwrap();
        }
        let error = RootIdentity::of_overlay(&options).unwrap_err();
        assert!(matches!(error, LayersError::Changed));
    }

    #[test]
    fn the_layer_that_docker_adds_is_told_by_what_it_says() {
        let dir = tempfile::tempdir().unwrap();
        let layer = |name: &str, hosts: &str| {
            let diff = dir.path().join(name).join("diff");
            fs::create_dir_all(diff.join("etc")).unwrap();
            fs::write(diff.join("etc/hosts"), hosts).unwrap();
            symlink("/proc/mounts", diff.join("etc/mtab")).unwrap();
            let options = Overlay {
                lower: vec![diff],
                upper: None,
            };
            RootIdentity::of_overlay(&options).unwrap()
        };
        assert_eq!(layer("a-init", ""), layer("b-init", ""));
        assert_ne!(layer("c-init", "x"), layer("d-init", "x"));
        let image = |digit: &str| layer(&format!("overlay2/{}", digit.repeat(64)), "");
        assert_ne!(image("e"), image("f"));
    }

    #[test]
    fn an_overlay_over_anybodys_directory_is_a_plain_one() {
        let dir = tempfile::tempdir().unwrap();
        let id = "a1".repeat(32);
        let of = |lower: &str| {
            let lower = dir.path().join(lower);
            fs::create_dir_all(&lower).unwrap();
            let options = Overlay {
                lower: vec![lower],
                upper: None,
            };
            RootIdentity::of_overlay(&options).unwrap().is_layers()
        };
        for engine in ["snapshots/12/fs", "overlay/ID/diff", "overlay2/ID/diff"] {
            assert!(of(&engine.replace("ID", &id)), "{engine}");
        }
        for other in [
            "mine",
            "mine/diff",
            "snapshots/x/fs",
            "overlay/mine/diff",
            "overlay3/ID/diff",
        ] {
            assert!(!of(&other.replace("ID", &id)), "{other}");
        }
        // It is the place that counts, not a link to it.
        symlink(dir.path().join("mine"), dir.path().join("snapshots/7")).unwrap();
        fs::create_dir(dir.path().join("mine/fs")).unwrap();
        assert!(!of("snapshots/7/fs"));
        // A file system that is not the host's own, whatever its place is called.
        let options = Overlay {
            lower: vec!["/proc/self/fd".into()],
            upper: None,
        };
        assert!(!RootIdentity::of_overlay(&options).unwrap().is_layers());
    }

    #[test]
    fn a_mount_that_the_spec_does_not_know_is_found() {
        let text = b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
            2 1 0:3 / /b/a\\040root rw - overlay o rw,lowerdir=/l\n\
            3 2 0:4 / /b/a\\040root/proc rw - proc proc rw\n\
            4 1 0:5 / /b/a\\040root2 rw - tmpfs t rw\n";
        let root = Path::new("/b/a root");
        let proc = root.join("proc");
        assert_eq!(foreign(text, root, []), Some(proc));
        assert_eq!(foreign(text, root, [Path::new("/proc")]), None);
    }
}
