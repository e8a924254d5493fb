//! Compares the findings of a sweep with those that the ledger has, so that people hear of changes only.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::mem;

use sekisho_domain::code::Code;
use sekisho_domain::decision::Decision;
use sekisho_lambda::failure::chain;
use sekisho_lambda::telemetry;
use sekisho_ledger::{Error, Store};
use tracing::{info, warn};

use crate::aws::events;
use crate::batch::incomplete_finding;
use crate::finding::{self, FindingEvent, FindingRow, FindingState, PARTITION, row_key, with_state};
use crate::finding_rows::FindingRows;
use crate::object::ListPosition;
use crate::outcome::Outcome;
use crate::run::Run;
use crate::sweep_row::SweepRow;
use crate::sweep_totals::{CheckedObject, Tracked};

/// This many events are sent in one call.
const EVENTS: usize = 10;

/// The findings of a sweep.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about the sweep")]
pub(crate) struct Tracker<'a, L> {
    run: &'a Run<'a, L>,
    bucket: &'a str,
    /// The id of the sweep.
    sweep: String,
    /// The unfinished sweep that this one replaces.
    replaces: Option<String>,
    /// Whether the sweep checks all versions.
    versions: bool,
    /// Whether this is the first pass over the bucket, whose findings are not new: they may be as old as the bucket.
    is_first_pass: bool,
    /// Whether the sweep leaves out what was not written since the last sweep.
    is_incremental: bool,
    /// Whether the invocation before this one died.
    was_interrupted: bool,
    rows: RefCell<FindingRows>,
    /// The ids of the findings about objects of the bucket that the ledger had at the start, by the object's key.
    by_key: BTreeMap<String, Vec<Code>>,
    /// The findings that this invocation has found.
    seen: RefCell<HashSet<Code>>,
    /// The keys of the objects about which this invocation could not decide.
    undecided: RefCell<HashSet<String>>,
    /// Events that have not been sent.
    outbox: RefCell<Vec<FindingEvent>>,
}

/// Findings about a bucket and its pipelines that were compared with the ledger.
pub(crate) struct Others {
    pub(crate) all: Vec<Decision<Outcome>>,
    /// Those of which people do not know.
    pub(crate) news: Vec<Decision<Outcome>>,
}

/// The part of a listing that a page covers.
pub(crate) struct PageRange<'p> {
    /// The end of the page before.
    pub(crate) start: Option<&'p ListPosition>,
    /// The end of the page; `None` if the page is the last.
    pub(crate) end: Option<&'p ListPosition>,
    /// Whether another invocation has checked the page before.
    pub(crate) is_first: bool,
}

impl<'a, L: Store> Tracker<'a, L> {
    /// Reads the findings of the account.
    pub(crate) async fn load(
        run: &'a Run<'a, L>,
        bucket: &'a str,
        row: &SweepRow,
        is_first_pass: bool,
    ) -> Result<Self, Error> {
        let mut rows = FindingRows::default();
        let mut by_key: BTreeMap<String, Vec<Code>> = BTreeMap::new();
        for (id, row, revision) in read(run).await? {
            if row.bucket.as_deref() == Some(bucket)
                && let Some(key) = &row.key
            {
                by_key.entry(key.clone()).or_default().push(id.clone());
            }
            rows.insert(id, row, revision);
        }
        Ok(Self {
            run,
            bucket,
            sweep: row.sweep.clone(),
            replaces: row.replaces.clone(),
            versions: row.versions,
            is_first_pass,
            is_incremental: row.since.is_some(),
            was_interrupted: row.was_interrupted(),
            rows: RefCell::new(rows),
            by_key,
            seen: RefCell::default(),
            undecided: RefCell::default(),
            outbox: RefCell::default(),
        })
    }

    /// Whether the ledger had a finding about the object with this key.
    pub(crate) fn has_finding(&self, key: &str) -> bool {
        self.by_key.contains_key(key)
    }

    /// Compares the result of a check. Only the finding about an object that nobody knows of is logged as a decision.
    pub(crate) async fn object(&self, checked: CheckedObject, is_older_version: bool) -> CheckedObject {
        let is_undecided = matches!(checked.decision.outcome, Outcome::Unknown | Outcome::Ignored);
        if is_undecided && let Some(key) = checked.decision.concerns.get("object") {
            self.undecided.borrow_mut().insert(key.clone());
        }
        let (decision, tracked) = self.found(checked.decision, is_older_version).await;
        CheckedObject { decision, tracked, ..checked }
    }

