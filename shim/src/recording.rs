//! Begins the recording that a policy granted: `cofferdam-profile record` beside the new container.
//!
//! The recorder begins while init waits for start and ends with init, long after this process: it is
//! neither ours nor the container's child, and whoever reaps for us reaps it. The container does not
//! start if its recording cannot begin.

use std::env;
use std::fs::DirBuilder;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cofferdam_container::{self as container, State};
use cofferdam_profiles::policy::Hardened;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use oci_spec::runtime::Spec;

use crate::companion;

/// Where recordings go.
const DIRECTORY: &str = "/var/lib/cofferdam/recordings";
/// Where recordings go, if not in [`DIRECTORY`].
const DIRECTORY_VARIABLE: &str = "COFFERDAM_RECORDINGS";
/// What the recorder prints when it is recording.
const READY: &[u8] = b"ready\n";
/// How long it may take to that: loading takes a tenth of a second.
const PATIENCE: Duration = Duration::from_secs(30);
/// As much of its complaint is told.
const COMPLAINT: u64 = 4096;

/// Why a recording did not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// There is no place for it.
    #[error("cannot make the directory {} for the recording", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no recorder.
    #[error(
        "cannot execute {}, which records; `make install` puts it beside cofferdam", program.display()
    )]
    Execute {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The recorder is not heard.
    #[error("cannot hear from the recorder")]
    Wait(#[source] io::Error),
    /// The recorder cannot record.
    #[error("the recording did not begin: {complaint}")]
    Refused {
        /// What it says.
        complaint: String,
    },
}

/// Begins the recording of a container that was just created, if its policy granted one; else the
/// container is deleted.
pub(crate) fn begin(
    spec: &Hardened<Spec>,
    state: &State,
    root: &Path,
    id: &container::ContainerId,
) -> Result<(), RecordingError> {
    let summary = &spec.report().summary;
    let (Some(name), Some(pid)) = (&summary.recording, state.pid) else {
        return Ok(());
    };
    let begun = start(name, id.as_str(), pid, &summary.seccomp);
    if begun.is_err()
        && let Err(error) = container::delete(root, id, true)
    {
        tracing::warn!("cannot delete the container: {}", crate::cli::chain(&error));
    }
    begun
}

fn start(name: &str, id: &str, pid: i32, filter: &str) -> Result<(), RecordingError> {
    let directory = env::var_os(DIRECTORY_VARIABLE)
        .filter(|value| !value.is_empty())
        .map_or_else(|| DIRECTORY.into(), PathBuf::from);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory)
        .map_err(|source| RecordingError::Directory {
            path: directory.clone(),
            source,
        })?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default().as_millis();
    let output = directory.join(format!("{name}-{id}-{now}.json"));
    let program = companion::path().map_err(|source| RecordingError::Execute {
        program: companion::PROGRAM.into(),
        source,
    })?;
    let mut recorder = Command::new(&program)
        .arg("record")
        .args(["--pid", &pid.to_string(), "--name", name])
        .args(["--filter", &format!("the container's filter: {filter}")])
        .arg("--output")
        .arg(output)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Signals of the terminal are for the container.
        .process_group(0)
        .spawn()
        .map_err(|source| RecordingError::Execute { program, source })?;
    if is_ready(&mut recorder).map_err(RecordingError::Wait)? {
        return Ok(());
    }
    // It may have ended by itself; then this says so, which changes nothing.
    let _ = recorder.kill();
    let complaint = complaint(&mut recorder);
    let _ = recorder.wait();
    Err(RecordingError::Refused { complaint })
}

fn is_ready(recorder: &mut Child) -> io::Result<bool> {
    let Some(mut output) = recorder.stdout.take() else {
        return Ok(false);
    };
    let mut fds = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
    let patience = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX);
    if poll(&mut fds, patience)? == 0 {
        return Ok(false);
    }
    let mut said = [0; READY.len()];
    match output.read_exact(&mut said) {
        Ok(()) => Ok(said == READY),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn complaint(recorder: &mut Child) -> String {
    let mut text = Vec::new();
    if let Some(errors) = recorder.stderr.take() {
        // What cannot be read cannot be told.
        let _ = errors.take(COMPLAINT).read_to_end(&mut text);
    }
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    if text.is_empty() {
        "the recorder did not say why".to_owned()
    } else {
        text
    }
}
