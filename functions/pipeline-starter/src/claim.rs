//! Claims: the rows of versions without orders. Such a version kept a row for each pipeline and reference. This version
//! only reads the rows, as long as a pipeline has no row of an order.

use std::time::Duration;

use sekisho_domain::change::{Change, CommitId, GitRef, RepositoryArn};
use sekisho_domain::order::Order;
use sekisho_domain::route::PipelineName;
use sekisho_domain::timestamp::epoch_millis;
use sekisho_ledger::{Error as LedgerError, Key, Lease, Row};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::order::{Cause, OrderRow, Progress as OrderProgress, REMEMBERED, Wait};

/// The length of a lease on a claim.
const LEASE_TERM: Duration = Duration::from_secs(55);

/// The key of the claim of a pipeline and reference.
#[must_use]
pub fn key(pipeline: &PipelineName, repository: &RepositoryArn, git_ref: &GitRef) -> Key {
    Key { pk: partition(pipeline), sk: format!("{repository}#{git_ref}") }
}

/// The partition key of a pipeline's claims.
#[must_use]
pub fn partition(pipeline: &PipelineName) -> String {
    format!("pipeline#{pipeline}")
}

/// The repository and the reference of the claim with this sort key. Returns `None` if the key has another format.
fn reference(sk: &str) -> Option<(RepositoryArn, GitRef)> {
    let (repository, git_ref) = sk.split_once('#')?;
    Some((repository.parse().ok()?, git_ref.parse().ok()?))
}

/// The claim of a pipeline and reference: the newest change of the reference that the pipeline has received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRow {
    /// The change's sequence.
    pub sequence: u64,
    /// The change's commit.
    pub commit: CommitId,
    /// The client request token of every attempt to start the change.
    pub token: String,
    /// The time when the change was first claimed, in epoch milliseconds.
    pub since: u64,
    /// The progress of the start.
    pub progress: Progress,
}

/// The progress of a start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Progress {
    /// An invocation holds the claim until this lease ends.
    Claimed(Lease),
    /// CodePipeline deferred the start for this reason.
    Waiting(String),
    /// CodePipeline started the execution with this id.
    Started(String),
    /// The start failed for this reason.
    Failed(String),
}

/// All claims of a pipeline, with the change of each.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    claims: Vec<(Change, ClaimRow)>,
    /// The rows that cannot be read.
    pub(crate) unreadable: Vec<LedgerError>,
}

impl Claims {
    pub(crate) fn new(rows: Vec<Result<Row<ClaimRow>, LedgerError>>) -> Self {
        let mut claims = Self::default();
        for row in rows {
            match row {
                Ok(row) => claims.claims.extend(change_of(&row).map(|change| (change, row.state))),
                Err(error) => claims.unreadable.push(error),
            }
        }
        claims.claims.sort_by_key(|(change, _)| change.sequence);
        claims
    }

    /// The sequence of the newest change, whatever its reference is.
    pub(crate) fn newest_sequence(&self) -> Option<u64> {
        self.claims.last().map(|(change, _)| change.sequence)
    }

    /// The row of an order, as far as the claims know the pipeline's past. If an earlier version has received the
    /// order's change, the row continues where that version has stopped.
    pub(crate) fn order_row(
        &self,
        order: Order,
        change: &Change,
        pipeline: &PipelineName,
        now: OffsetDateTime,
    ) -> OrderRow {
        let mut row = OrderRow::new(order, change, pipeline, None, now);
        let leases = self.claims.iter().filter_map(|(_, claim)| match claim.progress {
            Progress::Claimed(lease) if lease.is_held(now, LEASE_TERM) => Some(lease),
            _ => None,
        });
        row.fence = leases.max().unwrap_or(Lease::FREE);
        let own =
            self.claims.iter().find(|(claimed, claim)| claimed.id() == change.id() && claim.commit == change.commit);
        let started = self.claims.iter().rev().filter_map(|(claimed, claim)| match &claim.progress {
            Progress::Started(execution) if claimed.id() != change.id() => Some(execution.clone()),
            _ => None,
        });
        row.executions = started.take(REMEMBERED).collect();
        row.executions.reverse();
        match own.map(|(_, claim)| (claim, &claim.progress)) {
            Some((claim, Progress::Started(execution))) => {
                row.execution = Some(execution.clone());
                row.since = claim.since;
                // The follow-up looks at the execution soon, because it may have ended before the upgrade.
                row.progress = OrderProgress::Running { check: epoch_millis(now) };
            }
            Some((claim, _)) => {
                row.token.clone_from(&claim.token);
                row.since = claim.since;
                row.may_run = true;
            }
            None => {}
        }
        row
    }

    /// The row of the newest change, if an earlier version has not finished its start and no invocation works on it.
    /// Older changes are never started, because the pipeline would go backward.
    pub(crate) fn waiting(&self, pipeline: &PipelineName, now: OffsetDateTime) -> Option<OrderRow> {
        let (change, claim) = self.claims.last()?;
        let waits = match &claim.progress {
            Progress::Waiting(_) => true,
            Progress::Claimed(lease) => !lease.is_held(now, LEASE_TERM),
            Progress::Started(_) | Progress::Failed(_) => false,
        };
        let row = waits.then(|| self.order_row(Order::deploy(change.sequence), change, pipeline, now))?;
        let progress = OrderProgress::Waiting(Wait { cause: Cause::Busy, next: epoch_millis(now) });
        Some(OrderRow { is_implicit: true, progress, ..row })
    }
}

fn change_of(row: &Row<ClaimRow>) -> Option<Change> {
    let (repository, git_ref) = reference(&row.sk)?;
    Some(Change {
        kind: git_ref.kind(),
        repository,
        git_ref,
        commit: row.state.commit.clone(),
        previous: None,
        sequence: row.state.sequence,
        actor: None,
        event: None,
    })
}
