//! ELF files of x86-64 Linux, as far as the analysis needs them. Every table is bounded by the
//! file; a field that points nowhere is an error or an empty table, never a panic.

/// DT_* entries, dynamic symbols and their versions.
mod dynamic;
/// Numbers at offsets.
pub(crate) mod read;
/// Relocations: where the loader writes a pointer, and to what.
mod relocation;

pub(crate) use dynamic::{Dynamic, Symbol, SymbolKind};
pub(crate) use relocation::{Relocation, Target};

use crate::index::Index;
use read::{bytes, cstr_at, u16_at, u32_at, u64_at};

/// Why a file cannot be analysed as an ELF program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    /// Another format.
    #[error("it is not an ELF file")]
    NotElf,
    /// An ELF file this analysis has no decoder for.
    #[error(
        "it is an ELF file for machine {machine}, class {class}; only 64-bit x86-64 is analysed"
    )]
    Machine {
        /// `e_machine`.
        machine: u16,
        /// `EI_CLASS`: 1 for 32 bits, 2 for 64 bits.
        class: u8,
    },
    /// A header or a table lies outside the file.
    #[error("its {table} lies outside the file: it is truncated or damaged")]
    Truncated {
        /// What could not be read.
        table: &'static str,
    },
    /// It has no code.
    #[error("it has no executable segment")]
    NoCode,
}

/// A piece of the file that the loader maps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment {
    pub(crate) address: u64,
    pub(crate) offset: u64,
    /// Bytes that come from the file.
    pub(crate) size: u64,
    /// Bytes in memory.
    pub(crate) memory: u64,
    pub(crate) executable: bool,
}

/// A section; stripped files still have those that are loaded.
#[derive(Debug, Clone)]
pub(crate) struct Section {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: u32,
    pub(crate) flags: u64,
    pub(crate) address: u64,
    pub(crate) offset: u64,
    pub(crate) size: u64,
    pub(crate) link: u32,
}

pub(crate) const SHT_SYMTAB: u32 = 2;
pub(crate) const SHT_RELA: u32 = 4;
const SHT_NOBITS: u32 = 8;
pub(crate) const SHF_ALLOC: u64 = 2;
pub(crate) const SHF_EXECINSTR: u64 = 4;
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const PT_GNU_EH_FRAME: u32 = 0x6474_e550;
const EM_X86_64: u16 = 62;
const ET_EXEC: u16 = 2;
const MAX_SECTIONS: u64 = 65_536;

/// A parsed file.
#[derive(Debug)]
pub(crate) struct Image<'a> {
    pub(crate) data: &'a [u8],
    pub(crate) segments: Vec<Segment>,
    pub(crate) sections: Vec<Section>,
    pub(crate) dynamic: Dynamic<'a>,
    pub(crate) interpreter: Option<Vec<u8>>,
    pub(crate) entry: u64,
    /// Linked at a fixed address: pointers in it have no relocations.
    pub(crate) fixed: bool,
    /// Symbols of `.symtab`, where it was not stripped.
    pub(crate) symbols: Vec<Symbol<'a>>,
    pub(crate) relocations: Vec<Relocation>,
    /// Of the relocations' addresses.
    index: Index,
    eh_frame_header: Option<(u64, u64)>,
}

impl<'a> Image<'a> {
    pub(crate) fn parse(data: &'a [u8]) -> Result<Self, ElfError> {
        if data.get(..4) != Some(b"\x7fELF") {
            return Err(ElfError::NotElf);
        }
        let header = bytes(data, 0, 64).ok_or(ElfError::Truncated { table: "header" })?;
        let machine = u16_at(header, 18).unwrap_or(0);
        let class = header[4];
        if class != 2 || header[5] != 1 || machine != EM_X86_64 {
            return Err(ElfError::Machine { machine, class });
        }
        let mut image = Self {
            data,
            segments: Vec::new(),
            sections: sections(header, data),
            dynamic: Dynamic::default(),
            interpreter: None,
            entry: u64_at(header, 24).unwrap_or(0),
            fixed: u16_at(header, 16) == Some(ET_EXEC),
            symbols: Vec::new(),
            relocations: Vec::new(),
            index: Index::default(),
            eh_frame_header: None,
        };
        let dynamic = image.program_headers(header)?;
        if !image.segments.iter().any(|segment| segment.executable) {
            return Err(ElfError::NoCode);
        }
        if let Some((address, size)) = dynamic {
            image.dynamic = Dynamic::parse(&image, address, size);
        }
        image.symbols = image.static_symbols();
        image.relocations = relocation::all(&image);
        let relocations = &image.relocations;
        image.index = Index::new(relocations.len(), |at| relocations[at].address);
        Ok(image)
    }

