//! The values a register can have at one instruction, looked for backwards over every way that
//! leads there within its function.

use std::collections::{BTreeSet, HashMap, HashSet};

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess,
    OpKind, Register,
};

use crate::elf::Image;

/// Where a value lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Place {
    /// In a register, by its 64-bit name.
    Register(Register),
    /// In memory, this far from the stack pointer.
    Stack(i64),
    /// In memory, this far from the frame pointer.
    Frame(i64),
    /// In memory, this far from where a register points.
    Pointee(Register, i64),
}

/// What is known of a value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Values {
    pub(crate) constants: BTreeSet<u64>,
    /// It came in from the caller, there at the function's first instruction.
    pub(crate) inputs: BTreeSet<Place>,
    /// Some way leads to a value that is not known.
    pub(crate) unknown: bool,
    /// It is read by way of a pointer in a global variable.
    pub(crate) global: bool,
}

const MAX_STEPS: usize = 20_000;
const MAX_INSTRUCTIONS: usize = 200_000;

/// A decoded function.
pub(crate) struct Body {
    instructions: Vec<Instruction>,
    /// Direct jumps of the function, by the index of their target.
    jumps: HashMap<usize, Vec<usize>>,
    /// Jumps through a register.
    computed: Vec<usize>,
    /// Where such a jump can lead.
    cases: HashSet<usize>,
}

impl Body {
    /// Decodes `start..end`; `cases` are addresses that its jump tables name.
    pub(crate) fn decode(image: &Image<'_>, start: u64, end: u64, cases: &[u64]) -> Self {
        let code = image.at(start).unwrap_or(&[]);
        let size = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX);
        let code = &code[..size.min(code.len())];
        let decoder = Decoder::with_ip(64, code, start, DecoderOptions::NONE);
        let instructions: Vec<_> = decoder.into_iter().take(MAX_INSTRUCTIONS).collect();
        let mut body = Self {
            instructions,
            jumps: HashMap::new(),
            computed: Vec::new(),
            cases: HashSet::new(),
        };
        for (index, instruction) in body.instructions.iter().enumerate() {
            if instruction.mnemonic() == Mnemonic::Call {
                continue;
            }
            if instruction.op0_kind() == OpKind::NearBranch64 {
                if let Some(target) = body.index(instruction.near_branch_target()) {
                    body.jumps.entry(target).or_default().push(index);
                }
            } else if instruction.flow_control() == FlowControl::IndirectBranch {
                body.computed.push(index);
            }
        }
        body.cases = cases.iter().filter_map(|at| body.index(*at)).collect();
        body
    }

    fn index(&self, address: u64) -> Option<usize> {
        self.instructions
            .binary_search_by_key(&address, Instruction::ip)
            .ok()
    }

    /// How far from the stack pointer a register points at an instruction, if it was set from it
    /// shortly before.
    pub(crate) fn points_to_stack(&self, address: u64, register: Register) -> Option<i64> {
        const REACH: usize = 32;
        let mut factory = InstructionInfoFactory::new();
        let index = self.index(address)?;
        for instruction in self.instructions[..index].iter().rev().take(REACH) {
            let target = instruction.op0_kind() == OpKind::Register
                && instruction.op0_register() == register;
            match instruction.mnemonic() {
                Mnemonic::Mov if target && instruction.op1_register() == Register::RSP => {
                    return Some(0);
                }
                Mnemonic::Lea
                    if target
                        && instruction.memory_base() == Register::RSP
                        && instruction.memory_index() == Register::None =>
                {
                    return Some(instruction.memory_displacement64().cast_signed());
                }
                _ => {}
            }
            let info = factory.info(instruction);
            let changed = info.used_registers().iter().any(|used| {
                let own = used.register().full_register();
                (own == register || own == Register::RSP) && used.access() != OpAccess::Read
            });
            if changed || instruction.flow_control() != FlowControl::Next {
                return None;
            }
        }
        None
    }

    /// The values of `place` just before the instruction at `address` runs; the end of the
    /// function is such an address too.
    pub(crate) fn trace(&self, address: u64, place: Place) -> Values {
        let mut values = Values::default();
        let end = self.instructions.last().map(Instruction::next_ip);
        let end = (end == Some(address)).then_some(self.instructions.len());
        let Some(index) = end.or_else(|| self.index(address)) else {
            values.unknown = true;
            return values;
        };
        let mut search = Search {
            body: self,
            factory: InstructionInfoFactory::new(),
            seen: HashSet::new(),
            open: vec![(index, place, 0)],
        };
        let mut steps = 0;
        while let Some((index, place, add)) = search.open.pop() {
            steps += 1;
            if steps > MAX_STEPS {
                values.unknown = true;
                break;
            }
            search.before(index, place, add, &mut values);
        }
        values
    }
}

