//! Checks one object of a sweep, repeats the check until S3 answers, and compares the result with the ledger.

use std::cell::RefCell;
use std::time::Duration;

use sekisho_domain::decision::Decision;
use sekisho_lambda::failure::chain;
use sekisho_lambda::telemetry;
use sekisho_ledger::Store;
use tokio::time::{Instant, sleep};
use tracing::info;

use crate::aws::codepipeline::ArtifactWriters;
use crate::checker::check::{CheckRequest, ObjectChecker, about_object};
use crate::checker::foreign_key::explained;
use crate::checker::repair::Progress;
use crate::checker::retry::StageRetrier;
use crate::checker::running_checks::BegunCheck;
use crate::checker::tracker::Tracker;
use crate::error::CheckError;
use crate::finding::with_id;
use crate::key::KeyArn;
use crate::limit::ConcurrencyLimit;
use crate::object::{ListedObject, ObjectId};
use crate::outcome::Outcome;
use crate::proofs::{Proofs, Reading};
use crate::request::SweepRequest;
use crate::run::Run;
use crate::sweep_totals::{CheckedObject, Tracked};

/// The most attempts at a call if S3 does not answer. Each pause between two attempts is twice as long as the pause
/// before.
pub(crate) const ATTEMPTS: u32 = 8;
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between checks of an object that another invocation is repairing.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// If less time than this is left, no further check begins, so that those that have begun can end.
pub(crate) const TIME_FOR_CHECKS: Duration = Duration::from_secs(45);

/// Checks the objects of a sweep.
pub(crate) struct SweepChecker<'a, L> {
    pub(crate) run: &'a Run<'a, L>,
    pub(crate) request: &'a SweepRequest,
    pub(crate) checker: ObjectChecker<'a, L>,
    pub(crate) right_key: &'a KeyArn,
    pub(crate) writers: &'a ArtifactWriters<'a>,
    pub(crate) retrier: &'a StageRetrier<'a, L>,
    /// Compares the findings with the ledger; `None` in a dry run.
    pub(crate) tracker: Option<&'a Tracker<'a, L>>,
    pub(crate) limit: RefCell<ConcurrencyLimit>,
    /// The results of the reads, from which follows which objects are read.
    pub(crate) proofs: RefCell<Proofs>,
}

impl<L: Store> SweepChecker<'_, L> {
    /// How many checks may be under way: as many as S3 answers without throttling, and as its rate allows.
    pub(crate) fn most_checks(&self) -> usize {
        self.limit.borrow().requests().min(self.checker.most_checks())
    }

    /// Checks an object, and returns the result with the number of the check.
    pub(crate) async fn check(&self, begun: BegunCheck, object: ListedObject) -> (u64, CheckedObject) {
        let BegunCheck { number, is_sample, began } = begun;
        let is_older_version = !object.is_latest;
        let id = ObjectId { bucket: self.request.bucket.clone(), key: object.key, version: object.version };
        let mut request = CheckRequest {
            progress: Progress::of(&id),
            is_latest: object.is_latest,
            reading: self.proofs.borrow_mut().begin(is_sample),
            began,
        };
        let result = self.check_until_answered(&mut request).await;
        if request.reading == Reading::Read {
            self.proofs.borrow_mut().end(result.was_read, result.failed_read.as_ref());
        }
        let decision = explained(result.decision, self.writers, self.right_key).await;
        // What follows a repair belongs to it: the retry of a stage, and the finding. A sweep that is replaced waits for
        // both.
        let _repair = self.checker.begin_repair();
        // A stage reads the latest version.
        let decision = if is_older_version { decision } else { self.retrier.after_sweep(decision).await };
        (number, self.compared(CheckedObject { decision, ..result }, is_older_version).await)
    }

    /// Compares the result of a check with the ledger, and logs it.
    pub(crate) async fn compared(&self, result: CheckedObject, is_older_version: bool) -> CheckedObject {
        let result = match self.tracker {
            // The manifest has the object. Rows and log lines for all of them would be too many.
            Some(tracker) if result.left_to_job.is_some() && !tracker.has_finding(key_of(&result.decision)) => {
                return CheckedObject { tracked: Some(Tracked::OF_JOB), ..result };
            }
            Some(tracker) => tracker.object(result, is_older_version).await,
            None => CheckedObject { decision: with_id(result.decision), ..result },
        };
        self.log(&result);
        result
    }

    /// Logs a finding or a repair. The alarm for findings counts the lines with the message `decision`, and neither a dry
    /// run nor a finding of which people know must raise this alarm.
    fn log(&self, checked: &CheckedObject) {
        let CheckedObject { decision, tracked, .. } = checked;
        if !decision.outcome.is_finding() && decision.outcome != Outcome::Repaired {
            return;
        }
        if self.request.dry_run {
            info!(would.json = telemetry::json(decision), "dry run");
        } else if tracked.is_some_and(|tracked| !tracked.is_news) {
            info!(known.json = telemetry::json(decision), "known finding");
        } else {
            telemetry::decision(decision);
        }
    }

    /// Repeats a check until S3 answers. During a pause, the check still uses up one place of the concurrency limit,
    /// which reduces the load on S3.
    async fn check_until_answered(&self, request: &mut CheckRequest) -> CheckedObject {
        let not_checked = |request: &CheckRequest, outcome, reason: String| {
            let decision = about_object(Decision::new(outcome, reason), &request.progress.object);
            CheckedObject { planned_requests: request.progress.spent(), ..CheckedObject::undecided(decision) }
        };
        let mut pause = FIRST_PAUSE;
        let mut attempts = 1;
        loop {
            let error = match self.checker.check(request).await {
                Ok(result) => {
                    self.limit.borrow_mut().raise();
                    return result;
                }
                Err(error) => error,
            };
            if error.is_throttled_by_service() {
                self.limit.borrow_mut().cut(Instant::now().into_std());
                self.checker.slow_down();
            }
            match error {
                CheckError::RepairedElsewhere if self.run.time_left() > TIME_FOR_CHECKS => {
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                // The invocation that repairs the object decides about it, so there is no finding here.
                CheckError::RepairedElsewhere => return not_checked(request, Outcome::Ignored, chain(&error)),
                _ if attempts == ATTEMPTS => {
                    let reason = format!("it could not be checked in {ATTEMPTS} attempts: {}", chain(&error));
                    return not_checked(request, Outcome::Unknown, reason);
                }
                _ => {
                    sleep(pause).await;
                    pause *= 2;
                    attempts += 1;
                }
            }
        }
    }
}

fn key_of(decision: &Decision<Outcome>) -> &str {
    decision.concerns.get("object").map_or("", String::as_str)
}
