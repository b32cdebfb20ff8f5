//! A container: a running one, or a new one of a bundle.

use std::env;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cofferdam_recorder::{Phase, process};
use serde::Deserialize;

use super::means::{self, Running};
use super::prediction::predict;
use super::watch::Watch;
use super::{Arguments, Done, RecordError};
use crate::cli::CliError;

/// What `cofferdam state` prints, as far as it is needed.
#[derive(Debug, Deserialize)]
struct State {
    status: String,
    #[serde(default)]
    pid: Option<u32>,
}

/// `cofferdam`, which stands beside this executable.
pub(super) fn cofferdam(arguments: &Arguments, verb: &str) -> Command {
    let own = env::current_exe().unwrap_or_default();
    let mut command = Command::new(own.with_file_name("cofferdam"));
    command.arg("--root").arg(&arguments.root).arg(verb);
    command
}

pub(super) fn spawn_error(source: std::io::Error) -> RecordError {
    RecordError::Command {
        command: "cofferdam".to_owned(),
        source,
    }
}

fn runtime(verb: &'static str, id: &str, command: &mut Command) -> Result<(), RecordError> {
    let status = command.status().map_err(spawn_error)?;
    if status.success() {
        return Ok(());
    }
    Err(RecordError::Runtime {
        verb,
        id: id.to_owned(),
    })
}

/// The init process of a container that is in the state `expected`.
fn init(arguments: &Arguments, id: &str, expected: &'static str) -> Result<u32, RecordError> {
    let failed = || RecordError::Runtime {
        verb: "state",
        id: id.to_owned(),
    };
    let output = cofferdam(arguments, "state")
        .arg(id)
        .stderr(Stdio::inherit())
        .output()
        .map_err(spawn_error)?;
    if !output.status.success() {
        return Err(failed());
    }
    let state: State = serde_json::from_slice(&output.stdout).map_err(|_| failed())?;
    match state.pid {
        Some(pid) if pid > 0 && state.status == expected => Ok(pid),
        _ => Err(RecordError::Status {
            id: id.to_owned(),
            status: state.status,
            expected,
        }),
    }
}

/// The pid namespace of `pid`, unless it is this process's own: then it tells nothing.
fn own_namespace(pid: u32) -> Result<Option<u64>, RecordError> {
    let of =
        |pid| process::pid_namespace(pid).map_err(|source| RecordError::Process { pid, source });
    let theirs = of(pid)?;
    Ok((theirs != of(std::process::id())?).then_some(theirs))
}

fn filter(pid: u32) -> Result<Option<String>, RecordError> {
    let filtered =
        process::is_filtered(pid).map_err(|source| RecordError::Process { pid, source })?;
    Ok(filtered.then(|| "the container's seccomp filter".to_owned()))
}

/// Records a container from now on.
pub(super) fn running(arguments: &Arguments, id: &str) -> Result<Done, RecordError> {
    let pid = init(arguments, id, "running")?;
    let handle = process::handle(pid).map_err(|source| RecordError::Process { pid, source })?;
    let namespace = own_namespace(pid)?;
    let mut recorder = means::only_bpf(arguments)?;
    let mut watch = Watch::prepare(arguments)?;
    if let Some(namespace) = namespace {
        recorder.follow_pid_namespace(namespace, Phase::Serving)?;
    }
    recorder.follow_all(Phase::Serving, || process::group(pid, namespace))?;
    let filter = filter(pid)?;
    // An empty recording would look as if the container did nothing.
    if Watch::has_ended(&handle)? {
        return Err(RecordError::Status {
            id: id.to_owned(),
            status: "stopped".to_owned(),
            expected: "running",
        });
    }
    say(&format!("recording {id}; SIGINT ends it"));
    let running = Running::Bpf(recorder);
    watch.process(&running, &handle, arguments.duration())?;
    arguments.finish(running, id, filter, None)
}

/// Tells the user that the recording has begun: what comes before is not in it.
#[expect(clippy::print_stderr, reason = "progress goes to the standard error")]
fn say(what: &str) {
    eprintln!("{what}");
}

/// Records a process that waits for its start, until it ends. Says `ready` before.
pub(super) fn process(arguments: &Arguments, pid: u32) -> Result<Done, RecordError> {
    let handle = process::handle(pid).map_err(|source| RecordError::Process { pid, source })?;
    let mut recorder = means::only_bpf(arguments)?;
    let mut watch = Watch::prepare(arguments)?;
    follow_waiting(&mut recorder, pid)?;
    say_ready(arguments).map_err(RecordError::Wait)?;
    let running = Running::Bpf(recorder);
    watch.process(&running, &handle, arguments.duration())?;
    arguments.finish(running, &pid.to_string(), None, None)
}

