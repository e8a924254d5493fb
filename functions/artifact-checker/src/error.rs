//! Why an invocation fails, and the stable error type of each failure.

use sekisho_domain::config::Misconfigured;
use sekisho_lambda::ServiceError;
use sekisho_lambda::{ErrorType, Failure};

/// Why an invocation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration or the environment is wrong.
    #[error(transparent)]
    Misconfigured(#[from] Misconfigured),
    /// The payload is neither an event nor a request.
    #[error("{0}")]
    InvalidRequest(String),
    /// The request names a finding that does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The request names a bucket that is not an artifact bucket of this account.
    #[error("{0}")]
    Refused(String),
    /// The object of an event could not be checked.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// A call to an AWS service failed.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The ledger could not be read or written.
    #[error(transparent)]
    Ledger(#[from] sekisho_ledger::Error),
    /// A sweep could not continue.
    #[error(transparent)]
    Sweep(#[from] SweepError),
}

/// Why an object could not be checked. A later attempt may succeed.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// S3 or KMS did not answer.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The ledger could not be read or written.
    #[error(transparent)]
    Ledger(#[from] sekisho_ledger::Error),
    /// In every attempt, the object changed after its metadata was read.
    #[error("the object changed again during every attempt to check it")]
    ObjectKeepsChanging,
    /// Another invocation holds the claim on the object's repair.
    #[error("another invocation is repairing the object")]
    RepairedElsewhere,
}

impl CheckError {
    /// Whether S3 or KMS throttled a request.
    pub(crate) fn is_throttled_by_service(&self) -> bool {
        matches!(self, Self::Service(error) if error.is_throttled())
    }
}

/// Why a sweep could not continue. The ledger has the sweep's position, and the next invocation continues from that
/// position.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The ledger could not be read or written.
    #[error(transparent)]
    Ledger(#[from] sekisho_ledger::Error),
    /// S3 did not list the bucket.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// An invocation's time was too short for one page, so another invocation would make no progress either.
    #[error("no page of bucket {0} could be finished within one invocation")]
    NoProgress(String),
}

impl Error {
    /// Whether another invocation has changed a row that this one holds.
    pub(crate) fn is_changed(&self) -> bool {
        match self {
            Self::Ledger(error) => matches!(error, sekisho_ledger::Error::Changed(_)),
            Self::Sweep(error) => error.is_changed(),
            _ => false,
        }
    }
}

impl SweepError {
    /// Whether another invocation has changed a row that this one holds.
    pub(crate) fn is_changed(&self) -> bool {
        matches!(self, Self::Ledger(sekisho_ledger::Error::Changed(_)))
    }
}

impl Failure for Error {
    fn error_type(&self) -> ErrorType {
        match self {
            Self::Misconfigured(_) => ErrorType::Misconfigured,
            Self::InvalidRequest(_) => ErrorType::InvalidRequest,
            Self::NotFound(_) => ErrorType::NotFound,
            Self::Refused(_) => ErrorType::Refused,
            Self::Check(CheckError::Service(error)) | Self::Service(error) if error.is_throttled() => {
                ErrorType::Throttled
            }
            Self::Check(CheckError::Ledger(error)) | Self::Ledger(error) if error.is_throttled() => {
                ErrorType::Throttled
            }
            Self::Check(_) | Self::Sweep(_) | Self::Service(_) | Self::Ledger(_) => ErrorType::Internal,
        }
    }
}
