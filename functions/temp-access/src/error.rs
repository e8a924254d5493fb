//! The errors of an invocation, and the stable type of each.

use sekisho_domain::access::{Minutes, ProfileName};
use sekisho_domain::account::AccountId;
use sekisho_domain::code::Code;
use sekisho_domain::config::Misconfigured;
use sekisho_domain::slack;
use sekisho_domain::timestamp;
use sekisho_lambda::{ErrorType, Failure, ServiceError};
use time::OffsetDateTime;

use crate::aws::iam::{ErrorKind, IamError};
use crate::aws::lambda::{HubError, HubErrorKind};
use crate::principal::{Kind, Principal};

/// An error that ends an invocation. Its text is all that people see in Slack. The text says what was wrong, what the
/// error means for access, and what to do. It therefore includes the text of the error's cause.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The payload is not a request; the text says what to type instead.
    #[error("{0}")]
    Invalid(String),
    /// `minutes` is more than the configuration allows.
    #[error("`minutes` is more than may be granted: write a whole number from 1 to {most}")]
    TooLong {
        /// `max_minutes` of the configuration.
        most: Minutes,
    },
    /// The request was understood, but is not granted.
    #[error("{0}")]
    Refused(String),
    /// There is no such user, role or person.
    #[error("{}", unknown(.0))]
    NotFound(Principal),
    /// Identity Center could not be asked for a person.
    #[error("{outcome}: Identity Center does not say who this is ({}); try again in a minute", source.description())]
    People {
        /// What the failure means for access.
        outcome: &'static str,
        /// The error of the call to the identity store.
        source: Box<ServiceError>,
    },
    /// The policy of all people is full.
    #[error(
        "sekisho-window is full: all people of Identity Center share its 6,144 characters. {next}Nothing was granted"
    )]
    WindowFull {
        /// Who leaves next and when, as a sentence; empty if nobody else is in.
        next: String,
    },
    /// A grant failed, but the ledger may still have its intent, which a follow-up enters.
    #[error(
        "{error}. But the ledger could not take this back, so the access may still be given as requested: \
         {{\"action\":\"revoke\",\"{}\":\"{}\"}} ends all access of {principal}",
        .principal.kind().as_str(), .principal.name()
    )]
    NotTakenBack {
        /// Why the grant failed.
        error: Box<Error>,
        /// The principal of the grant.
        principal: Principal,
    },
    /// No open request has the code.
    #[error(
        "there is no open request {0}: it was decided, withdrawn or replaced, or it has lapsed; \
         {{\"action\":\"pending\"}} shows what waits. A code from another account needs \"account\", too. Nothing was \
         changed"
    )]
    NoRequest(Code),
    /// All inline policies of the principal together would be too large.
    #[error(
        "the policy does not fit: {principal} would have {size} of {limit} characters of inline policies, {} too many. \
         Remove other inline policies of this principal, or grant a smaller profile{}. Nothing was granted",
        .size.saturating_sub(*.limit), role_hint(.principal)
    )]
    TooLarge {
        /// The principal that has the policies.
        principal: Principal,
        /// The size with the new policy, as IAM counts it.
        size: usize,
        /// The largest size that IAM accepts.
        limit: usize,
    },
    /// The chain of grants has reached its maximum length, and ended only recently.
    #[error(
        "grants of {profile} to {principal} that follow each other last at most {longest} min from the first start, \
         and that is over: a new one can begin at {} (`rest_minutes`). Nothing was granted",
        timestamp::seconds(*.again)
    )]
    ChainOver {
        /// The principal that had access.
        principal: Principal,
        /// The profile of the chain.
        profile: ProfileName,
        /// `max_minutes` of the profile.
        longest: Minutes,
        /// When a new chain can begin.
        again: OffsetDateTime,
    },
    /// A request could not be handed on to another account.
    #[error("account {account} {}", hub_problem(.source.kind))]
    Hub {
        /// The account that the request names.
        account: AccountId,
        /// The error of the call to Lambda.
        source: HubError,
    },
    /// The function of another account ended without an answer of ours.
    #[error(
        "temp-access of account {account} ended with {}: the request may have been carried out; send \
         {{\"action\":\"list\"}} there to see it", slack::quoted(.error_type)
    )]
    Died {
        /// The account that the request names.
        account: AccountId,
        /// Lambda's error type, such as `Sandbox.Timedout`.
        error_type: String,
    },
    /// The error of another account's function, which is passed on.
    #[error("{message}")]
    PassedOn {
        /// The other function's error type.
        error_type: ErrorType,
        /// The other function's message.
        message: String,
    },
    /// The configuration or the environment is wrong.
    #[error(transparent)]
    Misconfigured(#[from] Misconfigured),
    /// Another invocation was working on the same principal, and did not end in time.
    #[error("another request for {0} is running: try again in a few seconds. This request changed nothing")]
    Busy(Principal),
    /// A revoke could not delete a policy yet, and a grant would take its place.
    #[error(
        "a revoke of {0} is not finished, because IAM has not deleted a policy yet. The function tries this every \
         minute: try again in two minutes. This request changed nothing"
    )]
    Revoking(Principal),
    /// A call to IAM failed.
    #[error("{outcome}: {source}")]
    Iam {
        /// What the failure means for access.
        outcome: String,
        /// The error of the call to IAM.
        source: IamError,
    },
    /// A call to IAM failed in a revoke.
    #[error("{outcome}: {source}{besides}")]
    Revoke {
        /// What the failure means for access.
        outcome: String,
        /// The error of the call to IAM.
        source: IamError,
        /// What else happened, as further lines.
        besides: String,
    },
    /// The ledger failed in the revoke of a person. Access that begins later is only in the ledger, so it may be left.
    #[error("{outcome}{besides}")]
    MayBegin {
        /// Who may still get access, and what was removed.
        outcome: String,
        /// What else happened, as further lines. One of them says what to do.
        besides: String,
    },
    /// A call to the ledger failed.
    #[error("{outcome}: {}", ledger_problem(.source))]
    Ledger {
        /// What the failure means for access.
        outcome: &'static str,
        /// The error of the call to the ledger.
        source: sekisho_ledger::Error,
    },
    /// AWS took longer than Slack waits. The field says what the error means for access.
    #[error("{0}: AWS answers too slowly; try again in a minute")]
    TooSlow(&'static str),
}

