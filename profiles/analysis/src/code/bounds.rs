//! Where functions start and end: unwind tables, symbols, Go's table, and for what those leave
//! out, the targets of calls and pointers.

use std::collections::BTreeMap;

use gimli::{BaseAddresses, EhFrame, LittleEndian, UnwindSection as _};

use super::go;
use crate::elf::{Image, SymbolKind, Target};
use crate::index::Index;

/// A stretch of code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// One function by a table's word, not just what lies between two.
    pub(crate) known: bool,
}

/// What the tables say.
#[derive(Debug, Default)]
pub(crate) struct Bounds {
    /// All code, in order, without overlap.
    pub(crate) ranges: Vec<Range>,
    /// Functions that unwinding calls.
    pub(crate) personalities: Vec<u64>,
    /// Exceptions are caught in other parts of a function than where they are thrown: code is
    /// entered that nothing refers to.
    pub(crate) catches: bool,
    /// Go's function names by address.
    pub(crate) go: Vec<(u64, String)>,
    /// Of the ranges.
    index: Index,
}

/// Where a function starts by the word of a table, and where it ends; 0 where only the start is known.
type Known = (u64, u64);

/// What to make of several ends for one start.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    /// The last one counts.
    Last,
    /// The largest one counts.
    Largest,
}

const MAX_FUNCTIONS: usize = 2_000_000;

impl Bounds {
    pub(crate) fn find(image: &Image<'_>) -> Self {
        let mut bounds = Self::default();
        let mut known: Vec<(Known, Word)> = Vec::new();
        bounds.unwind_tables(image, &mut known);
        bounds.go = go::functions(image);
        known.extend(bounds.go.iter().map(|(start, _)| ((*start, 0), Word::Last)));
        let symbols = image.symbols.iter().chain(&image.dynamic.symbols);
        for symbol in symbols.filter(|symbol| symbol.defined) {
            if matches!(symbol.kind, SymbolKind::Function | SymbolKind::Indirect) {
                let end = symbol.value.saturating_add(symbol.size);
                let end = if symbol.size == 0 { 0 } else { end };
                known.push(((symbol.value, end), Word::Largest));
            }
        }
        bounds.partition(image, &settled(known));
        bounds
    }

    fn unwind_tables(&mut self, image: &Image<'_>, known: &mut Vec<(Known, Word)>) {
        let Some((address, data)) = image.eh_frame() else {
            return;
        };
        let frames = EhFrame::new(data, LittleEndian);
        let bases = BaseAddresses::default().set_eh_frame(address);
        let mut entries = frames.entries(&bases);
        let mut cies = BTreeMap::new();
        while let Ok(Some(entry)) = entries.next() {
            let gimli::CieOrFde::Fde(partial) = entry else {
                if let gimli::CieOrFde::Cie(cie) = entry {
                    self.personalities.extend(personality(image, &cie));
                }
                continue;
            };
            let parsed = partial.parse(|section, bases, offset| {
                if let Some(cie) = cies.get(&offset.0) {
                    return Ok::<gimli::CommonInformationEntry<_>, gimli::Error>(Clone::clone(cie));
                }
                let cie = section.cie_from_offset(bases, offset)?;
                cies.insert(offset.0, cie.clone());
                Ok(cie)
            });
            if let Ok(fde) = parsed {
                self.catches |= catches_elsewhere(image, &fde);
                let end = fde.initial_address().saturating_add(fde.len());
                // The entry of a signal's return starts a byte early, for unwinders that look at
                // the instruction before a return address.
                let early = u64::from(fde.cie().is_signal_trampoline());
                let start = fde.initial_address().saturating_add(early);
                known.push(((start, end), Word::Last));
            }
            if known.len() > MAX_FUNCTIONS {
                break;
            }
        }
    }

    /// Cuts all code at the known starts.
    fn partition(&mut self, image: &Image<'_>, known: &[Known]) {
        for (address, code) in image.code() {
            let end = address + code.len() as u64;
            let mut at = address;
            let first = known.partition_point(|(start, _)| *start < address);
            let inside = known.iter().skip(first);
            let mut inside = inside.take_while(|(start, _)| *start < end).peekable();
            while let Some((start, stop)) = inside.next() {
                self.gap(code, address, at, *start);
                at = (*start).max(at);
                let next = inside.peek().map_or(end, |(next, _)| *next);
                let stop = if *stop == 0 { next } else { (*stop).min(next) };
                if stop > *start {
                    self.ranges.push(Range {
                        start: *start,
                        end: stop,
                        known: true,
                    });
                    at = stop;
                }
            }
            self.gap(code, address, at, end);
        }
        self.index();
    }

