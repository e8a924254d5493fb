//! The result of a revoke: what happened to each policy of the principal, and to its open sessions.

use time::OffsetDateTime;

use crate::aws::iam::{ErrorKind, IamError};
use crate::error::Error;
use crate::names::some;
use crate::principal::Principal;
use crate::session::SessionsEnd;

/// What happened to one policy.
pub(crate) enum PolicyEnd {
    /// The policy was deleted, and access ended.
    Removed {
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
        /// Whether a follow-up deletes the policy.
        is_owed: bool,
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
    /// Whether a follow-up deletes a policy that could not be deleted.
    pub(crate) is_owed: bool,
    /// Whether access of a person may begin later. Only the ledger has such grants, and a row of it could not be read or
    /// written.
    pub(crate) may_begin_later: bool,
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
            PolicyEnd::Failed { removed, is_owed, error } => {
                self.is_owed |= is_owed;
                if removed {
                    self.removed.push(policy.clone());
                }
                self.failed.push((policy, error));
            }
            PolicyEnd::Removed { recorded, held } => {
                self.is_unrecorded |= !recorded;
                if held {
                    self.held.push(policy.clone());
                }
                self.removed.push(policy);
            }
        }
        self
    }

    /// The error if a policy was not removed, or if access may begin later. Its message also names the policies that were
    /// removed. The other lines of the answer, `besides`, follow.
    pub(crate) fn into_error(self, principal: &Principal, besides: &[String]) -> Option<Error> {
        let is_unknown = |error: &IamError| matches!(error.kind, ErrorKind::Unanswered | ErrorKind::Throttled);
        let has = if self.failed.iter().any(|(_, error)| is_unknown(error)) { "may still have" } else { "still has" };
        let names: Vec<String> = self.failed.iter().map(|(policy, _)| policy.clone()).collect();
        let removed =
            if self.removed.is_empty() { String::new() } else { format!("; {} removed", some(&self.removed)) };
        let besides = besides.iter().fold(String::new(), |all, line| all + "\n" + line);
        match self.failed.into_iter().next() {
            Some((_, source)) => {
                let outcome = format!("{principal} {has} {}{removed}", some(&names));
                Some(Error::Revoke { outcome, source, besides })
            }
            None if self.may_begin_later => {
                Some(Error::MayBegin { outcome: format!("{principal} may still get access{removed}"), besides })
            }
            None => None,
        }
    }
}
