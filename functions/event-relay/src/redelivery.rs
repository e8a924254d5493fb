//! The messages that earlier versions put into the dead-letter queue, and the plan for such a message.

use std::collections::BTreeSet;

use sekisho_domain::account::AccountId;
use sekisho_domain::change::Change;
use sekisho_domain::decision::Decision;
use sekisho_domain::route::{Routes, TargetId};
use serde::{Deserialize, Serialize};

use crate::branch::BranchRow;
use crate::delivery::Delivery;
use crate::outcome::{Outcome, about_change};
use crate::route::TouchedRoutes;
use crate::snapshot::Snapshot;

/// A message in the dead-letter queue. Only earlier versions wrote such messages; a queue may still hold some.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redelivery {
    /// Always `redeliver`.
    pub action: String,
    /// The reason why the change could not be delivered.
    pub reason: String,
    /// The change to send again.
    pub change: Change,
    /// The target that did not get the change.
    pub delivery: Delivery,
}

/// The plan for a message of the dead-letter queue.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RedeliveryPlan {
    /// Offer these targets their current orders, or order the newest change if a target has no order.
    Order(BTreeSet<TargetId>),
    /// Order nothing.
    Decide(Decision<Outcome>),
}

/// Decides what to do about a message of the dead-letter queue. `row` is the row of the change's reference, or `None`
/// if the row has not been read yet. Returns `None` if the plan depends on the row and `row` is `None`.
pub(crate) fn plan_redelivery(
    redelivery: &Redelivery,
    account: &AccountId,
    routes: &Routes,
    row: Option<&Snapshot<BranchRow>>,
) -> Option<RedeliveryPlan> {
    let (change, delivery) = (&redelivery.change, &redelivery.delivery);
    if change.repository.account() != account.as_str() {
        let reason =
            format!("the change belongs to {}: only changes of account {account} are relayed", change.repository);
        return Some(RedeliveryPlan::Decide(Decision::new(Outcome::Refused, reason)));
    }
    let current = TouchedRoutes::new(routes, &change.repository, &change.source_ref).all_targets();
    let targets: BTreeSet<TargetId> = delivery.targets().filter(|target| current.contains(target)).collect();
    if targets.is_empty() {
        let reason = "no route leads to this target now";
        return Some(RedeliveryPlan::Decide(about_change(change, Decision::new(Outcome::Filtered, reason))));
    }
    let Snapshot { row, revision } = row?;
    // The function refuses a sequence that is larger than the sequence in the ledger, because a receiver would then
    // regard the next changes of the reference as stale.
    if revision.is_none() || change.sequence > row.newest_sequence() {
        let reason = "the ledger has no change of this reference with this sequence, so nothing is sent: push again";
        return Some(RedeliveryPlan::Decide(about_change(change, Decision::new(Outcome::Refused, reason))));
    }
    Some(RedeliveryPlan::Order(targets))
}
