//! Follows up on all orders that are not finished: starts orders that wait, takes up starts that a crash left behind,
//! looks for executions whose end was missed, and sends reports that no bus has accepted yet.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use sekisho_domain::decision::Decision;
use sekisho_domain::route::PipelineName;
use sekisho_lambda::failure::chain;
use sekisho_ledger::{Row, Store};
use time::OffsetDateTime;

use crate::end::{End, still_runs};
use crate::error::Error;
use crate::order::{self, OrderRow};
use crate::outcome::{Outcome, about_execution, about_order};
use crate::plan::Due;
use crate::request::EndedExecution;
use crate::results::{Recording, Results};
use crate::run::{Run, Written};
use crate::starter::attempt::{Candidate, MAX_CONCURRENT};
use crate::starter::execution::{self, Decided};
use crate::starter::facts::claims_of;
use crate::starter::{bake, send};
use crate::world::{ExecutionStatus, World};

/// Handles the event of the schedule. An order whose follow-up fails does not fail the invocation, because the schedule
/// repeats the follow-up after a minute.
pub(crate) async fn follow_up<W: World>(run: &Run<'_, W>) -> Results {
    let rows = match run.ledger().each::<OrderRow>(order::PARTITION, "").await {
        Ok(rows) => rows,
        Err(error) => return without_ledger(&error.into()),
    };
    let mut failures: Vec<Error> = Vec::new();
    let mut orders = Vec::new();
    for row in rows {
        match row {
            Ok(row) => orders.extend(due(run, &row).map(|(pipeline, due)| (pipeline, row, due))),
            Err(error) => failures.push(error.into()),
        }
    }
    orders.retain(|(_, _, due)| *due != Due::Nothing);
    // If the time does not suffice for all orders, each of them gets its turn.
    orders.sort_by_key(|(_, row, due)| due.since(&row.state));
    let followed = stream::iter(orders).map(async |(pipeline, row, due)| {
        if run.has_time_after(Duration::ZERO) { Some(carry_out(run, &pipeline, row, due).await) } else { None }
    });
    let followed: Vec<Option<Vec<Decided>>> = followed.buffer_unordered(MAX_CONCURRENT).collect().await;
    let skipped = followed.iter().filter(|followed| followed.is_none()).count();
    let mut decisions = Vec::new();
    for decided in followed.into_iter().flatten().flatten() {
        match decided {
            Ok(decision) => decisions.push(decision),
            Err(error) => failures.push(error),
        }
    }
    summarize(run, decisions, &failures, skipped)
}

/// The results of a follow-up. A failure is logged every minute. A failure that will not pass by itself is also a
/// decision, once an hour.
fn summarize<W: World>(
    run: &Run<'_, W>,
    mut decisions: Vec<Decision<Outcome>>,
    failures: &[Error],
    skipped: usize,
) -> Results {
    for error in failures {
        tracing::warn!(error = chain(error), "follow-up failed");
        if !error.may_pass() && run.now().minute() == 0 {
            decisions.push(Decision::new(Outcome::Failed, chain(error)));
        }
    }
    if skipped > 0 {
        tracing::warn!(skipped, "the time did not suffice for all orders: the next follow-up begins with the rest");
    }
    if !decisions.is_empty() {
        return Results { decisions, ..Results::default() };
    }
    let decision = if failures.is_empty() && skipped == 0 {
        nothing_due()
    } else {
        let count = failures.len() + skipped;
        Decision::new(Outcome::Ignored, format!("the next follow-up tries again for {count} orders"))
    };
    Results { recording: Recording::LogOnly, ..decision.into() }
}

/// The results if the ledger cannot be read. The invocation does not fail, because nobody needs to send the event of
/// the schedule again.
fn without_ledger(error: &Error) -> Results {
    let (outcome, recording) =
        if error.may_pass() { (Outcome::Ignored, Recording::LogOnly) } else { (Outcome::Failed, Recording::Metrics) };
    Results { recording, ..Decision::new(outcome, chain(error)).into() }
}

/// The decision about a follow-up in which nothing happened.
pub(crate) fn nothing_due() -> Decision<Outcome> {
    Decision::new(Outcome::Ignored, "nothing is due")
}

/// The row's pipeline, and what is due for its order. Returns `None` if the row's key is not the name of a pipeline.
pub(crate) fn due<W: World>(run: &Run<'_, W>, row: &Row<OrderRow>) -> Option<(PipelineName, Due)> {
    let pipeline: PipelineName = row.sk.parse().ok()?;
    let is_routed = run.routes.pins(row.state.kind, &row.state.change, &pipeline).is_some();
    let due = Due::new(&row.state, is_routed, run.now());
    Some((pipeline, due))
}

