//! The part of a reconcile that offers open orders again: orders that their targets did not answer, refused, or have
//! not finished for a long time. It also brings orders in step with targets that took another order, and orders again
//! what a target never took of the other source of its pipeline.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use sekisho_domain::decision::Decision;
use sekisho_domain::route::TargetId;
use sekisho_ledger::MAX_TRANSACTION;

use crate::decision_log::Report;
use crate::error::Error;
use crate::heads::Heads;
use crate::ordering::{Placed, orders};
use crate::outcome::{Outcome, about_change};
use crate::plan::GONE;
use crate::relay::examine;
use crate::relay::offer::{NotAccepted, offer};
use crate::relay::source;
use crate::route::plain_routes_to;
use crate::run::{CONCURRENT_CALLS, Run};
use crate::selection::{all_targets, routes_here};
use crate::snapshot::Snapshot;
use crate::target::TargetRow;
use crate::world::World;

/// No offers begin when only this time is left: the rows of the orders would be written, and nothing could be sent.
const RESERVE: Duration = Duration::from_secs(15);

/// The rows of targets that must be written.
#[derive(Debug, Default)]
struct Due {
    /// The rows with orders that must be offered now.
    offered: Vec<Placed>,
    /// The rows with orders on which the targets have reported already.
    adopted: Vec<Placed>,
}

/// Offers every open order whose time has come. The rows are written first, so that a crash does not make the pauses
/// shorter. `waiting` has the targets whose newest head is not known yet.
pub(crate) async fn offer_again<W: World>(run: &Run<'_, W>, heads: &Heads<'_>, waiting: &BTreeSet<TargetId>) -> Report {
    let mut report = Report::default();
    if run.time_left() < RESERVE {
        let reason = "no time was left to offer open orders; the next reconcile offers them";
        return report.with(Decision::new(Outcome::Ignored, reason));
    }
    let targets = all_targets(run.routes, &run.invocation.region);
    let due = match due(run, heads, waiting, &targets, &mut report).await {
        Ok(due) => due,
        Err(error) => return report.failed(error),
    };
    for part in due.adopted.chunks(MAX_TRANSACTION) {
        // After a conflict, the next reconcile adopts the orders.
        if let Err(error) = write_rows(run, part).await {
            report.failure.get_or_insert(error.into());
        }
    }
    let mut written = write_all(run, heads, waiting, due.offered, &mut report).await;
    if written.is_empty() {
        return report;
    }
    written.sort_by(|one, other| one.target.cmp(&other.target));
    let offered = offer(run, &orders(&written)).await;
    let (accepted, all) = (offered.accepted, offered.all());
    let reason = format!("{} open orders were offered again; {accepted} of {all} buses accepted them", written.len());
    let decision = Decision::new(Outcome::Ordered, reason)
        .about("count", written.len().to_string())
        .about("targets", accepted.to_string());
    report.log.push(decision);
    alert(run, &written, &offered.not_accepted, &mut report).await;
    report
}

/// The rows of targets whose order must be offered now, with the next offer in them, and the rows of targets that
/// reported on an order which the ledger does not have.
async fn due<W: World>(
    run: &Run<'_, W>,
    heads: &Heads<'_>,
    waiting: &BTreeSet<TargetId>,
    targets: &BTreeSet<TargetId>,
    report: &mut Report,
) -> Result<Due, sekisho_ledger::Error> {
    let rows = examine::target_rows(run, targets).await?;
    report.log.extend(rows.unreadable.into_values());
    let now = run.now();
    let has_unplaced = |row: &TargetRow| row.unplaced_report().is_some() || row.untaken_change(now).is_some();
    let unplaced = rows.read.iter().filter(|(_, one)| has_unplaced(&one.row));
    let unplaced = unplaced.map(|(target, _)| target.clone()).collect();
    let routes = routes_here(run.routes, &run.invocation.region);
    let trains = examine::rows_of_holds(run, plain_routes_to(routes, &unplaced)).await?;
    let mut due = Due::default();
    for (target, Snapshot { row, revision }) in rows.read {
        let is_waiting = waiting.contains(&target);
        let in_step = if is_waiting { None } else { heads.in_step(&target, &row, &trains, now) };
        let other = if is_waiting { None } else { heads.with_other_source(&target, &row, &trains, now) };
        if let Some(change) = other.as_ref().and_then(|row| Some(&row.order.as_ref()?.change))
            && source::is_gone(run, change).await
        {
            report.log.push(about_change(change, Decision::new(Outcome::Failed, GONE)));
            due.adopted.push(Placed { target, row: row.without_open_change(change), replaces: revision });
            continue;
        }
        let (list, row) = match in_step.or(other) {
            Some(row) if row.current_report().is_some() => (&mut due.adopted, row),
            Some(row) => (&mut due.offered, row),
            None => match heads.next_offer(&target, &row, now) {
                Some(row) => (&mut due.offered, row),
                None => continue,
            },
        };
        list.push(Placed { target, row, replaces: revision });
    }
    Ok(due)
}

