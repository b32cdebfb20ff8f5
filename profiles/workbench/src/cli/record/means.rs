//! The two means of recording, and the choice between them.

use std::collections::BTreeSet;
use std::process::{Child, Command};

use cofferdam_recorder::{NotifyRecorder, Observed, Recorder, RecorderError};

use super::{Arguments, RecordError};
use crate::cli::files::note;

/// How calls are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum By {
    /// By BPF, or by notifications where that cannot be used.
    Auto,
    /// By BPF on the kernel's tracepoints: every call, and capabilities.
    Bpf,
    /// By seccomp notifications: the calls that were not predicted. Only for what is started here.
    Notify,
}

/// A recording under way.
#[derive(Debug)]
pub(super) enum Running {
    Bpf(Recorder),
    Notify(NotifyRecorder),
}

impl Running {
    /// How many processes are followed at this moment.
    pub(super) fn following(&self) -> Result<usize, RecorderError> {
        match self {
            Self::Bpf(recorder) => recorder.following(),
            Self::Notify(recorder) => Ok(recorder.following()),
        }
    }

    /// Every call from now on is of the serving phase.
    pub(super) fn mark_serving(&self) -> Result<(), RecorderError> {
        match self {
            Self::Bpf(recorder) => recorder.mark_serving(),
            Self::Notify(recorder) => {
                recorder.mark_serving();
                Ok(())
            }
        }
    }

    /// Reads the recording; what still has to answer, while what was recorded goes on.
    pub(super) fn finish(self) -> Result<(Observed, Option<NotifyRecorder>), RecorderError> {
        match self {
            Self::Bpf(recorder) => Ok((recorder.finish()?, None)),
            Self::Notify(recorder) => Ok((recorder.finish(), Some(recorder))),
        }
    }
}

/// The BPF recorder, unless the user wants the other means, or nothing else is left.
pub(super) fn bpf(arguments: &Arguments) -> Result<Option<Recorder>, RecordError> {
    if arguments.wants_files() {
        return match arguments.by {
            By::Bpf => Err(RecordError::FilesByBpf),
            By::Auto | By::Notify => Ok(None),
        };
    }
    if arguments.by == By::Notify {
        return Ok(None);
    }
    match arguments.load() {
        Ok(recorder) => {
            note("recording by BPF: every call, and capabilities");
            Ok(Some(recorder))
        }
        Err(error) if arguments.by == By::Auto => {
            note(&format!("BPF cannot be used: {}", chain(&error)));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// The BPF recorder, for what runs already.
pub(super) fn only_bpf(arguments: &Arguments) -> Result<Recorder, RecordError> {
    if arguments.by == By::Notify || arguments.wants_files() {
        return Err(RecordError::NotStartedHere);
    }
    Ok(arguments.load()?)
}

/// Runs a command under a filter that asks.
pub(super) fn notify(
    arguments: &Arguments,
    command: &mut Command,
    predicted: &BTreeSet<u32>,
    everyone: bool,
) -> Result<(NotifyRecorder, Child), RecordError> {
    let known = match predicted.len() {
        0 => "every call".to_owned(),
        count => format!("every call but {count} that were predicted"),
    };
    note(&format!(
        "recording by seccomp notifications: {known}; no capabilities, and no boundary of security"
    ));
    let capacity = arguments.capacity();
    Ok(NotifyRecorder::spawn(
        command, predicted, &capacity, everyone,
    )?)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
