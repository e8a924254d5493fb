//! Order numbers rise for each target, and an order never changes.

use std::collections::BTreeMap;

use event_relay::target::{self, PlacedOrder};
use sekisho_domain::change::Change;

use super::traffic::Traffic;
use super::{Broken, Target};
use crate::cloud::Cloud;

/// The change of each order that the target's bus accepted, by the order's number.
pub(crate) type Orders = BTreeMap<u64, Change>;

/// The orders that the target's bus accepted.
pub(crate) fn of(traffic: &Traffic, target: &Target) -> Result<Orders, Broken> {
    let mut orders = Orders::new();
    for (order, change) in traffic.offers(target)? {
        let earlier = orders.insert(order.number, change.clone());
        if earlier.is_some_and(|earlier| !is_same(&earlier, change)) {
            return Err(Broken(format!("{}: order {} has two changes", target.id(), order.number)));
        }
    }
    Ok(orders)
}

/// Whether two changes have the same id. A target that joins gets the change without `previous`, `actor` and `event`,
/// which are not part of the id.
fn is_same(one: &Change, other: &Change) -> bool {
    (one.sequence, &one.git_ref, &one.commit) == (other.sequence, &other.git_ref, &other.commit)
}

/// The orders that event-relay placed in the target's row, in the order of the writes.
pub(crate) fn placed(cloud: &Cloud, target: &Target) -> Vec<PlacedOrder> {
    let key = target::key(&target.id());
    let placed = cloud.placed.borrow();
    placed.iter().filter(|(one, _)| *one == key).map(|(_, order)| order.clone()).collect()
}

/// Checks that the numbers of the target's orders rise, that each order is about a change that was seen later than the
/// one before and about another commit, and that the bus got nothing else. An order whose reference lost its route is
/// replaced by one about another reference at the same commit, which may have been seen earlier.
pub(crate) fn rise(placed: &[PlacedOrder], accepted: &Orders, target: &Target) -> Result<(), Broken> {
    for (order, next) in placed.iter().zip(placed.iter().skip(1)) {
        let wrong =
            |what: &str| Err(Broken(format!("{}: orders {} and {}: {what}", target.id(), order.number, next.number)));
        if order.number >= next.number {
            return wrong("the numbers do not rise");
        }
        if order.change.commit == next.change.commit {
            if order.change.git_ref == next.change.git_ref {
                return wrong("both are about the same commit");
            }
            continue;
        }
        if order.change.sequence >= next.change.sequence {
            return wrong("the sequences do not rise");
        }
    }
    for (number, change) in accepted {
        if !placed.iter().any(|order| order.number == *number && is_same(&order.change, change)) {
            return Err(Broken(format!("{}: order {number} was sent and not placed", target.id())));
        }
    }
    Ok(())
}
