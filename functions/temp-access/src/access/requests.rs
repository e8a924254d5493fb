//! In a sweep, requests lapse that nobody approved in time, and break-glass grants are announced again that nobody has
//! reviewed.

use sekisho_domain::decision::Decision;
use sekisho_lambda::failure::chain;
use sekisho_ledger::{Row, Store};
use tokio::time::{Instant, timeout_at};
use tracing::{error, warn};

use crate::access::approve::read_requests;
use crate::access::policies;
use crate::door::Door;
use crate::notice::approval as notice;
use crate::outcome::{self, Outcome};
use crate::pending::{self, Due, PendingRow, Stage};
use crate::policy::{self, Reading};
use crate::row::{self, GrantRow, State};
use crate::run::Run;

/// Goes through all requests, and returns a decision about each one that has lapsed, was withdrawn or is announced again.
pub(crate) async fn sweep<S: Store>(deadline: Instant, run: &Run<'_, S>) -> Vec<Decision<Outcome>> {
    let requests = match timeout_at(deadline, read_requests(run, "")).await {
        Ok(Ok(requests)) => requests,
        Ok(Err(error)) => {
            error!(error = chain(&error), "the sweep could not go through the requests");
            return Vec::new();
        }
        Err(_) => return Vec::new(),
    };
    let access = run.access.as_ref().ok();
    // Nobody can approve or decline what such a row says, and nobody is told of it, until somebody has looked.
    let unreadable = requests.unreadable.into_iter();
    let mut decisions: Vec<_> = unreadable.map(|why| Decision::new(Outcome::Failed, why)).collect();
    for row in requests.rows {
        if let Some(due) = pending::due(&row.state, access, run.now()) {
            // No time is left, or another invocation has changed the request: the next sweep goes on.
            decisions.extend(timeout_at(deadline, settle(row, &due, run)).await.ok().flatten());
        }
    }
    decisions
}

async fn settle<S: Store>(row: Row<PendingRow>, due: &Due, run: &Run<'_, S>) -> Option<Decision<Outcome>> {
    let now = run.now();
    let is_granted = row.state.stage == Stage::Approving && was_granted(&row.state, run).await?;
    let (new, outcome, why) = match due {
        Due::Lapses | Due::Withdraws if is_granted => {
            let approved = row.state.decided(Stage::Approved, None, run.request_id(), now);
            let approved = PendingRow { decided_by: row.state.decided_by.clone(), ..approved };
            (approved, Outcome::Approved, "the approval gave the access, and was cut off before this was on record")
        }
        Due::Lapses => {
            let lapsed = row.state.decided(Stage::Lapsed, None, run.request_id(), now);
            (lapsed, Outcome::Lapsed, "nobody approved the request in time")
        }
        Due::Withdraws => {
            let withdrawn = row.state.decided(Stage::Declined, None, run.request_id(), now);
            (withdrawn, Outcome::Declined, "nobody who can have made the request is behind its door any more")
        }
        Due::Rings => {
            let announced = now.replace_nanosecond(0).ok();
            let announced = PendingRow { announced, ..row.state.clone() };
            (announced, Outcome::Pending, "nobody has reviewed this break-glass grant yet")
        }
    };
    // The row is written first, so that another sweep does not do the same.
    let key = pending::key(row.sk);
    let written = run.ledger.write(&key, &new, Some(row.revision), run.request_id()).await;
    let revision = written.inspect_err(|error| warn!(error = chain(error), "a request was not settled")).ok()?;
    if *due == Due::Rings
        && let Err(error) = run.topic.publish(&notice::still_open(&new, run.invocation)).await
    {
        error!(error = chain(&error), "a notice was not sent");
        // The next sweep announces the review again.
        let _ = run.ledger.write(&key, &row.state, Some(revision), run.request_id()).await;
    }
    if matches!(outcome, Outcome::Lapsed | Outcome::Declined)
        && let Err(error) = run.topic.publish(&notice::ended(&new, why, run.invocation)).await
    {
        error!(error = chain(&error), "a notice was not sent");
    }
    let approving = new.decided_by.as_deref().and_then(Door::named);
    Some(outcome::about_request(Decision::new(outcome, why), &new, approving.as_ref()))
}

/// Whether an approval that died gave the access, or a follow-up still gives it; `None` if that is not known.
pub(crate) async fn was_granted<S: Store>(request: &PendingRow, run: &Run<'_, S>) -> Option<bool> {
    let (principal, policy) = (request.principal()?, policy::name(&request.profile));
    let row: Option<Row<GrantRow>> = run.ledger.read(&row::key(&principal, &policy)).await.ok()?;
    let Some(row) = row.map(|row| row.state).filter(|row| row.consent.code.as_ref() == Some(&request.code)) else {
        return Some(false);
    };
    if row.state != State::Intent {
        return Some(true);
    }
    // The approval died between its intent and its end. IAM shows after some time whether it wrote the policy.
    if row.is_recent(run.now()) {
        return None;
    }
    let shown = policies::read(&principal, &policy, run).await.ok()?;
    let shown = shown.map(|document| policy::read(&document));
    Some(matches!(shown, Some(Reading::Grant(window)) if window.end == row.end))
}
