//! A command on the host.

use std::path::Path;
use std::process::Command;

use cofferdam_recorder::process;

use super::means::{self, Running};
use super::prediction::predict;
use super::watch::Watch;
use super::{Arguments, Done, RecordError};
use crate::cli::CliError;

/// The program and its arguments.
pub(super) fn words(arguments: &Arguments) -> (&str, &[String]) {
    arguments
        .command
        .split_first()
        .map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest))
}

/// Runs the command and records it.
pub(super) fn record(arguments: &Arguments) -> Result<Done, CliError> {
    let (program, rest) = words(arguments);
    let own = std::process::id();
    let filter = process::is_filtered(own).unwrap_or(false);
    let mut command = Command::new(program);
    command.args(rest);
    let failed = |source| RecordError::Command {
        command: program.to_owned(),
        source,
    };
    let (running, mut child) = match means::bpf(arguments)? {
        Some(recorder) => {
            recorder.follow_children(own).map_err(RecordError::from)?;
            let child = command.spawn();
            recorder.leave(own).map_err(RecordError::from)?;
            (Running::Bpf(recorder), child.map_err(failed)?)
        }
        None => {
            let predicted = predict(&arguments.predict, Path::new("/"), program, None)?;
            let (recorder, child) = means::notify(arguments, &mut command, &predicted, true)?;
            (Running::Notify(recorder), child)
        }
    };
    // Only now: the command would inherit that signals are held back.
    let mut watch = Watch::prepare(arguments)?;
    let status = watch.child(&running, &mut child, arguments)?;
    let filter = filter.then(|| "the filter of the recorder's own container".to_owned());
    let mut done = arguments.finish(running, program, filter, status)?;
    done.child = status.is_none().then_some(child);
    Ok(done)
}
