//! Finds the newest change of the references that feed a target.

use std::cmp::Reverse;

use sekisho_domain::account::Region;
use sekisho_domain::change::{Change, RepositoryArn};
use sekisho_domain::order::OrderKind;
use sekisho_domain::route::{Route, Routes, TargetId};
use sekisho_ledger::Row;

use crate::branch::BranchRow;
use crate::selection::routes_to;
use crate::sources::Sources;
use crate::target::PlacedOrder;

/// The head of a reference, as the ledger has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    change: Change,
    /// Whether the head was only recorded when the reference was seen for the first time.
    is_baseline: bool,
}

impl Candidate {
    /// The head in the row of a reference. Returns `None` if the row has no head, or if the reference no longer exists.
    pub(crate) fn new(repository: &RepositoryArn, row: Row<BranchRow>) -> Option<Self> {
        let Row { sk, state: row, .. } = row;
        if row.expires.is_some() {
            return None;
        }
        let last = row.change(repository, &sk.parse().ok()?);
        let change = row.pending.map(|pending| pending.change).or(last)?;
        Some(Self { change, is_baseline: row.baseline })
    }
}

/// The newest of the changes that routes lead to the target, and the newest one of each other source of the pipeline. A
/// head that was relayed is newer than every head that was only recorded, because all heads of a first look have nearly
/// the same sequence.
pub(crate) fn newest<'c>(
    routes: &Routes,
    here: &Region,
    target: &TargetId,
    candidates: &'c [Candidate],
) -> Option<(&'c Change, Vec<&'c Change>)> {
    let fed = candidates.iter().filter(|candidate| leads_to(routes, here, &candidate.change, target));
    let mut fed: Vec<&Candidate> = fed.collect();
    fed.sort_by_key(|candidate| Reverse((!candidate.is_baseline, candidate.change.sequence)));
    let sources = Sources::new(routes, target);
    let mut newest = sources.first_of_each(fed.into_iter().map(|candidate| &candidate.change)).into_iter();
    Some((newest.next()?, newest.collect()))
}

/// Whether a route still leads an order to its target. The order of a wave belongs to its train, wherever the branch or
/// tag is routed by now. A rollback runs a change that was healthy before, so its branch or tag need not be routed.
pub(crate) fn leads_order(routes: &Routes, here: &Region, target: &TargetId, order: &PlacedOrder) -> bool {
    let mut leading = routes_to(routes, here, target);
    match &order.train {
        _ if order.kind == OrderKind::Rollback => {
            leading.any(|route| route.covers_repository(&order.change.repository))
        }
        Some(train) => leading.any(|route| route.name() == train.route),
        None => leads_to(routes, here, &order.change, target),
    }
}

/// Whether a route leads a change to a target, without regard to changed paths.
pub(crate) fn leads_to(routes: &Routes, here: &Region, change: &Change, target: &TargetId) -> bool {
    let leads =
        |route: &Route| route.covers_repository(&change.repository) && route.coverage(&change.source_ref).is_some();
    routes_to(routes, here, target).any(leads)
}
