//! Errors that end an invocation.

use sekisho_domain::change::{RepositoryArn, SourceRef};
use sekisho_domain::config::Misconfigured;
use sekisho_lambda::{ErrorType, Failure, ServiceError};

use crate::hint::Hint;

/// The reason why an invocation failed. A retry may succeed, except after [`Error::Misconfigured`],
/// [`Error::InvalidRequest`], [`Error::NotFound`] and [`Error::Refused`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration or the environment is wrong.
    #[error(transparent)]
    Misconfigured(#[from] Misconfigured),
    /// A person's request cannot be understood; the message says what to send instead.
    #[error("{0}")]
    InvalidRequest(String),
    /// A person's request names a route or target that does not exist; the message says what exists.
    #[error("{0}")]
    NotFound(String),
    /// A rule forbids what a person's request asks for; the message says what to send instead.
    #[error("{0}")]
    Refused(String),
    /// The ledger could not be read or written.
    #[error(transparent)]
    Ledger(#[from] sekisho_ledger::Error),
    /// A call to CodeCommit failed.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// Other invocations wrote the rows of the reference again and again.
    #[error("other invocations are relaying {source_ref} of {repository}: Lambda retries this event")]
    Busy {
        /// The reference.
        source_ref: SourceRef,
        /// The reference's repository.
        repository: RepositoryArn,
    },
    /// The invocation would time out before it could order the change.
    #[error("no time is left to relay {source_ref} of {repository}: Lambda retries this event")]
    NoTime {
        /// The reference.
        source_ref: SourceRef,
        /// The reference's repository.
        repository: RepositoryArn,
    },
}

impl Failure for Error {
    fn error_type(&self) -> ErrorType {
        match self {
            Self::Misconfigured(_) => ErrorType::Misconfigured,
            Self::InvalidRequest(_) => ErrorType::InvalidRequest,
            Self::NotFound(_) => ErrorType::NotFound,
            Self::Refused(_) => ErrorType::Refused,
            Self::Ledger(error) if error.is_throttled() => ErrorType::Throttled,
            Self::Service(error) if error.is_throttled() => ErrorType::Throttled,
            Self::Ledger(_) | Self::Service(_) | Self::Busy { .. } | Self::NoTime { .. } => ErrorType::Internal,
        }
    }
}

impl Error {
    /// The error that other invocations wrote the rows of the reference of `hint` again and again.
    pub(crate) fn busy(hint: &Hint) -> Self {
        Self::Busy { source_ref: hint.source_ref.clone(), repository: hint.repository.clone() }
    }

    /// The error that the invocation has no time left for the reference of `hint`.
    pub(crate) fn no_time(hint: &Hint) -> Self {
        Self::NoTime { source_ref: hint.source_ref.clone(), repository: hint.repository.clone() }
    }

    /// Whether every retry fails in the same way until a person fixes the cause.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Service(error) => error.is_refused(),
            Self::Ledger(error) => matches!(error, sekisho_ledger::Error::Unreadable { .. }),
            _ => false,
        }
    }
}
