//! The results of an invocation, parts of which may have failed.

use sekisho_domain::decision::Decision;

use crate::error::Error;
use crate::outcome::Outcome;

/// The decisions of an invocation, and the first failure. Decisions are recorded even if the invocation fails.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) decisions: Vec<Decision<Outcome>>,
    pub(crate) failure: Option<Error>,
    /// Where the decisions go.
    pub(crate) recording: Recording,
}

/// Where the decisions of an invocation go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Recording {
    /// Into the log, the metrics and the ledger.
    #[default]
    Ledger,
    /// Into the log and the metrics, because the ledger does not answer.
    Metrics,
    /// Only into the log, because nothing has happened. The follow-up runs every minute, so a record or a metric of
    /// every idle one would only cost money.
    LogOnly,
}

impl From<Decision<Outcome>> for Results {
    fn from(decision: Decision<Outcome>) -> Self {
        Self { decisions: vec![decision], ..Self::default() }
    }
}

impl FromIterator<Result<Decision<Outcome>, Error>> for Results {
    fn from_iter<I: IntoIterator<Item = Result<Decision<Outcome>, Error>>>(results: I) -> Self {
        let mut all = Self::default();
        for result in results {
            match result {
                Ok(decision) => all.decisions.push(decision),
                Err(error) => all.failure = all.failure.or(Some(error)),
            }
        }
        all
    }
}