/// A value to look for: before which instruction, where, and what is added to it afterwards.
type Wanted = (usize, Place, i64);

struct Search<'a> {
    body: &'a Body,
    factory: InstructionInfoFactory,
    seen: HashSet<Wanted>,
    open: Vec<Wanted>,
}

/// What one instruction means for a place, looking backwards.
enum Step {
    Constant(u64),
    From(Place, i64),
    Either(Place, Place),
    Global,
    Unknown,
}

impl Search<'_> {
    fn push(&mut self, wanted: Wanted) {
        if self.seen.insert(wanted) {
            self.open.push(wanted);
        }
    }

    /// Goes from just before `index` to each instruction that can run before it.
    fn before(&mut self, index: usize, place: Place, add: i64, values: &mut Values) {
        let body = self.body;
        let mut found = false;
        if index == 0 {
            found = true;
            match place {
                // Below the return address lie the function's own variables.
                Place::Stack(offset) if offset < 8 => values.unknown = true,
                _ if add != 0 => values.unknown = true,
                _ => {
                    values.inputs.insert(place);
                }
            }
        }
        let mut previous = Vec::new();
        if let Some(last) = index.checked_sub(1)
            && falls_through(&body.instructions[last])
        {
            previous.push(last);
        }
        previous.extend(body.jumps.get(&index).into_iter().flatten());
        if body.cases.contains(&index) || (previous.is_empty() && index != 0) {
            previous.extend(&body.computed);
        }
        for at in previous {
            found = true;
            match self.step(at, place) {
                Step::Constant(value) => {
                    values.constants.insert(value.wrapping_add_signed(add));
                }
                Step::From(place, more) => self.push((at, place, add.wrapping_add(more))),
                Step::Either(one, other) => {
                    self.push((at, one, add));
                    self.push((at, other, add));
                }
                Step::Global => values.global = true,
                Step::Unknown => values.unknown = true,
            }
        }
        // Code that nothing leads to is an exception's landing pad, or a table's that was not
        // read; padding never runs.
        let padding = body
            .instructions
            .get(index)
            .is_some_and(|i| i.mnemonic() == Mnemonic::Nop);
        values.unknown |= !found && !padding;
    }

    fn step(&mut self, at: usize, place: Place) -> Step {
        let instruction = &self.body.instructions[at];
        match place {
            Place::Register(register) => self.register(instruction, register),
            Place::Stack(offset) => stack(instruction, offset),
            Place::Frame(offset) => frame(instruction, offset),
            Place::Pointee(register, offset) => self.pointee(instruction, register, offset),
        }
    }

    fn pointee(&mut self, instruction: &Instruction, base: Register, offset: i64) -> Step {
        if let Some(step) = stored(instruction, base, offset) {
            return step;
        }
        let moved = |place: Place, by: i64| {
            let offset = offset.wrapping_add(by);
            match place {
                Place::Register(Register::RSP) => Step::From(Place::Stack(offset), 0),
                Place::Register(register) => Step::From(Place::Pointee(register, offset), 0),
                _ => Step::Unknown,
            }
        };
        match self.register(instruction, base) {
            Step::From(place, by) => moved(place, by),
            Step::Constant(_) | Step::Either(..) | Step::Global => Step::Unknown,
            Step::Unknown if instruction.mnemonic() == Mnemonic::Lea => {
                let by = instruction.memory_displacement64().cast_signed();
                match (instruction.memory_base(), instruction.memory_index()) {
                    (Register::RSP, Register::None) => {
                        Step::From(Place::Stack(offset.wrapping_add(by)), 0)
                    }
                    (Register::RBP, Register::None) => {
                        Step::From(Place::Frame(offset.wrapping_add(by)), 0)
                    }
                    _ => Step::Unknown,
                }
            }
            Step::Unknown
                if instruction.mnemonic() == Mnemonic::Mov
                    && instruction.is_ip_rel_memory_operand() =>
            {
                Step::Global
            }
            Step::Unknown => match (instruction.mnemonic(), operand(instruction, 1)) {
                (Mnemonic::Mov, Step::Constant(_)) => Step::Unknown,
                (Mnemonic::Mov, Step::From(place @ Place::Register(_), 0)) => moved(place, 0),
                _ => Step::Unknown,
            },
        }
    }

    fn register(&mut self, instruction: &Instruction, register: Register) -> Step {
        let same = Step::From(Place::Register(register), 0);
        if matches!(
            instruction.flow_control(),
            FlowControl::Call | FlowControl::IndirectCall
        ) {
            // `syscall` counts as a call too; it keeps all but these.
            let lost: &[Register] = if instruction.mnemonic() == Mnemonic::Syscall {
                &[Register::RAX, Register::RCX, Register::R11]
            } else {
                RETURNED
            };
            return if lost.contains(&register) {
                Step::Unknown
            } else {
                same
            };
        }
        let info = self.factory.info(instruction);
        let writes = info.used_registers().iter().any(|used| {
            used.register().full_register() == register
                && matches!(
                    used.access(),
                    OpAccess::Write
                        | OpAccess::CondWrite
                        | OpAccess::ReadWrite
                        | OpAccess::ReadCondWrite
                )
        });
        if writes {
            written(instruction, register)
        } else {
            same
        }
    }
}

