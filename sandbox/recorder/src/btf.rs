//! Reads where fields lie in this kernel's structures from its own type information.
//!
//! The format is that of the kernel's Documentation/bpf/btf.rst. The kernel wrote what is read here,
//! but a file that is not what it says only ever makes an error: every access is checked.

use std::collections::HashMap;

/// Why the kernel's type information is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BtfError {
    /// Not the format of the document above.
    #[error("the type information ends early or is malformed at byte {0}")]
    Malformed(usize),
    /// No such structure.
    #[error("this kernel has no type {0}")]
    NoType(String),
    /// The structure is there, the field is not.
    #[error("this kernel's struct {structure} has no field {field}")]
    NoField {
        /// The structure.
        structure: String,
        /// The field.
        field: String,
    },
}

const MAGIC: u16 = 0xeb9f;

const KIND_INT: u32 = 1;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_TYPE_TAG: u32 = 18;
const KIND_ENUM64: u32 = 19;
/// The newest kind this code knows how to step over (`BTF_KIND_MAX`).
const KIND_NEWEST: u32 = KIND_ENUM64;

/// Anonymous structures inside each other, at most.
const DEEPEST: usize = 16;

/// One type: what the twelve bytes before its details say, and where those details are.
#[derive(Debug, Clone, Copy)]
struct Type {
    kind: u32,
    members: usize,
    /// The high bit of `info`: offsets of members also say how many bits they have.
    bit_fields: bool,
    /// The type that a qualifier or a typedef stands for.
    referred: u32,
    details: usize,
}

/// The kernel's types.
#[derive(Debug)]
pub(crate) struct Btf<'a> {
    bytes: &'a [u8],
    strings: usize,
    types: Vec<Type>,
    structures: HashMap<&'a [u8], u32>,
    typedefs: HashMap<&'a [u8], u32>,
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, BtfError> {
    let end = at.checked_add(4).ok_or(BtfError::Malformed(at))?;
    let four = bytes.get(at..end).ok_or(BtfError::Malformed(at))?;
    let four = four.try_into().map_err(|_| BtfError::Malformed(at))?;
    Ok(u32::from_le_bytes(four))
}

fn at(bytes: &[u8], place: usize) -> Result<usize, BtfError> {
    usize::try_from(u32_at(bytes, place)?).map_err(|_| BtfError::Malformed(place))
}

