//! Order numbers rise for each target, and an order never changes.

use event_relay::target::{self, PlacedOrder};
use sekisho_domain::change::Change;

use super::traffic::Traffic;
use super::{Broken, Target};
use crate::cloud::{Cloud, Placing};
use crate::history::History;

/// The orders that the target's bus accepted, each with its number and its change. If event-relay's ledger was lost,
/// two orders may have the same number.
pub(crate) type Orders = Vec<(u64, Change)>;

/// The orders that the target's bus accepted, without repetitions.
pub(crate) fn of(cloud: &Cloud, traffic: &Traffic, target: &Target) -> Result<Orders, Broken> {
    let mut orders = Orders::new();
    for (order, change) in traffic.offers(target)? {
        let mut alike = orders.iter().filter(|(number, _)| *number == order.number);
        if alike.clone().any(|(_, earlier)| is_same(earlier, change)) {
            continue;
        }
        if alike.next().is_some() && !cloud.is_ledger_lost.get() {
            return Err(Broken(format!("{}: order {} has two changes", target.id(), order.number)));
        }
        orders.push((order.number, change.clone()));
    }
    Ok(orders)
}

/// Whether two changes have the same id. A target that joins gets the change without `previous`, `actor` and `event`,
/// which are not part of the id.
fn is_same(one: &Change, other: &Change) -> bool {
    (one.sequence, &one.source_ref, &one.revision) == (other.sequence, &other.source_ref, &other.revision)
}

/// The orders that event-relay placed in the target's row, in the order of the writes.
pub(crate) fn placed(cloud: &Cloud, target: &Target) -> Vec<Placing> {
    let key = target::key(&target.id());
    cloud.placed.borrow().iter().filter(|placing| placing.key == key).cloned().collect()
}

/// The orders that event-relay placed since its ledger exists.
pub(crate) fn since_loss(cloud: &Cloud, target: &Target) -> Vec<PlacedOrder> {
    let is_lost = cloud.is_ledger_lost.get();
    let placed = placed(cloud, target).into_iter().filter(|placing| placing.is_after_loss == is_lost);
    placed.map(|placing| placing.order).collect()
}

/// Checks that the orders of the target rise while event-relay's ledger exists, and that the bus got nothing else.
pub(crate) fn rise(history: &History, accepted: &Orders, target: &Target) -> Result<(), Broken> {
    let placed = placed(&history.cloud, target);
    for (placing, next) in placed.iter().zip(placed.iter().skip(1)) {
        if placing.is_after_loss == next.is_after_loss {
            follows(history, placing, next).map_err(|what| {
                let (number, next) = (placing.order.number, next.order.number);
                Broken(format!("{}: orders {number} and {next}: {what}", target.id()))
            })?;
        }
    }
    for (number, change) in accepted {
        if !placed.iter().any(|one| one.order.number == *number && is_same(&one.order.change, change)) {
            return Err(Broken(format!("{}: order {number} was sent and not placed", target.id())));
        }
    }
    Ok(())
}

/// Checks that an order has a larger number than the one before, and that it is about a change that was seen later and
/// about another commit. An order whose reference lost its route is replaced by one about another reference at the same
/// commit, which may have been seen earlier. If a target calls an order stale because event-relay's ledger was lost,
/// the same change is ordered with a larger number. A person may order any head.
fn follows(history: &History, placing: &Placing, next: &Placing) -> Result<(), &'static str> {
    if placing.order.number >= next.order.number {
        return Err("the numbers do not rise");
    }
    let (change, newer) = (&placing.order.change, &next.order.change);
    if (&change.repository, &change.revision) == (&newer.repository, &newer.revision) {
        let is_repeated = change.source_ref == newer.source_ref && !next.is_after_loss;
        return if is_repeated { Err("both are about the same commit") } else { Ok(()) };
    }
    let is_by_person = history.lambda.by_people.contains(&next.request);
    if change.sequence >= newer.sequence && !is_by_person { Err("the sequences do not rise") } else { Ok(()) }
}
