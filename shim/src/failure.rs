//! Which kind of failure an error of the container crate is, for the status code towards containerd.

use cofferdam_container::{CgroupOpError, DeleteError, KillError, StartError, StateError};

use crate::helper::FailureKind;

/// An error that knows its kind.
pub(crate) trait Kinded {
    /// The kind.
    fn kind(&self) -> FailureKind;
}

impl Kinded for StateError {
    fn kind(&self) -> FailureKind {
        match self {
            Self::Unknown { .. } => FailureKind::NotFound,
            _ => FailureKind::Internal,
        }
    }
}

impl Kinded for StartError {
    fn kind(&self) -> FailureKind {
        match self {
            Self::State(error) => error.kind(),
            Self::NotCreated { .. } => FailureKind::FailedPrecondition,
            _ => FailureKind::Internal,
        }
    }
}

impl Kinded for KillError {
    fn kind(&self) -> FailureKind {
        match self {
            Self::State(error) => error.kind(),
            Self::NotRunning => FailureKind::NotFound,
            _ => FailureKind::Internal,
        }
    }
}

impl Kinded for DeleteError {
    fn kind(&self) -> FailureKind {
        match self {
            Self::State(error) => error.kind(),
            Self::NotStopped { .. } => FailureKind::FailedPrecondition,
            _ => FailureKind::Internal,
        }
    }
}

impl Kinded for CgroupOpError {
    fn kind(&self) -> FailureKind {
        match self {
            Self::State(error) => error.kind(),
            Self::Status { .. } | Self::NoCgroup => FailureKind::FailedPrecondition,
            _ => FailureKind::Internal,
        }
    }
}
