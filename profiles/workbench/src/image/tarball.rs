//! The entries of a tar archive, with their long names, bounded. The crate's own handling of long
//! names reads as many bytes into memory as the archive says; here a name has at most 64 KiB.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use tar::{Entries, EntryType, PaxExtensions};

use super::error::Refusal;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    Symlink,
    Hardlink,
    Device,
    Pipe,
    Other,
}

/// An entry, without its content.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: OsString,
    /// Of a link: what it leads to.
    pub(super) link: OsString,
    pub(super) kind: Kind,
    pub(super) size: u64,
    /// The permissions.
    pub(super) mode: u32,
    /// Where the content begins in the archive.
    pub(super) offset: u64,
    /// What is wrong with it.
    pub(super) refused: Option<Refusal>,
}

/// The longest description of an entry, in bytes.
const MAX_EXTENSION: u64 = 64 * 1024;

/// What descriptions said of the entry that follows them.
#[derive(Default)]
struct Said {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    refused: Option<Refusal>,
}

/// Goes through an archive until it ends, or `visit` gives an error.
pub(super) fn each<R: Read, E>(
    entries: Entries<'_, R>,
    failed: impl Fn(io::Error) -> E,
    mut visit: impl FnMut(&Member, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    let mut said = Said::default();
    for entry in entries.raw(true) {
        let mut entry = entry.map_err(&failed)?;
        let kind = entry.header().entry_type();
        let size = entry.size();
        if matches!(
            kind,
            EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader
        ) {
            let mut bytes = Vec::new();
            let mut content = entry.by_ref().take(MAX_EXTENSION);
            content.read_to_end(&mut bytes).map_err(&failed)?;
            if size > MAX_EXTENSION {
                said.refused = Some(Refusal::Long);
            }
            said.hear(kind, bytes);
            continue;
        }
        if kind == EntryType::XGlobalHeader {
            continue;
        }
        let said = std::mem::take(&mut said);
        let header = entry.header();
        let link = entry.header().link_name_bytes().unwrap_or_default();
        let member = Member {
            name: OsString::from_vec(
                said.name
                    .unwrap_or_else(|| header.path_bytes().into_owned()),
            ),
            link: OsString::from_vec(said.link.unwrap_or_else(|| link.into_owned())),
            kind: kind_of(kind),
            size,
            mode: header.mode().unwrap_or(0),
            offset: entry.raw_file_position(),
            refused: match said.size {
                Some(other) if other != size => Some(Refusal::Ambiguous),
                _ if kind == EntryType::GNUSparse => Some(Refusal::Ambiguous),
                _ => said.refused,
            },
        };
        visit(&member, &mut entry)?;
    }
    Ok(())
}

impl Said {
    fn hear(&mut self, kind: EntryType, mut bytes: Vec<u8>) {
        match kind {
            EntryType::GNULongName | EntryType::GNULongLink => {
                let end = bytes.iter().position(|byte| *byte == 0);
                bytes.truncate(end.unwrap_or(bytes.len()));
                match kind {
                    EntryType::GNULongName => self.name = Some(bytes),
                    _ => self.link = Some(bytes),
                }
            }
            _ => {
                for extension in PaxExtensions::new(&bytes) {
                    let Ok(extension) = extension else {
                        self.refused = Some(Refusal::Ambiguous);
                        return;
                    };
                    let value = extension.value_bytes();
                    match extension.key_bytes() {
                        b"path" => self.name = Some(value.to_vec()),
                        b"linkpath" => self.link = Some(value.to_vec()),
                        b"size" => {
                            let size = OsStr::from_bytes(value).to_str();
                            self.size = size.and_then(|text| text.parse().ok());
                            if self.size.is_none() {
                                self.refused = Some(Refusal::Ambiguous);
                            }
                        }
                        key if key.starts_with(b"GNU.sparse.") => {
                            self.refused = Some(Refusal::Ambiguous);
                        }
                        _ => {}
                    }
                }
            }
        }
    }
}

fn kind_of(kind: EntryType) -> Kind {
    match kind {
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Symlink,
        EntryType::Link => Kind::Hardlink,
        EntryType::Char | EntryType::Block => Kind::Device,
        EntryType::Fifo => Kind::Pipe,
        _ => Kind::Other,
    }
}
