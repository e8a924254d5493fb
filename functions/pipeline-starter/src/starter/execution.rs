//! Follows up on an execution that has ended: records and reports what follows for the order, sends a notice about a
//! failure, and starts an order that waits for the pipeline.

use sekisho_domain::decision::Decision;
use sekisho_domain::order::OrderKind;
use sekisho_domain::report::ReportState;
use sekisho_domain::route::PipelineName;
use sekisho_lambda::failure::chain;
use sekisho_ledger::{Error as LedgerError, Row};
use time::OffsetDateTime;

use crate::conclusion::resumable;
use crate::end::{End, after_earlier_end, after_end};
use crate::error::Error;
use crate::notice::{self, NoticePlan};
use crate::order::{self, Cause, OrderRow, Progress};
use crate::outcome::{Outcome, about_execution, about_order, about_revisions, not_routed, nothing_waits};
use crate::report::Place;
use crate::request::EndedExecution;
use crate::results::Results;
use crate::run::Run;
use crate::starter::attempt::{self, Candidate, MAX_RETRIES};
use crate::starter::facts::{self, Facts, claims_of};
use crate::starter::{send, watch, way_back};
use crate::world::{FailureDetails, World};

/// The most times that one invocation plans again because other invocations write the row at the same time.
const MAX_CONFLICTS: usize = 20;

/// What an execution led to.
pub(crate) type Decided = Result<Decision<Outcome>, Error>;

/// Handles the event about an execution.
pub(crate) async fn follow_up<W: World>(run: &Run<'_, W>, ended: &EndedExecution) -> Results {
    let Some(pipeline) = run.routes.pipeline(&ended.pipeline) else { return not_routed(ended).into() };
    let results = conclude(run, pipeline, ended, ended.end(), MAX_RETRIES).await;
    if results.is_empty() {
        return nothing_waits(ended).into();
    }
    results.into_iter().map(|result| result.map(|decision| about_execution(ended, decision))).collect()
}

/// Takes the three steps that follow from the end of an execution. `end` is `None` for a failure, whose details are
/// read here. If CodePipeline does not tell why the execution failed, nothing is recorded and the event is retried. A
/// start that CodePipeline defers is repeated at most `retries` times. The notice comes last, because it must not delay
/// a rollback.
pub(crate) async fn conclude<W: World>(
    run: &Run<'_, W>,
    pipeline: &PipelineName,
    ended: &EndedExecution,
    end: Option<End>,
    retries: usize,
) -> Vec<Decided> {
    let (facts, notice) = futures_util::join!(Facts::read(run, pipeline), facts::notice_plan(run, ended));
    let mut results = Vec::new();
    let (mut facts, notice) = match (facts, notice) {
        (Ok(facts), Ok(notice)) => (facts, notice),
        // An unreadable row must not keep the notice from being sent.
        (Err(Error::Ledger(error @ LedgerError::Unreadable { .. })), Ok(notice)) => {
            results.push(Ok(Decision::new(Outcome::Failed, chain(&error))));
            (Facts::default(), notice)
        }
        (Err(error), _) | (_, Err(error)) => return vec![Err(error)],
    };
    let own = facts.state().and_then(|row| own_row(row, ended));
    let concerns_order = own.is_some();
    let concerns_pins = facts.state().is_some_and(|row| row.pins_depend_on(&ended.id));
    let is_asked = ended.has_failed() && (concerns_order || concerns_pins || matches!(notice, NoticePlan::Send(_)));
    let failure = if is_asked { failure_of(run, pipeline, ended, own.as_ref()).await.map(Some) } else { Ok(None) };
    let (details, has_deployed) = match failure {
        Ok(failure) => failure.unzip(),
        Err(error) => return vec![Err(error)],
    };
    let has_deployed = has_deployed.unwrap_or_default();
    let end = end.or_else(|| details.as_ref().map(|details| failed(details, has_deployed)));
    if let Some(end) = end {
        match record_end(run, pipeline, ended, &end, &mut facts).await {
            Ok(row) => results.extend(row.as_ref().and_then(|row| end_decision(row, pipeline, ended)).map(Ok)),
            Err(error) => results.push(Err(error)),
        }
    }
    // An execution of an earlier order may have failed elsewhere, and its event may come late.
    let is_in_source = details.as_ref().is_some_and(|details| details.is_in_source);
    let is_repeated = is_in_source && facts.state().is_some_and(|row| is_repeated_source_failure(row, ended));
    let next = facts.state().and_then(|row| notice::next_step(row, ended));
    if let Some(row) = facts.row.clone().filter(|row| row.state.is_baking() && concerns_order) {
        match Box::pin(watch::watch(run, pipeline, &row, None)).await {
            Ok(Some(watched)) => {
                results.extend(watch::verdict_decision(&watched.state, pipeline).map(Ok));
                facts.row = Some(watched);
            }
            // Another invocation goes on with the order.
            Ok(None) => facts = Facts::default(),
            Err(error) => results.push(Err(error)),
        }
    }
    let started = if ended.leaves_room() { start_waiting(run, pipeline, facts, retries).await } else { Vec::new() };
    if is_repeated {
        results.extend(suppress_notice(run, notice).await.err().map(Err));
    } else {
        results.extend(send_notice(run, ended, notice, details, next).await.transpose());
    }
    results.extend(started);
    results
}

