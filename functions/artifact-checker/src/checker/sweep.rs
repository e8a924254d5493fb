//! The use case that sweeps one bucket.

use std::cell::RefCell;

use futures_util::join;
use sekisho_domain::decision::Decision;
use sekisho_ledger::Store;

use crate::answer::Answer;
use crate::artifact_stores::ArtifactStores;
use crate::aws::codepipeline::ArtifactWriters;
use crate::aws::s3::{S3, access};
use crate::checker::batch;
use crate::checker::bucket::{artifact_stores, assess_key, closed_finding, stores_for_rest};
use crate::checker::budget::Budget;
use crate::checker::check::{CheckMode, ObjectChecker};
use crate::checker::passes::{Leaves, Passes};
use crate::checker::range_state::{add_open_ranges, resume, share};
use crate::checker::reader::Reader;
use crate::checker::report;
use crate::checker::retry::StageRetrier;
use crate::checker::sweep_check::SweepChecker;
use crate::checker::sweep_end::{finish, finish_pass, finish_without_report, send_delayed};
use crate::checker::sweep_state::{Take, TakenSweep, take};
use crate::checker::tracker::{Others, Tracker};
use crate::checker::walk::Walk;
use crate::error::{Error, SweepError};
use crate::finding::with_id;
use crate::key::KeyArn;
use crate::notice::Changes;
use crate::outcome::Outcome;
use crate::posture;
use crate::rate::Rates;
use crate::request::{SweepMode, SweepRequest};
use crate::right_key::RightKey;
use crate::run::Run;
use crate::sweep_report::SweepReport;
use crate::sweep_row::{Before, SweepRow};
use crate::sweep_totals::SweepTotals;
use crate::verdict::in_words;

