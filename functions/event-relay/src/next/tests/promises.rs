//! What must hold after each step of a random history.

use std::collections::{BTreeMap, BTreeSet};

use sekisho_domain::report::ReportState;
use sekisho_domain::route::Retreat;

use super::super::*;
use super::record::{PIPELINES, Record, WAVES, pipelines, wave_of};
use super::world::{World, id, number};
use crate::target::{PlacedOrder, Progress, is_same_revision};
use crate::train::{Condemned, Judge, Passage, TrainChange, Verdict};
use crate::wave::Standing;

/// A step of a history.
pub(super) struct Promises<'a> {
    pub(super) before: &'a World,
    pub(super) after: &'a World,
    pub(super) record: &'a Record,
    /// The newest change that each wave had taken before the step.
    pub(super) newest: [u64; 3],
}

impl Promises<'_> {
    pub(super) fn check(&self) {
        self.check_orders();
        self.check_entries();
        self.check_gates();
        self.check_condemned();
        // Time alone may let a change enter, and an image that came back lets a target go back to it. Only the next look
        // at the whole train finds that.
        let mut rested = self.after.clone();
        rested.advance(&Scope::All);
        for index in 0..WAVES.len() {
            self.check_one_change(index);
            self.check_at_once(index);
            check_rollbacks(&rested, index);
            check_waits(&rested, index);
            self.check_missed_entries(&rested, index);
        }
    }

    fn new_orders(&self) -> &[(TargetId, PlacedOrder)] {
        &self.after.placed[self.before.placed.len()..]
    }

    fn new_deploys(&self) -> impl Iterator<Item = (&TargetId, &PlacedOrder)> {
        self.new_orders().iter().map(|(target, order)| (target, order)).filter(|(_, order)| is_deploy(order))
    }

    /// The numbers of a target's orders rise, and nobody gets a condemned change.
    fn check_orders(&self) {
        let mut numbers: BTreeMap<&TargetId, u64> = BTreeMap::new();
        for (target, order) in &self.after.placed {
            let last = numbers.insert(target, order.number).unwrap_or(0);
            assert!(order.number > last, "{target}: {} after {last}", order.number);
        }
        for (target, order) in self.new_orders() {
            let is_condemned = self.after.row.condemnation(&order.change).is_some();
            assert!(!is_deploy(order) || !is_condemned, "{target} gets a condemned change");
            let is_deleted = self.after.deleted.contains(&number(&order.change));
            assert!(!is_deleted, "{target} gets an image that was deleted");
        }
    }

    /// A change enters a wave after the reports said that it was healthy in the wave before, and a wave takes only newer
    /// changes, or once more the newest one, unless a person promoted the change.
    fn check_entries(&self) {
        let mut entries: BTreeSet<(usize, u64)> = BTreeSet::new();
        for (index, (old, new)) in self.before.row.waves.iter().zip(&self.after.row.waves).enumerate() {
            let new = new.passage.as_ref().filter(|new| !new.promoted && !is_same_entry(old.passage.as_ref(), new));
            entries.extend(new.map(|new| (index, new.seen)));
        }
        // A change may have passed a wave within one step.
        for (target, order) in self.new_deploys() {
            let (index, of) = (wave_of(target), order.train.as_ref().unwrap());
            let inside = self.before.row.waves.get(index).and_then(|wave| wave.passage.as_ref());
            if !of.promoted && inside.is_none_or(|inside| inside.seen != of.seen) {
                entries.insert((index, of.seen));
            }
        }
        for (index, seen) in entries {
            let was_healthy = index == 0 || self.record.was_healthy(index - 1, seen);
            assert!(was_healthy, "the change {seen} was not healthy before it entered the wave {index}");
            let is_again = seen == self.newest[index] && self.after.row.change(seen).unwrap().again;
            assert!(seen > self.newest[index] || is_again, "the wave {index} goes back to {seen} by itself");
        }
    }

    /// While a wave is held or its windows are closed, only a promoted change is ordered.
    fn check_gates(&self) {
        let unpromoted = self.new_deploys().filter(|(_, order)| !order.train.as_ref().unwrap().promoted);
        for (target, _) in unpromoted {
            assert!(!is_closed(self.after, wave_of(target)), "{target} gets a change although its wave is closed");
        }
    }

    /// A wave condemns a change only if more of its targets failed than it tolerates.
    fn check_condemned(&self) {
        let is_new = |one: &&Condemned| !self.before.row.condemned.contains(one);
        for one in self.after.row.condemned.iter().filter(is_new) {
            let Judge::Wave(name) = &one.by else { continue };
            let index = WAVES.iter().position(|wave| wave == name).unwrap();
            let tolerate = usize::try_from(self.after.route().waves()[index].tolerate).unwrap();
            let failures = self.record.failures(index, one.seen);
            assert!(
                failures.is_none_or(|count| count > tolerate),
                "the wave {name} condemns after {failures:?} failures"
            );
        }
    }

    /// The targets of a wave work on one change at a time.
    fn check_one_change(&self, index: usize) {
        let works: BTreeSet<u64> = self.at_work(index, &[Progress::Running, Progress::GoingBack]).collect();
        assert!(works.len() <= 1, "the wave {index} works on {works:?}");
    }

    /// A target gets a change only if no more targets of the wave deploy than may do so at the same time. An older
    /// change that a target has not started is replaced at once, because it must not start any more.
    fn check_at_once(&self, index: usize) {
        let limit = self.after.route().waves()[index].at_once.map(|limit| usize::try_from(limit.get()).unwrap());
        let is_of_wave = |target: &TargetId| wave_of(target) == index && !self.record.has_replaced_unstarted(target);
        let Some(limit) = limit.filter(|_| self.new_deploys().any(|(target, _)| is_of_wave(target))) else {
            return;
        };
        let works = self.at_work(index, &[Progress::Waiting, Progress::Running]).count();
        let orders = || (self.before.orders(), self.after.orders());
        assert!(works <= limit, "{works} targets of the wave {index} deploy: {:?}", orders());
    }

    /// The change of each target of a wave that is this far with an order of kind `deploy`.
    fn at_work(&self, index: usize, progress: &[Progress]) -> impl Iterator<Item = u64> {
        pipelines(index).iter().map(|pipeline| id(pipeline)).filter_map(|target| {
            let row = self.after.targets.get(&target)?;
            let order = row.order.as_ref().filter(|order| is_deploy(order))?;
            let is_at_work = row.progress(self.after.now).is_some_and(|one| progress.contains(&one));
            (is_at_work && !self.record.has_ended(&target)).then(|| order.train.as_ref().unwrap().seen)
        })
    }

    /// A wave that could take a change has taken it. `rested` is the train after a look at all of it.
    fn check_missed_entries(&self, rested: &World, index: usize) {
        let Some(wave) = rested.row.waves.get(index).filter(|wave| wave.promotion.is_none()) else { return };
        let standings = rested.standings(index);
        let is_free = match wave.open() {
            // No target has started the change in the wave, so a newer one replaces it.
            Some(open) => {
                let is_unstarted = |one: &Standing| matches!(one, Standing::Waiting | Standing::Todo);
                !open.promoted && standings.iter().all(is_unstarted)
            }
            None => !standings.iter().any(|one| one.is_in_flight() || *one == Standing::Unknown),
        };
        if !is_free || is_closed(rested, index) {
            return;
        }
        let newest =
            self.newest[index].max(self.record.newest()[index]).max(wave.passage.as_ref().map_or(0, |of| of.seen));
        let could_enter = |one: &&TrainChange| {
            // What a pardoned change still has to do depends on how it was condemned.
            let was_healthy = || self.record.was_healthy(index - 1, one.seen) && !self.record.was_condemned(one.seen);
            let is_allowed = rested.row.condemnation(&one.change).is_none() && !rested.row.is_gone(&one.change);
            one.seen > newest && is_allowed && (index == 0 || was_healthy())
        };
        let missed = rested.row.changes.iter().find(could_enter).map(|one| number(&one.change));
        assert_eq!(missed, None, "nothing keeps the commit out of the wave {index}: {standings:?}");
    }
}

