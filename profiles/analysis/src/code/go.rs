//! Go's function table (`.gopclntab`), which stripped programs keep: the runtime needs it.

use crate::elf::Image;
use crate::elf::read::{cstr_at, u32_at, u64_at};

/// Whether the file was built by the Go toolchain.
pub(crate) fn is_go(image: &Image<'_>) -> bool {
    image.section(b".gopclntab").is_some()
        || image.section(b".go.buildinfo").is_some()
        || image.section(b".note.go.buildid").is_some()
}

const MAX_FUNCTIONS: u64 = 1_000_000;

/// Every function's address and name. Empty for other programs, and for Go before 1.18.
pub(crate) fn functions(image: &Image<'_>) -> Vec<(u64, String)> {
    let table = image
        .section(b".gopclntab")
        .or_else(|| image.section(b".data.rel.ro.gopclntab"))
        .and_then(|section| image.section_bytes(section));
    table.and_then(parse).unwrap_or_default()
}

/// The layout of `runtime.pcHeader` since Go 1.18, 1.20: magic, two zeroes, instruction size,
/// pointer size, then words: number of functions, of files, start of text, and offsets.
fn parse(table: &[u8]) -> Option<Vec<(u64, String)>> {
    let magic = u32_at(table, 0)?;
    if !matches!(magic, 0xffff_fff0 | 0xffff_fff1) || table.get(7) != Some(&8) {
        return None;
    }
    let count = u64_at(table, 8)?.min(MAX_FUNCTIONS);
    let text = u64_at(table, 24)?;
    let names = u64_at(table, 32)?;
    let entries = u64_at(table, 64)?;
    let mut found = Vec::new();
    for index in 0..count {
        let at = entries.checked_add(index * 8)?;
        let (Some(start), Some(data)) = (u32_at(table, at), u32_at(table, at + 4)) else {
            break;
        };
        let name = entries
            .checked_add(data.into())
            .and_then(|function| u32_at(table, function.checked_add(4)?))
            .and_then(|name| cstr_at(table, names.checked_add(name.into())?, 1024))
            .unwrap_or(b"");
        let name = String::from_utf8_lossy(name).into_owned();
        found.push((text.wrapping_add(start.into()), name));
    }
    Some(found)
}
