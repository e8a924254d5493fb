//! The ledger row of a bucket's sweep, with the sweep's position and its findings so far.

use std::collections::BTreeMap;
use std::time::Duration;

use sekisho_domain::decision::Decision;
use sekisho_domain::timestamp::{epoch_millis, seconds};
use sekisho_ledger::{Key, Lease};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::finding::FindingState;
use crate::object::{ListPosition, ListedObject};
use crate::outcome::Outcome;
use crate::proofs::Proofs;
use crate::repair::RequestCount;
use crate::request::{SweepMode, SweepRequest};
use crate::verdict::Verdict;

/// The most findings that a row and a report contain. The log contains all findings.
pub(crate) const NAMED_FINDINGS: usize = 100;
/// The most resolved findings that a row and a notice name.
const NAMED_RESOLVED: usize = 20;
/// The time after a checkpoint in which only the invocation that saved the checkpoint may continue the sweep.
pub(crate) const TERM: Duration = Duration::from_mins(1);
/// The most objects whose checks take long that a row remembers.
const MOST_SLOW: usize = 100;
/// How many invocations work on one object before the sweep gives it up. Twelve invocations copy about 8 TB.
const MOST_RUNS: u32 = 12;
/// How long the row of a finished or abandoned sweep is kept.
const RETENTION: Duration = Duration::from_hours(24 * 30);

/// The row of one bucket and mode.
#[expect(clippy::struct_excessive_bools, reason = "each is an attribute of its own in the ledger")]
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SweepRow {
    /// The sweep's id, which is the id of the request that began the sweep.
    pub(crate) sweep: String,
    /// Whether the sweep checks all versions.
    pub(crate) versions: bool,
    /// Whether the sweep changes nothing.
    pub(crate) dry_run: bool,
    /// When the sweep began, such as `2026-11-21T23:45:00Z`.
    pub(crate) started: String,
    /// The end of a page of the listing. Every object of this page and of all earlier pages is checked.
    pub(crate) position: Option<ListPosition>,
    /// Whether the last page of the listing is checked.
    #[serde(default)]
    pub(crate) listed: bool,
    /// The objects up to `position` that are not checked yet, because their checks take long.
    #[serde(default)]
    slow: Vec<SlowObject>,
    /// The results of the reads.
    #[serde(default)]
    pub(crate) proofs: Proofs,
    /// Whether the sweep is done.
    pub(crate) complete: bool,
    /// What the sweep has found up to `position`.
    pub(crate) totals: SweepTotals,
    /// The id of the request that continues the sweep.
    pub(crate) holder: String,
    /// The end of the time in which only the holder may continue the sweep.
    until: Lease,
    /// When DynamoDB may delete the row, in seconds since 1970.
    expires: u64,
}

/// What an invocation does about the sweep of a bucket.
#[derive(Debug)]
pub(crate) enum Start {
    /// Begin or continue the sweep that this row describes.
    Row(Box<SweepRow>),
    /// Do nothing, for this reason.
    Refused(String),
}

impl SweepRow {
    /// The key of the row. Each mode has a row of its own, so that the daily sweep does not replace another sweep of the
    /// bucket.
    pub(crate) fn key(bucket: &str, mode: SweepMode) -> Key {
        Key::state(format!("sweep#{bucket}{}", mode.suffix()))
    }

    pub(crate) fn mode(&self) -> SweepMode {
        SweepMode { versions: self.versions, dry_run: self.dry_run }
    }

    /// Decides what a request does with the row of its mode. A request that names a sweep continues only that sweep. Any
    /// other request continues an unfinished sweep of the same mode, or begins a new sweep.
    pub(crate) fn start(row: Option<Self>, request: &SweepRequest, request_id: &str, now: OffsetDateTime) -> Start {
        let unfinished = row.filter(|row| !row.complete);
        if let Some(row) = &unfinished
            && row.is_held(now)
            && row.holder != request_id
        {
            let found = row.totals.summary();
            return Start::Refused(format!(
                "another sweep of the bucket has been running since {}: {found}",
                row.started
            ));
        }
        let is_same = |row: &Self| match &request.sweep {
            Some(sweep) => row.sweep == *sweep,
            None => row.mode() == request.mode(),
        };
        match unfinished.filter(is_same) {
            Some(row) => Start::Row(Box::new(Self { holder: request_id.to_owned(), ..row })),
            None if request.sweep.is_some() => {
                Start::Refused("the sweep to continue is done, or another sweep has replaced it".to_owned())
            }
            None => Start::Row(Box::new(Self::new(request, request_id, now))),
        }
    }

