//! What can go wrong with a cgroup, and what was left unenforced.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Why a cgroup operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A file could not be written.
    #[error("cannot write `{value}` to {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What was written.
        value: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A cgroup directory could not be made.
    #[error("cannot create the cgroup {}", path.display())]
    Create {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A cgroup directory could not be opened.
    #[error("cannot open the cgroup {}", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A cgroup directory could not be removed.
    #[error("cannot remove the cgroup {}", path.display())]
    Remove {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A process could not be moved in.
    #[error("cannot move process {pid} into the cgroup {}", path.display())]
    Join {
        /// The directory.
        path: PathBuf,
        /// The process; 0 is the caller itself.
        pid: i32,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// No cgroup hierarchy is mounted.
    #[error("no cgroup hierarchy is mounted here; mount cgroup2 on /sys/fs/cgroup")]
    NoHierarchy,
    /// `linux.cgroupsPath` cannot be used.
    #[error("linux.cgroupsPath `{path}` {reason}")]
    BadPath {
        /// The path as given.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The cgroup already holds processes that are not this container's.
    #[error(
        "the cgroup {} already holds processes; a container needs a cgroup of its own \
         (choose another linux.cgroupsPath)",
        path.display()
    )]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// The cgroup exists and is frozen: a process put there would never run.
    #[error("the cgroup {} is frozen; thaw it first", path.display())]
    Frozen {
        /// The directory.
        path: PathBuf,
    },
    /// A field of the resources has a value that no kernel takes.
    #[error("{field}: `{value}` {reason}")]
    BadValue {
        /// The field of the spec.
        field: String,
        /// The value as given.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Something asked for cannot be enforced on this host.
    #[error("cannot enforce {0}")]
    Unenforced(Unenforced),
    /// A file of the kernel has an unknown form.
    #[error("{} says `{text}`, which is not understood", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The text.
        text: String,
    },
    /// The processes did not all stop in time.
    #[error("the cgroup {} did not freeze within {seconds} s", path.display())]
    FreezeTimeout {
        /// The directory.
        path: PathBuf,
        /// How long was waited.
        seconds: u64,
    },
    /// Processes survived every attempt to kill them.
    #[error("processes {pids:?} in the cgroup {} do not die", path.display())]
    Survivors {
        /// The directory.
        path: PathBuf,
        /// The processes.
        pids: Vec<i32>,
    },
    /// The kernel did not take the device filter.
    #[error("cannot {action} the device filter of the cgroup {}", path.display())]
    DeviceFilter {
        /// The directory.
        path: PathBuf,
        /// `load`, `attach`, ...
        action: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel cannot tell about events of a file.
    #[error("cannot watch {}", path.display())]
    Watch {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A hierarchy that the operation needs is missing.
    #[error("the container has no `{controller}` cgroup, which {operation} needs")]
    MissingController {
        /// The controller.
        controller: &'static str,
        /// What needs it.
        operation: &'static str,
    },
    /// The systemd driver cannot work here.
    #[error("the systemd cgroup driver cannot be used: {reason}")]
    SystemdUnavailable {
        /// Why.
        reason: &'static str,
    },
    /// systemd refused.
    #[error("systemd refused to {action}")]
    Systemd {
        /// What was asked of it.
        action: &'static str,
        /// libcgroups' account of it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A limit that was asked for and that this host cannot enforce.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unenforced {
    /// The field of the spec, such as `linux.resources.memory.swap`.
    pub field: String,
    /// The value asked for.
    pub asked: String,
    /// Why it cannot be enforced, and what would help.
    pub reason: String,
}

impl std::fmt::Display for Unenforced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} = {}: {}", self.field, self.asked, self.reason)
    }
}
