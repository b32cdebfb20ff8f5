//! What a process that reads a hostile image may take of the machine.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// As much memory as the largest programs need, several times over, in bytes.
const MEMORY: u64 = 2 << 30;

/// Bounds the memory of this process, and keeps what it read out of core files. Whatever it starts is
/// bounded too.
pub(super) fn memory() -> io::Result<()> {
    all(&[(Resource::RLIMIT_AS, MEMORY), (Resource::RLIMIT_CORE, 0)])
}

/// Bounds this process; nothing that it executes or reads can raise the bounds.
pub(super) fn all(bounds: &[(Resource, u64)]) -> io::Result<()> {
    for (resource, most) in bounds {
        let (_, hard) = getrlimit(*resource)?;
        let most = hard.min(*most);
        setrlimit(*resource, most, most)?;
    }
    Ok(())
}
