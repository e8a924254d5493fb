//! The checks before an execution starts: no alarm of the target rings, and the revision to go back to is known. Before
//! a rollback, the target's waiting executions are stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sekisho_domain::change::Revision;
use sekisho_domain::order::OrderKind;
use sekisho_domain::route::PipelineName;
use sekisho_lambda::ServiceError;

use crate::bake::Bake;
use crate::conclusion::healthy;
use crate::judge::Gap;
use crate::order::OrderRow;
use crate::pins::noun;
use crate::routing::Pins;
use crate::run::Run;
use crate::starter::alarms::matching;
use crate::starter::sources::{self, Choice};
use crate::starter::way_back;
use crate::world::{Alarm, ExecutionStatus, Extent, StartAnswer, World};

/// The greatest age of a list of alarms that lets an order start. An alarm that rings before the start and is not in
/// the list would fail the bake. One follow-up may start orders for half a minute.
const MOST_AGE: Duration = Duration::from_secs(5);

/// Whether the execution of a claimed row can be started.
#[derive(Debug)]
pub(crate) enum Entry {
    /// Start the execution.
    Start(OrderRow),
    /// Start nothing now, and write this row.
    Stay(OrderRow),
}

/// Prepares the start of the execution of a claimed row.
pub(crate) async fn prepare<W: World>(run: &Run<'_, W>, pipeline: &PipelineName, row: &OrderRow, pins: &Pins) -> Entry {
    let prepared = match (row.kind, &row.bake) {
        // `Box::pin` keeps the future of every other order small.
        (OrderKind::Rollback, _) => Box::pin(go_back(run, pipeline, row)).await,
        (OrderKind::Deploy, Some(bake)) => Box::pin(enter(run, pipeline, row, bake, pins)).await,
        (OrderKind::Deploy, None) => Ok(Entry::Start(row.clone())),
    };
    prepared.unwrap_or_else(|error| {
        let reason = format!("{error}: {}", error.description());
        let answer = if error.is_refused() { StartAnswer::Rejected(reason) } else { StartAnswer::Deferred(reason) };
        Entry::Stay(row.after_start(&answer, &run.place(pipeline), run.now()))
    })
}

async fn go_back<W: World>(run: &Run<'_, W>, pipeline: &PipelineName, row: &OrderRow) -> Result<Entry, ServiceError> {
    if !way_back::prepare(run, pipeline, row).await? {
        return Ok(Entry::Start(row.clone()));
    }
    let noun = noun(&row.change.revision);
    let reason = format!("the target still runs this {noun}: no deploy action has begun since it was healthy");
    Ok(Entry::Stay(healthy(row, row.good_since, &reason, &run.place(pipeline), run.now())))
}

async fn enter<W: World>(
    run: &Run<'_, W>,
    pipeline: &PipelineName,
    row: &OrderRow,
    bake: &Bake,
    pins: &Pins,
) -> Result<Entry, ServiceError> {
    // The alarm may ring because of the canceled execution. The bake judges the alarm, and the target can go back.
    if row.cancellations > 0 {
        return Ok(Entry::Start(with_past(run, pipeline, row.clone(), pins).await?));
    }
    let (place, now) = (run.place(pipeline), run.now());
    let rang = match matching(run, bake, Extent::Ringing, now - MOST_AGE).await {
        Ok(ringing) if row.promoted => ringing.into_keys().collect(),
        // A person asked for the start, so alarms that cannot be read do not prevent it.
        Err(Gap::Lasting(_)) if row.promoted => Vec::new(),
        Err(Gap::Passing(reason)) if row.promoted => {
            return Ok(Entry::Stay(row.after_start(&StartAnswer::Deferred(reason), &place, now)));
        }
        reading => match closed_by(reading) {
            Some((ringing, reason)) => return Ok(Entry::Stay(row.waiting_for_alarms(&ringing, &reason, &place, now))),
            None => Vec::new(),
        },
    };
    let row = OrderRow { bake: Some(Bake { rang, ..bake.clone() }), ..row.clone() };
    Ok(Entry::Start(with_past(run, pipeline, row, pins).await?))
}

/// The alarms that keep an order from starting, and why, in words. There are none if the alarms cannot be read.
fn closed_by(reading: Result<BTreeMap<String, Alarm>, Gap>) -> Option<(BTreeSet<String>, String)> {
    match reading {
        Ok(ringing) if ringing.is_empty() => None,
        Ok(ringing) => {
            let names: Vec<&str> = ringing.keys().map(String::as_str).collect();
            let reason = format!("the order starts when these alarms are quiet: {}", names.join(", "));
            Some((ringing.into_keys().collect(), reason))
        }
        Err(Gap::Passing(reason) | Gap::Lasting(reason)) => {
            Some((BTreeSet::new(), format!("the alarms cannot be read: {reason}")))
        }
    }
}

/// Why a source without a revision or the alarms would keep this order from starting, for `explain`.
pub(crate) async fn explain<W: World>(run: &Run<'_, W>, pipeline: &PipelineName, row: &OrderRow) -> Option<String> {
    if let (_, Choice::Missing(missing)) = sources::choose(run, pipeline, row.clone()).await {
        return Some(sources::reason(&missing));
    }
    let waves = run.routes.waves(&row.change, pipeline);
    let bake = Bake::new(row.order(), waves.into_iter()).filter(|_| !row.promoted)?;
    closed_by(matching(run, &bake, Extent::Ringing, run.now() - MOST_AGE).await).map(|(_, reason)| reason)
}

/// The row with the revision to go back to. Before the first order, it is that of the last successful execution. With
/// several sources, the choice of the pins has found the whole set.
async fn with_past<W: World>(
    run: &Run<'_, W>,
    pipeline: &PipelineName,
    row: OrderRow,
    pins: &Pins,
) -> Result<OrderRow, ServiceError> {
    if row.good.is_some() || row.is_past_known || !row.sources.pins.is_empty() {
        return Ok(row);
    }
    let page = run.world.executions(pipeline, None).await?;
    let last = page.executions.iter().find(|execution| execution.status == ExecutionStatus::Succeeded);
    let revision = last.and_then(|last| {
        let is_pinned = |action: &str| pins.actions.iter().any(|pinned| pinned.as_str() == action);
        last.revisions.iter().find(|listed| is_pinned(&listed.action))
    });
    let is_digest = row.change.revision.is_digest();
    let good = revision.and_then(|listed| listed.revision.parse().ok());
    let good = good.filter(|good: &Revision| good.is_digest() == is_digest);
    let good_repository = good.as_ref().map(|_| row.change.repository.clone());
    Ok(OrderRow { good, good_repository, good_since: None, is_past_known: true, ..row })
}
