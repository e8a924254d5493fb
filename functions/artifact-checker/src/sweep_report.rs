//! The report of a sweep, as an invocation returns and logs it.

use std::collections::BTreeMap;

use sekisho_domain::decision::Decision;
use serde::Serialize;

use crate::finding::FindingState;
use crate::outcome::Outcome;
use crate::repair::RequestCount;
use crate::request::SweepRequest;
use crate::sweep_row::{SweepRow, summary};

/// What a sweep has found so far.
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
    /// Whether the sweep is done. If the sweep is not done, another invocation continues it.
    pub complete: bool,
    /// The number of checked objects or versions.
    pub objects: u64,
    /// The number of objects of which a byte was read.
    pub proven: u64,
    /// The number of objects with each outcome.
    pub outcomes: BTreeMap<Outcome, u64>,
    /// The number of findings about objects in each state: `new`, `open`, `resolved` and `accepted`.
    pub findings: BTreeMap<&'static str, u64>,
    /// The number of findings that people do not know of and that are not in the answer's `decisions`.
    pub more_findings: u64,
    /// Set only for a dry run: the requests of the same sweep with repairs, and their cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimate: Option<Estimate>,
}

/// The requests to S3 that a sweep with repairs needs, and their cost.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Estimate {
    /// The number of PUT, COPY, POST and LIST requests.
    pub writes_and_lists: u64,
    /// The number of GET and HEAD requests.
    pub reads: u64,
    /// The cost of these requests in US dollars, without KMS.
    pub usd: f64,
}

impl Estimate {
    fn of(mut requests: RequestCount, repairs: RequestCount) -> Self {
        requests += repairs;
        Self { writes_and_lists: requests.writes_and_lists, reads: requests.reads, usd: requests.usd() }
    }
}

impl SweepReport {
    pub(crate) fn new(request: &SweepRequest, row: &SweepRow) -> Self {
        let totals = &row.totals;
        Self {
            sweep: row.sweep.clone(),
            bucket: request.bucket.clone(),
            versions: row.versions,
            dry_run: row.dry_run,
            started: row.started.clone(),
            complete: row.complete,
            objects: totals.objects,
            proven: totals.proven,
            outcomes: totals.outcomes.clone(),
            findings: totals.states.iter().map(|(state, count)| (state.name(), *count)).collect(),
            more_findings: totals.more_findings,
            estimate: request.dry_run.then(|| Estimate::of(totals.checks, totals.repairs)),
        }
    }

    /// The decision about the whole sweep. `has_news` says whether the sweep has findings of which people do not know.
    pub(crate) fn summary(&self, has_news: bool) -> Decision<Outcome> {
        let is_open = self.findings.contains_key(FindingState::Open.name());
        let outcome = if has_news || is_open { Outcome::Reported } else { Outcome::Compliant };
        let state = match (self.complete, self.dry_run) {
            (true, false) => "swept",
            (true, true) => "dry run, nothing changed",
            (false, _) => "swept in part; another invocation continues",
        };
        let states: Vec<String> = self.findings.iter().map(|(state, count)| format!("{count} {state}")).collect();
        let findings = if states.is_empty() { String::new() } else { format!("; findings: {}", states.join(", ")) };
        Decision::new(outcome, format!("{state}: {}{findings}", summary(self.objects, &self.outcomes)))
            .about("bucket", &self.bucket)
            .about("sweep", &self.sweep)
    }

    /// The number of objects by the name of the outcome.
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        self.outcomes.iter().map(|(outcome, count)| (outcome.name().to_owned(), *count)).collect()
    }
}
