//! What a use case returns: the answer, and everything that is recorded and sent after it.

use sekisho_domain::decision::Decision;
use sekisho_domain::notice::Notice;
use sekisho_ledger::Key;

use crate::answer::Answer;
use crate::error::Error;
use crate::outcome::{self, Outcome};
use crate::principal::Principal;
use crate::row::GrantRow;

/// The result of a use case.
#[derive(Debug)]
pub(crate) struct Report {
    /// The answer to the caller.
    pub(crate) answer: Result<Answer, Error>,
    /// The decisions for the log, the metrics and the ledger.
    pub(crate) decisions: Vec<Decision<Outcome>>,
    /// The notices for the topic.
    pub(crate) notices: Vec<Notice>,
    /// The last write of a grant that was carried out.
    pub(crate) settlement: Option<Settlement>,
}

/// The last write of a grant. Before this write, the row records only the intent; afterwards, it records that the grant
/// was carried out.
#[derive(Debug)]
pub(crate) struct Settlement {
    pub(crate) key: Key,
    pub(crate) row: GrantRow,
    /// The revision that the intent's write returned.
    pub(crate) revision: u64,
}

impl Report {
    /// A report with a text for a person and with one decision.
    pub(crate) fn text(text: String, decision: Decision<Outcome>) -> Self {
        Self { answer: Ok(Answer::Text(text)), decisions: vec![decision], notices: Vec::new(), settlement: None }
    }

    /// A report with an error and with the decision about this error.
    pub(crate) fn failed(error: Error, principal: Option<&Principal>) -> Self {
        let decisions = vec![outcome::of_error(&error, principal)];
        Self { answer: Err(error), decisions, notices: Vec::new(), settlement: None }
    }
}
