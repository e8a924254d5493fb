//! Checks all objects of a bucket, many at the same time, until the listing or the invocation's time ends.
//!
//! The ledger records the position up to which every object is checked, at the end of a page. The invocation that
//! continues the walk begins at that position. The walk may therefore check some objects twice, but it leaves out no
//! object.

use std::cell::RefCell;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::OptionFuture;
use futures_util::stream::FuturesUnordered;
use sekisho_domain::decision::Decision;
use sekisho_lambda::ServiceError;
use sekisho_lambda::failure::chain;
use sekisho_lambda::telemetry;
use sekisho_ledger::Store;
use tokio::time::{Instant, interval, sleep};

use tracing::info;

use crate::aws::codepipeline::ArtifactWriters;
use crate::aws::s3::{S3, list};
use crate::checker::check::{CheckMode, CheckRequest, ObjectChecker, about_object};
use crate::checker::foreign_key::explained;
use crate::checker::reader::Reader;
use crate::checker::running_checks::RunningChecks;
use crate::checker::sweep_state::{Take, TakenSweep, take};
use crate::checker::tracker::{PageRange, Tracker};
use crate::error::{CheckError, SweepError};
use crate::finding::with_id;
use crate::key::KeyArn;
use crate::limit::ConcurrencyLimit;
use crate::notice::Changes;
use crate::object::{ListPage, ListPosition, ListedObject, ObjectId};
use crate::open_pages::{FinishedPage, OpenPages};
use crate::outcome::Outcome;
use crate::proofs::{Proofs, Reading};
use crate::repair::RepairRule;
use crate::request::SweepRequest;
use crate::run::Run;
use crate::sweep_report::SweepReport;
use crate::sweep_row::{CheckedObject, SweepRow};
use crate::verdict::{in_words, not_shown};

/// The interval between saves of the position. After a crash, the work since the last save is repeated.
const CHECKPOINT: Duration = Duration::from_secs(5);
/// The most attempts at a call if S3 does not answer. Each pause between two attempts is twice as long as the pause
/// before.
const ATTEMPTS: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between checks of an object that another invocation is repairing.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// If less time than this is left, no further page is listed, so that the open pages can be finished.
const TIME_FOR_A_PAGE: Duration = Duration::from_secs(45);
/// If less time than this is left, the walk stops, so that its findings can be recorded.
const TIME_TO_RECORD: Duration = Duration::from_secs(15);

/// The check of a bucket's objects.
pub(crate) struct Walk<'a, L> {
    pub(crate) run: &'a Run<'a, L>,
    /// S3 without the SDK's retries, because the walk repeats failed calls itself and must see each throttled call.
    pub(crate) s3: &'a S3,
    pub(crate) request: &'a SweepRequest,
    pub(crate) right_key: &'a KeyArn,
    /// How objects of the bucket may be repaired.
    pub(crate) rule: RepairRule,
    pub(crate) reader: &'a Reader,
    pub(crate) writers: &'a ArtifactWriters<'a>,
    /// Compares the findings with the ledger; `None` in a dry run.
    pub(crate) tracker: Option<&'a Tracker<'a, L>>,
}

/// How a walk ended.
pub(crate) enum WalkEnd {
    /// The walk reached the end of the listing or ran out of time.
    Stopped {
        report: Box<SweepReport>,
        changes: Changes,
        /// The objects that a later invocation has to finish, and about which no notice was sent.
        delayed: Vec<Decision<Outcome>>,
    },
    /// There was nothing to do for this invocation, for this reason.
    NotStarted(String),
}

/// State that the checks in flight share.
#[derive(Default)]
struct Shared {
    limit: RefCell<ConcurrencyLimit>,
    /// The results of the reads, from which follows which objects are read.
    proofs: RefCell<Proofs>,
}

/// The result of listing a page.
enum Listing {
    Page(ListPage),
    /// S3 refuses to list the bucket.
    Refused(Decision<Outcome>),
}

