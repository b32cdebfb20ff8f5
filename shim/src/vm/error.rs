//! Why something with a machine did not work.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cofferdam_agent::client::ClientError;
use cofferdam_container::cgroup;
use cofferdam_container::ids::IdsError;
use cofferdam_container::rootfs::RootfsError;
use cofferdam_container::{CreateError, ExecError, StateError};
use cofferdam_network::NetworkError;
use cofferdam_profiles::policy::Refusal;
use cofferdam_profiles::policy::microvm::GuestError;
use serde::de::DeserializeOwned;

use crate::failure::Kinded;
use crate::helper::FailureKind;

/// Why something with a machine did not work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MachineError {
    /// What machines are made of is not installed.
    #[error(
        "cannot start a virtual machine: {what} is not at {}; install it with `make install`, or \
         name its directory in COFFERDAM_GUEST", path.display()
    )]
    Missing {
        /// Which part.
        what: &'static str,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// This host runs none.
    #[error("cannot start a virtual machine: {0}; `cofferdam doctor` tells more")]
    NoKvm(String),
    /// A number of the annotations or limits.
    #[error("cannot size the virtual machine: {0}")]
    Size(String),
    /// A file or process.
    #[error("cannot {action} {}", path.display())]
    System {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of a machine's that cannot be read.
    #[error("{} is damaged; delete the container with --force", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The pod's machine is not there.
    #[error("the virtual machine of pod {pod} has ended or was never started")]
    Gone {
        /// The pod.
        pod: String,
    },
    /// The monitor ended before its guest answered.
    #[error("the virtual machine did not start: {0}")]
    Start(String),
    /// The machine's process cannot be ended.
    #[error("the process {0} of a virtual machine does not end")]
    Unkillable(i32),
    /// The spec asks for what no machine has.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// The policy refuses the process.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The guest, or the way to it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The pod's network.
    #[error("cannot give the virtual machine the pod's network")]
    Network(#[from] NetworkError),
    /// The host's files.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// No user ids.
    #[error(transparent)]
    Ids(#[from] IdsError),
    /// The machine's cgroup.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// What stands in on the host.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// What stands in for a joined process.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// What is stored about the container.
    #[error(transparent)]
    State(#[from] StateError),
}

impl Kinded for MachineError {
    fn kind(&self) -> FailureKind {
        use ttrpc::proto::Code;
        match self {
            Self::Guest(_) | Self::Size(_) => FailureKind::InvalidArgument,
            Self::Refused(_) => FailureKind::Refused,
            Self::Gone { .. } => FailureKind::FailedPrecondition,
            Self::State(error) => error.kind(),
            Self::Create(CreateError::Exists { .. }) => FailureKind::AlreadyExists,
            Self::Client(ClientError::Failed { code, .. }) => match code {
                Code::NOT_FOUND => FailureKind::NotFound,
                Code::ALREADY_EXISTS => FailureKind::AlreadyExists,
                Code::FAILED_PRECONDITION => FailureKind::FailedPrecondition,
                Code::INVALID_ARGUMENT => FailureKind::InvalidArgument,
                Code::PERMISSION_DENIED => FailureKind::Refused,
                _ => FailureKind::Internal,
            },
            _ => FailureKind::Internal,
        }
    }
}

/// What was being done to a file.
pub(super) fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> MachineError {
    let path = path.to_owned();
    move |source| MachineError::System {
        action,
        path,
        source,
    }
}

/// Reads a file of ours; none if it is not there.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, MachineError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at("read", path)(error)),
    };
    let damaged = |source| MachineError::Damaged {
        path: path.to_owned(),
        source,
    };
    serde_json::from_slice(&text).map(Some).map_err(damaged)
}