/// Says `ready` and lets go of the streams: who listens goes away now, and what is still to be told
/// goes to a file beside the recording.
fn say_ready(arguments: &Arguments) -> io::Result<()> {
    let log = match &arguments.output {
        Some(path) => File::options().create(true).append(true).open(log(path))?,
        None => File::options().write(true).open("/dev/null")?,
    };
    let mut out = io::stdout();
    out.write_all(b"ready\n")?;
    out.flush()?;
    nix::unistd::dup2_stderr(&log)?;
    nix::unistd::dup2_stdout(File::options().write(true).open("/dev/null")?)?;
    Ok(())
}

/// Where a recorder that nobody listens to complains.
pub(super) fn log(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".log");
    name.into()
}

fn follow_waiting(
    recorder: &mut cofferdam_recorder::Recorder,
    pid: u32,
) -> Result<(), RecordError> {
    let phase = match filter(pid)? {
        Some(_) => Phase::Runtime,
        None => Phase::Setup,
    };
    if let Some(namespace) = own_namespace(pid)? {
        recorder.follow_pid_namespace(namespace, phase)?;
    }
    recorder.follow(pid, phase)?;
    Ok(())
}

/// A container that is killed and deleted when this is dropped.
pub(super) struct Made<'a> {
    arguments: &'a Arguments,
    id: String,
}

impl<'a> Made<'a> {
    pub(super) fn new(arguments: &'a Arguments, id: String) -> Self {
        Self { arguments, id }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        // If it fails there is nobody to tell, and `cofferdam list` shows what is left.
        let _ = cofferdam(self.arguments, "delete")
            .args(["--force", &self.id])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

/// Makes a container of a bundle and records it from its creation to its end.
pub(super) fn fresh(arguments: &Arguments, bundle: &Path) -> Result<Done, CliError> {
    let id = format!("record-{}", std::process::id());
    let mut create = cofferdam(arguments, "create");
    create.arg("--bundle").arg(bundle).arg(&id);
    let made = Made::new(arguments, id);
    let (running, pid) = match means::bpf(arguments)? {
        Some(mut recorder) => {
            runtime("create", made.id(), &mut create)?;
            let pid = init(arguments, made.id(), "created")?;
            follow_waiting(&mut recorder, pid)?;
            (Running::Bpf(recorder), pid)
        }
        None => created_by_notify(arguments, bundle, made.id(), &mut create)?,
    };
    let handle = process::handle(pid).map_err(|source| RecordError::Process { pid, source })?;
    let mut start = cofferdam(arguments, "start");
    runtime("start", made.id(), start.arg(made.id()))?;
    // Only now: the container would inherit that signals are held back.
    let mut watch = Watch::prepare(arguments)?;
    let filter = match &running {
        Running::Bpf(_) => filter(pid).unwrap_or(None),
        // Besides the one that asks.
        Running::Notify(_) => matches!(process::filters(pid), Ok(2..))
            .then(|| "the container's seccomp filter".to_owned()),
    };
    watch.process(&running, &handle, arguments.duration())?;
    let name = bundle.to_string_lossy().into_owned();
    let done = arguments.finish(running, &name, filter, None)?;
    drop(made);
    Ok(done)
}

/// Makes the container under a filter that asks, which its processes have from the runtime; of what
/// that one itself calls nothing is kept.
fn created_by_notify(
    arguments: &Arguments,
    bundle: &Path,
    id: &str,
    create: &mut Command,
) -> Result<(Running, u32), CliError> {
    let payload = payload(bundle)?;
    let predicted = predict(
        &arguments.predict,
        &bundle.join(&payload.root),
        &payload.program,
        payload.path.as_deref(),
    )?;
    let (recorder, mut child) = means::notify(arguments, create, &predicted, false)?;
    let status = child.wait().map_err(spawn_error)?;
    if !status.success() {
        let id = id.to_owned();
        return Err(RecordError::Runtime { verb: "create", id }.into());
    }
    let pid = init(arguments, id, "created")?;
    recorder.follow_container(pid, own_namespace(pid)?);
    Ok((Running::Notify(recorder), pid))
}

/// What a bundle runs.
struct Payload {
    root: PathBuf,
    program: String,
    path: Option<String>,
}

fn payload(bundle: &Path) -> Result<Payload, RecordError> {
    let path = bundle.join("config.json");
    let spec = oci_spec::runtime::Spec::load(&path).map_err(|error| RecordError::Config {
        path,
        source: io::Error::other(error),
    })?;
    let process = spec.process().clone().unwrap_or_default();
    let environment = process.env().clone().unwrap_or_default();
    let root = spec.root().as_ref().map(|root| root.path().clone());
    Ok(Payload {
        root: root.unwrap_or_default(),
        program: process
            .args()
            .iter()
            .flatten()
            .next()
            .cloned()
            .unwrap_or_default(),
        path: environment
            .iter()
            .find_map(|one| one.strip_prefix("PATH=").map(str::to_owned)),
    })
}
