//! Holds of routes without waves. Such a route has no row of its own: its holds are in the rows of its targets, which
//! are read anyway before a change is ordered.

use std::collections::{BTreeMap, BTreeSet};

use sekisho_domain::change::GitRef;
use sekisho_domain::route::{Route, TargetId};
use time::OffsetDateTime;

use crate::route::plain_targets;
use crate::snapshot::TargetRows;
use crate::target::TargetRow;
use crate::train::Hold;

/// The targets to which held routes lead a change of a reference. `routes` are the routes that lead the change. A hold
/// in one row applies to all targets of its route, because a target that joined later does not have it, and a version
/// of the function that knows no holds may have dropped it from other rows.
pub(crate) fn held_targets<'r>(
    routes: impl Iterator<Item = &'r Route>,
    git_ref: &GitRef,
    rows: &TargetRows,
    now: OffsetDateTime,
) -> BTreeSet<TargetId> {
    let rows = rows.read.values().map(|snapshot| &snapshot.row);
    let held: BTreeSet<&str> = rows.flat_map(|row| row.held_routes(git_ref, now)).collect();
    if held.is_empty() { BTreeSet::new() } else { plain_targets(routes.filter(|route| held.contains(route.name()))) }
}

/// The active holds of a route, in the rows of its targets. If a request could not write all rows, they differ: the
/// newest hold of each reference counts.
pub(crate) fn holds_of(route: &str, rows: &TargetRows, now: OffsetDateTime) -> Vec<Hold> {
    let mut newest: BTreeMap<&Option<GitRef>, &Hold> = BTreeMap::new();
    let holds = rows.read.values().filter_map(|snapshot| snapshot.row.holds.get(route)).flatten();
    for hold in holds.filter(|hold| hold.is_active(now)) {
        let known = newest.entry(&hold.git_ref).or_insert(hold);
        if known.since < hold.since {
            *known = hold;
        }
    }
    newest.into_values().cloned().collect()
}

impl TargetRow {
    /// The routes without waves that are held for changes of a reference.
    fn held_routes(&self, git_ref: &GitRef, now: OffsetDateTime) -> impl Iterator<Item = &str> {
        let is_held =
            move |hold: &Hold| hold.is_active(now) && hold.git_ref.as_ref().is_none_or(|held| held == git_ref);
        self.holds.iter().filter(move |(_, holds)| holds.iter().any(is_held)).map(|(route, _)| route.as_str())
    }

    /// Whether one of these routes has no waves and is held, for any of its references.
    pub(crate) fn is_held<'r>(&self, mut routes: impl Iterator<Item = &'r Route>, now: OffsetDateTime) -> bool {
        let is_active = |holds: &Vec<Hold>| holds.iter().any(|hold| hold.is_active(now));
        routes.any(|route| route.waves().is_empty() && self.holds.get(route.name()).is_some_and(is_active))
    }

    /// The row with these holds of a route, or `None` if it has them already.
    pub(crate) fn with_holds(&self, route: &str, holds: &[Hold]) -> Option<Self> {
        if self.holds.get(route).map(Vec::as_slice).unwrap_or_default() == holds {
            return None;
        }
        let mut row = self.clone();
        row.holds.remove(route);
        if !holds.is_empty() {
            row.holds.insert(route.to_owned(), holds.to_vec());
        }
        Some(row)
    }
}