/// Reads why an execution failed, and whether a deploy action had begun. If the order does not go back in any case, the
/// actions are not read.
async fn failure_of<W: World>(
    run: &Run<'_, W>,
    pipeline: &PipelineName,
    ended: &EndedExecution,
    own: Option<&OrderRow>,
) -> Result<(FailureDetails, bool), Error> {
    let details = run.world.failure_details(&ended.pipeline, &ended.id).await?;
    let may_go_back = own.is_some_and(|row| row.bake.is_some()) && !details.is_in_source;
    let has_deployed = may_go_back && Box::pin(way_back::has_deployed(run, pipeline, &ended.id)).await?;
    Ok((details, has_deployed))
}

/// Whether an execution failed in a source action, as an earlier execution of the order did. The order is started again
/// for two hours. People get a notice about the first failure, and one about the last one.
fn is_repeated_source_failure(row: &OrderRow, ended: &EndedExecution) -> bool {
    let waits = matches!(&row.progress, Progress::Waiting(wait) if wait.cause == Cause::Source);
    waits && row.source_failures > 1 && row.executions.contains(&ended.id)
}

/// Records that the notice was sent, so that the event does not send the notice when it arrives again.
async fn suppress_notice<W: World>(run: &Run<'_, W>, plan: NoticePlan) -> Result<(), Error> {
    let NoticePlan::Send(sent) = plan else { return Ok(()) };
    Ok(sent.record(run.ledger(), run.now() + notice::REMEMBERED, &run.invocation.request_id).await?)
}

fn failed(details: &FailureDetails, has_deployed: bool) -> End {
    let place = details.place.as_deref().unwrap_or("an action that is not known");
    let reason = details.reason.as_deref().unwrap_or("the reason is not known");
    let reason = format!("the execution failed in {place}: {reason}");
    End::Failed { is_in_source: details.is_in_source, has_deployed, reason }
}

/// The row if the execution is its order's. If a stage was retried before the rollback has started, the failed
/// execution is the order's again.
fn own_row(row: &OrderRow, ended: &EndedExecution) -> Option<OrderRow> {
    let is_own = row.execution.as_deref() == Some(ended.id.as_str());
    if is_own { Some(row.clone()) } else { resumable(row, &ended.id) }
}

/// The row after the end of an execution, with the report that follows. Returns `None` if the end changes nothing. An
/// execution that no order started changes only the reason of the report.
pub(crate) fn after_execution(
    row: &OrderRow,
    end: &End,
    ended: &EndedExecution,
    place: &Place<'_>,
    now: OffsetDateTime,
) -> Option<OrderRow> {
    match own_row(row, ended) {
        Some(own) => after_end(&own, end, ended.ending(), place, now),
        None if row.pins_depend_on(&ended.id) => after_earlier_end(row, &ended.id, end),
        None if ended.leaves_room() => row.mentioning(&ended.id, ended.ending().at, now),
        None => None,
    }
}

/// Writes and reports what the end means for the order, and updates the facts. Returns the new row, or `None` if the
/// end changes nothing.
async fn record_end<W: World>(
    run: &Run<'_, W>,
    pipeline: &PipelineName,
    ended: &EndedExecution,
    end: &End,
    facts: &mut Facts,
) -> Result<Option<OrderRow>, Error> {
    let key = order::key(pipeline);
    for _ in 0..MAX_CONFLICTS {
        let Some(Row { sk, revision, state }) = facts.row.clone() else { return Ok(None) };
        let after = after_execution(&state, end, ended, &run.place(pipeline), run.now());
        let Some(after) = after else { return Ok(None) };
        // A write would keep the invocation that holds the claim from recording its result.
        if matches!(state.progress, Progress::Claimed(_)) {
            return Err(Error::Busy(pipeline.clone()));
        }
        match send::write_and_send(run, &key, &after, Some(revision), Vec::new()).await? {
            Some((state, revision)) => {
                facts.row = Some(Row { sk, revision, state: state.clone() });
                return Ok(Some(state));
            }
            None => *facts = Facts::read(run, pipeline).await?,
        }
    }
    Err(Error::Busy(pipeline.clone()))
}