/// Writes the rows and returns those that were written.
async fn write_all<W: World>(
    run: &Run<'_, W>,
    heads: &Heads<'_>,
    waiting: &BTreeSet<TargetId>,
    rows: Vec<Placed>,
    report: &mut Report,
) -> Vec<Placed> {
    let parts: Vec<Result<Vec<Placed>, Error>> = stream::iter(rows.chunks(MAX_TRANSACTION))
        .map(|part| write(run, heads, waiting, part.to_vec()))
        .buffer_unordered(CONCURRENT_CALLS)
        .collect()
        .await;
    let mut written = Vec::with_capacity(rows.len());
    for part in parts {
        match part {
            Ok(part) => written.extend(part),
            Err(error) => drop(report.failure.get_or_insert(error)),
        }
    }
    written
}

/// Writes rows in one transaction. If another invocation wrote one of them first, the rows are read again and written
/// one by one, so that a conflict about one row does not keep the other orders from their offer.
async fn write<W: World>(
    run: &Run<'_, W>,
    heads: &Heads<'_>,
    waiting: &BTreeSet<TargetId>,
    part: Vec<Placed>,
) -> Result<Vec<Placed>, Error> {
    if write_rows(run, &part).await? {
        return Ok(part);
    }
    let targets = part.into_iter().map(|placed| placed.target).collect();
    let Due { offered, .. } = due(run, heads, waiting, &targets, &mut Report::default()).await?;
    let mut written = Vec::with_capacity(offered.len());
    for placed in offered {
        if write_rows(run, std::slice::from_ref(&placed)).await? {
            written.push(placed);
        }
    }
    Ok(written)
}

/// Returns whether the rows were written. If another invocation wrote one of them first, none is written.
async fn write_rows<W: World>(run: &Run<'_, W>, part: &[Placed]) -> Result<bool, sekisho_ledger::Error> {
    let writes = part.iter().map(Placed::write).collect::<Result<Vec<_>, _>>()?;
    run.write_all_unless_changed(&writes).await
}

/// Alerts people about old orders that their buses refused. Each order alerts once.
async fn alert<W: World>(run: &Run<'_, W>, written: &[Placed], not_accepted: &[NotAccepted], report: &mut Report) {
    let now = run.now();
    let reasons: BTreeMap<&TargetId, &str> = not_accepted
        .iter()
        .filter(|event| event.is_refused)
        .flat_map(|event| event.targets.iter().map(|target| (target, event.reason.as_str())))
        .collect();
    let old: Vec<&Placed> =
        written.iter().filter(|placed| reasons.contains_key(&placed.target) && placed.row.needs_alert(now)).collect();
    for part in old.chunks(MAX_TRANSACTION) {
        let alerted = |placed: &&Placed| Placed {
            target: placed.target.clone(),
            row: placed.row.alerted(),
            replaces: Some(placed.replaces.unwrap_or(0) + 1),
        };
        let alerted: Vec<Placed> = part.iter().map(alerted).collect();
        match write_rows(run, &alerted).await {
            Ok(true) => report.log.extend(part.iter().filter_map(|placed| overdue(placed, &reasons))),
            // Another invocation wrote a row. The next offer alerts.
            Ok(false) => {}
            Err(error) => drop(report.failure.get_or_insert(error.into())),
        }
    }
}

fn overdue(placed: &Placed, reasons: &BTreeMap<&TargetId, &str>) -> Option<Decision<Outcome>> {
    let order = placed.row.order.as_ref()?;
    let reason = format!(
        "the bus has not accepted the order for two hours: {}; the order is still offered: deploy the stack to the \
         target's account, or correct the route",
        reasons.get(&placed.target)?
    );
    Some(
        about_change(&order.change, Decision::new(Outcome::Failed, reason))
            .about("target", placed.target.to_string())
            .about("order", order.number.to_string()),
    )
}
