//! Errors that end an invocation.

use sekisho_domain::config::Misconfigured;
use sekisho_domain::route::PipelineName;
use sekisho_lambda::{ErrorType, Failure, ServiceError};

/// The reason why an invocation failed. A retry may succeed, except after [`Error::Misconfigured`],
/// [`Error::InvalidRequest`] and [`Error::Refused`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration file or the environment is wrong.
    #[error(transparent)]
    Misconfigured(#[from] Misconfigured),
    /// A person's request cannot be understood; the message says what to send instead.
    #[error("{0}")]
    InvalidRequest(String),
    /// The alias through which the request came does not allow it.
    #[error("{0}")]
    Refused(String),
    /// The ledger could not be read or written.
    #[error(transparent)]
    Ledger(#[from] sekisho_ledger::Error),
    /// A call to CodePipeline or SNS failed.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// Other invocations wrote the pipeline's row again and again.
    #[error("other invocations keep changing the order of pipeline {0}: Lambda retries this event")]
    Busy(PipelineName),
}

impl Error {
    /// Whether the same step may succeed later although nobody corrects anything.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Ledger(error) => error.is_throttled(),
            Self::Service(error) => !error.is_refused(),
            Self::Busy(_) => true,
            Self::Misconfigured(_) | Self::InvalidRequest(_) | Self::Refused(_) => false,
        }
    }
}

impl Failure for Error {
    fn error_type(&self) -> ErrorType {
        match self {
            Self::Misconfigured(_) => ErrorType::Misconfigured,
            Self::InvalidRequest(_) => ErrorType::InvalidRequest,
            Self::Refused(_) => ErrorType::Refused,
            Self::Ledger(error) if error.is_throttled() => ErrorType::Throttled,
            Self::Service(error) if error.is_throttled() => ErrorType::Throttled,
            Self::Ledger(_) | Self::Service(_) | Self::Busy(_) => ErrorType::Internal,
        }
    }
}
