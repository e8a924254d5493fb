//! The central decision of the function: what to do about one reference. [`plan`] is a pure function of the ledger's
//! rows, the head, the touched routes and the time. The real path carries the plan out, and `explain` describes the
//! same plan.

use std::collections::BTreeSet;

use sekisho_domain::change::{Change, RefKind, Revision, SourceKind};
use sekisho_domain::decision::Decision;
use sekisho_domain::route::{Route, Routes, TargetId};
use sekisho_domain::timestamp::epoch_millis;
use time::OffsetDateTime;

use crate::branch::{BranchRow, Pending, Untouched};
use crate::delivery::{self, Delivery, deliveries};
use crate::error::Error;
use crate::hint::{Hint, Trigger};
use crate::ordering::{Ordering, Recipients, TrainArrival};
use crate::outcome::{Outcome, about_change, about_hint, no_longer_routed, revision_key};
use crate::route::{TouchedRoutes, plain_routes_to};
use crate::snapshot::{Snapshot, TargetRows, TrainRows};
use crate::train::held_targets;
use crate::world::Head;

/// The reason not to order an image that was deleted or archived after it was seen.
pub(crate) const GONE: &str =
    "the image was deleted or archived, so it is not ordered: push it again under another tag";

/// The facts about a reference. A fact is read only when the plan depends on it.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) routes: &'a Routes,
    pub(crate) hint: &'a Hint,
    pub(crate) trigger: Trigger,
    /// The ledger's row; `None` until it is read.
    pub(crate) row: Option<Snapshot<BranchRow>>,
    /// The reference's head; `None` until it is read.
    pub(crate) head: Option<Head>,
    /// Whether the image of the pending change is gone; `None` until it is read.
    pub(crate) is_gone: Option<bool>,
    pub(crate) touched: TouchedRoutes<'a>,
    /// The error with which the changed paths could not be read. The routes without paths do not wait for the others.
    pub(crate) paths_error: Option<Error>,
    /// The lower bound of the sequence, which an expired row of the reference left behind; `None` until it is read.
    pub(crate) floor: Option<u64>,
    pub(crate) targets: TargetRows,
    /// The rows that were read of the touched trains and of routes without waves. The latter say whether a person holds
    /// the route.
    pub(crate) trains: TrainRows,
}

impl<'a> Facts<'a> {
    /// The facts about the reference of `hint`. None of them has been read, except the row if the caller has it.
    pub(crate) fn new(routes: &'a Routes, hint: &'a Hint, trigger: Trigger, row: Option<Snapshot<BranchRow>>) -> Self {
        let touched = TouchedRoutes::new(routes, &hint.repository, &hint.source_ref);
        let targets = TargetRows::default();
        let trains = TrainRows::new();
        Self {
            routes,
            hint,
            trigger,
            row,
            head: None,
            is_gone: None,
            touched,
            paths_error: None,
            floor: None,
            targets,
            trains,
        }
    }
}

/// A fact that must be read before the plan is known.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The ledger's row of the reference.
    Row,
    /// The reference's head.
    Head,
    /// Whether the image of this pending change still exists.
    Image(Box<Change>),
    /// The paths that differ between `previous` and `head`. `previous` is the commit that was relayed last, or `None`.
    Paths { previous: Option<Revision>, head: Revision },
    /// The lower bound of the sequence, in the row of the repository.
    Floor,
    /// The ledger's rows of these targets, and of the trains of these routes.
    Rows { targets: BTreeSet<TargetId>, trains: BTreeSet<String> },
}

/// The plan for a reference.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Order targets to run the head.
    Order(Box<Ordering>),
    /// Order nothing.
    Decide(Box<Verdict>),
    /// Make no decision: no route matches the reference and nothing is pending, or the changed paths cannot be read.
    Nothing,
}

