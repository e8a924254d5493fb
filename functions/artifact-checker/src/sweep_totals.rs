//! What a sweep, a range of it, or one page has found.

use std::collections::BTreeMap;

use sekisho_domain::decision::Decision;
use serde::{Deserialize, Serialize};

use crate::finding::FindingState;
use crate::manifest_lines::ManifestLines;
use crate::outcome::Outcome;
use crate::repair::RequestCount;
use crate::verdict::Verdict;

/// The most findings that a row and a report contain. The log contains all findings.
pub(crate) const NAMED_FINDINGS: usize = 100;
/// The most resolved findings that a row and a notice name.
const NAMED_RESOLVED: usize = 20;
/// The most bytes of the named findings, for each of them on average. A key may have 1,024 bytes, and a row 400 KB.
const BYTES: usize = 1_000;

/// What a sweep, or one page of it, has found.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct SweepTotals {
    /// The number of checked objects or versions.
    pub(crate) objects: u64,
    /// The number of listed objects that an incremental sweep did not check, because they were not written since the
    /// last sweep.
    #[serde(default)]
    pub(crate) unchanged: u64,
    /// The number of objects of which a byte was read.
    pub(crate) proven: u64,
    /// The number of objects with each outcome.
    pub(crate) outcomes: BTreeMap<Outcome, u64>,
    /// The requests that list objects, read their metadata, and read a byte of them.
    pub(crate) checks: RequestCount,
    /// The requests of the repairs. A dry run does not send them.
    pub(crate) repairs: RequestCount,
    /// The number of findings about objects in each state.
    #[serde(default)]
    pub(crate) states: BTreeMap<FindingState, u64>,
    /// The number of findings about objects that have no rows.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) untracked: u64,
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
    /// The number of parts of the list of all findings.
    #[serde(default)]
    pub(crate) report_parts: u32,
    /// The number of findings that are not in the list, because a part could not be written.
    #[serde(default)]
    pub(crate) not_listed: u64,
    /// The findings that the list does not have yet.
    #[serde(skip)]
    pub(crate) unwritten: Vec<Decision<Outcome>>,
    /// The number of objects that are left to S3 Batch Operations.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) left: u64,
    /// The objects that are left to S3 Batch Operations, and that the manifests do not have yet.
    #[serde(skip)]
    pub(crate) unwritten_left: ManifestLines,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub(crate) fn is_zero(count: &u64) -> bool {
    *count == 0
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

    fn bytes(&self) -> usize {
        let concerns = self.concerns.iter().map(|(name, value)| name.len() + value.len());
        self.reason.len() + concerns.sum::<usize>()
    }

    /// Adds the finding to a list with room for `most` findings, or to the number of the others.
    fn add_to(self, list: &mut Vec<Self>, others: &mut u64, most: usize) {
        let bytes = list.iter().map(Self::bytes).sum::<usize>() + self.bytes();
        if list.len() < most && bytes <= most * BYTES {
            list.push(self);
        } else {
            *others += 1;
        }
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
    /// The requests of the repair, which a dry run would make.
    pub(crate) planned_requests: Option<RequestCount>,
    /// Whether a byte of the object was read.
    pub(crate) was_read: bool,
    /// The verdict of a read that failed because of the key or the reader.
    pub(crate) failed_read: Option<Verdict>,
    /// Whether a job of S3 Batch Operations has to enable the S3 Bucket Key. `None` if the object is not left to a job.
    pub(crate) left_to_job: Option<bool>,
    /// The finding's state. `None` if the object has no finding, and in a dry run.
    pub(crate) tracked: Option<Tracked>,
}

/// A finding that was compared with the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tracked {
    pub(crate) state: FindingState,
    /// Whether people do not know of the finding.
    pub(crate) is_news: bool,
    /// Whether the ledger has the finding. An incremental sweep checks only such objects again.
    pub(crate) has_row: bool,
}

impl Tracked {
    /// A finding without a row, because the ledger already has many.
    pub(crate) const UNTRACKED: Self = Self { state: FindingState::Open, is_news: false, has_row: false };

    /// A finding that the manifest of a job has instead of a row.
    pub(crate) const OF_JOB: Self = Self { state: FindingState::Open, is_news: false, has_row: true };
}

impl CheckedObject {
    /// An object whose check did not end.
    pub(crate) fn undecided(decision: Decision<Outcome>) -> Self {
        Self { decision, planned_requests: None, was_read: false, failed_read: None, left_to_job: None, tracked: None }
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
        if let Some(Tracked { state, has_row, .. }) = object.tracked {
            *self.states.entry(state).or_default() += 1;
            self.untracked += u64::from(!has_row);
        }
        let about = |name| object.decision.concerns.get(name).map(String::as_str);
        if let (Some(bucket_key), Some(bucket), Some(key)) = (object.left_to_job, about("bucket"), about("object")) {
            self.unwritten_left.add(bucket_key, bucket, key, about("version"));
        }
        self.unwritten.push(object.decision.clone());
        if object.tracked.is_none_or(|tracked| tracked.is_news) {
            self.add_finding(object.decision);
        }
    }

    pub(crate) fn add_finding(&mut self, finding: Decision<Outcome>) {
        NamedFinding::of(finding).add_to(&mut self.findings, &mut self.more_findings, NAMED_FINDINGS);
    }

    /// Adds findings that were not found again.
    pub(crate) fn add_resolved(&mut self, findings: Vec<Decision<Outcome>>) {
        for finding in findings {
            *self.states.entry(FindingState::Resolved).or_default() += 1;
            NamedFinding::of(finding).add_to(&mut self.resolved, &mut self.more_resolved, NAMED_RESOLVED);
        }
    }

    /// Adds the totals of a page or of a range.
    pub(crate) fn add(&mut self, page: Self) {
        self.objects += page.objects;
        self.unchanged += page.unchanged;
        self.proven += page.proven;
        for (outcome, count) in page.outcomes {
            *self.outcomes.entry(outcome).or_default() += count;
        }
        self.checks += page.checks;
        self.repairs += page.repairs;
        for (state, count) in page.states {
            *self.states.entry(state).or_default() += count;
        }
        self.untracked += page.untracked;
        self.more_findings += page.more_findings;
        for finding in page.findings {
            finding.add_to(&mut self.findings, &mut self.more_findings, NAMED_FINDINGS);
        }
        self.more_resolved += page.more_resolved;
        for finding in page.resolved {
            finding.add_to(&mut self.resolved, &mut self.more_resolved, NAMED_RESOLVED);
        }
        self.report_parts += page.report_parts;
        self.not_listed += page.not_listed;
        self.unwritten.extend(page.unwritten);
        self.left += page.left;
        self.unwritten_left.extend(page.unwritten_left);
    }

    /// Whether there are findings of which people do not know.
    pub(crate) fn has_findings(&self) -> bool {
        !self.findings.is_empty()
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