/// The decision about an order whose execution has ended. Returns `None` after a failure, because the decision about
/// the notice tells the failure.
pub(crate) fn end_decision(
    row: &OrderRow,
    pipeline: &PipelineName,
    ended: &EndedExecution,
) -> Option<Decision<Outcome>> {
    // The end of an earlier order's execution is no verdict on this order.
    if row.pins_depend_on(&ended.id) {
        return None;
    }
    if row.foreign_execution.as_deref() == Some(ended.id.as_str()) {
        let reason = "no order is known to have started this execution; the reports on the newest order mention it";
        let decision = Decision::new(Outcome::Ignored, reason);
        return Some(about_order(row, pipeline, decision).about("execution", &ended.id));
    }
    let outcome = match row.progress {
        Progress::Ended(ReportState::Healthy) if row.kind == OrderKind::Rollback => Outcome::RolledBack,
        Progress::Ended(ReportState::Healthy) => Outcome::Healthy,
        Progress::Ended(ReportState::Failed) => return None,
        // The decision about the notice tells the failure, and the decision about the start tells the way back.
        Progress::Waiting(_) if row.goes_back_from(&ended.id) => return None,
        Progress::Ended(_) => Outcome::Unknown,
        Progress::Running { .. } if row.is_baking() => Outcome::Waiting,
        Progress::Running { .. } => Outcome::Started,
        Progress::Claimed(_) | Progress::Waiting(_) => Outcome::Waiting,
    };
    Some(about_order(row, pipeline, Decision::new(outcome, row.reason())).about("execution", &ended.id))
}

async fn send_notice<W: World>(
    run: &Run<'_, W>,
    ended: &EndedExecution,
    plan: NoticePlan,
    details: Option<FailureDetails>,
    next: Option<String>,
) -> Result<Option<Decision<Outcome>>, Error> {
    let NoticePlan::Send(sent) = plan else { return Ok(plan.decision()) };
    let details = details.unwrap_or_default();
    let notice = notice::about(ended, &run.invocation.account, &run.invocation.region, &details, next);
    run.world.publish(&notice).await?;
    sent.record(run.ledger(), run.now() + notice::REMEMBERED, &run.invocation.request_id).await?;
    let reason = details.reason.as_deref().unwrap_or("the reason is not known");
    let decision = Decision::new(Outcome::ExecutionFailed, format!("the execution failed: {reason}"));
    Ok(Some(about_revisions(&details.revisions, decision).about_some("place", details.place)))
}

/// Starts the order that waits for the pipeline, because the pipeline may have room now. Without an order, the newest
/// change that an earlier version has not started becomes the order.
async fn start_waiting<W: World>(
    run: &Run<'_, W>,
    pipeline: &PipelineName,
    facts: Facts,
    retries: usize,
) -> Vec<Decided> {
    let mut results: Vec<Decided> =
        facts.claims.unreadable.iter().map(|error| Ok(Decision::new(Outcome::Failed, chain(error)))).collect();
    if let Some(row) = facts.waiting(pipeline, run.now()) {
        let revision = facts.revision();
        let claims = if revision.is_none() { Ok(facts.claims) } else { claims_of(run, pipeline, &row.change).await };
        match claims {
            Ok(claims) => {
                let candidate = Candidate { row: row.claimed(run.now()), revision, claims };
                results.extend(start(run, pipeline, candidate, retries).await);
            }
            Err(error) => results.push(Err(error)),
        }
    }
    results
}

/// Starts an order. An order that still waits for the same reason as before has no decision.
pub(crate) async fn start<W: World>(
    run: &Run<'_, W>,
    pipeline: &PipelineName,
    candidate: Candidate,
    retries: usize,
) -> Vec<Decided> {
    match attempt::start(run, pipeline, candidate, retries).await {
        Ok(attempted) => {
            let news = attempted.into_iter().filter(|attempted| !attempted.is_unchanged);
            news.map(|attempted| Ok(attempted.decision)).collect()
        }
        Err(error) => vec![Err(error)],
    }
}
