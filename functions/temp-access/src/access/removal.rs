//! The removal of a policy whose access has ended. A sweep removes such policies, and so does a grant that needs room.

use sekisho_ledger::{Error as LedgerError, Store};
use tokio::time::{Instant, timeout_at};

use crate::aws::iam::{ErrorKind, IamError};
use crate::error::Error;
use crate::policy::{self, Reading};
use crate::principal::Principal;
use crate::row::{self, GrantRow, State};
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
    let window = match run.iam.policy(principal, policy).await.map_err(iam_error)?.as_deref().map(policy::read) {
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
    let deleted = timeout_at(Instant::now() + time_left, run.iam.delete(principal, policy)).await;
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