impl<'a> Btf<'a> {
    /// Indexes the types.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        let magic = bytes.first_chunk().map(|two| u16::from_le_bytes(*two));
        if magic != Some(MAGIC) {
            return Err(BtfError::Malformed(0));
        }
        let header = at(bytes, 4)?;
        let add = |a: usize, b: usize| a.checked_add(b).ok_or(BtfError::Malformed(a));
        let mut position = add(header, at(bytes, 8)?)?;
        let end = add(position, at(bytes, 12)?)?;
        let strings = add(header, at(bytes, 16)?)?;
        // Number 0 is `void`, which is not written down.
        let mut btf = Self {
            bytes,
            strings,
            types: vec![Type {
                kind: 0,
                members: 0,
                bit_fields: false,
                referred: 0,
                details: 0,
            }],
            structures: HashMap::new(),
            typedefs: HashMap::new(),
        };
        while position < end {
            position = btf.add(position)?;
        }
        Ok(btf)
    }

    /// Adds the type at `position`; where the next one is.
    fn add(&mut self, position: usize) -> Result<usize, BtfError> {
        let info = u32_at(self.bytes, position + 4)?;
        let kind = (info >> 24) & 0x1f;
        let members = (info & 0xffff) as usize;
        let details = position + 12;
        let length = match kind {
            KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
            KIND_ARRAY => 12,
            KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => members * 12,
            KIND_ENUM | KIND_FUNC_PROTO => members * 8,
            1..=KIND_NEWEST => 0,
            _ => return Err(BtfError::Malformed(position)),
        };
        let id = u32::try_from(self.types.len()).map_err(|_| BtfError::Malformed(position))?;
        self.types.push(Type {
            kind,
            members,
            bit_fields: info >> 31 == 1,
            referred: u32_at(self.bytes, position + 8)?,
            details,
        });
        let table = match kind {
            KIND_STRUCT => Some(&mut self.structures),
            KIND_TYPEDEF => Some(&mut self.typedefs),
            _ => None,
        };
        if let Some(table) = table {
            let name = string(self.bytes, self.strings, at(self.bytes, position)?)?;
            table.entry(name).or_insert(id);
        }
        Ok(details + length)
    }

    /// The number of the typedef `name`.
    pub(crate) fn typedef(&self, name: &str) -> Result<u32, BtfError> {
        self.typedefs
            .get(name.as_bytes())
            .copied()
            .ok_or_else(|| BtfError::NoType(name.to_owned()))
    }

    /// Where `path`, a field or fields inside each other joined by dots, lies in a structure: bytes.
    pub(crate) fn offset(&self, structure: &str, path: &str) -> Result<u32, BtfError> {
        let mut id = *self
            .structures
            .get(structure.as_bytes())
            .ok_or_else(|| BtfError::NoType(structure.to_owned()))?;
        let mut total = 0u32;
        for name in path.split('.') {
            let (bits, next) =
                self.member(id, name.as_bytes(), 0)?
                    .ok_or_else(|| BtfError::NoField {
                        structure: structure.to_owned(),
                        field: path.to_owned(),
                    })?;
            total = total.checked_add(bits / 8).ok_or(BtfError::Malformed(0))?;
            id = self.unqualified(next)?;
        }
        Ok(total)
    }

    fn get(&self, id: u32) -> Result<Type, BtfError> {
        let index = usize::try_from(id).map_err(|_| BtfError::Malformed(0))?;
        self.types.get(index).copied().ok_or(BtfError::Malformed(0))
    }

    /// The type behind qualifiers and typedefs.
    fn unqualified(&self, mut id: u32) -> Result<u32, BtfError> {
        for _ in 0..DEEPEST {
            let found = self.get(id)?;
            match found.kind {
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_TYPE_TAG => id = found.referred,
                _ => break,
            }
        }
        Ok(id)
    }

    /// The offset in bits and the type of a member, looked for in anonymous members too.
    fn member(&self, id: u32, wanted: &[u8], depth: usize) -> Result<Option<(u32, u32)>, BtfError> {
        let found = self.get(id)?;
        if !matches!(found.kind, KIND_STRUCT | KIND_UNION) || depth > DEEPEST {
            return Ok(None);
        }
        for index in 0..found.members {
            let place = found.details + index * 12;
            let name = string(self.bytes, self.strings, at(self.bytes, place)?)?;
            let of = u32_at(self.bytes, place + 4)?;
            let mut offset = u32_at(self.bytes, place + 8)?;
            if found.bit_fields {
                offset &= 0x00ff_ffff;
            }
            if name == wanted {
                return Ok(Some((offset, of)));
            }
            if name.is_empty()
                && let Some((inner, of)) = self.member(self.unqualified(of)?, wanted, depth + 1)?
            {
                let offset = offset.checked_add(inner);
                return Ok(Some((offset.ok_or(BtfError::Malformed(place))?, of)));
            }
        }
        Ok(None)
    }
}

fn string(bytes: &[u8], strings: usize, offset: usize) -> Result<&[u8], BtfError> {
    let start = strings.saturating_add(offset);
    let rest = bytes.get(start..).ok_or(BtfError::Malformed(start))?;
    let end = rest.iter().position(|byte| *byte == 0);
    rest.get(..end.ok_or(BtfError::Malformed(start))?)
        .ok_or(BtfError::Malformed(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel() -> Vec<u8> {
        std::fs::read("/sys/kernel/btf/vmlinux").expect("a kernel with type information")
    }

    #[test]
    fn fields_of_a_stable_layout_are_where_they_must_be() {
        let bytes = kernel();
        let btf = Btf::parse(&bytes).expect("parsed");
        // struct pt_regs of x86-64 is user-space ABI (ptrace).
        let table = [("di", 112), ("orig_ax", 120), ("r8", 72), ("bx", 40)];
        for (field, offset) in table {
            assert_eq!(btf.offset("pt_regs", field), Ok(offset), "{field}");
        }
        // Behind an anonymous structure, and through a nested one.
        assert!(btf.offset("task_struct", "thread_info.status").is_ok());
        assert!(matches!(
            btf.offset("task_struct", "no_such_field"),
            Err(BtfError::NoField { .. })
        ));
        assert!(matches!(
            btf.offset("no_such_struct", "x"),
            Err(BtfError::NoType(_))
        ));
    }

    #[test]
    fn truncated_and_flipped_bytes_are_errors_and_never_panics() {
        let bytes = kernel();
        for length in [0, 1, 4, 23, 24, 100, bytes.len() / 2] {
            assert!(Btf::parse(&bytes[..length]).is_err(), "{length}");
        }
        for at in 0..24 {
            let mut bad = bytes.clone();
            bad[at] ^= 0xff;
            if let Ok(btf) = Btf::parse(&bad) {
                let _ = btf.offset("task_struct", "thread_info.status");
            }
        }
    }
}
