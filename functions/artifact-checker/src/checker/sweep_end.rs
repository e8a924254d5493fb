//! Ends an invocation's work on a sweep: the records, the notices and the answer.

use std::collections::BTreeMap;
use std::slice::from_ref;

use sekisho_domain::decision::Decision;
use sekisho_lambda::failure::chain;
use sekisho_lambda::{metrics, telemetry};
use sekisho_ledger::Store;
use tracing::{error, info};

use crate::answer::Answer;
use crate::checker::notices;
use crate::checker::passes::Passes;
use crate::checker::range_state::resume;
use crate::checker::sweep_state::TakenSweep;
use crate::checker::tracker::{self, Tracker};
use crate::error::Error;
use crate::notice::Changes;
use crate::outcome::Outcome;
use crate::request::SweepRequest;
use crate::run::{FUNCTION, Run};
use crate::sweep_report::SweepReport;
use crate::sweep_totals::NAMED_FINDINGS;

/// Ends a sweep that checked no object.
pub(crate) async fn finish_without_report<L: Store>(
    run: &Run<'_, L>,
    request: &SweepRequest,
    decisions: Vec<Decision<Outcome>>,
) -> Result<Answer, Error> {
    if request.dry_run {
        run.record(&decisions).await?;
        return Ok(Answer::of(decisions));
    }
    let mut news = notices::compared(run, decisions).await;
    if news.decisions.is_empty() {
        news.decisions.extend(news.known.first().map(known_already));
    }
    record(run, &news.decisions, BTreeMap::new()).await?;
    if let Err(error) = notices::send(run, &title(run, request), &news).await {
        error!(error = chain(&error), "the notice about the findings could not be sent");
    }
    remind(run, &request.bucket).await?;
    Ok(Answer::of(news.decisions))
}

/// Sends the weekly summary of the open findings, because the sweeps of the bucket may not come to their end.
async fn remind<L: Store>(run: &Run<'_, L>, bucket: &str) -> Result<(), Error> {
    let passes = Passes::read(run, bucket).await?;
    if passes.is_summary_due(run.now()) && summarize(run, bucket, tracker::open(run, bucket).await?).await {
        passes.summary_sent(run).await?;
    }
    Ok(())
}

/// The decision in place of a finding of which people know.
fn known_already(finding: &Decision<Outcome>) -> Decision<Outcome> {
    let reason = format!("a notice about this finding was sent: {}", finding.reason);
    Decision::new(Outcome::Ignored, reason)
        .about_some("bucket", finding.concerns.get("bucket").cloned())
        .about_some("finding", finding.concerns.get("finding").cloned())
}

/// Sends a notice about objects whose checks take longer than an invocation. An error is only logged, because the sweep
/// continues.
pub(crate) async fn send_delayed<L: Store>(run: &Run<'_, L>, request: &SweepRequest, delayed: &[Decision<Outcome>]) {
    if !request.dry_run {
        send(run, &title(run, request), &Changes { found: delayed.to_vec(), ..Changes::default() }).await;
    }
}

/// Ends this invocation's part of a sweep that is not done, or a dry run. If the sweep is not done, the messages of its
/// ranges continue it.
pub(crate) async fn finish<L: Store>(
    run: &Run<'_, L>,
    request: &SweepRequest,
    report: SweepReport,
    mut decisions: Vec<Decision<Outcome>>,
    taken: &mut TakenSweep,
) -> Result<Answer, Error> {
    let summary = summarized(&report, &mut decisions);
    if report.complete {
        run.record(&decisions).await?;
        taken.release(run.ledger, run.now()).await?;
    } else {
        run.record(from_ref(&summary)).await?;
        resume(run, request, &taken.row).await?;
    }
    Ok(Answer { decisions, sweeps: vec![report] })
}

/// Ends a sweep that is done and was no dry run. Returns the answer, and whether SNS accepted the notices: an error from
/// SNS is only logged, because the ledger and the log have the findings, and the next sweep then sends a summary.
pub(crate) async fn finish_pass<L: Store>(
    run: &Run<'_, L>,
    request: &SweepRequest,
    report: SweepReport,
    mut changes: Changes,
    tracker: &Tracker<'_, L>,
    passes: &Passes,
) -> Result<(Answer, bool), Error> {
    let has_news = changes.found.iter().any(|decision| decision.outcome.is_finding());
    summarized(&report, &mut changes.found);
    record(run, &changes.found, report.counts()).await?;
    let mut was_sent = true;
    if has_news || !changes.resolved.is_empty() {
        was_sent = send(run, &title(run, request), &changes).await;
    }
    if passes.is_summary_due(run.now()) {
        was_sent &= summarize(run, &request.bucket, tracker.open()).await;
    }
    Ok((Answer { decisions: changes.found, sweeps: vec![report] }, was_sent))
}

/// Sends a summary of the open findings, with as many as a notice names. Returns whether SNS accepted it.
async fn summarize<L: Store>(run: &Run<'_, L>, bucket: &str, mut open: Vec<Decision<Outcome>>) -> bool {
    let more = u64::try_from(open.len().saturating_sub(NAMED_FINDINGS)).unwrap_or(u64::MAX);
    open.truncate(NAMED_FINDINGS);
    let title = run.notice_title(&format!("open findings in {bucket}"));
    send(run, &title, &Changes { found: open, more, ..Changes::default() }).await
}

/// Logs the report, and puts its summary before the decisions.
fn summarized(report: &SweepReport, decisions: &mut Vec<Decision<Outcome>>) -> Decision<Outcome> {
    info!(sweep.json = telemetry::json(report), "sweep");
    let summary = report.summary(decisions.iter().any(|decision| decision.outcome.is_finding()));
    decisions.insert(0, summary.clone());
    summary
}

/// Records, counts and logs the decisions of a sweep.
async fn record<L: Store>(
    run: &Run<'_, L>,
    decisions: &[Decision<Outcome>],
    mut counts: BTreeMap<String, u64>,
) -> Result<(), Error> {
    run.record(decisions).await?;
    // The walk has already logged and counted the decisions about objects, so they are left out here.
    let is_about_bucket = |decision: &&Decision<Outcome>| {
        !decision.concerns.contains_key("object") && !decision.concerns.contains_key("sweep")
    };
    for decision in decisions.iter().filter(is_about_bucket) {
        telemetry::decision(decision);
        *counts.entry(decision.outcome.name().to_owned()).or_default() += 1;
    }
    metrics::count(FUNCTION, &counts);
    Ok(())
}

/// Sends a notice, and returns whether SNS accepted it.
async fn send<L>(run: &Run<'_, L>, title: &str, changes: &Changes) -> bool {
    match notices::publish(run, title, changes).await {
        Ok(()) => true,
        Err(error) => {
            error!(error = chain(&error), "a notice about findings could not be sent");
            false
        }
    }
}

fn title<L: Store>(run: &Run<'_, L>, request: &SweepRequest) -> String {
    run.notice_title(&format!("sweep of {}", request.bucket))
}
