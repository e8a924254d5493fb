//! Writes `sekisho-window`, the policy of all people of Identity Center.
//!
//! IAM has no conditional write, and for some seconds its reads show the state before a write. Three things keep a grant
//! from being lost, and a revoke from being undone:
//!
//! - One writer works at a time, by a lease on the policy's row. The row has the last version. A writer to whom IAM shows
//!   an older one waits, at most two minutes: then somebody has set the older one by hand. A revoke waits neither for its
//!   turn nor for IAM: it works on the last version of the row, and can do without the row. If IAM shows that version, but
//!   an older one in force, the revoke works on the older one.
//! - IAM numbers the versions one after the other. A writer whose version gets a later number than expected has
//!   overlooked another one, and starts over with that.
//! - Each version says after which one it was written, so that others notice what its writer overlooked, even if the
//!   writer died.
//!
//! A row that cannot be read is replaced by the next writer. A grant first waits two minutes; IAM then shows all earlier
//! versions. A revoke does not wait: it always writes a version, and a gap in the numbers shows that IAM hides one.

pub(crate) mod base;

use sekisho_domain::timestamp;
use sekisho_lambda::failure::chain;
use sekisho_ledger::{Error as LedgerError, Lease, Row, Store};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::warn;

pub(crate) use self::base::Turn;
use self::base::{Base, holders, newest};
use crate::aws::iam::IamError;
use crate::aws::identity_center::IdentityCenter;
use crate::row::LEASE_TERM;
use crate::run::{ATTEMPT_TIMEOUT, LedgerAnswer, POLL_INTERVAL, Run};
use crate::window_policy::{self, Change, Share};
use crate::window_row::{WindowRow, key};

/// How many versions are kept. IAM keeps at most five, so the next one has room.
const KEPT: u64 = 4;

/// The row that a writer has read, and the revision that its next write must name.
struct Claim {
    before: Option<WindowRow>,
    revision: Option<u64>,
    /// Until when the writer may write versions.
    limit: Instant,
}

/// What a writer did.
struct Written {
    /// Whether the policy has changed.
    is_changed: bool,
    /// The last version, if it is newer than that of the row.
    row: Option<WindowRow>,
}

/// Changes the policy. Returns whether it has changed.
///
/// # Errors
/// If IAM or, unless it is for a revoke, the ledger fails, if the turn of a writer that waits doesn't come in time, or if
/// the policy is full.
pub(crate) async fn write<S: Store>(
    change: &Change,
    turn: Turn,
    deadline: Instant,
    run: &Run<'_, S>,
) -> Result<bool, IamError> {
    let Some(center) = run.identity_center else { return Ok(false) };
    let mut last = center.turn().await;
    let claim = match turn {
        Turn::Waits => claim(deadline, run).await?,
        Turn::GoesAhead | Turn::Revokes => look(last.as_ref(), deadline, run).await,
    };
    let written = Writer { change, turn, claim: &claim, center, run }.write().await;
    if let Ok(Written { is_changed: true, row: Some(row) }) = &written {
        *last = Some(WindowRow { request: run.request_id().to_owned(), ..row.clone() });
    }
    let row = match &written {
        Ok(written) => written.row.clone(),
        // A version that IAM did not confirm may exist, and be based on what its writer knew.
        Err(error) if error.may_have_taken_effect() => {
            claim.before.clone().map(|row| WindowRow { is_unsettled: true, ..row })
        }
        Err(_) => None,
    };
    settle(claim, row, turn, run).await;
    written.map(|written| written.is_changed)
}

