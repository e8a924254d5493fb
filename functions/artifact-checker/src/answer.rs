//! What an invocation returns.

use sekisho_domain::decision::Decision;
use serde::Serialize;

use crate::outcome::Outcome;
use crate::sweep_report::SweepReport;

/// What an invocation returns: a widget, or what was done.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Response {
    /// The HTML of a widget, or its documentation.
    Widget(String),
    /// The decisions and the reports.
    Answer(Answer),
}

/// The decisions of one invocation.
#[derive(Debug, Default, Serialize)]
pub struct Answer {
    /// The decisions in the order in which they were made. The decisions of a sweep are its summary and its first
    /// findings.
    pub decisions: Vec<Decision<Outcome>>,
    /// One report for each sweep that made progress.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sweeps: Vec<SweepReport>,
}

impl Answer {
    /// An answer without a sweep.
    pub(crate) fn of(decisions: Vec<Decision<Outcome>>) -> Self {
        Self { decisions, sweeps: Vec::new() }
    }

    /// Adds the decisions and the reports of `next` to this answer.
    pub(crate) fn followed_by(mut self, next: Self) -> Self {
        self.decisions.extend(next.decisions);
        self.sweeps.extend(next.sweeps);
        self
    }
}