    fn new(request: &SweepRequest, request_id: &str, now: OffsetDateTime) -> Self {
        Self {
            sweep: request_id.to_owned(),
            versions: request.versions,
            dry_run: request.dry_run,
            started: seconds(now),
            position: None,
            listed: false,
            slow: Vec::new(),
            proofs: Proofs::default(),
            complete: false,
            totals: SweepTotals::default(),
            holder: request_id.to_owned(),
            until: Lease::FREE,
            expires: 0,
        }
    }

    /// Moves the position past a finished page. `end` is `None` for the last page.
    pub(crate) fn advance(&mut self, end: Option<ListPosition>, totals: SweepTotals) {
        self.listed = end.is_none();
        self.position = end;
        self.totals.add_page(totals);
        self.settle();
    }

    /// Whether an invocation holds the sweep.
    pub(crate) fn is_held(&self, now: OffsetDateTime) -> bool {
        self.until.is_held(now, TERM)
    }

    /// Whether an object has left its page because its check takes long.
    pub(crate) fn has_slow(&self) -> bool {
        !self.slow.is_empty()
    }

    /// The objects whose checks an earlier invocation did not finish.
    pub(crate) fn slow_objects(&self) -> Vec<ListedObject> {
        self.slow.iter().map(|slow| slow.object.clone()).collect()
    }

    /// Remembers an object whose check takes long. Returns `false` if the row already has the allowed number.
    pub(crate) fn set_aside(&mut self, object: &ListedObject) -> bool {
        let has_room = self.slow.len() < MOST_SLOW;
        if has_room {
            self.slow.push(SlowObject { object: object.clone(), runs: 0 });
        }
        has_room
    }

    /// Adds the result of a check that took long.
    pub(crate) fn end_slow(&mut self, object: &ListedObject, checked: CheckedObject) {
        self.slow.retain(|slow| slow.object != *object);
        self.totals.add_object(checked);
        self.settle();
    }

    /// Counts this invocation for the checks that it did not finish. Returns the objects that no earlier invocation has
    /// worked on, and those that too many invocations have worked on; the latter leave the row.
    pub(crate) fn end_run(&mut self) -> UnfinishedChecks {
        let mut unfinished = UnfinishedChecks::default();
        for slow in &mut self.slow {
            slow.runs += 1;
            match slow.runs {
                1 => unfinished.new.push(slow.object.clone()),
                MOST_RUNS => unfinished.given_up.push(slow.object.clone()),
                _ => {}
            }
        }
        self.slow.retain(|slow| slow.runs < MOST_RUNS);
        unfinished
    }

    pub(crate) fn settle(&mut self) {
        self.complete = self.listed && self.slow.is_empty();
    }

    /// Sets the time after `now` in which only the holder may continue the sweep.
    pub(crate) fn lease(&mut self, now: OffsetDateTime, term: Duration) {
        self.until = Lease::new(now, term);
        self.expires = epoch_millis(now + RETENTION) / 1000;
    }
}

/// An object whose check takes long.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct SlowObject {
    object: ListedObject,
    /// How many invocations have worked on the object and did not finish.
    runs: u32,
}

/// The objects whose checks an invocation did not finish.
#[derive(Debug, Default)]
pub(crate) struct UnfinishedChecks {
    /// Objects that no earlier invocation has worked on.
    pub(crate) new: Vec<ListedObject>,
    /// Objects that too many invocations have worked on.
    pub(crate) given_up: Vec<ListedObject>,
}

/// What a sweep, or one page of it, has found.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct SweepTotals {
    /// The number of checked objects or versions.
    pub(crate) objects: u64,
    /// The number of objects of which a byte was read.
    pub(crate) proven: u64,
    /// The number of objects with each outcome.
    pub(crate) outcomes: BTreeMap<Outcome, u64>,
    /// The requests that list objects, read their metadata, and read a byte of them.
    pub(crate) checks: RequestCount,
    /// In a dry run, the requests that the repairs would need.
    pub(crate) repairs: RequestCount,
    /// The number of findings about objects in each state.
    #[serde(default)]
    pub(crate) states: BTreeMap<FindingState, u64>,
    /// The number of findings of which people do not know and that are not in `findings`.
    pub(crate) more_findings: u64,
    /// The first findings of which people do not know.
    findings: Vec<NamedFinding>,
    /// The number of resolved findings that are not in `resolved`.
    #[serde(default)]
    pub(crate) more_resolved: u64,
    /// The first findings that were not found again.
    #[serde(default)]
    resolved: Vec<NamedFinding>,
}

/// A finding in the row of a sweep.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct NamedFinding {
    outcome: Outcome,
    reason: String,
    concerns: BTreeMap<String, String>,
}

impl NamedFinding {
    fn of(finding: Decision<Outcome>) -> Self {
        let concerns = finding.concerns.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { outcome: finding.outcome, reason: finding.reason, concerns }
    }

