//! Changes that wait for their pipeline, and the plan for them when an execution of the pipeline ends.

use std::collections::BTreeSet;

use sekisho_domain::decision::Decision;
use sekisho_domain::route::{ActionName, PipelineName};
use sekisho_lambda::failure::chain;
use sekisho_ledger::{Error as LedgerError, Key, Row};
use time::OffsetDateTime;

use crate::claim::{self, ClaimRow};
use crate::outcome::Outcome;
use crate::routing::LocalRoutes;

/// The reason not to start a change whose route was removed while the change waited.
pub(crate) const NO_LONGER_ROUTED: &str =
    "the change waited for this pipeline, and no route leads there any more: the change is not started";

/// The plan for one row of the pipeline.
#[derive(Debug)]
pub(crate) enum WaitingPlan {
    /// Report a row that cannot be read. The row does not fail the invocation, because a retry could not read it either
    /// and the plans for the other rows must continue.
    Unreadable(LedgerError),
    /// Stop waiting, because no route leads from the reference to the pipeline any more. If the row kept waiting and
    /// the route came back months later, an old commit would be started.
    Close(Row<ClaimRow>),
    /// Start the row's change, with these source actions pinned.
    Start(Row<ClaimRow>, BTreeSet<ActionName>),
}

/// The plans for the rows of a pipeline. The unreadable rows come first. The waiting rows follow from the oldest to the
/// newest, because the pipeline may not have room for all of them. The plans use the current routes, because a person
/// may have corrected the routes while the changes waited.
pub(crate) fn plan(
    rows: Vec<Result<Row<ClaimRow>, LedgerError>>,
    pipeline: &PipelineName,
    routes: LocalRoutes<'_>,
    now: OffsetDateTime,
) -> Vec<WaitingPlan> {
    let mut plans = Vec::new();
    let mut waiting = Vec::new();
    for row in rows {
        match row {
            Ok(row) if row.state.is_waiting(now) => waiting.push(row),
            Ok(_) => {}
            Err(error) => plans.push(WaitingPlan::Unreadable(error)),
        }
    }
    waiting.sort_by_key(|row| row.state.since);
    plans.extend(waiting.into_iter().map(|row| {
        let reference = claim::reference(&row.sk);
        let actions =
            reference.and_then(|(repository, git_ref)| routes.pipelines(&repository, &git_ref).remove(pipeline));
        match actions {
            Some(actions) => WaitingPlan::Start(row, actions),
            None => WaitingPlan::Close(row),
        }
    }));
    plans
}

impl WaitingPlan {
    /// The decision that the plan leads to if CodePipeline accepts the start.
    pub(crate) fn decision(&self, pipeline: &PipelineName) -> Decision<Outcome> {
        let about_row = |decision: Decision<Outcome>, row: &Row<ClaimRow>| {
            let key = Key { pk: claim::partition(pipeline), sk: row.sk.clone() };
            decision.about("row", key.to_string()).about("commit", row.state.commit.as_str())
        };
        match self {
            Self::Unreadable(error) => Decision::new(Outcome::Failed, chain(error)),
            Self::Close(row) => about_row(Decision::new(Outcome::Filtered, NO_LONGER_ROUTED), row),
            Self::Start(row, _) => about_row(
                Decision::new(Outcome::Started, "the change waits for this pipeline, and would be started"),
                row,
            ),
        }
    }
}
