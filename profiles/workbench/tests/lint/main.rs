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

/// The default profiles of other engines: those that `scripts/fetch-profiles` fetched, the machine's own, and
/// one beside the project. A missing one fails where `COFFERDAM_REQUIRE_PROFILES` is set.
pub(crate) fn engine_profiles() -> Vec<(&'static str, String)> {
    let cache = std::env::var_os("COFFERDAM_TEST_CACHE");
    let cache = cache.map_or_else(
        || PathBuf::from("/var/cache/cofferdam-tests"),
        PathBuf::from,
    );
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/seccomp");
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let mut found = Vec::new();
    for (name, places) in [
        (
            "containers-common",
            vec![
                cache.join("profiles/containers-common.json"),
                "/usr/share/containers/seccomp.json".into(),
            ],
        ),
        (
            "docker",
            vec![
                cache.join("profiles/docker.json"),
                beside.join("moby-default.json"),
            ],
        ),
    ] {
        let mut texts: Vec<String> = places.iter().filter_map(|path| read(path)).collect();
        texts.dedup();
        if texts.is_empty() {
            assert!(
                std::env::var_os("COFFERDAM_REQUIRE_PROFILES").is_none(),
                "{name}'s default profile is not there; run scripts/fetch-profiles"
            );
            eprintln!("skipped in part: no {name}; scripts/fetch-profiles fetches it");
        }
        found.extend(texts.into_iter().map(|text| (name, text)));
    }
    found
}
