//! One pass over every instruction that notes what it refers to.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

use super::bounds::Range;
use crate::elf::Image;
use crate::parallel;

/// How an instruction refers to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// A direct call.
    Call,
    /// A direct jump out of its range.
    Jump,
    /// The last instruction of its range, which goes on with the next.
    Fall,
    /// Its address becomes a value.
    Address,
    /// The bytes there are read, `0` of them where the number is not known.
    Load(u16),
    /// As `Load`, and what is read is called.
    CallThrough,
    /// As `Load`, and what is read is jumped to.
    JumpThrough,
}

/// A reference from code.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reference {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) how: Use,
}

/// The words that are read at an address.
pub(crate) fn words(at: u64, how: Use) -> impl Iterator<Item = u64> {
    let size = match how {
        Use::Load(size) => u64::from(size).max(8),
        _ => 8,
    };
    (0..size / 8).map(move |index| at.wrapping_add(index * 8))
}

/// Instructions that enter the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// `syscall`.
    Native,
    /// `int 0x80` or `sysenter`: the 32-bit table.
    Compat,
}

/// What a sweep found, in order of address.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    /// By piece of the code.
    pub(crate) references: Vec<Vec<Reference>>,
    pub(crate) entries: Vec<(u64, Entry)>,
    /// Jumps to where a register says: tables of a `switch`, tail calls of a pointer.
    pub(crate) computed: Vec<u64>,
    /// In ranges without known functions: where an instruction follows one that does not go on.
    pub(crate) breaks: Vec<u64>,
    /// From where a jump leads back to, to the jump; sorted, and joined where they overlap.
    pub(crate) loops: Vec<(u64, u64)>,
    /// There too: bytes that are no instruction, so that what follows may be data.
    pub(crate) invalid: Vec<u64>,
}

/// Below this many bytes of code a second thread costs more than it saves.
const WORTH_A_THREAD: u64 = 256 * 1024;
/// As few ranges are a piece for a thread.
const PIECE: usize = 64;

/// Sweeps the ranges, which are in order, on several threads where it pays.
pub(crate) fn sweep(image: &Image<'_>, ranges: &[Range]) -> Sweep {
    let total: u64 = ranges.iter().map(|range| range.end - range.start).sum();
    let mut sweep = if total < WORTH_A_THREAD {
        sweep_all(image, ranges)
    } else {
        joined(parallel::pieces(ranges, PIECE, |ranges| {
            sweep_all(image, ranges)
        }))
    };
    sweep.join_loops();
    sweep
}

fn joined(pieces: Vec<Sweep>) -> Sweep {
    let mut sweep = Sweep::default();
    for piece in pieces {
        sweep.references.extend(piece.references);
        sweep.entries.extend(piece.entries);
        sweep.computed.extend(piece.computed);
        sweep.breaks.extend(piece.breaks);
        sweep.loops.extend(piece.loops);
        sweep.invalid.extend(piece.invalid);
    }
    sweep
}

fn sweep_all(image: &Image<'_>, ranges: &[Range]) -> Sweep {
    let mut sweep = Sweep::default();
    sweep.references.push(Vec::new());
    for range in ranges {
        sweep.range(image, range);
    }
    sweep.references.iter_mut().for_each(Vec::shrink_to_fit);
    sweep
}

impl Sweep {
    /// Whether an instruction lies in a loop of its function.
    pub(crate) fn is_looped(&self, address: u64) -> bool {
        let next = self.loops.partition_point(|(start, _)| *start <= address);
        let last = next.checked_sub(1).and_then(|index| self.loops.get(index));
        last.is_some_and(|(_, end)| address <= *end)
    }

    fn join_loops(&mut self) {
        self.loops.sort_unstable();
        self.loops.dedup_by(|next, before| {
            let overlaps = next.0 <= before.1;
            if overlaps {
                before.1 = before.1.max(next.1);
            }
            overlaps
        });
    }

