//! The heap of a process whose threads may open nothing.
#![expect(unsafe_code, reason = "mallopt has no safe wrapper")]

/// One heap for all threads. To be called before there are any: for a second one glibc would open
/// `/sys/devices/system/cpu/online`, which no thread's filter lets it do.
pub fn share() {
    // SAFETY: it sets a number of the allocator's, before other threads allocate.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}
