//! The use case of a target's report: stores what the target answered to its order.

use sekisho_domain::decision::Decision;
use sekisho_domain::route::Routes;
use sekisho_ledger::{Row, Store};
use time::OffsetDateTime;

use crate::decision_log::Report;
use crate::error::Error;
use crate::outcome::{Outcome, needs_repair};
use crate::run::Run;
use crate::selection::routes_to;
use crate::target::{self, Reception, TargetRow};
use crate::target_report::{TargetReport, about_report};
use crate::world::World;

/// The reason for a report that arrives again.
const REPEATED: &str = "the ledger has this report or a later one on the order";

/// What a report leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// The decision.
    pub(crate) decision: Decision<Outcome>,
    /// The row to write, if the row changes.
    pub(crate) row: Option<TargetRow>,
}

pub(crate) async fn receive_report<W: World>(run: &Run<'_, W>, report: &TargetReport) -> Report {
    match run.until_unchanged(async || try_receive(run, report).await).await {
        Ok(decision) => decision.into(),
        // The target repeats a report that is never stored, but no retry makes the row readable.
        Err(error) if error.is_final() => about_report(report, needs_repair(&error)).into(),
        Err(error) => error.into(),
    }
}

async fn try_receive<W: World>(run: &Run<'_, W>, report: &TargetReport) -> Result<Decision<Outcome>, Error> {
    let (received, revision) = examine_report(run, report).await?;
    if let Some(row) = &received.row {
        let key = target::key(&report.target);
        run.world.ledger().write(&key, row, revision, &run.invocation.request_id).await?;
    }
    Ok(received.decision)
}

/// Reads the row of the report's target and decides what the report means. Returns the decision together with the row's
/// revision, and writes nothing.
pub(crate) async fn examine_report<W: World>(
    run: &Run<'_, W>,
    report: &TargetReport,
) -> Result<(Received, Option<u64>), Error> {
    if let Some(decision) = unrouted(run.routes, run, report) {
        return Ok((Received { decision, row: None }, None));
    }
    let row: Option<Row<TargetRow>> = run.world.ledger().read(&target::key(&report.target)).await?;
    let (row, revision) = row.map_or_else(Default::default, |row| (row.state, Some(row.revision)));
    Ok((receive(&row, report, run.now()), revision))
}

/// The decision about a report of a target to which no route leads. A stranger's account thus cannot fill the ledger.
fn unrouted<W>(routes: &Routes, run: &Run<'_, W>, report: &TargetReport) -> Option<Decision<Outcome>> {
    let is_routed = routes_to(routes, &run.invocation.region, &report.target).next().is_some();
    let reason = "no route leads to this target";
    (!is_routed).then(|| about_report(report, Decision::new(Outcome::Ignored, reason)))
}

/// Decides what a report means for the row of its target.
fn receive(row: &TargetRow, report: &TargetReport, now: OffsetDateTime) -> Received {
    let (outcome, reason, row) = match row.receive(&report.report, now) {
        Reception::Stored { row, is_refusal: true } => {
            let reason = format!(
                "the target refuses the order: {}. The order is offered again: deploy the current configuration to \
                 the target's account, or correct the route",
                report.report.reason
            );
            (Outcome::Refused, reason, Some(row))
        }
        Reception::Stored { row, is_refusal: false } => {
            (Outcome::Reported, format!("the target reported: {}", report.report.reason), Some(row))
        }
        Reception::Repeated => (Outcome::Duplicate, REPEATED.to_owned(), None),
        Reception::Heard(row) => (Outcome::Duplicate, REPEATED.to_owned(), Some(row)),
        Reception::Older => (Outcome::Ignored, "the report is about an earlier order".to_owned(), None),
        Reception::Unplaced(row) => {
            let reason = "the ledger has no order with this number: later orders to this target get larger numbers";
            (Outcome::Ignored, reason.to_owned(), Some(row))
        }
        Reception::TooFarAhead => {
            let reason = "event.detail.number: more than a day ahead of the clock, so no order has this number";
            (Outcome::Refused, reason.to_owned(), None)
        }
    };
    Received { decision: about_report(report, Decision::new(outcome, reason)), row }
}
