//! What this kernel's Landlock cannot bound, and how that is said.

use cofferdam_integration::{
    binaries::build_dir,
    command::{Cmd, Done},
    error::Result,
};
use serde_json::Value;

/// By the words of reports.
pub(crate) const PORTS: &str = "TCP ports";

/// What goes with any bound on files, and the ABI that it takes.
const WITH_FILES: [(u64, &str); 2] = [
    (3, "truncating files that may not be written"),
    (5, "commands to devices"),
];

/// What this kernel's Landlock cannot bound of what the document says. Linux 6.10 can bound all of it.
pub(crate) fn lacking(document: &Value) -> Result<Vec<&'static str>> {
    let doctor = Cmd::new(build_dir()?.join("cofferdam")).args(["doctor", "--format", "json"]);
    let doctor = doctor.run()?.json()?;
    let features = doctor["features"].as_array().into_iter().flatten();
    let mut found = features.filter(|one| one["name"] == "Landlock");
    let abi = found.find_map(|one| one["found"].as_str()?.strip_prefix("ABI ")?.parse().ok());
    let abi: u64 = abi.unwrap_or(0);
    assert!(abi >= 1, "these tests need Landlock: {doctor:#}");
    let ports = document["network"].is_object().then_some((4, PORTS));
    let all = WITH_FILES.into_iter().chain(ports);
    let lacks: Vec<_> = all
        .filter(|(since, _)| *since > abi)
        .map(|(_, what)| what)
        .collect();
    let release = Cmd::new("uname").arg("-r").ok()?.stdout;
    let mut numbers = release
        .split('.')
        .map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next(), numbers.next());
    assert!(
        lacks.is_empty() || version < (Some(6), Some(10)),
        "ABI {abi} on Linux {release}"
    );
    Ok(lacks)
}

/// Nothing is started with less than asked, and all that lacks is named.
pub(crate) fn assert_refused(done: &Done, lacks: &[&str]) {
    assert!(!done.status.success(), "{done:?}");
    for what in lacks {
        let named = done.stderr.contains(&format!("a bound on {what}"));
        assert!(named, "{what}: {done:?}");
    }
}
