//! What goes to and fro between a guest's process and what stands in for it: a byte for the kind, four for the length,
//! the content.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

/// The longest content, bytes.
pub const MAX_FRAME: usize = 64 << 10;
/// Bytes of the standard input that may be under way: the stand-in waits for [`FromGuest::Taken`] then, so that what
/// the process does not read keeps no signal back.
pub const WINDOW: usize = 64 << 10;

/// Which process's streams are wanted; the first frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attach {
    /// The container.
    pub id: String,
    /// The process that joined it; its init if none.
    pub exec: Option<String>,
}

/// From the host to the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToGuest {
    /// What is wanted.
    Attach(Vec<u8>),
    /// A piece of the standard input.
    Input(Vec<u8>),
    /// The standard input's end.
    InputEnd,
    /// A signal by its number.
    Signal(i32),
    /// The terminal's size: rows and columns.
    Size(u16, u16),
    /// Asks for [`FromGuest::Alive`].
    Ping,
}

/// From the guest to the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromGuest {
    /// The process runs.
    Started,
    /// It cannot be reached or started: why.
    Failed(Vec<u8>),
    /// A piece of the standard output.
    Output(Vec<u8>),
    /// A piece of the standard error.
    Error(Vec<u8>),
    /// So many bytes of the standard input were handed on.
    Taken(u32),
    /// It has ended: its exit status, 128 and the number of the signal that ended it.
    Ended(u8),
    /// The guest answers.
    Alive,
    /// The kernel has killed a process of the container for lack of memory.
    OutOfMemory,
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn read_raw(from: &mut impl Read) -> io::Result<Option<(u8, Vec<u8>)>> {
    let mut kind = [0];
    loop {
        match from.read(&mut kind) {
            Ok(0) => return Ok(None),
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_FRAME {
        return Err(bad("a frame is too long"));
    }
    let mut content = vec![0; length];
    from.read_exact(&mut content)?;
    let [kind] = kind;
    Ok(Some((kind, content)))
}

fn write_raw(to: &mut impl Write, kind: u8, content: &[u8]) -> io::Result<()> {
    let length = u32::try_from(content.len()).map_err(|_| bad("a frame is too long"))?;
    if content.len() > MAX_FRAME {
        return Err(bad("a frame is too long"));
    }
    let mut frame = Vec::with_capacity(5 + content.len());
    frame.push(kind);
    frame.extend(length.to_le_bytes());
    frame.extend(content);
    to.write_all(&frame)
}

fn four(content: &[u8]) -> io::Result<[u8; 4]> {
    content
        .try_into()
        .map_err(|_| bad("a frame has the wrong length"))
}

impl ToGuest {
    /// Reads one; none at the stream's end.
    ///
    /// # Errors
    ///
    /// What is none, or the stream's.
    pub fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let Some((kind, content)) = read_raw(from)? else {
            return Ok(None);
        };
        Ok(Some(match kind {
            0 => Self::Attach(content),
            1 => Self::Input(content),
            2 if content.is_empty() => Self::InputEnd,
            3 => Self::Signal(i32::from_le_bytes(four(&content)?)),
            4 => {
                let [r0, r1, c0, c1] = four(&content)?;
                Self::Size(u16::from_le_bytes([r0, r1]), u16::from_le_bytes([c0, c1]))
            }
            5 if content.is_empty() => Self::Ping,
            _ => return Err(bad("a frame of an unknown kind")),
        }))
    }

    /// Writes it.
    ///
    /// # Errors
    ///
    /// Too long a content, or the stream's.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Attach(content) => write_raw(to, 0, content),
            Self::Input(content) => write_raw(to, 1, content),
            Self::InputEnd => write_raw(to, 2, &[]),
            Self::Signal(number) => write_raw(to, 3, &number.to_le_bytes()),
            Self::Size(rows, columns) => {
                let content = [rows.to_le_bytes(), columns.to_le_bytes()].concat();
                write_raw(to, 4, &content)
            }
            Self::Ping => write_raw(to, 5, &[]),
        }
    }
}

impl FromGuest {
    /// Reads one; none at the stream's end.
    ///
    /// # Errors
    ///
    /// What is none, or the stream's.
    pub fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let Some((kind, content)) = read_raw(from)? else {
            return Ok(None);
        };
        Ok(Some(match (kind, content.as_slice()) {
            (0, []) => Self::Started,
            (1, _) => Self::Failed(content),
            (2, _) => Self::Output(content),
            (3, _) => Self::Error(content),
            (4, _) => Self::Taken(u32::from_le_bytes(four(&content)?)),
            (5, &[status]) => Self::Ended(status),
            (6, []) => Self::Alive,
            (7, []) => Self::OutOfMemory,
            _ => return Err(bad("a frame of an unknown kind")),
        }))
    }

    /// Writes it.
    ///
    /// # Errors
    ///
    /// Too long a content, or the stream's.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Started => write_raw(to, 0, &[]),
            Self::Failed(content) => write_raw(to, 1, content),
            Self::Output(content) => write_raw(to, 2, content),
            Self::Error(content) => write_raw(to, 3, content),
            Self::Taken(count) => write_raw(to, 4, &count.to_le_bytes()),
            Self::Ended(status) => write_raw(to, 5, &[*status]),
            Self::Alive => write_raw(to, 6, &[]),
            Self::OutOfMemory => write_raw(to, 7, &[]),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_arrive_as_they_were_sent() {
        let to = [
            ToGuest::Attach(b"{}".to_vec()),
            ToGuest::Input(vec![1; MAX_FRAME]),
            ToGuest::InputEnd,
            ToGuest::Signal(-5),
            ToGuest::Size(24, 80),
            ToGuest::Ping,
        ];
        let from = [
            FromGuest::Started,
            FromGuest::Failed(b"why".to_vec()),
            FromGuest::Output(vec![2; 10]),
            FromGuest::Error(Vec::new()),
            FromGuest::Taken(70_000),
            FromGuest::Ended(137),
            FromGuest::Alive,
            FromGuest::OutOfMemory,
        ];
        let (mut one, mut other) = (Vec::new(), Vec::new());
        to.iter().for_each(|frame| frame.write(&mut one).unwrap());
        from.iter()
            .for_each(|frame| frame.write(&mut other).unwrap());
        let (mut one, mut other) = (one.as_slice(), other.as_slice());
        for frame in &to {
            assert_eq!(ToGuest::read(&mut one).unwrap().as_ref(), Some(frame));
        }
        for frame in &from {
            assert_eq!(FromGuest::read(&mut other).unwrap().as_ref(), Some(frame));
        }
        assert_eq!(ToGuest::read(&mut one).unwrap(), None);
        assert_eq!(FromGuest::read(&mut other).unwrap(), None);
        let long = ToGuest::Input(vec![0; MAX_FRAME + 1]).write(&mut Vec::new());
        assert!(long.is_err());
        assert!(FromGuest::read(&mut io::repeat(0xff)).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_frames_or_refused(bytes in proptest::collection::vec(0_u8..8, 0..64)) {
            let mut rest = bytes.as_slice();
            while let Ok(Some(_)) = FromGuest::read(&mut rest) {}
            let mut rest = bytes.as_slice();
            while let Ok(Some(_)) = ToGuest::read(&mut rest) {}
        }
    }
}
