//! Order numbers rise for each target, and an order never changes.

use std::collections::BTreeMap;

use sekisho_domain::change::{Change, SourceChange};
use sekisho_domain::order::Order;

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

/// Checks that orders with larger numbers are about changes that were seen later, and that two successive orders are
/// never about the same commit.
pub(crate) fn rise(orders: &Orders, target: &Target) -> Result<(), Broken> {
    for ((number, change), (next_number, next)) in orders.iter().zip(orders.iter().skip(1)) {
        if change.sequence >= next.sequence {
            let sequences = format!("{} and {}", change.sequence, next.sequence);
            return Err(Broken(format!("{}: orders {number}, {next_number} have {sequences}", target.id())));
        }
    }
    Ok(())
}
