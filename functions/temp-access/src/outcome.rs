//! The outcomes of an invocation, and decisions about a principal or an error.

use sekisho_domain::decision::Decision;
use sekisho_domain::timestamp;
use sekisho_lambda::{ErrorType, Failure};
use serde::Serialize;

use crate::door::Door;
use crate::error::Error;
use crate::pending::PendingRow;
use crate::principal::{Kind, Principal};
use crate::row::Consent;
use crate::session::SessionsEnd;

/// What an invocation decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The principal was given access.
    Granted,
    /// The principal will be given access at a later time.
    Scheduled,
    /// The request waits for an approval, or a break-glass grant still waits for its review.
    Pending,
    /// The request was approved, or the review of a break-glass grant was closed.
    Approved,
    /// The request was declined or withdrawn.
    Declined,
    /// The request lapsed, because nobody approved it in time.
    Lapsed,
    /// The principal's access now ends later than before.
    Extended,
    /// Access stays as it was.
    Unchanged,
    /// Access was ended by request.
    Revoked,
    /// A dry run showed what a request would do.
    Previewed,
    /// The list of everybody with access was shown.
    Listed,
    /// The help text was shown.
    Helped,
    /// A sweep removed a policy that had ended.
    Swept,
    /// A sweep found nothing to do.
    Idle,
    /// The principal keeps its access, which may allow more than before, because it follows the profile as it is now.
    Widened,
    /// Open sessions of a principal were ended, because its access ended.
    SessionEnded,
    /// A policy with our name contains an Allow without an end; a person has to check the policy.
    OpenEnded,
    /// A policy with our name ends later than any that Sekisho writes; a person has to check the policy.
    Foreign,
    /// The request was not granted, and nothing changed.
    Refused,
    /// The request could not be carried out, or it is unknown whether it was.
    Failed,
}

/// Adds the principal to a decision.
pub(crate) fn about(decision: Decision<Outcome>, principal: &Principal) -> Decision<Outcome> {
    let id = (principal.kind() == Kind::Person && principal.key() != principal.name()).then_some(principal.key());
    decision.about(principal.kind().as_str(), principal.name()).about_some("user_id", id)
}

/// Adds who asked for a grant, and who approved it.
pub(crate) fn with_consent(decision: Decision<Outcome>, consent: &Consent) -> Decision<Outcome> {
    decision
        .about_some("door", consent.door.clone())
        .about_some("approved_by", consent.approved_by.clone())
        .about_some("code", consent.code.clone())
        .about_some("break_glass", consent.break_glass.then_some("true"))
}

/// The decision about a request that waits, or no longer waits.
pub(crate) fn about_request(
    decision: Decision<Outcome>,
    row: &PendingRow,
    approved_by: Option<&Door>,
) -> Decision<Outcome> {
    let decision = match row.principal() {
        Some(principal) => about(decision, &principal),
        None => decision,
    };
    let decision = decision
        .about("profile", row.profile.as_str())
        .about("minutes", row.minutes.to_string())
        .about_some("start", row.from.map(timestamp::seconds))
        .about_some("because", row.reason.clone());
    with_consent(decision, &row.consent(approved_by))
}

/// The decision about the open sessions of a principal whose access ended; `None` if there were none.
pub(crate) fn of_sessions(sessions: &SessionsEnd, principal: &Principal) -> Option<Decision<Outcome>> {
    let (decision, ended) = match sessions {
        SessionsEnd::Ended(0) => return None,
        SessionsEnd::Ended(ended) => (Decision::new(Outcome::SessionEnded, "open sessions were ended"), ended),
        SessionsEnd::Failed { ended, why } => {
            (Decision::new(Outcome::Failed, format!("sessions may still be open: {why}")), ended)
        }
    };
    Some(about(decision, principal).about("sessions", ended.to_string()))
}

/// The decision about a request that ended with an error.
pub(crate) fn of_error(error: &Error, principal: Option<&Principal>) -> Decision<Outcome> {
    let outcome = match error.error_type() {
        ErrorType::InvalidRequest | ErrorType::Refused | ErrorType::NotFound | ErrorType::LimitExceeded => {
            Outcome::Refused
        }
        ErrorType::Throttled | ErrorType::Misconfigured | ErrorType::Internal => Outcome::Failed,
    };
    let decision = Decision::new(outcome, error.to_string()).about("error", error.error_type().name());
    match principal {
        Some(principal) => about(decision, principal),
        None => decision,
    }
}