/// No target keeps a condemned change that it can go back from: neither in the wave that failed or that a person
/// sent back, nor, with `retreat = "train"`, in the waves before. No hold and no window prevents that. `rested` is the train after a look at all of it.
fn check_rollbacks(rested: &World, index: usize) {
    let row = &rested.row;
    for (place, wave) in row.waves.iter().enumerate().skip(index) {
        let Some(passage) = wave.passage.as_ref() else { continue };
        let change = &row.change(passage.seen).unwrap().change;
        let is_own = place == index;
        let retreat = rested.route().waves()[place].retreat;
        let goes_back = if is_own { retreat != Retreat::Target } else { retreat == Retreat::Train };
        let recall = Recalled {
            is_own,
            by_person: is_own && passage.recalled,
            by_wave: passage.verdict == Verdict::Failed && !passage.failed.is_empty() && goes_back,
        };
        if row.condemnation(change).is_none() || !(is_own || recall.by_wave) {
            continue;
        }
        let recall = Recalled { by_wave: recall.by_wave && !is_undecided(rested, index), ..recall };
        for pipeline in pipelines(index) {
            assert!(!keeps(rested, &id(pipeline), passage, change, recall), "{pipeline} keeps a condemned change");
        }
    }
}

/// Whether a target of the wave reported on its order, and nobody knows what became of it.
pub(super) fn is_undecided(world: &World, index: usize) -> bool {
    let rows = pipelines(index).iter().filter_map(|pipeline| world.targets.get(&id(pipeline)));
    let mut unknown = rows.filter(|row| row.progress(world.now) == Some(Progress::Unknown));
    unknown.any(|row| row.current_report().is_some_and(|report| report.state != ReportState::Refused))
}

