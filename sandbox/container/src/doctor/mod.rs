//! What this kernel and its engines can enforce: probed by trying, not guessed from a version.

mod cgroups;
mod engines;
mod kernel;
mod probe;
mod render;
mod software;

use std::path::Path;

use serde::Serialize;

pub use engines::Engine;

/// The ABI version of this kernel's Landlock; `None` if it has none, or it is not on.
pub fn landlock_abi() -> Option<u32> {
    crate::sys::landlock::abi().ok()
}

/// The outcome of one probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It is there: what it protects can be enforced.
    Ok,
    /// Containers run without it, with less protection or less comfort.
    Degraded,
    /// Containers cannot be run, or not safely.
    Missing,
}

/// One probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked for.
    pub name: String,
    /// The outcome.
    pub status: Status,
    /// What was found.
    pub found: String,
    /// What that means for a container's protection, and what to do if it is not well.
    pub means: String,
}

impl Check {
    fn ok(name: &str, found: impl Into<String>, means: &str) -> Self {
        Self::new(name, Status::Ok, found, means)
    }

    fn degraded(name: &str, found: impl Into<String>, means: &str) -> Self {
        Self::new(name, Status::Degraded, found, means)
    }

    fn missing(name: &str, found: impl Into<String>, means: &str) -> Self {
        Self::new(name, Status::Missing, found, means)
    }

    fn new(name: &str, status: Status, found: impl Into<String>, means: &str) -> Self {
        Self {
            name: name.to_owned(),
            status,
            found: found.into(),
            means: means.to_owned(),
        }
    }
}

/// What this host can enforce.
#[derive(Debug, Clone, Serialize)]
pub struct Doctor {
    /// `uname -r`.
    pub kernel: String,
    /// The machine's architecture.
    pub architecture: String,
    /// Kernel features.
    pub features: Vec<Check>,
    /// Cgroups.
    pub cgroups: Vec<Check>,
    /// Everything besides the kernel.
    pub host: Vec<Check>,
    /// Engines on PATH.
    pub engines: Vec<Engine>,
}

impl Doctor {
    /// The worst outcome: `Missing` means that containers cannot be run, or not safely.
    pub fn worst(&self) -> Status {
        [&self.features, &self.cgroups, &self.host]
            .into_iter()
            .flatten()
            .map(|check| check.status)
            .max()
            .unwrap_or(Status::Ok)
    }

    /// A table in plain words.
    pub fn render(&self) -> String {
        render::render(self)
    }
}

/// Looks at this host. Run as root it also makes (and removes) a cgroup and a user namespace, for
/// only that shows whether they work.
///
/// The caller must be single-threaded, as for [`crate::create`].
pub fn doctor(policy_file: &Path) -> Doctor {
    let name = nix::sys::utsname::uname();
    let field = |of: &dyn Fn(&nix::sys::utsname::UtsName) -> String| {
        name.as_ref().map(of).unwrap_or_default()
    };
    Doctor {
        kernel: field(&|n| n.release().to_string_lossy().into_owned()),
        architecture: field(&|n| n.machine().to_string_lossy().into_owned()),
        features: kernel::checks(),
        cgroups: cgroups::checks(),
        host: software::checks(policy_file),
        engines: engines::find(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_is_looked_at_and_left_as_it_was() {
        let doctor = doctor(Path::new("/nonexistent/policy.toml"));
        println!("{}", doctor.render());
        assert!(!doctor.kernel.is_empty());
        let names: Vec<&str> = doctor.features.iter().map(|c| c.name.as_str()).collect();
        assert!(names.contains(&"seccomp") && names.contains(&"Landlock"));
        assert!(serde_json::to_string(&doctor).is_ok());
        if nix::unistd::geteuid().is_root() {
            assert!(doctor.cgroups.iter().any(|c| c.name == "task limit"));
        }
    }
}
