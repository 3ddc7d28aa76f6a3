use std::{fmt, io, path::Path};

use deepmarket_api::ApiError;
use deepmarket_job::DataError;
use deepmarket_net::NetError;
use deepmarket_types::FailureReason;

use crate::TrainerError;

/// Why the agent, a measurement or a local evaluation can't go on. Codes 6xxx.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The agent's folder can't be used.
    #[error("the agent's folder {path} can't be used: {source}; check that it exists and is writable")]
    Home {
        /// The file or folder.
        path: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// The network between machines.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The trainer.
    #[error(transparent)]
    Trainer(#[from] TrainerError),
    /// The gateways.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The dataset.
    #[error(transparent)]
    Data(#[from] DataError),
}

impl WorkerError {
    /// The stable code that logs and the CLI show.
    pub fn code(&self) -> u16 {
        match self {
            WorkerError::Home { .. } => 6001,
            WorkerError::Trainer(error) => error.code(),
            WorkerError::Net(error) => error.code(),
            WorkerError::Api(error) => error.code(),
            WorkerError::Data(error) => error.code(),
        }
    }

    pub(crate) fn home(path: &Path) -> impl FnOnce(io::Error) -> WorkerError {
        let path = path.display().to_string();
        move |source| WorkerError::Home { path, source }
    }
}

/// Why a lease can't be served any more: what its last receipt says, and the words for people.
#[derive(Clone, Debug)]
pub(crate) struct LeaseFailure {
    pub reason: FailureReason,
    pub message: String,
}

impl LeaseFailure {
    pub fn new(reason: FailureReason, message: impl fmt::Display) -> LeaseFailure {
        LeaseFailure { reason, message: message.to_string() }
    }
}

impl fmt::Display for LeaseFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)
    }
}

impl From<TrainerError> for LeaseFailure {
    fn from(error: TrainerError) -> Self {
        LeaseFailure::new(error.reason(), error)
    }
}

impl From<NetError> for LeaseFailure {
    fn from(error: NetError) -> Self {
        let reason = match error {
            NetError::Unavailable { .. } | NetError::TooLarge { .. } | NetError::Store { .. } => FailureReason::DataUnavailable,
            _ => FailureReason::PeerLost,
        };
        LeaseFailure::new(reason, error)
    }
}