/// Whether a target has the change of a passage, although it should and can go back.
fn keeps(rested: &World, target: &TargetId, passage: &Passage, change: &Change, recall: Recalled) -> bool {
    let Some(row) = rested.targets.get(target) else { return false };
    let Some(order) = row.order.as_ref().filter(|order| is_deploy(order)) else { return false };
    let has_change = order.train.as_ref().unwrap().seen == passage.seen;
    let may_go = |before: &Change| !is_same_revision(before, change) && !rested.row.is_gone(before);
    let can_go = order.before.as_ref().is_some_and(may_go);
    // A target that failed goes back by itself, unless a person asks for it.
    let is_judge = recall.is_own && passage.failed.iter().chain(&passage.failed_newcomers).any(|one| one == target);
    let report = row.current_report().map(|report| report.state);
    let must_go = match row.progress(rested.now) {
        Some(Progress::Healthy) => recall.by_person || recall.by_wave,
        Some(Progress::Running) => recall.by_person || recall.by_wave && !is_judge,
        Some(Progress::Waiting) => recall.by_person || !is_judge,
        // Nobody knows whether a target without an answer works on the change.
        Some(Progress::Unknown) => recall.by_person || recall.by_wave && !is_judge && report.is_none(),
        Some(Progress::Failed) => recall.by_person && report == Some(ReportState::Failed),
        _ => false,
    };
    has_change && can_go && must_go
}

/// What the targets of a wave go back for.
#[derive(Debug, Clone, Copy)]
struct Recalled {
    /// Whether the change is the one in the targets' own wave.
    is_own: bool,
    by_person: bool,
    by_wave: bool,
}

fn is_deploy(order: &PlacedOrder) -> bool {
    order.kind == OrderKind::Deploy
}

/// Whether a hold or a window keeps changes out of a wave.
pub(super) fn is_closed(world: &World, index: usize) -> bool {
    let is_named = |hold: &Hold| hold.wave.as_deref().is_none_or(|wave| wave == WAVES[index]);
    world.row.holds.iter().any(is_named) || !world.route().waves()[index].windows.is_open(world.now)
}

