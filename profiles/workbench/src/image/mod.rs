//! Images without an engine: an archive or a layout's directory becomes a root file system that an
//! analysis can look at, and the command that a container of it starts with.
//!
//! An image is what somebody else wrote. Digests are compared; names that lead upwards, links that lead
//! out, and sizes beyond the limits are refused; device nodes are not made; nothing is executed, and
//! owners, times and extended attributes are not kept.

/// The parts of an image by name.
mod blobs;
/// How much an image may make this program do.
mod budget;
/// Streams that may be compressed.
mod compressed;
/// Why there is no root file system of an image.
mod error;
/// A layer applied to what is below it.
mod layer;
/// What an image says of itself.
mod manifest;
/// A private directory that does not outlive the program.
mod scratch;
/// The entries of a tar archive.
mod tarball;
/// A root file system being put together.
mod tree;

pub use budget::Limits;
pub use error::{Ignored, ImageError, Refusal};
pub use manifest::Command;
pub use scratch::Scratch;

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use blobs::{Blobs, Hashing};
use budget::Budget;
use layer::Layer;
use manifest::Proof;
use tree::Tree;

/// An image that was unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// What a container of it starts with.
    pub command: Command,
    /// How many layers it has.
    pub layers: usize,
    /// How many bytes they have, unpacked.
    pub bytes: u64,
    /// What was left out.
    pub ignored: Ignored,
}

/// Unpacks an image: an archive of OCI or of `docker save`, compressed or not, `-` for one from the
/// standard input, or a layout's directory. The root file system is [`Scratch::root`]. `tell` gets the
/// number of bytes so far.
pub fn unpack(
    path: &Path,
    tag: Option<&str>,
    limits: &Limits,
    scratch: &Scratch,
    tell: &dyn Fn(u64),
) -> Result<Image, ImageError> {
    let failed = |source| ImageError::Read {
        path: path.to_owned(),
        source,
    };
    let budget = Budget::new(limits, tell);
    if path == Path::new("-") {
        let file = kept(&mut io::stdin().lock(), &budget, scratch)?;
        return archive(file, tag, &budget, scratch);
    }
    if path.is_dir() {
        return apply(blobs::directory(path), tag, &budget, scratch);
    }
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY)
        .open(path)
        .map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(failed(io::Error::new(
            io::ErrorKind::InvalidInput,
            "neither a file nor a directory",
        )));
    }
    let mut head = Vec::new();
    file.by_ref()
        .take(512)
        .read_to_end(&mut head)
        .map_err(failed)?;
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    if head.get(257..262) == Some(b"ustar") {
        return archive(file, tag, &budget, scratch);
    }
    let file = kept(&mut file, &budget, scratch)?;
    archive(file, tag, &budget, scratch)
}

/// The same, of bytes: for tests and fuzzing.
pub fn unpack_bytes(bytes: &[u8], limits: &Limits, scratch: &Scratch) -> Result<Image, ImageError> {
    let budget = Budget::new(limits, &|_| ());
    archive(io::Cursor::new(bytes), None, &budget, scratch)
}

/// Applies layers, the lowest first, without an image around them: for fuzzing, which could not find
/// digests.
pub fn unpack_layers(
    layers: &[&[u8]],
    limits: &Limits,
    scratch: &Scratch,
) -> Result<Ignored, ImageError> {
    let budget = Budget::new(limits, &|_| ());
    let mut ignored = Ignored::default();
    let mut tree = tree_at(scratch.root())?;
    for (content, index) in layers.iter().zip(1..) {
        let name = format!("layer {index}");
        let mut layer = Layer {
            name: &name,
            tree: &mut tree,
            budget: &budget,
            ignored: &mut ignored,
            place: scratch.root(),
            made: BTreeSet::new(),
            names: 0,
            is_first: index == 1,
        };
        let plain = compressed::plain(*content).map_err(|source| ImageError::Layer {
            layer: name.clone(),
            source,
        })?;
        layer.apply(&mut budget.reader(plain))?;
    }
    Ok(ignored)
}

