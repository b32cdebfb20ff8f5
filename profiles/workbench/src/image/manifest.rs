//! What an image says of itself: which blobs it consists of, and what its container starts with.
//! The OCI image specification, and the older format of `docker save`.

use std::collections::BTreeMap;
use std::io::{Read, Seek};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::blobs::{Blobs, Digest};
use super::error::ImageError;

/// What is to be unpacked.
pub(super) struct Manifest {
    pub(super) config: Config,
    /// The lowest first.
    pub(super) layers: Vec<Blob>,
}

/// A layer: where it is, and what proves it.
pub(super) struct Blob {
    /// Its name in the archive.
    pub(super) name: String,
    pub(super) proof: Proof,
}

/// Which content has the digest.
pub(super) enum Proof {
    /// The blob as it is stored.
    Stored(Digest),
    /// What is in it, once it is no longer compressed.
    Content(Digest),
}

/// An image's configuration, as far as it says what runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Config {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    config: Option<Run>,
    #[serde(default)]
    rootfs: Option<Layers>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Run {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct Layers {
    #[serde(default)]
    diff_ids: Vec<String>,
}

/// What a container of an image is started with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Command {
    /// The first words of its command line.
    pub entrypoint: Vec<String>,
    /// The words that follow if the user gives none.
    pub cmd: Vec<String>,
    /// Its `PATH`.
    pub path: Option<String>,
    /// Its working directory.
    pub cwd: String,
}

impl Config {
    pub(super) fn command(self) -> Command {
        let run = self.config.unwrap_or_default();
        let path = run.env.into_iter().flatten();
        let mut path = path.filter_map(|text| text.strip_prefix("PATH=").map(str::to_owned));
        let cwd = run.working_dir.filter(|cwd| cwd.starts_with('/'));
        Command {
            entrypoint: run.entrypoint.unwrap_or_default(),
            cmd: run.cmd.unwrap_or_default(),
            // Of several the last, as at the start of a container.
            path: path.next_back(),
            cwd: cwd.unwrap_or_else(|| "/".to_owned()),
        }
    }
}

/// The largest description, in bytes.
const MAX_JSON: u64 = 8 << 20;
/// Indexes within each other.
const MAX_DEPTH: usize = 4;
/// Layers of an image; file systems that stack them take fewer.
const MAX_LAYERS: usize = 1024;

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    platform: Option<Platform>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
}

#[derive(Deserialize)]
struct ImageManifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// An image in the list of `docker save`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// The annotation that names an image of a layout.
const NAME: &str = "org.opencontainers.image.ref.name";

/// Finds out what is to be unpacked.
pub(super) fn read<S: Read + Seek>(
    blobs: &mut Blobs<S>,
    tag: Option<&str>,
) -> Result<Manifest, ImageError> {
    if let Some(bytes) = blobs.small("index.json", MAX_JSON)? {
        let index: Index = parse("index.json", &bytes)?;
        let chosen = choose(index.manifests, tag, |one| {
            let name = one.annotations.as_ref()?.get(NAME)?;
            Some(name.clone())
        })?;
        return oci(blobs, chosen, 0);
    }
    if let Some(bytes) = blobs.small("manifest.json", MAX_JSON)? {
        let images: Vec<Saved> = parse("manifest.json", &bytes)?;
        let chosen = choose_by(images, tag, |image| {
            image.repo_tags.clone().unwrap_or_default()
        })?;
        return saved(blobs, chosen);
    }
    Err(ImageError::Format)
}

fn parse<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, ImageError> {
    serde_json::from_slice(bytes).map_err(|source| ImageError::Json {
        what: what.to_owned(),
        source,
    })
}

/// The descriptors that can be meant: by tag, if there is one.
fn choose(
    all: Vec<Descriptor>,
    tag: Option<&str>,
    name: impl Fn(&Descriptor) -> Option<String>,
) -> Result<Vec<Descriptor>, ImageError> {
    let Some(tag) = tag else {
        let names: Vec<String> = all.iter().filter_map(&name).collect();
        if names.len() > 1 {
            return Err(ImageError::Several {
                names: names.join(", "),
            });
        }
        return Ok(all);
    };
    let names: Vec<String> = all.iter().filter_map(&name).collect();
    let chosen: Vec<Descriptor> = all
        .into_iter()
        .filter(|one| name(one).as_deref() == Some(tag))
        .collect();
    if chosen.is_empty() {
        return Err(ImageError::NoTag {
            tag: tag.to_owned(),
            names: names.join(", "),
        });
    }
    Ok(chosen)
}

