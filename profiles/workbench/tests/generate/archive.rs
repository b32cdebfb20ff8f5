//! Images made by hand, so that they can be wrong in every place.

use std::io::Write as _;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use crate::support::small_object;

/// A program that makes the system call of this number, and ends.
pub(crate) fn program(number: u32) -> Vec<u8> {
    let mut file = small_object();
    file[0x201..0x205].copy_from_slice(&number.to_le_bytes());
    file
}

/// A layer being written. Names are taken as they are.
#[derive(Default)]
pub(crate) struct Tar(Vec<u8>);

impl Tar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn raw(mut self, header: &Header, content: &[u8]) -> Self {
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn entry(self, kind: EntryType, name: &str, link: &str, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        put(&mut header.as_old_mut().name, name);
        put(&mut header.as_old_mut().linkname, link);
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.raw(&header, content)
    }

    pub(crate) fn file(self, name: &str, content: &[u8]) -> Self {
        self.entry(EntryType::Regular, name, "", content)
    }

    pub(crate) fn directory(self, name: &str) -> Self {
        self.entry(EntryType::Directory, name, "", b"")
    }

    pub(crate) fn symlink(self, name: &str, to: &str) -> Self {
        self.entry(EntryType::Symlink, name, to, b"")
    }

    pub(crate) fn hardlink(self, name: &str, to: &str) -> Self {
        self.entry(EntryType::Link, name, to, b"")
    }

    /// The same entries again.
    pub(crate) fn raw_bytes(mut self, other: &Self) -> Self {
        self.0.extend_from_slice(&other.0);
        self
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

fn put(field: &mut [u8], text: &str) {
    field[..text.len()].copy_from_slice(text.as_bytes());
}

pub(crate) fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(content: &[u8]) -> Vec<u8> {
    let level = ruzstd::encoding::CompressionLevel::Fastest;
    ruzstd::encoding::compress_to_vec(content, level)
}

fn hex(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An image of layers, as they are stored.
pub(crate) struct Parts {
    /// By name.
    pub(crate) files: Vec<(String, Vec<u8>)>,
}

/// The configuration that containers of the image get.
pub(crate) fn config(entrypoint: &[&str], cmd: &[&str]) -> Value {
    json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Entrypoint": entrypoint,
            "Cmd": cmd,
            "Env": ["A=b", "PATH=/opt/bin:/usr/bin"],
            "WorkingDir": "/srv",
        },
    })
}

impl Parts {
    pub(crate) fn oci(layers: &[Vec<u8>], config: &Value) -> Self {
        let mut files = Vec::new();
        let mut blob = |content: Vec<u8>| {
            let name = hex(&content);
            let descriptor = json!({ "digest": format!("sha256:{name}"), "size": content.len() });
            files.push((format!("blobs/sha256/{name}"), content));
            descriptor
        };
        let layers: Vec<Value> = layers.iter().map(|layer| blob(layer.clone())).collect();
        let config = blob(config.to_string().into_bytes());
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers });
        let manifest = blob(manifest.to_string().into_bytes());
        let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
        files.push(("index.json".to_owned(), index.to_string().into_bytes()));
        Self { files }
    }

    /// As old versions of `docker save` write it; the second of equal layers is a link.
    pub(crate) fn docker(layers: &[Vec<u8>], config: &Value) -> Self {
        let mut config = config.clone();
        let ids = layers.iter().map(|layer| format!("sha256:{}", hex(layer)));
        config["rootfs"] = json!({ "type": "layers", "diff_ids": ids.collect::<Vec<_>>() });
        let config = config.to_string().into_bytes();
        let name = format!("{}.json", hex(&config));
        let mut files = vec![(name.clone(), config)];
        let mut names = Vec::new();
        for (layer, index) in layers.iter().zip(0..) {
            names.push(format!("{index}/layer.tar"));
            files.push((format!("{index}/layer.tar"), layer.clone()));
        }
        let manifest = json!([{ "Config": name, "RepoTags": ["web:1"], "Layers": names }]);
        files.push((
            "manifest.json".to_owned(),
            manifest.to_string().into_bytes(),
        ));
        Self { files }
    }

    pub(crate) fn tar(&self) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for (name, content) in &self.files {
            let mut header = Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder
                .append_data(&mut header, name, content.as_slice())
                .unwrap();
        }
        builder.into_inner().unwrap()
    }
}

/// An archive of an image of one layer.
pub(crate) fn image_of(layer: Tar) -> Vec<u8> {
    Parts::oci(&[layer.end()], &config(&["/server"], &[])).tar()
}
