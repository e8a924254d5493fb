//! `explain`: describes the plan for an event. It reads the same facts as the real path, and writes and sends nothing.

use std::collections::BTreeSet;

use sekisho_domain::decision::Decision;
use sekisho_domain::route::PipelineName;
use sekisho_lambda::event::EXPLAIN_OF_EXPLAIN;

use crate::answer::Answer;
use crate::branch::{BranchRow, Pending};
use crate::delivery::Delivery;
use crate::error::Error;
use crate::hint::{Hint, Trigger};
use crate::outcome::{Outcome, about_change, about_hint, about_payload};
use crate::plan::{Claim, Facts, Plan, Snapshot};
use crate::redelivery::{Redelivery, RedeliveryPlan};
use crate::relay::{examine, report};
use crate::request::{self, Request};
use crate::run::Run;
use crate::world::World;

pub(crate) async fn explain<W: World>(run: &Run<'_, W>, payload: &str) -> Result<Answer, Error> {
    let decision = match request::read(payload, run.invocation) {
        Request::Change(hint) => explain_change(run, &hint).await?,
        Request::Reconcile => about_payload(payload, Decision::new(Outcome::Ignored, reconcile_reason(run))),
        Request::Redeliver(redelivery) => explain_redelivery(run, &redelivery).await?,
        Request::Report(report) => report::examine_report(run, &report).await?.0.decision,
        Request::Where(_) | Request::Resend(_) => {
            return Err(Error::InvalidRequest("`event` is a person's request: explain an event".to_owned()));
        }
        Request::Ignored(reason) => about_payload(payload, Decision::new(Outcome::Ignored, reason)),
        Request::Refused(reason) => about_payload(payload, Decision::new(Outcome::Refused, reason)),
        Request::Invalid(reason) => return Err(Error::InvalidRequest(reason)),
        Request::Explain(_) => return Err(Error::InvalidRequest(EXPLAIN_OF_EXPLAIN.to_owned())),
    };
    Ok(vec![decision].into())
}

/// Describes the plan for a reference. If a change is pending, the function assumes that the pending change is finished
/// first. The function then plans for the row that the ledger would have after the pending change.
async fn explain_change<W: World>(run: &Run<'_, W>, hint: &Hint) -> Result<Decision<Outcome>, Error> {
    let mut facts = Facts::new(run.routes, hint, Trigger::Event);
    let mut finished = None;
    let decision = loop {
        match examine::reference(run, facts).await? {
            Plan::Decide(verdict) => break verdict.decision,
            Plan::Wait(claim) | Plan::Finish(claim) => {
                let row =
                    claim.row.pending.as_ref().map_or(claim.row.clone(), |first| claim.row.relayed(&first.change));
                finished = Some(claim.dropped.map_or(row.sequence, |dropped| dropped.change.sequence));
                facts = Facts::new(run.routes, hint, Trigger::Event);
                facts.row = Some(Snapshot { row, revision: claim.replaces });
            }
            Plan::Relay(Claim { row: BranchRow { pending: Some(pending), .. }, .. }) => break to_be_relayed(&pending),
            Plan::Relay(_) | Plan::Nothing => {
                break about_hint(hint, Decision::new(Outcome::Filtered, "nothing is left to relay"));
            }
        }
    };
    let Some(sequence) = finished else { return Ok(decision) };
    let reason = format!("once the pending change (sequence {sequence}) is finished: {}", decision.reason);
    Ok(Decision { reason, ..decision }.about("pending", sequence.to_string()))
}

fn to_be_relayed(pending: &Pending) -> Decision<Outcome> {
    let place = |delivery: &Delivery| {
        let pipelines: Vec<&str> = delivery.pipelines.iter().map(PipelineName::as_str).collect();
        format!("{}/{}: {}", delivery.account, delivery.region, pipelines.join(", "))
    };
    let targets: Vec<String> = pending.deliveries.iter().map(place).collect();
    let reason = format!("would be relayed to {} buses", targets.len());
    about_change(&pending.change, Decision::new(Outcome::Relayed, reason)).about("targets", targets.join("; "))
}

async fn explain_redelivery<W: World>(run: &Run<'_, W>, redelivery: &Redelivery) -> Result<Decision<Outcome>, Error> {
    Ok(match examine::redelivery(run, redelivery).await? {
        RedeliveryPlan::Decide(decision) => decision,
        RedeliveryPlan::Deliver => {
            let reason = "would be delivered again, with the same sequence";
            about_change(&redelivery.change, Decision::new(Outcome::Relayed, reason))
                .about("account", redelivery.delivery.account.as_str())
        }
    })
}

/// The reason for the event of the schedule. A reconcile makes one plan for each reference, so this text describes no
/// plan. To see the plan for a reference, a person explains an event about the reference.
fn reconcile_reason<W>(run: &Run<'_, W>) -> String {
    let globs: BTreeSet<&str> = run.routes.iter().map(|route| route.repository().pattern()).collect();
    let globs: Vec<&str> = globs.into_iter().collect();
    format!(
        "a schedule's event: the reconcile would examine every routed branch of {} and finish pending changes; explain \
         an event of a branch to see the plan for that branch",
        globs.join(", ")
    )
}
