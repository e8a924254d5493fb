//! The ledger's row of a target: the order that the target got last, and its last report on that order.

mod other;
mod other_source;
mod train_order;
mod wave;

use std::collections::BTreeMap;
use std::time::Duration;

use sekisho_domain::bake::BakeTime;
use sekisho_domain::change::{Change, RepositoryArn};
use sekisho_domain::order::{Order, OrderKind};
use sekisho_domain::pause::doubled;
use sekisho_domain::report::{OrderReport, ReportState};
use sekisho_domain::route::TargetId;
use sekisho_domain::timestamp::epoch_millis;
use sekisho_ledger::Key;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

pub use self::other_source::OtherSource;
pub use self::train_order::{Finished, FinishedState, TrainOrder};
pub(crate) use self::train_order::{Progress, order_of_wave};
use crate::sources::Sources;

/// The time from the first offer of an order to the second one. Each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_mins(5);
/// The longest pause between two offers of an order, and the time without a report after which an order that runs is
/// offered again. The target answers such an offer with its last report.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);
/// The age at which an order that its bus does not accept is reported to people.
const ALERT_AGE: Duration = Duration::from_hours(2);
/// A report whose number is later than the clock by more than this time is refused. All later numbers would have to be
/// larger, so one wrong number would make every number of the target wrong.
const LARGEST_LEAD: Duration = Duration::from_hours(24);

/// The key of a target's row.
#[must_use]
pub fn key(target: &TargetId) -> Key {
    Key::state(format!("target#{target}"))
}

/// Whether a key is the key of a target's row.
pub(crate) fn is_target(key: &Key) -> bool {
    key.pk.starts_with("target#")
}

/// The row of a target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetRow {
    /// The largest number of an order to this target, or of a report by this target.
    pub number: u64,
    /// The order that the target got last. The target should run the change of this order.
    pub order: Option<PlacedOrder>,
    /// The target's last report.
    pub report: Option<OrderReport>,
    /// For each repository, the change of the last order of a wave that was healthy, or to which the target went back.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub healthy: BTreeMap<RepositoryArn, Change>,
    /// When the last report on the current order arrived that does not refuse it, in epoch milliseconds. Only the
    /// orders of waves have this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard: Option<u64>,
    /// For each route whose order was replaced by another route's order, what became of that order.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub finished: BTreeMap<String, Finished>,
    /// What was ordered last of another source of the pipeline, if the current order is about one of several sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<OtherSource>,
    /// The same for the third source and further ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more: Vec<OtherSource>,
}

/// An order that a target got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedOrder {
    /// The order's number.
    pub number: u64,
    /// The order's purpose.
    pub kind: OrderKind,
    /// The change to run.
    pub change: Change,
    /// When the order was placed, in epoch milliseconds.
    pub placed: u64,
    /// When the order was offered to the target's bus for the last time, in epoch milliseconds.
    pub offered: u64,
    /// How often the order was offered.
    pub offers: u32,
    /// Whether the target's refusal was counted. Each order counts once, because the order is offered again and again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refused: bool,
    /// Whether people were alerted that the target's bus does not accept the order.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub alerted: bool,
    /// Whether the order is not offered any more: the change was condemned, and the target refused it or never
    /// answered.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withdrawn: bool,
    /// The wave that ordered the change. `None` if the route has no waves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<TrainOrder>,
    /// The change that was healthy in the target when the order was placed. Only the orders of waves have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Change>,
}

impl PlacedOrder {
    /// The order, as the relayed event has it.
    #[must_use]
    pub fn order(&self) -> Order {
        match &self.train {
            None => Order::outside_waves(self.number, self.kind),
            Some(train) => order_of_wave(self.number, self.kind, train),
        }
    }

    /// Whether the target could go back from the order's change: another revision was healthy there before.
    pub(crate) fn has_way_back(&self) -> bool {
        self.before.as_ref().is_some_and(|before| !is_same_revision(before, &self.change))
    }

    /// Whether a report is about this order. An event of an earlier version may have had the same number.
    fn is_subject_of(&self, report: &OrderReport) -> bool {
        self.number == report.number && self.change.has_id(&report.id)
    }

