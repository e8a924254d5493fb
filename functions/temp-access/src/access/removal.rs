//! The removal of a policy whose access has ended. A sweep removes such policies, and so does a grant that needs room.
//! A follow-up removes a policy that a revoke could not delete.

use sekisho_domain::decision::Decision;
use sekisho_lambda::failure::chain;
use sekisho_ledger::{Error as LedgerError, Lease, Row, Store};
use tokio::time::{Instant, timeout_at};
use tracing::{error, warn};

use crate::access::policies;
use crate::access::window::Turn;
use crate::aws::iam::{ErrorKind, IamError};
use crate::error::Error;
use crate::notice;
use crate::outcome::{self, Outcome};
use crate::policy::{self, Reading};
use crate::principal::Principal;
use crate::row::{self, GrantRow, LEASE_TERM, State};
use crate::run::{ATTEMPT_TIMEOUT, Run};

const NOT_REMOVED: &str = "An ended policy was not removed";

/// What happened to a policy that seemed to have ended.
pub(crate) enum Removal {
    /// The policy was deleted.
    Removed,
    /// There is no such policy any more.
    AlreadyGone,
    /// The policy still gives access.
    StillLive,
    /// The policy has an Allow that never ends. The text says how this was recognized.
    OpenEnded(&'static str),
    /// Another invocation is working on the policy.
    Held,
}

/// Removes a policy of ours that has ended. The ledger's row is claimed first, so that no grant puts the policy in the
/// meantime.
pub(crate) async fn remove_ended<S: Store>(
    principal: &Principal,
    policy: &str,
    run: &Run<'_, S>,
) -> Result<Removal, Error> {
    let key = row::key(principal, policy);
    let iam_error = |source| Error::Iam { outcome: format!("{principal} still has {policy}"), source };
    let ledger_error = |source| Error::Ledger { outcome: NOT_REMOVED, source };
    let row = run.ledger.read::<GrantRow>(&key).await.map_err(ledger_error)?;
    let now = run.now();
    if let Some(row) = &row {
        if row.state.is_held_by_another(run.request_id(), now) {
            return Ok(Removal::Held);
        }
        // Reads of the ledger are consistent, but reads of IAM are not: IAM may not show a very recent grant yet.
        if row.state.gives_access(now) {
            return Ok(Removal::StillLive);
        }
    }
    // IAM is read after the row. If a grant is made after the row was read, the claim below fails.
    let window = match policies::read(principal, policy, run).await.map_err(iam_error)?.as_deref().map(policy::read) {
        Some(Reading::OpenEnded(why)) => return Ok(Removal::OpenEnded(why)),
        Some(Reading::Grant(window)) => window,
        Some(Reading::DenyOnly) | None => return Ok(Removal::AlreadyGone),
    };
    let now = run.now();
    if window.is_live(now) {
        return Ok(Removal::StillLive);
    }
    let (revision, before) = row.map_or((None, None), |row| (Some(row.revision), Some(row.state)));
    // The claim keeps what the row says about the chain, because the next grant may continue it.
    let claim = GrantRow::held(State::Expired, window, run.request_id(), before.as_ref(), now);
    let claim = match &before {
        Some(row) => GrantRow { request: claim.request, lease: claim.lease, ..row.clone() },
        None => claim,
    };
    let revision = match run.ledger.write(&key, &claim, revision, run.request_id()).await {
        Ok(revision) => revision,
        Err(LedgerError::Changed(_)) => return Ok(Removal::Held),
        Err(source) => return Err(ledger_error(source)),
    };
    // A delete that takes effect after the end of the lease might remove the next holder's grant. An attempt may take
    // effect as long as ATTEMPT_TIMEOUT after it timed out, so this time is kept free before the end of the lease.
    let Some(time_left) = claim.lease.time_left(run.now()).checked_sub(ATTEMPT_TIMEOUT) else {
        return Err(Error::TooSlow(NOT_REMOVED));
    };
    let deleted =
        timeout_at(Instant::now() + time_left, policies::delete(principal, policy, Turn::GoesAhead, run)).await;
    if let Err(error) = deleted.unwrap_or_else(|_| Err(IamError::unanswered("policy delete"))) {
        if error.kind != ErrorKind::Unanswered {
            run.release(&key, revision, before).await;
        }
        return Err(iam_error(error));
    }
    // A failure of this write is ignored. In this case, other requests wait until the lease ends.
    let _ = run.ledger.write(&key, &claim.settled(State::Expired), Some(revision), run.request_id()).await;
    Ok(Removal::Removed)
}

/// Deletes a policy that a revoke could not delete. The row is claimed first, so that the delete cannot remove the
/// policy of a later grant.
pub(crate) async fn finish_revoke<S: Store>(
    row: &Row<GrantRow>,
    principal: &Principal,
    profile: &str,
    deadline: Instant,
    run: &Run<'_, S>,
) -> Option<Decision<Outcome>> {
    let policy = format!("{}{profile}", policy::PREFIX);
    let key = row::key(principal, &policy);
    let lease = Lease::new(run.now(), LEASE_TERM);
    let claim = GrantRow { request: run.request_id().to_owned(), lease, ..row.state.clone() };
    let claimed = timeout_at(deadline, run.ledger.write(&key, &claim, Some(row.revision), run.request_id())).await;
    let revision =
        claimed.ok()?.inspect_err(|error| warn!(error = chain(error), "a policy is not deleted yet")).ok()?;
    let settle = async |row: GrantRow| {
        let written = run.ledger.write(&key, &row.free(), Some(revision), run.request_id()).await;
        written.inspect_err(|error| warn!(error = chain(error), "a follow-up was not recorded")).is_ok()
    };
    // A delete ends before the lease, as in `remove_ended`.
    let limit = deadline.min(Instant::now() + lease.time_left(run.now()).saturating_sub(ATTEMPT_TIMEOUT));
    let read = timeout_at(limit, policies::read(principal, &policy, run)).await;
    if let Ok(Ok(Some(document))) = read
        && !matches!(policy::read(&document), Reading::Grant(_))
    {
        settle(GrantRow { owes_delete: false, ..claim.clone() }).await;
        return None;
    }
    let deleted = timeout_at(limit, policies::delete(principal, &policy, Turn::GoesAhead, run)).await;
    let existed = match deleted.unwrap_or_else(|_| Err(IamError::unanswered("policy delete"))) {
        Ok(existed) => existed,
        Err(error) => {
            error!(error = chain(&error), "a policy is not deleted yet");
            if error.kind != ErrorKind::Unanswered {
                settle(claim.clone()).await;
            }
            return None;
        }
    };
    let is_settled = settle(GrantRow { owes_delete: false, ended: Some(run.now()), ..claim.clone() }).await;
    // If the policy was gone, IAM may have carried out a delete without answering it, and nobody has announced that end yet.
    // It is announced once it is recorded, so that the next follow-up does not announce it again.
    let is_news = if claim.is_ended_early() { is_settled } else { existed };
    if !is_news {
        return None;
    }
    let notice = notice::ended(principal, std::slice::from_ref(&policy), None, |one| run.is_open(one), run.invocation);
    if let Err(error) = run.topic.publish(&notice).await {
        error!(error = chain(&error), "a notice was not sent");
    }
    let reason = "access was ended, which an earlier revoke could not do";
    Some(outcome::about(Decision::new(Outcome::Revoked, reason), principal).about("policies", policy))
}
