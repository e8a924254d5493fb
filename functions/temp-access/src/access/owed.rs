//! What a ledger's row still owes, and how a follow-up records that it was done.

use sekisho_domain::notice::Notice;
use sekisho_lambda::failure::chain;
use sekisho_ledger::{Error as LedgerError, Row, Store};
use time::{Duration, OffsetDateTime};
use tokio::time::{Instant, timeout_at};
use tracing::{error, warn};

use crate::principal::Principal;
use crate::row::{self, GrantRow};
use crate::run::Run;

/// What still fails this long after it could be done first is left.
pub(super) const TRIED: Duration = Duration::days(1);

/// Whether a follow-up still tries to delete a policy that a revoke could not delete. It tries at least as long as the
/// policy may give access.
pub(super) fn awaits_delete(row: &GrantRow, now: OffsetDateTime) -> bool {
    row.owes_delete && now < row.end.max(row.over_at().saturating_add(TRIED))
}

/// The principal and the profile of a row on which no other invocation is working.
pub(super) fn subject<S: Store>(row: &Row<GrantRow>, run: &Run<'_, S>) -> Option<(Principal, String)> {
    let (principal, profile) = row::subject_of(&row.sk, &row.state)?;
    let is_held = row.state.is_held_by_another(run.request_id(), run.now());
    (!is_held).then(|| (principal, profile.to_owned()))
}

/// Sends a notice that the row does not owe any more once it is `marked`. The row is written first, so that nobody gets
/// the notice twice; if the notice cannot be sent, the mark is taken back.
pub(super) async fn notify_once<S: Store>(
    row: &Row<GrantRow>,
    marked: &GrantRow,
    notice: &Notice,
    deadline: Instant,
    run: &Run<'_, S>,
) {
    let Some(revision) = write(row, marked, deadline, run).await else { return };
    let error = match timeout_at(deadline, run.topic.publish(notice)).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => chain(&error),
        Err(_) => "no answer in time".to_owned(),
    };
    error!(error, "a notice was not sent");
    write(&Row { revision, ..row.clone() }, &row.state, deadline, run).await;
}

/// Writes a row that has not changed since it was read, and returns its new revision. If it has changed, or the ledger
/// fails, the next follow-up finds the same row again, or what the other invocation made of it.
pub(super) async fn write<S: Store>(
    row: &Row<GrantRow>,
    state: &GrantRow,
    deadline: Instant,
    run: &Run<'_, S>,
) -> Option<u64> {
    let key = sekisho_ledger::Key { pk: row::PARTITION.to_owned(), sk: row.sk.clone() };
    match timeout_at(deadline, run.ledger.write(&key, state, Some(row.revision), run.request_id())).await {
        Ok(Ok(revision)) => Some(revision),
        Ok(Err(LedgerError::Changed(_))) | Err(_) => None,
        Ok(Err(error)) => {
            warn!(error = chain(&error), "a follow-up was not recorded");
            None
        }
    }
}
