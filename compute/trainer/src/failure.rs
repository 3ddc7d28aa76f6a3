use deepmarket_job::SpecError;
use deepmarket_types::FailureReason;

/// Why a request can't be done; travels as `Reply::Failed`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// As a receipt says it.
    pub reason: FailureReason,
    /// In words.
    pub message: String,
}

impl Failure {
    pub(crate) fn crashed(message: impl Into<String>) -> Self {
        Failure { reason: FailureReason::TrainerCrashed, message: message.into() }
    }

    pub(crate) fn data(message: impl Into<String>) -> Self {
        Failure { reason: FailureReason::DataUnavailable, message: message.into() }
    }

    pub(crate) fn diverged(message: impl Into<String>) -> Self {
        Failure { reason: FailureReason::Diverged, message: message.into() }
    }
}

impl From<SpecError> for Failure {
    fn from(error: SpecError) -> Self {
        Failure::crashed(format!("the job's spec is refused: {error}"))
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.message, self.reason)
    }
}

impl std::error::Error for Failure {}
