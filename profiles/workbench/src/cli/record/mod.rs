//! `record`: what a command or a container calls.

/// The static analysis of what is to be recorded, as a process of its own.
mod analyst;
/// Which capabilities are needed: the workload is run again without each.
mod confirm;
/// A container: a running one, or a new one of a bundle.
mod container;
/// A command on the host.
mod host;
/// The two means of recording, and the choice between them.
mod means;
/// Which calls are taken as known by a recording by notifications.
mod prediction;
/// A recording, told to people.
mod summary;
/// Waits for the end of what is recorded, and hears the user meanwhile.
mod watch;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode};
use std::time::Duration;

use cofferdam_profiles::access::{AccessError, MAX_RULES};
use cofferdam_recorder::{Capacity, NotifyError, NotifyRecorder, Recorder, RecorderError};
use serde::Serialize;

use super::{CliError, Format, files};
use crate::recording::{self, Recording, SynthesisError, synthesise};
pub(super) use analyst::{Arguments as Predicting, run as predict};
use means::{By, Running};
use prediction::Predict;
use summary::summary;

/// Record which system calls and capabilities a command or a container uses
///
/// Calls are counted by BPF programs on the kernel's tracepoints, which sees what seccomp let through;
/// what a filter denied is not recorded, and the recording says which filter was on. Where BPF cannot be
/// used, a command or bundle is recorded by seccomp notifications: calls that were predicted run unseen
/// and are listed as predicted, capabilities are not seen, what enters the container from outside is not
/// either, and what it costs is more. That is recording, not enforcing: letting a call run after a look at
/// it is no boundary of security.
///
/// Phases: `runtime` until the payload is executed; `startup` until a process accepts a connection, or waits
/// for one (poll, select, epoll, io_uring) after it or what it came from has called listen; `serving`
/// from there on, each process for itself. SIGUSR1 or --serving-after begin it for all at once: for
/// what listens to datagrams only, or works through a queue. By notifications a wait that was predicted
/// is not seen, and serving begins with the first accept.
///
/// SIGINT and SIGTERM are passed on to the command and end the recording of a container. Exit status: 0
/// recorded, 1 recorded but the command failed, 2 not recorded or not completely.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cofferdam profile record --output nginx.json -- nginx -g 'daemon off;'
  cofferdam profile record --bundle ./bundle --output run1.json
  cofferdam profile record --container web --duration 60 --emit seccomp
  cofferdam profile record --by notify --predict nothing -- ./server --selftest
  cofferdam profile record --confirm-capabilities --output run1.json -- ./server --selftest
  cofferdam profile record --bundle ./bundle --emit access --output web.access.json
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
    /// How calls are seen. `notify` is for a command or a bundle only.
    #[arg(long, value_enum, default_value = "auto")]
    by: By,
    /// By notifications, what need not ask: what the `analysis` of the program's files finds, `nothing`, or
    /// what a profile allows whatever its arguments. Calls whose arguments matter ask all the same.
    #[arg(long, default_value = "analysis", value_name = "analysis|nothing|FILE")]
    predict: Predict,
    /// The serving phase begins so many seconds after the start, at the latest.
    #[arg(long, value_name = "SECONDS", conflicts_with = "merge")]
    serving_after: Option<u64>,
    /// Run the command or bundle again with fewer and fewer of the capabilities that it used, and say which
    /// it needs: those without which it ends with another status. With --duration it may also run until
    /// then. A program whose status does not tell whether it worked must be wrapped in a script whose
    /// status does; what cannot be run twice cannot be confirmed.
    #[arg(long, conflicts_with_all = ["container", "pid", "merge"])]
    confirm_capabilities: bool,
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
    /// Record files and ports, too: which are read, written, executed, made, removed, bound, connected to.
    /// By notifications only, for each call that takes a path is looked at while it waits: every such call
    /// is slower. For a command or a bundle.
    #[arg(long, conflicts_with_all = ["container", "pid"])]
    files: bool,
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
    /// The files and ports that were used, as an access document: for Landlock and AppArmor.
    Access,
}

