//! The other sources of a target's pipeline. A pipeline may deploy an image together with the commit of a repository. The
//! row of the target has only the order that the target got last, and that order is about one of the sources.

use sekisho_domain::change::Change;
use sekisho_domain::report::{OrderReport, ReportState};
use sekisho_domain::timestamp::epoch_millis;
use time::OffsetDateTime;

use super::other_source::OtherSource;
use super::{Placement, TargetRow, is_same_revision};
use crate::sources::Sources;

impl TargetRow {
    /// What was ordered last of each other source, the newest first.
    pub(crate) fn others(&self) -> impl Iterator<Item = &OtherSource> {
        self.other.iter().chain(&self.more)
    }

    fn with_others(&self, others: impl IntoIterator<Item = OtherSource>) -> Self {
        let mut others = others.into_iter();
        Self { other: others.next(), more: others.collect(), ..self.clone() }
    }

    /// What a change means for a target whose current order is about another source.
    pub(super) fn place_beside(&self, change: &Change, sources: Sources<'_>, now: OffsetDateTime) -> Placement {
        let last = self.others().map(|other| &other.change).find(|last| sources.are_same(last, change));
        match last {
            Some(last) if is_same_revision(last, change) => Placement::Duplicate,
            Some(last) if last.sequence > change.sequence => Placement::Superseded,
            _ => Placement::Placed(Box::new(self.placed(change, sources, now))),
        }
    }

    /// The row with the other sources that it has when the target is ordered to run `change`.
    pub(super) fn beside(&self, change: &Change, sources: Sources<'_>) -> Self {
        let replaced = self.order.as_ref().filter(|order| !sources.are_same(&order.change, change));
        let is_kept = |other: &&OtherSource| {
            let is_older_than = |newer: &Change| sources.are_same(&other.change, newer);
            !is_older_than(change) && !replaced.is_some_and(|order| is_older_than(&order.change))
        };
        let kept: Vec<OtherSource> = self.others().filter(is_kept).cloned().collect();
        // A train waits for the reports on its orders.
        let is_open = |order: &super::PlacedOrder| order.train.is_none() && !order.withdrawn && !self.has_taken_order();
        let replaced = replaced.map(|order| OtherSource {
            change: order.change.clone(),
            number: order.number,
            open: is_open(order),
        });
        self.with_others(replaced.into_iter().chain(kept))
    }

    /// Whether the target has reported that it has its current order.
    fn has_taken_order(&self) -> bool {
        self.current_report().is_some_and(|report| report.state != ReportState::Refused)
    }

    /// A change of another source that must be ordered again, because the target took a newer order before it.
    pub(crate) fn untaken_change(&self, now: OffsetDateTime) -> Option<Change> {
        let other = self.others().find(|other| other.open).filter(|_| self.has_taken_order())?;
        Some(Change { sequence: epoch_millis(now).max(self.sequence() + 1), ..other.change.clone() })
    }

    /// The row in which these changes of other sources are ordered as soon as the target has taken its current order.
    #[must_use]
    pub(crate) fn before_others(&self, changes: impl IntoIterator<Item = Change>) -> Self {
        self.with_others(changes.into_iter().map(|change| OtherSource { change, number: 0, open: true }))
    }

    /// The row in which this change of another source is not ordered again.
    #[must_use]
    pub(crate) fn without_open_change(&self, change: &Change) -> Self {
        let closed = |other: &OtherSource| {
            let is_it = is_same_revision(&other.change, change) && other.change.source_ref == change.source_ref;
            OtherSource { open: other.open && !is_it, ..other.clone() }
        };
        self.with_others(self.others().map(closed).collect::<Vec<_>>())
    }

    /// The row after a report on an older order, if it shows that the target has taken the order of another source.
    pub(super) fn heard_of_other(&self, report: &OrderReport) -> Option<Self> {
        let other = self.others().find(|other| other.open && other.number == report.number)?;
        let is_taken = other.change.has_id(&report.id) && report.state != ReportState::Refused;
        is_taken.then(|| self.without_open_change(&other.change))
    }
}
