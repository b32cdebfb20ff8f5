//! The dynamic section: what the loader is told.

use super::Image;
use super::read::{bytes, cstr_at, u16_at, u32_at, u64_at};

/// What a symbol names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SymbolKind {
    Function,
    /// Its value is a function that chooses the function.
    Indirect,
    Data,
    Other,
}

/// An entry of a symbol table.
#[derive(Debug, Clone)]
pub(crate) struct Symbol<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) value: u64,
    pub(crate) size: u64,
    pub(crate) kind: SymbolKind,
    pub(crate) defined: bool,
    /// Visible to other objects.
    pub(crate) global: bool,
    /// Index into the version tables.
    version: u16,
}

const MAX_NAME: usize = 4096;

impl<'a> Symbol<'a> {
    pub(super) fn parse(entry: &[u8], names: &'a [u8]) -> Self {
        let info = entry.get(4).copied().unwrap_or(0);
        let section = u16_at(entry, 6).unwrap_or(0);
        let name = u64::from(u32_at(entry, 0).unwrap_or(0));
        Self {
            name: cstr_at(names, name, MAX_NAME).unwrap_or(b""),
            value: u64_at(entry, 8).unwrap_or(0),
            size: u64_at(entry, 16).unwrap_or(0),
            kind: match info & 15 {
                2 => SymbolKind::Function,
                10 => SymbolKind::Indirect,
                1 => SymbolKind::Data,
                _ => SymbolKind::Other,
            },
            // SHN_UNDEF; SHN_ABS marks version names.
            defined: section != 0 && section != 0xfff1,
            global: matches!(info >> 4, 1 | 2 | 10),
            version: 0,
        }
    }
}

/// A version of a symbol, and whether it is the one to use by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) default: bool,
}

/// Everything of the dynamic section that is used.
#[derive(Debug, Default)]
pub(crate) struct Dynamic<'a> {
    pub(crate) needed: Vec<Vec<u8>>,
    pub(crate) soname: Option<Vec<u8>>,
    pub(crate) rpath: Option<Vec<u8>>,
    pub(crate) runpath: Option<Vec<u8>>,
    pub(crate) symbols: Vec<Symbol<'a>>,
    /// Functions the loader calls: initialisers and finalisers.
    pub(crate) called: Vec<u64>,
    /// Arrays of such functions: address and size.
    pub(crate) arrays: Vec<(u64, u64)>,
    /// Relocation tables: address and size.
    pub(super) rela: Vec<(u64, u64)>,
    pub(super) relr: Option<(u64, u64)>,
    versions: Vec<Option<Version<'a>>>,
}

const MAX_ENTRIES: usize = 4096;
const MAX_SYMBOLS: u64 = 4_000_000;

impl<'a> Dynamic<'a> {
    pub(super) fn parse(image: &Image<'a>, address: u64, size: u64) -> Self {
        let mut tags: Vec<(u64, u64)> = Vec::new();
        let table = image.at(address).unwrap_or(&[]);
        let size = usize::try_from(size).unwrap_or(usize::MAX).min(table.len());
        for entry in table[..size].chunks_exact(16).take(MAX_ENTRIES) {
            match (u64_at(entry, 0), u64_at(entry, 8)) {
                (Some(tag), Some(value)) if tag != 0 => tags.push((tag, value)),
                _ => break,
            }
        }
        let one = |tag: u64| tags.iter().find(|(own, _)| *own == tag).map(|(_, v)| *v);
        let strings = one(5).and_then(|at| image.at(at)).unwrap_or(&[]);
        let strings = match one(10).and_then(|size| usize::try_from(size).ok()) {
            Some(size) => &strings[..size.min(strings.len())],
            None => strings,
        };
        let text = |offset: u64| cstr_at(strings, offset, MAX_NAME).map(<[u8]>::to_vec);
        let pair = |start: u64, size: u64| one(start).zip(one(size));
        let mut dynamic = Self {
            needed: tags
                .iter()
                .filter(|(tag, _)| *tag == 1)
                .filter_map(|(_, value)| text(*value))
                .collect(),
            soname: one(14).and_then(text),
            rpath: one(15).and_then(text),
            runpath: one(29).and_then(text),
            called: [12, 13].into_iter().filter_map(one).collect(),
            arrays: [(25, 27), (26, 28), (32, 33)]
                .into_iter()
                .filter_map(|(start, size)| pair(start, size))
                .collect(),
            rela: [(7, 8), (23, 2)]
                .into_iter()
                .filter_map(|(start, size)| pair(start, size))
                .collect(),
            relr: pair(36, 35),
            ..Self::default()
        };
        if let Some(symbols) = one(6).and_then(|at| image.at(at)) {
            let count = count(image, one(4), one(0x6fff_fef5), &dynamic.rela).min(MAX_SYMBOLS);
            let versions = one(0x6fff_fff0).and_then(|at| image.at(at)).unwrap_or(&[]);
            let entries = symbols.chunks_exact(24).zip(0..count);
            dynamic.symbols = entries
                .map(|(entry, index)| Symbol {
                    version: u16_at(versions, index * 2).unwrap_or(0),
                    ..Symbol::parse(entry, strings)
                })
                .collect();
        }
        dynamic.read_definitions(image, one(0x6fff_fffc), strings);
        dynamic.read_needs(image, one(0x6fff_fffe), strings);
        dynamic
    }

