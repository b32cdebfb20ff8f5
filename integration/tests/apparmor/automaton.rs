//! The automaton of a compiled profile, run as the kernel runs it (security/apparmor/match.c). The
//! last `aadfa` of a profile decides about files.

/// Letters of the kernel's file permissions.
pub(crate) const EXECUTE: u32 = 1;
pub(crate) const WRITE: u32 = 2;
pub(crate) const READ: u32 = 4;
pub(crate) const MAP: u32 = 0x40;
/// Those of a file's owner; others' come 14 bits above.
const PERMISSIONS: u32 = 0x7f;
const OTHERS: u32 = 14;

const MAGIC: u32 = 0x1b5e_783d;
/// A state's transitions are those of another state, but for what is listed.
const DIFFERENCES: u32 = 0x8000_0000;
const INDEX: u32 = 0x00ff_ffff;

/// The tables, by their numbers in the file.
#[derive(Debug, Default)]
pub(crate) struct Automaton {
    accept: Vec<u32>,
    base: Vec<u32>,
    check: Vec<u32>,
    default: Vec<u32>,
    classes: Vec<u32>,
    next: Vec<u32>,
}

fn number(bytes: &[u8], at: usize, width: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + width)?;
    Some(
        bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | u32::from(*byte)),
    )
}

impl Automaton {
    /// The automaton about files of what the parser wrote.
    pub(crate) fn of_files(compiled: &[u8]) -> Option<Self> {
        let magic = MAGIC.to_be_bytes();
        let at = compiled.windows(4).rposition(|bytes| bytes == magic)?;
        let blob = compiled.get(at..)?;
        let (header, size) = (number(blob, 4, 4)?, number(blob, 8, 4)?);
        let (mut at, size) = (usize::try_from(header).ok()?, usize::try_from(size).ok()?);
        let mut automaton = Self::default();
        while at < size {
            let width = usize::try_from(number(blob, at + 2, 2)?).ok()?;
            let length = usize::try_from(number(blob, at + 8, 4)?).ok()?;
            let data = at + 12;
            let values = (0..length).map(|n| number(blob, data + n * width, width));
            let values = values.collect::<Option<Vec<u32>>>()?;
            match number(blob, at, 2)? {
                1 => automaton.accept = values,
                2 => automaton.base = values,
                3 => automaton.check = values,
                4 => automaton.default = values,
                5 => automaton.classes = values,
                8 => automaton.next = values,
                _ => {}
            }
            at = (data + length * width).next_multiple_of(8);
        }
        Some(automaton)
    }

    /// What is allowed with the file of this name, whoever owns it.
    pub(crate) fn allows(&self, name: &[u8]) -> u32 {
        // State 0 is the trap.
        let state = name.iter().fold(1, |state, byte| self.step(state, *byte));
        let accept = self.accept[state];
        accept & (accept >> OTHERS) & PERMISSIONS
    }

    fn step(&self, mut state: usize, byte: u8) -> usize {
        let class = match self.classes.get(usize::from(byte)) {
            Some(class) => *class,
            None => u32::from(byte),
        };
        let place = |value: u32| usize::try_from(value).expect("small");
        loop {
            let base = self.base[state];
            let at = place(base & INDEX) + place(class);
            if self.check[at] == u32::try_from(state).expect("small") {
                return place(self.next[at]);
            }
            state = place(self.default[state]);
            if base & DIFFERENCES == 0 {
                return state;
            }
        }
    }
}
