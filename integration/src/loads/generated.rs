//! Profiles made from files alone, for a program or for everything in its container.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use cofferdam_analysis::{
    Analysis, Entry, Options, RootFs, analyse, generate_or_recall, to_profile,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Program;
use crate::error::{At, Error, Result};

/// What the analysis of one executable gave.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Generated {
    /// Every call it found, whatever the profile does with it.
    pub found: BTreeSet<String>,
    /// Calls that the profile allows.
    pub allowed: BTreeSet<String>,
    /// Calls that the profile answers with ENOSYS, because callers then use an older one.
    pub absent: BTreeSet<String>,
    /// Reachable system calls whose number is not known.
    pub unresolved: usize,
    /// What kind of program it is.
    pub kind: String,
    /// How far the result can be trusted.
    pub confidence: String,
    /// The function with the main loop, and how many calls are left once it runs.
    pub serving: Option<(String, usize)>,
}

impl Generated {
    /// Analyses an executable of a root file system.
    ///
    /// # Errors
    /// If it cannot be analysed.
    pub fn of(root: &Path, executable: &str, cache: Option<PathBuf>) -> Result<Self> {
        let failed = |source| Error::Analysis {
            program: executable.to_owned(),
            source: Box::new(source),
        };
        let root = RootFs::open(root).at("open", root)?;
        let analysis = analyse(&root, Path::new(executable), &Options { cache }).map_err(failed)?;
        Ok(Self::from(&analysis))
    }

    /// As `cofferdam profile generate` makes it: the program, with all that it may start analysed too, or
    /// a result that was kept. What is said is of the program alone.
    ///
    /// # Errors
    /// If it cannot be analysed.
    pub fn recalled(root: &Path, executable: &str, cache: PathBuf) -> Result<Self> {
        let opened = RootFs::open(root).at("open", root)?.watched();
        let entry = Entry {
            args: &[executable.to_owned()],
            path: None,
            cwd: Path::new("/"),
        };
        let options = Options { cache: Some(cache) };
        let failed = |source| Error::Entry {
            program: executable.to_owned(),
            source: Box::new(source),
        };
        let made = generate_or_recall(&opened, &entry, &options).map_err(failed)?;
        Ok(made.programs.first().map(Self::from).unwrap_or_default())
    }

    /// The profile of a container that runs several executables: what any of them may do.
    #[must_use]
    pub fn merged(all: &[Self]) -> Self {
        let mut merged = Self::default();
        for one in all {
            merged.found.extend(one.found.iter().cloned());
            merged.allowed.extend(one.allowed.iter().cloned());
            merged.absent.extend(one.absent.iter().cloned());
            merged.unresolved += one.unresolved;
        }
        merged.absent.retain(|name| !merged.allowed.contains(name));
        merged
    }

    /// As `linux.seccomp` of an OCI spec that kills a process for any other call.
    #[must_use]
    pub fn killing(&self) -> Value {
        json!({
            "defaultAction": "SCMP_ACT_KILL_PROCESS",
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [
                {"names": self.allowed, "action": "SCMP_ACT_ALLOW"},
                {"names": self.absent, "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
            ],
        })
    }
}

impl From<&Analysis> for Generated {
    fn from(analysis: &Analysis) -> Self {
        let profile = to_profile(analysis);
        let mut generated = Self {
            found: analysis.syscalls.keys().cloned().collect(),
            unresolved: analysis.unresolved.len(),
            kind: format!("{:?}", analysis.kind),
            confidence: format!("{:?}", analysis.confidence),
            serving: analysis
                .serving
                .as_ref()
                .map(|serving| (serving.main_loop.clone(), serving.syscalls.len())),
            ..Self::default()
        };
        for rule in profile.syscalls().iter().flatten() {
            let names = rule.names().iter().cloned();
            match rule.action() {
                oci_spec::runtime::LinuxSeccompAction::ScmpActAllow => {
                    generated.allowed.extend(names);
                }
                _ => generated.absent.extend(names),
            }
        }
        generated
    }
}

/// The profile of everything that runs in a program's container, from its root file system.
///
/// # Errors
/// If an executable cannot be analysed.
pub fn of_container(root: &Path, program: &Program, cache: Option<&Path>) -> Result<Generated> {
    let all = program
        .executables()
        .map(|executable| Generated::of(root, executable, cache.map(Path::to_owned)));
    Ok(Generated::merged(&all.collect::<Result<Vec<_>>>()?))
}