/// What a call returns. The ABI lets it change more registers, but code that reads one of those
/// afterwards either knows that the callee leaves it alone, or is not reached from the call.
const RETURNED: &[Register] = &[Register::RAX, Register::RDX];

fn falls_through(instruction: &Instruction) -> bool {
    !matches!(
        instruction.flow_control(),
        FlowControl::Return
            | FlowControl::UnconditionalBranch
            | FlowControl::IndirectBranch
            | FlowControl::Exception
    ) && !instruction.is_invalid()
}

/// Where an operand's value lies, or what it is.
fn operand(instruction: &Instruction, index: u32) -> Step {
    match instruction.op_kind(index) {
        OpKind::Register => {
            let register = instruction.op_register(index);
            if register.is_gpr32() || register.is_gpr64() {
                Step::From(Place::Register(register.full_register()), 0)
            } else {
                Step::Unknown
            }
        }
        OpKind::Memory => slot(instruction).map_or(Step::Unknown, |place| Step::From(place, 0)),
        OpKind::Immediate32 => Step::Constant(instruction.immediate32().into()),
        OpKind::Immediate8to32 => {
            Step::Constant(u64::from(instruction.immediate8to32().cast_unsigned()))
        }
        OpKind::Immediate8to64 | OpKind::Immediate32to64 | OpKind::Immediate64 => {
            Step::Constant(instruction.immediate(index))
        }
        _ => Step::Unknown,
    }
}

/// The place of a memory operand of at least four bytes.
fn slot(instruction: &Instruction) -> Option<Place> {
    if instruction.memory_index() != Register::None
        || instruction.memory_size().size() < 4
        || instruction.segment_prefix() != Register::None
    {
        return None;
    }
    let offset = instruction.memory_displacement64().cast_signed();
    match instruction.memory_base() {
        Register::RSP => Some(Place::Stack(offset)),
        Register::RBP => Some(Place::Frame(offset)),
        base if base.is_gpr64() => Some(Place::Pointee(base, offset)),
        _ => None,
    }
}

fn written(instruction: &Instruction, register: Register) -> Step {
    let own = Place::Register(register);
    let narrow = instruction.op0_kind() == OpKind::Register
        && !(instruction.op0_register().is_gpr32() || instruction.op0_register().is_gpr64());
    let is_target = instruction.op0_kind() == OpKind::Register
        && instruction.op0_register().full_register() == register;
    if instruction.mnemonic() == Mnemonic::Pop {
        return if is_target {
            Step::From(Place::Stack(0), 0)
        } else {
            Step::Unknown
        };
    }
    if narrow || !is_target {
        return Step::Unknown;
    }
    let immediate = || match operand(instruction, 1) {
        Step::Constant(value) => Some(value),
        _ => None,
    };
    let with_itself = instruction.op1_kind() == OpKind::Register
        && instruction.op0_register() == instruction.op1_register();
    match instruction.mnemonic() {
        Mnemonic::Mov | Mnemonic::Movsxd => operand(instruction, 1),
        Mnemonic::Xor | Mnemonic::Sub if with_itself => Step::Constant(0),
        Mnemonic::Add => immediate().map_or(Step::Unknown, |value| {
            Step::From(own, signed(instruction, value))
        }),
        Mnemonic::Sub => immediate().map_or(Step::Unknown, |value| {
            Step::From(own, signed(instruction, value).wrapping_neg())
        }),
        Mnemonic::Inc => Step::From(own, 1),
        Mnemonic::Dec => Step::From(own, -1),
        Mnemonic::Or if immediate().is_some_and(|value| signed(instruction, value) == -1) => {
            Step::Constant(immediate().unwrap_or(0))
        }
        Mnemonic::Lea => address(instruction),
        _ if instruction.flow_control() == FlowControl::Next
            && instruction.op_count() == 2
            && is_conditional_move(instruction.mnemonic()) =>
        {
            match operand(instruction, 1) {
                Step::From(other, 0) => Step::Either(own, other),
                _ => Step::Unknown,
            }
        }
        _ => Step::Unknown,
    }
}

