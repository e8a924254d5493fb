//! The summary of what a principal did with its access, some twenty minutes after the end of it. It is best effort: it
//! counts what CloudTrail shows by then.

use sekisho_lambda::failure::chain;
use sekisho_ledger::{Row, Store};
use time::{Duration, OffsetDateTime};
use tokio::time::Instant;
use tracing::warn;

use crate::access::owed::{TRIED, awaits_delete, notify_once, subject, write};
use crate::notice::ending::{self, Summary};
use crate::row::{GrantRow, State};
use crate::run::Run;

/// CloudTrail shows most events within a quarter of an hour.
const DELAY: Duration = Duration::minutes(20);
/// If CloudTrail could not be read within this time, the summary is sent without it.
const PATIENCE: Duration = Duration::hours(1);
/// How long one follow-up reads events. The next one begins a minute later, and CloudTrail's rate is for both.
const READING_TIME: std::time::Duration = std::time::Duration::from_secs(30);

/// Sends each summary that is due. What does not fit into the time is left to the next follow-up.
pub(super) async fn summarize<S: Store>(rows: &[Row<GrantRow>], deadline: Instant, run: &Run<'_, S>) {
    let limit = deadline.min(Instant::now() + READING_TIME);
    for row in rows {
        let Some(from) = row.state.summary_from.filter(|_| is_due(&row.state, run.now())) else { continue };
        if Instant::now() >= limit {
            return;
        }
        let Some((principal, profile)) = subject(row, run) else { continue };
        let until = row.state.over_at();
        let marked = GrantRow { summary_from: None, ..row.state.clone() };
        // A scheduled grant that was revoked before it began has nothing to summarize.
        if until <= from {
            write(row, &marked, deadline, run).await;
            continue;
        }
        let account = run.invocation.account.as_str();
        let activity = match run.trail.activity(&principal, account, (from, until), limit).await {
            Ok(activity) => Some(activity),
            Err(error) => {
                warn!(error = chain(&error), "CloudTrail could not be read for a summary");
                if run.now() < until.saturating_add(DELAY + PATIENCE) {
                    continue;
                }
                None
            }
        };
        let summary = Summary {
            principal: &principal,
            profile: &profile,
            from,
            until,
            reason: row.state.reason.as_deref(),
            consent: &row.state.consent,
            activity: activity.as_ref(),
        };
        let notice = ending::summary(&summary, run.invocation);
        notify_once(row, &marked, &notice, deadline, run).await;
    }
}

/// Whether the access has been over for so long that CloudTrail shows what was done. Until a revoked policy is deleted, it
/// is not over.
fn is_due(row: &GrantRow, now: OffsetDateTime) -> bool {
    let over = row.over_at();
    row.state != State::Intent
        && !awaits_delete(row, now)
        && over.saturating_add(DELAY) <= now
        && now < over.saturating_add(TRIED)
}
