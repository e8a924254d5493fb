//! The use case in which an event of S3 reports a written object.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use sekisho_domain::decision::Decision;
use sekisho_lambda::failure::chain;
use sekisho_ledger::Store;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep};
use tracing::warn;

use crate::aws::codepipeline::ArtifactWriters;
use crate::aws::s3::S3;
use crate::checker::bucket::{artifact_stores, assess_key};
use crate::checker::budget::Budget;
use crate::checker::check::{CheckMode, CheckRequest, ObjectChecker};
use crate::checker::foreign_key::explained;
use crate::checker::reader::Reader;
use crate::checker::repair::Progress;
use crate::checker::retry::{LONGEST_WAIT, StageRetrier};
use crate::error::Error;
use crate::key::KeyArn;
use crate::object::REPORTS;
use crate::outcome::Outcome;
use crate::proofs::Reading;
use crate::rate::Rates;
use crate::repair::RepairRule;
use crate::request::WrittenObject;
use crate::right_key::RightKey;
use crate::run::Run;

/// The most attempts at the check of an object that the check has repaired, besides the retries of the SDK.
const ATTEMPTS: u32 = 4;
/// The pause between two of these attempts.
const PAUSE: Duration = Duration::from_secs(2);
/// Time that is reserved to record the decision.
const RESERVE: Duration = Duration::from_secs(20);

/// Checks the object of an event. The decisions before those about the object are findings about its bucket. The last
/// decision may be about a retried stage.
pub(crate) async fn check<L: Store>(
    run: &Run<'_, L>,
    written: &WrittenObject,
) -> Result<Vec<Decision<Outcome>>, Error> {
    if written.id.bucket == run.settings.bucket && written.id.key.starts_with(REPORTS) {
        let reason = "the object is a list of findings, which this function wrote".to_owned();
        return Ok(vec![Decision::new(Outcome::Ignored, reason).about("event", &written.event)]);
    }
    if written.id.bucket == run.settings.bucket {
        check_in_own_bucket(run, written).await
    } else {
        check_in_other_bucket(run, written).await
    }
}

/// Checks an object in the bucket that was deployed with this function. The settings contain the right key of that
/// bucket. The pipelines are read only if something is wrong with the object, because an account may have hundreds of
/// pipelines. A sweep checks all pipelines in any case.
async fn check_in_own_bucket<L: Store>(
    run: &Run<'_, L>,
    written: &WrittenObject,
) -> Result<Vec<Decision<Outcome>>, Error> {
    let s3 = run.s3();
    let right_key = &run.settings.key;
    let decision = check_object(run, &s3, written, right_key, run.settings.repair_rule(&run.settings.bucket)).await?;
    let checked = run.now();
    if matches!(decision.outcome, Outcome::Compliant | Outcome::Gone) {
        return Ok(vec![decision]);
    }
    let bucket = &written.id.bucket;
    let stores = artifact_stores(run).await;
    let stores = stores.here();
    let mut decisions = match assess_key(run, &s3, bucket, stores).await {
        Ok(assessment) => assessment.findings,
        Err(error) => {
            warn!(error = chain(&error), "the keys that the pipelines and the bucket name are not checked");
            Vec::new()
        }
    };
    let writers = ArtifactWriters::new(&run.clients.codepipeline, stores, bucket);
    let decision = explained(decision, &writers, right_key).await;
    let retrier = StageRetrier::new(run, stores, bucket, right_key);
    decisions.extend(retrier.after_event(decision, checked, wait_until(run)).await);
    Ok(decisions)
}

/// The time until which a check waits for the end of an action that may have read an object before its repair.
fn wait_until<L: Store>(run: &Run<'_, L>) -> OffsetDateTime {
    (run.now() + LONGEST_WAIT).min(run.invocation.deadline - RESERVE)
}

async fn check_in_other_bucket<L: Store>(
    run: &Run<'_, L>,
    written: &WrittenObject,
) -> Result<Vec<Decision<Outcome>>, Error> {
    let decision = |outcome, reason: String| {
        Decision::new(outcome, reason)
            .about("bucket", &written.id.bucket)
            .about("object", &written.id.key)
            .about("event", &written.event)
    };
    let bucket = &written.id.bucket;
    let s3 = run.s3();
    let stores = artifact_stores(run).await;
    if !stores.has_bucket(run.settings, bucket) {
        // A pipeline that CodePipeline does not show may store artifacts in the bucket.
        if let Some(error) = stores.into_error() {
            return Err(error.into());
        }
        let reason =
            "no pipeline of this account stores artifacts in the bucket, and the configuration has no section \
                      for it"
                .to_owned();
        return Ok(vec![decision(Outcome::Ignored, reason)]);
    }
    let rule = stores.repair_rule(run.settings, bucket);
    let stores = stores.here();
    let assessment = assess_key(run, &s3, bucket, stores).await?;
    let mut decisions = assessment.findings;
    match assessment.right_key {
        RightKey::Known(right_key) => {
            let decision = check_object(run, &s3, written, &right_key, rule).await?;
            let checked = run.now();
            let writers = ArtifactWriters::new(&run.clients.codepipeline, stores, bucket);
            let decision = explained(decision, &writers, &right_key).await;
            let retrier = StageRetrier::new(run, stores, bucket, &right_key);
            decisions.extend(retrier.after_event(decision, checked, wait_until(run)).await);
        }
        RightKey::Unclear(why) => {
            let reason = format!("the right key of the object's bucket is unclear: {why}");
            decisions.push(decision(Outcome::Unknown, reason));
        }
    }
    Ok(decisions)
}

async fn check_object<L: Store>(
    run: &Run<'_, L>,
    s3: &S3,
    written: &WrittenObject,
    right_key: &KeyArn,
    rule: RepairRule,
) -> Result<Decision<Outcome>, Error> {
    let reader = Reader::configured(run, &written.id.bucket).await?;
    let mode = CheckMode {
        dry_run: false,
        follow_latest: true,
        holder: run.request_id().to_owned(),
        wait_until: run.invocation.deadline - RESERVE,
        rates: Rates::UNLIMITED,
        budget: Budget::default(),
    };
    let checker = ObjectChecker::new(run, s3, &reader, right_key, rule, mode);
    let mut request = CheckRequest {
        progress: Progress::of(&written.id),
        is_latest: true,
        reading: Reading::Read,
        began: Rc::new(Cell::new(Instant::now())),
    };
    let mut attempts = 1;
    let decision = loop {
        match Box::pin(checker.check_written(&mut request)).await {
            // Lambda would repeat the event, and that check would find an object that is in order.
            Err(error) if request.progress.before().is_some() && attempts < ATTEMPTS => {
                warn!(error = chain(&error), "the check of a repaired object is repeated");
                attempts += 1;
                sleep(PAUSE).await;
            }
            result => break result?.decision,
        }
    };
    Ok(decision.about("event", &written.event).about_some("writer", written.writer.as_deref()))
}
