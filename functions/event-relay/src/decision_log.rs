//! The decisions of one invocation, and the number of decisions that were logged and stored.

use std::time::Duration;

use sekisho_domain::decision::Decision;
use time::OffsetDateTime;

use crate::error::Error;
use crate::outcome::Outcome;

/// The decisions that were made, and the error that ended the work, if there was an error. The decisions are valid even
/// if a retry must do the rest of the work.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) log: DecisionLog,
    pub(crate) failure: Option<Error>,
}

impl Report {
    pub(crate) fn with(mut self, decision: Decision<Outcome>) -> Self {
        self.log.push(decision);
        self
    }

    pub(crate) fn failed(self, error: impl Into<Error>) -> Self {
        Self { failure: Some(error.into()), ..self }
    }
}

impl From<Decision<Outcome>> for Report {
    fn from(decision: Decision<Outcome>) -> Self {
        Self::default().with(decision)
    }
}

impl From<Error> for Report {
    fn from(error: Error) -> Self {
        Self::default().failed(error)
    }
}

/// The decisions of one invocation.
#[derive(Debug, Default)]
pub(crate) struct DecisionLog {
    decisions: Vec<Decision<Outcome>>,
    logged: usize,
    stored: usize,
    last_row_time: Option<OffsetDateTime>,
}

impl DecisionLog {
    pub(crate) fn push(&mut self, decision: Decision<Outcome>) {
        self.decisions.push(decision);
    }

    pub(crate) fn extend(&mut self, decisions: impl IntoIterator<Item = Decision<Outcome>>) {
        self.decisions.extend(decisions);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.decisions.is_empty()
    }

    pub(crate) fn into_decisions(self) -> Vec<Decision<Outcome>> {
        self.decisions
    }

    /// Marks all decisions as logged, and returns the decisions that were not logged before.
    pub(crate) fn take_unlogged(&mut self) -> &[Decision<Outcome>] {
        let logged = std::mem::replace(&mut self.logged, self.decisions.len());
        self.decisions.get(logged..).unwrap_or_default()
    }

    /// The decisions that the ledger does not have yet.
    pub(crate) fn unstored(&self) -> &[Decision<Outcome>] {
        self.decisions.get(self.stored..).unwrap_or_default()
    }

    /// The time in the key of the next decision row. The key contains the time in milliseconds, so the times of two
    /// rows of one invocation must differ by at least one millisecond.
    pub(crate) fn next_row_time(&self, now: OffsetDateTime) -> OffsetDateTime {
        self.last_row_time.map_or(now, |last| now.max(last + Duration::from_millis(1)))
    }

    /// Marks all decisions as stored. `row_time` is the time in the key of the row that was just written.
    pub(crate) fn set_stored(&mut self, row_time: OffsetDateTime) {
        self.stored = self.decisions.len();
        self.last_row_time = Some(row_time);
    }
}
