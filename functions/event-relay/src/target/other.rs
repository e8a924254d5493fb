//! The other source of a target's pipeline. A pipeline may deploy an image together with the commit of a repository.
//! The row of the target has only the order that the target got last, and that order is about one of the two.

use sekisho_domain::change::Change;
use sekisho_domain::report::{OrderReport, ReportState};
use sekisho_domain::timestamp::epoch_millis;
use time::OffsetDateTime;

use super::other_source::{OtherSource, is_same_kind};
use super::{Placement, TargetRow, is_same_revision};

impl TargetRow {
    /// What a change means for a target whose current order is about the other source.
    pub(super) fn place_beside(&self, change: &Change, now: OffsetDateTime) -> Placement {
        match &self.other {
            Some(OtherSource { change: last, .. }) if is_same_revision(last, change) => Placement::Duplicate,
            Some(OtherSource { change: last, .. }) if is_same_kind(last, change) && last.sequence > change.sequence => {
                Placement::Superseded
            }
            _ => Placement::Placed(Box::new(self.placed(change, now))),
        }
    }

    /// The other source of the row in which the target is ordered to run `change`.
    pub(super) fn other_beside(&self, change: &Change) -> Option<OtherSource> {
        let Some(order) = self.order.as_ref().filter(|order| !is_same_kind(&order.change, change)) else {
            return self.other.clone().filter(|other| !is_same_kind(&other.change, change));
        };
        // A train waits for the reports on its orders.
        let open = order.train.is_none() && !order.withdrawn && !self.has_taken_order();
        Some(OtherSource { change: order.change.clone(), number: order.number, open })
    }

    /// Whether the target has reported that it has its current order.
    fn has_taken_order(&self) -> bool {
        self.current_report().is_some_and(|report| report.state != ReportState::Refused)
    }

    /// The change of the other source that must be ordered again: the target has taken a newer order instead.
    pub(crate) fn untaken_change(&self, now: OffsetDateTime) -> Option<Change> {
        let other = self.other.as_ref().filter(|other| other.open && self.has_taken_order())?;
        Some(Change { sequence: epoch_millis(now).max(self.sequence() + 1), ..other.change.clone() })
    }

    /// The row in which the change of the other source is ordered as soon as the target has taken its current order.
    #[must_use]
    pub(crate) fn before_other(&self, change: Option<Change>) -> Self {
        let other = change.map(|change| OtherSource { change, number: 0, open: true });
        Self { other, ..self.clone() }
    }

    /// The row in which nothing of the other source must be ordered again.
    #[must_use]
    pub(crate) fn without_open_change(&self) -> Self {
        let other = self.other.clone().map(|other| OtherSource { open: false, ..other });
        Self { other, ..self.clone() }
    }

    /// The row after a report on an older order, if it shows that the target has taken the order of the other source.
    pub(super) fn heard_of_other(&self, report: &OrderReport) -> Option<Self> {
        let other = self.other.as_ref().filter(|other| other.open && other.number == report.number)?;
        let is_taken = other.change.id() == report.id && report.state != ReportState::Refused;
        is_taken.then(|| self.without_open_change())
    }
}
