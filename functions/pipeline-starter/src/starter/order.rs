//! Takes the orders of an event: starts their pipelines, or answers with the last report.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream};
use sekisho_domain::change::{Change, SourceChange};
use sekisho_domain::decision::Decision;
use sekisho_domain::order::Order;
use sekisho_domain::report::{OrderReport, ReportState};
use sekisho_domain::route::PipelineName;
use sekisho_lambda::failure::chain;
use sekisho_ledger::Error as LedgerError;

use crate::error::Error;
use crate::order::{self, OrderRow};
use crate::outcome::{Outcome, about_change, about_order};
use crate::plan::{Arrival, Plan};
use crate::report::{report, unstored_at};
use crate::results::Results;
use crate::routing::{Address, Malformed, NOT_ROUTED, Selection};
use crate::run::Run;
use crate::starter::attempt::{self, Candidate, MAX_CONCURRENT, MAX_RETRIES};
use crate::starter::facts::Facts;
use crate::starter::send;
use crate::world::World;

/// The most times that one invocation plans again because other invocations write the row at the same time.
const MAX_CONFLICTS: usize = 20;

/// The decisions about an order, and about a newer order that waited for it.
type Decided = Result<Vec<Decision<Outcome>>, Error>;

/// Takes the orders of several pipelines at the same time. A pipeline that fails does not keep the other pipelines from
/// starting.
pub(crate) async fn take_all<W: World>(run: &Run<'_, W>, event: &SourceChange) -> Results {
    let pipelines = match run.routes.select(event, run.now()) {
        Selection::Pipelines(pipelines) => pipelines,
        Selection::Filtered(decision) => return decision.into(),
    };
    take_each(run, &event.change, &pipelines).await
}

async fn take_each<W: World>(
    run: &Run<'_, W>,
    change: &Change,
    pipelines: &BTreeMap<PipelineName, Address>,
) -> Results {
    let taken = pipelines.iter().enumerate().map(async |(index, (pipeline, address))| {
        let decided = match address {
            Address::Order { order, is_implicit } => {
                let arrival = Arrival { order: *order, change, is_implicit: *is_implicit };
                take(run, &arrival, pipeline).await
            }
            Address::Unrouted(order) => unrouted(run, *order, change, pipeline).await,
            Address::Malformed(malformed) => refuse(run, malformed, change, pipeline).await,
        };
        (index, decided)
    });
    let mut taken: Vec<_> = stream::iter(taken).buffer_unordered(MAX_CONCURRENT).collect().await;
    taken.sort_by_key(|(index, _)| *index);
    let decided = taken.into_iter().flat_map(|(_, decided)| match decided {
        Ok(decisions) => decisions.into_iter().map(Ok).collect(),
        Err(error) => vec![Err(error)],
    });
    decided.collect()
}

/// Takes an order. If a row cannot be read, no retry helps: the decision is `failed`, and the report `waiting`.
async fn take<W: World>(run: &Run<'_, W>, arrival: &Arrival<'_>, pipeline: &PipelineName) -> Decided {
    match take_readable(run, arrival, pipeline).await {
        Err(Error::Ledger(error @ LedgerError::Unreadable { .. })) => {
            let reason = chain(&error);
            report_unstored(run, arrival.order, arrival.change, pipeline, None, (ReportState::Waiting, &reason)).await;
            Ok(vec![about_arrival(arrival, pipeline, Decision::new(Outcome::Failed, reason))])
        }
        decided => decided,
    }
}

async fn take_readable<W: World>(run: &Run<'_, W>, arrival: &Arrival<'_>, pipeline: &PipelineName) -> Decided {
    let key = order::key(pipeline);
    for _ in 0..MAX_CONFLICTS {
        let mut facts = Facts::of_arrival(run, pipeline, arrival).await?;
        // A claim that cannot be read may be about this very change, or about a newer one.
        if let Some(error) = facts.claims.unreadable.pop() {
            return Err(error.into());
        }
        let plan = Plan::new(facts.state(), &facts.claims, arrival, &run.place(pipeline), run.now());
        match &plan {
            Plan::Start(row) => {
                let revision = facts.revision();
                let candidate = Candidate { row: row.as_ref().clone(), revision, claims: facts.claims };
                let attempted = attempt::start(run, pipeline, candidate, MAX_RETRIES).await?;
                if !attempted.is_empty() {
                    return Ok(attempted.into_iter().map(|attempted| attempted.decision).collect());
                }
            }
            Plan::Write(row, decision) => {
                let replaced = attempt::replaced_claims(run, pipeline, facts.revision(), &facts.claims)?;
                if send::write_and_send(run, &key, row, facts.revision(), replaced).await?.is_some() {
                    return Ok(vec![about_order(row, pipeline, decision.clone())]);
                }
            }
            Plan::Repeated | Plan::Stale(_) => {
                if let Some(row) = &facts.row {
                    send::answer(run, &key, &row.state, row.revision).await?;
                }
                return Ok(vec![about_arrival(arrival, pipeline, plan_decision(&plan, &facts))]);
            }
        }
    }
    Err(Error::Busy(pipeline.clone()))
}