/// Waits for the turn of this request, and claims the row.
async fn claim<S: Store>(deadline: Instant, run: &Run<'_, S>) -> Result<Claim, IamError> {
    loop {
        let row = base::read(run).await.map_err(IamError::busy)?;
        let now = run.now();
        let is_free = row.as_ref().is_none_or(|row| !row.state.is_held_by_another(run.request_id(), now));
        if is_free {
            let (revision, before) = row.map_or((None, None), |row| (Some(row.revision), Some(row.state)));
            let lease = Lease::new(now, LEASE_TERM);
            let held = WindowRow { request: run.request_id().to_owned(), lease, ..before.clone().unwrap_or_default() };
            match run.ledger.write(&key(), &held, revision, run.request_id()).await {
                Ok(revision) => {
                    // What is written after the end of the lease might overlook the next writer's version. An attempt
                    // may take effect as long as ATTEMPT_TIMEOUT after it timed out.
                    let left = lease.time_left(run.now()).saturating_sub(ATTEMPT_TIMEOUT);
                    let limit = deadline.min(Instant::now() + left);
                    return Ok(Claim { before, revision: Some(revision), limit });
                }
                Err(LedgerError::Changed(_)) => {}
                Err(error) => return Err(IamError::busy(error)),
            }
        }
        if Instant::now() + POLL_INTERVAL >= deadline {
            return Err(IamError::busy("another request is writing sekisho-window"));
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// Reads the row without claiming it. Without the ledger, what this request has written before takes its place.
async fn look<S: Store>(last: Option<&WindowRow>, limit: Instant, run: &Run<'_, S>) -> Claim {
    let read = async {
        match base::read(run).await {
            // Nobody can replace a row without a revision, but that keeps nobody from ending access.
            Err(LedgerError::Unreadable { key, .. }) => {
                Ok(Some(Row { sk: key.sk, revision: 0, state: WindowRow::unknown(run.now()) }))
            }
            read => read,
        }
    };
    match run.try_ledger(read).await {
        LedgerAnswer::Done(Some(row)) => {
            let is_held = row.state.is_held_by_another(run.request_id(), run.now());
            Claim { before: Some(row.state), revision: (!is_held).then_some(row.revision), limit }
        }
        LedgerAnswer::Done(None) => Claim { before: None, revision: None, limit },
        LedgerAnswer::Changed | LedgerAnswer::Lost => {
            let own = last.filter(|row| row.request == run.request_id());
            Claim { before: own.cloned(), revision: None, limit }
        }
    }
}

/// Writes the row, and gives the lease back. A failure is no error: other writers then wait until the lease ends, and
/// notice the version by its number.
async fn settle<S: Store>(claim: Claim, row: Option<WindowRow>, turn: Turn, run: &Run<'_, S>) {
    // A writer that does not wait leaves the row to the writer that holds it. The row may not exist yet.
    let is_writable = claim.revision.is_some() || claim.before.is_none() && row.is_some();
    if !is_writable || turn != Turn::Waits && (row.is_none() || run.is_ledger_lost.get()) {
        return;
    }
    let row = row.or(claim.before).unwrap_or_default();
    let row = WindowRow { request: run.request_id().to_owned(), lease: Lease::FREE, ..row };
    if let Err(error) = run.ledger.write(&key(), &row, claim.revision, run.request_id()).await {
        warn!(error = chain(&error), "the last version of sekisho-window was not recorded");
    }
}

/// A writer that has its turn, or needs none.
struct Writer<'a, S> {
    change: &'a Change,
    turn: Turn,
    claim: &'a Claim,
    center: &'a IdentityCenter,
    run: &'a Run<'a, S>,
}

impl<S: Store> Writer<'_, S> {
    async fn write(&self) -> Result<Written, IamError> {
        let mut has_written = false;
        let written = self.write_all(&mut has_written).await;
        // A version that was written before the error is in force.
        written.map_err(|error| if has_written { error.in_doubt() } else { error })
    }

    /// Writes versions until none is overlooked. Notes in `has_written` that one was written.
    async fn write_all(&self, has_written: &mut bool) -> Result<Written, IamError> {
        let before = self.claim.before.as_ref();
        let mut base = newest(before, self.turn, self.claim.limit, self.run).await?;
        let mut is_changed = false;
        let mut is_certain = self.turn == Turn::Waits || before.is_none_or(|row| !row.is_unknown());
        loop {
            if self.turn == Turn::Waits && !base.is_complete {
                return Err(IamError::busy("IAM doesn't show all versions of sekisho-window yet"));
            }
            let shares = self.after(&base).await?;
            // A repair also takes out what no grant has.
            let is_needed = if *self.change == Change::Repair {
                shares != base.written
            } else {
                shares != base.shares || base.shares != base.written
            };
            if !is_needed && self.is_blind() && !is_changed && before.is_none() {
                return Err(IamError::busy("IAM shows no access that could be ended, but its reads may lag behind"));
            }
            if !is_needed && is_certain {
                // The row keeps the number of the newest version, also if an older one was set by hand. Otherwise, the
                // next writer would take the versions in between for overlooked ones.
                let is_newer = before.is_none_or(|row| row.version != base.known || row.is_unsettled);
                let row = is_newer.then(|| self.row(base.known, base.document.clone(), false));
                return Ok(Written { is_changed, row });
            }
            let document = window_policy::write(base.after, &shares, self.run.now());
            if !window_policy::fits(&document) {
                return Err(IamError::full("sekisho-window has no room"));
            }
            let id = self.create(&document).await?;
            (is_certain, *has_written) = (true, true);
            is_changed |= is_needed;
            if id == base.known + 1 {
                self.forget(id).await;
                let row = self.row(id, document, !base.is_complete);
                return Ok(Written { is_changed, row: Some(row) });
            }
            // Other writers were here in the meantime.
            base = match Base::written(id, document.clone(), self.claim.limit, self.run).await {
                Some(base) if base.is_complete => base,
                Some(_) | None if self.is_blind() => {
                    return Err(IamError::busy("IAM does not show yet what others have written"));
                }
                Some(_) | None => {
                    return Ok(Written { is_changed: true, row: Some(self.row(id, document, true)) });
                }
            };
        }
    }

    /// Whether neither the ledger nor IAM may show a recent grant.
    fn is_blind(&self) -> bool {
        self.turn != Turn::Waits && self.run.is_ledger_lost.get()
    }

    /// The shares after the change.
    async fn after(&self, base: &Base) -> Result<Vec<Share>, IamError> {
        // The grants are read after the policy. A grant is recorded before it is written, so none is missing here.
        let holders = match self.turn {
            Turn::Waits => Some(holders(self.run).await.map_err(IamError::busy)?),
            Turn::GoesAhead | Turn::Revokes => match self.run.try_ledger(holders(self.run)).await {
                LedgerAnswer::Done(holders) => Some(holders),
                // Only a revoke ends everything that the person has.
                LedgerAnswer::Changed | LedgerAnswer::Lost if self.turn == Turn::Revokes => None,
                LedgerAnswer::Changed | LedgerAnswer::Lost => {
                    return Err(IamError::busy("the ledger does not say which access goes on"));
                }
            },
        };
        Ok(window_policy::apply(&base.shares, self.change, holders.as_deref(), self.run.now()))
    }

    async fn create(&self, document: &str) -> Result<u64, IamError> {
        let created = timeout_at(self.claim.limit, self.run.iam.write_version(self.center.policy(), document)).await;
        created.unwrap_or_else(|_| Err(IamError::unanswered("CreatePolicyVersion")))
    }

    /// Deletes the version that is too old by now, so that the next one has room. A failure is no error.
    async fn forget(&self, id: u64) {
        let Some(oldest) = id.checked_sub(KEPT).filter(|oldest| *oldest > 0) else { return };
        let deleted = timeout_at(self.claim.limit, self.run.iam.delete_version(self.center.policy(), oldest)).await;
        if let Ok(Err(error)) = deleted {
            warn!(error = chain(&error), "an old version of sekisho-window was not deleted");
        }
    }

    fn row(&self, version: u64, document: String, is_unsettled: bool) -> WindowRow {
        let written = timestamp::epoch_millis(self.run.now());
        WindowRow { version, document, written, is_unsettled, ..WindowRow::default() }
    }
}