fn signed(instruction: &Instruction, value: u64) -> i64 {
    match instruction.op0_register().size() {
        4 => i64::from(i32::from_le_bytes(
            value.to_le_bytes()[..4].try_into().unwrap_or_default(),
        )),
        _ => value.cast_signed(),
    }
}

fn is_conditional_move(mnemonic: Mnemonic) -> bool {
    matches!(
        mnemonic,
        Mnemonic::Cmova
            | Mnemonic::Cmovae
            | Mnemonic::Cmovb
            | Mnemonic::Cmovbe
            | Mnemonic::Cmove
            | Mnemonic::Cmovg
            | Mnemonic::Cmovge
            | Mnemonic::Cmovl
            | Mnemonic::Cmovle
            | Mnemonic::Cmovne
            | Mnemonic::Cmovno
            | Mnemonic::Cmovnp
            | Mnemonic::Cmovns
            | Mnemonic::Cmovo
            | Mnemonic::Cmovp
            | Mnemonic::Cmovs
    )
}

fn address(instruction: &Instruction) -> Step {
    if instruction.is_ip_rel_memory_operand() {
        return Step::Constant(instruction.ip_rel_memory_address());
    }
    let base = instruction.memory_base();
    if base == Register::None
        || instruction.memory_index() != Register::None
        || matches!(base, Register::RSP | Register::RBP)
    {
        return Step::Unknown;
    }
    let offset = instruction.memory_displacement64().cast_signed();
    Step::From(Place::Register(base.full_register()), offset)
}

/// A store that covers or overlaps the slot.
fn stored(instruction: &Instruction, base: Register, offset: i64) -> Option<Step> {
    if instruction.op0_kind() != OpKind::Memory || instruction.memory_base() != base {
        return None;
    }
    if instruction.memory_index() != Register::None {
        return None;
    }
    let at = instruction.memory_displacement64().cast_signed();
    let size = i64::try_from(instruction.memory_size().size()).unwrap_or(8);
    if at >= offset.saturating_add(8) || at.saturating_add(size) <= offset {
        return None;
    }
    let reads_only = matches!(
        instruction.mnemonic(),
        Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Push | Mnemonic::Call | Mnemonic::Jmp
    );
    if reads_only {
        return None;
    }
    if at == offset && instruction.mnemonic() == Mnemonic::Mov && size >= 4 {
        return Some(operand(instruction, 1));
    }
    // The upper half of a slot whose lower half is wanted.
    if at >= offset.saturating_add(4) {
        return None;
    }
    Some(Step::Unknown)
}

