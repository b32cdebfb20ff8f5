//! What can go wrong, an enum per operation, with the stage of init that failed as data.

/// What init reports when it cannot go on.
mod init;

pub use crate::limits::LimitError;
pub use init::{Cause, InitFailure, Stage};

use std::io;
use std::path::PathBuf;

use crate::cgroup;
use crate::state::Status;

/// Why a text is not a container id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// No text.
    #[error("container id cannot be empty")]
    Empty,
    /// More than 1024 bytes.
    #[error("container id is {length} bytes long, at most 1024 are allowed")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// Not a plain file name.
    #[error("invalid container id {id:?}: only letters, digits and _ + - . are allowed")]
    Characters {
        /// The text.
        id: String,
    },
}

/// Why what is stored about a container cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// There is no such container. Engines look for runc's words, which come first.
    #[error(
        "container {id} does not exist below {}; --root names another state root", root.display()
    )]
    Unknown {
        /// The id.
        id: String,
        /// The state root that was looked in.
        root: PathBuf,
    },
    /// Input or output failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// `read`, `write`, `list`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is damaged.
    #[error("{} is damaged; `delete --force` removes the container", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
}

/// Why a container was not created. Nothing of it is left, unless its processes could not be killed: then
/// `delete --force` removes it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The id is taken.
    #[error("container with given ID already exists: {id}")]
    Exists {
        /// The id.
        id: String,
    },
    /// The spec lacks something or asks for something that cannot be given.
    #[error("invalid spec: {field}: {problem}")]
    Spec {
        /// The field, such as `process.cwd`.
        field: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// State could not be stored.
    #[error(transparent)]
    State(#[from] StateError),
    /// A seccomp profile did not compile.
    #[error("cannot compile the seccomp profile")]
    Seccomp(#[from] cofferdam_profiles::seccomp::CompileError),
    /// What explains denied calls could not be started.
    #[error(transparent)]
    Denials(#[from] crate::denials::SetupError),
    /// No user ids of its own.
    #[error(transparent)]
    Ids(#[from] crate::ids::IdsError),
    /// The AppArmor profile could not be loaded.
    #[error(transparent)]
    Apparmor(#[from] crate::apparmor::ApparmorError),
    /// The cgroup could not be made.
    #[error("cannot set up the cgroup")]
    Cgroup(#[from] cgroup::Error),
    /// A namespace to join is not usable.
    #[error("cannot join the {kind} namespace {}", path.display())]
    Namespace {
        /// `network`, `pid`, ...
        kind: &'static str,
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A hook failed.
    #[error("error running {kind} hook #{index} ({})", path.display())]
    Hook {
        /// `prestart`, `createRuntime`, ...
        kind: &'static str,
        /// Its place in the list, from 0.
        index: usize,
        /// The program.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A system call of the creating process failed.
    #[error("cannot {action}")]
    System {
        /// What was being done.
        action: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A limit of the process could not be set.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// A mount source could not be opened.
    #[error("cannot prepare the root file system")]
    Rootfs(#[from] crate::rootfs::RootfsError),
    /// Init could not set the container up.
    #[error("error during container init: {0}")]
    Init(InitFailure),
    /// Init went away without a word (SIGKILL, out of memory).
    #[error("container init ended before it was ready; was it killed, or out of memory?")]
    InitGone,
}

/// Why a container was not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// What is stored cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The container is not waiting for start.
    #[error("cannot start a container that {}", describe(*status))]
    NotCreated {
        /// What it is instead.
        status: Status,
    },
    /// A system call failed.
    #[error("cannot {action}")]
    System {
        /// What was being done.
        action: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A poststart hook failed.
    #[error("error running poststart hook #{index} ({})", path.display())]
    Hook {
        /// Its place in the list, from 0.
        index: usize,
        /// The program.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn describe(status: Status) -> &'static str {
    match status {
        Status::Stopped => "has stopped",
        Status::Running => "is running",
        Status::Paused => "is paused",
        Status::Creating => "is still being created",
        Status::Created => "is created",
    }
}

/// Why a process could not join a container.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecError {
    /// What is stored cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// There is nothing to join.
    #[error("cannot exec in a container that {}", describe(*status))]
    NotRunning {
        /// What it is instead.
        status: Status,
    },
    /// Init is a zombie with threads that run.
    #[error(
        "cannot exec in a container whose init has lost its main thread: other threads of it go on, but \
         the kernel lets nobody join their namespaces; `kill` and `delete` work as ever"
    )]
    MainThreadEnded,
    /// The process asks for something that cannot be given.
    #[error("invalid process: {field}: {problem}")]
    Process {
        /// The field, such as `cwd`.
        field: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// The cgroup cannot be joined.
    #[error("cannot join the container's cgroup")]
    Cgroup(#[from] cgroup::Error),
    /// A system call of the calling process failed.
    #[error("cannot {action}")]
    System {
        /// What was being done.
        action: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A limit of the process could not be set.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The joining process could not be confined or could not execute its program.
    #[error("exec failed: {0}")]
    Init(InitFailure),
    /// It went away without a word.
    #[error("the process ended before it was ready; was it killed, or out of memory?")]
    InitGone,
}

/// Why a signal was not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KillError {
    /// What is stored cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// Nothing to signal. containerd and Docker look for "process already finished".
    #[error("container not running: process already finished")]
    NotRunning,
    /// The cgroup's processes could not be read.
    #[error("cannot signal the container's processes")]
    Cgroup(#[from] cgroup::Error),
    /// The kernel refused.
    #[error("cannot signal the container's init")]
    System(#[source] io::Error),
}

/// Why a container was not removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeleteError {
    /// What is stored cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// It runs, and `force` was not given.
    #[error("cannot delete container {id} that is not stopped: {status}")]
    NotStopped {
        /// The id.
        id: String,
        /// What it is.
        status: Status,
    },
    /// Processes outlived SIGKILL.
    #[error("container {id} still has processes after SIGKILL")]
    Unkillable {
        /// The id.
        id: String,
    },
    /// The cgroup could not be removed.
    #[error("cannot remove the cgroup")]
    Cgroup(#[from] cgroup::Error),
    /// The list of who has which AppArmor profile could not be changed.
    #[error(transparent)]
    Apparmor(#[from] crate::apparmor::ApparmorError),
    /// The kernel refused.
    #[error("cannot {action}")]
    System {
        /// What was being done.
        action: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Why pause, resume, update, ps or stats failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CgroupOpError {
    /// What is stored cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The container is in the wrong state for it.
    #[error("cannot {action} a container that {}", describe(*status))]
    Status {
        /// `pause`, `resume`, ...
        action: &'static str,
        /// What it is.
        status: Status,
    },
    /// It was created without one (`--rootless`).
    #[error("the container has no cgroup")]
    NoCgroup,
    /// The cgroup refused.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
}
