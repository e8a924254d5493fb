//! The use case that sweeps one bucket.

use std::collections::BTreeMap;
use std::slice::from_ref;

use sekisho_domain::decision::Decision;
use sekisho_lambda::failure::chain;
use sekisho_lambda::{metrics, telemetry};
use sekisho_ledger::Store;
use tracing::{error, info};

use crate::answer::Answer;
use crate::artifact_stores::ArtifactStores;
use crate::aws::codepipeline::ArtifactWriters;
use crate::aws::lambda;
use crate::aws::s3::S3;
use crate::checker::bucket::{artifact_stores, assess_key, closed_finding};
use crate::checker::notices::{self, News};
use crate::checker::reader::Reader;
use crate::checker::walk::{Walk, WalkEnd};
use crate::error::{Error, SweepError};
use crate::key::KeyArn;
use crate::outcome::Outcome;
use crate::request::SweepRequest;
use crate::right_key::RightKey;
use crate::run::{FUNCTION, Run};
use crate::sweep_report::SweepReport;
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
    let finding = Decision::new(Outcome::Unknown, reason).about("bucket", &request.bucket);
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
    let assessment = assess_key(run, &s3, bucket, &stores.shown).await?;
    let mut decisions = stores.findings();
    decisions.extend(assessment.findings);
    let RightKey::Known(right_key) = assessment.right_key else {
        return finish_without_report(run, request, decisions).await;
    };
    match walk(run, request, stores, &s3_without_retries, &right_key).await? {
        WalkEnd::NotStarted(why) => {
            decisions.push(Decision::new(Outcome::Ignored, why).about("bucket", bucket));
            finish_without_report(run, request, decisions).await
        }
        WalkEnd::Stopped { report, findings, delayed } => {
            send_delayed(run, request, &delayed).await;
            decisions.extend(delayed);
            decisions.extend(findings);
            finish(run, request, *report, decisions).await
        }
    }
}

/// Checks the objects of the bucket.
async fn walk<L: Store>(
    run: &Run<'_, L>,
    request: &SweepRequest,
    stores: &ArtifactStores,
    s3: &S3,
    right_key: &KeyArn,
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
    let news = notices::without_repeats(run, decisions).await;
    publish(run, request, &news, BTreeMap::new(), 0).await?;
    Ok(Answer::of(news.decisions))
}

/// Sends a notice about objects whose checks take longer than an invocation. An error is only logged, because the sweep
/// continues.
async fn send_delayed<L: Store>(run: &Run<'_, L>, request: &SweepRequest, delayed: &[Decision<Outcome>]) {
    if request.dry_run || delayed.is_empty() {
        return;
    }
    let title = run.notice_title(&format!("sweep of {}", request.bucket));
    let news = News::unfiltered(delayed.to_vec());
    if let Err(error) = notices::send(run, &title, &news, 0).await {
        error!(error = chain(&error), "the notice about objects that take long could not be sent");
    }
}

/// Ends this invocation's part of a sweep. If the sweep is not done, the function invokes itself to continue the sweep.
async fn finish<L: Store>(
    run: &Run<'_, L>,
    request: &SweepRequest,
    report: SweepReport,
    decisions: Vec<Decision<Outcome>>,
) -> Result<Answer, Error> {
    info!(sweep.json = telemetry::json(&report), "sweep");
    let is_final = report.complete && !request.dry_run;
    let mut news = if is_final { notices::without_repeats(run, decisions).await } else { News::unfiltered(decisions) };
    let has_findings = news.decisions.iter().any(|decision| decision.outcome.is_finding());
    let summary = report.summary(has_findings);
    news.decisions.insert(0, summary.clone());
    if !report.complete {
        run.record(from_ref(&summary)).await?;
        let next = request.continuing(&report.sweep);
        lambda::invoke(&run.clients.lambda, &run.invocation.function, next.payload()).await?;
    } else if request.dry_run {
        run.record(&news.decisions).await?;
    } else {
        publish(run, request, &news, report.counts(), report.more_findings).await?;
    }
    Ok(Answer { decisions: news.decisions, sweeps: vec![report] })
}

/// Records, counts and logs the decisions of a sweep that is done, and sends a notice about its findings. An error from
/// SNS is only logged, because the ledger and the log have the findings, and a retry would repeat the whole sweep.
async fn publish<L: Store>(
    run: &Run<'_, L>,
    request: &SweepRequest,
    news: &News,
    mut counts: BTreeMap<String, u64>,
    more_findings: u64,
) -> Result<(), Error> {
    run.record(&news.decisions).await?;
    // The walk has already logged and counted the decisions about objects, so they are left out here.
    let is_about_bucket = |decision: &&Decision<Outcome>| {
        !decision.concerns.contains_key("object") && !decision.concerns.contains_key("sweep")
    };
    for decision in news.decisions.iter().filter(is_about_bucket) {
        telemetry::decision(decision);
        *counts.entry(decision.outcome.name().to_owned()).or_default() += 1;
    }
    metrics::count(FUNCTION, &counts);
    let title = run.notice_title(&format!("sweep of {}", request.bucket));
    if let Err(error) = notices::send(run, &title, news, more_findings).await {
        error!(error = chain(&error), "the notice about the findings could not be sent");
    }
    Ok(())
}
