//! The context of one invocation, which every use case receives, and the steps that several use cases share.

use std::cell::Cell;
use std::future::Future;

use futures_util::future::join_all;
use sekisho_domain::access::{Access, Approval, Minutes};
use sekisho_domain::config::Misconfigured;
use sekisho_lambda::failure::chain;
use sekisho_lambda::{Invocation, Topic};
use sekisho_ledger::{Error as LedgerError, Key, Store};
use time::OffsetDateTime;
use tokio::time::{Duration, Instant, sleep, timeout, timeout_at};
use tracing::{error, warn};

use crate::aws::iam::{Iam, PrincipalDetails};
use crate::aws::identity_center::IdentityCenter;
use crate::aws::lambda::Hubs;
use crate::aws::ssm::{Sessions, SsmError};
use crate::aws::trail::Trail;
use crate::door::Door;
use crate::error::Error;
use crate::policy;
use crate::principal::{Kind, Principal};
use crate::row::GrantRow;
use crate::session::SessionsEnd;
use crate::window::{Window, latest_end};

// Chatbot waits 15 s for an answer, so a request ends after 12.5 s. The following limits are measured from the start of
// the request.

/// Until this limit, IAM is read again if it shows less than the ledger records.
pub(crate) const RECHECK_LIMIT: Duration = Duration::from_secs(5);
/// If the plan is not in the ledger by this limit, nothing is granted.
pub(crate) const PLAN_LIMIT: Duration = Duration::from_secs(7);
/// If IAM has not answered the write by this limit, it is unknown whether the write took effect.
pub(crate) const WRITE_LIMIT: Duration = Duration::from_millis(9_500);
/// Until this limit, IAM is read to see whether it shows the result.
pub(crate) const CONFIRM_LIMIT: Duration = Duration::from_millis(10_500);
/// Until this limit, the decisions are written to the ledger and the notices are sent to the topic.
pub(crate) const RECORD_LIMIT: Duration = Duration::from_secs(12);
/// Until this limit, a grant's row is settled, which records whether the notice was sent.
pub(crate) const SETTLE_LIMIT: Duration = Duration::from_millis(12_500);
/// Until this limit, the hub waits for another account's answer, which it only passes on.
pub(crate) const HUB_LIMIT: Duration = Duration::from_millis(11_750);

/// Timeout of one attempt of an AWS call. Each call has three attempts.
pub(crate) const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(2_500);
/// Timeout of one ledger call in a revoke. It is short, because a revoke also works without the ledger.
pub(crate) const LEDGER_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Timeout of one read of IAM in a revoke, which goes on without the answer.
pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause between two reads of a state that is about to change.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Safety margin of a sweep before Lambda's timeout.
pub(crate) const SWEEP_MARGIN: Duration = Duration::from_secs(10);

/// One invocation's context.
pub(crate) struct Run<'a, S> {
    pub(crate) access: &'a Result<Access, Misconfigured>,
    /// ARN of the access boundary.
    pub(crate) boundary: &'a str,
    pub(crate) ledger: &'a S,
    pub(crate) iam: &'a Iam,
    pub(crate) sessions: &'a Sessions,
    pub(crate) trail: &'a Trail,
    /// Identity Center, if its people get access in this account.
    pub(crate) identity_center: Option<&'a IdentityCenter>,
    pub(crate) topic: &'a Topic,
    pub(crate) clock: &'a dyn Fn() -> OffsetDateTime,
    /// The temp-access functions of other accounts.
    pub(crate) hubs: &'a Hubs,
    pub(crate) invocation: &'a Invocation,
    /// The door through which the request came.
    pub(crate) door: Door,
    pub(crate) start: Instant,
    /// Whether a ledger call has failed already. After such a failure, a revoke makes no further ledger calls.
    pub(crate) is_ledger_lost: Cell<bool>,
}

/// The `[access]` section of the configuration, if it can be read.
pub(crate) fn usable(access: &Result<Access, Misconfigured>) -> Result<&Access, Error> {
    access.as_ref().map_err(|misconfigured| Error::Misconfigured(misconfigured.clone()))
}

/// The result of a ledger call in a revoke. A failure is no error, because a revoke also works without the ledger.
pub(crate) enum LedgerAnswer<T> {
    Done(T),
    /// Another invocation has changed the row since it was read.
    Changed,
    /// The ledger failed, now or earlier in this invocation.
    Lost,
}

