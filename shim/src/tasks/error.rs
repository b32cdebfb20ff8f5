//! Why a request about a task failed, and the status code containerd is told.

use ttrpc::proto::Code;

use crate::backend::BackendError;
use crate::helper::FailureKind;
use crate::io::IoError;
use crate::options::OptionsError;
use crate::rpc::Status;

/// Why a request about a task failed.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// No such container.
    #[error("container {0:?}: not found")]
    NoContainer(String),
    /// No such process in the container.
    #[error("process {exec_id:?} in container {id:?}: not found")]
    NoProcess {
        /// The container.
        id: String,
        /// The process.
        exec_id: String,
    },
    /// The id is taken.
    #[error("{0:?}: already exists")]
    Exists(String),
    /// The process has ended, so it cannot be signalled or resized. The text is the one that
    /// containerd and its clients know.
    #[error("process already finished: not found")]
    Finished,
    /// The process is in a phase that does not allow the request.
    #[error("cannot {action} a process that is {phase}: failed precondition")]
    Phase {
        /// What was asked.
        action: &'static str,
        /// The phase the process is in.
        phase: &'static str,
    },
    /// The request is malformed.
    #[error("invalid {field}")]
    Invalid {
        /// Which field.
        field: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A field that must be there is not.
    #[error("{0} is missing: invalid argument")]
    Missing(&'static str),
    /// The request is not supported.
    #[error("{0}: not implemented")]
    Unimplemented(&'static str),
    /// The runtime options are not usable.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The stdio could not be opened.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The backend failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl TaskError {
    /// The status code for containerd.
    pub fn code(&self) -> Code {
        match self {
            Self::NoContainer(_) | Self::NoProcess { .. } | Self::Finished => Code::NOT_FOUND,
            Self::Exists(_) => Code::ALREADY_EXISTS,
            Self::Phase { .. } => Code::FAILED_PRECONDITION,
            Self::Invalid { .. } | Self::Missing(_) | Self::Options(_) => Code::INVALID_ARGUMENT,
            Self::Unimplemented(_) => Code::UNIMPLEMENTED,
            Self::Io(_) => Code::INTERNAL,
            Self::Backend(e) => match e.kind() {
                FailureKind::InvalidArgument => Code::INVALID_ARGUMENT,
                FailureKind::Refused | FailureKind::FailedPrecondition => Code::FAILED_PRECONDITION,
                FailureKind::NotFound => Code::NOT_FOUND,
                FailureKind::AlreadyExists => Code::ALREADY_EXISTS,
                FailureKind::Internal => Code::INTERNAL,
            },
        }
    }
}

/// An error and its causes on one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        let next = e.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = e.source();
    }
    text
}

impl From<TaskError> for Status {
    fn from(error: TaskError) -> Self {
        Self {
            code: error.code(),
            message: chain(&error),
        }
    }
}
