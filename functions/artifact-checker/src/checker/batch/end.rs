//! Ends a repair: tells people, and lets the next sweep be complete if something is left.

use std::collections::BTreeMap;

use sekisho_domain::decision::Decision;
use sekisho_lambda::{metrics, telemetry};
use sekisho_ledger::{Error as LedgerError, Store};

use crate::aws::events;
use crate::batch::{BatchRow, Reading, Step, incomplete_finding};
use crate::checker::batch::taken::TakenBatch;
use crate::checker::notices;
use crate::checker::passes::Passes;
use crate::error::Error;
use crate::finding::{self, FindingEvent, FindingRow, FindingState, PARTITION, row_key, with_state};
use crate::notice::Changes;
use crate::outcome::Outcome;
use crate::run::{FUNCTION, Run};
use crate::sweep_totals::NAMED_FINDINGS;

/// Ends a repair whose reports are read. If an invocation dies before it has saved the row, the notice is sent again.
pub(super) async fn end<L: Store>(run: &Run<'_, L>, taken: &mut TakenBatch) -> Result<(), Error> {
    let reading = match &taken.row.step {
        Step::Reading(reading) => reading.clone(),
        _ => Reading::default(),
    };
    let faults = taken.row.manifests.iter().filter_map(|manifest| manifest.end.as_ref()?.fault.clone());
    let incomplete: Vec<String> = faults.chain(taken.row.incomplete.clone()).collect();
    let ended_at = Some(run.now().unix_timestamp());
    let row = BatchRow { step: Step::Ended, incomplete, ended_at, ..taken.row.clone() };
    let (succeeded, failed) = row.counts();
    let progress = row.progress();
    let is_incomplete = !row.incomplete.is_empty();
    let finding = is_incomplete.then(|| incomplete_finding(&row.bucket, progress.reason.clone()));
    let news = notices::compared(run, finding.into_iter().collect()).await;
    let mut found: Vec<_> = news.decisions.iter().chain(&news.known).cloned().collect();
    let failures = failures(run, &row).await?;
    let more = u64::try_from(failures.len().saturating_sub(NAMED_FINDINGS)).unwrap_or(u64::MAX) + reading.untracked;
    found.extend(failures.into_iter().take(NAMED_FINDINGS));
    let resolved = vec![resolve(run, &row).await?];
    let list = Some(format!("s3://{}/{}/", run.settings.bucket, row.reports()));
    let changes = Changes { found, more, resolved, more_resolved: reading.resolved, list };
    let title = run.notice_title(&format!("{succeeded} of {} objects repaired in {}", row.tasks(), row.bucket));
    notices::send_changes(run, &title, &news, &changes).await?;
    if is_incomplete || failed > 0 {
        Passes::require_complete(run, &row.bucket).await?;
    }
    telemetry::decision(&progress);
    metrics::count(FUNCTION, &BTreeMap::from([(Outcome::Repaired.name().to_owned(), succeeded)]));
    taken.row = row;
    Ok(taken.save(run).await?)
}

/// The findings about objects that the jobs could not repair.
async fn failures<L: Store>(run: &Run<'_, L>, row: &BatchRow) -> Result<Vec<Decision<Outcome>>, LedgerError> {
    let rows = run.ledger.each::<FindingRow>(PARTITION, "").await?;
    let open = rows.into_iter().filter_map(Result::ok).filter(|found| {
        found.state.found_by == row.code.as_str() && matches!(found.state.state, FindingState::Open | FindingState::New)
    });
    Ok(open.map(|found| found.state.decision().about("finding", found.sk)).collect())
}

/// Resolves the finding that the repair waits or is under way.
async fn resolve<L: Store>(run: &Run<'_, L>, row: &BatchRow) -> Result<Decision<Outcome>, LedgerError> {
    let decision = row.finding();
    let Some(id) = finding::id(&decision) else { return Ok(decision) };
    let known = run.ledger.read::<FindingRow>(&row_key(&id)).await?;
    if let Some(known) = known.filter(|known| known.state.state != FindingState::Resolved) {
        let finding = known.state.changed(FindingState::Resolved, run.now());
        match run.ledger.write(&row_key(&id), &finding, Some(known.revision), run.request_id()).await {
            Ok(_) => events::put(run, &[FindingEvent::new(&id, &finding, FindingState::Resolved)]).await,
            Err(LedgerError::Changed(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(with_state(decision, &id, FindingState::Resolved))
}
