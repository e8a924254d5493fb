//! Follows up on all orders that are not finished: starts orders that wait, takes up starts that a crash left behind,
//! looks for executions whose end was missed, and sends reports that no bus has accepted yet.

use futures_util::StreamExt as _;
use futures_util::stream;
use sekisho_domain::decision::Decision;
use sekisho_domain::route::PipelineName;
use sekisho_lambda::failure::chain;
use sekisho_ledger::{Error as LedgerError, Row, Store};

use crate::end::{End, still_runs};
use crate::error::Error;
use crate::order::{self, OrderRow};
use crate::outcome::{Outcome, about_execution, about_order};
use crate::plan::Due;
use crate::request::EndedExecution;
use crate::results::Results;
use crate::run::Run;
use crate::starter::attempt::Attempt;
use crate::starter::{execution, send};
use crate::world::{ExecutionStatus, World};

/// The most orders that are followed up at the same time, because CodePipeline throttles some 20 calls at once.
const MAX_CONCURRENT: usize = 8;

/// Handles the event of the schedule. An order whose follow-up fails does not fail the invocation, because the schedule
/// repeats the follow-up after a minute.
pub(crate) async fn follow_up<W: World>(run: &Run<'_, W>) -> Results {
    let rows = match run.ledger().each::<OrderRow>(order::PARTITION, "").await {
        Ok(rows) => rows,
        Err(error) => return Results { failure: Some(error.into()), ..Results::default() },
    };
    let followed = stream::iter(rows).map(|row| follow_up_row(run, row)).buffered(MAX_CONCURRENT);
    let followed: Vec<Vec<Result<Decision<Outcome>, Error>>> = followed.collect().await;
    let mut decisions = Vec::new();
    for result in followed.into_iter().flatten() {
        match result {
            Ok(decision) => decisions.push(decision),
            Err(error) => tracing::warn!(error = chain(&error), "follow-up failed"),
        }
    }
    if decisions.is_empty() {
        return Results { is_idle: true, ..nothing_due().into() };
    }
    Results { decisions, ..Results::default() }
}

/// The decision about a follow-up in which nothing happened.
pub(crate) fn nothing_due() -> Decision<Outcome> {
    Decision::new(Outcome::Ignored, "no order of this account needs anything")
}

async fn follow_up_row<W: World>(
    run: &Run<'_, W>,
    row: Result<Row<OrderRow>, LedgerError>,
) -> Vec<Result<Decision<Outcome>, Error>> {
    let row = match row {
        Ok(row) => row,
        Err(error) => return vec![Ok(Decision::new(Outcome::Failed, chain(&error)))],
    };
    let Some((pipeline, due)) = due(run, &row) else { return Vec::new() };
    if due != Due::Nothing && !run.has_time_after(std::time::Duration::ZERO) {
        return Vec::new();
    }
    carry_out(run, &pipeline, row, due).await.unwrap_or_else(|error| vec![Err(error)])
}

/// The row's pipeline, and what is due for its order. Returns `None` if the row's key is not the name of a pipeline.
pub(crate) fn due<W: World>(run: &Run<'_, W>, row: &Row<OrderRow>) -> Option<(PipelineName, Due)> {
    let pipeline: PipelineName = row.sk.parse().ok()?;
    let is_routed = run.routes.pins(&row.state.change, &pipeline).is_some();
    let due = Due::new(&row.state, is_routed, run.now());
    Some((pipeline, due))
}

async fn carry_out<W: World>(
    run: &Run<'_, W>,
    pipeline: &PipelineName,
    row: Row<OrderRow>,
    due: Due,
) -> Result<Vec<Result<Decision<Outcome>, Error>>, Error> {
    let key = order::key(pipeline);
    let Row { state, revision, .. } = row;
    Ok(match due {
        Due::Nothing => Vec::new(),
        Due::Start => {
            let pins = run.routes.pins(&state.change, pipeline);
            let claimed = state.claimed(run.now());
            match Attempt::claim(run, pipeline, pins.as_ref(), claimed, Some(revision)).await? {
                Some(attempt) => {
                    // The schedule repeats the attempt, and other orders need the time.
                    let attempted = attempt.start(run, 0).await?;
                    if attempted.is_unchanged { Vec::new() } else { vec![Ok(attempted.decision)] }
                }
                None => Vec::new(),
            }
        }
        Due::Close => {
            let closed = state.closed(&run.place(pipeline), run.now());
            match send::write_and_send(run, &key, &closed, Some(revision)).await? {
                Some(_) => {
                    let decision = Decision::new(Outcome::Filtered, order::NO_LONGER_ROUTED);
                    vec![Ok(about_order(&closed, pipeline, decision))]
                }
                None => Vec::new(),
            }
        }
        Due::Check(execution) => check(run, pipeline, &state, revision, &execution).await?,
        Due::Send => {
            run.write(&key, &send::send(run, &state).await, Some(revision)).await?;
            Vec::new()
        }
    })
}

/// Looks whether an execution has ended, because CodePipeline's events are best effort.
async fn check<W: World>(
    run: &Run<'_, W>,
    pipeline: &PipelineName,
    row: &OrderRow,
    revision: u64,
    execution: &str,
) -> Result<Vec<Result<Decision<Outcome>, Error>>, Error> {
    let status = run.world.execution_status(pipeline, execution).await?;
    if status == Some(ExecutionStatus::Running) {
        let checked = send::send_if_due(run, &still_runs(row, run.now())).await;
        run.write(&order::key(pipeline), &checked, Some(revision)).await?;
        return Ok(Vec::new());
    }
    let ended = EndedExecution::found(pipeline, execution, status);
    let results = execution::conclude(run, pipeline, &ended, End::of(status)).await;
    Ok(results.into_iter().map(|result| result.map(|decision| about_execution(&ended, decision))).collect())
}
