//! Explains the effect of an event. The explanation shows the plans that the real path carries out, and writes and
//! starts nothing.

use sekisho_domain::change::SourceChange;
use sekisho_domain::decision::Decision;
use sekisho_domain::route::PipelineName;
use sekisho_lambda::event::EXPLAIN_OF_EXPLAIN;
use sekisho_lambda::failure::chain;
use sekisho_ledger::{Error as LedgerError, Store};

use crate::error::Error;
use crate::order::{self, OrderRow};
use crate::outcome::{Outcome, about_execution, about_order, about_payload, not_routed, nothing_bakes, nothing_waits};
use crate::plan::{Arrival, Due, Plan};
use crate::request::{self, ChangedAlarm, EndedExecution, Request, Source};
use crate::routing::{Address, Selection};
use crate::run::Run;
use crate::starter::execution::{after_execution, end_decision};
use crate::starter::facts::{self, Facts};
use crate::starter::follow_up::{due, nothing_due};
use crate::starter::order::{about_arrival, malformed_decision, plan_decision, unrouted_decision};
use crate::starter::{approval, bake, entry, watch};
use crate::world::World;

/// Explains the event in `payload`.
pub(crate) async fn explain<W: World>(
    run: &Run<'_, W>,
    payload: &str,
    source: &Source<'_>,
) -> Result<Vec<Decision<Outcome>>, Error> {
    Ok(match request::parse(payload, source) {
        Request::Change(event) => explain_change(run, &event).await?,
        Request::ExecutionEnded(ended) => explain_end(run, &ended).await?,
        Request::FollowUp => explain_follow_up(run).await?,
        Request::AlarmChanged(alarm) => explain_alarm(run, &alarm).await?,
        Request::ActionChanged(action) => vec![approval::explain(run, &action).await?],
        Request::Refused(reason) => vec![about_payload(payload, Decision::new(Outcome::Refused, reason))],
        Request::Invalid(reason) => return Err(Error::InvalidRequest(reason)),
        Request::Explain(_) => return Err(Error::InvalidRequest(EXPLAIN_OF_EXPLAIN.to_owned())),
    })
}

async fn explain_change<W: World>(run: &Run<'_, W>, event: &SourceChange) -> Result<Vec<Decision<Outcome>>, Error> {
    let pipelines = match run.routes.select(event, run.now()) {
        Selection::Pipelines(pipelines) => pipelines,
        Selection::Filtered(decision) => return Ok(vec![decision]),
    };
    let change = &event.change;
    let mut decisions = Vec::new();
    for (pipeline, address) in &pipelines {
        decisions.push(match address {
            Address::Order { order, is_implicit } => {
                let arrival = Arrival { order: *order, change, is_implicit: *is_implicit };
                about_arrival(&arrival, pipeline, explain_arrival(run, &arrival, pipeline).await?)
            }
            Address::Unrouted(order) => unrouted_decision(*order, change, pipeline),
            Address::Malformed(malformed) => malformed_decision(malformed, change, pipeline),
        });
    }
    Ok(decisions)
}

async fn explain_arrival<W: World>(
    run: &Run<'_, W>,
    arrival: &Arrival<'_>,
    pipeline: &PipelineName,
) -> Result<Decision<Outcome>, Error> {
    let facts = match Facts::of_arrival(run, pipeline, arrival).await {
        Ok(facts) => facts,
        Err(Error::Ledger(error @ LedgerError::Unreadable { .. })) => {
            return Ok(Decision::new(Outcome::Failed, chain(&error)));
        }
        Err(error) => return Err(error),
    };
    if let Some(error) = facts.claims.unreadable.first() {
        return Ok(Decision::new(Outcome::Failed, chain(error)));
    }
    let plan = Plan::new(facts.state(), &facts.claims, arrival, &run.place(pipeline), run.now());
    if let Plan::Start(row) = &plan
        && let Some(reason) = entry::explain(run, pipeline, row).await
    {
        return Ok(Decision::new(Outcome::Waiting, reason));
    }
    Ok(plan_decision(&plan, &facts))
}

