//! Starts the pipelines that a change concerns.

use futures_util::future::join_all;
use sekisho_domain::change::{Change, SourceChange};
use sekisho_domain::decision::Decision;

use crate::claim::Plan;
use crate::error::Error;
use crate::outcome::{Outcome, about_change};
use crate::report::Report;
use crate::routing::Selection;
use crate::run::{POLL_INTERVAL, Run};
use crate::starter::attempt::{Attempt, PinnedPipeline};
use crate::starter::plan;
use crate::world::World;

/// The most times that one invocation tries to claim a row that other invocations write at the same time.
const MAX_CONFLICTS: usize = 20;

/// Starts all selected pipelines at the same time. A pipeline that fails does not keep the other pipelines from
/// starting.
pub(crate) async fn start_pipelines<W: World>(run: &Run<'_, W>, event: &SourceChange) -> Report {
    let pipelines = match run.routes.select(event) {
        Selection::Pipelines(pipelines) => pipelines,
        Selection::Filtered(decision) => return decision.into(),
    };
    let change = &event.change;
    let starts = pipelines.iter().map(async |(name, actions)| {
        let decision = start_pipeline(run, change, PinnedPipeline { name, actions }).await?;
        Ok(about_change(change, name, decision))
    });
    join_all(starts).await.into_iter().collect()
}

async fn start_pipeline<W: World>(
    run: &Run<'_, W>,
    change: &Change,
    pipeline: PinnedPipeline<'_>,
) -> Result<Decision<Outcome>, Error> {
    let mut conflicts = 0;
    while conflicts < MAX_CONFLICTS {
        let planned = plan::for_change(run, change, pipeline.name).await?;
        match planned.plan {
            Plan::Duplicate(_) | Plan::Stale(_) => return Ok(planned.plan.decision()),
            Plan::Wait if run.has_time_after(POLL_INTERVAL) => run.world.sleep(POLL_INTERVAL).await,
            Plan::Wait => break,
            Plan::Claim(claim) => match Attempt::claim(run, pipeline, planned.key, claim, planned.revision).await? {
                Some(attempt) => return attempt.start(run).await,
                None => conflicts += 1,
            },
        }
    }
    Err(Error::Busy(pipeline.name.clone()))
}
