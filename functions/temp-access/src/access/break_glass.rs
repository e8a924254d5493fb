//! Break-glass: access in an emergency, without an approval. Everybody is notified, and somebody else reviews the grant
//! afterwards.

use sekisho_lambda::failure::chain;
use sekisho_ledger::{Error as LedgerError, Row, Store};
use tokio::time::timeout_at;
use tracing::warn;

use crate::access::basis::Basis;
use crate::answer::{self, Answer};
use crate::error::Error;
use crate::pending::PendingRow;
use crate::plan::{Plan, Terms};
use crate::principal::Principal;
use crate::report::Report;
use crate::row::{self, GrantRow};
use crate::run::{CONFIRM_LIMIT, Run};

/// Checks that there is a reason, and adds the review to the basis of the grant.
pub(crate) fn open<S: Store>(terms: &Terms<'_>, basis: &mut Basis<'_>, run: &Run<'_, S>) -> Result<(), Error> {
    let reason = basis.grant.reason.as_deref().filter(|reason| !reason.trim().is_empty());
    if reason.is_none() {
        return Err(Error::Invalid(format!(
            "`reason` is missing: {} is for emergencies and needs one, so add \"reason\":\"why\"",
            terms.profile
        )));
    }
    let review = PendingRow::review(terms, &run.door, reason, run.request_id(), run.now());
    basis.consent = review.consent(None);
    basis.review = Some(review);
    Ok(())
}

/// Writes the row of the review. It is written before access is given, so that no grant is without a review. If an
/// earlier attempt of this request has written the row already, it is written again: with a new revision, that attempt
/// cannot delete it.
pub(crate) async fn record<S: Store>(
    review: &PendingRow,
    principal: &Principal,
    run: &Run<'_, S>,
) -> Result<(), LedgerError> {
    let key = review.key(principal);
    loop {
        let earlier = run.ledger.read::<PendingRow>(&key).await?;
        let (row, revision) = earlier.map_or_else(|| (review.clone(), None), |row| (row.state, Some(row.revision)));
        match run.ledger.write(&key, &row, revision, run.request_id()).await {
            // Another attempt has written the row in the meantime.
            Err(LedgerError::Changed(_)) => {}
            written => return written.map(drop),
        }
    }
}

/// Deletes the review of a grant that changed nothing, unless another attempt of the request has written the review or the
/// grant's row. `revision` is that of this attempt's claim on the grant. A failure is no error: somebody then closes the
/// review.
pub(crate) async fn close<S: Store>(basis: &Basis<'_>, plan: &Plan<'_>, revision: u64, run: &Run<'_, S>) {
    let Some(review) = &basis.review else { return };
    let principal = plan.terms.principal;
    let closed = timeout_at(run.deadline(CONFIRM_LIMIT), async {
        // Two attempts in the same second write the same review with the same revision, so only the grant's row shows that
        // there is another attempt.
        let grant = run.ledger.read::<GrantRow>(&row::key(principal, &plan.policy)).await?;
        let is_other = |row: Row<GrantRow>| row.revision != revision && row.state.consent.code == basis.consent.code;
        if grant.is_some_and(is_other) {
            return Ok(());
        }
        run.ledger.delete(&review.key(principal), 1).await
    });
    if let Ok(Err(error)) = closed.await {
        warn!(error = chain(&error), "a review stays open, although nothing was granted");
    }
}

/// The report with the code of the review, if one was opened by this request or by an earlier attempt of it.
pub(crate) fn told(mut report: Report, basis: &Basis<'_>) -> Report {
    let code = report.settlement.as_ref().and_then(|settlement| settlement.row.consent.code.as_ref());
    if let (Some(review), Ok(Answer::Text(text))) = (&basis.review, &mut report.answer)
        && code == Some(&review.code)
    {
        answer::warn(text, &answer::approval::review(review));
    }
    report
}