/// Explains the end of an execution. CodePipeline is not asked where an execution failed, so the explanation of a
/// failure names only the notice.
async fn explain_end<W: World>(run: &Run<'_, W>, ended: &EndedExecution) -> Result<Vec<Decision<Outcome>>, Error> {
    let Some(pipeline) = run.routes.pipeline(&ended.pipeline) else { return Ok(vec![not_routed(ended)]) };
    let mut facts = Facts::read(run, pipeline).await?;
    let mut decisions = Vec::new();
    if let (Some(row), Some(end)) = (&mut facts.row, ended.end())
        && let Some(after) = after_execution(&row.state, &end, ended, &run.place(pipeline), run.now())
    {
        decisions.extend(end_decision(&after, pipeline, ended));
        row.state = after;
    }
    decisions.extend(facts::notice_plan(run, ended).await?.decision());
    decisions.extend(facts.claims.unreadable.iter().map(|error| Decision::new(Outcome::Failed, chain(error))));
    let waiting = facts.waiting(pipeline, run.now()).filter(|_| ended.leaves_room());
    decisions.extend(waiting.map(|row| {
        about_order(&row, pipeline, start_decision(run.routes.pins(row.kind, &row.change, pipeline).is_some()))
    }));
    if decisions.is_empty() {
        return Ok(vec![nothing_waits(ended)]);
    }
    Ok(decisions.into_iter().map(|decision| about_execution(ended, decision)).collect())
}

async fn explain_alarm<W: World>(run: &Run<'_, W>, alarm: &ChangedAlarm) -> Result<Vec<Decision<Outcome>>, Error> {
    let mut decisions = Vec::new();
    let rows = bake::baking(run, alarm).await?;
    let hint = bake::hint(run, alarm, &rows);
    for (pipeline, row) in rows {
        decisions.extend(watch::explain(run, &pipeline, &row.state, Some(&hint)).await);
    }
    if decisions.is_empty() {
        decisions.push(nothing_bakes(alarm));
    }
    Ok(decisions)
}

fn start_decision(is_routed: bool) -> Decision<Outcome> {
    if is_routed {
        Decision::new(Outcome::Started, "the order waits for this pipeline, and would be started")
    } else {
        Decision::new(Outcome::Filtered, order::NO_LONGER_ROUTED)
    }
}

async fn explain_follow_up<W: World>(run: &Run<'_, W>) -> Result<Vec<Decision<Outcome>>, Error> {
    let mut decisions = Vec::new();
    for row in run.ledger().each::<OrderRow>(order::PARTITION, "").await? {
        match row {
            Ok(row) => {
                if let Some((pipeline, due)) = due(run, &row) {
                    if due == Due::Watch {
                        decisions.extend(watch::explain(run, &pipeline, &row.state, None).await);
                        continue;
                    }
                    let is_routed = run.routes.pins(row.state.kind, &row.state.change, &pipeline).is_some();
                    let alarms =
                        if due == Due::Start { entry::explain(run, &pipeline, &row.state).await } else { None };
                    let waits = alarms.map(|reason| Decision::new(Outcome::Waiting, reason));
                    let decision = waits.or_else(|| due_decision(&due, is_routed));
                    decisions.extend(decision.map(|decision| about_order(&row.state, &pipeline, decision)));
                }
            }
            Err(error) => decisions.push(Decision::new(Outcome::Failed, chain(&error))),
        }
    }
    if decisions.is_empty() {
        decisions.push(nothing_due());
    }
    Ok(decisions)
}

fn due_decision(due: &Due, is_routed: bool) -> Option<Decision<Outcome>> {
    match due {
        Due::Start if !is_routed => {
            let reason = "would look for an execution that an earlier attempt may have started, and otherwise \
                          close the order, because no route leads to the pipeline any more";
            Some(Decision::new(Outcome::Ignored, reason))
        }
        Due::Start => Some(start_decision(true)),
        Due::Close => Some(start_decision(false)),
        Due::Check(execution) => {
            let reason = format!("would look whether execution {execution} has ended");
            Some(Decision::new(Outcome::Ignored, reason).about("execution", execution))
        }
        Due::Send => Some(Decision::new(Outcome::Ignored, "the last report or notice would be sent again")),
        Due::Watch | Due::Nothing => None,
    }
}
