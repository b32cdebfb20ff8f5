//! What addresses and references lead to: a function, a data object, or a symbol that another object
//! may define. Nothing here changes, so that references are looked at on several threads.

use std::ops::Range;

use iced_x86::{Decoder, DecoderOptions, Mnemonic};

use super::data::{self, Objects};
use crate::code::bounds::Bounds;
use crate::code::sweep::{Reference, Sweep, Use};
use crate::elf::{Image, Relocation, Target};
use crate::index::Index;
use crate::parallel;

/// Where something leads within its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// A function or data object.
    Node(u32),
    /// A dynamic symbol, by index.
    Symbol(u32),
    /// A copy of another object's variable of that dynamic symbol's name.
    Copy(u32),
}

/// What one node has to do with another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    pub(super) from: u32,
    pub(super) goal: Goal,
    pub(super) called: bool,
    pub(super) looped: bool,
    /// The reference that says so; none for what is read beside the first word of one.
    pub(super) reference: Option<u32>,
}

/// See the module.
pub(super) struct Resolver<'a> {
    pub(super) image: &'a Image<'a>,
    pub(super) bounds: Bounds,
    pub(super) objects: Objects,
    /// Of the relocations' addresses.
    relocations: Index,
}

/// As many references or relocations are worth a thread.
const WORTH_A_THREAD: usize = 16 * 1024;

/// Bytes of `endbr64`.
const ENDBR64: &[u8] = b"\xf3\x0f\x1e\xfa";

impl<'a> Resolver<'a> {
    pub(super) fn new(image: &'a Image<'a>, bounds: Bounds, objects: Objects) -> Self {
        let relocations = &image.relocations;
        Self {
            image,
            bounds,
            objects,
            relocations: Index::new(relocations.len(), |at| relocations[at].address),
        }
    }

    pub(super) fn function(&self, address: u64) -> Option<u32> {
        let index = self.bounds.containing(address)?;
        u32::try_from(index).ok()
    }

    pub(super) fn functions(&self) -> u32 {
        u32::try_from(self.bounds.ranges.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn object(&self, address: u64) -> Option<u32> {
        let index = u32::try_from(self.objects.containing(address)?).ok()?;
        self.functions().checked_add(index)
    }

    /// What the loader puts into the word at an address.
    pub(super) fn word(&self, address: u64) -> Option<Goal> {
        let relocations = &self.image.relocations;
        let before = address.checked_sub(1);
        let first = before.map_or(0, |before| {
            self.relocations.up_to(before, |at| relocations[at].address)
        });
        let relocation = relocations.get(first).filter(|r| r.address == address)?;
        self.target(relocation.target)
    }

    pub(super) fn target(&self, target: Target) -> Option<Goal> {
        match target {
            Target::Local(address) | Target::Chosen(address) => self.pointer(address),
            Target::Symbol(symbol) => Some(Goal::Symbol(symbol)),
            Target::Copy(symbol) => Some(Goal::Copy(symbol)),
        }
    }

    /// What an address is a pointer to.
    pub(super) fn pointer(&self, address: u64) -> Option<Goal> {
        if let Some(function) = self.function(address) {
            return Some(Goal::Node(function));
        }
        if self.image.is_code(address) {
            return self.linkage(address);
        }
        self.object(address).map(Goal::Node)
    }

    /// What an entry of a procedure linkage table leads to.
    fn linkage(&self, address: u64) -> Option<Goal> {
        let code = self.image.at(address)?;
        let code = &code[..code.len().min(32)];
        if let Some(word) = plain_linkage(address, code) {
            return self.word(word);
        }
        let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
        for _ in 0..3 {
            let instruction = decoder.decode();
            if instruction.mnemonic() == Mnemonic::Jmp && instruction.is_ip_rel_memory_operand() {
                return self.word(instruction.ip_rel_memory_address());
            }
            if !matches!(instruction.mnemonic(), Mnemonic::Endbr64 | Mnemonic::Nop) {
                return None;
            }
        }
        None
    }

    /// Where a direct call or jump leads.
    pub(super) fn code(&self, address: u64) -> Option<Goal> {
        match self.function(address) {
            Some(function) => Some(Goal::Node(function)),
            None => self.linkage(address),
        }
    }

    /// What all references of the code lead to, in their order.
    pub(super) fn links(&self, sweep: &Sweep) -> impl Iterator<Item = Link> + use<> {
        let numbers: Vec<Range<u32>> = blocks(sweep.references.len());
        let found = parallel::pieces(&numbers, 1, |blocks| {
            let mut links = Vec::new();
            for number in blocks.iter().flat_map(Clone::clone) {
                let reference = usize::try_from(number).ok();
                let reference = reference.and_then(|number| sweep.references.get(number));
                if let Some(reference) = reference
                    && let Some(from) = self.function(reference.from)
                {
                    self.reference(from, reference, number, sweep, &mut links);
                }
            }
            links
        });
        found.into_iter().flatten()
    }

    fn reference(
        &self,
        from: u32,
        reference: &Reference,
        number: u32,
        sweep: &Sweep,
        links: &mut Vec<Link>,
    ) {
        let (goal, called) = match reference.how {
            Use::Call | Use::Jump | Use::Fall => (self.code(reference.to), true),
            Use::CallThrough | Use::JumpThrough => (self.word(reference.to), true),
            Use::Address => (self.pointer(reference.to), false),
            Use::Load(size) => {
                let last = (u64::from(size).max(8) - 8) / 8;
                for index in 1..=last {
                    let goal = self.word(reference.to.wrapping_add(index * 8));
                    links.extend(goal.map(|goal| Link {
                        from,
                        goal,
                        called: false,
                        looped: false,
                        reference: None,
                    }));
                }
                (self.word(reference.to), false)
            }
        };
        links.extend(goal.map(|goal| Link {
            from,
            goal,
            called,
            looped: sweep.is_looped(reference.from),
            reference: Some(number),
        }));
    }

    /// What the words of data lead to, in order of their addresses.
    pub(super) fn data_links(&self) -> impl Iterator<Item = (u32, Goal)> + use<> {
        let linkage = data::Linkage::of(self.image);
        let words = &self.image.relocations;
        let found = parallel::pieces(words, WORTH_A_THREAD, |words| {
            let words = words.iter().filter(|word| !linkage.contains(word));
            let link = |word: &Relocation| {
                let from = self.object(word.address)?;
                Some((from, self.target(word.target)?))
            };
            words.filter_map(link).collect::<Vec<_>>()
        });
        found.into_iter().flatten()
    }
}

/// The word that the usual entry of a linkage table jumps by, at its first instruction or after
/// `endbr64`; none for others, which are to be decoded.
fn plain_linkage(address: u64, code: &[u8]) -> Option<u64> {
    let jump = code.strip_prefix(ENDBR64).unwrap_or(code);
    let (displacement, _) = jump.strip_prefix(b"\xff\x25")?.split_first_chunk()?;
    let length = (code.len() - jump.len() + 6) as u64;
    let displacement = i64::from(i32::from_le_bytes(*displacement));
    Some(
        address
            .wrapping_add(length)
            .wrapping_add_signed(displacement),
    )
}

/// The numbers of so many references, by blocks that are worth a thread.
fn blocks(count: usize) -> Vec<Range<u32>> {
    let starts = (0..count).step_by(WORTH_A_THREAD);
    let number = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    let block = |start: usize| number(start)..number((start + WORTH_A_THREAD).min(count));
    starts.map(block).collect()
}
