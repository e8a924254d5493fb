//! The heads of the references that a reconcile examined. An order is offered again, replaced or dropped depending on
//! whether a route still leads one of these heads to the target.

use std::collections::HashMap;
use std::time::Duration;

use sekisho_domain::account::Region;
use sekisho_domain::change::{Change, RepositoryArn, Revision};
use sekisho_domain::report::ReportState;
use sekisho_domain::route::{Routes, TargetId};
use sekisho_domain::timestamp::epoch_millis;
use time::OffsetDateTime;

use crate::newest::{leads_order, leads_to};
use crate::snapshot::TrainRows;
use crate::sources::Sources;
use crate::target::{PlacedOrder, TargetRow};
use crate::train::held_targets;
use crate::worklist::Reference;

/// An order that was not offered for this time was not routed in between. It may be months old, so it is offered only
/// if its commit is still a head.
const FORGOTTEN: Duration = Duration::from_hours(24);

/// The heads of the references that were examined and exist.
#[derive(Debug)]
pub(crate) struct Heads<'r> {
    routes: &'r Routes,
    here: &'r Region,
    at: HashMap<(&'r RepositoryArn, &'r Revision), Vec<&'r Reference>>,
}

impl<'r> Heads<'r> {
    pub(crate) fn new(routes: &'r Routes, here: &'r Region, references: &'r [Reference]) -> Self {
        let mut at: HashMap<_, Vec<&Reference>> = HashMap::with_capacity(references.len());
        for reference in references.iter().filter(|one| one.snapshot.row.expires.is_none()) {
            if let Some(commit) = &reference.snapshot.row.commit {
                at.entry((&reference.repository, commit)).or_default().push(reference);
            }
        }
        Self { routes, here, at }
    }

    /// The row of a target whose open order must be offered now, with the next offer in it. Returns `None` if nothing
    /// must be offered.
    pub(crate) fn next_offer(&self, target: &TargetId, row: &TargetRow, now: OffsetDateTime) -> Option<TargetRow> {
        let order = row.order.as_ref().filter(|_| row.is_due(now))?;
        if self.lead(target, order, now) {
            return Some(row.offered_again(now));
        }
        // A train decides what the targets of its waves run.
        if self.is_in_wave(target) {
            return None;
        }
        let head = self.other_head(target, order)?;
        let is_taken = row.current_report().is_some_and(|report| report.state != ReportState::Refused);
        // The target would refuse the order for ever, because its reference is not routed there. A target that has
        // taken the order answers it with its last report.
        Some(if is_taken { row.offered_again(now) } else { row.placed(&head, self.sources(target), now) })
    }

    fn is_in_wave(&self, target: &TargetId) -> bool {
        self.routes.waves_of(target).next().is_some()
    }

    /// Whether a route still leads the order's change to the target, and the order is not too old.
    fn lead(&self, target: &TargetId, order: &PlacedOrder, now: OffsetDateTime) -> bool {
        let change = &order.change;
        let limit = u64::try_from(FORGOTTEN.as_millis()).unwrap_or(u64::MAX);
        let is_recent = epoch_millis(now) < order.offered.saturating_add(limit);
        let is_head = || self.with_commit(change).iter().any(|head| head.source_ref == change.source_ref);
        let is_current = order.train.is_some() || is_recent || is_head();
        is_current && leads_order(self.routes, self.here, target, order)
    }

    /// The change of another reference that a route leads to the target, at the order's commit. That change was a
    /// duplicate for the target, because the target had the order.
    fn other_head(&self, target: &TargetId, order: &PlacedOrder) -> Option<Change> {
        let is_ordered = |head: &&&Reference| {
            let row = &head.snapshot.row;
            !row.baseline && row.targets.as_ref().is_some_and(|targets| targets.contains(target))
        };
        let heads = self.with_commit(&order.change).iter().filter(is_ordered);
        let changes = heads.filter_map(|head| head.snapshot.row.change(&head.repository, &head.source_ref));
        let leading = self.leading(target, changes);
        leading.max_by(|one, other| (one.sequence, &one.source_ref).cmp(&(other.sequence, &other.source_ref)))
    }

    fn with_commit<'a>(&'a self, change: &'a Change) -> &'a [&'a Reference] {
        self.at.get(&(&change.repository, &change.revision)).map(Vec::as_slice).unwrap_or_default()
    }

    /// The row of a target that reported on an order which the ledger does not have, in step with the heads. Returns
    /// `None` if the row need not change, or may not change as long as a person holds a route to the target. `trains`
    /// has the rows of the routes without waves that lead to such a target.
    pub(crate) fn in_step(
        &self,
        target: &TargetId,
        row: &TargetRow,
        trains: &TrainRows,
        now: OffsetDateTime,
    ) -> Option<TargetRow> {
        let report = row.unplaced_report().filter(|_| !self.is_in_wave(target))?;
        let mut others = self.newest(target);
        let reported = others.iter().position(|newest| newest.id() == report.id);
        if others.is_empty() {
            return None;
        }
        let newest = others.remove(reported.unwrap_or(0));
        if self.is_held(target, &newest, trains, now) {
            return None;
        }
        if newest.id() == report.id {
            // The number of an event without an order is the sequence of its change.
            return Some(row.adopted(&newest, self.sources(target), now).before_others(others));
        }
        // The target does not run the order, and calls it stale. Without an order, the report may be about a change
        // that an earlier version relayed, and later heads may touch none of the target's paths.
        let order = row.order.as_ref()?;
        let is_newer = newest.sequence >= order.change.sequence;
        is_newer.then(|| row.placed(&newest, self.sources(target), now).before_others(others))
    }

    /// The row of a target that has not taken an order of another source of its pipeline, with that change in a new
    /// order. Returns `None` if there is no such change, or if it may not be ordered as long as a person holds a route
    /// to the target. `trains` has the rows of the routes without waves that lead to such a target.
    pub(crate) fn with_other_source(
        &self,
        target: &TargetId,
        row: &TargetRow,
        trains: &TrainRows,
        now: OffsetDateTime,
    ) -> Option<TargetRow> {
        let change = row.untaken_change(now).filter(|_| !self.is_in_wave(target))?;
        let is_led = leads_to(self.routes, self.here, &change, target);
        (is_led && !self.is_held(target, &change, trains, now)).then(|| row.placed(&change, self.sources(target), now))
    }

    fn is_held(&self, target: &TargetId, change: &Change, trains: &TrainRows, now: OffsetDateTime) -> bool {
        let leading = self.routes.concerning(&change.repository, &change.source_ref);
        held_targets(leading, trains, &change.source_ref, now).contains(target)
    }

    fn sources<'t>(&'t self, target: &'t TargetId) -> Sources<'t> {
        Sources::new(self.routes, target)
    }

    /// For each source of the pipeline, the newest of the changes that a route leads to the target, and that were not
    /// only recorded. The newest of all comes first.
    fn newest(&self, target: &TargetId) -> Vec<Change> {
        let relayed = self.at.values().flatten().filter(|head| !head.snapshot.row.baseline);
        let changes = relayed.filter_map(|head| head.snapshot.row.change(&head.repository, &head.source_ref));
        let mut changes: Vec<Change> = self.leading(target, changes).collect();
        changes.sort_by(|one, other| (other.sequence, &other.source_ref).cmp(&(one.sequence, &one.source_ref)));
        self.sources(target).first_of_each(changes)
    }

    /// The changes that a route leads to the target.
    fn leading(&self, target: &TargetId, changes: impl Iterator<Item = Change>) -> impl Iterator<Item = Change> {
        changes.filter(move |change| leads_to(self.routes, self.here, change, target))
    }
}
