//! An array that this process and the programs write at the same time.
#![expect(unsafe_code, reason = "a map's memory has no safe wrapper")]

use std::io;
use std::os::fd::AsRawFd as _;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use crate::sys::{Kind, Map};

/// BPF_F_MMAPABLE
const F_MMAPABLE: u32 = 1 << 10;

/// An array of words that this process and the programs write at the same time.
#[derive(Debug)]
pub(crate) struct SharedArray {
    map: Map<u32, u64>,
    words: NonNull<AtomicU64>,
    length: u32,
}

// SAFETY: the mapping belongs to the array until it is dropped, and is only used by atomic operations.
unsafe impl Send for SharedArray {}
// SAFETY: as above.
unsafe impl Sync for SharedArray {}

impl SharedArray {
    /// Makes an array of so many zeros.
    pub(crate) fn create(name: &str, length: u32) -> io::Result<Self> {
        let map = Map::create_with(Kind::Array, name, length, F_MMAPABLE)?;
        let bytes = usize::try_from(length)
            .ok()
            .and_then(|length| length.checked_mul(size_of::<u64>()))
            .filter(|bytes| *bytes != 0)
            .ok_or(io::ErrorKind::InvalidInput)?;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let fd = map.fd().as_raw_fd();
        // SAFETY: a new mapping at a place that the kernel chooses.
        let place =
            unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, libc::MAP_SHARED, fd, 0) };
        if place == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let words = NonNull::new(place.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { map, words, length })
    }

    /// For the programs that use it.
    pub(crate) fn map(&self) -> &Map<u32, u64> {
        &self.map
    }

    /// How many words there are.
    pub(crate) fn length(&self) -> u32 {
        self.length
    }

    /// A word.
    pub(crate) fn at(&self, index: u32) -> io::Result<&AtomicU64> {
        let index = usize::try_from(index).map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok(self.words().get(index).ok_or(io::ErrorKind::InvalidInput)?)
    }

    /// Every word.
    pub(crate) fn all(&self) -> impl Iterator<Item = &AtomicU64> {
        self.words().iter()
    }

    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is of `length` words, aligned to a page, and lives as long as `self`; the
        // kernel's side too writes whole words.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr(), self.length as usize) }
    }
}

impl Drop for SharedArray {
    fn drop(&mut self) {
        let bytes = self.length as usize * size_of::<u64>();
        // SAFETY: the mapping that `create` made, which nothing refers to any more.
        unsafe { libc::munmap(self.words.as_ptr().cast(), bytes) };
    }
}
