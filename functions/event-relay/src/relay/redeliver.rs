//! The use case of a message that an earlier version put into the dead-letter queue: offers the target's current order,
//! or orders the change of the message if the target has no order yet.

use std::collections::BTreeSet;

use sekisho_domain::decision::Decision;
use sekisho_domain::route::TargetId;
use sekisho_ledger::MAX_TRANSACTION;

use crate::decision_log::Report;
use crate::error::Error;
use crate::outcome::{Outcome, about_change, needs_repair};
use crate::plan::{Placed, TargetRows};
use crate::redelivery::{Redelivery, RedeliveryPlan, plan_redelivery};
use crate::relay::offer::offer;
use crate::relay::{examine, order};
use crate::run::Run;
use crate::world::World;

/// The most attempts that may fail because another invocation wrote a row first.
const MAX_CONFLICTS: usize = 20;

/// Reads facts about a message until the plan for the message is known.
pub(crate) async fn examine_redelivery<W: World>(
    run: &Run<'_, W>,
    redelivery: &Redelivery,
) -> Result<RedeliveryPlan, Error> {
    let mut row = None;
    loop {
        match plan_redelivery(redelivery, &run.invocation.account, run.routes, row.as_ref()) {
            Some(plan) => return Ok(plan),
            None => row = Some(run.read_row(&redelivery.change.repository, &redelivery.change.git_ref).await?),
        }
    }
}

pub(crate) async fn redeliver<W: World>(run: &Run<'_, W>, redelivery: &Redelivery) -> Report {
    let targets = match examine_redelivery(run, redelivery).await {
        Err(error) => return error.into(),
        Ok(RedeliveryPlan::Decide(decision)) => return decision.into(),
        Ok(RedeliveryPlan::Order(targets)) => targets,
    };
    let mut conflicts = 0;
    loop {
        match order_again(run, redelivery, &targets).await {
            Ok(report) => return report,
            Err(Error::Ledger(sekisho_ledger::Error::Changed(_))) if conflicts < MAX_CONFLICTS => conflicts += 1,
            Err(error) if error.is_final() => return needs_repair(&error).into(),
            Err(error) => return error.into(),
        }
    }
}

async fn order_again<W: World>(
    run: &Run<'_, W>,
    redelivery: &Redelivery,
    targets: &BTreeSet<TargetId>,
) -> Result<Report, Error> {
    let change = &redelivery.change;
    let TargetRows { read, unreadable } = examine::target_rows(run, targets).await?;
    let now = run.now();
    let placed: Vec<Placed> = read
        .into_iter()
        .map(|(target, snapshot)| {
            let row = &snapshot.row;
            let row = if row.order.is_some() { row.offered_again(now) } else { row.placed(change, now) };
            Placed { target, row, replaces: snapshot.revision }
        })
        .collect();
    for part in placed.chunks(MAX_TRANSACTION) {
        order::write_all(run, change, part, None).await?;
    }
    let offered = offer(run, &order::orders(&placed)).await;
    let mut report = Report::default();
    report.log.extend(unreadable.into_values());
    if placed.is_empty() {
        return Ok(report);
    }
    let reason = match offered.not_accepted.first() {
        None => "the target's current order was offered again".to_owned(),
        Some(first) => format!("the bus did not accept the order; the reconcile offers it again: {}", first.reason),
    };
    let decision = about_change(change, Decision::new(Outcome::Ordered, reason));
    Ok(report.with(decision.about("account", redelivery.delivery.account.as_str())))
}