    /// The order after one more offer.
    fn offered_again(&self, now: OffsetDateTime) -> Self {
        Self { offered: epoch_millis(now), offers: self.offers.saturating_add(1), ..self.clone() }
    }
}

/// What a change means for a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Placement {
    /// The target gets the order in this row.
    Placed(Box<TargetRow>),
    /// The target already should run this commit of this repository.
    Duplicate,
    /// The target should run a change that was seen later.
    Superseded,
}

/// What a report means for the row of its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reception {
    /// The report is stored in this row. `is_refusal` is true for the first report that refuses the order.
    Stored { row: TargetRow, is_refusal: bool },
    /// The row has this report or a later one.
    Repeated,
    /// The row has this report, and notes in this row that the target still answers.
    Heard(TargetRow),
    /// The report is about an earlier order.
    Older,
    /// The report is about an earlier order of the pipeline's other source, which the target has taken. This row notes
    /// it.
    OfOther(TargetRow),
    /// The ledger has lost the order with this number. Later orders get larger numbers.
    Unplaced(TargetRow),
    /// This field of the report is too far ahead of the clock.
    TooFarAhead(&'static str),
}

impl TargetRow {
    /// The sequence of the change that the target should run, or 0. A change that was seen later needs a larger one.
    /// If the target works on a change that the ledger does not have, the sequence of that change is at most the number
    /// of the row.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.standing_order().map_or(self.number, |order| order.change.sequence)
    }

    /// The order, unless the target took another order instead and calls this one stale.
    pub(crate) fn standing_order(&self) -> Option<&PlacedOrder> {
        self.order.as_ref().filter(|_| self.unplaced_report().is_none())
    }

    /// The last report, if it is about an order that the ledger does not have, and that is not older than the order in
    /// the row. An earlier version relayed that order, or the ledger lost it.
    pub(crate) fn unplaced_report(&self) -> Option<&OrderReport> {
        let report = self.report.as_ref().filter(|report| report.number == self.number)?;
        let is_placed = self.order.as_ref().is_some_and(|order| order.is_subject_of(report));
        (!is_placed).then_some(report)
    }

    /// Orders the target to run a change, unless the target should already run this commit or a change that was seen
    /// later.
    pub(crate) fn place(&self, change: &Change, sources: Sources<'_>, now: OffsetDateTime) -> Placement {
        let placed = || Placement::Placed(Box::new(self.placed(change, sources, now)));
        let Some(PlacedOrder { change: desired, train, withdrawn, .. }) = self.standing_order() else {
            return if self.sequence() < change.sequence { placed() } else { Placement::Superseded };
        };
        if !sources.are_same(desired, change) {
            return self.place_beside(change, sources, now);
        }
        if is_same_revision(desired, change) {
            // A withdrawn order is not offered, so the target gets the commit only with a new one.
            return if *withdrawn { placed() } else { Placement::Duplicate };
        }
        let is_older = match train {
            // The change got a new sequence if it was ordered again. If the target was sent back from a change, `seen`
            // is that change.
            Some(of) => of.seen >= change.sequence,
            None => desired.sequence > change.sequence,
        };
        if is_older { Placement::Superseded } else { placed() }
    }

    /// The row with a new order, whatever the target should run now.
    #[must_use]
    pub(crate) fn placed(&self, change: &Change, sources: Sources<'_>, now: OffsetDateTime) -> Self {
        // A target that ran this reference under an earlier version knows its sequences as numbers.
        self.with_order(epoch_millis(now).max(self.number + 1).max(change.sequence), change, sources, now)
    }

    /// The row with the order on which the target already reported. The order is not offered before its report is old.
    #[must_use]
    pub(crate) fn adopted(&self, change: &Change, sources: Sources<'_>, now: OffsetDateTime) -> Self {
        self.with_order(self.number, change, sources, now)
    }

    fn with_order(&self, number: u64, change: &Change, sources: Sources<'_>, now: OffsetDateTime) -> Self {
        let millis = epoch_millis(now);
        let order = PlacedOrder {
            number,
            kind: OrderKind::Deploy,
            change: change.clone(),
            placed: millis,
            offered: millis,
            offers: 1,
            refused: false,
            alerted: false,
            withdrawn: false,
            train: None,
            before: None,
        };
        // Only the orders of waves use the changes.
        let healthy = if self.healthy.is_empty() { BTreeMap::new() } else { self.healthy_changes() };
        Self { number, order: Some(order), healthy, heard: None, ..self.beside(change, sources) }
    }

    /// The last report, if it is about the current order.
    #[must_use]
    pub fn current_report(&self) -> Option<&OrderReport> {
        let order = self.order.as_ref()?;
        self.report.as_ref().filter(|report| order.is_subject_of(report))
    }

    /// Whether the current order must be offered now. An order is offered until the target has accepted and finished
    /// it. The pauses grow, because a target that does not answer for hours will probably not answer within minutes.
    #[must_use]
    pub fn is_due(&self, now: OffsetDateTime) -> bool {
        let Some(order) = self.standing_order() else { return false };
        let now = epoch_millis(now);
        let is_paused = now < order.offered + millis(doubled(FIRST_PAUSE, order.offers, LONGEST_PAUSE));
        match self.current_report() {
            None => !is_paused && !order.withdrawn,
            Some(report) if report.state == ReportState::Refused && order.withdrawn => false,
            Some(report) if report.state == ReportState::Refused => !is_paused,
            Some(report) if report.state.is_final() => false,
            // The target works on the order, but its last report is old: the next report may be lost.
            Some(report) => now >= report.at.millis().max(order.offered) + millis(LONGEST_PAUSE),
        }
    }

    /// The row after one more offer of the current order.
    #[must_use]
    pub fn offered_again(&self, now: OffsetDateTime) -> Self {
        Self { order: self.order.as_ref().map(|order| order.offered_again(now)), ..self.clone() }
    }

    /// Whether people must be alerted, because the target's bus has not accepted the order for a long time. A target
    /// that reported on the order has it.
    #[must_use]
    pub fn needs_alert(&self, now: OffsetDateTime) -> bool {
        let is_overdue = |order: &PlacedOrder| {
            !order.alerted && !order.withdrawn && epoch_millis(now) >= order.placed + millis(ALERT_AGE)
        };
        self.order.as_ref().is_some_and(is_overdue) && self.current_report().is_none()
    }

    /// The row after people were alerted about the current order.
    #[must_use]
    pub fn alerted(&self) -> Self {
        let alerted = |order: &PlacedOrder| PlacedOrder { alerted: true, ..order.clone() };
        Self { order: self.order.as_ref().map(alerted), ..self.clone() }
    }

    /// Decides what a report of this target means.
    pub(crate) fn receive(&self, report: &OrderReport, now: OffsetDateTime) -> Reception {
        if report.number > epoch_millis(now + LARGEST_LEAD) {
            return Reception::TooFarAhead("number");
        }
        let latest = epoch_millis(now + BakeTime::LONGEST.duration() + LARGEST_LEAD);
        if report.until.is_some_and(|until| until.millis() > latest) {
            return Reception::TooFarAhead("until");
        }
        if report.number < self.number {
            return self.heard_of_other(report).map_or(Reception::Older, Reception::OfOther);
        }
        let Some(order) = self.order.as_ref().filter(|order| order.is_subject_of(report)) else {
            // An earlier version relayed the change, or the ledger lost the order. The next reconcile compares the
            // report with the heads.
            if self.unplaced_report().is_some_and(|last| last.number == report.number && last.at >= report.at) {
                return Reception::Older;
            }
            return Reception::Unplaced(Self { number: report.number, report: Some(report.clone()), ..self.clone() });
        };
        if self.current_report().is_some_and(|last| last.at >= report.at) {
            return self.heard_again(now).map_or(Reception::Repeated, Reception::Heard);
        }
        let is_refusal = report.state == ReportState::Refused && !order.refused;
        let order = PlacedOrder { refused: order.refused || is_refusal, ..order.clone() };
        let row = Self { order: Some(order), report: Some(report.clone()), ..self.clone() };
        Reception::Stored { row: row.heard(now), is_refusal }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Whether two changes lead to the same revision.
pub(crate) fn is_same_revision(one: &Change, other: &Change) -> bool {
    one.repository == other.repository && one.revision == other.revision
}

#[cfg(test)]
mod tests;
