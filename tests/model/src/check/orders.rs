//! Order numbers rise for each target, and an order never changes.

use std::collections::BTreeMap;

use sekisho_domain::change::{Change, SourceChange};
use sekisho_domain::order::Order;

use event_relay::target::{self, PlacedOrder};

use super::{Broken, Target};
use crate::cloud::Cloud;

/// The change of each order that the target's bus accepted, by the order's number.
pub(crate) type Orders = BTreeMap<u64, Change>;

/// All orders that the target's bus accepted, in the order of the events. An order is offered several times.
pub(crate) fn offers(cloud: &Cloud, target: &Target) -> Result<Vec<(Order, Change)>, Broken> {
    let mut offers = Vec::new();
    for message in cloud.places[target.place].bus.accepted() {
        let event = SourceChange::parse(&message.detail).map_err(|error| Broken::of(&error))?;
        if event.pipelines.iter().any(|pipeline| pipeline == target.pipeline) {
            let order = event.order(&target.id().pipeline).map_err(Broken)?;
            offers.push((order, event.change));
        }
    }
    Ok(offers)
}

/// The orders that the target's bus accepted.
pub(crate) fn of(cloud: &Cloud, target: &Target) -> Result<Orders, Broken> {
    let mut orders = Orders::new();
    for (order, change) in offers(cloud, target)? {
        let earlier = orders.insert(order.number, change.clone());
        if earlier.is_some_and(|earlier| earlier != change) {
            return Err(Broken(format!("{}: order {} has two changes", target.id(), order.number)));
        }
    }
    Ok(orders)
}

/// The orders that event-relay placed in the target's row, in the order of the writes.
pub(crate) fn placed(cloud: &Cloud, target: &Target) -> Vec<PlacedOrder> {
    let key = target::key(&target.id());
    let placed = cloud.placed.borrow();
    placed.iter().filter(|(one, _)| *one == key).map(|(_, order)| order.clone()).collect()
}

/// Checks that the numbers of the target's orders rise, that each order is about a change that was seen later than the
/// one before and about another commit, and that the bus got nothing else.
pub(crate) fn rise(placed: &[PlacedOrder], accepted: &Orders, target: &Target) -> Result<(), Broken> {
    for (order, next) in placed.iter().zip(placed.iter().skip(1)) {
        let wrong =
            |what: &str| Err(Broken(format!("{}: orders {} and {}: {what}", target.id(), order.number, next.number)));
        if order.number >= next.number {
            return wrong("the numbers do not rise");
        }
        if order.change.sequence >= next.change.sequence {
            return wrong("the sequences do not rise");
        }
        if order.change.commit == next.change.commit {
            return wrong("both are about the same commit");
        }
    }
    for (number, change) in accepted {
        if !placed.iter().any(|order| order.number == *number && order.change == *change) {
            return Err(Broken(format!("{}: order {number} was sent and not placed", target.id())));
        }
    }
    Ok(())
}
