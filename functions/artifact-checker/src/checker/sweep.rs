//! The use case that sweeps one bucket.

use std::collections::BTreeMap;
use std::slice::from_ref;

use futures_util::join;
use sekisho_domain::decision::Decision;
use sekisho_lambda::failure::chain;
use sekisho_lambda::{metrics, telemetry};
use sekisho_ledger::Store;
use tracing::{error, info};

use crate::answer::Answer;
use crate::artifact_stores::ArtifactStores;
use crate::aws::codepipeline::ArtifactWriters;
use crate::aws::lambda;
use crate::aws::s3::{S3, access};
use crate::checker::bucket::{artifact_stores, assess_key, closed_finding};
use crate::checker::notices;
use crate::checker::passes::Passes;
use crate::checker::reader::Reader;
use crate::checker::tracker::Tracker;
use crate::checker::walk::{Walk, WalkEnd};
use crate::error::{Error, SweepError};
use crate::finding::with_id;
use crate::key::KeyArn;
use crate::notice::Changes;
use crate::outcome::Outcome;
use crate::posture;
use crate::request::SweepRequest;
use crate::right_key::RightKey;
use crate::run::{FUNCTION, Run};
use crate::sweep_report::SweepReport;
use crate::sweep_row::NAMED_FINDINGS;
use crate::verdict::in_words;

/// Sweeps a bucket at the request of a person, or continues a sweep.
pub(crate) async fn requested<L: Store>(run: &Run<'_, L>, request: &SweepRequest) -> Result<Answer, Error> {
    let own = &run.settings.bucket;
    let stores = artifact_stores(run).await;
    if request.bucket != *own && !stores.has_bucket(&request.bucket) {
        // A pipeline that CodePipeline does not show may store artifacts in the bucket.
        if let Some(error) = stores.into_error() {
            return Err(error.into());
        }
        return Err(Error::Refused(format!(
            "bucket {} is not {own}, and no pipeline of account {} in {} stores artifacts in it: sweep {own}, or a \
             bucket in which such a pipeline stores artifacts",
            request.bucket, run.invocation.account, run.invocation.region
        )));
    }
    Box::pin(sweep(run, request, &stores)).await
}

/// Sweeps an artifact bucket, and reports the bucket if S3 or KMS does not let the sweep continue. The next scheduled
/// sweep continues it.
pub(crate) async fn sweep_or_report<L: Store>(
    run: &Run<'_, L>,
    request: &SweepRequest,
    stores: &ArtifactStores,
) -> Result<Answer, Error> {
    let answer = match Box::pin(sweep(run, request, stores)).await {
        Err(Error::Service(error) | Error::Sweep(SweepError::Service(error))) => {
            format!("{} failed: {}", error.operation, in_words(&error))
        }
        Err(Error::Sweep(error @ SweepError::NoProgress(_))) => error.to_string(),
        answer => return answer,
    };
    let reason = format!("the bucket could not be swept to its end ({answer}): the next scheduled sweep continues");
    let finding =
        Decision::new(Outcome::Unknown, reason).about("bucket", &request.bucket).about("problem", "not-swept");
    finish_without_report(run, request, vec![finding]).await
}

/// Sweeps an artifact bucket.
async fn sweep<L: Store>(run: &Run<'_, L>, request: &SweepRequest, stores: &ArtifactStores) -> Result<Answer, Error> {
    let bucket = request.bucket.as_str();
    let s3_without_retries = run.s3_without_retries();
    let s3 = run.s3();
    run.cache.forget_key_assessment(bucket);
    if bucket != run.settings.bucket
        && let Some(closed) = closed_finding(run, &s3, bucket).await?
    {
        return finish_without_report(run, request, vec![closed]).await;
    }
    // The calls do not depend on each other, so they run at the same time.
    let (assessment, access) = join!(assess_key(run, &s3, bucket, &stores.shown), access::of_bucket(&s3, bucket));
    let (assessment, access) = (assessment?, access?);
    let mut decisions = stores.findings();
    decisions.extend(assessment.findings);
    let RightKey::Known(right_key) = assessment.right_key else {
        return finish_without_report(run, request, decisions).await;
    };
    let life = run.keys.life(right_key.as_str()).await?;
    decisions.extend(posture::findings(bucket, &access, &right_key, &life, run.now()));
    let passes = Passes::read(run, bucket).await?;
    let tracker = if request.dry_run {
        None
    } else {
        Some(Tracker::load(run, bucket, request.versions, passes.is_first()).await?)
    };
    let walked = walk(run, request, stores, &s3_without_retries, &right_key, tracker.as_ref()).await;
    if let Some(tracker) = &tracker {
        tracker.flush().await;
    }
    let (report, changes, delayed) = match walked? {
        WalkEnd::NotStarted(why) => {
            decisions.push(Decision::new(Outcome::Ignored, why).about("bucket", bucket));
            return finish_without_report(run, request, decisions).await;
        }
        WalkEnd::Stopped { report, changes, delayed } => (*report, changes, delayed),
    };
    send_delayed(run, request, &delayed).await;
    let Some(tracker) = tracker else {
        decisions = decisions.into_iter().map(with_id).collect();
        decisions.extend(delayed);
        decisions.extend(changes.found);
        return finish(run, request, report, decisions).await;
    };
    let mut found = tracker.news(decisions).await;
    found.extend(delayed);
    found.extend(changes.found);
    let mut changes = Changes { found, ..changes };
    if !report.complete {
        tracker.flush().await;
        return finish(run, request, report, changes.found).await;
    }
    // A hidden pipeline may still have the finding.
    if stores.is_complete() {
        changes.resolved.extend(tracker.resolve_others().await);
    }
    tracker.flush().await;
    finish_pass(run, request, report, changes, &tracker, &passes).await
}