fn choose_by(
    images: Vec<Saved>,
    tag: Option<&str>,
    names: impl Fn(&Saved) -> Vec<String>,
) -> Result<Saved, ImageError> {
    let all: Vec<String> = images.iter().flat_map(&names).collect();
    let mut chosen = images
        .into_iter()
        .filter(|image| tag.is_none_or(|tag| names(image).iter().any(|name| name == tag)));
    match (chosen.next(), chosen.next(), tag) {
        (Some(image), None, _) | (Some(image), Some(_), Some(_)) => Ok(image),
        (Some(_), Some(_), None) => Err(ImageError::Several {
            names: all.join(", "),
        }),
        (None, _, Some(tag)) => Err(ImageError::NoTag {
            tag: tag.to_owned(),
            names: all.join(", "),
        }),
        (None, _, None) => Err(ImageError::Format),
    }
}

/// Of several manifests the one for this kind of machine.
fn oci<S: Read + Seek>(
    blobs: &mut Blobs<S>,
    mut candidates: Vec<Descriptor>,
    depth: usize,
) -> Result<Manifest, ImageError> {
    if depth > MAX_DEPTH {
        return Err(ImageError::Limit {
            what: "indexes within each other",
            limit: MAX_DEPTH as u64,
            remedy: "another tool",
        });
    }
    let platforms: Vec<String> = candidates.iter().filter_map(platform).collect();
    candidates.retain(|one| platform(one).is_none_or(|platform| platform == "linux/amd64"));
    let Some(chosen) = candidates.first() else {
        return Err(match platforms.is_empty() {
            true => ImageError::Format,
            false => ImageError::Platform {
                platforms: platforms.join(", "),
            },
        });
    };
    let bytes = blobs.proven(&Digest::parse(&chosen.digest)?, MAX_JSON)?;
    let is_index = ["index.v1+json", "manifest.list.v2+json"]
        .iter()
        .any(|kind| chosen.media_type.ends_with(kind));
    if is_index {
        let index: Index = parse("index", &bytes)?;
        return oci(blobs, index.manifests, depth + 1);
    }
    let manifest: ImageManifest = parse("manifest", &bytes)?;
    let bytes = blobs.proven(&Digest::parse(&manifest.config.digest)?, MAX_JSON)?;
    let config: Config = parse("configuration", &bytes)?;
    check(&config, manifest.layers.len())?;
    let layers = manifest.layers.iter().map(|layer| {
        let digest = Digest::parse(&layer.digest)?;
        Ok(Blob {
            name: digest.blob(),
            proof: Proof::Stored(digest),
        })
    });
    Ok(Manifest {
        layers: layers.collect::<Result<_, ImageError>>()?,
        config,
    })
}

fn platform(descriptor: &Descriptor) -> Option<String> {
    let platform = descriptor.platform.as_ref()?;
    Some(format!("{}/{}", platform.os, platform.architecture))
}

/// `docker save`: the configuration has the digest of each layer's content.
fn saved<S: Read + Seek>(blobs: &mut Blobs<S>, image: Saved) -> Result<Manifest, ImageError> {
    let bytes = blobs.small(&image.config, MAX_JSON)?;
    let bytes = bytes.ok_or_else(|| ImageError::Missing {
        blob: image.config.clone(),
    })?;
    // `HEX.json`, or `blobs/sha256/HEX`.
    let stem = image.config.rsplit('/').next().unwrap_or_default();
    let digest = Digest::parse(&format!("sha256:{}", stem.trim_end_matches(".json")))?;
    digest.check(&bytes)?;
    let config: Config = parse("configuration", &bytes)?;
    check(&config, image.layers.len())?;
    let ids = config.rootfs.clone().unwrap_or_default().diff_ids;
    if ids.len() != image.layers.len() {
        return Err(ImageError::Missing {
            blob: "a digest for each of its layers".to_owned(),
        });
    }
    let layers = image.layers.into_iter().zip(&ids).map(|(name, id)| {
        Ok(Blob {
            name,
            proof: Proof::Content(Digest::parse(id)?),
        })
    });
    Ok(Manifest {
        layers: layers.collect::<Result<_, ImageError>>()?,
        config,
    })
}

fn check(config: &Config, layers: usize) -> Result<(), ImageError> {
    if layers > MAX_LAYERS {
        return Err(ImageError::Limit {
            what: "layers",
            limit: MAX_LAYERS as u64,
            remedy: "another tool",
        });
    }
    // Layouts made by hand may leave both out.
    let is_usual = |said: &str, usual: &str| said.is_empty() || said == usual;
    if is_usual(&config.os, "linux") && is_usual(&config.architecture, "amd64") {
        return Ok(());
    }
    Err(ImageError::Platform {
        platforms: format!("{}/{}", config.os, config.architecture),
    })
}
