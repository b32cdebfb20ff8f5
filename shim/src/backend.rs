//! What the life cycle of a task needs of whatever runs it: the host kernel today, a VM later.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use containerd_shim_protos::api::Mount;
use containerd_shim_protos::protobuf::well_known_types::any::Any;

use crate::helper::{Failure, FailureKind, MessageError, Target};
use crate::io::ChildStdio;
use crate::mounts::MountError;
use crate::options::Options;
use crate::reactor::Reactor;

/// Runs containers.
pub trait Backend: Send + Sync + 'static {
    /// Mounts the root file system, hardens the bundle and creates the container; init waits.
    fn create(&self, new: &NewTask, stdio: &ChildStdio) -> Result<Created, BackendError>;
    /// Lets init execute its program.
    fn start(&self, task: &Task) -> Result<(), BackendError>;
    /// Runs one more process, given as an OCI `Process`.
    fn exec(
        &self,
        task: &Task,
        process: serde_json::Value,
        stdio: &ChildStdio,
    ) -> Result<NewProcess, BackendError>;
    /// Signals one process that has not been reaped. Must not block.
    fn signal(&self, pid: i32, signal: i32) -> Result<(), BackendError>;
    /// Signals every process of the container.
    fn signal_all(&self, task: &Task, signal: i32) -> Result<(), BackendError>;
    /// Removes a container whose init has exited: what still runs, its cgroup, its state, its mounts.
    fn delete(&self, task: &Task) -> Result<(), BackendError>;
    /// Freezes every process.
    fn pause(&self, task: &Task) -> Result<(), BackendError>;
    /// Thaws every process.
    fn resume(&self, task: &Task) -> Result<(), BackendError>;
    /// Changes resource limits, given as an OCI `LinuxResources`.
    fn update(&self, task: &Task, resources: serde_json::Value) -> Result<(), BackendError>;
    /// Resource usage as containerd reads it.
    fn stats(&self, task: &Task) -> Result<Any, BackendError>;
    /// Every process of the container.
    fn pids(&self, task: &Task) -> Result<Vec<i32>, BackendError>;
    /// Calls `notify` on the loop's thread whenever the container runs out of memory. The watch ends
    /// when what is returned is dropped.
    fn watch_oom(
        &self,
        task: &Task,
        reactor: &std::sync::Arc<Reactor>,
        notify: Box<dyn Fn() + Send + Sync>,
    ) -> Result<Option<OomGuard>, BackendError>;
}

/// An out-of-memory watch, which ends when dropped.
pub trait OomWatcher: Send + Sync {
    /// Notifies now if a process was killed since the last notification. The kernel's own word may
    /// come before the kill is counted, or after the exit of the process that was killed.
    fn look(&self);
}

/// An out-of-memory watch of some backend.
pub type OomGuard = Box<dyn OomWatcher>;

/// A container to be created.
#[derive(Debug, Clone)]
pub struct NewTask {
    /// The container's id.
    pub id: String,
    /// The bundle's path.
    pub bundle: PathBuf,
    /// What is to be mounted at the bundle's `rootfs`; empty if the engine has done so.
    pub rootfs: Vec<Mount>,
    /// The runtime options.
    pub options: Options,
}

/// A process that was just made.
#[derive(Debug)]
pub struct NewProcess {
    /// Its pid.
    pub pid: i32,
    /// The master of its terminal, if it has one.
    pub console: Option<OwnedFd>,
}

/// A container that was just created.
#[derive(Debug)]
pub struct Created {
    /// Its init.
    pub init: NewProcess,
    /// What later calls are given.
    pub task: Task,
    /// Where lines about its denied calls come from, if those are explained.
    pub denials: Option<OwnedFd>,
}

/// A container that exists.
#[derive(Debug, Clone)]
pub struct Task {
    /// Where its state is.
    pub target: Target,
    /// The bundle's path.
    pub bundle: PathBuf,
    /// Its root file system was mounted by us.
    pub mounted: bool,
    /// Its runtime options.
    pub options: Options,
    /// Start must run hooks.
    pub start_hooks: bool,
    /// Delete must run hooks.
    pub delete_hooks: bool,
}

/// Why the backend could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The helper process says why.
    #[error(transparent)]
    Helper(#[from] Failure),
    /// The helper process could not be executed.
    #[error("cannot execute the helper process {}", program.display())]
    Spawn {
        /// Its path.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The helper process and the daemon lost each other.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The helper process gave an answer to another question.
    #[error("the helper process answered {got} where {expected} was expected")]
    Unexpected {
        /// What was expected.
        expected: &'static str,
        /// What came.
        got: String,
    },
    /// The terminal did not arrive.
    #[error("cannot receive the terminal of the new process")]
    Console(#[source] io::Error),
    /// The root file system could not be mounted or unmounted.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// An operation on an existing container failed.
    #[error("cannot {action} container {id}")]
    Container {
        /// What was being done.
        action: &'static str,
        /// To which container.
        id: String,
        /// The kind of failure.
        kind: FailureKind,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A signal could not be sent.
    #[error("cannot send signal {signal} to process {pid}")]
    Signal {
        /// The signal's number.
        signal: i32,
        /// The process.
        pid: i32,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl BackendError {
    /// What kind of failure this is, for the status code.
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Helper(failure) => failure.kind,
            Self::Container { kind, .. } => *kind,
            Self::Signal { source, .. } => match source.raw_os_error() {
                Some(libc::EINVAL) => FailureKind::InvalidArgument,
                Some(libc::ESRCH) => FailureKind::NotFound,
                _ => FailureKind::Internal,
            },
            Self::Mount(error) => error.kind(),
            Self::Spawn { .. } | Self::Message(_) | Self::Unexpected { .. } | Self::Console(_) => {
                FailureKind::Internal
            }
        }
    }
}