async fn carry_out<W: World>(run: &Run<'_, W>, pipeline: &PipelineName, row: Row<OrderRow>, due: Due) -> Vec<Decided> {
    if due == Due::Watch {
        return Box::pin(bake::watch(run, pipeline, &row, None)).await;
    }
    let Row { state, revision, .. } = row;
    let decided = match due {
        Due::Nothing | Due::Watch => Ok(Vec::new()),
        Due::Start => start(run, pipeline, &state, revision).await,
        Due::Close => close(run, pipeline, &state, revision).await,
        Due::Check(execution) => check(run, pipeline, &state, revision, &execution).await,
        Due::Send => {
            let key = order::key(pipeline);
            let sent = send::announce(run, &key, &send::send_if_due(run, &state).await).await;
            let written = if sent == state { Ok(()) } else { run.write(&key, &sent, Some(revision)).await.map(drop) };
            written.map(|()| Vec::new())
        }
    };
    decided.unwrap_or_else(|error| vec![Err(error)])
}

async fn start<W: World>(
    run: &Run<'_, W>,
    pipeline: &PipelineName,
    row: &OrderRow,
    revision: u64,
) -> Result<Vec<Decided>, Error> {
    let claims = claims_of(run, pipeline, &row.change).await?;
    let candidate = Candidate { row: row.claimed(run.now()), revision: Some(revision), claims };
    // The schedule repeats the attempt, and other orders need the time.
    Ok(execution::start(run, pipeline, candidate, 0).await)
}

async fn close<W: World>(
    run: &Run<'_, W>,
    pipeline: &PipelineName,
    row: &OrderRow,
    revision: u64,
) -> Result<Vec<Decided>, Error> {
    let closed = row.closed(&run.place(pipeline), run.now());
    let written = send::write_and_send(run, &order::key(pipeline), &closed, Some(revision), Vec::new()).await?;
    let decision = Decision::new(Outcome::Filtered, order::NO_LONGER_ROUTED);
    Ok(written.map(|_| Ok(about_order(&closed, pipeline, decision))).into_iter().collect())
}

/// Looks whether an execution has ended, because CodePipeline's events are best effort.
async fn check<W: World>(
    run: &Run<'_, W>,
    pipeline: &PipelineName,
    row: &OrderRow,
    revision: u64,
    execution: &str,
) -> Result<Vec<Decided>, Error> {
    let write_next_look = async |row: &OrderRow| {
        let checked = send::send_if_due(run, &still_runs(row, run.now())).await;
        run.write(&order::key(pipeline), &checked, Some(revision)).await
    };
    let status = match run.world.execution_status(pipeline, execution).await {
        Ok(status) => status,
        // People must correct the cause, and learn about it once for each order.
        Err(error) if error.is_refused() => {
            let written = write_next_look(&OrderRow { refused_checks: row.refused_checks + 1, ..row.clone() }).await?;
            let is_news = row.refused_checks == 0 && written != Written::ChangedByAnother;
            let reason = format!("{error}: {}", error.description());
            let decision = about_order(row, pipeline, Decision::new(Outcome::Failed, reason));
            return Ok(is_news.then(|| Ok(decision.about("execution", execution))).into_iter().collect());
        }
        Err(error) => return Err(error.into()),
    };
    if status == Some(ExecutionStatus::Running) {
        write_next_look(row).await?;
        return Ok(Vec::new());
    }
    let at = if row.bake.is_some() { end_time(run, pipeline, execution, status).await? } else { None };
    let ended = EndedExecution::found(pipeline, execution, status, row.run, at);
    let results = execution::conclude(run, pipeline, &ended, End::of(status), 0).await;
    Ok(results.into_iter().map(|result| result.map(|decision| about_execution(&ended, decision))).collect())
}

/// When a successful execution ended, because its bake began then. Returns `None` if CodePipeline does not list it.
async fn end_time<W: World>(
    run: &Run<'_, W>,
    pipeline: &PipelineName,
    execution: &str,
    status: Option<ExecutionStatus>,
) -> Result<Option<OffsetDateTime>, Error> {
    if status != Some(ExecutionStatus::Succeeded) {
        return Ok(None);
    }
    let page = run.world.executions(pipeline, None).await?;
    Ok(page.executions.iter().find(|listed| listed.id == execution).and_then(|listed| listed.updated))
}
