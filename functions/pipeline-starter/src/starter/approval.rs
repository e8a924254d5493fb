//! Sends a notice about an action that waits for the approval of a person.
//!
//! A rule of EventBridge does not publish the notice directly, because the topic's policy would have to admit
//! EventBridge without conditions. Such a policy would also admit the rules of other accounts.

use sekisho_domain::decision::Decision;
use sekisho_ledger::SentNotice;

use crate::error::Error;
use crate::notice;
use crate::outcome::{Outcome, about_action, about_revisions};
use crate::request::ActionState;
use crate::results::Results;
use crate::run::Run;
use crate::world::World;

/// The plan for an event about an action.
enum ApprovalPlan {
    /// Send nothing, because the action does not wait for an approval.
    None,
    /// Send nothing, because the notice was sent before.
    AlreadySent,
    /// Send the notice, then record that it was sent.
    Send(SentNotice),
}

impl ApprovalPlan {
    async fn new<W: World>(run: &Run<'_, W>, action: &ActionState) -> Result<Self, Error> {
        if !action.waits_for_approval() {
            return Ok(Self::None);
        }
        let sent = SentNotice::read(run.ledger(), notice::approval_key(action), run.now()).await?;
        Ok(if sent.is_recent() { Self::AlreadySent } else { Self::Send(sent) })
    }

    /// The decision that the plan leads to if the notice can be sent.
    fn decision(&self) -> Decision<Outcome> {
        match self {
            Self::None => Decision::new(Outcome::Ignored, "the action does not wait for an approval"),
            Self::AlreadySent => Decision::new(Outcome::Duplicate, "the notice about this approval was sent before"),
            Self::Send(_) => {
                Decision::new(Outcome::Waiting, "the action waits for an approval; a notice about it would be sent")
            }
        }
    }
}

/// Sends the notice once for each run of the action, whether a route leads to the pipeline or not.
pub(crate) async fn notify<W: World>(run: &Run<'_, W>, action: &ActionState) -> Results {
    let decision = send_notice(run, action).await.map(|decision| about_action(action, decision));
    [decision].into_iter().collect()
}

async fn send_notice<W: World>(run: &Run<'_, W>, action: &ActionState) -> Result<Decision<Outcome>, Error> {
    let plan = ApprovalPlan::new(run, action).await?;
    let ApprovalPlan::Send(sent) = plan else { return Ok(plan.decision()) };
    let revisions = run.world.execution_revisions(&action.pipeline, &action.execution).await?;
    let invocation = run.invocation;
    let notice = notice::about_approval(action, &invocation.account, &invocation.region, &revisions);
    run.world.publish(&notice).await?;
    sent.record(run.ledger(), run.now() + notice::REMEMBERED, &invocation.request_id).await?;
    let decision = Decision::new(Outcome::Waiting, "the action waits for an approval; the notice about it was sent");
    Ok(about_revisions(&revisions, decision))
}

/// The decision that [`notify`] would make.
pub(crate) async fn explain<W: World>(run: &Run<'_, W>, action: &ActionState) -> Result<Decision<Outcome>, Error> {
    Ok(about_action(action, ApprovalPlan::new(run, action).await?.decision()))
}
