//! A request, out of the guest's reach.

use std::io::Write as _;

use vm_memory::{Bytes as _, GuestAddress, GuestMemory as _};

use crate::memory::Memory;
use crate::virtio::DeviceError;
use crate::virtio::device::Chain;

/// The most buffers of a request. Linux uses one for each page and a few for headers.
pub(super) const MOST_BUFFERS: usize = 1024;
/// The most bytes either way: what is read or written at once, a MiB, and headers.
pub(super) const MOST_BYTES: usize = (1 << 20) + 4096;
/// `struct fuse_in_header` and `struct fuse_out_header` of linux/fuse.h.
const HEADER: usize = 40;
pub(super) const ANSWER: usize = 16;
/// `struct fuse_write_in`, which the data follows.
const WRITE_HEADER: usize = HEADER + 40;

/// `enum fuse_opcode`: of what is not answered, carries data, or names files.
const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const SYMLINK: u32 = 6;
const MKNOD: u32 = 8;
const MKDIR: u32 = 9;
const UNLINK: u32 = 10;
const RMDIR: u32 = 11;
const RENAME: u32 = 12;
const LINK: u32 = 13;
const READ: u32 = 15;
const WRITE: u32 = 16;
/// Files end below 2^63; a read or write that begins here ends before.
const LAST_OFFSET: u64 = (1 << 63) - (1 << 33);
const CREATE: u32 = 35;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;
const RENAME2: u32 = 45;

/// A piece of guest memory; it has been looked at, and is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Buffer {
    pub(super) at: GuestAddress,
    pub(super) size: u32,
}

/// A request: what is decided by is a copy that the guest cannot change any more.
#[derive(Debug)]
pub(super) struct Request {
    /// Header, arguments and names; of a write its headers.
    pub(super) text: Vec<u8>,
    /// What is to be written.
    pub(super) data: Vec<Buffer>,
    /// Where the answer goes.
    pub(super) answer: Vec<Buffer>,
}

impl Request {
    /// Takes the request out of the chain.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Chain`] where it is not one: too long, outside memory, no header.
    pub(super) fn take(chain: Chain<'_>, memory: &Memory) -> Result<Self, DeviceError> {
        let mut asked = Vec::new();
        let mut answer = Vec::new();
        for (count, descriptor) in chain.enumerate() {
            if count >= MOST_BUFFERS {
                return Err(DeviceError::Chain("it has too many buffers"));
            }
            let size = usize::try_from(descriptor.len()).unwrap_or(usize::MAX);
            if size == 0 {
                continue;
            }
            if !memory.check_range(descriptor.addr(), size) {
                return Err(OUTSIDE);
            }
            let buffer = Buffer {
                at: descriptor.addr(),
                size: descriptor.len(),
            };
            if descriptor.is_write_only() {
                answer.push(buffer);
            } else if answer.is_empty() {
                asked.push(buffer);
            } else {
                return Err(DeviceError::Chain("what is asked follows the answer"));
            }
        }
        if sum(&asked).max(sum(&answer)) > MOST_BYTES {
            return Err(DeviceError::Chain("it is too large"));
        }
        let mut request = Self {
            text: Vec::new(),
            data: asked,
            answer,
        };
        request.read(memory, WRITE_HEADER)?;
        if request.text.len() < HEADER {
            return Err(DeviceError::Chain("it has no header"));
        }
        if request.opcode() != WRITE {
            request.read(memory, MOST_BYTES)?;
        }
        Ok(request)
    }

    /// Moves data into the text until that has so many bytes.
    fn read(&mut self, memory: &Memory, until: usize) -> Result<(), DeviceError> {
        let mut rest = Vec::new();
        for buffer in std::mem::take(&mut self.data) {
            let wanted = u32::try_from(until.saturating_sub(self.text.len())).unwrap_or(u32::MAX);
            let part = buffer.size.min(wanted);
            let from = self.text.len();
            self.text
                .resize(from + usize::try_from(part).unwrap_or(0), 0);
            let place = self.text.get_mut(from..).unwrap_or_default();
            memory.read_slice(place, buffer.at).map_err(|_| OUTSIDE)?;
            if part < buffer.size {
                let at = buffer.at.0.checked_add(part.into()).ok_or(OUTSIDE)?;
                rest.push(Buffer {
                    at: GuestAddress(at),
                    size: buffer.size - part,
                });
            }
        }
        self.data = rest;
        Ok(())
    }

    fn opcode(&self) -> u32 {
        self.word(4)
    }

    fn word(&self, at: usize) -> u32 {
        let bytes = self.text.get(at..).and_then(|rest| rest.first_chunk());
        bytes.map_or(0, |&bytes| u32::from_le_bytes(bytes))
    }

    /// Bytes that the answer may have.
    pub(super) fn room(&self) -> usize {
        sum(&self.answer)
    }

    pub(super) fn is_without_answer(&self) -> bool {
        matches!(self.opcode(), FORGET | BATCH_FORGET | INTERRUPT)
    }

    /// An answer that is an error only.
    pub(super) fn error(&self, error: i32) -> [u8; ANSWER] {
        let mut answer = [0; ANSWER];
        let mut place = answer.as_mut_slice();
        let size = u32::try_from(ANSWER).unwrap_or(0).to_le_bytes();
        let unique = self.text.get(8..16).unwrap_or_default();
        for part in [&size, &error.wrapping_neg().to_le_bytes(), unique] {
            // There is room for all three.
            let _ = place.write(part);
        }
        answer
    }

    /// Why the request is not passed on: it reads or writes where no file reaches, which the server panics at, or a
    /// name in it is none. The server would resolve some of them on its own,
    /// from the directory they are said to be in to wherever.
    pub(super) fn refusal(&self) -> Option<i32> {
        // Arguments that come before the names, and how many names there are. What a symbolic link says is the
        // guest's own affair.
        let (arguments, names) = match self.opcode() {
            LOOKUP | UNLINK | RMDIR | SYMLINK => (0, 1),
            MKDIR | LINK => (8, 1),
            MKNOD | CREATE => (16, 1),
            RENAME => (8, 2),
            RENAME2 => (16, 2),
            READ | WRITE => {
                let offset = u64::from(self.word(HEADER + 12)) << 32;
                return (offset > LAST_OFFSET).then_some(libc::EINVAL);
            }
            _ => return None,
        };
        let rest = self.text.get(HEADER + arguments..).unwrap_or_default();
        let mut parts = rest.split(|&byte| byte == 0);
        let mut found = 0;
        // The last part is not ended.
        let ended = rest.iter().filter(|&&byte| byte == 0).count();
        for name in parts.by_ref().take(names.min(ended)) {
            if !is_name(name) {
                return Some(libc::EINVAL);
            }
            found += 1;
        }
        (found < names).then_some(libc::EINVAL)
    }
}

const OUTSIDE: DeviceError = DeviceError::Chain("it lies outside memory");

fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name != b"." && name != b".." && !name.contains(&b'/')
}

fn sum(buffers: &[Buffer]) -> usize {
    let sizes = buffers
        .iter()
        .map(|buffer| usize::try_from(buffer.size).unwrap_or(usize::MAX));
    sizes.fold(0, usize::saturating_add)
}
