//! The search for an execution whose start got no answer.

use std::time::Duration;

use sekisho_domain::timestamp::epoch_millis;

use crate::order::{Agreement, OrderRow};
use crate::routing::Pins;
use crate::world::{ExecutionPage, ExecutionStatus, ListedExecution};

/// The largest difference that is expected between the function's clock and CodePipeline's.
const CLOCK_TOLERANCE: Duration = Duration::from_mins(2);

/// The result of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// The order's execution has this id.
    Execution(String),
    /// This execution may be the order's. CodePipeline lists a revision only after its source action has run.
    Undecided(String),
    /// No execution is the order's.
    Nothing,
}

/// A search in the list of executions, page by page.
#[derive(Debug)]
pub(crate) struct Search<'a> {
    row: &'a OrderRow,
    /// What the routes say about the start. `None` if no route leads to the pipeline any more.
    pins: Option<&'a Pins>,
    undecided: Option<String>,
}

impl<'a> Search<'a> {
    pub(crate) fn new(row: &'a OrderRow, pins: Option<&'a Pins>) -> Self {
        Self { row, pins, undecided: None }
    }

    /// Adds a page. Returns the result if older pages cannot change it.
    pub(crate) fn add(&mut self, page: &ExecutionPage) -> Option<Found> {
        for execution in &page.executions {
            // Every execution that the row knows began before the order's first attempt.
            if self.row.executions.contains(&execution.id) || !is_recent(self.row, execution) {
                return Some(self.result());
            }
            if !execution.is_by_call {
                continue;
            }
            match self.row.runs_at(execution) {
                Agreement::Whole => return Some(Found::Execution(execution.id.clone())),
                Agreement::Partial if execution.status == ExecutionStatus::Running && !self.is_decided(execution) => {
                    self.undecided.get_or_insert_with(|| execution.id.clone());
                }
                Agreement::Partial | Agreement::None => {}
            }
        }
        page.next.is_none().then(|| self.result())
    }

    fn result(&mut self) -> Found {
        self.undecided.take().map_or(Found::Nothing, Found::Undecided)
    }

    /// Whether a source action that the order pins has run at another revision, in a pipeline with one source. Another
    /// source action of the pipeline may finish earlier.
    fn is_decided(&self, execution: &ListedExecution) -> bool {
        let is_pinned =
            |action: &str| self.pins.is_none_or(|pins| pins.actions.iter().any(|pinned| pinned.as_str() == action));
        self.row.sources.pins.is_empty() && execution.revisions.iter().any(|listed| is_pinned(&listed.action))
    }
}

/// Whether the execution may have started after the first attempt. An execution without a time may have.
fn is_recent(row: &OrderRow, execution: &ListedExecution) -> bool {
    let earliest = u128::from(row.since).saturating_sub(CLOCK_TOLERANCE.as_millis());
    execution.started.is_none_or(|started| u128::from(epoch_millis(started)) >= earliest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{NOW, change, row};
    use crate::world::ListedRevision;

    fn execution(id: &str, seconds: i64, revision: Option<u64>) -> ListedExecution {
        ListedExecution {
            id: id.to_owned(),
            status: ExecutionStatus::Running,
            started: Some(NOW + time::Duration::seconds(seconds)),
            updated: None,
            revisions: revision.map(|sequence| source("Source", sequence)).into_iter().collect(),
            is_by_call: true,
        }
    }

    fn source(action: &str, sequence: u64) -> ListedRevision {
        ListedRevision { action: action.to_owned(), revision: change(sequence).revision.to_string() }
    }

    fn pins() -> Pins {
        Pins { actions: ["Source".parse().unwrap()].into(), ..Pins::default() }
    }

    fn search(executions: Vec<ListedExecution>) -> Found {
        let row = OrderRow { since: epoch_millis(NOW), executions: vec!["earlier".to_owned()], ..row(5) };
        Search::new(&row, Some(&pins())).add(&ExecutionPage { executions, next: None }).unwrap()
    }

    #[test]
    fn the_orders_execution_is_found_by_its_commit_and_its_time() {
        let found = |id: &str| Found::Execution(id.to_owned());
        let undecided = |id: &str| Found::Undecided(id.to_owned());
        let other_trigger = ListedExecution { is_by_call: false, ..execution("webhook", 1, Some(5)) };
        let without_time = ListedExecution { started: None, ..execution("timeless", 1, Some(5)) };
        let templates_first =
            ListedExecution { revisions: vec![source("Templates", 9)], ..execution("two-sources", 1, None) };
        let ended = ListedExecution { status: ExecutionStatus::Superseded, ..execution("ended", 1, None) };
        let cases = [
            (vec![execution("other", 9, Some(6)), execution("ours", 2, Some(5))], found("ours")),
            (vec![execution("clock-behind", -119, Some(5))], found("clock-behind")),
            (vec![execution("long-before", -121, Some(5))], Found::Nothing),
            (vec![execution("earlier", 1, Some(5))], Found::Nothing),
            (vec![other_trigger], Found::Nothing),
            (vec![without_time], found("timeless")),
            (vec![execution("new", 3, None), execution("ours", 2, Some(5))], found("ours")),
            (vec![execution("new", 3, None), execution("other", 2, Some(6))], undecided("new")),
            (vec![ended], Found::Nothing),
            (vec![templates_first], undecided("two-sources")),
            (vec![execution("earlier", 2, Some(6)), execution("before", 1, Some(5))], Found::Nothing),
            (vec![], Found::Nothing),
        ];
        for (executions, expected) in cases {
            assert_eq!(search(executions.clone()), expected, "{executions:?}");
        }
    }

    #[test]
    fn a_search_goes_on_until_an_execution_is_too_old() {
        let row = OrderRow { since: epoch_millis(NOW), ..row(5) };
        let page = |executions| ExecutionPage { executions, next: Some("more".to_owned()) };
        let pins = pins();
        let mut search = Search::new(&row, Some(&pins));
        assert_eq!(search.add(&page(vec![execution("new", 3, None), execution("a", 2, Some(6))])), None);
        assert_eq!(search.add(&page(vec![])), None);
        let last = search.add(&page(vec![execution("b", 1, Some(6)), execution("old", -200, Some(5))]));
        assert_eq!(last, Some(Found::Undecided("new".to_owned())));
    }
}
