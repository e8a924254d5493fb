//! The decisions of one invocation, and how many of them were logged and stored.

use std::time::Duration;

use sekisho_domain::decision::Decision;
use sekisho_lambda::telemetry;
use sekisho_ledger::Store;
use time::OffsetDateTime;

use crate::error::Error;
use crate::outcome::Outcome;
use crate::run::Run;
use crate::world::World;

/// The function's name in the keys of the ledger's decision rows.
const FUNCTION: &str = "event-relay";

/// What was decided, and the error that ended the work, if any. The decisions count even if the rest must be retried.
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
    last_stored_at: Option<OffsetDateTime>,
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

    /// The number of decisions that the ledger does not have yet.
    pub(crate) fn unstored(&self) -> usize {
        self.decisions.len() - self.stored
    }

    pub(crate) fn into_decisions(self) -> Vec<Decision<Outcome>> {
        self.decisions
    }

    /// Logs, counts and stores the decisions since the last call.
    pub(crate) async fn record<W: World>(&mut self, run: &Run<'_, W>) -> Result<(), Error> {
        let request_id = &run.invocation.request_id;
        let unlogged = self.decisions.get(self.logged..).unwrap_or_default();
        telemetry::decisions(&run.invocation.function, unlogged);
        self.logged = self.decisions.len();
        let unstored = self.decisions.get(self.stored..).unwrap_or_default();
        if !unstored.is_empty() {
            // The millisecond is part of a row's key, so two rows of one invocation need different ones.
            let at = self.last_stored_at.map_or(run.now(), |last| run.now().max(last + Duration::from_millis(1)));
            run.world.ledger().record(FUNCTION, request_id, at, unstored).await?;
            self.last_stored_at = Some(at);
            self.stored = self.decisions.len();
        }
        Ok(())
    }
}