impl<L: Store> Walk<'_, L> {
    /// Begins the bucket's sweep or continues it where the last invocation stopped.
    pub(crate) async fn run(self) -> Result<WalkEnd, SweepError> {
        let Run { ledger, .. } = *self.run;
        let mut sweep = match take(ledger, self.request, self.run.request_id(), self.run.now()).await? {
            Take::Taken(sweep) => sweep,
            Take::Refused(why) => return Ok(WalkEnd::NotStarted(why)),
        };
        if let Some(tracker) = self.tracker {
            tracker.begin(&sweep.row.sweep);
        }
        let mode = CheckMode {
            dry_run: self.request.dry_run,
            follow_latest: false,
            // If this invocation dies, the invocation that continues the sweep inherits its claims.
            holder: sweep.row.sweep.clone(),
            // A check does not wait for another invocation, because the walk repeats the check later.
            wait_until: self.run.now(),
            rates: self.run.settings.rates,
        };
        let checker = ObjectChecker::new(self.run, self.s3, self.reader, self.right_key, self.rule.clone(), mode);
        let first_position = sweep.row.position.clone();
        let delayed = match self.check_pages(&checker, &mut sweep).await {
            Ok(delayed) => delayed,
            Err(SweepError::Ledger(sekisho_ledger::Error::Changed(_))) => {
                return Ok(WalkEnd::NotStarted("another invocation has taken over the sweep".to_owned()));
            }
            Err(error) => {
                // The sweep is released, so that a retry does not have to wait for the end of the lease.
                let _ = sweep.release(ledger, self.run.now()).await;
                return Err(error);
            }
        };
        // The row counts the invocations that work on slow objects, so these objects cannot continue a sweep for ever.
        if !sweep.row.complete && sweep.row.position == first_position && !sweep.row.has_slow() {
            return Err(SweepError::NoProgress(self.request.bucket.clone()));
        }
        let report = SweepReport::new(self.request, &sweep.row);
        let totals = &sweep.row.totals;
        let changes = Changes {
            found: totals.findings(),
            more: totals.more_findings,
            resolved: totals.resolved(),
            more_resolved: totals.more_resolved,
        };
        Ok(WalkEnd::Stopped { report: Box::new(report), changes, delayed })
    }

    fn time_left(&self) -> Duration {
        self.run.invocation.time_left(self.run.now())
    }

    /// Checks pages until the listing or the time ends. Returns the objects that take longer than this invocation.
    async fn check_pages(
        &self,
        checker: &ObjectChecker<'_, L>,
        sweep: &mut TakenSweep,
    ) -> Result<Vec<Decision<Outcome>>, SweepError> {
        let shared = Shared { proofs: RefCell::new(sweep.row.proofs.clone()), ..Shared::default() };
        let mut pages = OpenPages::default();
        let mut running = RunningChecks::default();
        let mut in_flight = FuturesUnordered::new();
        for object in sweep.row.slow_objects() {
            in_flight.push(self.check_object(checker, running.begin_slow(&object), object, true, &shared));
        }
        // The inner option is the position before the next page, and `None` for the first page. The outer option is
        // `None` while a page is being listed, and after the last page.
        let mut next_page = (!sweep.row.listed).then(|| sweep.row.position.clone());
        let mut listing = OptionFuture::from(None);
        let mut is_listing = false;
        let first_position = sweep.row.position.clone();
        let mut is_refused = false;
        let mut last_save = Instant::now();
        let mut tick = interval(CHECKPOINT);
        loop {
            while running.in_pages() < shared.limit.borrow().requests()
                && let Some(waiting) = pages.next_object()
            {
                let number = running.begin(&waiting);
                in_flight.push(self.check_object(checker, number, waiting.object, waiting.is_sample, &shared));
            }
            let time_left = self.time_left();
            if time_left < TIME_TO_RECORD {
                break;
            }
            if !is_listing
                && pages.has_room()
                && time_left > TIME_FOR_A_PAGE
                && let Some(after) = next_page.take()
            {
                listing = Some(Box::pin(self.list_page(after))).into();
                is_listing = true;
            }
            if in_flight.is_empty() && !pages.has_waiting() && !is_listing {
                break;
            }
            tokio::select! {
                Some((number, object)) = in_flight.next() => running.end(number, object, &mut pages, &mut sweep.row),
                Some(listed) = &mut listing, if is_listing => {
                    listing = None.into();
                    is_listing = false;
                    is_refused = matches!(listed, Ok(Listing::Refused(_)));
                    let page = self.listed_page(listed?, &mut sweep.row).await;
                    next_page = page.end.clone().map(Some);
                    pages.add(page);
                }
                _ = tick.tick() => running.set_slow_aside(&mut pages, &mut sweep.row),
            }
            while let Some(page) = pages.pop_finished() {
                self.end_page(page, &mut sweep.row, first_position.as_ref(), is_refused).await;
            }
            if last_save.elapsed() >= CHECKPOINT && !sweep.row.complete {
                sweep.row.proofs = shared.proofs.borrow().clone();
                sweep.checkpoint(self.run.ledger, self.run.now()).await?;
                last_save = Instant::now();
            }
        }
        sweep.row.proofs = shared.proofs.borrow().clone();
        let delayed = self.end_run(&mut sweep.row);
        sweep.release(self.run.ledger, self.run.now()).await?;
        Ok(delayed)
    }

    /// The page of a listing, which is empty if S3 refused to list it.
    async fn listed_page(&self, listing: Listing, row: &mut SweepRow) -> ListPage {
        match listing {
            Listing::Page(page) => page,
            Listing::Refused(finding) => {
                self.add_finding(row, finding).await;
                ListPage { objects: Vec::new(), end: None }
            }
        }
    }

    /// Moves the position past a finished page, and resolves the findings that the page no longer has. If S3 refused to
    /// list the last page, nobody knows what the page has.
    async fn end_page(
        &self,
        page: FinishedPage,
        row: &mut SweepRow,
        first_position: Option<&ListPosition>,
        is_refused: bool,
    ) {
        if !(is_refused && page.end.is_none()) {
            self.resolve(row, &page, first_position).await;
        }
        row.advance(page.end, page.totals);
    }

    /// Adds a finding about the bucket, if it is news.
    async fn add_finding(&self, row: &mut SweepRow, finding: Decision<Outcome>) {
        let Some(tracker) = self.tracker else { return row.totals.add_finding(finding) };
        for finding in tracker.news(vec![finding]).await {
            row.totals.add_finding(finding);
        }
    }

    /// Resolves the findings about objects of a finished page that were not found again.
    async fn resolve(&self, row: &mut SweepRow, page: &FinishedPage, first_position: Option<&ListPosition>) {
        let Some(tracker) = self.tracker else { return };
        let start = row.position.as_ref();
        let range = PageRange { start, end: page.end.as_ref(), is_first: start == first_position };
        let postponed: Vec<String> = row.slow_objects().into_iter().map(|object| object.key).collect();
        let resolved = tracker.resolve_page(range, &postponed).await;
        row.totals.add_resolved(resolved);
    }

    /// Gives up objects that too many invocations have worked on. Returns a decision about each object that takes
    /// longer than an invocation for the first time.
    fn end_run(&self, row: &mut SweepRow) -> Vec<Decision<Outcome>> {
        let decision = |object: ListedObject, reason: &str| {
            let id = ObjectId { bucket: self.request.bucket.clone(), key: object.key, version: object.version };
            about_object(Decision::new(Outcome::Unknown, reason), &id)
        };
        let unfinished = row.end_run();
        for object in unfinished.given_up {
            row.totals
                .add_object(CheckedObject::undecided(decision(object, "its check did not end in many invocations")));
        }
        row.settle();
        let reason = "its check takes longer than an invocation: the sweep continues it, and checks the other objects";
        unfinished.new.into_iter().map(|object| decision(object, reason)).collect()
    }

    async fn list_page(&self, after: Option<ListPosition>) -> Result<Listing, ServiceError> {
        let SweepRequest { bucket, versions, .. } = self.request;
        let mut pause = FIRST_PAUSE;
        let mut attempts = 1;
        loop {
            match list::page(self.s3, bucket, *versions, after.as_ref()).await {
                Ok(page) => return Ok(Listing::Page(page)),
                Err(error) if error.is_refused() => {
                    let reason = format!("S3 does not list the bucket: {}", in_words(&error));
                    let finding = Decision::new(not_shown(&error).outcome, reason);
                    return Ok(Listing::Refused(finding.about("bucket", bucket).about("problem", "not-listed")));
                }
                Err(error) if attempts == ATTEMPTS => return Err(error),
                Err(_) => sleep(pause).await,
            }
            pause *= 2;
            attempts += 1;
        }
    }

    /// Checks an object, and returns the result with the number of the check.
    async fn check_object(
        &self,
        checker: &ObjectChecker<'_, L>,
        number: u64,
        object: ListedObject,
        is_sample: bool,
        shared: &Shared,
    ) -> (u64, CheckedObject) {
        let is_older_version = !object.is_latest;
        let request = CheckRequest {
            object: ObjectId { bucket: self.request.bucket.clone(), key: object.key, version: object.version },
            is_latest: object.is_latest,
            reading: shared.proofs.borrow_mut().begin(is_sample),
        };
        let result = self.check_until_answered(checker, &request, &shared.limit).await;
        if request.reading == Reading::Read {
            shared.proofs.borrow_mut().end(result.was_read, result.failed_read.as_ref());
        }
        let decision = explained(result.decision, self.writers, self.right_key).await;
        let result = CheckedObject { decision, ..result };
        let result = match self.tracker {
            Some(tracker) => tracker.object(result, is_older_version).await,
            None => CheckedObject { decision: with_id(result.decision), ..result },
        };
        self.log(&result);
        (number, result)
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
    async fn check_until_answered(
        &self,
        checker: &ObjectChecker<'_, L>,
        request: &CheckRequest,
        limit: &RefCell<ConcurrencyLimit>,
    ) -> CheckedObject {
        let not_checked = |outcome, reason: String| {
            CheckedObject::undecided(about_object(Decision::new(outcome, reason), &request.object))
        };
        let mut pause = FIRST_PAUSE;
        let mut attempts = 1;
        loop {
            let error = match checker.check(request).await {
                Ok(result) => {
                    limit.borrow_mut().raise();
                    return result;
                }
                Err(error) => error,
            };
            if error.is_throttled_by_service() {
                limit.borrow_mut().cut(Instant::now().into_std());
            }
            match error {
                CheckError::RepairedElsewhere if self.time_left() > TIME_FOR_A_PAGE => {
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                // The invocation that repairs the object decides about it, so there is no finding here.
                CheckError::RepairedElsewhere => return not_checked(Outcome::Ignored, chain(&error)),
                _ if attempts == ATTEMPTS => {
                    let reason = format!("it could not be checked in {ATTEMPTS} attempts: {}", chain(&error));
                    return not_checked(Outcome::Unknown, reason);
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
