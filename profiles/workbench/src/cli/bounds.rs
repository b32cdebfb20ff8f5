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

/// Seconds on a processor.
const SECONDS: u64 = 120;
/// Open files.
const DESCRIPTORS: u64 = 512;
/// The largest file it writes: a summary, in bytes.
const FILE: u64 = 512 << 20;

/// Bounds a process that does nothing but analyse, and whose end another one can bear: its memory, time
/// and descriptors. Nothing that it executes or reads can raise the bounds.
pub(super) fn analyst() -> io::Result<()> {
    nix::sys::prctl::set_no_new_privs()?;
    memory()?;
    all(&[
        (Resource::RLIMIT_CPU, SECONDS),
        (Resource::RLIMIT_NOFILE, DESCRIPTORS),
        (Resource::RLIMIT_FSIZE, FILE),
    ])
}

/// Bounds this process; nothing that it executes or reads can raise the bounds.
fn all(bounds: &[(Resource, u64)]) -> io::Result<()> {
    for (resource, most) in bounds {
        let (_, hard) = getrlimit(*resource)?;
        let most = hard.min(*most);
        setrlimit(*resource, most, most)?;
    }
    Ok(())
}
