//! The result of a revoke: what happened to each policy of the principal, and to its open sessions.

use time::OffsetDateTime;

use crate::aws::iam::{ErrorKind, IamError};
use crate::error::Error;
use crate::principal::Principal;
use crate::session::SessionsEnd;

/// What happened to one policy.
pub(crate) enum PolicyEnd {
    /// The policy was deleted, and access ended.
    Removed {
        /// When the access began. It is early if this is not known.
        start: OffsetDateTime,
        /// Whether the ledger's row records the end.
        recorded: bool,
        /// Whether another request was working on the policy at the same time.
        held: bool,
    },
    /// The policy was deleted, but its access had ended before, at this time.
    Expired(OffsetDateTime),
    /// There was no such policy, or it gives no access.
    Nothing,
    /// The policy has an Allow that never ends, so Sekisho did not write it. The text says how this was recognized.
    OpenEnded(&'static str),
    /// A call to IAM failed.
    Failed {
        /// Whether the policy had been deleted at least once before the failure.
        removed: bool,
        error: IamError,
    },
}

/// What happened to all policies of a principal.
#[derive(Default)]
pub(crate) struct Revocation {
    /// Names of the policies that were deleted, and whose access ended by that.
    pub(crate) removed: Vec<String>,
    /// Names of the policies that were deleted after their access had ended, each with its end.
    pub(crate) expired: Vec<(String, OffsetDateTime)>,
    /// Names of the policies that never end. Each has a text that says how this was recognized.
    pub(crate) open_ended: Vec<(String, &'static str)>,
    /// Names of the policies for which IAM failed, each with the error.
    pub(crate) failed: Vec<(String, IamError)>,
    /// Names of deleted policies on which another request was working at the same time.
    pub(crate) held: Vec<String>,
    /// Whether the end of a deleted policy is missing in the ledger.
    pub(crate) is_unrecorded: bool,
    /// The time from which the sessions of the principal belong to the access; `None` if there was no access.
    pub(crate) sessions_from: Option<OffsetDateTime>,
    /// What happened to the open sessions; `None` if there was no access.
    pub(crate) sessions: Option<SessionsEnd>,
}

impl Revocation {
    /// Adds the result of one policy.
    pub(crate) fn with(mut self, policy: String, end: PolicyEnd) -> Self {
        match end {
            PolicyEnd::Nothing => {}
            PolicyEnd::Expired(end) => self.expired.push((policy, end)),
            PolicyEnd::OpenEnded(why) => self.open_ended.push((policy, why)),
            PolicyEnd::Failed { removed, error } => {
                if removed {
                    self.removed.push(policy.clone());
                }
                self.failed.push((policy, error));
            }
            PolicyEnd::Removed { start, recorded, held } => {
                self.is_unrecorded |= !recorded;
                if held {
                    self.held.push(policy.clone());
                }
                self.removed.push(policy);
                self.owes_sessions_from(start);
            }
        }
        self
    }

    /// Notes that the sessions that began after this time have to be ended.
    pub(crate) fn owes_sessions_from(&mut self, start: OffsetDateTime) {
        self.sessions_from = Some(self.sessions_from.map_or(start, |from| from.min(start)));
    }

    /// The error about the policies that were not removed. It also names the removed policies.
    pub(crate) fn into_error(self, principal: &Principal) -> Option<Error> {
        let is_unknown = |error: &IamError| matches!(error.kind, ErrorKind::Unanswered | ErrorKind::Throttled);
        let has = if self.failed.iter().any(|(_, error)| is_unknown(error)) { "may still have" } else { "still has" };
        let names: Vec<&str> = self.failed.iter().map(|(policy, _)| policy.as_str()).collect();
        let removed =
            if self.removed.is_empty() { String::new() } else { format!("; {} removed", self.removed.join(", ")) };
        let outcome = format!("{principal} {has} {}{removed}", names.join(", "));
        let (_, source) = self.failed.into_iter().next()?;
        Some(Error::Iam { outcome, source })
    }
}
