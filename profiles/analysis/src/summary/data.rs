//! Data cut into the objects that pointers lead to. A table of function pointers makes its
//! functions reachable only where something that is reachable refers to the table.
//!
//! Without symbols nothing says where a variable ends. A cut is made where a known symbol starts or
//! ends, and where something refers to an address that is a multiple of 32: compilers align
//! variables of 32 bytes and more to that (the x86-64 ABI asks for 16, GCC uses 32). Smaller ones
//! stay with what lies before them, which makes more reachable, not less. A reference into the middle of an object is one to the whole
//! object.

use crate::elf::{Image, Relocation, SymbolKind, Target};
use crate::index::Index;

/// Data with pointers in it, in order of address.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    /// Start of each, and where the last one ends.
    starts: Vec<u64>,
    ends: Vec<u64>,
    /// Of the starts.
    index: Index,
}

/// Sections whose words are only read one at a time, by name of what they stand for.
const LINKAGE: &[&[u8]] = &[b".got", b".got.plt", b".plt.got"];

/// Sections of the linker's own making hold many variables; any other with a name of letters is a
/// list that code walks from its first to its last byte (`__start_NAME`).
fn is_list(name: &[u8]) -> bool {
    let plain = name.iter().all(|c| c.is_ascii_alphanumeric() || *c == b'_');
    // glibc keeps stdio's tables there, each one referred to by itself; only bounds are checked.
    plain && !name.is_empty() && name != b"__libc_IO_vtables"
}

impl Objects {
    /// Cuts at the addresses in `referred`, which are sorted.
    pub(crate) fn cut(image: &Image<'_>, referred: &[u64]) -> Self {
        let mut extents: Vec<(u64, u64)> = image
            .symbols
            .iter()
            .chain(&image.dynamic.symbols)
            .filter(|s| s.defined && s.kind == SymbolKind::Data && s.size > 0)
            .filter_map(|s| Some((s.value, s.value.checked_add(s.size)?)))
            .collect();
        let lists = image
            .sections
            .iter()
            .filter(|s| is_list(&s.name) && s.address != 0);
        extents.extend(lists.filter_map(|s| Some((s.address, s.address.checked_add(s.size)?))));
        extents.sort_unstable();
        let extents = merged(&extents);

        let mut cuts: Vec<u64> = referred.iter().copied().filter(|at| at % 32 == 0).collect();
        cuts.retain(|at| {
            let index = extents.partition_point(|(start, _)| start <= at);
            index == 0 || *at >= extents[index - 1].1
        });
        cuts.extend(extents.iter().flat_map(|(start, end)| [*start, *end]));
        cuts.extend(image.sections.iter().map(|section| section.address));
        cuts.extend(image.segments.iter().map(|segment| segment.address));
        cuts.sort_unstable();
        cuts.dedup();

        let mut objects = Self::default();
        for relocation in pointers(image) {
            let address = relocation.address;
            if objects.ends.last().is_some_and(|end| address < *end) {
                continue;
            }
            let next = cuts.partition_point(|cut| *cut <= address);
            let start = next.checked_sub(1).map_or(address, |index| cuts[index]);
            objects.starts.push(start);
            objects
                .ends
                .push(cuts.get(next).copied().unwrap_or(u64::MAX));
        }
        let starts = &objects.starts;
        objects.index = Index::new(starts.len(), |at| starts[at]);
        objects
    }

    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    pub(crate) fn starts(&self) -> &[u64] {
        &self.starts
    }

    /// The object that an address lies in.
    pub(crate) fn containing(&self, address: u64) -> Option<usize> {
        let index = self.index.up_to(address, |at| self.starts[at]);
        let index = index.checked_sub(1)?;
        (address < self.ends[index]).then_some(index)
    }
}

/// Where the words of linkage tables lie.
pub(crate) struct Linkage(Vec<(u64, u64)>);

impl Linkage {
    pub(crate) fn of(image: &Image<'_>) -> Self {
        let sections = LINKAGE.iter().filter_map(|name| image.section(name));
        let extents = sections.filter_map(|s| Some((s.address, s.address.checked_add(s.size)?)));
        Self(extents.collect())
    }

    pub(crate) fn contains(&self, relocation: &Relocation) -> bool {
        let at = relocation.address;
        self.0.iter().any(|(start, end)| at >= *start && at < *end)
    }
}

/// Relocations that make data refer to something, in order of address.
pub(crate) fn pointers<'a>(image: &'a Image<'_>) -> impl Iterator<Item = &'a Relocation> {
    let linkage = Linkage::of(image);
    let relocations = image.relocations.iter();
    relocations.filter(move |relocation| !linkage.contains(relocation))
}

/// The local address a relocation leads to.
pub(crate) fn local(target: Target) -> Option<u64> {
    match target {
        Target::Local(address) | Target::Chosen(address) => Some(address),
        Target::Symbol(_) | Target::Copy(_) => None,
    }
}

/// Sorted extents, overlapping ones joined.
fn merged(extents: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut merged: Vec<(u64, u64)> = Vec::new();
    for (start, end) in extents {
        match merged.last_mut() {
            Some(last) if *start < last.1 => last.1 = last.1.max(*end),
            _ => merged.push((*start, *end)),
        }
    }
    merged
}
