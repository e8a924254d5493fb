//! The use case of a target's report: stores what the target answered to its order.

use sekisho_domain::decision::Decision;
use sekisho_domain::report::ReportState;
use sekisho_domain::route::Routes;
use sekisho_ledger::{Row, Store};
use time::OffsetDateTime;

use crate::decision_log::Report;
use crate::error::Error;
use crate::next::Scope;
use crate::outcome::{Outcome, needs_repair};
use crate::relay::train::advance;
use crate::run::Run;
use crate::selection::routes_to;
use crate::target::{self, Reception, TargetRow};
use crate::target_report::{TargetReport, about_report};
use crate::world::World;

/// The reason for a report that arrives again.
const REPEATED: &str = "the ledger has this report or a later one on the order";

/// The reason for a report on an order that a newer one replaced.
const EARLIER: &str = "the report is about an earlier order";

/// What a report leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// The decision.
    pub(crate) decision: Decision<Outcome>,
    /// The row to write, if the row changes.
    pub(crate) row: Option<TargetRow>,
    /// Whether the target's trains may move on.
    pub(crate) moves_trains: bool,
}

pub(crate) async fn receive_report<W: World>(run: &Run<'_, W>, report: &TargetReport) -> Report {
    match run.until_unchanged(async || try_receive(run, report).await).await {
        Ok((decision, false)) => decision.into(),
        Ok((decision, true)) => advance_trains(run, report, decision.into()).await,
        // The target repeats a report that is never stored, but no retry makes the row readable.
        Err(error) if error.is_final() => about_report(report, needs_repair(&error)).into(),
        Err(error) => error.into(),
    }
}

/// Moves the trains on that wait for the target. A report that cannot do so is in the ledger all the same, and the
/// reconcile moves the trains on.
async fn advance_trains<W: World>(run: &Run<'_, W>, report: &TargetReport, mut whole: Report) -> Report {
    let routes = routes_to(run.routes, &run.invocation.region, &report.target);
    for route in routes.filter(|route| route.wave_of(&report.target).is_some()) {
        match advance(run, route, Scope::Target(report.target.clone())).await {
            Ok(log) => whole.log.extend(log.into_decisions()),
            Err(error) if error.is_final() => whole.log.push(about_report(report, needs_repair(&error))),
            Err(error) => drop(whole.failure.get_or_insert(error)),
        }
    }
    whole
}

/// Stores a report. Returns the decision and whether trains may move on.
async fn try_receive<W: World>(run: &Run<'_, W>, report: &TargetReport) -> Result<(Decision<Outcome>, bool), Error> {
    let (received, revision) = examine_report(run, report).await?;
    if let Some(row) = &received.row {
        let key = target::key(&report.target);
        run.world.ledger().write(&key, row, revision, &run.invocation.request_id).await?;
    }
    Ok((received.decision, received.moves_trains))
}

/// Reads the row of the report's target and decides what the report means. Returns the decision together with the row's
/// revision, and writes nothing.
pub(crate) async fn examine_report<W: World>(
    run: &Run<'_, W>,
    report: &TargetReport,
) -> Result<(Received, Option<u64>), Error> {
    if let Some(decision) = unrouted(run.routes, run, report) {
        return Ok((Received { decision, row: None, moves_trains: false }, None));
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
    let moves_trains = moves_trains(row, report);
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
        Reception::Older => (Outcome::Ignored, EARLIER.to_owned(), None),
        Reception::OfOther(row) => (Outcome::Ignored, EARLIER.to_owned(), Some(row)),
        Reception::Unplaced(row) => {
            let reason = "the ledger has no order with this number: later orders to this target get larger numbers";
            (Outcome::Ignored, reason.to_owned(), Some(row))
        }
        Reception::TooFarAhead(field) => {
            let reason = format!("event.detail.{field}: further ahead of the clock than that of any order or bake");
            (Outcome::Refused, reason, None)
        }
    };
    Received { decision: about_report(report, Decision::new(outcome, reason)), row, moves_trains }
}

/// Whether a report may move the target's trains on: the order of a wave ended, did not start, waits for other sources
/// than before, or ended differently than before. If it is repeated, the invocation that stored it may have failed
/// afterwards.
fn moves_trains(row: &TargetRow, report: &TargetReport) -> bool {
    let is_of_wave =
        row.order.as_ref().is_some_and(|order| order.train.is_some() && order.number == report.report.number);
    let last = row.current_report();
    let before = last.map(|report| report.state);
    let state = report.report.state;
    let is_news = before != Some(state) || last.is_some_and(|last| last.lacks != report.report.lacks);
    let is_unstarted = matches!(state, ReportState::Waiting | ReportState::Refused) && is_news;
    is_of_wave && (state.is_final() || is_unstarted || before.is_some_and(ReportState::is_final))
}
