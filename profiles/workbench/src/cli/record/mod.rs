//! `record`: what a command or a container calls.

/// A container: a running one, or a new one of a bundle.
mod container;
/// Waits for the end of what is recorded, and hears the user meanwhile.
mod watch;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use cofferdam_recorder::{Capacity, Recorder, RecorderError, process};
use serde::Serialize;

use super::{CliError, Format, files};
use crate::recording::{self, Recording, Synthesis, SynthesisError, synthesise};
use watch::Watch;

/// Record which system calls and capabilities a command or a container uses
///
/// Calls are counted by BPF programs on the kernel's tracepoints, which sees what seccomp let through;
/// what a filter denied is not recorded, and the recording says which filter was on. SIGUSR1 marks the
/// begin of the serving phase; SIGINT and SIGTERM are passed on to the command and end the recording
/// of a container. Exit status: 0 recorded, 1 recorded but the command failed, 2 not recorded or
/// not completely.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cofferdam profile record --output nginx.json -- nginx -g 'daemon off;'
  cofferdam profile record --bundle ./bundle --output run1.json
  cofferdam profile record --container web --duration 60 --emit seccomp
  cofferdam profile record --merge run1.json run2.json --emit seccomp --output profile.json")]
pub(super) struct Arguments {
    /// The command to record, on the host.
    #[arg(last = true, required_unless_present_any = ["container", "bundle", "pid", "merge"])]
    command: Vec<String>,
    /// Record this running container.
    #[arg(long, value_name = "ID", conflicts_with_all = ["command", "bundle", "pid"])]
    container: Option<String>,
    /// Make a container of this bundle, record it from its creation to its end, and delete it.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["command", "pid"])]
    bundle: Option<PathBuf>,
    /// Record this process and what it forks; `--ready-fd` says when it may go on.
    #[arg(long, hide = true, conflicts_with = "command")]
    pid: Option<u32>,
    /// Record nothing: make one recording of these, of several runs or replicas.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["command", "container", "bundle", "pid"])]
    merge: Vec<PathBuf>,
    /// Where containers are kept.
    #[arg(
        long,
        env = "COFFERDAM_STATE_ROOT",
        default_value = "/run/cofferdam",
        value_name = "DIR"
    )]
    root: PathBuf,
    /// End the recording after so many seconds; the command or container goes on.
    #[arg(long, value_name = "SECONDS")]
    duration: Option<u64>,
    /// Record until everything the command has started has ended too.
    #[arg(long)]
    until_all_exit: bool,
    /// The recording's name; else what is recorded.
    #[arg(long)]
    name: Option<String>,
    /// Write the recording here.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// What to write and, with --format json, print.
    #[arg(long, value_enum, default_value = "recording")]
    emit: Emit,
    /// How many combinations of executable, phase and call there is room for.
    #[arg(long, default_value_t = Capacity::default().calls, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    capacity: u32,
    /// The filter that is on, for the report.
    #[arg(long, hide = true)]
    filter: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Emit {
    /// The recording itself.
    Recording,
    /// An OCI seccomp profile that allows what was recorded.
    Seccomp,
}

