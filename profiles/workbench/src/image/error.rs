//! Why there is no root file system of an image.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why an image could not be unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The archive or layout.
    #[error("cannot read the image {}", path.display())]
    Read {
        /// Its name.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Neither format.
    #[error(
        "this is no image: there is neither an index.json (OCI) nor a manifest.json (`docker save`) \
         in it; make one with `skopeo copy docker://NAME oci-archive:FILE`"
    )]
    Format,
    /// A description that is not what it should be.
    #[error("the image's {what} cannot be understood")]
    Json {
        /// Which.
        what: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Something that is named is not there.
    #[error("the image names {blob}, which is not in it; it is not complete")]
    Missing {
        /// What is named.
        blob: String,
    },
    /// A digest of an unknown kind, or none.
    #[error("{digest:?} is no sha256 digest; images with others are not read")]
    Algorithm {
        /// What is there in its place.
        digest: String,
    },
    /// The content is another.
    #[error("{blob} of the image has another content than its digest says; fetch the image again")]
    Digest {
        /// Which part.
        blob: String,
    },
    /// For other machines only.
    #[error("the image is for {platforms}; only linux/amd64 can be analysed")]
    Platform {
        /// What it is for.
        platforms: String,
    },
    /// Several images in one archive.
    #[error("there are several images in it: {names}; choose one with --tag")]
    Several {
        /// Their tags.
        names: String,
    },
    /// No such image in the archive.
    #[error("there is no image tagged {tag:?} in it, but {names}")]
    NoTag {
        /// What was asked for.
        tag: String,
        /// What there is.
        names: String,
    },
    /// It goes on and on.
    #[error(
        "the image has more than {limit} {what}; where that is meant, allow more with {remedy}"
    )]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many.
        limit: u64,
        /// What to do.
        remedy: &'static str,
    },
    /// An entry that no honest tool writes.
    #[error("the image's {layer} has the entry {}: {why}; such an image is not unpacked", entry.display())]
    Refused {
        /// Which layer.
        layer: String,
        /// The entry's name.
        entry: PathBuf,
        /// What is wrong with it.
        why: Refusal,
    },
    /// A layer that is no archive, or a damaged one.
    #[error("cannot read the image's {layer}")]
    Layer {
        /// Which.
        layer: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The disk.
    #[error("cannot unpack {} into {}; TMPDIR names another directory", entry.display(), place.display())]
    Write {
        /// The entry, or what else is written.
        entry: PathBuf,
        /// The temporary directory.
        place: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A signal.
    #[error("interrupted")]
    Interrupted,
}

/// What is wrong with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// `..` in its name.
    Upwards,
    /// `..` in the name of what it links to, which would be outside.
    LinkUpwards,
    /// The name or a component of it is longer than the kernel takes.
    Long,
    /// More directories within each other than anybody makes.
    Deep,
    /// A whiteout of `.`, `..` or nothing.
    Whiteout,
    /// Sizes that contradict each other, or a sparse file: readers differ in what they make of it.
    Ambiguous,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Upwards => "its name leads upwards",
            Self::LinkUpwards => "it links to a file above the root",
            Self::Long => "its name is longer than any file's",
            Self::Deep => "it lies below too many directories",
            Self::Whiteout => "it removes a directory that nobody may remove",
            Self::Ambiguous => "its size can be read in two ways",
        })
    }
}

/// What was left out, as nothing in an analysis depends on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ignored {
    /// Device nodes.
    pub devices: u64,
    /// Named pipes.
    pub pipes: u64,
    /// Entries of other kinds.
    pub others: u64,
    /// Entries below a file or a link that leads nowhere, and hard links to what is not there.
    pub unreachable: u64,
    /// An example of the last.
    pub example: Option<OsString>,
}

impl Ignored {
    /// A line for each kind.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let mut note = |count: u64, what: &str| {
            if count != 0 {
                notes.push(format!("{count} {what} of the image were not made"));
            }
        };
        note(self.devices, "device nodes");
        note(self.pipes, "named pipes");
        note(self.others, "entries of an unknown kind");
        note(
            self.unreachable,
            "entries below a file or a link that leads nowhere, or links to files that are not there",
        );
        if let Some(example) = &self.example {
            notes.push(format!("one of them is {}", example.display()));
        }
        notes
    }
}
