//! Which calls are taken as known by a recording by notifications.

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use cofferdam_analysis::{Options, RootFs, analyse};
use cofferdam_profiles::seccomp::{Arch, Decision, Evaluator, resolve};
use cofferdam_recorder::NotifyRecorder;

use crate::cli::container::Container;
use crate::cli::{CliError, files};
use crate::recording::restricted;

/// Where a prediction comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Predict {
    /// The static analysis of the program.
    Analysis,
    /// Nowhere: everything asks.
    Nothing,
    /// The calls that a profile allows whatever their arguments.
    Profile(PathBuf),
}

impl FromStr for Predict {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "analysis" => Self::Analysis,
            "nothing" => Self::Nothing,
            path => Self::Profile(path.into()),
        })
    }
}

/// The native numbers that need not ask: without those whose arguments are worth knowing.
pub(super) fn predict(
    predict: &Predict,
    root: &Path,
    program: &str,
    path: Option<&str>,
) -> Result<BTreeSet<u32>, CliError> {
    let mut numbers = match predict {
        Predict::Nothing => BTreeSet::new(),
        Predict::Profile(profile) => of_profile(profile)?,
        Predict::Analysis => of_program(root, program, path),
    };
    for number in NotifyRecorder::always_asked() {
        numbers.remove(&number);
    }
    for name in restricted() {
        if let Some(number) = resolve(Arch::NATIVE, name) {
            numbers.remove(&number);
        }
    }
    Ok(numbers)
}

fn of_profile(path: &Path) -> Result<BTreeSet<u32>, CliError> {
    let profile = files::profile(path, &Container::default())?;
    let evaluator = Evaluator::new(&profile).map_err(|source| CliError::Prediction {
        path: path.to_owned(),
        source,
    })?;
    let always = |number: &u32| {
        let decision = evaluator.decision(Arch::NATIVE, *number);
        matches!(decision, Decision::Always(action) if action.allows())
    };
    Ok(evaluator.listed(Arch::NATIVE).filter(always).collect())
}

/// What cannot be analysed is not predicted, which costs time and nothing else.
fn of_program(root: &Path, program: &str, path: Option<&str>) -> BTreeSet<u32> {
    let root = match RootFs::open(root) {
        Ok(root) => root,
        Err(error) => {
            let root = root.display();
            files::note(&format!(
                "cannot predict by the files in {root}: {error}; every call asks"
            ));
            return BTreeSet::new();
        }
    };
    let mut complaint = "it is not in the PATH".to_owned();
    for candidate in candidates(program, path) {
        match analyse(&root, &candidate, &Options::default()) {
            Ok(analysis) => {
                let names = analysis.syscalls.keys();
                return names
                    .filter_map(|name| resolve(Arch::NATIVE, name))
                    .collect();
            }
            Err(error) => complaint = error.to_string(),
        }
    }
    files::note(&format!(
        "cannot predict what {program} calls: {complaint}; every call asks"
    ));
    BTreeSet::new()
}

/// Where execvp would look for a program.
fn candidates(program: &str, path: Option<&str>) -> Vec<PathBuf> {
    if program.starts_with('/') {
        return vec![program.into()];
    }
    if program.contains('/') {
        return vec![env::current_dir().unwrap_or_default().join(program)];
    }
    let own = env::var("PATH").unwrap_or_default();
    let directories = env::split_paths(path.unwrap_or(&own)).filter(|d| d.is_absolute());
    directories
        .map(|directory| directory.join(program))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_predicted_but_for_calls_whose_arguments_matter() {
        let of = |predict_by: &str, program: &str| {
            let by = predict_by.parse().expect("a prediction");
            predict(&by, Path::new("/"), program, Some("/usr/bin:/bin")).expect("predicted")
        };
        let numbers = of("analysis", "true");
        let has = |name: &str| numbers.contains(&resolve(Arch::NATIVE, name).expect("a call"));
        assert!(has("read") && has("write") && has("mmap"));
        assert!(!has("ioctl") && !has("socket") && !has("clone"));
        assert!(of("nothing", "true").is_empty());
        assert!(of("analysis", "no-such-program").is_empty());
    }

    #[test]
    fn a_profile_predicts_what_it_allows_whatever_the_arguments() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("profile.json");
        let profile = serde_json::json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [
                {"names": ["read", "ioctl"], "action": "SCMP_ACT_ALLOW"},
                {"names": ["kill"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 1, "value": 9, "op": "SCMP_CMP_EQ"}]},
                {"names": ["mount"], "action": "SCMP_ACT_LOG"},
                {"names": ["bpf"], "action": "SCMP_ACT_ERRNO"},
            ],
        });
        std::fs::write(&path, profile.to_string()).expect("written");
        let by = Predict::Profile(path);
        let numbers = predict(&by, Path::new("/"), "true", None).expect("predicted");
        let read = resolve(Arch::NATIVE, "read").expect("a call");
        let mount = resolve(Arch::NATIVE, "mount").expect("a call");
        assert_eq!(numbers, BTreeSet::from([read, mount]));
    }
}