/// What can go wrong with a recording only.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The recorder.
    #[error("cannot record")]
    Recorder(#[from] RecorderError),
    /// The recorder by notifications.
    #[error("cannot record")]
    Notify(#[from] NotifyError),
    /// Notifications come from a filter that a process has from its start.
    #[error(
        "what runs already cannot be recorded by notifications; record its command or its bundle, or use --by bpf"
    )]
    NotStartedHere,
    /// A run without a capability.
    #[error("cannot run the workload again")]
    Rerun(#[source] std::io::Error),
    /// The bundle.
    #[error("cannot read {}", path.display())]
    Config {
        /// Its config.json.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Two runs of the same end differently.
    #[error(
        "the workload does not end with the same status each time, so that no capability can be confirmed; \
         record a command whose status depends on nothing else"
    )]
    Unsteady,
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
    /// Files are recorded by the other means.
    #[error("files are recorded by notifications only; leave out `--by bpf`")]
    FilesByBpf,
    /// The access document.
    #[error("cannot make an access document of the recording")]
    Access(#[from] AccessError),
    /// There is nothing to make one of.
    #[error("no files were recorded; record with `--files` or `--emit access`")]
    NoFiles,
    /// No profile can be made.
    #[error("cannot make a profile of the recording")]
    Synthesis(#[from] SynthesisError),
}

/// A recording and how what was recorded ended.
struct Done {
    recording: Recording,
    /// The exit status of the command, or 128 and a signal's number.
    status: Option<u8>,
    /// What must go on answering what was recorded.
    answering: Option<NotifyRecorder>,
    /// The command, if it goes on.
    child: Option<Child>,
}

pub(super) fn run(arguments: &Arguments, format: Format) -> Result<ExitCode, CliError> {
    let mut done = record(arguments)?;
    let confirmed = match arguments.confirm_capabilities && confirm::possible(&done.recording) {
        true => confirm::confirm(arguments, &mut done),
        false => Ok(()),
    };
    let done = done;
    let lost = done.recording.lost;
    let access = match (arguments.emit, &done.recording.access) {
        (Emit::Access, None) => return Err(RecordError::NoFiles.into()),
        (Emit::Access, access) => access.as_ref(),
        _ => None,
    };
    let made = match arguments.emit {
        Emit::Recording | Emit::Access => None,
        Emit::Seccomp => Some(synthesise(&done.recording).map_err(RecordError::from)?),
    };
    if let Some(path) = &arguments.output {
        match (&made, access) {
            (Some(made), _) => write(path, &made.profile)?,
            (None, Some(access)) => write(path, access)?,
            (None, None) => write(path, &done.recording)?,
        }
    }
    match (format, &made) {
        (Format::Json, Some(made)) => files::print_json(made)?,
        (Format::Json, None) => match access {
            Some(access) => files::print_json(access)?,
            None => files::print_json(&done.recording)?,
        },
        (Format::Human, _) => files::print(&summary(&done, made.as_ref()))?,
    }
    if let Some(answering) = done.answering {
        keep_answering(answering, done.child)?;
    }
    if lost != 0 {
        return Err(RecordError::Lost { lost }.into());
    }
    confirmed?;
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
        return container::fresh(arguments, bundle);
    }
    if let Some(pid) = arguments.pid {
        return Ok(container::process(arguments, pid)?);
    }
    host::record(arguments)
}

/// Goes on letting calls run, until nobody is left to make some: of the runtime's own processes too.
fn keep_answering(recorder: NotifyRecorder, child: Option<Child>) -> Result<(), RecordError> {
    let left = recorder.following();
    if left != 0 {
        files::note(&format!(
            "{left} processes still ask for each call, and this program lets them run until they end; ended \
             before, it fails their calls"
        ));
    }
    watch::release()?;
    // Before Linux 6.11 a process has its filter until somebody has waited for it.
    if let Some(mut child) = child {
        child.wait().map_err(RecordError::Wait)?;
    }
    Ok(recorder.keep_answering()?)
}

impl Arguments {
    fn wants_files(&self) -> bool {
        self.files || (self.emit == Emit::Access && self.merge.is_empty())
    }

    fn capacity(&self) -> Capacity {
        let files = u32::try_from(MAX_RULES).unwrap_or(u32::MAX);
        Capacity {
            calls: self.capacity,
            files: if self.wants_files() { files } else { 0 },
            ..Capacity::default()
        }
    }

    fn load(&self) -> Result<Recorder, RecorderError> {
        Recorder::load(&self.capacity())
    }

    fn duration(&self) -> Option<Duration> {
        self.duration.map(Duration::from_secs)
    }

    fn finish(
        &self,
        running: Running,
        name: &str,
        filter: Option<String>,
        status: Option<u8>,
    ) -> Result<Done, RecordError> {
        let left_running = running.following()?;
        let (observed, answering) = running.finish()?;
        let name = self.name.as_deref().unwrap_or(name);
        let filter = self.filter.clone().or(filter);
        let mut recording = Recording::of(&observed, name, filter)?;
        recording.left_running = left_running.try_into().unwrap_or(u64::MAX);
        Ok(Done {
            recording,
            status,
            answering,
            child: None,
        })
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
        answering: None,
        child: None,
    })
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