    fn program_headers(&mut self, header: &[u8]) -> Result<Option<(u64, u64)>, ElfError> {
        let truncated = ElfError::Truncated {
            table: "program headers",
        };
        let count = u64::from(u16_at(header, 56).unwrap_or(0));
        let size = u64::from(u16_at(header, 54).unwrap_or(0)).max(56);
        let start = u64_at(header, 32).unwrap_or(0);
        let mut dynamic = None;
        for index in 0..count {
            let at = start.checked_add(index * size);
            let entry = at.and_then(|at| bytes(self.data, at, 56));
            let entry = entry.ok_or_else(|| truncated.clone())?;
            let field = |offset| u64_at(entry, offset).unwrap_or(0);
            let (offset, address, size) = (field(8), field(16), field(32));
            match u32_at(entry, 0).unwrap_or(0) {
                PT_LOAD => {
                    let flags = u32_at(entry, 4).unwrap_or(0);
                    if bytes(self.data, offset, size).is_none() {
                        return Err(ElfError::Truncated { table: "segments" });
                    }
                    if address.checked_add(field(40).max(size)).is_none() {
                        continue;
                    }
                    self.segments.push(Segment {
                        address,
                        offset,
                        size,
                        memory: field(40).max(size),
                        executable: flags & 1 != 0,
                    });
                }
                PT_DYNAMIC => dynamic = Some((address, size)),
                PT_INTERP => {
                    let path = bytes(self.data, offset, size.min(4096));
                    self.interpreter = path
                        .map(|path| path.iter().copied().take_while(|byte| *byte != 0).collect());
                }
                PT_GNU_EH_FRAME => self.eh_frame_header = Some((address, size)),
                _ => {}
            }
        }
        Ok(dynamic)
    }