impl<S: Store> Run<'_, S> {
    pub(crate) fn now(&self) -> OffsetDateTime {
        (self.clock)()
    }

    pub(crate) fn request_id(&self) -> &str {
        &self.invocation.request_id
    }

    /// The point in time at which a limit is reached.
    pub(crate) fn deadline(&self, limit: Duration) -> Instant {
        self.start + limit
    }

    /// The time at which a sweep stops. The result is the same at every call, because the time that is left shrinks as
    /// the clock advances.
    pub(crate) fn sweep_deadline(&self) -> Instant {
        Instant::now() + self.invocation.time_left(self.now()).saturating_sub(SWEEP_MARGIN)
    }

    /// The `[access]` section of the configuration.
    pub(crate) fn access(&self) -> Result<&Access, Error> {
        usable(self.access)
    }

    /// The longest grant of a profile. Without a valid configuration, it is the longest that any configuration allows.
    pub(crate) fn longest(&self, profile: &str) -> Minutes {
        self.access.as_ref().map_or(Minutes::LONGEST, |access| access.longest(profile))
    }

    /// Whether everybody may ask for the profile, without an approval.
    pub(crate) fn is_open(&self, profile: &str) -> bool {
        let configured = self.access.iter().flat_map(|access| &access.profiles);
        let mut found = configured.filter(|(name, _)| name.as_str() == profile);
        found.all(|(_, profile)| profile.approval == Approval::None && !profile.break_glass)
    }

    /// Whether Sekisho may have written the policy: the ledger records its end, or no version would write a later end.
    pub(crate) fn is_ours(&self, policy: &str, window: Window, row: Option<&GrantRow>) -> bool {
        let profile = policy.strip_prefix(policy::PREFIX).unwrap_or(policy);
        window.end <= latest_end(self.now(), self.longest(profile))
            || row.is_some_and(|row| row.is_granted() && row.end == window.end)
    }

    /// Whether a grant of the profile allows to open sessions. A profile that is not configured counts.
    pub(crate) fn opens_sessions(&self, profile: &str) -> bool {
        let profiles = self.access.iter().flat_map(|access| &access.profiles);
        let configured = profiles.into_iter().find(|(name, _)| name.as_str() == profile);
        configured.is_none_or(|(_, profile)| policy::opens_sessions(profile))
    }

    /// Ends the open sessions of a principal that began within the window; without an end of the window, also those
    /// that begin until now.
    pub(crate) async fn end_sessions(
        &self,
        principal: &Principal,
        began: (OffsetDateTime, Option<OffsetDateTime>),
        deadline: Instant,
    ) -> SessionsEnd {
        // A third of the time is kept free to end the sessions.
        let left = deadline.saturating_duration_since(Instant::now());
        let (open, mut failure) = self.sessions.open(deadline - left / 3).await;
        let account = self.invocation.account.as_str();
        let theirs = open.iter().filter(|session| session.belongs_to(principal, account, began));
        let ends = join_all(theirs.map(async |session| {
            let ended = timeout_at(deadline, self.sessions.terminate(&session.id)).await;
            ended.unwrap_or_else(|_| Err(SsmError::unanswered("TerminateSession")))
        }));
        let mut ended = 0;
        for end in ends.await {
            match end {
                Ok(()) => ended += 1,
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            None => SessionsEnd::Ended(ended),
            Some(error) => {
                warn!(error = chain(&error), "a session was not ended");
                SessionsEnd::Failed { ended, why: error.to_string() }
            }
        }
    }

    /// Reads the principal's details. A name that IAM spells differently, for example in upper case, is refused.
    pub(crate) async fn describe(&self, principal: &Principal) -> Result<PrincipalDetails, Error> {
        if principal.kind() == Kind::Person {
            // The permission set has the boundary, and whoever it is not assigned to gets nothing.
            return Ok(PrincipalDetails {
                name: principal.name().to_owned(),
                path: "/".to_owned(),
                is_grantable: true,
                boundary: Some(self.boundary.to_owned()),
            });
        }
        let details = self.iam.describe(principal).await;
        let details = details.map_err(|source| Error::Iam { outcome: "Nothing was changed".to_owned(), source })?;
        let details = details.ok_or_else(|| Error::NotFound(principal.clone()))?;
        if details.name != principal.name() {
            return Err(Error::Refused(format!(
                "there is no {principal}, but there is a {} {}: type the name as IAM spells it",
                principal.kind().as_str(),
                details.name
            )));
        }
        Ok(details)
    }

    /// Waits a moment for another invocation that is working on the same principal, unless [`PLAN_LIMIT`] is near.
    pub(crate) async fn wait_for_other(&self, principal: &Principal) -> Result<(), Error> {
        if Instant::now() + POLL_INTERVAL >= self.deadline(PLAN_LIMIT) {
            return Err(Error::Busy(principal.clone()));
        }
        sleep(POLL_INTERVAL).await;
        Ok(())
    }

    /// Makes a ledger call in a revoke. The call has a short timeout, and after the first failure no more calls are
    /// made.
    pub(crate) async fn try_ledger<T>(&self, call: impl Future<Output = Result<T, LedgerError>>) -> LedgerAnswer<T> {
        if self.is_ledger_lost.get() {
            return LedgerAnswer::Lost;
        }
        let error = match timeout(LEDGER_TIMEOUT, call).await {
            Ok(Ok(value)) => return LedgerAnswer::Done(value),
            Ok(Err(LedgerError::Changed(_))) => return LedgerAnswer::Changed,
            Ok(Err(error)) => chain(&error),
            Err(_) => "no answer in time".to_owned(),
        };
        self.is_ledger_lost.set(true);
        error!(error, "access is ended without the ledger");
        LedgerAnswer::Lost
    }

    /// Undoes a claim under which nothing was changed, so that no other request waits for its lease. After a failure,
    /// other requests wait until the lease ends. If `before` has the lease of an earlier attempt of this request, it stays:
    /// that attempt may still be running. Returns whether the row no longer has the claim.
    pub(crate) async fn release(&self, key: &Key, revision: u64, before: Option<GrantRow>) -> bool {
        let released = timeout_at(self.deadline(CONFIRM_LIMIT), async {
            match before {
                Some(before) => self.ledger.write(key, &before, Some(revision), self.request_id()).await.map(drop),
                None => self.ledger.delete(key, revision).await,
            }
        });
        match released.await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                warn!(error = chain(&error), "a claim was not released");
                matches!(error, LedgerError::Changed(_))
            }
            Err(_) => {
                warn!("a claim was not released in time");
                false
            }
        }
    }
}
