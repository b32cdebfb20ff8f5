//! A guest that asks a shared directory for what it likes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use virtio_queue::{Queue, QueueT as _};
use vm_memory::{Bytes as _, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

use super::Anything;
use crate::config::ShareConfig;
use crate::memory::Memory;
use crate::virtio::fs::{Fs, OwnFiles, prepare_thread};
use crate::virtio::{Device as _, DeviceError, Interrupt, Queues};

/// Guest memory, bytes: rings in the first pages, then the request, then the answer.
const MEMORY: usize = 0x8_0000;
const TABLE: u32 = 0;
const AVAILABLE: u32 = 0x1000;
const USED: u32 = 0x2000;
const REQUEST: u64 = 0x1_0000;
const ANSWER: u64 = 0x4_0000;
const SIZE: u16 = 16;
/// The most that files grow to, so that nobody fills the host's disk.
const MOST: u64 = 1 << 20;

/// Keeps this process's files small, so that a guest of this thread cannot fill the host's disk.
///
/// # Errors
///
/// Where the host refuses it.
pub fn limit_files() -> Anything<()> {
    // A file that is too large is an error for who writes it, and no signal.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGXFSZ);
    signals.thread_block()?;
    let (soft, hard) = getrlimit(Resource::RLIMIT_FSIZE)?;
    setrlimit(Resource::RLIMIT_FSIZE, soft.min(MOST), hard)?;
    Ok(())
}

/// A directory of a few files below `dir`, with a link out of it, and what lies outside.
///
/// # Errors
///
/// Where the host has no files for it.
pub fn device(dir: &Path, read_only: bool) -> Anything<Fs> {
    prepare_thread()?;
    let path = dir.join("share");
    fs::create_dir_all(path.join("sub"))?;
    fs::write(path.join("file"), "inside")?;
    fs::write(path.join("sub/deep"), "deep")?;
    symlink(dir.join("outside"), path.join("link"))?;
    symlink("..", path.join("up"))?;
    fs::create_dir_all(dir.join("outside"))?;
    fs::write(dir.join("outside/secret"), "secret")?;
    let config = ShareConfig {
        tag: "share".to_owned(),
        path,
        read_only,
        validity: 0,
    };
    Ok(Fs::open(&config, &OwnFiles::open()?)?)
}

/// The guest, its memory, and the directory's device.
pub struct Guest {
    device: Fs,
    memory: Memory,
    queues: Vec<Queue>,
    interrupt: Interrupt,
    asked: u16,
}

impl Guest {
    /// A guest that has been given the device.
    ///
    /// # Errors
    ///
    /// Where the host has no memory for it.
    pub fn new(device: Fs) -> Anything<Self> {
        let memory = Memory::from_ranges(&[(GuestAddress(0), MEMORY)])?;
        let mut requests = Queue::new(SIZE)?;
        requests.set_desc_table_address(Some(TABLE), Some(0));
        requests.set_avail_ring_address(Some(AVAILABLE), Some(0));
        requests.set_used_ring_address(Some(USED), Some(0));
        requests.set_ready(true);
        Ok(Self {
            device,
            memory,
            queues: vec![Queue::new(SIZE)?, requests],
            interrupt: Interrupt::new(EventFd::new(libc::EFD_NONBLOCK)?),
            asked: 0,
        })
    }

    /// Asks, with room for so many bytes of an answer, which is returned.
    ///
    /// # Errors
    ///
    /// Why the device stopped.
    pub fn ask(&mut self, request: &[u8], room: u32) -> Anything<Result<Vec<u8>, DeviceError>> {
        self.ask_for(request, ANSWER, room)
    }

    /// Asks, for an answer at that address.
    fn ask_for(
        &mut self,
        request: &[u8],
        answer: u64,
        room: u32,
    ) -> Anything<Result<Vec<u8>, DeviceError>> {
        let size = u32::try_from(request.len())?;
        self.memory.write_slice(request, GuestAddress(REQUEST))?;
        let answers = [(answer, room, 2)];
        let asked = [(REQUEST, size, u16::from(room > 0))];
        let descriptors = asked
            .into_iter()
            .chain(answers)
            .take(1 + usize::from(room > 0));
        for (index, (at, size, flags)) in (0_u16..).zip(descriptors) {
            let mut entry = Vec::new();
            entry.extend(at.to_le_bytes());
            entry.extend(size.to_le_bytes());
            entry.extend(u16::to_le_bytes(flags));
            entry.extend((index + 1).to_le_bytes());
            let place = u64::from(TABLE) + u64::from(index) * 16;
            self.memory.write_slice(&entry, GuestAddress(place))?;
        }
        self.offer()
    }

    /// Offers the first entry of the table, and takes the answer.
    fn offer(&mut self) -> Anything<Result<Vec<u8>, DeviceError>> {
        let place = u64::from(AVAILABLE) + 4 + u64::from(self.asked % SIZE) * 2;
        self.memory.write_obj(0_u16, GuestAddress(place))?;
        let used = u64::from(USED) + 4 + u64::from(self.asked % SIZE) * 8 + 4;
        self.asked = self.asked.wrapping_add(1);
        let index = GuestAddress(u64::from(AVAILABLE) + 2);
        self.memory.write_obj(self.asked.to_le(), index)?;
        let mut queues = Queues::new(&self.memory, &mut self.queues, &self.interrupt);
        if let Err(error) = self.device.notified(1, &mut queues) {
            return Ok(Err(error));
        }
        let size: u32 = self.memory.read_obj(GuestAddress(used))?;
        let mut answer = vec![0; usize::try_from(size)?.min(MEMORY)];
        self.memory.read_slice(&mut answer, GuestAddress(ANSWER))?;
        Ok(Ok(answer))
    }
}

/// What a kernel says first (`struct fuse_init_in` of 7.40): all it can, and what it can besides.
#[must_use]
pub fn init() -> Vec<u8> {
    let mut arguments = Vec::new();
    for word in [7, 40, 0x2_0000, u32::MAX, u32::MAX] {
        arguments.extend(u32::to_le_bytes(word));
    }
    arguments.extend([0; 44]);
    message(26, 1, &arguments)
}

/// A request with its header: opcode, node, arguments.
#[must_use]
pub fn message(opcode: u32, node: u64, arguments: &[u8]) -> Vec<u8> {
    let size = u32::try_from(40 + arguments.len()).unwrap_or(u32::MAX);
    let mut bytes = size.to_le_bytes().to_vec();
    bytes.extend(opcode.to_le_bytes());
    bytes.extend(7_u64.to_le_bytes());
    bytes.extend(node.to_le_bytes());
    // User, group, process, extensions.
    bytes.extend([0; 16]);
    bytes.extend(arguments);
    bytes
}

/// A guest that asks one thing after another: two bytes are a length, then so many of a request follow. What lies
/// outside of the directory must be as it was.
///
/// # Errors
///
/// Where the host has no files or memory for it.
///
/// # Panics
///
/// Where the guest has got out.
pub fn requests(bytes: &[u8]) -> Anything<()> {
    let dir = tempfile::tempdir()?;
    let mut guest = Guest::new(device(dir.path(), false)?)?;
    let _ = guest.ask(&init(), 80)?;
    let mut rest = bytes;
    while let Some((size, more)) = rest.split_first_chunk() {
        let size = usize::from(u16::from_le_bytes(*size)).min(more.len());
        let (request, more) = more.split_at(size);
        rest = more;
        if guest.ask(request, 0x1_0000)?.is_err() {
            break;
        }
    }
    let secret = fs::read(dir.path().join("outside/secret"))?;
    let outside = fs::read_dir(dir.path().join("outside"))?.count();
    let top = fs::read_dir(dir.path())?.count();
    assert!(
        secret == b"secret" && (outside, top) == (1, 2),
        "it got out"
    );
    Ok(())
}

#[cfg(test)]
mod tests;
