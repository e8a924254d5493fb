//! The part of a reconcile that offers open orders again: orders that their targets did not answer, refused, or have
//! not finished for a long time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use sekisho_domain::decision::Decision;
use sekisho_domain::order::OrderKind;
use sekisho_domain::route::TargetId;
use sekisho_ledger::{MAX_TRANSACTION, Store, Write};

use crate::decision_log::Report;
use crate::error::Error;
use crate::newest::leads_to;
use crate::outcome::{Outcome, about_change};
use crate::plan::{Placed, Snapshot};
use crate::relay::examine;
use crate::relay::offer::{NotAccepted, offer};
use crate::relay::order::orders;
use crate::run::{CONCURRENT_CALLS, Run};
use crate::selection::all_targets;
use crate::target::{self, TargetRow};
use crate::world::World;

/// No offers begin when only this time is left: the rows of the orders would be written, and nothing could be sent.
const RESERVE: Duration = Duration::from_secs(15);

/// Offers every open order whose time has come. The rows are written first, so that a crash does not make the pauses
/// shorter.
pub(crate) async fn offer_again<W: World>(run: &Run<'_, W>) -> Report {
    let mut report = Report::default();
    if run.time_left() < RESERVE {
        return report;
    }
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
    let reasons: BTreeMap<&TargetId, &str> = not_accepted
        .iter()
        .flat_map(|event| event.targets.iter().map(|target| (target, event.reason.as_str())))
        .collect();
    let is_old = |placed: &&Placed| placed.row.order.as_ref().is_some_and(|order| order.needs_alert(now));
    let old: Vec<&Placed> =
        written.iter().filter(|placed| reasons.contains_key(&placed.target)).filter(is_old).collect();
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