/// What can go wrong with a recording only.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The recorder.
    #[error("cannot record")]
    Recorder(#[from] RecorderError),
    /// The command.
    #[error("cannot run {command}")]
    Command {
        /// Its name.
        command: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// `cofferdam` itself said no; it has told why.
    #[error("`cofferdam {verb}` failed for the container {id}")]
    Runtime {
        /// The verb.
        verb: &'static str,
        /// The container.
        id: String,
    },
    /// The state of a container is not what it should be.
    #[error("the container {id} is {status}, not {expected}")]
    Status {
        /// The container.
        id: String,
        /// What it is.
        status: String,
        /// What it should be.
        expected: &'static str,
    },
    /// The process to record is gone.
    #[error("cannot look at process {pid}")]
    Process {
        /// Its number.
        pid: u32,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Signals.
    #[error("cannot wait for the end of what is recorded")]
    Wait(#[source] std::io::Error),
    /// The file.
    #[error("cannot write the recording to {}", path.display())]
    Write {
        /// Its name.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Events were lost.
    #[error(
        "the recording is not complete: {lost} events were lost; record again with a higher --capacity"
    )]
    Lost {
        /// How many.
        lost: u64,
    },
    /// No profile can be made.
    #[error("cannot make a profile of the recording")]
    Synthesis(#[from] SynthesisError),
}

/// A recording and how what was recorded ended.
struct Done {
    recording: Recording,
    /// The exit status of the command, or 128 and a signal's number.
    status: Option<u8>,
}

pub(super) fn run(arguments: &Arguments, format: Format) -> Result<ExitCode, CliError> {
    let done = record(arguments)?;
    let lost = done.recording.lost;
    let made = match arguments.emit {
        Emit::Recording => None,
        Emit::Seccomp => Some(synthesise(&done.recording).map_err(RecordError::from)?),
    };
    if let Some(path) = &arguments.output {
        match &made {
            Some(made) => write(path, &made.profile)?,
            None => write(path, &done.recording)?,
        }
    }
    match (format, &made) {
        (Format::Json, Some(made)) => files::print_json(made)?,
        (Format::Json, None) => files::print_json(&done.recording)?,
        (Format::Human, _) => files::print(&summary(&done, made.as_ref()))?,
    }
    if lost != 0 {
        return Err(RecordError::Lost { lost }.into());
    }
    if let (Some(_), Some(path)) = (arguments.pid, &arguments.output) {
        // Nothing was complained about; one that stays is of a recorder that was killed.
        let _ = fs::remove_file(container::log(path));
    }
    Ok(match done.status {
        None | Some(0) => ExitCode::SUCCESS,
        Some(_) => ExitCode::from(1),
    })
}

fn record(arguments: &Arguments) -> Result<Done, CliError> {
    if !arguments.merge.is_empty() {
        return merge(&arguments.merge);
    }
    if let Some(id) = &arguments.container {
        return Ok(container::running(arguments, id)?);
    }
    if let Some(bundle) = &arguments.bundle {
        return Ok(container::fresh(arguments, bundle)?);
    }
    if let Some(pid) = arguments.pid {
        return Ok(container::process(arguments, pid)?);
    }
    Ok(command(arguments)?)
}

impl Arguments {
    fn load(&self) -> Result<Recorder, RecorderError> {
        Recorder::load(&Capacity {
            calls: self.capacity,
            ..Capacity::default()
        })
    }

    fn duration(&self) -> Option<Duration> {
        self.duration.map(Duration::from_secs)
    }

    fn finish(
        &self,
        recorder: Recorder,
        name: &str,
        filter: Option<String>,
    ) -> Result<Recording, RecordError> {
        let left_running = recorder.following()?;
        let observed = recorder.finish()?;
        let name = self.name.as_deref().unwrap_or(name);
        let filter = self.filter.clone().or(filter);
        let mut recording = Recording::of(&observed, name, filter);
        recording.left_running = left_running.try_into().unwrap_or(u64::MAX);
        Ok(recording)
    }
}

/// What several recordings saw together.
fn merge(paths: &[PathBuf]) -> Result<Done, CliError> {
    let mut all: Option<Recording> = None;
    for path in paths {
        let failed = |source| CliError::Recording {
            path: path.clone(),
            source,
        };
        let bytes = files::read(path, recording::MAX_BYTES)?;
        let next = recording::read(&bytes).map_err(failed)?;
        all = Some(match all {
            None => next,
            Some(all) => all.merge(next).map_err(failed)?,
        });
    }
    Ok(Done {
        recording: all.unwrap_or_default(),
        status: None,
    })
}

/// Runs a command on the host.
fn command(arguments: &Arguments) -> Result<Done, RecordError> {
    let (program, words) = arguments
        .command
        .split_first()
        .map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let own = std::process::id();
    let filter = process::is_filtered(own).unwrap_or(false);
    let recorder = arguments.load()?;
    recorder.follow_children(own)?;
    let child = Command::new(program).args(words).spawn();
    recorder.leave(own)?;
    // Only now: the command would inherit that signals are held back.
    let mut watch = Watch::prepare()?;
    let child = child.map_err(|source| RecordError::Command {
        command: program.to_owned(),
        source,
    })?;
    let status = watch.child(&recorder, child, arguments)?;
    let filter = filter.then(|| "the filter of the recorder's own container".to_owned());
    let recording = arguments.finish(recorder, program, filter)?;
    Ok(Done { recording, status })
}

/// Writes a file as a whole or not at all.
fn write(path: &Path, value: &impl Serialize) -> Result<(), RecordError> {
    let failed = |source| RecordError::Write {
        path: path.to_owned(),
        source,
    };
    let mut text = serde_json::to_vec_pretty(value).map_err(|error| failed(error.into()))?;
    text.push(b'\n');
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = fs::File::create_new(&temporary)
        .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // Only what this very process made under its own number.
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(failed)
}

fn summary(done: &Done, made: Option<&Synthesis>) -> String {
    use std::fmt::Write as _;
    let recording = &done.recording;
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{}: {} calls in all, {} lost",
        recording.name,
        recording.phases.all().len(),
        recording.lost
    );
    for (phase, calls) in recording.phases.iter() {
        let names: Vec<&str> = calls.keys().map(String::as_str).collect();
        let _ = writeln!(text, "  {phase:8} {:3}  {}", calls.len(), names.join(" "));
    }
    for (path, names) in &recording.executables {
        let _ = writeln!(text, "  {path}: {} calls", names.len());
    }
    let capabilities: Vec<&str> = recording.capabilities.keys().map(String::as_str).collect();
    let _ = writeln!(text, "  capabilities: {}", capabilities.join(" "));
    for filter in &recording.filters {
        let _ = writeln!(text, "  on meanwhile: {filter}; what it denied is not here");
    }
    if recording.left_running != 0 {
        let _ = writeln!(
            text,
            "  {} processes were still running at the end; what they called since is not here",
            recording.left_running
        );
    }
    for note in made.iter().flat_map(|made| &made.notes) {
        let _ = writeln!(text, "  note: {note}");
    }
    if let Some(status) = done.status.filter(|status| *status != 0) {
        let _ = writeln!(text, "  the command ended with status {status}");
    }
    text
}
