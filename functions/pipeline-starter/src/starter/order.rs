//! Takes the orders of an event: starts their pipelines, or answers with the last report.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use sekisho_domain::change::{Change, SourceChange};
use sekisho_domain::decision::Decision;
use sekisho_domain::order::{Order, OrderKind};
use sekisho_domain::report::OrderReport;
use sekisho_domain::route::PipelineName;

use crate::error::Error;
use crate::order;
use crate::outcome::{Outcome, about_change, about_order};
use crate::plan::{Arrival, Plan};
use crate::report::refusal;
use crate::results::Results;
use crate::routing::{Address, NOT_ROUTED, Pins, Selection};
use crate::run::Run;
use crate::starter::attempt::{Attempt, MAX_RETRIES};
use crate::starter::facts::Facts;
use crate::starter::send;
use crate::world::World;

/// The most times that one invocation plans again because other invocations write the row at the same time.
const MAX_CONFLICTS: usize = 20;

/// Takes the orders of all pipelines at the same time. A pipeline that fails does not keep the other pipelines from
/// starting.
pub(crate) async fn take_all<W: World>(run: &Run<'_, W>, event: &SourceChange) -> Results {
    let pipelines = match run.routes.select(event) {
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
    let taken = pipelines.iter().map(async |(pipeline, address)| match address {
        Address::Order { order, is_implicit, pins } => {
            let arrival = Arrival { order: *order, change, is_implicit: *is_implicit };
            take(run, &arrival, pipeline, pins).await
        }
        Address::Unrouted(order) => unrouted(run, *order, change, pipeline).await,
        Address::Malformed { number, reason } => malformed(run, *number, reason, change, pipeline).await,
    });
    join_all(taken).await.into_iter().collect()
}

async fn take<W: World>(
    run: &Run<'_, W>,
    arrival: &Arrival<'_>,
    pipeline: &PipelineName,
    pins: &Pins,
) -> Result<Decision<Outcome>, Error> {
    let key = order::key(pipeline);
    for _ in 0..MAX_CONFLICTS {
        let facts = Facts::read(run, pipeline).await?;
        let plan = Plan::new(facts.state(), &facts.claims, arrival, &run.place(pipeline), run.now());
        match &plan {
            Plan::Start(row) => {
                let claim = Attempt::claim(run, pipeline, Some(pins), row.as_ref().clone(), facts.revision()).await?;
                if let Some(attempt) = claim {
                    return Ok(attempt.start(run, MAX_RETRIES).await?.decision);
                }
            }
            Plan::Queue(row) | Plan::Adopt(row) => {
                if send::write_and_send(run, &key, row, facts.revision()).await?.is_some() {
                    return Ok(about_order(row, pipeline, plan.decision()));
                }
            }
            Plan::Repeated | Plan::Stale(_) => {
                if let Some(row) = &facts.row {
                    send::answer(run, &key, &row.state, row.revision).await?;
                }
                return Ok(about_arrival(arrival, pipeline, plan_decision(&plan, &facts)));
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
async fn unrouted<W: World>(
    run: &Run<'_, W>,
    order: Order,
    change: &Change,
    pipeline: &PipelineName,
) -> Result<Decision<Outcome>, Error> {
    let facts = Facts::read_row(run, pipeline).await?;
    match &facts.row {
        // The account routed the order when it arrived for the first time, so the answer is the last report.
        Some(row) if row.state.number >= order.number => {
            send::answer(run, &order::key(pipeline), &row.state, row.revision).await?;
        }
        _ => {
            let report = OrderReport {
                good: facts.good(),
                ..refusal(order, change, &run.place(pipeline), NOT_ROUTED, facts.last_report(), run.now())
            };
            // Nothing stores this report. If the bus does not accept it, event-relay offers the order again.
            send::put(run, &report, change).await;
        }
    }
    Ok(unrouted_decision(order, change, pipeline))
}

/// The decision about an order that cannot be read.
pub(crate) fn malformed_decision(
    number: Option<u64>,
    reason: &str,
    change: &Change,
    pipeline: &PipelineName,
) -> Decision<Outcome> {
    about_change(change, pipeline, Decision::new(Outcome::Refused, reason))
        .about_some("order", number.map(|number| number.to_string()))
}

async fn malformed<W: World>(
    run: &Run<'_, W>,
    number: Option<u64>,
    reason: &str,
    change: &Change,
    pipeline: &PipelineName,
) -> Result<Decision<Outcome>, Error> {
    if let Some(number) = number {
        let facts = Facts::read_row(run, pipeline).await?;
        let order = Order { number, kind: OrderKind::Deploy };
        let report = OrderReport {
            good: facts.good(),
            ..refusal(order, change, &run.place(pipeline), reason, facts.last_report(), run.now())
        };
        send::put(run, &report, change).await;
    }
    Ok(malformed_decision(number, reason, change, pipeline))
}