/// Decisions after which the function orders nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) decisions: Vec<Decision<Outcome>>,
    /// The row to write, or `None`. The row stores what need not be compared or decided again.
    pub(crate) remember: Option<BranchRow>,
}

/// Decides what to do about a reference.
///
/// # Errors
/// A fact that the plan depends on has not been read. The caller reads the fact and plans again.
pub(crate) fn plan(facts: &Facts<'_>, now: OffsetDateTime) -> Result<Plan, Missing> {
    if !facts.touched.has_route() && facts.trigger == Trigger::Event {
        return Ok(decided(facts, None, Outcome::Filtered, "no route matches this repository and reference"));
    }
    // The row is read before the head, so that an old head cannot get a newer sequence.
    let Snapshot { row, .. } = facts.row.as_ref().ok_or(Missing::Row)?;
    if !facts.touched.has_route() {
        return Ok(row.pending.as_ref().map_or(Plan::Nothing, |pending| drop_pending(row, pending)));
    }
    let head = match facts.head.as_ref().ok_or(Missing::Head)? {
        Head::At(commit) => commit,
        Head::Unroutable(reason) => return plan_without_head(facts, row, reason, now),
        Head::NoRef => {
            let reason = match facts.hint.source_ref.kind() {
                RefKind::Branch | RefKind::Tag => "the branch or tag does not exist, or no longer exists",
                RefKind::Image => "no image has this tag, or no image has it any longer",
            };
            return plan_without_head(facts, row, reason, now);
        }
        Head::NoRepository => {
            return Ok(decided(facts, None, Outcome::Ignored, "the repository does not exist, or no longer exists"));
        }
    };
    match &row.pending {
        Some(pending) if pending.change.revision == *head => continue_pending(facts, row, pending, now),
        None if row.commit.as_ref() == Some(head) && !is_missed(facts, row) => Ok(already_relayed(facts, row, head)),
        // A version before orders relayed this event, and may have recorded the id of the tag instead of the commit.
        None if row.targets.is_none() && facts.hint.event.iter().any(|event| row.events.contains(event)) => {
            let row = BranchRow { commit: Some(head.clone()), ..row.clone() };
            Ok(already_relayed(facts, &row, head))
        }
        _ => plan_for_paths(facts, head, now),
    }
}

/// Whether an event is about a head that was only recorded. An old reference has no event, so the first look recorded
/// a new head before its event arrived.
fn is_missed(facts: &Facts<'_>, row: &BranchRow) -> bool {
    row.baseline && facts.trigger == Trigger::Event
}

/// Decides about a pending change of a reference that no route covers any more. If the route comes back, only the head
/// is relayed, and not a change that may be months old by then.
fn drop_pending(row: &BranchRow, pending: &Pending) -> Plan {
    let decisions = pending.deliveries.iter().map(|delivery| no_longer_routed(&pending.change, delivery)).collect();
    Plan::Decide(Box::new(Verdict { decisions, remember: Some(row.dropped()) }))
}

/// Decides about a reference that does not exist or points at nothing that can be deployed. Deleting a reference orders
/// nothing and stops nothing, so a change that was pending shortly before is continued, as long as its image exists.
fn plan_without_head(facts: &Facts<'_>, row: &BranchRow, reason: &str, now: OffsetDateTime) -> Result<Plan, Missing> {
    let mut decisions = vec![decision(facts.hint, None, Outcome::Ignored, reason)];
    if let Some(pending) = row.pending.as_ref().filter(|pending| !pending.is_over(now)) {
        let is_image = pending.change.repository.kind() == SourceKind::Image;
        if is_image && facts.is_gone.is_none() {
            return Err(Missing::Image(Box::new(pending.change.clone())));
        }
        if facts.is_gone != Some(true) {
            return continue_pending(facts, row, pending, now);
        }
        decisions = vec![about_change(&pending.change, Decision::new(Outcome::Failed, GONE))];
    }
    let remember = row.pending.as_ref().map(|_| row.dropped());
    Ok(Plan::Decide(Box::new(Verdict { decisions, remember })))
}

