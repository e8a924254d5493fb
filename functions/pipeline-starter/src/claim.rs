//! Claims: the rows of versions without orders. Such a version kept a row for each pipeline and reference.
//!
//! CloudFormation may bring such a version back, for example if the deployment of a stack fails. Therefore this version
//! keeps the claims up to date: a claim names the execution that an order has started, and a claim that waited when the
//! pipeline got its first order has failed. The version that comes back then starts nothing twice, and no older change.

use std::time::Duration;

use sekisho_domain::change::{Change, RepositoryArn, Revision, SourceRef};
use sekisho_domain::order::Order;
use sekisho_domain::route::PipelineName;
use sekisho_domain::timestamp::epoch_millis;
use sekisho_ledger::{Error as LedgerError, Key, Lease, MAX_TRANSACTION, Row, Write};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::order::{Cause, OrderRow, Progress as OrderProgress, REMEMBERED, Wait};

/// The length of a lease on a claim.
const LEASE_TERM: Duration = Duration::from_secs(55);

/// The key of the claim of a pipeline and reference.
#[must_use]
pub fn key(pipeline: &PipelineName, repository: &RepositoryArn, source_ref: &SourceRef) -> Key {
    Key { pk: partition(pipeline), sk: format!("{repository}#{source_ref}") }
}

/// The partition key of a pipeline's claims.
#[must_use]
pub fn partition(pipeline: &PipelineName) -> String {
    format!("pipeline#{pipeline}")
}

/// The repository and the reference of the claim with this sort key. Returns `None` if the key has another format.
fn reference(sk: &str) -> Option<(RepositoryArn, SourceRef)> {
    let (repository, source_ref) = sk.split_once('#')?;
    Some((repository.parse().ok()?, source_ref.parse().ok()?))
}

/// The claim of a pipeline and reference: the newest change of the reference that the pipeline has received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRow {
    /// The change's sequence.
    pub sequence: u64,
    /// The change's commit.
    pub commit: Revision,
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

/// The claims of a pipeline that were read, with the change of each: all of them as long as the pipeline has no order,
/// and later only the claim of a change's reference.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    rows: Vec<(Change, Row<ClaimRow>)>,
    /// The rows that cannot be read.
    pub(crate) unreadable: Vec<LedgerError>,
    /// The execution that was started for the order's change, if the pipeline has run another revision since then. The
    /// order does not adopt the execution.
    pub(crate) outdated: Option<String>,
}

impl Claims {
    pub(crate) fn new(rows: Vec<Result<Row<ClaimRow>, LedgerError>>) -> Self {
        let mut claims = Self::default();
        for row in rows {
            match row {
                Ok(row) => claims.rows.extend(change_of(&row).map(|change| (change, row))),
                Err(error) => claims.unreadable.push(error),
            }
        }
        claims.rows.sort_by_key(|(change, _)| change.sequence);
        claims
    }

    /// The sequence of the newest change, whatever its reference is.
    pub(crate) fn newest_sequence(&self) -> Option<u64> {
        self.rows.last().map(|(change, _)| change.sequence)
    }

    /// The claim of the change's reference.
    pub(crate) fn of(&self, change: &Change) -> Option<&Row<ClaimRow>> {
        let is_of =
            |claimed: &Change| claimed.repository == change.repository && claimed.source_ref == change.source_ref;
        self.rows.iter().find(|(claimed, _)| is_of(claimed)).map(|(_, row)| row)
    }

    /// The claim of exactly this change.
    fn own(&self, change: &Change) -> Option<&ClaimRow> {
        let claim = self.of(change).map(|row| &row.state);
        claim.filter(|claim| claim.sequence == change.sequence && claim.commit == change.revision)
    }

    /// The execution that was started for this change, and the time of its first claim in epoch milliseconds.
    pub(crate) fn started(&self, change: &Change) -> Option<(&str, u64)> {
        match self.own(change)? {
            ClaimRow { progress: Progress::Started(execution), since, .. } if !self.is_outdated(execution) => {
                Some((execution, *since))
            }
            _ => None,
        }
    }

