//! The search for an execution whose start got no answer.

use std::time::Duration;

use sekisho_domain::timestamp::epoch_millis;

use crate::order::OrderRow;
use crate::world::{ExecutionPage, ExecutionStatus, ListedExecution};

/// The largest difference that is expected between the function's clock and CodePipeline's.
const CLOCK_TOLERANCE: Duration = Duration::from_mins(2);

/// The result of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// The order's execution has this id.
    Execution(String),
    /// This execution may be the order's. CodePipeline lists its revision only after its source action has run.
    Undecided(String),
    /// No execution is the order's.
    Nothing,
}

/// A search in the list of executions, page by page.
#[derive(Debug)]
pub(crate) struct Search<'a> {
    row: &'a OrderRow,
    undecided: Option<String>,
}

impl<'a> Search<'a> {
    pub(crate) fn new(row: &'a OrderRow) -> Self {
        Self { row, undecided: None }
    }

    /// Adds a page. Returns the result if older pages cannot change it.
    pub(crate) fn add(&mut self, page: &ExecutionPage) -> Option<Found> {
        let row = self.row;
        for execution in page.executions.iter().filter(|execution| is_candidate(row, execution)) {
            if execution.revisions.iter().any(|revision| revision == self.row.change.commit.as_str()) {
                return Some(Found::Execution(execution.id.clone()));
            }
            if execution.revisions.is_empty() && execution.status == ExecutionStatus::Running {
                self.undecided.get_or_insert_with(|| execution.id.clone());
            }
        }
        let is_last = page.next.is_none() || page.executions.last().is_some_and(|oldest| !is_recent(row, oldest));
        is_last.then(|| self.undecided.take().map_or(Found::Nothing, Found::Undecided))
    }
}

fn is_candidate(row: &OrderRow, execution: &ListedExecution) -> bool {
    execution.is_by_call && is_recent(row, execution) && !row.executions.contains(&execution.id)
}

/// Whether the execution may have started after the first attempt. An execution without a time may have.
fn is_recent(row: &OrderRow, execution: &ListedExecution) -> bool {
    let earliest = u128::from(row.since).saturating_sub(CLOCK_TOLERANCE.as_millis());
    execution.started.is_none_or(|started| u128::from(epoch_millis(started)) >= earliest)
}
