//! Follows up on an execution that has ended: sends a notice about a failure, and starts changes that wait for the
//! pipeline.

use sekisho_domain::decision::Decision;
use sekisho_domain::route::PipelineName;
use sekisho_ledger::{Key, Row};

use crate::claim::{self, Claim, ClaimRow, Progress};
use crate::error::Error;
use crate::notice::{self, NoticePlan};
use crate::outcome::{Outcome, about_execution, not_routed, nothing_waits};
use crate::report::Report;
use crate::request::EndedExecution;
use crate::run::{POLL_INTERVAL, Run};
use crate::starter::attempt::{Attempt, PinnedPipeline};
use crate::starter::plan;
use crate::waiting::{NO_LONGER_ROUTED, WaitingPlan};
use crate::world::World;

/// Sends the notice and starts waiting changes at the same time. If one of these two tasks fails, the other task
/// continues.
pub(crate) async fn follow_up<W: World>(run: &Run<'_, W>, ended: &EndedExecution) -> Report {
    let Some(pipeline) = run.routes.pipeline(&ended.pipeline) else { return not_routed(ended).into() };
    let (notice, started) = futures_util::join!(send_notice(run, ended), start_waiting(run, pipeline));
    let results: Vec<_> = notice.transpose().into_iter().chain(started).collect();
    if results.is_empty() {
        return nothing_waits(ended).into();
    }
    results.into_iter().map(|result| result.map(|decision| about_execution(ended, decision))).collect()
}

async fn send_notice<W: World>(run: &Run<'_, W>, ended: &EndedExecution) -> Result<Option<Decision<Outcome>>, Error> {
    let plan = plan::for_notice(run, ended).await?;
    let NoticePlan::Send(sent) = plan else { return Ok(plan.decision()) };
    let details = run.world.failure_details(&ended.pipeline, &ended.id).await?;
    let notice = notice::about(ended, &run.invocation.account, &run.invocation.region, &details);
    run.world.publish(&notice).await?;
    sent.record(run.ledger(), run.now() + notice::REMEMBERED, &run.invocation.request_id).await?;
    let reason = details.reason.as_deref().unwrap_or("the reason is not known");
    let decision = Decision::new(Outcome::ExecutionFailed, format!("the execution failed: {reason}"));
    Ok(Some(decision.about_some("commit", details.commit).about_some("place", details.place)))
}

/// Starts changes that CodePipeline deferred or whose invocation crashed, because the pipeline may have room now.
async fn start_waiting<W: World>(run: &Run<'_, W>, pipeline: &PipelineName) -> Vec<Result<Decision<Outcome>, Error>> {
    let plans = match plan::for_waiting(run, pipeline).await {
        Ok(plans) => plans,
        Err(error) => return vec![Err(error)],
    };
    let mut results = Vec::new();
    for plan in plans {
        results.extend(carry_out(run, pipeline, plan).await.transpose());
    }
    results
}

/// Carries out the plan for one row. Returns `None` if another invocation has claimed the row first.
async fn carry_out<W: World>(
    run: &Run<'_, W>,
    pipeline: &PipelineName,
    plan: WaitingPlan,
) -> Result<Option<Decision<Outcome>>, Error> {
    let decision = plan.decision(pipeline);
    match plan {
        WaitingPlan::Unreadable(_) => Ok(Some(decision)),
        WaitingPlan::Close(row) => {
            let closed = row.state.with(Progress::Failed(NO_LONGER_ROUTED.to_owned()));
            run.write(&key_of(pipeline, &row), &closed, Some(row.revision)).await?;
            Ok(Some(decision))
        }
        // No time is left to start the remaining changes. The function starts them when the next execution ends, as it
        // does when the pipeline has no room for them.
        WaitingPlan::Start(..) if !run.has_time_after(POLL_INTERVAL) => Err(Error::Busy(pipeline.clone())),
        WaitingPlan::Start(row, actions) => {
            let claim = Claim::again(&row.state, run.now());
            let pinned = PinnedPipeline { name: pipeline, actions: &actions };
            match Attempt::claim(run, pinned, key_of(pipeline, &row), claim, Some(row.revision)).await? {
                Some(attempt) => {
                    let started = attempt.start(run).await?;
                    Ok(Some(started.about("commit", row.state.commit.as_str())))
                }
                None => Ok(None),
            }
        }
    }
}

fn key_of(pipeline: &PipelineName, row: &Row<ClaimRow>) -> Key {
    Key { pk: claim::partition(pipeline), sk: row.sk.clone() }
}
