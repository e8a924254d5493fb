//! Explains the effect of an event. The explanation shows the plans that the real path carries out, and writes and
//! starts nothing.

use sekisho_domain::change::SourceChange;
use sekisho_domain::decision::{Decision, Decisions};
use sekisho_lambda::event::EXPLAIN_OF_EXPLAIN;

use crate::error::Error;
use crate::outcome::{Outcome, about_change, about_execution, about_payload, not_routed, nothing_waits};
use crate::request::{self, EndedExecution, Request, Source};
use crate::routing::Selection;
use crate::run::Run;
use crate::starter::approval;
use crate::starter::plan;
use crate::world::World;

/// Explains the event in `payload`.
pub(crate) async fn explain<W: World>(
    run: &Run<'_, W>,
    payload: &str,
    source: &Source<'_>,
) -> Result<Decisions<Outcome>, Error> {
    let decisions = match request::parse(payload, source) {
        Request::Change(event) => explain_change(run, &event).await?,
        Request::ExecutionEnded(ended) => explain_end(run, &ended).await?,
        Request::ActionChanged(action) => vec![approval::explain(run, &action).await?],
        Request::Refused(reason) => vec![about_payload(payload, Decision::new(Outcome::Refused, reason))],
        Request::Invalid(reason) => return Err(Error::InvalidRequest(reason)),
        Request::Explain(_) => return Err(Error::InvalidRequest(EXPLAIN_OF_EXPLAIN.to_owned())),
    };
    Ok(Decisions { decisions })
}

async fn explain_change<W: World>(run: &Run<'_, W>, event: &SourceChange) -> Result<Vec<Decision<Outcome>>, Error> {
    let pipelines = match run.routes.select(event) {
        Selection::Pipelines(pipelines) => pipelines,
        Selection::Filtered(decision) => return Ok(vec![decision]),
    };
    let mut decisions = Vec::new();
    for pipeline in pipelines.keys() {
        let planned = plan::for_change(run, &event.change, pipeline).await?;
        decisions.push(about_change(&event.change, pipeline, planned.plan.decision()));
    }
    Ok(decisions)
}

async fn explain_end<W: World>(run: &Run<'_, W>, ended: &EndedExecution) -> Result<Vec<Decision<Outcome>>, Error> {
    let Some(pipeline) = run.routes.pipeline(&ended.pipeline) else { return Ok(vec![not_routed(ended)]) };
    let notice = plan::for_notice(run, ended).await?.decision();
    let waiting = plan::for_waiting(run, pipeline).await?;
    let planned = notice.into_iter().chain(waiting.iter().map(|plan| plan.decision(pipeline)));
    let decisions: Vec<_> = planned.map(|decision| about_execution(ended, decision)).collect();
    Ok(if decisions.is_empty() { vec![nothing_waits(ended)] } else { decisions })
}
