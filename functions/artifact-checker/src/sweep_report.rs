//! The report of a sweep, as an invocation returns and logs it.

use std::collections::BTreeMap;

use sekisho_domain::decision::Decision;
use serde::Serialize;

use crate::batch::dollars;
use crate::finding::FindingState;
use crate::outcome::Outcome;
use crate::repair::{RepairRule, RequestCount, Step};
use crate::report::folder;
use crate::request::SweepRequest;
use crate::settings::Settings;
use crate::sweep_row::{SweepRow, is_false};
use crate::sweep_totals::{is_zero, summary};

/// What a sweep has found so far.
#[expect(clippy::struct_excessive_bools, reason = "each is a field of the answer")]
#[derive(Debug, Clone, Serialize)]
pub struct SweepReport {
    /// The sweep's id, which is the id of the request that began the sweep.
    pub sweep: String,
    /// The swept bucket.
    pub bucket: String,
    /// Whether the sweep checks all versions.
    pub versions: bool,
    /// Whether the sweep changes nothing.
    pub dry_run: bool,
    /// When the sweep began, such as `2026-11-21T23:45:00Z`.
    pub started: String,
    /// Whether the sweep is incremental: it checks the objects that were written since the last sweep, and those with
    /// findings, and does not see a key that was changed in place.
    pub incremental: bool,
    /// If the report is about one range of the sweep, its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<u32>,
    /// Whether the sweep is done. If the sweep is not done, another invocation continues it.
    pub complete: bool,
    /// Whether S3 refused to list the bucket. If so, the sweep is incomplete.
    #[serde(skip_serializing_if = "is_false")]
    pub listing_refused: bool,
    /// The number of checked objects or versions.
    pub objects: u64,
    /// The number of objects that an incremental sweep did not check.
    pub unchanged: u64,
    /// The number of ranges that could not be checked. If there are any, the sweep is incomplete.
    pub unchecked_ranges: u64,
    /// The number of objects of which a byte was read.
    pub proven: u64,
    /// The number of objects with each outcome.
    pub outcomes: BTreeMap<Outcome, u64>,
    /// The number of findings about objects in each state: `new`, `open`, `resolved` and `accepted`.
    pub findings: BTreeMap<&'static str, u64>,
    /// The number of findings that people do not know of and that are not in the answer's `decisions`.
    pub more_findings: u64,
    /// The folder with the list of all findings; `None` if the list is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub list: Option<String>,
    /// The number of findings that are not in the list, because S3 did not take a part of it. The log has them.
    #[serde(skip_serializing_if = "is_zero")]
    pub not_listed: u64,
    /// The number of objects whose repair is left to S3 Batch Operations.
    #[serde(skip_serializing_if = "is_zero")]
    pub left: u64,
    /// Whether no repair has these objects, because another repair was open during the sweep.
    #[serde(skip_serializing_if = "is_false")]
    pub is_left_to_nobody: bool,
    /// The number of open findings about the bucket, its pipelines and older versions.
    #[serde(skip)]
    pub(crate) other_open: usize,
    /// Set only for a dry run: the requests of the same sweep with repairs, and their cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimate: Option<Estimate>,
    /// What the repairs of the sweep cost; `None` for a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repairs: Option<RepairCost>,
}

/// The estimated cost of a sweep's repairs, without those that are left to S3 Batch Operations.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct RepairCost {
    /// How many objects the sweep repairs at most; `None` if it repairs nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_most: Option<u64>,
    /// The cost of so many repairs in US dollars. A copy of an object of more than 5 GiB costs more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_most_usd: Option<f64>,
    /// The cost of the repairs so far in US dollars.
    pub usd: f64,
}

impl RepairCost {
    #[expect(clippy::cast_precision_loss, reason = "the result is an estimate")]
    fn of(repairs: RequestCount, at_most: Option<u64>, rule: &RepairRule) -> Self {
        let step = if *rule == RepairRule::Copy { Step::Copy } else { Step::Update };
        let of_one = step.requests(0).usd();
        Self { at_most, at_most_usd: at_most.map(|most| most as f64 * of_one), usd: repairs.usd() }
    }
}

/// The requests that a sweep with repairs needs, and their cost.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Estimate {
    /// The number of PUT, COPY, POST and LIST requests.
    pub writes_and_lists: u64,
    /// The number of GET and HEAD requests.
    pub reads: u64,
    /// The number of requests that S3 sends to KMS for the repairs, which is an estimate.
    pub kms: u64,
    /// The cost of these requests in US dollars.
    pub usd: f64,
}

