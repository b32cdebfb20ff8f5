//! What addresses and references lead to: a function, a data object, or a symbol that another object
//! may define. Nothing here changes, so that references are looked at on several threads.

use iced_x86::{Decoder, DecoderOptions, Mnemonic};

use super::data::{self, Objects};
use crate::code::bounds::Bounds;
use crate::code::sweep::{Reference, Sweep, Use, words};
use crate::elf::{Image, Relocation, Target};
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
}

/// What a stretch of code has to do with the rest.
#[derive(Debug, Default)]
pub(super) struct Links {
    pub(super) all: Vec<Link>,
    /// References to symbols whose arguments say more than their names.
    pub(super) told: Vec<(u32, Goal, Reference)>,
}

/// See the module.
pub(super) struct Resolver<'a> {
    pub(super) image: &'a Image<'a>,
    pub(super) bounds: Bounds,
    pub(super) objects: Objects,
}

/// As many relocations are worth a thread.
const WORTH_A_THREAD: usize = 16 * 1024;

/// Bytes of `endbr64`.
const ENDBR64: &[u8] = b"\xf3\x0f\x1e\xfa";

impl Resolver<'_> {
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
        let relocation = self.image.relocations_from(address).first();
        let relocation = relocation.filter(|relocation| relocation.address == address)?;
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

    /// What all references of the code lead to, in their order; `told`: the dynamic symbols for which the
    /// reference itself counts too.
    pub(super) fn links(
        &self,
        sweep: &Sweep,
        told: &[bool],
    ) -> impl Iterator<Item = Links> + use<> {
        let found = parallel::pieces(&sweep.references, 1, |pieces| {
            let mut links = Links::default();
            for reference in pieces.iter().flatten() {
                if let Some(from) = self.function(reference.from) {
                    let looped = sweep.is_looped(reference.from);
                    self.reference(from, reference, looped, told, &mut links);
                }
            }
            links
        });
        found.into_iter()
    }

    fn reference(
        &self,
        from: u32,
        reference: &Reference,
        looped: bool,
        told: &[bool],
        links: &mut Links,
    ) {
        let (goal, called) = match reference.how {
            Use::Call | Use::Jump | Use::Fall => (self.code(reference.to), true),
            Use::CallThrough | Use::JumpThrough => (self.word(reference.to), true),
            Use::Address => (self.pointer(reference.to), false),
            Use::Load(_) => {
                for word in words(reference.to, reference.how).skip(1) {
                    links.all.extend(self.word(word).map(|goal| Link {
                        from,
                        goal,
                        called: false,
                        looped: false,
                    }));
                }
                (self.word(reference.to), false)
            }
        };
        let Some(goal) = goal else {
            return;
        };
        links.all.push(Link {
            from,
            goal,
            called,
            looped,
        });
        if let Goal::Symbol(symbol) | Goal::Copy(symbol) = goal
            && reference.how != Use::Fall
            && usize::try_from(symbol).is_ok_and(|symbol| told.get(symbol) == Some(&true))
        {
            links.told.push((from, goal, *reference));
        }
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
