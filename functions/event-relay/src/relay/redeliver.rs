//! The use case of a message that an earlier version put into the dead-letter queue: sends its targets their current
//! orders. A target without an order gets one for the newest change, which may be newer than the change of the message.

use sekisho_domain::decision::Decision;

use crate::decision_log::Report;
use crate::error::Error;
use crate::outcome::{Outcome, needs_repair};
use crate::redelivery::{Redelivery, RedeliveryPlan, plan_redelivery};
use crate::relay::resend::place_all;
use crate::run::Run;
use crate::world::World;

/// Reads facts about a message until the plan for the message is known.
pub(crate) async fn examine_redelivery<W: World>(
    run: &Run<'_, W>,
    redelivery: &Redelivery,
) -> Result<RedeliveryPlan, Error> {
    let mut row = None;
    loop {
        match plan_redelivery(redelivery, &run.invocation.account, run.routes, row.as_ref()) {
            Some(plan) => return Ok(plan),
            None => row = Some(run.read_row(&redelivery.change.repository, &redelivery.change.source_ref).await?),
        }
    }
}

pub(crate) async fn redeliver<W: World>(run: &Run<'_, W>, redelivery: &Redelivery) -> Report {
    match send(run, redelivery).await {
        Ok(report) => report,
        Err(error) if error.is_final() => needs_repair(&error).into(),
        Err(error) => error.into(),
    }
}

async fn send<W: World>(run: &Run<'_, W>, redelivery: &Redelivery) -> Result<Report, Error> {
    let targets = match examine_redelivery(run, redelivery).await? {
        RedeliveryPlan::Decide(decision) => return Ok(decision.into()),
        RedeliveryPlan::Order(targets) => targets.into_iter().collect(),
    };
    let resending = place_all(run, targets).await?;
    let not_accepted = resending.offer(run).await;
    let mut report = Report::default();
    report.log.extend(resending.decisions("a message of an earlier version", &not_accepted));
    for (target, reason) in resending.nothing {
        let reason = format!("nothing was sent: {reason}");
        report.log.push(Decision::new(Outcome::Ignored, reason).about("target", target.to_string()));
    }
    for (target, error) in resending.failed {
        if error.is_final() {
            report.log.push(needs_repair(&error).about("target", target.to_string()));
        } else {
            report.failure.get_or_insert(error);
        }
    }
    Ok(report)
}