    fn range(&mut self, image: &Image<'_>, range: &Range) {
        let Some(code) = image.at(range.start) else {
            return;
        };
        let size = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let code = &code[..size.min(code.len())];
        let mut decoder = Decoder::with_ip(64, code, range.start, DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        let mut goes_on = false;
        while decoder.can_decode() {
            decoder.decode_out(&mut instruction);
            self.instruction(image, range, &instruction);
            goes_on = match instruction.flow_control() {
                FlowControl::Return
                | FlowControl::UnconditionalBranch
                | FlowControl::IndirectBranch
                | FlowControl::Exception => false,
                // A call at the very end is one that does not return.
                FlowControl::Call | FlowControl::IndirectCall => decoder.can_decode(),
                _ => !instruction.is_invalid(),
            };
            if instruction.is_invalid() && !range.known {
                self.invalid.push(instruction.ip());
            }
            if !goes_on && !range.known {
                self.breaks.push(instruction.next_ip());
            }
        }
        if goes_on && instruction.mnemonic() != Mnemonic::Nop {
            self.note(&instruction, range.end, Use::Fall);
        }
    }

    fn note(&mut self, instruction: &Instruction, to: u64, how: Use) {
        let from = instruction.ip();
        if let Some(piece) = self.references.last_mut() {
            piece.push(Reference { from, to, how });
        }
    }

    /// Notes a memory operand at a constant address. Words that the loader does not write lead nowhere.
    fn read(&mut self, image: &Image<'_>, instruction: &Instruction, to: u64, how: Use) {
        let words = match how {
            Use::Load(_) | Use::CallThrough | Use::JumpThrough => words(to, how).count() as u64,
            _ => return self.note(instruction, to, how),
        };
        let written = image.relocations_from(to).first();
        if written.is_some_and(|word| word.address - to < words * 8) {
            self.note(instruction, to, how);
        }
    }

    fn instruction(&mut self, image: &Image<'_>, range: &Range, instruction: &Instruction) {
        let mnemonic = instruction.mnemonic();
        match mnemonic {
            Mnemonic::Syscall => self.entries.push((instruction.ip(), Entry::Native)),
            Mnemonic::Sysenter => self.entries.push((instruction.ip(), Entry::Compat)),
            Mnemonic::Int if instruction.immediate8() == 0x80 => {
                self.entries.push((instruction.ip(), Entry::Compat));
            }
            Mnemonic::Nop | Mnemonic::INVALID => return,
            _ => {}
        }
        if instruction.op0_kind() == OpKind::NearBranch64 {
            let to = instruction.near_branch_target();
            if mnemonic == Mnemonic::Call {
                self.note(instruction, to, Use::Call);
            } else if !range.known || to < range.start || to >= range.end {
                self.note(instruction, to, Use::Jump);
            } else if to <= instruction.ip() {
                self.loops.push((to, instruction.ip()));
            }
            return;
        }
        if instruction.is_ip_rel_memory_operand() {
            let to = instruction.ip_rel_memory_address();
            match kind(instruction) {
                Some(how) => self.read(image, instruction, to, how),
                None => return,
            }
        } else if mnemonic == Mnemonic::Jmp {
            self.computed.push(instruction.ip());
        }
        if image.fixed {
            self.absolute(image, instruction);
        } else if mnemonic == Mnemonic::Mov && instruction.op1_kind() == OpKind::Immediate64 {
            let to = instruction.immediate64();
            if to >= 4096 && image.is_mapped(to) {
                self.note(instruction, to, Use::Address);
            }
        }
    }

    /// Code at a fixed address has addresses in its immediates and displacements.
    fn absolute(&mut self, image: &Image<'_>, instruction: &Instruction) {
        for operand in 0..instruction.op_count() {
            let to = match instruction.op_kind(operand) {
                OpKind::Immediate32 | OpKind::Immediate32to64 | OpKind::Immediate64 => {
                    instruction.immediate(operand)
                }
                OpKind::Memory if !instruction.is_ip_rel_memory_operand() => {
                    instruction.memory_displacement64()
                }
                _ => continue,
            };
            if to >= 4096 && image.is_mapped(to) {
                let plain = instruction.op_kind(operand) == OpKind::Memory
                    && instruction.memory_base() == Register::None
                    && instruction.memory_index() == Register::None;
                let how = if plain {
                    kind(instruction)
                } else {
                    Some(Use::Address)
                };
                if let Some(how) = how {
                    self.read(image, instruction, to, how);
                }
            }
        }
    }
}

/// How an instruction uses its memory operand at a constant address; `None` if it only writes.
fn kind(instruction: &Instruction) -> Option<Use> {
    match instruction.mnemonic() {
        Mnemonic::Lea => Some(Use::Address),
        Mnemonic::Call => Some(Use::CallThrough),
        Mnemonic::Jmp => Some(Use::JumpThrough),
        Mnemonic::Mov if instruction.op0_kind() == OpKind::Memory => None,
        _ => {
            let size = instruction.memory_size().size();
            Some(Use::Load(u16::try_from(size).unwrap_or(0)))
        }
    }
}