/// A wave that is not free waits for something that can come. `rested` is the train after a look at all of it.
fn check_waits(rested: &World, index: usize) {
    let Some(wave) = rested.row.waves.get(index) else { return };
    let standings = rested.standings(index);
    let is_busy = standings.iter().any(|one| one.is_in_flight() || *one == Standing::Unknown);
    if let Some(open) = wave.open() {
        let has_rest = standings.contains(&Standing::Todo) && !open.promoted && is_closed(rested, index);
        assert!(is_busy || has_rest, "the wave {index} waits for nothing: {standings:?}");
    } else if wave.promotion.is_some() {
        assert!(is_busy, "the promotion waits for nothing: {standings:?}");
    }
}

fn is_same_entry(old: Option<&Passage>, new: &Passage) -> bool {
    old.is_some_and(|old| (old.seen, old.sequence) == (new.seen, new.sequence))
}

/// A decision that looks only at a part of the train agrees with one that looks at all of it. `happen` changes only what
/// the scope names.
pub(super) fn check_scope(world: &World, scope: &Scope, happen: impl Fn(&mut World)) {
    let mut world = world.clone();
    // Time alone moves the train, too. So the train rests at the time at which the change happens.
    let now = world.now;
    world.now += time::Duration::seconds(1);
    world.advance(&Scope::All);
    world.now = now;
    happen(&mut world);
    let (part, all) = (world.decide(scope), world.decide(&Scope::All));
    let (part_runs, all_runs) = (runs(&part), runs(&all));
    assert!(
        part_runs.is_subset(&all_runs),
        "{scope:?}: a part of the train gives {part_runs:?}, all gives {all_runs:?}"
    );
    // A wave that runs a revision already passes a further change with that revision at once. Then the next wave may get
    // either of the two changes.
    if has_twins(&world.row) {
        return;
    }
    let decisions = |next: &Next| next.decisions.iter().map(|one| format!("{one:?}")).collect::<BTreeSet<String>>();
    assert_eq!(part.orders, all.orders, "{scope:?}");
    assert_eq!(part.row, all.row, "the row depends on how much of the train is looked at: {scope:?}");
    assert_eq!(decisions(&part), decisions(&all), "{scope:?}");
    let mut later = world.clone();
    later.advance(scope);
    later.advance(&Scope::All);
    world.advance(&Scope::All);
    assert_eq!(outline(&later), outline(&world), "a later look at the whole train does not catch up: {scope:?}");
}

/// What a target should do with a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Deploy,
    GoBackTo,
    NotTake,
}

/// What each target with a new or withdrawn order should do with which commit.
fn runs(next: &Next) -> BTreeSet<(TargetId, What, u64)> {
    let orders = next.orders.iter().map(|placed| (&placed.target, placed.row.order.as_ref().unwrap()));
    let orders = orders.map(|(target, order)| {
        let what = match order.kind {
            _ if order.withdrawn => What::NotTake,
            OrderKind::Deploy => What::Deploy,
            OrderKind::Rollback => What::GoBackTo,
        };
        (target.clone(), what, number(&order.change))
    });
    orders.collect()
}

/// Whether two changes of the train have the same revision.
fn has_twins(row: &TrainRow) -> bool {
    let revisions: BTreeSet<&str> = row.changes.iter().map(|one| one.change.revision.as_str()).collect();
    revisions.len() < row.changes.len()
}

/// The orders of all targets, the change and the verdict of each wave, and the condemned commits.
fn outline(world: &World) -> String {
    let passages = world.row.waves.iter().map(|wave| wave.passage.as_ref().map(|of| (of.seen, of.verdict)));
    let condemned: BTreeSet<String> = world.row.condemned.iter().map(|one| one.revision.to_string()).collect();
    format!("{} {:?} {condemned:?}", world.orders(), passages.collect::<Vec<_>>())
}

/// All pipelines belong to the waves.
#[test]
fn each_pipeline_belongs_to_the_wave_of_its_name() {
    let world = World::new(super::world::CONFIG);
    for (index, wave) in world.route().waves().iter().enumerate() {
        let own: Vec<TargetId> = wave.targets.iter().map(Target::id).collect();
        assert_eq!(own, pipelines(index).iter().map(|pipeline| id(pipeline)).collect::<Vec<_>>());
        assert!(own.iter().all(|target| wave_of(target) == index));
    }
    assert_eq!(PIPELINES.len(), 6);
}
