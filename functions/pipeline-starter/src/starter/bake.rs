//! Handles the events about alarms, and takes a target back whose bake has failed.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use sekisho_domain::route::PipelineName;
use sekisho_ledger::{Row, Store};

use crate::error::Error;
use crate::order::{self, OrderRow};
use crate::outcome::nothing_bakes;
use crate::request::ChangedAlarm;
use crate::results::{Recording, Results};
use crate::run::Run;
use crate::starter::alarms::Hint;
use crate::starter::attempt::{Candidate, MAX_CONCURRENT};
use crate::starter::execution::{self, Decided};
use crate::starter::facts::claims_of;
use crate::starter::watch;
use crate::world::World;

/// Handles the event about an alarm. The event is only a hint: the alarms of each order that watches it are read. If
/// the time does not suffice for all orders, the follow-up reads the alarms of the rest.
pub(crate) async fn alarm_changed<W: World>(run: &Run<'_, W>, alarm: &ChangedAlarm) -> Results {
    let rows = match baking(run, alarm).await {
        Ok(rows) => rows,
        Err(error) => return [Err(error)].into_iter().collect(),
    };
    let hint = hint(run, alarm, &rows);
    let decided = stream::iter(rows).map(async |(pipeline, row)| {
        if run.has_time_after(Duration::ZERO) { Some(watch(run, &pipeline, &row, Some(&hint)).await) } else { None }
    });
    let decided: Vec<Option<Vec<Decided>>> = decided.buffer_unordered(MAX_CONCURRENT).collect().await;
    let skipped = decided.iter().filter(|decided| decided.is_none()).count();
    if skipped > 0 {
        tracing::warn!(skipped, "the time did not suffice for all orders: the follow-up reads the alarms of the rest");
    }
    let results: Results = decided.into_iter().flatten().flatten().collect();
    if results.decisions.is_empty() && results.failure.is_none() {
        return Results { recording: Recording::LogOnly, ..nothing_bakes(alarm).into() };
    }
    results
}

/// What the event about an alarm says to the orders that watch it.
pub(crate) fn hint<W: World>(run: &Run<'_, W>, alarm: &ChangedAlarm, rows: &[(PipelineName, Row<OrderRow>)]) -> Hint {
    Hint::new(&alarm.name, rows.iter().filter_map(|(_, row)| row.state.window()), run.alarms.at)
}

/// The orders that bake and watch this alarm.
pub(crate) async fn baking<W: World>(
    run: &Run<'_, W>,
    alarm: &ChangedAlarm,
) -> Result<Vec<(PipelineName, Row<OrderRow>)>, Error> {
    let rows = run.ledger().each::<OrderRow>(order::PARTITION, "").await?;
    // The follow-up reports rows that cannot be read.
    let watching = rows
        .into_iter()
        .flatten()
        .filter(|row| row.state.is_baking() && row.state.bake.as_ref().is_some_and(|bake| bake.watches(&alarm.name)));
    Ok(watching.filter_map(|row| Some((row.sk.parse().ok()?, row))).collect())
}

/// Watches the alarms of an order that bakes. If the target goes back, the rollback is started; a start that
/// CodePipeline defers is repeated by the follow-up.
pub(crate) async fn watch<W: World>(
    run: &Run<'_, W>,
    pipeline: &PipelineName,
    row: &Row<OrderRow>,
    hint: Option<&Hint>,
) -> Vec<Decided> {
    let watched = match watch::watch(run, pipeline, row, hint).await {
        Ok(Some(watched)) => watched,
        Ok(None) => return Vec::new(),
        Err(error) => return vec![Err(error)],
    };
    let mut decided: Vec<Decided> = watch::verdict_decision(&watched.state, pipeline).map(Ok).into_iter().collect();
    if watched.state.is_startable(true, run.now()) {
        decided.extend(start_back(run, pipeline, &watched.state, watched.revision).await);
    }
    decided
}

/// Starts the rollback of a target that goes back by itself.
async fn start_back<W: World>(
    run: &Run<'_, W>,
    pipeline: &PipelineName,
    row: &OrderRow,
    revision: u64,
) -> Vec<Decided> {
    match claims_of(run, pipeline, &row.change).await {
        Ok(claims) => {
            let candidate = Candidate { row: row.claimed(run.now()), revision: Some(revision), claims };
            execution::start(run, pipeline, candidate, 0).await
        }
        Err(error) => vec![Err(error)],
    }
}
