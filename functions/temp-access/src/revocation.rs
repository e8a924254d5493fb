//! The result of a revoke: what happened to each policy of the principal.

use crate::aws::iam::{ErrorKind, IamError};
use crate::error::Error;
use crate::principal::Principal;

/// What happened to one policy.
pub(crate) enum PolicyEnd {
    /// The policy was deleted.
    Removed {
        /// Whether the ledger's row records the end.
        recorded: bool,
        /// Whether another request was working on the policy at the same time.
        held: bool,
    },
    /// There was no such policy, or it gives no access.
    Nothing,
    /// Sekisho did not write the policy. The text says how this was recognized.
    Foreign(&'static str),
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
    /// Names of the policies that were deleted.
    pub(crate) removed: Vec<String>,
    /// Names of the policies that Sekisho did not write. Each has a text that says how this was recognized.
    pub(crate) foreign: Vec<(String, &'static str)>,
    /// Names of the policies for which IAM failed, each with the error.
    pub(crate) failed: Vec<(String, IamError)>,
    /// Names of deleted policies on which another request was working at the same time.
    pub(crate) held: Vec<String>,
    /// Whether the end of a deleted policy is missing in the ledger.
    pub(crate) is_unrecorded: bool,
}

impl Revocation {
    /// Adds the result of one policy.
    pub(crate) fn with(mut self, policy: String, end: PolicyEnd) -> Self {
        match end {
            PolicyEnd::Nothing => {}
            PolicyEnd::Foreign(why) => self.foreign.push((policy, why)),
            PolicyEnd::Failed { removed, error } => {
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
