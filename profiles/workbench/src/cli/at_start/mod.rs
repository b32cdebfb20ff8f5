//! `at-start`, for `cofferdam` and the shim only: a profile of the files of a container that is about
//! to start. A request on the standard input, an answer on the standard output, both as data.
//!
//! The files are an image's, and an image is hostile. So this process bounds its own memory, time and
//! descriptors before it looks at any of them, and whoever asked bounds how long it waits.

/// What the analysis looked at, in a form that can be looked at again.
mod dependencies;
/// The container's files as the container will see them.
mod view;

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use cofferdam_analysis::{Certainty, Entry, Options, RootFs, generate, is_private, tidy};
use cofferdam_profiles::generated::{
    Answer, Confidence, Failure, FailureKind, Generated, MAX_REQUEST, Made, Origin, Provenance,
    Request, Source, VERSION,
};

use super::{CliError, bounds};
use crate::recording::{self, Recording, split_arch};
use cofferdam_profiles::seccomp::Arch;

/// Answers a container's start; not for people.
#[derive(Debug, Args)]
#[command(hide = true)]
pub(super) struct Arguments {}

/// Calls that a made profile answers with ENOSYS although a recording has them: their arguments lie
/// where no filter can look, and every C library has an older call for them.
const KEEP_ABSENT: &[&str] = &["clone3"];

/// Answers one request.
pub(super) fn run(_: &Arguments) -> Result<ExitCode, CliError> {
    let mut bytes = Vec::new();
    let mut input = io::stdin().lock().take(MAX_REQUEST + 1);
    let read = bounds::analyst().and_then(|()| input.read_to_end(&mut bytes));
    let answer = match read {
        Ok(_) => answer(&bytes),
        Err(error) => Err(failed(FailureKind::Request, &error)),
    };
    let answer = answer.unwrap_or_else(Answer::Failed);
    let text = serde_json::to_vec(&answer).map_err(|error| CliError::Print(error.into()))?;
    let mut out = io::stdout().lock();
    let written = out.write_all(&text).and_then(|()| out.flush());
    written.map_err(CliError::Print)?;
    Ok(ExitCode::SUCCESS)
}

fn failed(kind: FailureKind, error: &dyn std::error::Error) -> Failure {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        message.push_str(": ");
        message.push_str(&error.to_string());
        source = error.source();
    }
    Failure { kind, message }
}

fn answer(bytes: &[u8]) -> Result<Answer, Failure> {
    let request: Request =
        serde_json::from_slice(bytes).map_err(|error| failed(FailureKind::Request, &error))?;
    if request.version != VERSION {
        return Err(Failure {
            kind: FailureKind::Request,
            message: format!(
                "a request of version {}, and cofferdam-profile answers version {VERSION}; install \
                 both from one release",
                request.version
            ),
        });
    }
    let cache = cache(&request.summaries);
    // Read before the view: recordings are the host's files.
    let recording = recordings(&request.recordings)?;
    let view = view::make(&request).map_err(|error| failed(FailureKind::View, &error))?;
    let root = RootFs::open(&request.root);
    let root = root.map_err(|error| failed(FailureKind::View, &error))?;
    let root = root.watched();
    let process = &request.process;
    let entry = Entry {
        args: &process.args,
        path: process.path.as_deref(),
        cwd: &process.cwd,
    };
    let options = Options { cache };
    let found = generate(&root, &entry, &options);
    let mut found = found.map_err(|error| failed(FailureKind::Program, &error))?;
    if let Some(recording) = &recording {
        observe(&mut found, recording);
    }
    let mut generated = told(found, &request.recordings);
    if let Some(recording) = &recording {
        let all = recording.phases.all();
        let native = all.keys().filter_map(|name| native(name));
        generated.allow(native, Source::Recording, KEEP_ABSENT);
    }
    let dependencies = dependencies::of(&root.touched(), &request, &view);
    Ok(Answer::Made(Box::new(Made {
        generated,
        dependencies,
    })))
}

/// The directory of summaries, where it is safe to use. Tidied first: what comes may fail or be ended.
fn cache(directory: &Path) -> Option<PathBuf> {
    if !is_private(directory).unwrap_or(false) {
        // Without one it takes longer, that is all.
        return None;
    }
    // What cannot be tidied now is tidied at the next start.
    let _ = tidy(directory);
    Some(directory.to_owned())
}

