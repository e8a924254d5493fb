//! Checks the objects of a bucket or of a range of it, many at the same time, until the listing or the invocation's
//! time ends.
//!
//! The ledger records the position up to which every object is checked, at the end of a page. The invocation that
//! continues the walk begins at that position. The walk may therefore check some objects twice, but it leaves out no
//! object.

use std::mem;
use std::time::Duration;

use futures_util::future::OptionFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{Stream, StreamExt};
use sekisho_domain::decision::Decision;
use sekisho_lambda::ServiceError;
use sekisho_lambda::failure::chain;
use sekisho_ledger::{Error as LedgerError, Store};
use tokio::time::{Instant, interval, sleep, timeout};
use tracing::warn;

use crate::aws::s3::{S3, list};
use crate::checker::check::about_object;
use crate::checker::range_state::{divide, share};
use crate::checker::report;
use crate::checker::running_checks::{RunningChecks, SLOW};
use crate::checker::sweep_check::{ATTEMPTS, FIRST_PAUSE, SweepChecker, TIME_FOR_CHECKS};
use crate::checker::sweep_state::TakenSweep;
use crate::checker::tracker::{Others, PageRange, Tracker};
use crate::error::SweepError;
use crate::object::{ListPage, ListPosition, ListedObject, ObjectId, REPORTS};
use crate::open_pages::{FinishedPage, OpenPages};
use crate::outcome::Outcome;
use crate::request::SweepRequest;
use crate::run::Run;
use crate::sweep_row::SweepRow;
use crate::sweep_totals::CheckedObject;
use crate::verdict::{in_words, not_shown};

/// The interval between saves of the position. After a crash, the work since the last save is repeated. A range is
/// divided at most as often.
const CHECKPOINT: Duration = Duration::from_secs(5);
/// If less time than this is left, the walk stops, so that its findings can be recorded.
const TIME_TO_RECORD: Duration = Duration::from_secs(15);
/// How long the walk waits for the repairs that have begun if another sweep or invocation has taken over.
const TIME_FOR_REPAIRS: Duration = Duration::from_secs(2);
/// How often it looks whether they have ended.
const PAUSE: Duration = Duration::from_millis(20);
/// Listing a page takes as much time as checking this many objects.
const OBJECTS_PER_LISTING: usize = 20;

/// The check of a bucket's objects.
pub(crate) struct Walk<'a, L> {
    pub(crate) run: &'a Run<'a, L>,
    /// S3 without the SDK's retries, because the walk repeats failed calls itself and must see each throttled call.
    pub(crate) s3: &'a S3,
    pub(crate) request: &'a SweepRequest,
    pub(crate) checker: SweepChecker<'a, L>,
    /// Compares the findings with the ledger; `None` in a dry run.
    pub(crate) tracker: Option<&'a Tracker<'a, L>>,
}

/// The listing of a walk.
#[expect(clippy::option_option, reason = "the first page has no position before it")]
struct Listing {
    /// The inner option is the position before the next page, and `None` for the first page. The outer option is `None`
    /// while a page is being listed, and after the last page.
    next: Option<Option<ListPosition>>,
    /// The position at the beginning of the walk.
    first: Option<ListPosition>,
    /// Whether S3 refuses to list the bucket.
    is_refused: bool,
    /// Why a page could not be listed. The pages before it are checked to their end, because the next attempt begins after
    /// them.
    failure: Option<ServiceError>,
    /// How much was listed, as the number of objects whose check takes as much time.
    work: usize,
}

/// The result of listing a page.
enum Listed {
    Page(ListPage),
    /// S3 refuses to list the bucket.
    Refused(Decision<Outcome>),
}