/// Checks the objects of the bucket.
async fn walk<L: Store>(
    run: &Run<'_, L>,
    request: &SweepRequest,
    stores: &ArtifactStores,
    s3: &S3,
    right_key: &KeyArn,
    tracker: Option<&Tracker<'_, L>>,
) -> Result<WalkEnd, Error> {
    let reader = Reader::configured(run, &request.bucket).await?;
    let walk = Walk {
        run,
        s3,
        request,
        right_key,
        rule: stores.repair_rule(run.settings, &request.bucket),
        reader: &reader,
        writers: &ArtifactWriters::new(&run.clients.codepipeline, &stores.shown, &request.bucket),
        tracker,
    };
    Ok(Box::pin(walk.run()).await?)
}

/// Ends a sweep that checked no object.
async fn finish_without_report<L: Store>(
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
    Ok(Answer::of(news.decisions))
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
async fn send_delayed<L: Store>(run: &Run<'_, L>, request: &SweepRequest, delayed: &[Decision<Outcome>]) {
    if !request.dry_run {
        send(run, &title(run, request), &Changes { found: delayed.to_vec(), ..Changes::default() }).await;
    }
}

/// Ends this invocation's part of a sweep that is not done, or a dry run. If the sweep is not done, the function invokes
/// itself to continue the sweep.
async fn finish<L: Store>(
    run: &Run<'_, L>,
    request: &SweepRequest,
    report: SweepReport,
    mut decisions: Vec<Decision<Outcome>>,
) -> Result<Answer, Error> {
    let summary = summarized(&report, &mut decisions);
    if report.complete {
        run.record(&decisions).await?;
    } else {
        run.record(from_ref(&summary)).await?;
        let next = request.continuing(&report.sweep);
        lambda::invoke(&run.clients.lambda, &run.invocation.function, next.payload()).await?;
    }
    Ok(Answer { decisions, sweeps: vec![report] })
}

/// Ends a sweep that is done and was no dry run. An error from SNS is only logged, because the ledger and the log have
/// the findings, and a retry would repeat the whole sweep; the next sweep then sends a summary.
async fn finish_pass<L: Store>(
    run: &Run<'_, L>,
    request: &SweepRequest,
    report: SweepReport,
    mut changes: Changes,
    tracker: &Tracker<'_, L>,
    passes: &Passes,
) -> Result<Answer, Error> {
    let has_news = changes.found.iter().any(|decision| decision.outcome.is_finding());
    summarized(&report, &mut changes.found);
    record(run, &changes.found, report.counts()).await?;
    let mut was_sent = true;
    if has_news || !changes.resolved.is_empty() {
        was_sent = send(run, &title(run, request), &changes).await;
    }
    if passes.is_summary_due() {
        was_sent &= send(run, &run.notice_title(&format!("open findings in {}", request.bucket)), &open(tracker)).await;
    }
    passes.end(run, was_sent).await?;
    Ok(Answer { decisions: changes.found, sweeps: vec![report] })
}

/// The open findings, as many as a notice names.
fn open<L: Store>(tracker: &Tracker<'_, L>) -> Changes {
    let mut found = tracker.open();
    let more = u64::try_from(found.len().saturating_sub(NAMED_FINDINGS)).unwrap_or(u64::MAX);
    found.truncate(NAMED_FINDINGS);
    Changes { found, more, ..Changes::default() }
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
