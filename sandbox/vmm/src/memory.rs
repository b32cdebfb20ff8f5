//! Guest memory.

#![expect(unsafe_code, reason = "madvise(2) has no safe wrapper")]

use std::io;

use vm_memory::{
    Address as _, GuestAddress, GuestMemory as _, GuestMemoryError, GuestMemoryMmap,
    GuestMemoryRegion as _,
};

use crate::arch::layout;
use crate::error::{VmError, VmResult};

/// The memory of a machine; cheap to clone.
pub type Memory = GuestMemoryMmap<()>;

/// Anonymous memory of so many MiB, in one piece below the devices' addresses and one above 4 GiB. The host
/// gives pages as the guest touches them.
///
/// # Errors
///
/// [`VmError::Memory`] where the host has no address space for it.
pub fn anonymous(megabytes: u32) -> VmResult<Memory> {
    Memory::from_ranges(&layout::ranges(u64::from(megabytes) << 20)).map_err(|source| {
        VmError::Memory {
            megabytes,
            source: io::Error::other(source),
        }
    })
}

/// The host's pages, bytes; those of a machine whose pages are larger would not all be given back.
const PAGE: usize = 4096;

/// Gives the whole pages of a range back to the host. Read again, they are as the memory was made: zero.
///
/// # Errors
///
/// Where the range is not within one region, of which nothing is given back then, or what the kernel says.
pub(crate) fn give_back(memory: &Memory, at: GuestAddress, length: usize) -> io::Result<()> {
    let slice = memory
        .get_slice(at, length)
        .map_err(|error: GuestMemoryError| io::Error::other(error))?;
    let guard = slice.ptr_guard_mut();
    let before = guard.as_ptr().align_offset(PAGE);
    let Some(whole) = length.checked_sub(before).map(|rest| rest & !(PAGE - 1)) else {
        return Ok(());
    };
    if whole == 0 {
        return Ok(());
    }
    // SAFETY: the pages lie within the slice, and so within the guest's memory, of which Rust holds no references:
    // all access to it is volatile. They stay mapped; what was in them is the guest's to lose.
    let done = unsafe {
        let first = guard.as_ptr().add(before);
        libc::madvise(first.cast(), whole, libc::MADV_DONTNEED)
    };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Where the first region ends: what the kernel needs at boot lies below.
pub(crate) fn low_end(memory: &Memory) -> GuestAddress {
    memory.iter().next().map_or(GuestAddress(0), |region| {
        region.last_addr().unchecked_add(1)
    })
}

#[cfg(test)]
mod tests {
    use vm_memory::Bytes as _;

    use super::*;

    #[test]
    fn whole_pages_of_a_range_are_given_back_and_no_byte_more() {
        let size = 16 * PAGE;
        let memory = Memory::from_ranges(&[(GuestAddress(0), size), (GuestAddress(1 << 32), size)])
            .expect("memory");
        // At, length, and the pages that are zero afterwards.
        let cases = [
            (0, 0, 0..0),
            (0, PAGE - 1, 0..0),
            (0, PAGE, 0..1),
            (1, PAGE, 0..0),
            (1, 2 * PAGE - 1, 1..2),
            (1, 2 * PAGE, 1..2),
            (PAGE + 1, 10, 0..0),
            (2 * PAGE, 3 * PAGE + 5, 2..5),
            (0, size, 0..16),
        ];
        for (at, length, gone) in cases {
            memory
                .write_slice(&vec![7; size], GuestAddress(0))
                .expect("write");
            let place = GuestAddress(u64::try_from(at).expect("small"));
            give_back(&memory, place, length).expect("give back");
            let mut bytes = vec![0; size];
            memory
                .read_slice(&mut bytes, GuestAddress(0))
                .expect("read");
            for (index, page) in bytes.chunks(PAGE).enumerate() {
                let want = if gone.contains(&index) { 0 } else { 7 };
                assert!(
                    page.iter().all(|&byte| byte == want),
                    "page {index} after {length} at {at}"
                );
            }
        }
        let outside = [
            (0, size + 1),
            (u64::try_from(size).expect("small"), 1),
            ((1 << 32) - 1, 10),
            ((1 << 32) + 1, size),
            (u64::MAX, 2),
            (0, usize::MAX),
        ];
        memory
            .write_slice(&vec![7; size], GuestAddress(0))
            .expect("write");
        for (at, length) in outside {
            assert!(
                give_back(&memory, GuestAddress(at), length).is_err(),
                "{length} at {at}"
            );
        }
        let mut bytes = vec![0; size];
        memory
            .read_slice(&mut bytes, GuestAddress(0))
            .expect("read");
        assert!(bytes.iter().all(|&byte| byte == 7));
    }
}
