//! The holds of routes without waves. They are in the row of the route's train, so a route keeps its holds when it gets
//! waves or loses them.

use std::collections::BTreeSet;

use sekisho_domain::change::SourceRef;
use sekisho_domain::route::{Route, TargetId};
use time::OffsetDateTime;

use super::{Hold, TrainRow};
use crate::route::plain_targets;
use crate::snapshot::TrainRows;

/// The targets of those of the `routes` that have no waves and that a person holds for changes of this reference.
/// `trains` has the rows of the routes.
pub(crate) fn held_targets<'r>(
    routes: impl Iterator<Item = &'r Route>,
    trains: &TrainRows,
    source_ref: &SourceRef,
    now: OffsetDateTime,
) -> BTreeSet<TargetId> {
    let is_held =
        |route: &&Route| trains.get(route.name()).is_some_and(|train| train.row.holds_without_waves(source_ref, now));
    plain_targets(routes.filter(is_held))
}

impl Hold {
    /// The hold that stands for a row that cannot be read. It is never written.
    pub(crate) fn of_unreadable_row() -> Self {
        let reason = "the row of the route cannot be read".to_owned();
        Self { wave: None, source_ref: None, reason, until: None, by: None, since: 0 }
    }
}

impl TrainRow {
    /// Whether the changes of a reference are held if the route has no waves. If the route had waves before, the holds
    /// of these waves count, too.
    fn holds_without_waves(&self, source_ref: &SourceRef, now: OffsetDateTime) -> bool {
        self.holds
            .iter()
            .any(|hold| hold.is_active(now) && hold.source_ref.as_ref().is_none_or(|held| held == source_ref))
    }
}