/// The decision of a plan. If the order has an execution, the decision names it.
pub(crate) fn plan_decision(plan: &Plan, facts: &Facts) -> Decision<Outcome> {
    match (plan, facts.state().and_then(|row| row.execution.as_ref())) {
        (Plan::Repeated, Some(execution)) => {
            Decision::new(Outcome::Duplicate, format!("started before, as execution {execution}"))
                .about("execution", execution)
        }
        _ => plan.decision(),
    }
}

pub(crate) fn about_arrival(
    arrival: &Arrival<'_>,
    pipeline: &PipelineName,
    decision: Decision<Outcome>,
) -> Decision<Outcome> {
    let number = (!arrival.is_implicit).then(|| arrival.order.number.to_string());
    about_change(arrival.change, pipeline, decision).about_some("order", number)
}

/// The decision about an order to a pipeline that no route leads to.
pub(crate) fn unrouted_decision(order: Order, change: &Change, pipeline: &PipelineName) -> Decision<Outcome> {
    about_change(change, pipeline, Decision::new(Outcome::Filtered, NOT_ROUTED))
        .about("order", order.number.to_string())
}

/// Refuses an order that the account does not route. event-relay offers the order again, because the account may get a
/// newer configuration.
async fn unrouted<W: World>(run: &Run<'_, W>, order: Order, change: &Change, pipeline: &PipelineName) -> Decided {
    let unreadable = report_refusal(run, order, change, pipeline, NOT_ROUTED).await?;
    Ok(unreadable.into_iter().chain([unrouted_decision(order, change, pipeline)]).collect())
}

/// The decision about an order that cannot be read, or whose number is not plausible.
pub(crate) fn malformed_decision(malformed: &Malformed, change: &Change, pipeline: &PipelineName) -> Decision<Outcome> {
    about_change(change, pipeline, Decision::new(Outcome::Refused, &malformed.reason))
        .about_some("order", malformed.number.map(|number| number.to_string()))
}

async fn refuse<W: World>(
    run: &Run<'_, W>,
    malformed: &Malformed,
    change: &Change,
    pipeline: &PipelineName,
) -> Decided {
    let unreadable = match malformed.number {
        Some(number) if malformed.is_reported => {
            let order = Order::deploy(number);
            report_refusal(run, order, change, pipeline, &malformed.reason).await?
        }
        _ => None,
    };
    Ok(unreadable.into_iter().chain([malformed_decision(malformed, change, pipeline)]).collect())
}

/// Reports that an order which gets no row is refused. If the order or a newer one arrived before, the answer is the
/// last report. Returns a decision if the row cannot be read.
async fn report_refusal<W: World>(
    run: &Run<'_, W>,
    order: Order,
    change: &Change,
    pipeline: &PipelineName,
    reason: &str,
) -> Result<Option<Decision<Outcome>>, Error> {
    let (row, failed) = match Facts::read_row(run, pipeline).await {
        Ok(facts) => (facts.row, None),
        Err(Error::Ledger(error @ LedgerError::Unreadable { .. })) => {
            let failed = about_change(change, pipeline, Decision::new(Outcome::Failed, chain(&error)));
            (None, Some(failed.about("order", order.number.to_string())))
        }
        Err(error) => return Err(error),
    };
    match &row {
        Some(row) if row.state.number >= order.number => {
            send::answer(run, &order::key(pipeline), &row.state, row.revision).await?;
        }
        row => {
            let row = row.as_ref().map(|row| &row.state);
            report_unstored(run, order, change, pipeline, row, (ReportState::Refused, reason)).await;
        }
    }
    Ok(failed)
}

/// Sends a report that no row stores. If the bus does not accept the report, event-relay offers the order again.
async fn report_unstored<W: World>(
    run: &Run<'_, W>,
    order: Order,
    change: &Change,
    pipeline: &PipelineName,
    row: Option<&OrderRow>,
    (state, reason): (ReportState, &str),
) {
    let at = unstored_at(row.map(|row| row.at), run.now());
    let good = row.and_then(|row| row.good_of(&change.repository).cloned());
    let since = row.filter(|_| good.is_some()).and_then(|row| order::report_time(row.sure_good_since()?));
    let report = OrderReport { good, since, ..report(order, change, &run.place(pipeline), state, reason, at) };
    send::put(run, &report, change).await;
}