    fn decision(&self) -> Decision<Outcome> {
        CONCERNS.iter().fold(Decision::new(self.outcome, self.reason.clone()), |decision, name| {
            decision.about_some(name, self.concerns.get(*name).cloned())
        })
    }
}

/// The names of everything that a finding can concern.
const CONCERNS: [&str; 13] = [
    "bucket",
    "object",
    "version",
    "encryption",
    "right_key",
    "writer",
    "pipeline",
    "execution",
    "action",
    "likely_cause",
    "problem",
    "finding",
    "state",
];

/// The result of checking one object of a sweep.
#[derive(Debug)]
pub(crate) struct CheckedObject {
    pub(crate) decision: Decision<Outcome>,
    /// The requests of the repair that a dry run did not make.
    pub(crate) planned_requests: Option<RequestCount>,
    /// Whether a byte of the object was read.
    pub(crate) was_read: bool,
    /// The verdict of a read that failed because of the key or the reader.
    pub(crate) failed_read: Option<Verdict>,
    /// The finding's state. `None` if the object has no finding, and in a dry run.
    pub(crate) tracked: Option<Tracked>,
}

/// A finding that was compared with the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tracked {
    pub(crate) state: FindingState,
    /// Whether people do not know of the finding.
    pub(crate) is_news: bool,
}

impl Tracked {
    /// A finding without a row, because the ledger already has many.
    pub(crate) const UNTRACKED: Self = Self { state: FindingState::Open, is_news: false };
}

impl CheckedObject {
    /// An object whose check did not end.
    pub(crate) fn undecided(decision: Decision<Outcome>) -> Self {
        Self { decision, planned_requests: None, was_read: false, failed_read: None, tracked: None }
    }
}

impl SweepTotals {
    pub(crate) fn add_object(&mut self, object: CheckedObject) {
        self.objects += 1;
        self.proven += u64::from(object.was_read);
        self.checks.reads += 1 + u64::from(object.was_read);
        *self.outcomes.entry(object.decision.outcome).or_default() += 1;
        if let Some(requests) = object.planned_requests {
            self.repairs += requests;
        }
        if !object.decision.outcome.is_finding() {
            return;
        }
        if let Some(Tracked { state, .. }) = object.tracked {
            *self.states.entry(state).or_default() += 1;
        }
        if object.tracked.is_none_or(|tracked| tracked.is_news) {
            self.add_finding(object.decision);
        }
    }

    pub(crate) fn add_finding(&mut self, finding: Decision<Outcome>) {
        if self.findings.len() < NAMED_FINDINGS {
            self.findings.push(NamedFinding::of(finding));
        } else {
            self.more_findings += 1;
        }
    }

    /// Adds findings that were not found again.
    pub(crate) fn add_resolved(&mut self, findings: Vec<Decision<Outcome>>) {
        for finding in findings {
            *self.states.entry(FindingState::Resolved).or_default() += 1;
            if self.resolved.len() < NAMED_RESOLVED {
                self.resolved.push(NamedFinding::of(finding));
            } else {
                self.more_resolved += 1;
            }
        }
    }

    /// Adds the totals of a page.
    pub(crate) fn add_page(&mut self, page: Self) {
        self.objects += page.objects;
        self.proven += page.proven;
        for (outcome, count) in page.outcomes {
            *self.outcomes.entry(outcome).or_default() += count;
        }
        self.checks += page.checks;
        self.repairs += page.repairs;
        for (state, count) in page.states {
            *self.states.entry(state).or_default() += count;
        }
        self.more_findings += page.more_findings;
        let room = NAMED_FINDINGS - self.findings.len();
        self.more_findings += u64::try_from(page.findings.len().saturating_sub(room)).unwrap_or(u64::MAX);
        self.findings.extend(page.findings.into_iter().take(room));
    }

    /// The first findings.
    pub(crate) fn findings(&self) -> Vec<Decision<Outcome>> {
        self.findings.iter().map(NamedFinding::decision).collect()
    }

    /// The first findings that were not found again.
    pub(crate) fn resolved(&self) -> Vec<Decision<Outcome>> {
        self.resolved.iter().map(NamedFinding::decision).collect()
    }

    /// The summary, such as `10 objects: 8 compliant, 2 repaired`.
    pub(crate) fn summary(&self) -> String {
        summary(self.objects, &self.outcomes)
    }
}

/// The summary, such as `10 objects: 8 compliant, 2 repaired`.
pub(crate) fn summary(objects: u64, outcomes: &BTreeMap<Outcome, u64>) -> String {
    let counts: Vec<String> = outcomes.iter().map(|(outcome, count)| format!("{count} {}", outcome.name())).collect();
    match objects {
        0 => "no objects".to_owned(),
        1 => format!("1 object: {}", counts.join(", ")),
        many => format!("{many} objects: {}", counts.join(", ")),
    }
}