/// Decides about a head that was relayed or recorded before. The row of an earlier version gets the targets that are
/// routed now: they have the head already. A reference that was deleted and came back loses its time to live.
fn already_relayed(facts: &Facts<'_>, row: &BranchRow, head: &Revision) -> Plan {
    let is_stored = facts.row.as_ref().is_some_and(|stored| stored.row.commit.as_ref() == Some(head));
    let targets = row.targets.clone().unwrap_or_else(|| facts.touched.all_targets().into_iter().collect());
    let remember = (row.targets.is_none() || row.expires.is_some() || !is_stored).then(|| BranchRow {
        targets: Some(targets),
        expires: None,
        ..row.clone()
    });
    let decisions = vec![decision(facts.hint, Some(head), Outcome::Duplicate, "this head was already relayed")];
    Plan::Decide(Box::new(Verdict { decisions, remember }))
}

/// Continues a change that an invocation did not finish. Targets that already have the order are duplicates.
fn continue_pending(
    facts: &Facts<'_>,
    row: &BranchRow,
    pending: &Pending,
    now: OffsetDateTime,
) -> Result<Plan, Missing> {
    let wanted = wanted(facts, row, BTreeSet::new());
    read_rows(facts, &wanted, std::iter::empty())?;
    let mut ordering = ordering(facts, row, pending.change.clone(), &wanted, now);
    ordering.notes.extend(unrouted(facts, pending));
    Ok(Plan::Order(Box::new(ordering)))
}

/// Decides about a head that was not relayed before. The changed paths decide which targets get the head.
fn plan_for_paths(facts: &Facts<'_>, head: &Revision, now: OffsetDateTime) -> Result<Plan, Missing> {
    let hint = facts.hint;
    let Snapshot { row, revision } = facts.row.as_ref().ok_or(Missing::Row)?;
    let no_path = decision(hint, Some(head), Outcome::Filtered, "the change touches no path of its routes");
    let untouched = Untouched { commit: head.clone(), paths: facts.touched.paths_digest().to_owned() };
    // The row of an earlier version gets the targets that are routed now: they have the last relayed head already.
    let known = || row.targets.clone().unwrap_or_else(|| facts.touched.all_targets().into_iter().collect());
    let is_untouched = row.untouched.as_ref() == Some(&untouched) && row.pending.is_none();
    if is_untouched && wanted(facts, row, BTreeSet::new()).is_empty() {
        let remember = (row.targets.is_none() || row.expires.is_some())
            .then(|| BranchRow { expires: None, ..row.covering(known()) });
        return Ok(Plan::Decide(Box::new(Verdict { decisions: vec![no_path], remember })));
    }
    // A head that was only recorded has no earlier commit: its event touches every route.
    let previous = row.commit.clone().filter(|commit| commit != head);
    if facts.touched.wants_paths() && facts.paths_error.is_none() {
        return Err(Missing::Paths { previous, head: head.clone() });
    }
    let wanted = wanted(facts, row, facts.touched.targets());
    let is_wanted = !wanted.is_empty() || facts.touched.trains().next().is_some();
    if !is_wanted && facts.paths_error.is_some() {
        return Ok(Plan::Nothing);
    }
    if !is_wanted {
        // The head is stored only after a reconcile. An event comes once, but a reconcile runs every five minutes and
        // would compare the same commits each time.
        let is_stored = facts.trigger == Trigger::Reconcile && revision.is_some();
        let remember =
            is_stored.then(|| BranchRow { untouched: Some(untouched), expires: None, ..row.covering(known()) });
        return Ok(Plan::Decide(Box::new(Verdict { decisions: vec![no_path], remember })));
    }
    let floor = if needs_floor(hint, row) { facts.floor.ok_or(Missing::Floor)? } else { 0 };
    read_rows(facts, &wanted, facts.touched.trains())?;
    let change = Change { previous, ..new_change(facts, row, head, &wanted, floor, now) };
    let mut ordering = ordering(facts, row, change, &wanted, now);
    ordering.trains = arrivals(facts, &ordering.change);
    if facts.paths_error.is_some() {
        // The head is not decided yet, so the row stays as it is. The next plan orders the head again, and the targets
        // that have it by then are duplicates.
        ordering.finished.row = row.clone();
        return Ok(if ordering.is_empty() { Plan::Nothing } else { Plan::Order(Box::new(ordering)) });
    }
    ordering.notes.extend(row.pending.iter().flat_map(|pending| unrouted(facts, pending)));
    let all = ordering.finished.row.targets.as_deref().unwrap_or_default();
    if !delivery::fit_targets(all) {
        return Ok(too_many_targets(facts, &ordering));
    }
    if ordering.fits_transaction() {
        return Ok(Plan::Order(Box::new(ordering)));
    }
    Ok(with_pending(facts, row, ordering, now))
}

