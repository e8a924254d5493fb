//! The list of everything that waits for an approval or a review.

use sekisho_domain::decision::Decision;
use sekisho_domain::slack;
use sekisho_ledger::Store;
use tokio::time::timeout_at;

use crate::access::approve::read_requests;
use crate::answer::approval as answer;
use crate::error::Error;
use crate::outcome::Outcome;
use crate::report::Report;
use crate::run::{CONFIRM_LIMIT, Run};

/// Lists the requests that wait for an approval, and the break-glass grants that wait for a review.
pub(crate) async fn pending<S: Store>(run: &Run<'_, S>) -> Result<Report, Error> {
    const OUTCOME: &str = "The list could not be made";
    let requests = timeout_at(run.deadline(CONFIRM_LIMIT), read_requests(run, "")).await;
    let requests = requests.map_err(|_| Error::TooSlow(OUTCOME))?;
    let requests = requests.map_err(|source| Error::Ledger { outcome: OUTCOME, source })?;
    let now = run.now();
    let zone = run.access.as_ref().ok().and_then(|access| access.time_zone.as_ref());
    let open = requests.rows.iter().filter(|row| row.state.is_open(now));
    let mut lines: Vec<String> = open.map(|row| answer::listed(&row.state, zone)).collect();
    let decision = Decision::new(Outcome::Listed, "the list of requests was requested");
    let decision = decision.about("waiting", lines.len().to_string());
    // What such a row says, may wait as well.
    lines.extend(requests.unreadable.iter().map(|why| slack::shown(why)));
    let text = if lines.is_empty() { "Nothing waits for an approval.".to_owned() } else { lines.join("\n") };
    Ok(Report::text(text, decision))
}