    fn static_symbols(&self) -> Vec<Symbol<'a>> {
        let mut found = Vec::new();
        for table in self.sections.iter().filter(|s| s.kind == SHT_SYMTAB) {
            let index = usize::try_from(table.link).unwrap_or(usize::MAX);
            let (Some(symbols), Some(strings)) = (
                bytes(self.data, table.offset, table.size),
                self.sections.get(index),
            ) else {
                continue;
            };
            let Some(names) = bytes(self.data, strings.offset, strings.size) else {
                continue;
            };
            let entries = symbols.chunks_exact(24);
            found.extend(entries.map(|entry| Symbol::parse(entry, names)));
        }
        found
    }

    /// The file's bytes at an address, up to the end of what the file has there.
    pub(crate) fn at(&self, address: u64) -> Option<&'a [u8]> {
        let segment = self
            .segments
            .iter()
            .find(|s| address >= s.address && address - s.address < s.size)?;
        let from = address - segment.address;
        bytes(self.data, segment.offset + from, segment.size - from)
    }

    pub(crate) fn word(&self, address: u64) -> Option<u64> {
        u64_at(self.at(address)?, 0)
    }

    pub(crate) fn string(&self, address: u64, max: usize) -> Option<&'a [u8]> {
        cstr_at(self.at(address)?, 0, max)
    }

    /// Whether code of this file lies there.
    pub(crate) fn is_code(&self, address: u64) -> bool {
        self.segments
            .iter()
            .any(|s| s.executable && address >= s.address && address - s.address < s.size)
    }

    /// Whether anything of this file lies there in memory.
    pub(crate) fn is_mapped(&self, address: u64) -> bool {
        self.segments
            .iter()
            .any(|s| address >= s.address && address - s.address < s.memory)
    }

    /// The relocations from an address on, in order.
    pub(crate) fn relocations_from(&self, address: u64) -> &[Relocation] {
        let all = &self.relocations;
        let before = address.checked_sub(1);
        let first = before.map_or(0, |at| self.index.up_to(at, |at| all[at].address));
        all.get(first..).unwrap_or(&[])
    }

    pub(crate) fn section(&self, name: &[u8]) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    pub(crate) fn section_bytes(&self, section: &Section) -> Option<&'a [u8]> {
        if section.kind == SHT_NOBITS {
            return None;
        }
        bytes(self.data, section.offset, section.size)
    }

    /// Where code lies: `(address, bytes)`, without overlap, in order. Sections where the file has
    /// them, else whole segments; linkage tables are left to whoever follows a call into them.
    pub(crate) fn code(&self) -> Vec<(u64, &'a [u8])> {
        let wanted = SHF_ALLOC | SHF_EXECINSTR;
        let sections = self.sections.iter().filter(|section| {
            section.flags & wanted == wanted && !section.name.starts_with(b".plt")
        });
        let mut ranges: Vec<(u64, &[u8])> = sections
            .filter(|section| self.is_code(section.address))
            .filter_map(|section| {
                let mapped = self.at(section.address)?;
                let size = usize::try_from(section.size).ok()?.min(mapped.len());
                Some((section.address, mapped.get(..size)?))
            })
            .collect();
        if ranges.is_empty() {
            let segments = self.segments.iter().filter(|segment| segment.executable);
            ranges.extend(segments.filter_map(|s| Some((s.address, self.at(s.address)?))));
        }
        ranges.sort_by_key(|(address, _)| *address);
        let mut end = 0;
        ranges.retain(|(address, code)| {
            let free = *address >= end && !code.is_empty();
            if free {
                end = address.saturating_add(code.len() as u64);
            }
            free
        });
        ranges
    }

    /// `.eh_frame` and its address, by section or by way of its header.
    pub(crate) fn eh_frame(&self) -> Option<(u64, &'a [u8])> {
        if let Some(section) = self.section(b".eh_frame") {
            return Some((section.address, self.section_bytes(section)?));
        }
        let (address, size) = self.eh_frame_header?;
        let header = bytes(self.at(address)?, 0, size)?;
        // version 1, pointer encoded as pc-relative sdata4: what every linker writes.
        if header.get(..2) != Some(&[1, 0x1b]) {
            return None;
        }
        let relative = i64::from(u32_at(header, 4)?.cast_signed());
        let start = address.checked_add(4)?.checked_add_signed(relative)?;
        Some((start, self.at(start)?))
    }
}

fn sections(header: &[u8], data: &[u8]) -> Vec<Section> {
    let start = u64_at(header, 40).unwrap_or(0);
    let size = u64::from(u16_at(header, 58).unwrap_or(0)).max(64);
    let field = |index: u64, offset: u64| {
        let at = start.checked_add(index.checked_mul(size)?)?;
        u64_at(data, at.checked_add(offset)?)
    };
    if start == 0 {
        return Vec::new();
    }
    let mut count = u64::from(u16_at(header, 60).unwrap_or(0));
    if count == 0 {
        count = field(0, 32).unwrap_or(0);
    }
    let names = u64::from(u16_at(header, 62).unwrap_or(0));
    let names = field(names, 24).zip(field(names, 32));
    let names = names.and_then(|(offset, size)| bytes(data, offset, size));
    let section = |index| {
        let at = start.checked_add(size * index)?;
        let entry = bytes(data, at, 64)?;
        let name = u64::from(u32_at(entry, 0)?);
        Some(Section {
            name: names
                .and_then(|names| cstr_at(names, name, 256))
                .unwrap_or(b"")
                .to_vec(),
            kind: u32_at(entry, 4)?,
            flags: u64_at(entry, 8)?,
            address: u64_at(entry, 16)?,
            offset: u64_at(entry, 24)?,
            size: u64_at(entry, 32)?,
            link: u32_at(entry, 40)?,
        })
    };
    (0..count.min(MAX_SECTIONS)).map_while(section).collect()
}
