use std::{collections::BTreeSet, path::PathBuf};

use cofferdam_integration::{
    binaries::Runtime,
    cases::Engine,
    client::Client,
    docker::{Docker, Door, Version},
    error::{At, Error, Result},
};
use cofferdam_profiles::seccomp::{Arch, resolve};

/// Docker's default profile.
#[derive(Debug)]
pub(crate) struct Default {
    /// Names that it allows, with whatever arguments.
    pub names: BTreeSet<String>,
    /// Those which are calls of x86-64.
    pub native: BTreeSet<String>,
    /// Docker's version.
    pub version: String,
}

/// Docker's default profile as a container gets it: from the spec that dockerd gives to runc.
///
/// # Errors
/// If dockerd cannot be run.
pub(crate) fn default_profile() -> Result<Default> {
    let docker = Docker::start_with(Version::V20_10, Door::Path, Runtime::Runc, &[])?;
    let started = docker.run_with(&["--detach"], &["sleep", "60"]).ok()?;
    let id = started.stdout.trim().to_owned();
    let dir = docker.enclave().dir().display().to_string();
    let wanted = format!("*/{id}/config.json");
    let find = docker.enclave().cmd("find");
    let found = find
        .args(["/run", &dir, "-path", &wanted, "-print", "-quit"])
        .run()?;
    let path: PathBuf = docker.enclave().path(found.stdout.trim());
    let text = std::fs::read_to_string(&path).at("read", &path)?;
    docker.remove(&id)?;
    let spec: serde_json::Value = serde_json::from_str(&text).map_err(|source| Error::Json {
        what: "the spec that dockerd wrote".to_owned(),
        text,
        source,
    })?;
    let rules = spec["linux"]["seccomp"]["syscalls"].as_array();
    let names: BTreeSet<String> = rules
        .into_iter()
        .flatten()
        .filter(|rule| rule["action"] == "SCMP_ACT_ALLOW")
        .flat_map(|rule| rule["names"].as_array().into_iter().flatten())
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect();
    let native = names
        .iter()
        .filter(|name| resolve(Arch::X86_64, name).is_some())
        .cloned()
        .collect();
    let version = docker
        .cli(["version", "--format", "{{.Server.Version}}"])
        .ok()?
        .stdout;
    Ok(Default {
        names,
        native,
        version: version.trim().to_owned(),
    })
}
