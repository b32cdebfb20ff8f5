//! The linter: each rule on its fixtures and on faults put into the field's profiles, repairs, bounds, SARIF.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests fail by panicking, and say what they leave out"
)]

/// Hostile and random files.
mod bounds;
/// The command line.
mod command;
/// Each rule on a file that breaks it and on one that does not.
mod fixtures;
/// A fault of every kind put into clean profiles.
mod mutation;
/// What `--fix` does.
mod repair;
/// The findings as other programs read them.
mod sarif;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use cofferdam_profiles::capability;
use cofferdam_profiles::seccomp::Arch;
use cofferdam_workbench::dialect::Target;
use cofferdam_workbench::lint::{Options, lint};

/// An engine's usual container on x86-64.
pub(crate) fn options() -> Options {
    Options::new(Target {
        capabilities: capability::ENGINE_DEFAULT,
        arch: Arch::X86_64,
        kernel: None,
    })
}

/// The ids of the rules that a text breaks.
pub(crate) fn broken(text: &str) -> BTreeSet<&'static str> {
    let report = lint(text.as_bytes(), &options());
    report.findings.iter().map(|found| found.rule.id).collect()
}

/// A fixture's path.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/lint/fixtures")
        .join(name)
}

/// The default profiles of other engines that this machine has: see profiles/tests/seccomp/profiles.rs.
pub(crate) fn engine_profiles() -> Vec<(&'static str, String)> {
    let beside = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/data/seccomp/moby-default.json"
    );
    let found: Vec<_> = [
        ("docker", beside),
        ("containers-common", "/usr/share/containers/seccomp.json"),
    ]
    .into_iter()
    .filter_map(|(name, path)| Some((name, std::fs::read_to_string(path).ok()?)))
    .collect();
    if found.len() < 2 {
        eprintln!(
            "skipped in part: {} of 2 engine profiles are installed",
            found.len()
        );
    }
    found
}