/// Whether the sequence of a change needs the lower bound that an expired row of its reference left behind. The row of
/// a head that could not be read has no sequence yet. The receivers of images compare only the numbers of orders.
pub(crate) fn needs_floor(hint: &Hint, row: &BranchRow) -> bool {
    row.newest_sequence() == 0 && hint.repository.kind() == SourceKind::Git
}

/// The change of a reference to a new head.
fn new_change(
    facts: &Facts<'_>,
    row: &BranchRow,
    head: &Revision,
    wanted: &BTreeSet<TargetId>,
    floor: u64,
    now: OffsetDateTime,
) -> Change {
    let hint = facts.hint;
    let seen = wanted.iter().filter_map(|target| facts.targets.read.get(target)).map(|target| target.row.sequence());
    let trains = facts.trains.values().map(|train| train.row.sequence);
    let largest = seen.chain(trains).chain([row.newest_sequence(), floor]).max().unwrap_or(0);
    Change {
        kind: hint.source_ref.kind(),
        repository: hint.repository.clone(),
        source_ref: hint.source_ref.clone(),
        revision: head.clone(),
        previous: None,
        // The sequence is larger than that of every change that one of the targets should run, even if clocks differ.
        sequence: epoch_millis(now).max(largest + 1),
        actor: hint.actor.clone(),
        event: hint.event.clone(),
    }
}

/// The routed targets that the change goes to: those that it touches, those of a pending change, whose paths may have
/// been reverted since, and those that joined since the last head was decided.
fn wanted(facts: &Facts<'_>, row: &BranchRow, touched: BTreeSet<TargetId>) -> BTreeSet<TargetId> {
    let routed = facts.touched.all_targets();
    let pending: BTreeSet<TargetId> = row.pending.iter().flat_map(Pending::targets).collect();
    let known: Option<BTreeSet<&TargetId>> = row.targets.as_ref().map(|known| known.iter().collect());
    let is_known = |target: &TargetId| match &known {
        Some(known) => known.contains(target),
        // An earlier version did not record its targets. If all targets of its pending change are still routed, it has
        // relayed the change to the others.
        None => pending.iter().all(|target| routed.contains(target)),
    };
    let joined: Vec<TargetId> = routed.iter().filter(|target| !is_known(target)).cloned().collect();
    let wanted: BTreeSet<TargetId> = touched.into_iter().chain(pending).chain(joined).collect();
    wanted.intersection(&routed).cloned().collect()
}

/// Asks for the rows of the wanted targets, of the routes that may be held for them, and of the trains at which the
/// change arrives.
fn read_rows<'r>(
    facts: &Facts<'r>,
    wanted: &BTreeSet<TargetId>,
    arriving: impl Iterator<Item = &'r Route>,
) -> Result<(), Missing> {
    let names = plain_routes_to(facts.touched.all(), wanted).into_iter();
    let names = names.chain(arriving.map(|route| route.name().to_owned()));
    let trains: BTreeSet<String> = names.filter(|name| !facts.trains.contains_key(name)).collect();
    let is_read = wanted.iter().all(|target| facts.targets.has(target));
    let targets = if is_read { BTreeSet::new() } else { wanted.clone() };
    if is_read && trains.is_empty() { Ok(()) } else { Err(Missing::Rows { targets, trains }) }
}