/// Adds what the program was seen to do: what the analysis had not found lowers the confidence in it.
fn observe(found: &mut cofferdam_analysis::Generated, recording: &Recording) {
    // The runtime's own calls say nothing about the program.
    let phases = [&recording.phases.startup, &recording.phases.serving];
    let names = phases.into_iter().flat_map(|calls| calls.keys());
    let names = names.filter_map(|name| native(name));
    found.observe(
        names.filter(|name| !KEEP_ABSENT.contains(name)),
        "a recording",
    );
}

/// A call of the machine's own ABI that has a name; the profile is of that ABI only.
fn native(name: &str) -> Option<&str> {
    let (arch, plain) = split_arch(name);
    (arch == Arch::NATIVE && !plain.starts_with('#')).then_some(plain)
}

/// What all recordings saw; one that lost events is refused.
fn recordings(files: &[PathBuf]) -> Result<Option<Recording>, Failure> {
    let mut whole: Option<Recording> = None;
    for file in files {
        let read = read_recording(file)?;
        whole = Some(match whole {
            None => read,
            Some(whole) => {
                let merged = whole.merge(read);
                merged.map_err(|error| unusable(file, &error))?
            }
        });
    }
    Ok(whole)
}

fn unusable(file: &Path, error: &dyn std::error::Error) -> Failure {
    let Failure { kind, message } = failed(FailureKind::Recording, error);
    let message = format!("cannot use the recording {}: {message}", file.display());
    Failure { kind, message }
}

fn read_recording(file: &Path) -> Result<Recording, Failure> {
    let bytes = super::files::read(file, recording::MAX_BYTES);
    let bytes = bytes.map_err(|error| unusable(file, &error))?;
    let recording = recording::read(&bytes).and_then(Recording::complete);
    recording.map_err(|error| unusable(file, &error))
}

/// What the analysis found, as reports tell it.
fn told(found: cofferdam_analysis::Generated, recordings: &[PathBuf]) -> Generated {
    let source = |certainty| match certainty {
        Certainty::Always => Source::Always,
        Certainty::Constant | Certainty::Argument => Source::Analysis,
        Certainty::Observed => Source::Recording,
    };
    let mut calls: std::collections::BTreeMap<_, _> = found
        .syscalls
        .iter()
        .map(|(name, evidence)| (name.clone(), source(evidence.certainty)))
        .collect();
    // What the profile allows besides is there because a number is not known.
    let allows = oci_spec::runtime::LinuxSeccompAction::ScmpActAllow;
    let rules = found.profile.syscalls().iter().flatten();
    for rule in rules.filter(|rule| rule.action() == allows) {
        for name in rule.names() {
            calls.entry(name.clone()).or_insert(Source::Unresolved);
        }
    }
    let confidence = match found.confidence {
        cofferdam_analysis::Confidence::High => Confidence::High,
        cofferdam_analysis::Confidence::Medium => Confidence::Medium,
        cofferdam_analysis::Confidence::Low => Confidence::Low,
    };
    Generated {
        provenance: Provenance {
            program: found.entry,
            programs: found.programs.len(),
            confidence,
            reasons: found.reasons,
            unresolved: found.unresolved.len(),
            calls,
            recordings: recordings.to_vec(),
            origin: Origin::Made,
        },
        profile: found.profile,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cofferdam_profiles::generated::Process;
    use std::fs;

    #[test]
    fn the_directory_is_tidied_although_there_is_no_answer() {
        let directory = tempfile::tempdir().unwrap();
        let summaries = directory.path().join("summaries");
        fs::create_dir(&summaries).unwrap();
        let count = || fs::read_dir(&summaries).unwrap().count();
        for index in 0..8193 {
            fs::File::create(summaries.join(format!("{index:032x}.id"))).unwrap();
        }
        let request = Request {
            version: VERSION,
            root: directory.path().join("none"),
            mounts: Vec::new(),
            process: Process {
                args: vec!["x".to_owned()],
                path: None,
                cwd: "/".into(),
            },
            recordings: Vec::new(),
            summaries: summaries.clone(),
        };
        let bytes = serde_json::to_vec(&request).unwrap();
        // The view is of a thread of its own.
        let answer = std::thread::spawn(move || answer(&bytes)).join().unwrap();
        assert_eq!(answer.unwrap_err().kind, FailureKind::View);
        assert_eq!(count(), 4096);

        // One that others can write to is neither used nor changed.
        assert_eq!(cache(&summaries), Some(summaries.clone()));
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&summaries, &link).unwrap();
        assert_eq!(cache(&link), None);
        let all = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(&summaries, all).unwrap();
        assert_eq!(cache(&summaries), None);
    }
}