/// Sweeps a bucket at the request of a person, or continues a sweep.
pub(crate) async fn requested<L: Store>(run: &Run<'_, L>, request: &SweepRequest) -> Result<Answer, Error> {
    let own = &run.settings.bucket;
    let stores = match &request.sweep {
        Some(_) => stores_for_rest(run, &request.bucket).await?,
        None => artifact_stores(run).await,
    };
    // A sweep that has begun ends, also if its bucket is no artifact bucket any more.
    let is_known = request.sweep.is_some() || request.bucket == *own;
    if !is_known && !stores.has_bucket(run.settings, &request.bucket) {
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

/// What a sweep has to know about its bucket.
pub(crate) struct Preparation {
    /// S3 without the SDK's retries, because the walk repeats failed calls itself and must see each throttled call.
    s3: S3,
    right_key: KeyArn,
    /// The findings about the bucket and its pipelines.
    findings: Vec<Decision<Outcome>>,
}

/// The result of preparing a sweep.
pub(crate) enum Prepared {
    Ready(Box<Preparation>),
    /// No object of the bucket can be checked. The decisions give the reasons.
    Impossible(Vec<Decision<Outcome>>),
}

/// Finds out the right key of a bucket, and what is wrong with the bucket and its pipelines.
pub(crate) async fn prepare<L: Store>(
    run: &Run<'_, L>,
    request: &SweepRequest,
    stores: &ArtifactStores,
) -> Result<Prepared, Error> {
    let bucket = request.bucket.as_str();
    let s3 = run.s3();
    run.cache.forget_key_assessment(bucket);
    if bucket != run.settings.bucket
        && let Some(closed) = closed_finding(run, &s3, bucket).await?
    {
        return Ok(Prepared::Impossible(vec![closed]));
    }
    // The calls do not depend on each other, so they run at the same time.
    let (assessment, access) = join!(assess_key(run, &s3, bucket, stores.here()), access::of_bucket(&s3, bucket));
    let (assessment, access) = (assessment?, access?);
    let mut findings = stores.findings();
    findings.extend(assessment.findings);
    let RightKey::Known(right_key) = assessment.right_key else {
        return Ok(Prepared::Impossible(findings));
    };
    let life = run.keys.life(right_key.as_str()).await?;
    findings.extend(posture::findings(bucket, &access, &right_key, &life, run.now()));
    Ok(Prepared::Ready(Box::new(Preparation { s3: run.s3_without_retries(), right_key, findings })))
}

impl Preparation {
    /// Checks the objects of the bucket, or of a range of it. Returns the objects that take longer than this invocation.
    pub(crate) async fn walk<L: Store>(
        &self,
        run: &Run<'_, L>,
        request: &SweepRequest,
        stores: &ArtifactStores,
        rates: Rates,
        tracker: Option<&Tracker<'_, L>>,
        taken: &mut TakenSweep,
    ) -> Result<Vec<Decision<Outcome>>, Error> {
        let reader = Reader::configured(run, &request.bucket).await?;
        let rule = stores.repair_rule(run.settings, &request.bucket);
        let mode = CheckMode {
            dry_run: request.dry_run,
            follow_latest: false,
            // If this invocation dies, the invocation that continues the sweep inherits its claims.
            holder: taken.row.sweep.clone(),
            // If another invocation holds an object, the check ends at once, and the walk repeats it later.
            wait_until: run.now(),
            rates,
            budget: Budget::of(run, request, &rule, &taken.row).await?,
        };
        let checker = SweepChecker {
            run,
            request,
            checker: ObjectChecker::new(run, &self.s3, &reader, &self.right_key, rule, mode),
            right_key: &self.right_key,
            writers: &ArtifactWriters::new(&run.clients.codepipeline, stores.here(), &request.bucket),
            retrier: &StageRetrier::new(run, stores.here(), &request.bucket, &self.right_key),
            tracker,
            limit: RefCell::default(),
            proofs: RefCell::new(taken.row.proofs.clone()),
        };
        let walk = Walk { run, s3: &self.s3, request, checker, tracker };
        Ok(Box::pin(walk.run(taken)).await?)
    }
}

/// Sweeps an artifact bucket.
async fn sweep<L: Store>(run: &Run<'_, L>, request: &SweepRequest, stores: &ArtifactStores) -> Result<Answer, Error> {
    let preparation = match prepare(run, request, stores).await? {
        Prepared::Ready(preparation) => *preparation,
        Prepared::Impossible(decisions) => return finish_without_report(run, request, decisions).await,
    };
    let bucket = request.bucket.as_str();
    let passes = Passes::read(run, bucket).await?;
    let right_key = &preparation.right_key;
    let is_daily = request.scheduled && request.mode() == SweepMode::ORDINARY;
    let since = if is_daily { passes.since(right_key, run.now()) } else { None };
    let not_started = |findings: Vec<Decision<Outcome>>, why: String| {
        let ignored = Decision::new(Outcome::Ignored, why).about("bucket", bucket);
        finish_without_report(run, request, findings.into_iter().chain([ignored]).collect())
    };
    let before = Before { right_key, since };
    let mut taken = match take(run.ledger, request, before, run.request_id(), run.now()).await? {
        Take::Taken(taken) => taken,
        Take::InRanges(row) => {
            resume(run, request, &row).await?;
            let mut running = [(bucket, *row)];
            add_open_ranges(run.ledger, &mut running).await?;
            let [(_, row)] = running;
            return not_started(preparation.findings, row.is_running()).await;
        }
        Take::Refused(why) => return not_started(preparation.findings, why).await,
    };
    let (tracker, delayed) =
        match Box::pin(walk(run, request, stores, &preparation, passes.is_first(), &mut taken)).await {
            Err(error) if error.is_changed() => {
                let why = "another invocation has taken over the sweep".to_owned();
                return not_started(preparation.findings, why).await;
            }
            walked => walked?,
        };
    let (news, is_adopted) =
        other_findings(run, request, preparation.findings, tracker.as_ref(), &mut taken.row).await?;
    let rule = stores.repair_rule(run.settings, bucket);
    let mut report = SweepReport::new(request, &taken.row, run.settings, &rule);
    report.is_left_to_nobody = report.complete && report.left > 0 && !is_adopted;
    let mut changes = changes_of(&taken.row.totals, report.list.clone());
    changes.found = news.into_iter().chain(delayed).chain(changes.found).collect();
    let Some(tracker) = tracker else { return finish(run, request, report, changes.found, &mut taken).await };
    // A hidden pipeline may still have the finding, and an earlier invocation may have found that S3 lists nothing.
    if report.complete && stores.is_complete() && !taken.row.listing_refused {
        changes.resolved.extend(tracker.resolve_others().await);
    }
    report.other_open = tracker.other_open();
    tracker.flush().await;
    if !report.complete {
        return finish(run, request, report, changes.found, &mut taken).await;
    }
    let answer = finish_pass(run, request, report, changes, &tracker, &passes).await?;
    passes.end(run, &taken.row, right_key, answer.1, Leaves::of(&taken.row, right_key, is_adopted)).await?;
    taken.release(run.ledger, run.now()).await?;
    Ok(answer.0)
}

/// Checks the objects of the bucket, as many as one invocation checks alone, and leaves the others to the ranges of the
/// sweep. Returns the tracker, and the objects that take longer than this invocation.
async fn walk<'a, L: Store>(
    run: &'a Run<'a, L>,
    request: &'a SweepRequest,
    stores: &ArtifactStores,
    preparation: &Preparation,
    is_first_pass: bool,
    taken: &mut TakenSweep,
) -> Result<(Option<Tracker<'a, L>>, Vec<Decision<Outcome>>), Error> {
    let tracker = if request.dry_run {
        None
    } else {
        Some(Tracker::load(run, &request.bucket, &taken.row, is_first_pass).await?)
    };
    let share = share(run, request).await?;
    if share.leaves_rest {
        // The ranges of the other sweep use the rates, so everything is left to ranges.
        taken.row.leave_rest();
    }
    let walked = preparation.walk(run, request, stores, share.rates, tracker.as_ref(), taken).await;
    if let Some(tracker) = &tracker {
        tracker.flush().await;
    }
    let delayed = match walked {
        Ok(delayed) => delayed,
        Err(error) => {
            // The sweep is released, so that a retry does not have to wait for the end of the lease.
            let _ = taken.release(run.ledger, run.now()).await;
            return Err(error);
        }
    };
    if taken.row.complete {
        taken.save_before_its_end(run.ledger, run.now()).await?;
    } else {
        taken.hand_off(run.ledger, request, run.now()).await?;
    }
    send_delayed(run, request, &delayed).await;
    Ok((tracker, delayed))
}

/// Compares the findings about the bucket and its pipelines with the ledger, and adds them to the list of all findings
/// at the end of the sweep. Returns those of which people do not know, and whether a repair has what the sweep has left.
async fn other_findings<L: Store>(
    run: &Run<'_, L>,
    request: &SweepRequest,
    mut findings: Vec<Decision<Outcome>>,
    tracker: Option<&Tracker<'_, L>>,
    row: &mut SweepRow,
) -> Result<(Vec<Decision<Outcome>>, bool), Error> {
    let bucket = &request.bucket;
    let mut is_adopted = false;
    findings.extend(unchecked_finding(bucket, row));
    if row.complete {
        findings.extend(untracked_finding(bucket, row));
        let after = batch::after_sweep(run, request, row).await?;
        findings.extend(after.finding);
        is_adopted = after.is_adopted;
    }
    let Some(tracker) = tracker else { return Ok((findings.into_iter().map(with_id).collect(), is_adopted)) };
    let Others { all, news } = tracker.others(findings).await;
    if row.complete {
        row.totals.unwritten = all;
        report::write(run, bucket, row).await;
    }
    Ok((news, is_adopted))
}

/// The finding about the parts of the bucket that could not be checked.
fn unchecked_finding(bucket: &str, row: &SweepRow) -> Option<Decision<Outcome>> {
    let ranges = &row.ranges;
    let reason = format!(
        "{} ranges could not be checked, so the sweep is incomplete: {}",
        ranges.unchecked,
        ranges.named_unchecked.join("; ")
    );
    let finding = Decision::new(Outcome::Unknown, reason).about("bucket", bucket).about("problem", "not-checked");
    (row.complete && ranges.unchecked > 0).then_some(finding)
}

/// The finding that the ledger does not have all findings of the sweep.
fn untracked_finding(bucket: &str, row: &SweepRow) -> Option<Decision<Outcome>> {
    let reason = format!(
        "the ledger has no rows of {} findings about objects, and nobody may have got a notice about them: see the list \
         of all findings of the sweep",
        row.totals.untracked
    );
    let finding = Decision::new(Outcome::Reported, reason).about("bucket", bucket).about("problem", "not-tracked");
    (row.totals.untracked > 0).then_some(finding)
}

fn changes_of(totals: &SweepTotals, list: Option<String>) -> Changes {
    Changes {
        found: totals.findings(),
        more: totals.more_findings,
        resolved: totals.resolved(),
        more_resolved: totals.more_resolved,
        list,
    }
}
