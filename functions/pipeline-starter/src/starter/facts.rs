//! Reads the facts about a request, for the real path and for `explain`.

use sekisho_domain::change::CommitId;
use sekisho_domain::report::ReportTime;
use sekisho_domain::route::PipelineName;
use sekisho_ledger::{Row, SentNotice, Store};
use time::OffsetDateTime;

use crate::claim::{self, Claims};
use crate::error::Error;
use crate::notice::{self, NoticePlan};
use crate::order::{self, OrderRow};
use crate::request::EndedExecution;
use crate::run::Run;
use crate::world::World;

/// The row of a pipeline's newest order or, without such a row, the claims of earlier versions.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) row: Option<Row<OrderRow>>,
    pub(crate) claims: Claims,
}

impl Facts {
    pub(crate) async fn read<W: World>(run: &Run<'_, W>, pipeline: &PipelineName) -> Result<Self, Error> {
        let facts = Self::read_row(run, pipeline).await?;
        Ok(match facts.row {
            Some(_) => facts,
            None => Self { claims: Claims::new(run.ledger().each(&claim::partition(pipeline), "").await?), ..facts },
        })
    }

    /// Reads only the row, for an order that is refused.
    pub(crate) async fn read_row<W: World>(run: &Run<'_, W>, pipeline: &PipelineName) -> Result<Self, Error> {
        let row = run.ledger().read::<OrderRow>(&order::key(pipeline)).await?;
        Ok(Self { row, claims: Claims::default() })
    }

    pub(crate) fn state(&self) -> Option<&OrderRow> {
        self.row.as_ref().map(|row| &row.state)
    }

    /// The time of the last report about the pipeline.
    pub(crate) fn last_report(&self) -> Option<ReportTime> {
        self.state().and_then(|row| row.at)
    }

    /// The commit that was last healthy.
    pub(crate) fn good(&self) -> Option<CommitId> {
        self.state().and_then(|row| row.good.clone())
    }

    /// The order that can be started now that an execution of the pipeline has ended. Without an order, the newest
    /// change that an earlier version has not started becomes the order.
    pub(crate) fn waiting(&self, pipeline: &PipelineName, now: OffsetDateTime) -> Option<OrderRow> {
        let row = match &self.row {
            Some(row) => Some(row.state.clone()),
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
