//! The part of a reconcile that offers open orders again: orders that their targets did not answer, refused, or have
//! not finished for a long time.

use std::collections::BTreeSet;

use futures_util::{StreamExt, stream};
use sekisho_domain::decision::Decision;
use sekisho_domain::order::OrderKind;
use sekisho_domain::route::TargetId;
use sekisho_ledger::{MAX_TRANSACTION, Store, Write};

use crate::decision_log::Report;
use crate::error::Error;
use crate::newest::leads_to;
use crate::outcome::{Outcome, about_change, needs_repair};
use crate::plan::{Placed, Snapshot};
use crate::relay::examine;
use crate::relay::offer::{NotAccepted, offer};
use crate::relay::order::orders;
use crate::run::{CONCURRENT_CALLS, Run};
use crate::selection::all_targets;
use crate::target::{self, TargetRow};
use crate::world::World;

/// Offers every open order whose time has come. The rows are written first, so that a crash does not make the pauses
/// shorter.
pub(crate) async fn offer_again<W: World>(run: &Run<'_, W>) -> Report {
    let mut report = Report::default();
    let targets = all_targets(run.routes, &run.invocation.region);
    let due = match due(run, &targets, &mut report).await {
        Ok(due) => due,
        Err(error) => return report.failed(error),
    };
    let parts: Vec<Result<Vec<Placed>, Error>> = stream::iter(due.chunks(MAX_TRANSACTION))
        .map(|part| write(run, part.to_vec()))
        .buffer_unordered(CONCURRENT_CALLS)
        .collect()
        .await;
    let mut written = Vec::with_capacity(due.len());
    for part in parts {
        match part {
            Ok(part) => written.extend(part),
            Err(error) => drop(report.failure.get_or_insert(error)),
        }
    }
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

/// The rows of targets whose order must be offered now, with the next offer in them.
async fn due<W: World>(
    run: &Run<'_, W>,
    targets: &BTreeSet<TargetId>,
    report: &mut Report,
) -> Result<Vec<Placed>, sekisho_ledger::Error> {
    let rows = examine::target_rows(run, targets).await?;
    report.log.extend(rows.unreadable.into_values());
    let now = run.now();
    let due =
        rows.read.into_iter().filter(|(target, Snapshot { row, .. })| row.is_due(now) && is_led(run, target, row));
    Ok(due
        .map(|(target, Snapshot { row, revision })| Placed { target, row: row.offered_again(now), replaces: revision })
        .collect())
}

/// Whether a route still leads the order's change to the target. A rollback runs a change that was healthy before; its
/// reference need not be routed any more.
fn is_led<W>(run: &Run<'_, W>, target: &TargetId, row: &TargetRow) -> bool {
    row.order.as_ref().is_some_and(|order| {
        order.kind == OrderKind::Rollback || leads_to(run.routes, &run.invocation.region, &order.change, target)
    })
}

/// Writes the rows. If another invocation wrote one of them first, the rows are read again, once.
async fn write<W: World>(run: &Run<'_, W>, part: Vec<Placed>) -> Result<Vec<Placed>, Error> {
    if write_rows(run, &part).await? {
        return Ok(part);
    }
    let targets = part.into_iter().map(|placed| placed.target).collect();
    let again = due(run, &targets, &mut Report::default()).await?;
    Ok(if write_rows(run, &again).await? { again } else { Vec::new() })
}

/// Returns whether the rows were written. If another invocation wrote one of them first, none is written.
async fn write_rows<W: World>(run: &Run<'_, W>, part: &[Placed]) -> Result<bool, sekisho_ledger::Error> {
    let mut writes = Vec::with_capacity(part.len());
    for Placed { target, row, replaces } in part {
        writes.push(Write::new(target::key(target), row, *replaces)?);
    }
    match run.world.ledger().write_all(&writes, &run.invocation.request_id).await {
        Ok(()) => Ok(true),
        Err(sekisho_ledger::Error::Changed(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Alerts people about old orders that their buses did not accept. Each order alerts once.
async fn alert<W: World>(run: &Run<'_, W>, written: &[Placed], not_accepted: &[NotAccepted], report: &mut Report) {
    let now = run.now();
    for NotAccepted { targets, reason } in not_accepted {
        let of_event = |placed: &&Placed| targets.contains(&placed.target);
        let is_old = |placed: &&Placed| placed.row.order.as_ref().is_some_and(|order| order.needs_alert(now));
        for placed in written.iter().filter(of_event).filter(is_old) {
            let Some(order) = &placed.row.order else { continue };
            let row = placed.row.alerted();
            let alerted = Placed { row, replaces: Some(placed.replaces.unwrap_or(0) + 1), ..placed.clone() };
            match write_rows(run, &[alerted]).await {
                Ok(false) => {}
                Ok(true) => {
                    let reason = format!(
                        "the bus has not accepted the order for two hours: {reason}; the order is still offered: \
                         deploy the stack to the target's account, or correct the route"
                    );
                    report.log.push(
                        about_change(&order.change, Decision::new(Outcome::Failed, reason))
                            .about("target", placed.target.to_string())
                            .about("order", order.number.to_string()),
                    );
                }
                Err(error) if matches!(error, sekisho_ledger::Error::Unreadable { .. }) => {
                    report.log.push(needs_repair(&error.into()));
                }
                Err(error) => drop(report.failure.get_or_insert(error.into())),
            }
        }
    }
}