    /// Compares a finding. A decision that is not a finding is returned as it is.
    pub(crate) async fn found(
        &self,
        decision: Decision<Outcome>,
        is_older_version: bool,
    ) -> (Decision<Outcome>, Option<Tracked>) {
        let Some(id) = finding::id(&decision) else { return (decision, None) };
        let is_repeated = !self.seen.borrow_mut().insert(id.clone());
        let known = self.rows.borrow().get(&id).cloned();
        let (known, revision) = known.unzip();
        let sweep = self.sweep.as_str();
        let replaced =
            known.as_ref().map(|row| row.found_by.as_str()).filter(|by| self.replaces.as_deref() == Some(by));
        let state = FindingRow::state_for(known.as_ref(), replaced.unwrap_or(sweep));
        let is_about_object = decision.concerns.contains_key("object");
        let new = match &known {
            None if is_about_object && self.rows.borrow().is_full() => return (decision, Some(Tracked::UNTRACKED)),
            Some(row) if row.state != FindingState::Resolved => (row.of_older_version && !is_older_version)
                .then(|| FindingRow { of_older_version: false, ..row.clone() }),
            _ => {
                let row = FindingRow::new(&decision, sweep, self.run.now());
                Some(FindingRow { of_older_version: is_older_version, ..row })
            }
        };
        // In the first pass, a finding may have been there for long.
        let shown = if self.is_first_pass && state == FindingState::New { FindingState::Open } else { state };
        let unresolved = known.filter(|row| row.state != FindingState::Resolved);
        let was_known = unresolved.is_some();
        // The invocation that died may have written the row and not sent the event.
        let may_lack_event = |row: &FindingRow| {
            self.was_interrupted
                && !is_repeated
                && is_about_object
                && row.found_by == sweep
                && state == FindingState::New
        };
        if let Some(row) = unresolved.filter(may_lack_event) {
            Box::pin(self.announce(FindingEvent::new(&id, &row, shown))).await;
        }
        let mut has_row = true;
        if let Some(row) = new {
            match Box::pin(self.write(&id, row, revision)).await {
                Ok(row) if !was_known => Box::pin(self.announce(FindingEvent::new(&id, &row, shown))).await,
                Ok(_) => {}
                Err(Error::Changed(_)) if !was_known => {
                    // Another invocation has found it at the same time, and reports it.
                    let tracked = Tracked { state: FindingState::Open, is_news: false, has_row };
                    return (with_state(decision, &id, FindingState::Open), Some(tracked));
                }
                Err(error) => {
                    has_row = was_known;
                    warn!(error = chain(&error), "a finding may be reported again: its row was not written");
                }
            }
        }
        let tracked = Tracked { state: shown, is_news: state == FindingState::New, has_row };
        (with_state(decision, &id, shown), Some(tracked))
    }

    /// Compares the findings about the bucket and its pipelines.
    pub(crate) async fn others(&self, decisions: Vec<Decision<Outcome>>) -> Others {
        let (mut all, mut news) = (Vec::new(), Vec::new());
        for decision in decisions {
            let (decision, tracked) = self.found(decision, false).await;
            if tracked.is_none_or(|tracked| tracked.is_news) {
                news.push(decision.clone());
            }
            all.push(decision);
        }
        Others { all, news }
    }

    /// Resolves the findings about objects of a finished page that were not found again. `postponed` are the keys of the
    /// objects without which the page has ended. Returns the resolved findings.
    pub(crate) async fn resolve_page(&self, page: PageRange<'_>, postponed: &[String]) -> Vec<Decision<Outcome>> {
        // If a version ends the page before, this page may begin with further versions of the same object.
        let starts_within = |position: &ListPosition| position.version.is_some() && !page.is_first;
        let begins_before = |key: &String| {
            page.start.is_none_or(|start| *key > start.key || (*key == start.key && starts_within(start)))
        };
        let ends_after =
            |key: &String| page.end.is_none_or(|end| *key < end.key || (*key == end.key && end.version.is_none()));
        let from = page.start.map(|start| start.key.clone()).unwrap_or_default();
        let ids: Vec<Code> = self
            .by_key
            .range(from..)
            .take_while(|(key, _)| ends_after(key))
            .filter(|(key, _)| begins_before(key) && !postponed.contains(key))
            .filter(|(key, _)| !self.undecided.borrow().contains(*key))
            .flat_map(|(_, ids)| ids.clone())
            .collect();
        self.resolve(ids).await
    }

    /// Resolves the findings about objects whose checks ended after their pages, if they were not found again. In a sweep
    /// of all versions, an earlier invocation may have found them again in another version.
    pub(crate) async fn resolve_objects(&self, keys: &[String]) -> Vec<Decision<Outcome>> {
        let is_decided = |key: &&String| !self.versions && !self.undecided.borrow().contains(*key);
        let ids = keys.iter().filter(is_decided).filter_map(|key| self.by_key.get(key)).flatten().cloned().collect();
        self.resolve(ids).await
    }

