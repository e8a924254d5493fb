//! Reads the facts about a request, for the real path and for `explain`.

use sekisho_domain::change::Change;
use sekisho_domain::route::PipelineName;
use sekisho_ledger::{Error as LedgerError, Key, ReadRow, Row, SentNotice, Store};
use serde::de::DeserializeOwned;
use serde_json::Value;
use time::OffsetDateTime;

use crate::claim::{self, Claims};
use crate::error::Error;
use crate::notice::{self, NoticePlan};
use crate::order::{self, OrderRow};
use crate::plan::{Arrival, Plan};
use crate::request::EndedExecution;
use crate::run::Run;
use crate::world::{ExecutionStatus, ListedExecution, World};

/// The row of a pipeline's newest order, and the claims that matter.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) row: Option<Row<OrderRow>>,
    pub(crate) claims: Claims,
}

impl Facts {
    /// Reads the row or, without a row, the claims of earlier versions.
    pub(crate) async fn read<W: World>(run: &Run<'_, W>, pipeline: &PipelineName) -> Result<Self, Error> {
        let facts = Self::read_row(run, pipeline).await?;
        if facts.row.is_some() { Ok(facts) } else { Self::without_row(run, pipeline).await }
    }

    /// Reads what the plan for an order depends on. CodePipeline's list is read only if an earlier version has started
    /// the order's change.
    pub(crate) async fn of_arrival<W: World>(
        run: &Run<'_, W>,
        pipeline: &PipelineName,
        arrival: &Arrival<'_>,
    ) -> Result<Self, Error> {
        let mut facts = Self::of_change(run, pipeline, arrival.change).await?;
        let Some(execution) = Plan::adoptable(facts.state(), &facts.claims, arrival).map(ToOwned::to_owned) else {
            return Ok(facts);
        };
        let is_outdated = match run.world.executions(pipeline, None).await {
            Ok(page) => {
                let later = page.executions.iter().take_while(|listed| listed.id != execution);
                let is_same = |listed: &ListedExecution| {
                    listed.revisions.iter().any(|one| one.revision == arrival.change.revision.as_str())
                };
                let mut others = later.filter(|listed| !is_same(listed));
                others.any(|other| matches!(other.status, ExecutionStatus::Succeeded | ExecutionStatus::Running))
            }
            // Nobody knows what the target runs. A start makes sure that it runs what is ordered.
            Err(error) if error.is_refused() => true,
            Err(error) => return Err(error.into()),
        };
        facts.claims.outdated = is_outdated.then_some(execution);
        Ok(facts)
    }

    /// Reads the row and the claim of the change's reference with one call. Without a row, reads all claims.
    async fn of_change<W: World>(run: &Run<'_, W>, pipeline: &PipelineName, change: &Change) -> Result<Self, Error> {
        let keys = [order::key(pipeline), claim::key(pipeline, &change.repository, &change.source_ref)];
        let mut rows = run.ledger().read_many::<Value>(&keys).await?.into_iter().zip(&keys);
        let (row, claim) = (rows.next(), rows.next());
        let Some(row) = row.map(|(row, key)| typed(row, key)).transpose()?.flatten() else {
            return Self::without_row(run, pipeline).await;
        };
        let claim = claim.and_then(|(claim, key)| typed(claim, key).transpose());
        Ok(Self { row: Some(row), claims: Claims::new(claim.into_iter().collect()) })
    }

    async fn without_row<W: World>(run: &Run<'_, W>, pipeline: &PipelineName) -> Result<Self, Error> {
        let claims = Claims::new(run.ledger().each(&claim::partition(pipeline), "").await?);
        Ok(Self { row: None, claims })
    }

    /// Reads only the row, for an order that is refused.
    pub(crate) async fn read_row<W: World>(run: &Run<'_, W>, pipeline: &PipelineName) -> Result<Self, Error> {
        let row = run.ledger().read::<OrderRow>(&order::key(pipeline)).await?;
        Ok(Self { row, claims: Claims::default() })
    }

    pub(crate) fn state(&self) -> Option<&OrderRow> {
        self.row.as_ref().map(|row| &row.state)
    }

    /// The order that can be started now that an execution of the pipeline has ended. Without an order, the newest
    /// change that an earlier version has not started becomes the order. If a claim cannot be read, it may be about a
    /// newer change, and nothing is started.
    pub(crate) fn waiting(&self, pipeline: &PipelineName, now: OffsetDateTime) -> Option<OrderRow> {
        let row = match &self.row {
            Some(row) => Some(row.state.clone()),
            None if !self.claims.unreadable.is_empty() => None,
            None => self.claims.waiting(pipeline, now),
        };
        row.filter(|row| row.is_startable(true, now))
    }

    /// The revision of the row, or `None` if the ledger has no row.
    pub(crate) fn revision(&self) -> Option<u64> {
        self.row.as_ref().map(|row| row.revision)
    }
}

pub(crate) async fn notice_plan<W: World>(run: &Run<'_, W>, ended: &EndedExecution) -> Result<NoticePlan, Error> {
    if !ended.has_failed() {
        return Ok(NoticePlan::None);
    }
    let sent = SentNotice::read(run.ledger(), notice::key(ended), run.now()).await?;
    Ok(if sent.is_recent() { NoticePlan::AlreadySent } else { NoticePlan::Send(sent) })
}

/// Reads the claim of the change's reference, for an order whose row was read without the claim.
pub(crate) async fn claims_of<W: World>(
    run: &Run<'_, W>,
    pipeline: &PipelineName,
    change: &Change,
) -> Result<Claims, Error> {
    // Earlier versions refuse images, so that no image has a claim.
    if change.revision.is_digest() {
        return Ok(Claims::default());
    }
    let claim = run.ledger().read(&claim::key(pipeline, &change.repository, &change.source_ref)).await?;
    Ok(Claims::new(claim.into_iter().map(Ok).collect()))
}

/// A row that was read without its type.
fn typed<T: DeserializeOwned>(row: ReadRow<Value>, key: &Key) -> ReadRow<T> {
    let Some(Row { sk, revision, state }) = row? else { return Ok(None) };
    match serde_json::from_value(state) {
        Ok(state) => Ok(Some(Row { sk, revision, state })),
        Err(error) => Err(LedgerError::Unreadable { key: key.clone(), source: error.into() }),
    }
}