    /// The version of a symbol: none for an unversioned one.
    pub(crate) fn version(&self, symbol: &Symbol<'_>) -> Option<Version<'a>> {
        let index = usize::from(symbol.version & 0x7fff);
        let version = (*self.versions.get(index)?)?;
        Some(Version {
            default: symbol.version & 0x8000 == 0,
            ..version
        })
    }

    fn set_version(&mut self, index: u16, name: Option<&'a [u8]>) {
        let index = usize::from(index & 0x7fff);
        // 0 is local, 1 global; both say nothing of a version.
        if let (Some(name), 2..) = (name, index) {
            if self.versions.len() <= index {
                self.versions.resize(index + 1, None);
            }
            self.versions[index] = Some(Version {
                name,
                default: true,
            });
        }
    }

    fn read_definitions(&mut self, image: &Image<'a>, address: Option<u64>, strings: &'a [u8]) {
        let Some(table) = address.and_then(|at| image.at(at)) else {
            return;
        };
        let mut at = 0;
        for _ in 0..MAX_ENTRIES {
            let (Some(index), Some(first), Some(next)) = (
                u16_at(table, at + 4),
                u32_at(table, at + 12),
                u32_at(table, at + 16),
            ) else {
                return;
            };
            let name = u32_at(table, at + u64::from(first)).unwrap_or(u32::MAX);
            self.set_version(index, cstr_at(strings, name.into(), MAX_NAME));
            if next == 0 {
                return;
            }
            at += u64::from(next);
        }
    }

    fn read_needs(&mut self, image: &Image<'a>, address: Option<u64>, strings: &'a [u8]) {
        let Some(table) = address.and_then(|at| image.at(at)) else {
            return;
        };
        let mut at = 0;
        for _ in 0..MAX_ENTRIES {
            let (Some(first), Some(next)) = (u32_at(table, at + 8), u32_at(table, at + 12)) else {
                return;
            };
            let mut inner = at + u64::from(first);
            for _ in 0..MAX_ENTRIES {
                let (Some(index), Some(name), Some(step)) = (
                    u16_at(table, inner + 6),
                    u32_at(table, inner + 8),
                    u32_at(table, inner + 12),
                ) else {
                    break;
                };
                self.set_version(index, cstr_at(strings, name.into(), MAX_NAME));
                if step == 0 {
                    break;
                }
                inner += u64::from(step);
            }
            if next == 0 {
                return;
            }
            at += u64::from(next);
        }
    }
}

/// The symbol table has no length of its own: the hash tables and the relocations imply it.
fn count(image: &Image<'_>, hash: Option<u64>, gnu: Option<u64>, rela: &[(u64, u64)]) -> u64 {
    if let Some(count) = hash
        .and_then(|at| image.at(at))
        .and_then(|table| u32_at(table, 4))
    {
        return count.into();
    }
    let hashed = gnu
        .and_then(|at| image.at(at))
        .and_then(count_by_gnu_hash)
        .unwrap_or(0);
    let mut count = hashed;
    for (address, size) in rela {
        let table = image.at(*address).and_then(|table| {
            let size = (*size).min(table.len() as u64);
            bytes(table, 0, size)
        });
        for entry in table.unwrap_or(&[]).chunks_exact(24) {
            let info = u64_at(entry, 8).unwrap_or(0);
            count = count.max((info >> 32) + 1);
        }
    }
    count
}

fn count_by_gnu_hash(table: &[u8]) -> Option<u64> {
    let buckets = u64::from(u32_at(table, 0)?);
    let first = u64::from(u32_at(table, 4)?);
    let bloom = u64::from(u32_at(table, 8)?);
    let start = 16 + bloom * 8;
    let mut last = 0;
    for index in 0..buckets {
        last = last.max(u64::from(u32_at(table, start + index * 4)?));
    }
    if last < first {
        return Some(first);
    }
    // The chain of the last bucket ends with an entry whose lowest bit is set.
    let chains = start + buckets * 4;
    while u32_at(table, chains + (last - first) * 4)? & 1 == 0 {
        last += 1;
    }
    Some(last + 1)
}