fn stack(instruction: &Instruction, offset: i64) -> Step {
    if let Some(step) = stored(instruction, Register::RSP, offset) {
        return step;
    }
    let moved = |by: i64| Step::From(Place::Stack(offset.wrapping_add(by)), 0);
    let to_stack_pointer =
        instruction.op0_kind() == OpKind::Register && instruction.op0_register() == Register::RSP;
    match instruction.mnemonic() {
        Mnemonic::Push if offset == 0 => operand(instruction, 0),
        Mnemonic::Push | Mnemonic::Pushfq => moved(-8),
        Mnemonic::Pop | Mnemonic::Popfq if !to_stack_pointer => moved(8),
        Mnemonic::Sub | Mnemonic::Add if to_stack_pointer => match operand(instruction, 1) {
            Step::Constant(value) if instruction.mnemonic() == Mnemonic::Sub => {
                moved(value.cast_signed().wrapping_neg())
            }
            Step::Constant(value) => moved(value.cast_signed()),
            _ => Step::Unknown,
        },
        Mnemonic::Lea if to_stack_pointer => match instruction.memory_base() {
            Register::RSP => moved(instruction.memory_displacement64().cast_signed()),
            Register::RBP => {
                let by = instruction.memory_displacement64().cast_signed();
                Step::From(Place::Frame(offset.wrapping_add(by)), 0)
            }
            _ => Step::Unknown,
        },
        Mnemonic::Mov if to_stack_pointer && instruction.op1_register() == Register::RBP => {
            Step::From(Place::Frame(offset), 0)
        }
        Mnemonic::Leave => Step::Unknown,
        _ if to_stack_pointer
            && !matches!(instruction.mnemonic(), Mnemonic::Cmp | Mnemonic::Test) =>
        {
            Step::Unknown
        }
        _ => moved(0),
    }
}

fn frame(instruction: &Instruction, offset: i64) -> Step {
    if let Some(step) = stored(instruction, Register::RBP, offset) {
        return step;
    }
    let to_frame_pointer =
        instruction.op0_kind() == OpKind::Register && instruction.op0_register() == Register::RBP;
    match instruction.mnemonic() {
        Mnemonic::Mov if to_frame_pointer && instruction.op1_register() == Register::RSP => {
            Step::From(Place::Stack(offset), 0)
        }
        Mnemonic::Lea if to_frame_pointer && instruction.memory_base() == Register::RSP => {
            let by = instruction.memory_displacement64().cast_signed();
            Step::From(Place::Stack(offset.wrapping_add(by)), 0)
        }
        Mnemonic::Leave => Step::Unknown,
        // No frame pointer after all.
        Mnemonic::Mov if to_frame_pointer && instruction.op1_register().is_gpr64() => {
            Step::From(Place::Pointee(instruction.op1_register(), offset), 0)
        }
        Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Push => Step::From(Place::Frame(offset), 0),
        _ if to_frame_pointer => Step::Unknown,
        _ => Step::From(Place::Frame(offset), 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of `eax` before the last `syscall` of some code.
    fn trace(code: &[u8]) -> Values {
        let mut file = vec![0; 64 + 56];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[16] = 3;
        file[18] = 62;
        file[32] = 64;
        file[54] = 56;
        file[56] = 1;
        let size = (120 + code.len()) as u64;
        file[64] = 1;
        file[68] = 5;
        file[96..104].copy_from_slice(&size.to_le_bytes());
        file[104..112].copy_from_slice(&size.to_le_bytes());
        file.extend_from_slice(code);
        let image = Image::parse(&file).expect("a file of one segment");
        let body = Body::decode(&image, 120, size, &[]);
        let last = body
            .instructions
            .iter()
            .rposition(|i| i.mnemonic() == Mnemonic::Syscall);
        let at = body.instructions[last.expect("a syscall instruction")].ip();
        body.trace(at, Place::Register(Register::RAX))
    }

    #[test]
    fn values_of_the_number() {
        // mov esi, 231; mov edx, 60; jmp 2f; 1: mov eax, edx; syscall; cmp rax, -4096; ja 3f;
        // 4: hlt; 2: mov eax, esi; syscall; cmp rax, -4096; jbe 1b; neg eax; jmp 1b;
        // 3: neg eax; jmp 4b -- `_exit` of glibc 2.36
        let exit =
            b"\xbe\xe7\x00\x00\x00\xba\x3c\x00\x00\x00\xeb\x0d\x89\xd0\x0f\x05\x48\x3d\x00\xf0\
            \xff\xff\x77\x11\xf4\x89\xf0\x0f\x05\x48\x3d\x00\xf0\xff\xff\x76\xe7\xf7\xd8\xeb\xe3\
            \xf7\xd8\xeb\xeb";
        let table: &[(&str, &[u8], &[u64], bool)] = &[
            ("xor eax, eax", b"\x31\xc0\x0f\x05", &[0], false),
            ("_exit", exit, &[231], false),
        ];
        for (name, code, constants, unknown) in table {
            let values = trace(code);
            let found: Vec<u64> = values.constants.iter().copied().collect();
            assert_eq!(found, *constants, "{name}");
            assert_eq!(values.unknown, *unknown, "{name}");
        }
    }
}
