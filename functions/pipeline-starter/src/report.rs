//! The result of an invocation, parts of which may have failed.

use sekisho_domain::decision::Decision;

use crate::error::Error;
use crate::outcome::Outcome;

/// The decisions of an invocation, and the first failure. Decisions are recorded even if the invocation fails.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) decisions: Vec<Decision<Outcome>>,
    pub(crate) failure: Option<Error>,
}

impl From<Decision<Outcome>> for Report {
    fn from(decision: Decision<Outcome>) -> Self {
        Self { decisions: vec![decision], failure: None }
    }
}

impl FromIterator<Result<Decision<Outcome>, Error>> for Report {
    fn from_iter<I: IntoIterator<Item = Result<Decision<Outcome>, Error>>>(results: I) -> Self {
        let mut report = Self::default();
        for result in results {
            match result {
                Ok(decision) => report.decisions.push(decision),
                Err(error) => report.failure = report.failure.or(Some(error)),
            }
        }
        report
    }
}
