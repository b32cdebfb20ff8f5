//! A test that needs root returns early here with a line on standard error, unless
//! `COFFERDAM_REQUIRE_ROOT=1` (set by `make test` and CI) turns that skip into a failure.

use crate::error::{At, Error, Result};

/// Proof that the process is root.
#[derive(Debug)]
pub struct Root(());

/// `None` (and a visible note) without root.
///
/// # Panics
/// If `COFFERDAM_REQUIRE_ROOT` is set and the process is not root.
#[must_use]
pub fn root() -> Option<Root> {
    if nix::unistd::geteuid().is_root() {
        return Some(Root(()));
    }
    assert!(
        !is_required(),
        "COFFERDAM_REQUIRE_ROOT is set, but the tests do not run as root"
    );
    note("needs root");
    None
}

/// The engine, or `None` with a visible note where it is absent and may be.
///
/// # Errors
/// Whatever kept the engine from being found, if `COFFERDAM_REQUIRE_ROOT` is set, and anything but
/// its absence in any case.
pub fn present<T>(engine: Result<T>) -> Result<Option<T>> {
    match engine {
        Err(Error::Missing { what, remedy }) if !is_required() => {
            note(&format!("{what} is missing: {remedy}"));
            Ok(None)
        }
        other => other.map(Some),
    }
}

/// The lab guest that a test wants, by its first process (docs/lab.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guest {
    /// A script that mounted the file systems.
    Script,
    /// systemd.
    Systemd,
}

/// Proof that this runs as root in the guest of that kind: cgroup v2 alone, AppArmor, nothing of the
/// machine's to be spared. `None` (and a visible note) elsewhere; `make test-lab` takes a note for a
/// failure.
#[must_use]
pub fn lab(guest: Guest) -> Option<Root> {
    let wanted = match guest {
        Guest::Script => "script",
        Guest::Systemd => "systemd",
    };
    if std::env::var("COFFERDAM_LAB").is_ok_and(|value| value == wanted) {
        return root();
    }
    note(&format!("needs the lab's {wanted} guest: make test-lab"));
    None
}

/// Says that a part of a test does not apply, because what is tested does not exist there on any machine. Unlike
/// what is missing, that is never a failure.
#[expect(clippy::print_stderr, reason = "what is left out must be seen")]
pub fn inapplicable(why: &str) {
    eprintln!("DOES NOT APPLY: {why}");
}

/// The version of the running Linux, as far as kernels are told apart by it: `(6, 18)` of 6.18.44.
///
/// # Errors
/// If the kernel does not say it.
pub fn linux() -> Result<(u32, u32)> {
    let path = "/proc/sys/kernel/osrelease";
    let release = std::fs::read_to_string(path).at("read", path)?;
    let mut numbers = release
        .split(['.', '-'])
        .map(|number| number.parse().unwrap_or(0));
    Ok((numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)))
}

fn is_required() -> bool {
    std::env::var_os("COFFERDAM_REQUIRE_ROOT").is_some_and(|value| value == "1")
}

#[expect(clippy::print_stderr, reason = "a skip must be seen")]
fn note(why: &str) {
    eprintln!("SKIPPED: {why}");
}
