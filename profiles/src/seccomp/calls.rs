//! The numbers of every call of 64-bit and 32-bit x86, found by name in one probe or two.
//!
//! libseccomp has these numbers too, but a container start asks for some two thousand, and a
//! look-up there takes several times as long. The table is text, so that it can be read and
//! compared, and is laid out at compile time without pointers, so that a starting process has
//! nothing to relocate. Its source is that of [`super::numbers`], whose tests hold it against
//! libseccomp.

/// One call a line, sorted: its name, its number on x86-64 and on x86, `-` where there is none.
const TEXT: &[u8] = include_bytes!("calls.txt");
/// A power of two, more than twice the calls there are.
const SLOTS: usize = 1024;

/// A line of the table. A length of zero marks a free slot.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    start: u16,
    length: u16,
    x86_64: u16,
    x86: u16,
}

/// No such call.
const NONE: u16 = u16::MAX;

static TABLE: [Entry; SLOTS] = layout();

impl Entry {
    fn name(&self) -> &'static [u8] {
        let start = usize::from(self.start);
        let end = start + usize::from(self.length);
        TEXT.get(start..end).unwrap_or_default()
    }

    pub(crate) fn x86_64(&self) -> Option<u32> {
        (self.x86_64 != NONE).then_some(self.x86_64.into())
    }

    pub(crate) fn x86(&self) -> Option<u32> {
        (self.x86 != NONE).then_some(self.x86.into())
    }
}

/// The call of this name, if x86 has one.
pub(crate) fn find(name: &str) -> Option<&'static Entry> {
    let start = slot(name.as_bytes(), 0, name.len());
    let (before, from) = TABLE.split_at_checked(start)?;
    from.iter()
        .chain(before)
        .take_while(|entry| entry.length != 0)
        .find(|entry| entry.name() == name.as_bytes())
}

/// Where the search for a name starts (FNV-1a).
const fn slot(text: &[u8], start: usize, end: usize) -> usize {
    let mut hash: u32 = 0x811c_9dc5;
    let mut at = start;
    while at < end {
        hash = (hash ^ text[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    ((hash >> 16) ^ hash) as usize % SLOTS
}

const fn layout() -> [Entry; SLOTS] {
    let free = Entry {
        start: 0,
        length: 0,
        x86_64: NONE,
        x86: NONE,
    };
    let mut table = [free; SLOTS];
    let mut at = 0;
    while at < TEXT.len() {
        let start = at;
        while TEXT[at] != b' ' {
            at += 1;
        }
        let (x86_64, after) = number(at + 1);
        let (x86, next) = number(after);
        let mut place = slot(TEXT, start, at);
        while table[place].length != 0 {
            place = (place + 1) % SLOTS;
        }
        assert!(at <= u16::MAX as usize, "the table outgrew its offsets");
        #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
        let (start, length) = (start as u16, (at - start) as u16);
        table[place] = Entry {
            start,
            length,
            x86_64,
            x86,
        };
        at = next;
    }
    table
}

/// The number at `at`, and where the next field or line starts.
const fn number(mut at: usize) -> (u16, usize) {
    let mut value = NONE;
    while TEXT[at] != b' ' && TEXT[at] != b'\n' {
        if TEXT[at] != b'-' {
            let digit = (TEXT[at] - b'0') as u16;
            value = if value == NONE {
                digit
            } else {
                value * 10 + digit
            };
        }
        at += 1;
    }
    (value, at + 1)
}

/// Every name of the table.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    let text = std::str::from_utf8(TEXT).unwrap_or_default();
    text.lines().filter_map(|line| line.split(' ').next())
}