fn tree_at(root: &Path) -> Result<Tree, ImageError> {
    Tree::new(root).map_err(|source| ImageError::Write {
        entry: "/".into(),
        place: root.to_owned(),
        source,
    })
}

/// Makes an archive seekable, and no longer compressed.
fn kept(source: &mut dyn Read, budget: &Budget<'_>, scratch: &Scratch) -> Result<File, ImageError> {
    let failed = |source| ImageError::Write {
        entry: "the archive".into(),
        place: scratch.path().to_owned(),
        source,
    };
    let damaged = |source| match budget.check() {
        Err(limit) => limit,
        Ok(()) => ImageError::Layer {
            layer: "archive".to_owned(),
            source,
        },
    };
    let mut file = tempfile::tempfile_in(scratch.path()).map_err(failed)?;
    let plain = compressed::plain(source).map_err(damaged)?;
    io::copy(&mut budget.reader(plain), &mut file).map_err(damaged)?;
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    Ok(file)
}

fn archive<S: Read + Seek>(
    source: S,
    tag: Option<&str>,
    budget: &Budget<'_>,
    scratch: &Scratch,
) -> Result<Image, ImageError> {
    apply(Blobs::archive(source, budget)?, tag, budget, scratch)
}

fn apply<S: Read + Seek>(
    mut blobs: Blobs<S>,
    tag: Option<&str>,
    budget: &Budget<'_>,
    scratch: &Scratch,
) -> Result<Image, ImageError> {
    let root = scratch.root();
    let manifest = manifest::read(&mut blobs, tag)?;
    let mut tree = tree_at(root)?;
    let mut ignored = Ignored::default();
    for (blob, index) in manifest.layers.iter().zip(1..) {
        let name = format!("layer {index} ({})", blob.name);
        let Some(stored) = blobs.open(&blob.name)? else {
            return Err(ImageError::Missing {
                blob: blob.name.clone(),
            });
        };
        let mut layer = Layer {
            name: &name,
            tree: &mut tree,
            budget,
            ignored: &mut ignored,
            place: root,
            made: BTreeSet::new(),
            names: 0,
            is_first: index == 1,
        };
        one(stored, &blob.proof, &mut layer)?;
    }
    Ok(Image {
        command: manifest.config.command(),
        layers: manifest.layers.len(),
        bytes: budget.bytes(),
        ignored,
    })
}

/// Applies a layer and compares its digest: where both fail, the digest is the reason.
fn one(stored: Box<dyn Read + '_>, proof: &Proof, layer: &mut Layer<'_>) -> Result<(), ImageError> {
    let (budget, name) = (layer.budget, layer.name);
    let damaged = |source| match budget.check() {
        Err(limit) => limit,
        Ok(()) => ImageError::Layer {
            layer: name.to_owned(),
            source,
        },
    };
    // Where both fail the digest is the reason, unless it would take too long to get to it.
    let is_final =
        |error: &ImageError| matches!(error, ImageError::Limit { .. } | ImageError::Interrupted);
    match proof {
        Proof::Stored(digest) => {
            let mut stored = Hashing::new(stored);
            let applied = compressed::plain(&mut stored)
                .map_err(damaged)
                .and_then(|plain| layer.apply(&mut budget.reader(plain)));
            if applied.as_ref().is_err_and(is_final) {
                return applied;
            }
            stored.check(digest).map_err(damaged)??;
            applied
        }
        Proof::Content(digest) => {
            let plain = compressed::plain(stored).map_err(damaged)?;
            let mut plain = Hashing::new(budget.reader(plain));
            let applied = layer.apply(&mut plain);
            if applied.as_ref().is_err_and(is_final) {
                return applied;
            }
            plain.check(digest).map_err(damaged)??;
            applied
        }
    }
}
