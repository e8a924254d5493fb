//! How an order goes on when its execution or its bake has ended: it bakes, has ended, or goes back.

use sekisho_domain::change::Change;
use sekisho_domain::order::OrderKind;
use sekisho_domain::report::ReportState;
use sekisho_domain::timestamp::epoch_millis;
use time::OffsetDateTime;

use crate::destination::Destination;
use crate::judge::Verdict;
use crate::order::{Cause, OrderRow, Progress};
use crate::report::Place;
use crate::way_back::WayBack;

/// The row after a verdict on its bake, or `None` if there is no verdict yet.
pub(crate) fn after_verdict(
    row: &OrderRow,
    verdict: &Verdict,
    place: &Place<'_>,
    now: OffsetDateTime,
) -> Option<OrderRow> {
    match verdict {
        Verdict::Open => None,
        Verdict::Healthy(reason) => Some(healthy(row, row.window().map(|window| window.since), reason, place, now)),
        Verdict::Unknown(reason) => Some(ended(row, ReportState::Unknown, reason, place, now)),
        Verdict::Failed(reason) => Some(OrderRow { owes_notice: true, ..go_back(row, reason, place, now) }),
    }
}

/// The row of an order that has ended in this state.
pub(crate) fn ended(
    row: &OrderRow,
    state: ReportState,
    reason: &str,
    place: &Place<'_>,
    now: OffsetDateTime,
) -> OrderRow {
    let ended = OrderRow { progress: Progress::Ended(state), ..row.clone() };
    ended.report_at(row.next_at(now), state, reason, place)
}

/// The row of an order whose change is healthy, or whose target went back. `since` is the time at which the revision was
/// deployed, in epoch milliseconds. For a target that went back by itself, the reason says why.
pub(crate) fn healthy(
    row: &OrderRow,
    since: Option<u64>,
    reason: &str,
    place: &Place<'_>,
    now: OffsetDateTime,
) -> OrderRow {
    let why = |way_back: &WayBack| format!("{}; the target went back to {}", way_back.reason, row.destination_text());
    let reason = row.way_back.as_deref().map_or_else(|| reason.to_owned(), why);
    // The branch or tag of the change to go back to may not be known.
    let good_ref = if row.way_back.is_some() { row.good_ref.clone() } else { Some(row.change.source_ref.clone()) };
    let good = OrderRow {
        good: Some(row.change.revision.clone()),
        good_ref,
        good_repository: Some(row.change.repository.clone()),
        // An execution that no order started may have deployed anything.
        good_since: since.filter(|_| row.foreign_execution.is_none()),
        is_past_known: true,
        sources: row.sources.after_success(),
        ..row.clone()
    };
    ended(&good, ReportState::Healthy, &reason, place, now)
}

/// The row of an order whose change is not healthy: the target goes back if it can.
pub(crate) fn go_back(row: &OrderRow, reason: &str, place: &Place<'_>, now: OffsetDateTime) -> OrderRow {
    let destination = match Destination::of(row) {
        Ok(destination) => destination,
        Err(why) => return ended(row, ReportState::Failed, &format!("{reason}; {why}"), place, now),
    };
    let source_ref = destination.source_ref.clone().unwrap_or_else(|| row.change.source_ref.clone());
    let change = Change {
        kind: source_ref.kind(),
        source_ref,
        revision: destination.revision.clone(),
        previous: Some(row.change.revision.clone()),
        ..row.change.clone()
    };
    let way_back = WayBack {
        reason: reason.to_owned(),
        change: row.change.clone(),
        execution: row.execution.clone(),
        run: row.run,
        bake: row.bake.clone().filter(|bake| bake.window.is_none()),
        pins: row.sources.pins.clone(),
    };
    let going = OrderRow {
        kind: OrderKind::Rollback,
        reported_cause: None,
        is_announced: false,
        failures: 0,
        cancellations: 0,
        source_failures: 0,
        source_failed: None,
        at: row.next_at(now),
        bake: None,
        way_back: Some(Box::new(way_back)),
        good: Some(destination.revision),
        good_ref: destination.source_ref,
        good_repository: Some(row.change.repository.clone()),
        sources: row.sources.going_back_to(&destination.pins),
        ..OrderRow { change, ..row.clone() }.restarted(place.pipeline, now)
    };
    let reason = format!("{reason}; the target goes back to {}", going.destination_text());
    going.waiting(Cause::Busy, now, &reason, place)
}

/// The row of an order whose failed execution goes on, because a stage was retried before the rollback has started.
/// Returns `None` if the execution is another one, if the bake after it failed, or if the rollback may have started.
pub(crate) fn resumable(row: &OrderRow, execution: &str) -> Option<OrderRow> {
    let way_back = row.way_back.as_ref().filter(|way_back| way_back.execution.as_deref() == Some(execution))?;
    let bake = way_back.bake.clone()?;
    let waits = matches!(row.progress, Progress::Waiting(_));
    let has_started = row.may_run || row.execution.is_some() || row.executions.last() != way_back.execution.as_ref();
    if !waits || has_started {
        return None;
    }
    Some(OrderRow {
        kind: OrderKind::Deploy,
        change: way_back.change.clone(),
        execution: way_back.execution.clone(),
        executions: row.executions.iter().filter(|earlier| *earlier != execution).cloned().collect(),
        run: way_back.run,
        bake: Some(bake),
        sources: row.sources.resumed_at(&way_back.pins),
        way_back: None,
        owes_notice: false,
        progress: Progress::Ended(ReportState::Failed),
        ..row.clone()
    })
}

/// The row when the execution has succeeded at this time: the target bakes, or nothing bakes and the change is healthy.
pub(crate) fn succeeded(row: &OrderRow, at: OffsetDateTime, place: &Place<'_>, now: OffsetDateTime) -> OrderRow {
    // CodePipeline's event has the end in whole seconds, so a short execution seems to end before its start, when an
    // alarm may still have rung.
    let end = epoch_millis(at).max(row.since).min(epoch_millis(now));
    let Some(bake) = row.bake.as_ref().and_then(|bake| bake.begun(end)) else {
        return healthy(row, Some(end), "the execution succeeded", place, now);
    };
    let reason = format!("the execution succeeded, and the alarms are watched for {}", bake.length);
    let progress = Progress::Running { check: epoch_millis(now) };
    let baking = OrderRow { bake: Some(bake), progress, ..row.clone() };
    baking.report_at(row.next_at(now), ReportState::Baking, &reason, place)
}

#[cfg(test)]
mod tests;
