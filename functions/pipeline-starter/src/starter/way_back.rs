//! What comes before a rollback: executions that still wait are stopped, and a target that still runs what it should go
//! back to starts nothing.

use std::collections::BTreeSet;

use sekisho_domain::route::PipelineName;
use sekisho_lambda::ServiceError;
use sekisho_lambda::failure::chain;

use crate::order::{Agreement, OrderRow};
use crate::pins::is_same;
use crate::run::Run;
use crate::world::{ActionCategory, BegunAction, ExecutionStatus, ListedExecution, Stop, World};

/// The most executions whose actions are read to find out what the target runs.
const MOST_LOOKS: usize = 5;

/// Stops the executions of orders that wait for their turn or for an approval. Returns whether the target still runs
/// the revision to go back to, so that the rollback needs no execution.
///
/// If CodePipeline refuses a call, the rollback goes on without it.
///
/// # Errors
/// A call failed, and the same call may succeed later.
pub(crate) async fn prepare<W: World>(
    run: &Run<'_, W>,
    pipeline: &PipelineName,
    row: &OrderRow,
) -> Result<bool, ServiceError> {
    let Some(page) = passing(run.world.executions(pipeline, None).await)? else { return Ok(false) };
    let mut stopped = BTreeSet::new();
    for execution in page.executions.iter().filter(|execution| execution.status == ExecutionStatus::Running) {
        if row.executions.contains(&execution.id) && stop_waiting(run, pipeline, execution).await? {
            stopped.insert(execution.id.as_str());
        }
    }
    let is_good = match row.sources.good.last() {
        Some(set) if !row.sources.pins.is_empty() => is_same(set, &row.sources.pins),
        _ => row.good.as_ref() == Some(&row.change.revision),
    };
    Ok(row.way_back.is_none() && is_good && still_runs(run, pipeline, row, &page.executions, &stopped).await?)
}

/// Stops an execution if no action works on it at the moment. Returns whether it was stopped.
async fn stop_waiting<W: World>(
    run: &Run<'_, W>,
    pipeline: &PipelineName,
    execution: &ListedExecution,
) -> Result<bool, ServiceError> {
    let Some(actions) = passing(run.world.begun_actions(pipeline, &execution.id).await)? else { return Ok(false) };
    let mut in_progress = actions.iter().filter(|action| action.is_in_progress).peekable();
    let how = if in_progress.peek().is_none() { Stop::BeforeNextAction } else { Stop::AbandonApproval };
    if in_progress.any(|action| action.category != ActionCategory::Approval) {
        return Ok(false);
    }
    Ok(passing(run.world.stop(pipeline, &execution.id, how).await)?.is_some())
}

/// Whether the newest execution that has begun a deploy action is a successful one at the revisions to go back to. If
/// that is not certain, the answer is no.
async fn still_runs<W: World>(
    run: &Run<'_, W>,
    pipeline: &PipelineName,
    row: &OrderRow,
    newest_first: &[ListedExecution],
    stopped: &BTreeSet<&str>,
) -> Result<bool, ServiceError> {
    // The list lags some seconds behind. Without the newest execution of the row, it says nothing.
    let newest_known = row.executions.last();
    if newest_known.is_some_and(|known| newest_first.iter().all(|execution| execution.id != *known)) {
        return Ok(false);
    }
    for execution in newest_first.iter().take(MOST_LOOKS) {
        if row.runs_at(execution) == Agreement::Whole && execution.status == ExecutionStatus::Succeeded {
            return Ok(true);
        }
        let goes_on = execution.status == ExecutionStatus::Running && !stopped.contains(execution.id.as_str());
        if goes_on || has_deployed(run, pipeline, &execution.id).await? {
            return Ok(false);
        }
    }
    Ok(false)
}

/// Whether an execution has begun a deploy action. If CodePipeline refuses to say so, it may have.
///
/// Deploy actions are those of the category Deploy or, in a pipeline without any, those that build or invoke.
///
/// # Errors
/// A call failed, and the same call may succeed later.
pub(crate) async fn has_deployed<W: World>(
    run: &Run<'_, W>,
    pipeline: &PipelineName,
    execution: &str,
) -> Result<bool, ServiceError> {
    let Some(begun) = passing(run.world.begun_actions(pipeline, execution).await)? else { return Ok(true) };
    let has = |category| begun.iter().any(|action: &BegunAction| action.category == category);
    if has(ActionCategory::Deploy) {
        return Ok(true);
    }
    if !has(ActionCategory::Build) && !has(ActionCategory::Invoke) {
        return Ok(false);
    }
    let Some(categories) = passing(run.world.categories(pipeline).await)? else { return Ok(true) };
    Ok(!categories.contains(&ActionCategory::Deploy))
}

/// The answer to a call, or `None` if CodePipeline refuses the call.
fn passing<T>(answer: Result<T, ServiceError>) -> Result<Option<T>, ServiceError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.is_refused() => {
            tracing::warn!(error = chain(&error), "the way back goes on without this call");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
