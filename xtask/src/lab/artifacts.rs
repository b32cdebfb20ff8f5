use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::Deserialize;

use super::{steps::Step, tree};
use crate::error::{Error, Result};

/// What cargo built for a set of steps.
#[derive(Debug)]
pub(super) struct Artifacts {
    found: Vec<Artifact>,
}

#[derive(Debug, Deserialize)]
struct Artifact {
    reason: String,
    #[serde(default)]
    package_id: String,
    target: Option<Target>,
    profile: Option<Profile>,
    executable: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Profile {
    test: bool,
}

impl Artifacts {
    /// Builds the tests; all of the workspace's where that is what `make test` has built just now, for
    /// cargo would otherwise build dependencies again with other features.
    ///
    /// # Errors
    /// If the build fails, or cargo says what nobody understands.
    pub(super) fn build(steps: &[Step], everything: bool) -> Result<Self> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(&cargo);
        command
            .args(["test", "--no-run", "--quiet", "--locked"])
            .args(["--message-format", "json-render-diagnostics"])
            .current_dir(tree())
            .stdin(Stdio::null())
            .stderr(Stdio::inherit());
        if everything {
            command.arg("--workspace");
        } else {
            let packages: BTreeSet<_> = steps.iter().map(|step| step.package).collect();
            command.args(packages.iter().flat_map(|name| ["--package", name]));
        }
        let output = command.output().map_err(|source| Error::Spawn {
            program: "cargo".to_owned(),
            source,
        })?;
        if !output.status.success() {
            return Err(Error::Preparation {
                program: "cargo test --no-run".to_owned(),
                status: output.status,
            });
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let parsed = text.lines().map(serde_json::from_str::<Artifact>);
        let found = parsed
            .collect::<std::result::Result<_, _>>()
            .map_err(Error::Artifacts)?;
        Ok(Self { found })
    }

    /// A step's test binary.
    ///
    /// # Errors
    /// If there is none: the step names what is not in the workspace.
    pub(super) fn test(&self, step: &Step) -> Result<&Path> {
        let is_it = |artifact: &&Artifact| {
            let (Some(target), Some(profile)) = (&artifact.target, &artifact.profile) else {
                return false;
            };
            profile.test && target.name == step.target && artifact.is_of(step.package)
        };
        self.executables()
            .find_map(|(artifact, path)| is_it(&artifact).then_some(path))
            .ok_or(Error::NoTest {
                package: step.package,
                target: step.target,
            })
    }

    /// The programs that tests know by the path of this build.
    pub(super) fn programs(&self) -> impl Iterator<Item = &Path> {
        self.executables().filter_map(|(artifact, path)| {
            let target = artifact.target.as_ref()?;
            let is_test = artifact
                .profile
                .as_ref()
                .is_some_and(|profile| profile.test);
            (!is_test && target.kind.iter().any(|kind| kind == "bin")).then_some(path)
        })
    }

    fn executables(&self) -> impl Iterator<Item = (&Artifact, &Path)> {
        self.found
            .iter()
            .filter(|artifact| artifact.reason == "compiler-artifact")
            .filter_map(|artifact| Some((artifact, artifact.executable.as_deref()?)))
    }
}

impl Artifact {
    /// `path+file:///tree/sandbox/container#cofferdam-container@0.1.0`, where the name is left out if
    /// the directory has it.
    fn is_of(&self, package: &str) -> bool {
        let Some((place, rest)) = self.package_id.rsplit_once('#') else {
            return false;
        };
        match rest.split_once('@') {
            Some((name, _)) => name == package,
            None => place.rsplit('/').next() == Some(package),
        }
    }
}
