//! Relocations: where the loader writes a pointer, and to what.

use super::read::{bytes, u32_at, u64_at};
use super::{Image, SHF_ALLOC, SHT_RELA};

/// What the loader writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// An address of this object.
    Local(u64),
    /// What a function of this object returns: the address of one of several implementations.
    Chosen(u64),
    /// A dynamic symbol of this object's table, by index.
    Symbol(u32),
    /// A copy of another object's variable of that name.
    Copy(u32),
}

/// One pointer in data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Relocation {
    pub(crate) address: u64,
    pub(crate) target: Target,
}

const R_64: u32 = 1;
const R_COPY: u32 = 5;
const R_GLOB_DAT: u32 = 6;
const R_JUMP_SLOT: u32 = 7;
const R_RELATIVE: u32 = 8;
const R_IRELATIVE: u32 = 37;
const MAX_RELOCATIONS: usize = 8_000_000;

/// Every relocation that leaves a pointer, sorted by address.
pub(super) fn all(image: &Image<'_>) -> Vec<Relocation> {
    let mut tables: Vec<&[u8]> = Vec::new();
    for (address, size) in &image.dynamic.rela {
        tables.extend(image.at(*address).and_then(|table| bytes(table, 0, *size)));
    }
    if tables.is_empty() {
        // Static programs have no dynamic section, but still choose implementations at start.
        let sections = image.sections.iter();
        let loaded = sections.filter(|s| s.kind == SHT_RELA && s.flags & SHF_ALLOC != 0);
        tables.extend(loaded.filter_map(|section| image.section_bytes(section)));
    }
    let most = tables.iter().map(|table| table.len() / 24).sum::<usize>();
    let mut found: Vec<Relocation> = Vec::with_capacity(most.min(MAX_RELOCATIONS));
    for table in tables {
        let entries = table.chunks_exact(24).take(MAX_RELOCATIONS);
        found.extend(entries.filter_map(|entry| rela(image, entry)));
    }
    if let Some((address, size)) = image.dynamic.relr {
        let table = image.at(address).and_then(|table| bytes(table, 0, size));
        relr(image, table.unwrap_or(&[]), &mut found);
    }
    if image.fixed {
        // A word that the loader fills in means what it will be, not what it is in the file.
        found.sort_unstable();
        let explicit = found.len();
        implied(image, &mut found);
        let mut implied = found.split_off(explicit);
        implied.retain(|r| {
            found
                .binary_search_by_key(&r.address, |own| own.address)
                .is_err()
        });
        found.append(&mut implied);
    }
    // Linkers write them in a few runs.
    found.sort();
    found.dedup();
    found
}

fn rela(image: &Image<'_>, entry: &[u8]) -> Option<Relocation> {
    let address = u64_at(entry, 0)?;
    let kind = u32_at(entry, 8)?;
    let symbol = u32_at(entry, 12)?;
    let addend = u64_at(entry, 16)?;
    let target = match kind {
        R_RELATIVE => Target::Local(addend),
        R_IRELATIVE => Target::Chosen(addend),
        R_COPY => Target::Copy(symbol),
        R_64 | R_GLOB_DAT | R_JUMP_SLOT => {
            let own = image.dynamic.symbols.get(usize::try_from(symbol).ok()?)?;
            if own.defined && !own.global {
                Target::Local(own.value.wrapping_add(addend))
            } else {
                Target::Symbol(symbol)
            }
        }
        _ => return None,
    };
    Some(Relocation { address, target })
}

/// Packed relative relocations (`DT_RELR`): an address, then bitmaps of the words behind it.
fn relr(image: &Image<'_>, table: &[u8], found: &mut Vec<Relocation>) {
    let mut next = 0_u64;
    let mut push = |address: u64| {
        if let Some(value) = image.word(address) {
            let target = Target::Local(value);
            found.push(Relocation { address, target });
        }
    };
    for entry in table.chunks_exact(8).take(MAX_RELOCATIONS / 64) {
        let entry = u64_at(entry, 0).unwrap_or(0);
        if entry & 1 == 0 {
            push(entry);
            next = entry.wrapping_add(8);
        } else {
            for bit in 0..63 {
                if entry >> (bit + 1) & 1 == 1 {
                    push(next.wrapping_add(bit * 8));
                }
            }
            next = next.wrapping_add(63 * 8);
        }
    }
}

/// A program at a fixed address has its pointers filled in by the linker: every aligned word that
/// looks like an address of it counts as one.
fn implied(image: &Image<'_>, found: &mut Vec<Relocation>) {
    for segment in image.segments.iter().filter(|s| !s.executable) {
        let Some(words) = image.at(segment.address) else {
            continue;
        };
        let skip = segment.address.wrapping_neg() % 8;
        let words = bytes(words, skip, (words.len() as u64).saturating_sub(skip));
        for (index, word) in words.unwrap_or(&[]).chunks_exact(8).enumerate() {
            let value = u64_at(word, 0).unwrap_or(0);
            if value >= 4096 && image.is_mapped(value) {
                found.push(Relocation {
                    address: segment.address + skip + index as u64 * 8,
                    target: Target::Local(value),
                });
            }
        }
    }
}
