//! The result of a revoke: which policies were removed, and what the caller is told about them.

use sekisho_domain::decision::Decision;
use sekisho_lambda::Invocation;

use crate::answer::{self, Answer};
use crate::aws::iam::{ErrorKind, IamError};
use crate::error::Error;
use crate::notice;
use crate::outcome::{self, Outcome};
use crate::principal::Principal;
use crate::report::Report;
use crate::request::Revoke;

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
    /// The policy is not ours, for this reason.
    Foreign(&'static str),
    /// IAM failed.
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
    /// Names of the policies that are not ours, each with the reason.
    pub(crate) foreign: Vec<(String, &'static str)>,
    /// Names of the policies for which IAM failed, each with the error.
    pub(crate) failed: Vec<(String, IamError)>,
    /// Names of deleted policies on which another request was working at the same time.
    pub(crate) held: Vec<String>,
    /// Whether the ledger misses the end of a deleted policy.
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

    /// The report of the revoke. Removed policies get their decision and notice even if others could not be removed.
    pub(crate) fn report(self, revoke: &Revoke, invocation: &Invocation) -> Report {
        let principal = &revoke.principal;
        let text = answer::revoked(principal, &self);
        let (mut decisions, mut notices) = (Vec::new(), Vec::new());
        if !self.removed.is_empty() {
            notices.push(notice::ended(principal, &self.removed, revoke.reason.as_deref(), invocation));
        }
        if !self.removed.is_empty() || self.failed.is_empty() {
            let (outcome, reason) = if self.removed.is_empty() {
                (Outcome::Unchanged, "there was no access to end")
            } else {
                (Outcome::Revoked, "access was ended")
            };
            let decision = outcome::about(Decision::new(outcome, reason), principal);
            let decision = decision.about("policies", self.removed.join(" "));
            decisions.push(decision.about_some("because", revoke.reason.clone()));
        }
        for (policy, why) in &self.foreign {
            let decision = outcome::about(Decision::new(Outcome::OpenEnded, *why), principal);
            decisions.push(decision.about("policy", policy.clone()));
            notices.push(notice::open_ended(principal, policy, why));
        }
        let names: Vec<&str> = self.failed.iter().map(|(policy, _)| policy.as_str()).collect();
        let names = names.join(" ");
        let answer = match self.into_error(principal) {
            Some(error) => {
                decisions.push(outcome::of_error(&error, Some(principal)).about("policies", names));
                Err(error)
            }
            None => Ok(Answer::Text(text)),
        };
        Report { answer, decisions, notices, settlement: None }
    }

    /// The error about the policies that were not removed, which also names the removed ones.
    fn into_error(self, principal: &Principal) -> Option<Error> {
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
