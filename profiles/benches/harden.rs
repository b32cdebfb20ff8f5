//! What a container start pays for its policy: reading the policy file, parsing and hardening the spec.
//!
//! `cargo bench -p cofferdam-profiles --bench harden` prints one row per round, in microseconds, and
//! the least and the median of each column at the end. The rounds interleave the measures.

/// What every bench prints.
mod rows;

use std::error::Error;
use std::hint::black_box;
use std::io::stdout;
use std::path::Path;
use std::time::Instant;

use cofferdam_profiles::capability;
use cofferdam_profiles::policy::{
    HostFacts, NamespaceOwner, PolicyFile, Questions, Selection, harden, parse_spec,
};
use cofferdam_profiles::seccomp::{Arch, default_profile};
use oci_spec::runtime::Spec;
use rows::Rows;

const ROUNDS: usize = 101;
const MEASURES: [&str; 3] = ["read_policy", "harden_plain", "harden_with_seccomp"];

fn main() -> Result<(), Box<dyn Error>> {
    let mut plain = Spec::default();
    plain.set_hostname(None);
    let mut filtered = plain.clone();
    let capabilities = capability::ENGINE_DEFAULT.to_oci();
    if let Some(linux) = filtered.linux_mut() {
        linux.set_seccomp(Some(default_profile(&capabilities, Arch::NATIVE)));
    }
    let specs = [plain, filtered].map(|spec| serde_json::to_vec(&spec));
    let [plain, filtered] = specs;
    let (plain, filtered) = (plain?, filtered?);

    let mut out = stdout().lock();
    let mut rows = Rows::new(&mut out, MEASURES)?;
    for _ in 0..ROUNDS {
        let took = [read_policy()?, start(&plain)?, start(&filtered)?];
        rows.add(&mut out, took)?;
    }
    rows.finish(&mut out)?;
    Ok(())
}

/// Reads the longest policy file there is at hand: the example.
fn read_policy() -> Result<f64, Box<dyn Error>> {
    let begun = Instant::now();
    black_box(PolicyFile::parse(
        PolicyFile::example(),
        Path::new("policy.toml"),
    )?);
    Ok(micros(begun))
}

/// What a start does between the bytes of `config.json` and the hardened spec, the host's answers left
/// out.
fn start(bytes: &[u8]) -> Result<f64, Box<dyn Error>> {
    let begun = Instant::now();
    let spec = parse_spec(bytes)?;
    let questions = Questions::of(&spec);
    let sources = questions.mount_sources.into_iter();
    let namespaces = questions.namespaces.into_iter();
    let host = HostFacts {
        mount_sources: sources.map(|path| (path.clone(), path)).collect(),
        namespaces: namespaces
            .map(|path| (path, NamespaceOwner::Other))
            .collect(),
        ..HostFacts::default()
    };
    let file = PolicyFile::builtin();
    black_box(harden(spec, &file, &Selection::default(), &host)?);
    Ok(micros(begun))
}

fn micros(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e6
}