impl<L: Store> Walk<'_, L> {
    /// Checks pages until the listing or the time ends, or until the rest of a sweep is left to its ranges. Returns the
    /// objects that take longer than this invocation. The caller saves the row.
    pub(crate) async fn run(&self, sweep: &mut TakenSweep) -> Result<Vec<Decision<Outcome>>, SweepError> {
        let first = sweep.row.position.clone();
        let walked = self.check_pages(sweep).await;
        // If another invocation holds the row now, the next part of the list is its part.
        if !walked.as_ref().is_err_and(SweepError::is_changed) {
            self.before_save(&mut sweep.row).await;
        }
        let delayed = walked?;
        // The row counts the invocations that work on slow objects, so these objects cannot continue a sweep for ever.
        let is_stuck = sweep.row.position == first && sweep.row.alone(self.run.settings.alone) != Some(0);
        if !sweep.row.complete && is_stuck && !sweep.row.has_slow() {
            return Err(SweepError::NoProgress(self.request.bucket.clone()));
        }
        sweep.row.end_attempt();
        Ok(delayed)
    }

    async fn check_pages(&self, sweep: &mut TakenSweep) -> Result<Vec<Decision<Outcome>>, SweepError> {
        let mut pages = OpenPages::default();
        let mut running = RunningChecks::default();
        let begin = |object: ListedObject| self.checker.check(running.begin_slow(&object), object);
        let mut in_flight: FuturesUnordered<_> = sweep.row.slow_objects().into_iter().map(begin).collect();
        let mut walk = Listing::of(&sweep.row);
        let (mut listing, mut is_listing) = (OptionFuture::from(None), false);
        let (mut division, mut is_dividing) = (OptionFuture::from(None), false);
        let (mut last_save, mut last_division) = (Instant::now(), Instant::now());
        let mut tick = interval(CHECKPOINT);
        loop {
            let time_left = self.run.time_left();
            if time_left < TIME_FOR_CHECKS {
                pages.leave_waiting();
                (listing, is_listing) = (None.into(), false);
            }
            while running.in_pages() < self.checker.most_checks()
                && let Some(waiting) = pages.next_object()
            {
                in_flight.push(self.checker.check(running.begin(&waiting), waiting.object));
            }
            if time_left < TIME_TO_RECORD {
                break;
            }
            let leaves_rest = sweep.row.alone(self.run.settings.alone).is_some_and(|alone| walk.work >= alone);
            // While the range is being divided, nothing is listed, because the page may have keys of the new range.
            let may_list = !is_listing && !is_dividing && !leaves_rest && time_left >= TIME_FOR_CHECKS;
            if may_list
                && last_division.elapsed() >= CHECKPOINT
                && let Some(after) = walk.divisible_after(&sweep.row)
            {
                division = Some(Box::pin(self.divide(after, sweep.row.clone()))).into();
                is_dividing = true;
            } else if may_list
                && pages.has_room()
                && let Some(after) = walk.next.take()
            {
                listing = Some(Box::pin(self.list_page(after))).into();
                is_listing = true;
            }
            let is_idle = running.in_pages() == 0 && !is_listing && !is_dividing;
            if is_idle && (in_flight.is_empty() || leaves_rest || walk.failure.is_some()) {
                break;
            }
            tokio::select! {
                // In this order, no branch keeps another one waiting, and a test repeats a run exactly.
                biased;
                _ = tick.tick() => running.set_slow_aside(SLOW, &mut pages, &sweep.row),
                Some(listed) = &mut listing, if is_listing => {
                    (listing, is_listing) = (None.into(), false);
                    self.add_page(listed, &mut walk, &mut pages, &mut sweep.row).await;
                }
                Some(divided) = &mut division, if is_dividing => {
                    (division, is_dividing, last_division) = (None.into(), false, Instant::now());
                    sweep.row.end = divided?;
                }
                Some((number, object)) = in_flight.next() => running.end(number, object, &mut pages, &mut sweep.row),
            }
            if let Err(error) = self.end_pages(&mut pages, sweep, &walk, &mut last_save).await {
                self.end_repairs(in_flight).await;
                return Err(error);
            }
        }
        // A division that has begun must not end halfway, with a new range of which nobody knows.
        if is_dividing && let Some(divided) = division.await {
            sweep.row.end = divided?;
        }
        self.end_walk(running, pages, &mut sweep.row, walk).await
    }

    /// Ends the pages up to the last check that has begun. The row remembers the objects whose checks have not ended, and
    /// the next invocation checks them again.
    async fn end_walk(
        &self,
        mut running: RunningChecks,
        mut pages: OpenPages,
        row: &mut SweepRow,
        walk: Listing,
    ) -> Result<Vec<Decision<Outcome>>, SweepError> {
        let delayed = if walk.failure.is_none() { self.end_run(row).await } else { Vec::new() };
        running.set_slow_aside(Duration::ZERO, &mut pages, row);
        self.end_finished(&mut pages, row, &walk).await;
        if let Some(tracker) = self.tracker {
            row.totals.add_resolved(tracker.resolve_objects(running.ended_late()).await);
        }
        walk.failure.map_or(Ok(delayed), |error| Err(error.into()))
    }

    /// Lets the repairs that have begun come to their end, because their claims keep other sweeps from the objects.
    async fn end_repairs(&self, mut in_flight: impl Stream + Unpin) {
        self.checker.checker.stop();
        let end = Instant::now() + TIME_FOR_REPAIRS;
        while self.checker.checker.is_repairing() && Instant::now() < end {
            let _ = timeout(PAUSE, in_flight.next()).await;
        }
    }

    /// Ends the pages of which every object is checked, and saves the row from time to time.
    async fn end_pages(
        &self,
        pages: &mut OpenPages,
        sweep: &mut TakenSweep,
        walk: &Listing,
        last_save: &mut Instant,
    ) -> Result<(), SweepError> {
        self.end_finished(pages, &mut sweep.row, walk).await;
        if last_save.elapsed() >= CHECKPOINT && !sweep.row.complete {
            self.before_save(&mut sweep.row).await;
            sweep.checkpoint(self.run.ledger, self.run.now()).await?;
            self.make_room(&mut sweep.row).await?;
            *last_save = Instant::now();
        }
        Ok(())
    }

    async fn end_finished(&self, pages: &mut OpenPages, row: &mut SweepRow, walk: &Listing) {
        while let Some(page) = pages.pop_finished() {
            self.end_page(page, row, walk).await;
        }
    }

    /// Leaves rates to another sweep that has begun. Fails if it has replaced this one.
    async fn make_room(&self, row: &mut SweepRow) -> Result<(), LedgerError> {
        match share(self.run, self.request).await {
            Ok(share) => {
                self.checker.checker.set_rates(share.rates);
                if share.leaves_rest {
                    row.leave_rest();
                }
            }
            Err(error @ LedgerError::Changed(_)) => return Err(error),
            Err(error) => warn!(error = chain(&error), "it is looked up later whether another sweep has begun"),
        }
        Ok(())
    }

    /// Adds to the row what the reads have shown, and the findings since the last checkpoint to the list of all findings.
    /// Sends the events about them, because no later invocation checks the finished pages again. A dry run does neither.
    async fn before_save(&self, row: &mut SweepRow) {
        if let Some(tracker) = self.tracker {
            tracker.flush().await;
        }
        row.proofs = self.checker.proofs.borrow().clone();
        self.checker.checker.share_budget(self.run, self.request, &row.sweep).await;
        if self.request.dry_run {
            row.totals.unwritten.clear();
        } else {
            report::write(self.run, &self.request.bucket, row).await;
        }
    }

    /// Divides what is left of a range after this key, if there are too few ranges for all invocations. Returns the end
    /// of the range.
    async fn divide(&self, after: String, row: SweepRow) -> Result<Option<String>, SweepError> {
        let request = self.request.continuing(&row.sweep, row.range);
        Ok(divide(self.run, self.s3, &request, &after, row.end.as_deref()).await?.or(row.end))
    }

    /// Adds the objects of a page that have to be checked.
    async fn add_page(
        &self,
        listed: Result<Listed, ServiceError>,
        walk: &mut Listing,
        pages: &mut OpenPages,
        row: &mut SweepRow,
    ) {
        let page = match listed {
            Err(error) => {
                walk.failure = Some(error);
                return;
            }
            Ok(Listed::Page(page)) => page,
            Ok(Listed::Refused(finding)) => {
                walk.is_refused = true;
                self.add_finding(row, finding).await;
                ListPage { objects: Vec::new(), end: None }
            }
        };
        let mut page = page.within(row.end.as_deref());
        walk.next = page.end.clone().map(Some);
        if self.request.bucket == self.run.settings.bucket {
            page.objects.retain(|object| !object.key.starts_with(REPORTS));
        }
        // An incremental sweep leaves out what was not written since its time, unless it has a finding. The first object
        // of the page shows that the right key still works.
        walk.work += OBJECTS_PER_LISTING;
        walk.work += pages.add(page, |object| {
            row.since.is_none_or(|since| object.written.is_none_or(|written| written >= since))
                || self.tracker.is_some_and(|tracker| tracker.has_finding(&object.key))
        });
    }

    /// Moves the position past a finished page, and resolves the findings that the page no longer has. If S3 refused to
    /// list the last page, nobody knows what the page has.
    async fn end_page(&self, mut page: FinishedPage, row: &mut SweepRow, walk: &Listing) {
        row.add_slow(mem::take(&mut page.slow));
        if walk.is_refused && page.end.is_none() {
            row.listing_refused = true;
        } else {
            self.resolve(row, &page, walk.first.as_ref()).await;
        }
        row.advance(page.end, page.totals);
    }

    /// Adds a finding about the bucket, if it is news.
    async fn add_finding(&self, row: &mut SweepRow, finding: Decision<Outcome>) {
        let Some(tracker) = self.tracker else { return row.totals.add_finding(finding) };
        let Others { all, news } = tracker.others(vec![finding]).await;
        row.totals.unwritten.extend(all);
        for finding in news {
            row.totals.add_finding(finding);
        }
    }

    /// Resolves the findings about objects of a finished page that were not found again.
    async fn resolve(&self, row: &mut SweepRow, page: &FinishedPage, first_position: Option<&ListPosition>) {
        let Some(tracker) = self.tracker else { return };
        let start = row.position.as_ref();
        let end_of_range = row.end.as_ref().map(|key| ListPosition { key: key.clone(), version: None });
        let end = page.end.as_ref().or(end_of_range.as_ref());
        let range = PageRange { start, end, is_first: start == first_position };
        let postponed: Vec<String> = row.slow_objects().into_iter().map(|object| object.key).collect();
        let resolved = tracker.resolve_page(range, &postponed).await;
        row.totals.add_resolved(resolved);
    }

    /// Gives up objects that too many invocations have worked on. Returns a decision about each object that takes
    /// longer than an invocation for the first time.
    async fn end_run(&self, row: &mut SweepRow) -> Vec<Decision<Outcome>> {
        let decision = |object: ListedObject, reason: &str| {
            let id = ObjectId { bucket: self.request.bucket.clone(), key: object.key, version: object.version };
            about_object(Decision::new(Outcome::Unknown, reason), &id)
        };
        let unfinished = row.end_run();
        for object in unfinished.given_up {
            let is_older_version = !object.is_latest;
            let given_up = CheckedObject::undecided(decision(object, "its check did not end in many invocations"));
            row.totals.add_object(self.checker.compared(given_up, is_older_version).await);
        }
        row.settle();
        let reason = "its check takes longer than an invocation: the sweep continues it, and checks the other objects";
        unfinished.new.into_iter().map(|object| decision(object, reason)).collect()
    }

    async fn list_page(&self, after: Option<ListPosition>) -> Result<Listed, ServiceError> {
        let SweepRequest { bucket, versions, .. } = self.request;
        let mut pause = FIRST_PAUSE;
        let mut attempts = 1;
        loop {
            match list::page(self.s3, bucket, *versions, after.as_ref()).await {
                Ok(page) => return Ok(Listed::Page(page)),
                // A range that cannot be listed is set aside after some attempts.
                Err(error) if error.is_refused() && self.request.range.is_none() => {
                    let reason = format!("S3 does not list the bucket: {}", in_words(&error));
                    let finding = Decision::new(not_shown(&error).outcome, reason);
                    return Ok(Listed::Refused(finding.about("bucket", bucket).about("problem", "not-listed")));
                }
                Err(error) if attempts == ATTEMPTS || error.is_refused() => return Err(error),
                Err(_) => sleep(pause).await,
            }
            pause *= 2;
            attempts += 1;
        }
    }
}

impl Listing {
    fn of(row: &SweepRow) -> Self {
        let next = (!row.listed).then(|| row.position.clone());
        Self { next, first: row.position.clone(), is_refused: false, failure: None, work: 0 }
    }

    /// The key up to which a range is listed. `None` if the whole range is listed, or if nothing is.
    fn divisible_after(&self, row: &SweepRow) -> Option<String> {
        let position = self.next.as_ref()?.as_ref()?;
        row.range.map(|_| position.key.clone())
    }
}