impl Estimate {
    fn of(mut requests: RequestCount, repairs: RequestCount) -> Self {
        requests += repairs;
        let RequestCount { writes_and_lists, reads, kms } = requests;
        Self { writes_and_lists, reads, kms, usd: requests.usd() }
    }
}

impl SweepReport {
    /// `rule` says how the sweep may repair objects.
    pub(crate) fn new(request: &SweepRequest, row: &SweepRow, settings: &Settings, rule: &RepairRule) -> Self {
        let totals = &row.totals;
        let folder = || format!("s3://{}/{}", settings.bucket, folder(&request.bucket, row));
        let at_most = settings.most_repairs(request, rule);
        Self {
            sweep: row.sweep.clone(),
            bucket: request.bucket.clone(),
            versions: row.versions,
            dry_run: row.dry_run,
            started: row.started.clone(),
            incremental: row.since.is_some(),
            range: row.range,
            complete: row.complete,
            listing_refused: row.listing_refused,
            objects: totals.objects,
            unchanged: totals.unchanged,
            unchecked_ranges: row.ranges.unchecked,
            proven: totals.proven,
            outcomes: totals.outcomes.clone(),
            findings: totals.states.iter().map(|(state, count)| (state.name(), *count)).collect(),
            more_findings: totals.more_findings,
            list: (totals.report_parts > 0).then(folder),
            not_listed: totals.not_listed,
            left: totals.left,
            is_left_to_nobody: false,
            other_open: 0,
            estimate: request.dry_run.then(|| Estimate::of(totals.checks, totals.repairs)),
            repairs: (!request.dry_run).then(|| RepairCost::of(totals.repairs, at_most, rule)),
        }
    }

    /// The decision about the whole sweep. `has_news` says whether the sweep has findings of which people do not know.
    pub(crate) fn summary(&self, has_news: bool) -> Decision<Outcome> {
        let is_open = self.findings.contains_key(FindingState::Open.name());
        let outcome = if has_news || is_open {
            Outcome::Reported
        } else if self.is_unsure() {
            Outcome::Unknown
        } else if self.other_open > 0 {
            Outcome::Reported
        } else {
            Outcome::Compliant
        };
        let what = match (self.range, self.unchecked_ranges, self.dry_run) {
            (Some(range), ..) => format!("range {range} swept"),
            _ if self.listing_refused => "incomplete, because S3 refused to list the bucket".to_owned(),
            (None, 0, false) if self.incremental => "swept incrementally".to_owned(),
            (None, 0, false) => "swept".to_owned(),
            (None, 0, true) => "dry run, nothing changed".to_owned(),
            (None, unchecked, _) => format!("incomplete, because {unchecked} ranges could not be checked"),
        };
        let state = if self.complete { what } else { format!("{what} in part; another invocation continues") };
        let unchanged = match self.unchanged {
            0 => String::new(),
            count => format!("; {count} not written since the last sweep, and not checked"),
        };
        let left = match self.left {
            0 => String::new(),
            count if self.is_left_to_nobody => {
                let next =
                    if self.versions { "repeat this sweep after it" } else { "the next daily sweep looks at them" };
                format!("; {count} are not repaired, because another repair was open during the sweep; {next}")
            }
            count => format!("; the repair of {count} is left to S3 Batch Operations"),
        };
        let cost = match (self.estimate, self.repairs) {
            (Some(Estimate { usd, .. }), _) => format!("; with repairs, it would cost about {}", dollars(usd)),
            (None, Some(RepairCost { usd, .. })) if usd > 0.0 => format!("; the repairs cost about {}", dollars(usd)),
            _ => String::new(),
        };
        let states: Vec<String> = self.findings.iter().map(|(state, count)| format!("{count} {state}")).collect();
        let findings = if states.is_empty() { String::new() } else { format!("; findings: {}", states.join(", ")) };
        let others = match self.other_open {
            0 => String::new(),
            count => format!("; other open findings: {count}"),
        };
        let counts = summary(self.objects, &self.outcomes);
        Decision::new(outcome, format!("{state}: {counts}{unchanged}{findings}{others}{left}{cost}"))
            .about("bucket", &self.bucket)
            .about("sweep", &self.sweep)
            .about_some("list", self.list.as_deref())
    }

    /// Whether some objects are not decided.
    fn is_unsure(&self) -> bool {
        self.listing_refused || self.unchecked_ranges > 0 || self.outcomes.contains_key(&Outcome::Ignored)
    }

    /// The number of objects by the name of the outcome.
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        self.outcomes.iter().map(|(outcome, count)| (outcome.name().to_owned(), *count)).collect()
    }
}