    /// Resolves the findings about the bucket, or about a pipeline whose bucket is unknown, that were not found again.
    pub(crate) async fn resolve_others(&self) -> Vec<Decision<Outcome>> {
        let is_of_bucket = |row: &FindingRow| row.bucket.as_deref().is_none_or(|bucket| bucket == self.bucket);
        let is_other = |row: &FindingRow| row.key.is_none() && is_of_bucket(row);
        // An incremental sweep does not look at what an incomplete repair has left.
        let incomplete = finding::id(&incomplete_finding(self.bucket, String::new())).filter(|_| self.is_incremental);
        let is_due = |(id, row): &(&Code, &FindingRow)| is_other(row) && incomplete.as_ref() != Some(*id);
        let ids = self.rows.borrow().iter().filter(is_due).map(|(id, _)| id.clone()).collect();
        self.resolve(ids).await
    }

    /// The findings of the bucket that are open and of which people are reminded.
    pub(crate) fn open(&self) -> Vec<Decision<Outcome>> {
        open_among(self.rows.borrow().iter(), self.bucket)
    }

    /// The number of open findings that the sweep does not count with its objects. They are about the bucket, its
    /// pipelines or older versions.
    pub(crate) fn other_open(&self) -> usize {
        let is_other = |row: &FindingRow| row.key.is_none() || (row.of_older_version && !self.versions);
        self.rows.borrow().iter().filter(|(_, row)| is_other(row) && is_open(row, self.bucket)).count()
    }

    /// Sends the remaining events.
    pub(crate) async fn flush(&self) {
        let events = mem::take(&mut *self.outbox.borrow_mut());
        events::put(self.run, &events).await;
    }

    async fn resolve(&self, ids: Vec<Code>) -> Vec<Decision<Outcome>> {
        let mut resolved = Vec::new();
        for id in ids {
            let Some((row, revision)) = self.rows.borrow().get(&id).cloned() else { continue };
            let is_over = row.state == FindingState::Resolved || self.seen.borrow().contains(&id);
            if is_over || (row.of_older_version && !self.versions) {
                continue;
            }
            let row = row.changed(FindingState::Resolved, self.run.now());
            match self.write(&id, row, Some(revision)).await {
                Ok(row) => {
                    let decision = with_state(row.decision(), &id, FindingState::Resolved);
                    info!(finding.json = telemetry::json(&decision), "a finding is resolved");
                    self.announce(FindingEvent::new(&id, &row, FindingState::Resolved)).await;
                    resolved.push(decision);
                }
                // Another invocation has found it again.
                Err(Error::Changed(_)) => {}
                Err(error) => warn!(error = chain(&error), "a finding stays open, because its row was not written"),
            }
        }
        resolved
    }

    async fn write(&self, id: &Code, row: FindingRow, revision: Option<u64>) -> Result<FindingRow, Error> {
        let revision = self.run.ledger.write(&row_key(id), &row, revision, self.run.request_id()).await?;
        self.rows.borrow_mut().insert(id.clone(), row.clone(), revision);
        Ok(row)
    }

    async fn announce(&self, event: FindingEvent) {
        let events = {
            let mut outbox = self.outbox.borrow_mut();
            outbox.push(event);
            if outbox.len() < EVENTS {
                return;
            }
            mem::take(&mut *outbox)
        };
        events::put(self.run, &events).await;
    }
}

/// The findings of a bucket that are open and of which people are reminded.
pub(crate) async fn open<L: Store>(run: &Run<'_, L>, bucket: &str) -> Result<Vec<Decision<Outcome>>, Error> {
    let rows = read(run).await?;
    Ok(open_among(rows.iter().map(|(id, row, _)| (id, row)), bucket))
}

/// Reads the rows of all findings, with their revisions.
async fn read<L: Store>(run: &Run<'_, L>) -> Result<Vec<(Code, FindingRow, u64)>, Error> {
    let mut rows = Vec::new();
    for row in run.ledger.each::<FindingRow>(PARTITION, "").await? {
        match row {
            Ok(row) => rows.extend(row.sk.parse().map(|id| (id, row.state, row.revision))),
            Err(error) => warn!(error = chain(&error), "a finding is reported again, because its row cannot be read"),
        }
    }
    Ok(rows)
}

fn open_among<'r>(rows: impl Iterator<Item = (&'r Code, &'r FindingRow)>, bucket: &str) -> Vec<Decision<Outcome>> {
    let open = rows.filter(|(_, row)| is_open(row, bucket) && !row.is_quiet);
    let mut open: Vec<_> = open.map(|(id, row)| with_state(row.decision(), id, FindingState::Open)).collect();
    open.sort_by(|one, other| one.concerns.get("object").cmp(&other.concerns.get("object")));
    open
}

fn is_open(row: &FindingRow, bucket: &str) -> bool {
    row.state == FindingState::Open && row.bucket.as_deref().is_none_or(|of_row| of_row == bucket)
}
