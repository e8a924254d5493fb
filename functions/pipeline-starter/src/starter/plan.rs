//! Reads the facts about a request and returns the plan that follows from them, for the real path and for `explain`.

use sekisho_domain::change::Change;
use sekisho_domain::route::PipelineName;
use sekisho_ledger::{Key, SentNotice, Store};

use crate::claim::{self, ClaimRow, Plan};
use crate::error::Error;
use crate::notice::{self, NoticePlan};
use crate::request::EndedExecution;
use crate::run::Run;
use crate::waiting::{self, WaitingPlan};
use crate::world::World;

/// The plan for a change and one pipeline, with the key and the revision of the row from which the plan follows.
#[derive(Debug)]
pub(crate) struct ChangePlan {
    pub(crate) key: Key,
    /// The revision of the row, or `None` if the ledger has no row.
    pub(crate) revision: Option<u64>,
    pub(crate) plan: Plan,
}

pub(crate) async fn for_change<W: World>(
    run: &Run<'_, W>,
    change: &Change,
    pipeline: &PipelineName,
) -> Result<ChangePlan, Error> {
    let key = claim::key(pipeline, &change.repository, &change.git_ref);
    let row = run.ledger().read::<ClaimRow>(&key).await?;
    let plan = Plan::new(row.as_ref().map(|row| &row.state), change, pipeline, run.now());
    Ok(ChangePlan { key, revision: row.map(|row| row.revision), plan })
}

pub(crate) async fn for_notice<W: World>(run: &Run<'_, W>, ended: &EndedExecution) -> Result<NoticePlan, Error> {
    if !ended.has_failed() {
        return Ok(NoticePlan::None);
    }
    let sent = SentNotice::read(run.ledger(), notice::key(ended), run.now()).await?;
    Ok(if sent.is_recent() { NoticePlan::AlreadySent } else { NoticePlan::Send(sent) })
}

pub(crate) async fn for_waiting<W: World>(
    run: &Run<'_, W>,
    pipeline: &PipelineName,
) -> Result<Vec<WaitingPlan>, Error> {
    let rows = run.ledger().each::<ClaimRow>(&claim::partition(pipeline), "").await?;
    Ok(waiting::plan(rows, pipeline, run.routes, run.now()))
}