/// The arrivals of a change at the touched trains.
fn arrivals(facts: &Facts<'_>, change: &Change) -> Vec<TrainArrival> {
    let rows = facts.touched.trains().filter_map(|route| facts.trains.get_key_value(route.name()));
    rows.map(|(route, row)| TrainArrival::new(route, row, change)).collect()
}

fn ordering(
    facts: &Facts<'_>,
    row: &BranchRow,
    change: Change,
    wanted: &BTreeSet<TargetId>,
    now: OffsetDateTime,
) -> Ordering {
    let finished = row.relayed(&change, facts.touched.all_targets().into_iter().collect());
    let revision = facts.row.as_ref().and_then(|snapshot| snapshot.revision);
    let held = held_targets(facts.touched.all(), &facts.trains, &change.source_ref, now);
    let finished = Snapshot { row: finished, revision };
    let recipients = Recipients { routes: facts.routes, targets: wanted, held: &held, rows: &facts.targets };
    Ordering::new(change, finished, &recipients, now)
}

/// The plan for more targets than one transaction can write: the change is pending until all targets have the order.
fn with_pending(facts: &Facts<'_>, row: &BranchRow, ordering: Ordering, now: OffsetDateTime) -> Plan {
    let placed: BTreeSet<&TargetId> = ordering.part.placed.iter().map(|placed| &placed.target).collect();
    let deliveries = deliveries(placed.iter().copied());
    let all = ordering.finished.row.targets.as_deref().unwrap_or_default();
    let others: Vec<TargetId> = all.iter().filter(|target| !placed.contains(target)).cloned().collect();
    if !delivery::fit_row(&deliveries, &others) {
        return too_many_targets(facts, &ordering);
    }
    let pending = row.with_pending(ordering.change.clone(), deliveries, others, now);
    Plan::Order(Box::new(Ordering { pending: Some(pending), ..ordering }))
}

/// The decision about a change to more targets than the row of its reference can hold.
fn too_many_targets(facts: &Facts<'_>, ordering: &Ordering) -> Plan {
    let all = ordering.finished.row.targets.as_deref().unwrap_or_default();
    let reason = format!(
        "the routes lead to {} accounts and regions, more than a ledger row can hold (about 6,000), so the change was \
         sent to none: configure fewer targets",
        deliveries(all).len()
    );
    decided(facts, Some(&ordering.change.revision), Outcome::Failed, &reason)
}

/// The decisions about targets of a pending change that no route leads to any more.
fn unrouted(facts: &Facts<'_>, pending: &Pending) -> Vec<Decision<Outcome>> {
    let routed = facts.touched.all_targets();
    let gone: BTreeSet<TargetId> = pending.targets().filter(|target| !routed.contains(target)).collect();
    deliveries(&gone).iter().map(|delivery: &Delivery| no_longer_routed(&pending.change, delivery)).collect()
}

fn decision(hint: &Hint, head: Option<&Revision>, outcome: Outcome, reason: &str) -> Decision<Outcome> {
    let decision = about_hint(hint, Decision::new(outcome, reason));
    head.into_iter().fold(decision, |decision, head| decision.about(revision_key(head), head.as_str()))
}

fn decided(facts: &Facts<'_>, head: Option<&Revision>, outcome: Outcome, reason: &str) -> Plan {
    Plan::Decide(Box::new(Verdict { decisions: vec![decision(facts.hint, head, outcome, reason)], remember: None }))
}

#[cfg(test)]
mod tests;
