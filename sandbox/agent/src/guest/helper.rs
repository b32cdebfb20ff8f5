//! The process that creates containers and joins them: it has one thread, as cloning without executing wants it.
//!
//! It is this program again, with the container's streams as its own, and a socket's path to connect to: there it reads
//! one request and writes one answer, each a line of JSON.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use cofferdam_container::cgroup::Driver;
use cofferdam_container::{self as container, ContainerId, CreateOptions, ExecOptions, self_exe};
use cofferdam_profiles::policy::{ContainerRecord, Hardened, harden_exec};
use oci_spec::runtime::Process;
use serde::{Deserialize, Serialize};

/// The program's first argument that makes it the helper.
pub const VERB: &str = "helper";
/// Where the guest's containers are kept.
pub(super) const ROOT: &str = "/run/cofferdam/containers";
/// Where compiled seccomp filters are kept.
const FILTERS: &str = "/run/cofferdam/filters";
/// A directory that relative paths of a spec start from; it is empty.
const BUNDLE: &str = "/run/cofferdam/bundle";

/// What it is asked.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// To create a container.
    Create {
        id: String,
        record: Box<ContainerRecord>,
        console: Option<PathBuf>,
    },
    /// To join one.
    Exec {
        id: String,
        process: Box<Process>,
        console: Option<PathBuf>,
    },
}

/// What it answers: a process's number, or why there is none.
pub(super) type Answer = Result<i32, String>;

/// Does what is asked at the socket `path`.
///
/// # Errors
///
/// What kept it from answering.
pub fn run(path: &Path) -> io::Result<()> {
    self_exe::protect()?;
    let mut socket = UnixStream::connect(path)?;
    let mut line = String::new();
    BufReader::new(socket.try_clone()?).read_line(&mut line)?;
    let request: Request = serde_json::from_str(&line)?;
    let mut answer = serde_json::to_vec(&do_it(request))?;
    answer.push(b'\n');
    socket.write_all(&answer)
}

fn do_it(request: Request) -> Answer {
    match request {
        Request::Create {
            id,
            record,
            console,
        } => create(&id, *record, console.as_deref()),
        Request::Exec {
            id,
            process,
            console,
        } => exec(&id, *process, console.as_deref()),
    }
}

fn create(id: &str, record: ContainerRecord, console: Option<&Path>) -> Answer {
    let id = ContainerId::parse(id).map_err(|error| chain(&error))?;
    std::fs::create_dir_all(BUNDLE).map_err(|error| format!("cannot make {BUNDLE}: {error}"))?;
    let spec = Hardened::from_record(record);
    let state = container::create(
        &spec,
        CreateOptions {
            root: ROOT.into(),
            id,
            bundle: BUNDLE.into(),
            pid_file: None,
            console_socket: connect(console)?,
            preserve_fds: 0,
            no_pivot: false,
            no_new_keyring: false,
            map_layers: false,
            cgroup_driver: Driver::Fs,
            filter_cache: Some(FILTERS.into()),
            ignore_cgroup_errors: false,
            listener: None,
        },
    )
    .map_err(|error| chain(&error))?;
    Ok(state.pid.unwrap_or(0))
}

fn exec(id: &str, process: Process, console: Option<&Path>) -> Answer {
    let id = ContainerId::parse(id).map_err(|error| chain(&error))?;
    let root = Path::new(ROOT);
    let record = container::load_record(root, &id).map_err(|error| chain(&error))?;
    // The host has done the same; this end believes its own record.
    let process = harden_exec(process, &record).map_err(|error| chain(&error))?;
    let options = ExecOptions {
        console_socket: connect(console)?,
        filter_cache: Some(FILTERS.into()),
        ..ExecOptions::default()
    };
    container::exec(root, &id, &process, options)
        .map(nix::unistd::Pid::as_raw)
        .map_err(|error| chain(&error))
}

fn connect(console: Option<&Path>) -> Result<Option<OwnedFd>, String> {
    let Some(path) = console else {
        return Ok(None);
    };
    let socket = UnixStream::connect(path)
        .map_err(|error| format!("cannot reach who wants the terminal: {error}"))?;
    Ok(Some(socket.into()))
}

/// An error with its causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
