//! What can keep a request from being done.

use sekisho_domain::access::Minutes;
use sekisho_domain::config::Misconfigured;
use sekisho_lambda::{ErrorType, Failure};

use crate::iam;
use crate::principal::Principal;

/// Why an invocation fails. The text is what people read in Slack: what was wrong, and what to type instead.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The payload is no request.
    #[error("{0}")]
    Invalid(String),
    /// `minutes` is outside of what the configuration allows.
    #[error("`minutes` is more than may be granted: write a whole number from 1 to {most}")]
    TooLong {
        /// `max_minutes`.
        most: Minutes,
    },
    /// Understood, and not granted.
    #[error("{0}")]
    Refused(String),
    /// No such user or role.
    #[error("there is no IAM {0} in this account: check the name, upper and lower case included")]
    NotFound(Principal),
    /// The policies of the principal would be too large together.
    #[error(
        "it does not fit: {principal} would have {size} of {limit} characters of inline policies, {} too many. \
         Remove other inline policies from it, or grant a smaller profile{}. Nothing was granted",
        .size.saturating_sub(*.limit), role_hint(.principal)
    )]
    TooLarge {
        /// Whose policies.
        principal: Principal,
        /// Their size with the new one, as IAM counts.
        size: usize,
        /// The most that IAM takes.
        limit: usize,
    },
    /// The configuration or environment is wrong.
    #[error(transparent)]
    Misconfigured(#[from] Misconfigured),
    /// Another invocation is at work on the same principal and did not end in time.
    #[error("another request for {0} is being carried out: try again in a few seconds. This one changed nothing")]
    Busy(Principal),
    /// IAM did not do its part; `outcome` says what that means for access.
    #[error("{outcome}: {source}")]
    Iam {
        /// What is known now.
        outcome: String,
        /// What IAM said.
        source: iam::Failed,
    },
    /// The ledger did not do its part; `outcome` says what that means for access.
    #[error(
        "{outcome}: the ledger could not be written or read; try again, and look at the function's log if it stays"
    )]
    Ledger {
        /// What is known now.
        outcome: &'static str,
        /// What the ledger said.
        source: sekisho_ledger::Error,
    },
    /// AWS took longer than Slack waits.
    #[error("{0}: AWS answers too slowly; try again in a minute")]
    TooSlow(&'static str),
}

fn role_hint(principal: &Principal) -> &'static str {
    match principal.kind() {
        crate::principal::Kind::User => " (a role has room for five times as much)",
        crate::principal::Kind::Role => "",
    }
}

impl Failure for Error {
    fn error_type(&self) -> ErrorType {
        match self {
            Self::Invalid(_) | Self::TooLong { .. } => ErrorType::InvalidRequest,
            Self::Refused(_) => ErrorType::Refused,
            Self::NotFound(_) => ErrorType::NotFound,
            Self::TooLarge { .. } => ErrorType::LimitExceeded,
            Self::Misconfigured(_) => ErrorType::Misconfigured,
            Self::Busy(_) => ErrorType::Throttled,
            Self::Iam { source, .. } => match source.why {
                iam::Why::Missing => ErrorType::NotFound,
                iam::Why::TooLarge => ErrorType::LimitExceeded,
                iam::Why::Throttled => ErrorType::Throttled,
                iam::Why::Denied => ErrorType::Refused,
                iam::Why::Malformed => ErrorType::Misconfigured,
                iam::Why::Other | iam::Why::Silent => ErrorType::Internal,
            },
            Self::Ledger { source: sekisho_ledger::Error::Unavailable { throttled: true, .. }, .. } => {
                ErrorType::Throttled
            }
            Self::Ledger { .. } | Self::TooSlow(_) => ErrorType::Internal,
        }
    }
}