fn unknown(principal: &Principal) -> String {
    match principal.kind() {
        Kind::User | Kind::Role => {
            format!("there is no IAM {principal} in this account: check the name, including upper and lower case")
        }
        Kind::Person => format!(
            "Identity Center has no user with the e-mail address or user name {}: check it",
            slack::shown(principal.name())
        ),
    }
}

/// Why another account does not answer, and what to do.
fn hub_problem(kind: HubErrorKind) -> &'static str {
    match kind {
        HubErrorKind::Denied => {
            "does not let this account hand requests on: there, set the parameter HubAccountId to this account, and \
             run `make hub`. Nothing was changed"
        }
        HubErrorKind::Throttled => "is throttled by Lambda: try again in a minute",
        HubErrorKind::Refused => {
            "could not be given the request: the function's log has the reason. Nothing was changed"
        }
        HubErrorKind::Unanswered => {
            "did not answer in time: the request may have been carried out; list the access of that account to see it"
        }
    }
}

/// What is wrong with the ledger, and what to do.
fn ledger_problem(error: &sekisho_ledger::Error) -> String {
    match error {
        sekisho_ledger::Error::Unreadable { .. } => error.to_string(),
        sekisho_ledger::Error::Changed(_) | sekisho_ledger::Error::Unavailable { .. } => {
            "the ledger could not be read or written; try again, and read the function's log if it happens again"
                .to_owned()
        }
    }
}

fn role_hint(principal: &Principal) -> &'static str {
    match principal.kind() {
        Kind::User => " (a role has room for five times as much)",
        Kind::Role | Kind::Person => "",
    }
}

impl Error {
    /// The further lines of a revoke's message.
    pub(crate) fn besides_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::Revoke { besides, .. } | Self::MayBegin { besides, .. } => Some(besides),
            _ => None,
        }
    }
}

impl Failure for Error {
    fn error_type(&self) -> ErrorType {
        match self {
            Self::Invalid(_) | Self::TooLong { .. } => ErrorType::InvalidRequest,
            Self::Refused(_) => ErrorType::Refused,
            Self::NotFound(_) | Self::NoRequest(_) => ErrorType::NotFound,
            Self::TooLarge { .. } | Self::WindowFull { .. } | Self::ChainOver { .. } => ErrorType::LimitExceeded,
            Self::People { source, .. } if source.is_throttled() => ErrorType::Throttled,
            Self::People { source, .. } if source.is_refused() => ErrorType::Refused,
            Self::PassedOn { error_type, .. } => *error_type,
            Self::NotTakenBack { error, .. } => error.error_type(),
            Self::Hub { source, .. } => match source.kind {
                HubErrorKind::Denied => ErrorType::Refused,
                HubErrorKind::Throttled => ErrorType::Throttled,
                HubErrorKind::Refused | HubErrorKind::Unanswered => ErrorType::Internal,
            },
            Self::Misconfigured(_) => ErrorType::Misconfigured,
            Self::Busy(_) | Self::Revoking(_) => ErrorType::Throttled,
            Self::Iam { source, .. } | Self::Revoke { source, .. } => match source.kind {
                ErrorKind::NotFound => ErrorType::NotFound,
                ErrorKind::TooLarge => ErrorType::LimitExceeded,
                ErrorKind::Throttled => ErrorType::Throttled,
                ErrorKind::Denied => ErrorType::Refused,
                ErrorKind::Malformed => ErrorType::Misconfigured,
                ErrorKind::Other | ErrorKind::Unanswered => ErrorType::Internal,
            },
            Self::Ledger { source, .. } if source.is_throttled() => ErrorType::Throttled,
            Self::People { .. }
            | Self::MayBegin { .. }
            | Self::Ledger { .. }
            | Self::Died { .. }
            | Self::TooSlow(_) => ErrorType::Internal,
        }
    }
}