    fn is_outdated(&self, execution: &str) -> bool {
        self.outdated.as_deref() == Some(execution)
    }

    /// The claims that a pipeline's first order replaces: no version may start them any more.
    pub(crate) fn replaced(&self, now: OffsetDateTime) -> impl Iterator<Item = Row<ClaimRow>> {
        let waiting = self.rows.iter().rev().map(|(_, row)| row).filter(move |row| row.state.waits(now));
        // The newest claims come first. The order's row has a place in the same transaction.
        waiting.take(MAX_TRANSACTION - 1).map(|row| {
            let progress = Progress::Failed("replaced by an order".to_owned());
            Row { state: ClaimRow { progress, ..row.state.clone() }, ..row.clone() }
        })
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
        let leases = self.rows.iter().filter_map(|(_, claim)| match claim.state.progress {
            Progress::Claimed(lease) if lease.is_held(now, LEASE_TERM) => Some(lease),
            _ => None,
        });
        row.fence = leases.max().unwrap_or(Lease::FREE);
        let started = self.rows.iter().rev().filter_map(|(claimed, claim)| match &claim.state.progress {
            Progress::Started(execution) if claimed.id() != change.id() || self.is_outdated(execution) => {
                Some(execution.clone())
            }
            _ => None,
        });
        row.executions = started.take(REMEMBERED).collect();
        row.executions.reverse();
        if let Some((execution, since)) = self.started(change) {
            return row.adopted(execution, since, now);
        }
        if let Some(claim) = self.own(change).filter(|claim| !matches!(claim.progress, Progress::Started(_))) {
            row.token.clone_from(&claim.token);
            row.since = claim.since;
            row.may_run = true;
        }
        row
    }

    /// The row of the newest change, if an earlier version has not finished its start and no invocation works on it.
    /// Older changes are never started, because the pipeline would go backward.
    pub(crate) fn waiting(&self, pipeline: &PipelineName, now: OffsetDateTime) -> Option<OrderRow> {
        let (change, claim) = self.rows.last()?;
        let waits = claim.state.waits(now);
        let row = waits.then(|| self.order_row(Order::deploy(change.sequence), change, pipeline, now))?;
        let progress = OrderProgress::Waiting(Wait { cause: Cause::Busy, next: epoch_millis(now) });
        Some(OrderRow { is_implicit: true, progress, ..row })
    }
}

impl ClaimRow {
    /// Whether the start is unfinished and no invocation works on it.
    fn waits(&self, now: OffsetDateTime) -> bool {
        match &self.progress {
            Progress::Waiting(_) => true,
            Progress::Claimed(lease) => !lease.is_held(now, LEASE_TERM),
            Progress::Started(_) | Progress::Failed(_) => false,
        }
    }
}

/// The write that records the execution of an order in the claim of the change's reference. `claim` is the claim as it
/// was read. Returns `None` if the claim is about a newer change, or has the execution already. Images have no claims,
/// because earlier versions refuse them and could not read the claim.
pub(crate) fn started(
    pipeline: &PipelineName,
    row: &OrderRow,
    claim: Option<&Row<ClaimRow>>,
) -> Option<Result<Write, LedgerError>> {
    let OrderRow { change, token, since, execution, .. } = row;
    if change.revision.is_digest() || claim.is_some_and(|claim| claim.state.sequence > change.sequence) {
        return None;
    }
    let started = ClaimRow {
        sequence: change.sequence,
        commit: change.revision.clone(),
        token: token.clone(),
        since: *since,
        progress: Progress::Started(execution.clone()?),
    };
    if claim.is_some_and(|claim| claim.state == started) {
        return None;
    }
    let key = key(pipeline, &change.repository, &change.source_ref);
    Some(Write::new(key, &started, claim.map(|claim| claim.revision)))
}

fn change_of(row: &Row<ClaimRow>) -> Option<Change> {
    let (repository, source_ref) = reference(&row.sk)?;
    Some(Change {
        kind: source_ref.kind(),
        repository,
        source_ref,
        revision: row.state.commit.clone(),
        previous: None,
        sequence: row.state.sequence,
        actor: None,
        event: None,
    })
}
