//! A request for a profile that needs an approval waits until somebody else approves it.

use sekisho_domain::decision::Decision;
use sekisho_ledger::{Error as LedgerError, Store};
use tokio::time::timeout_at;

use crate::access::basis::Basis;
use crate::answer::approval as answer;
use crate::error::Error;
use crate::notice::approval as notice;
use crate::outcome::{self, Outcome};
use crate::pending::{self, Asking, PendingRow};
use crate::plan::Plan;
use crate::report::Report;
use crate::run::{PLAN_LIMIT, Run};

const NOTHING_REQUESTED: &str = "Nothing was requested";

/// Writes the request to the slot of its door, principal and profile, and announces it. The same request again has the
/// same code, and is announced again if that was some minutes ago.
pub(crate) async fn request_approval<S: Store>(
    plan: &Plan<'_>,
    basis: &Basis<'_>,
    run: &Run<'_, S>,
) -> Result<Report, Error> {
    let written = timeout_at(run.deadline(PLAN_LIMIT), write(plan, basis, run)).await;
    let (row, is_announced) = written.unwrap_or(Err(Error::TooSlow(NOTHING_REQUESTED)))?;
    let access = run.access()?;
    let decision = Decision::new(Outcome::Pending, "the request waits for an approval");
    let mut report = Report::text(
        answer::waiting(&row, access),
        outcome::about_request(decision, &row, None)
            .about_some("lapses", row.until.map(sekisho_domain::timestamp::seconds)),
    );
    if !is_announced {
        report.notices.push(notice::waiting(&row, access, run.invocation));
    }
    Ok(report)
}

async fn write<S: Store>(plan: &Plan<'_>, basis: &Basis<'_>, run: &Run<'_, S>) -> Result<(PendingRow, bool), Error> {
    let principal = plan.terms.principal;
    let ledger_error = |source| Error::Ledger { outcome: NOTHING_REQUESTED, source };
    loop {
        let new =
            PendingRow::waiting(&plan.terms, &run.door, basis.grant.reason.as_deref(), run.request_id(), run.now());
        let new = PendingRow { people: run.door.people(run.access()?), ..new };
        let key = new.key(principal);
        let slot = run.ledger.read::<PendingRow>(&key).await.map_err(ledger_error)?;
        let before = slot.as_ref().map(|row| &row.state);
        let (new, slot) = match (pending::ask(before, &new, run.now())?, slot) {
            (Asking::Waits, Some(row)) if row.state.is_announced(run.now()) => return Ok((row.state, true)),
            (Asking::Waits, Some(row)) => (PendingRow { announced: new.announced, ..row.state.clone() }, Some(row)),
            (Asking::Waits | Asking::Replaces, slot) => (new, slot),
        };
        let revision = slot.map(|row| row.revision);
        match run.ledger.write(&key, &new, revision, run.request_id()).await {
            Ok(_) => return Ok((new, false)),
            Err(LedgerError::Changed(_)) => run.wait_for_other(principal).await?,
            Err(source) => return Err(ledger_error(source)),
        }
    }
}
