//! Which calls are taken as known by a recording by notifications.

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use cofferdam_profiles::seccomp::{Arch, Decision, Evaluator, resolve};
use cofferdam_recorder::NotifyRecorder;

use super::analyst;
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
    ask_by_argument(&mut numbers);
    Ok(numbers)
}

/// Takes out the calls whose arguments are worth knowing.
fn ask_by_argument(predicted: &mut BTreeSet<u32>) {
    for number in NotifyRecorder::always_asked() {
        predicted.remove(&number);
    }
    for number in numbers(restricted()) {
        predicted.remove(&number);
    }
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
    match analyst::calls(root, &candidates(program, path)) {
        Ok(names) => numbers(names.iter().map(String::as_str)),
        Err(why) => {
            files::note(&format!(
                "cannot predict what {program} calls: {why}; every call asks"
            ));
            BTreeSet::new()
        }
    }
}

fn numbers<'a>(names: impl Iterator<Item = &'a str>) -> BTreeSet<u32> {
    names
        .filter_map(|name| resolve(Arch::NATIVE, name))
        .collect()
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
    fn calls_whose_arguments_matter_are_asked_for() {
        let mut predicted = numbers(["read", "ioctl", "socket", "clone", "mmap"].into_iter());
        ask_by_argument(&mut predicted);
        assert_eq!(predicted, numbers(["read", "mmap"].into_iter()));
    }

    #[test]
    fn a_program_is_looked_for_as_by_execvp() {
        let of = |program: &str| candidates(program, Some("/bin:relative:/usr/bin"));
        assert_eq!(of("/bin/x"), [Path::new("/bin/x")]);
        assert_eq!(of("x"), [Path::new("/bin/x"), Path::new("/usr/bin/x")]);
        let own = env::current_dir().expect("a directory");
        assert_eq!(of("a/x"), [own.join("a/x")]);
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
