//! What is enforced on a running container, read back from the kernel.
//!
//! Nothing here is taken from our own notes except what the kernel's answers are compared with at
//! the end. Everything about the process is read through one descriptor of its /proc directory:
//! when the process dies that descriptor goes stale, so a reused pid cannot be mistaken for it.

mod attached;
mod compare;
mod filesystem;
mod mounts;
mod namespaces;
mod peer;
mod process;
mod render;
mod seccomp;

use std::io;
use std::path::{Path, PathBuf};

use cofferdam_profiles::policy::ContainerRecord;
use serde::Serialize;

use crate::cgroup::{self, Cgroup, Limits};
use crate::error::StateError;
use crate::id::ContainerId;
use crate::state::{self, State, Status};

pub use compare::{Difference, Severity};
pub use filesystem::{Cover, DeviceNode, FileSystem, PathCheck};
pub use mounts::HostPath;
pub use namespaces::{IdRange, Namespace};
pub use peer::{Comparison, Row};
pub use process::{Capabilities, Ids, Limit, Process};
pub use seccomp::{Program, Seccomp};

/// Why a container could not be inspected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// There is no such container, or its state cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// Init ended while it was looked at.
    #[error("the container's init ended while it was inspected; try again")]
    Ended,
    /// Init is a zombie with threads that run.
    #[error(
        "the main thread of the container's init has ended while other threads of it go on: the kernel does \
         not show what holds for those; `kill` and `delete` work as ever"
    )]
    MainThreadEnded,
    /// A file of /proc could not be read.
    #[error("cannot read /proc/{pid}/{file}")]
    Proc {
        /// Init.
        pid: i32,
        /// The file.
        file: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// What to look at besides what can be read without touching the container.
#[derive(Debug, Clone, Copy, Default)]
pub struct InspectOptions {
    /// Read the attached seccomp programs. Only a stopped process can be asked for them, so init
    /// is stopped with ptrace(2) for some milliseconds.
    pub filter: bool,
}

/// What explains denied calls.
#[derive(Debug, Clone, Serialize)]
pub struct Denials {
    /// The process that was started for it still runs. Where it was killed, another one has taken its
    /// place.
    pub running: bool,
    /// Where it writes.
    pub log: PathBuf,
}

impl Denials {
    fn of(state: &State) -> Option<Self> {
        state.denials.as_ref().map(|listener| Self {
            running: state::is_running(listener.pid, listener.start_time),
            log: listener.log.clone(),
        })
    }
}

/// What Landlock was told.
#[derive(Debug, Clone, Serialize)]
pub struct Landlock {
    /// The ABI version that the rules were made for.
    pub abi: u32,
    /// The rules in words.
    pub rules: Vec<String>,
    /// What the policy asks for and this kernel's Landlock does not enforce.
    pub not_enforced: Vec<String>,
}

impl Landlock {
    fn of(record: &ContainerRecord) -> Option<Self> {
        record.landlock.as_ref().map(|ruleset| Self {
            abi: ruleset.abi,
            rules: ruleset.lines(),
            not_enforced: ruleset.gaps.iter().map(ToString::to_string).collect(),
        })
    }
}

/// What is enforced on a container.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// The container's id.
    pub id: String,
    /// What it is doing.
    pub status: String,
    /// The policy it was hardened with.
    pub policy: String,
    /// Init and what it may do; `None` when it does not run.
    pub process: Option<Process>,
    /// System calls.
    pub seccomp: Option<Seccomp>,
    /// What Landlock was told at creation; the kernel does not tell what holds. `None` if it was not
    /// used.
    pub landlock: Option<Landlock>,
    /// What explains denied calls, and whether it runs; `None` if they are silent.
    pub denials: Option<Denials>,
    /// Namespaces.
    pub namespaces: Vec<Namespace>,
    /// Its user ids as the host sees them.
    pub uid_map: Vec<IdRange>,
    /// Its group ids as the host sees them.
    pub gid_map: Vec<IdRange>,
    /// Files, mounts and device nodes.
    pub file_system: Option<FileSystem>,
    /// Limits of the cgroup.
    pub cgroup: Option<Limits>,
    /// Where the kernel and the record made at creation differ. Empty is good.
    pub differences: Vec<Difference>,
    /// What could not be read, and so is not vouched for.
    pub unread: Vec<String>,
}

impl Inspection {
    /// Whether something is enforced less than the record says.
    pub fn weaker_than_recorded(&self) -> bool {
        self.differences
            .iter()
            .any(|d| d.severity == Severity::Weaker)
    }

    /// A table in plain words.
    pub fn render(&self) -> String {
        render::render(self)
    }
}

/// Looks at a container.
pub fn inspect(
    root: &Path,
    id: &ContainerId,
    options: InspectOptions,
) -> Result<Inspection, InspectError> {
    let state = state::load(root, id)?;
    let record = state::load_record(root, id)?;
    let status = state.status();
    let mut inspection = Inspection {
        id: state.id.clone(),
        status: status.to_string(),
        policy: record.policy.name.clone(),
        process: None,
        seccomp: None,
        landlock: Landlock::of(&record),
        denials: Denials::of(&state),
        namespaces: vec![],
        uid_map: vec![],
        gid_map: vec![],
        file_system: None,
        cgroup: None,
        differences: vec![],
        unread: vec![],
    };
    let Some(pid) = state.live_pid().map(nix::unistd::Pid::as_raw) else {
        return Ok(inspection);
    };
    let proc = process::ProcDir::open(pid, state.pid_start_time)?;
    let lacks_main_thread =
        || state::process_stat(pid).is_ok_and(state::ProcessStat::lacks_main_thread);
    if let Err(error) = read(&mut inspection, &state, &record.spec, &proc, options) {
        // It may have ended meanwhile.
        return Err(match lacks_main_thread() {
            true => InspectError::MainThreadEnded,
            false => error,
        });
    }
    // Whatever was read came from init only if init is still there.
    proc.check()?;
    let started = matches!(status, Status::Running | Status::Paused);
    inspection.differences = compare::compare(&inspection, &state, &record.spec, &proc, started);
    Ok(inspection)
}

fn read(
    inspection: &mut Inspection,
    state: &State,
    spec: &oci_spec::runtime::Spec,
    proc: &process::ProcDir,
    options: InspectOptions,
) -> Result<(), InspectError> {
    inspection.process = Some(process::read(proc)?);
    inspection.namespaces = namespaces::read(proc)?;
    inspection.uid_map = namespaces::id_map(proc, "uid_map")?;
    inspection.gid_map = namespaces::id_map(proc, "gid_map")?;
    let unread = &mut inspection.unread;
    inspection.seccomp = Some(seccomp::read(state, proc, options.filter, unread)?);
    match filesystem::read(proc, spec) {
        Ok(found) => inspection.file_system = Some(found),
        Err(error) => unread.push(format!("the container's files: {error}")),
    }
    match limits(state) {
        Some(Ok(found)) => inspection.cgroup = Some(found),
        Some(Err(error)) => unread.push(format!("the cgroup's limits: {error}")),
        None => {}
    }
    Ok(())
}

fn limits(state: &State) -> Option<Result<Limits, cgroup::Error>> {
    let location = state.cgroup.as_ref()?;
    Some(Cgroup::open(location).and_then(|cgroup| cgroup.limits()))
}