    fn index(&mut self) {
        let ranges = &self.ranges;
        self.index = Index::new(ranges.len(), |at| ranges[at].start);
    }

    /// What lies between two known functions, unless it is padding.
    fn gap(&mut self, code: &[u8], base: u64, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let offset = |at: u64| usize::try_from(at - base).unwrap_or(usize::MAX);
        let bytes = code.get(offset(start)..offset(end)).unwrap_or(&[]);
        if bytes.iter().all(|byte| PADDING.contains(byte)) {
            return;
        }
        self.ranges.push(Range {
            start,
            end,
            known: false,
        });
    }

    /// Cuts the ranges that no table knows at the starts that references imply, and says between
    /// which neighbours control falls through: `(last byte of the one, start of the other)`.
    pub(crate) fn refine(&mut self, starts: &[u64], breaks: &[u64]) -> Vec<(u64, u64)> {
        let mut falls = Vec::new();
        let mut refined = Vec::with_capacity(self.ranges.len());
        for range in &self.ranges {
            if range.known {
                refined.push(*range);
                continue;
            }
            let mut start = range.start;
            let first = starts.partition_point(|at| *at <= start);
            for cut in starts[first..].iter().take_while(|at| **at < range.end) {
                let last = breaks.partition_point(|at| at <= cut);
                // Padding between a function's end and the next start is at most 15 bytes.
                let broken = last > 0 && cut - breaks[last - 1] < 16;
                if !broken {
                    falls.push((cut - 1, *cut));
                }
                refined.push(Range {
                    start,
                    end: *cut,
                    known: false,
                });
                start = *cut;
            }
            refined.push(Range {
                start,
                end: range.end,
                known: false,
            });
        }
        self.ranges = refined;
        self.index();
        falls
    }

    /// Whether an address lies in a range that no table knows.
    pub(crate) fn is_unknown(&self, address: u64) -> bool {
        let index = self.containing(address);
        index.is_some_and(|index| !self.ranges[index].known)
    }

    /// Which range an address lies in.
    pub(crate) fn containing(&self, address: u64) -> Option<usize> {
        let ranges = &self.ranges;
        let index = self.index.up_to(address, |at| ranges[at].start);
        let index = index.checked_sub(1)?;
        (address < self.ranges[index].end).then_some(index)
    }
}

/// One end for each start, in order.
fn settled(mut known: Vec<(Known, Word)>) -> Vec<Known> {
    // In runs already, and what comes later has to stay behind what came before.
    known.sort_by_key(|((start, _), _)| *start);
    let mut settled: Vec<Known> = Vec::with_capacity(known.len());
    for ((start, end), word) in known {
        match settled.last_mut() {
            Some(last) if last.0 == start => {
                let larger = word == Word::Last || end > last.1;
                if larger {
                    last.1 = end;
                }
            }
            _ => settled.push((start, end)),
        }
    }
    settled
}

/// Bytes of `int3`, zeroes, and the long forms of `nop`.
const PADDING: &[u8] = &[
    0xcc, 0x00, 0x90, 0x66, 0x0f, 0x1f, 0x2e, 0x40, 0x44, 0x80, 0x84,
];

/// Whether a function's exception table says where its landing pads lie. GCC leaves that out: its
/// pads lie in the part of the function that throws.
fn catches_elsewhere<R: gimli::Reader<Offset = usize>>(
    image: &Image<'_>,
    fde: &gimli::FrameDescriptionEntry<R>,
) -> bool {
    const OMITTED: u8 = 0xff;
    let Some(gimli::Pointer::Direct(table)) = fde.lsda() else {
        return false;
    };
    let start = image.at(table).and_then(|table| table.first());
    start.is_some_and(|encoding| *encoding != OMITTED)
}

fn personality(
    image: &Image<'_>,
    cie: &gimli::CommonInformationEntry<gimli::EndianSlice<'_, LittleEndian>>,
) -> Option<u64> {
    Some(match cie.personality()? {
        gimli::Pointer::Direct(at) => at,
        // The word there is relocated: the relocation's own address stands for it.
        gimli::Pointer::Indirect(at) => {
            let local = image
                .relocations
                .binary_search_by_key(&at, |relocation| relocation.address)
                .ok()
                .map(|index| image.relocations[index].target);
            match local {
                Some(Target::Local(target)) => target,
                _ => at,
            }
        }
    })
}
