//! The central decision of a train: what its waves do next. [`next`] is a pure function of the configuration, the
//! train's row, the rows of targets and the time. Whoever changes the row of the train or of a target calls it
//! afterwards, and so does every reconcile.

mod back;
mod enter;
mod newcomers;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};

use sekisho_domain::bake::BakeTime;
use sekisho_domain::change::Change;
use sekisho_domain::decision::Decision;
use sekisho_domain::order::OrderKind;
use sekisho_domain::route::{Route, Routes, Target, TargetId, Wave};
use time::OffsetDateTime;

use crate::ordering::Placed;
use crate::outcome::{Outcome, about_change};
use crate::snapshot::{Snapshot, TargetRows};
use crate::sources::Sources;
use crate::target::{TargetRow, TrainOrder};
use crate::train::{Hold, TrainRow, WaveRow};
use crate::wave::{Observer, WaveState};

/// The facts about a train.
#[derive(Debug)]
pub(crate) struct TrainFacts<'a> {
    /// All routes, because other trains may lead to the same targets.
    pub(crate) routes: &'a Routes,
    pub(crate) route: &'a Route,
    pub(crate) row: TrainRow,
    /// The rows of targets that were read so far.
    pub(crate) targets: TargetRows,
    pub(crate) scope: Scope,
    /// The changes whose images were read and are gone.
    pub(crate) gone: Vec<Change>,
}

/// What may have changed since the train was looked at last. The other waves need not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Anything, also by the passing of time.
    All,
    /// A new change arrived.
    Arrival,
    /// This target reported.
    Target(TargetId),
}

/// The reason not to order a change whose image is gone.
const GONE: &str = "the image was deleted or archived, so no target is ordered to run it or to go back to it; that \
                    condemns nothing. Push it again under another tag, or restore it and send `promote`";

/// The targets whose rows must be read before the decision is known.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Missing(pub(crate) BTreeSet<TargetId>);

/// What a train does next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Next {
    /// The train's row afterwards.
    pub(crate) row: TrainRow,
    /// The rows of targets with new or withdrawn orders, the most urgent ones first.
    pub(crate) orders: Vec<Placed>,
    pub(crate) decisions: Vec<Decision<Outcome>>,
}

/// Why a change may not enter a wave now, although the wave is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate<'a> {
    /// A person holds the wave or the train.
    Hold(&'a Hold),
    /// No window is open.
    Window,
}

/// Decides what a train does next. A second call with the result does nothing more.
///
/// # Errors
/// A row on which the decision depends has not been read. The caller reads it and asks again.
pub(crate) fn next(facts: &TrainFacts<'_>, now: OffsetDateTime) -> Result<Next, Missing> {
    Step::new(facts, now).take()
}

/// What keeps a change out of a wave.
pub(crate) fn gate<'a>(row: &'a TrainRow, wave: &Wave, change: &Change, now: OffsetDateTime) -> Option<Gate<'a>> {
    match row.hold_on(&wave.name, &change.source_ref, now) {
        Some(hold) => Some(Gate::Hold(hold)),
        None => (!wave.windows.is_open(now)).then_some(Gate::Window),
    }
}

/// Whether a target never got an order.
fn is_new(rows: &TargetRows, target: &TargetId) -> bool {
    rows.read.get(target).is_some_and(|one| one.row.order.is_none() && one.row.report.is_none())
}

/// How urgent it is to write an order, if one transaction cannot write all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    Rollback,
    Deploy,
}

/// A wave of the configuration and its place in the train.
#[derive(Debug, Clone, Copy)]
struct At<'a> {
    index: usize,
    wave: &'a Wave,
}

/// A step of the train, as far as it is decided.
#[derive(Debug)]
struct Step<'a> {
    facts: &'a TrainFacts<'a>,
    observer: Observer<'a>,
    now: OffsetDateTime,
    /// The targets of each wave.
    targets: Vec<Vec<TargetId>>,
    row: TrainRow,
    orders: BTreeMap<TargetId, (Urgency, Placed)>,
    decisions: Vec<Decision<Outcome>>,
    /// The waves that are looked at.
    examined: BTreeSet<usize>,
    /// The waves that a change entered in this step.
    entered: BTreeSet<usize>,
    has_changed: bool,
}

impl<'a> Step<'a> {
    fn new(facts: &'a TrainFacts<'a>, now: OffsetDateTime) -> Self {
        let observer = Observer { routes: facts.routes, route: facts.route.name(), now };
        let targets = facts.route.waves().iter().map(|wave| wave.targets.iter().map(Target::id).collect()).collect();
        Self {
            facts,
            observer,
            now,
            targets,
            row: TrainRow::default(),
            orders: BTreeMap::new(),
            decisions: vec![],
            examined: BTreeSet::new(),
            entered: BTreeSet::new(),
            has_changed: false,
        }
    }

    fn take(mut self) -> Result<Next, Missing> {
        self.configure();
        self.note_gone();
        self.end_holds();
        self.examine();
        self.check_rows()?;
        self.found();
        // Each repetition moves at least one change, and no change enters a wave twice.
        for _ in 0..=4 * (self.waves().len() + 1) {
            self.check_rows()?;
            self.has_changed = false;
            let examined: Vec<At<'a>> = self.waves().filter(|at| self.examined.contains(&at.index)).collect();
            // Verdicts come first, because entries depend on them, and nothing comes before a rollback.
            for part in [Self::judge, Self::send_back, Self::enter, Self::admit, Self::order] {
                for at in &examined {
                    part(&mut self, *at);
                }
            }
            let before = self.examined.len();
            self.examine_waiting();
            if !self.has_changed && self.examined.len() == before {
                break;
            }
        }
        let mut orders: Vec<(Urgency, Placed)> = self.orders.into_values().collect();
        orders.sort_by_key(|(urgency, _)| *urgency);
        let orders = orders.into_iter().map(|(_, placed)| placed).collect();
        Ok(Next { row: self.row, orders, decisions: self.decisions })
    }

    fn waves(&self) -> impl ExactSizeIterator<Item = At<'a>> + use<'a> {
        self.facts.route.waves().iter().enumerate().map(|(index, wave)| At { index, wave })
    }

    /// Takes over the waves of the configuration.
    fn configure(&mut self) {
        let (row, left) = self.facts.row.configured(self.facts.route);
        self.row = row;
        for target in left {
            let reason = format!("the target left the route `{}`: its order is closed", self.facts.route.name());
            self.decide(Decision::new(Outcome::Filtered, reason).about("target", target.to_string()));
        }
    }

    /// A route got waves. What its targets ran last counts as healthy. A target that never got an order came together
    /// with the waves: it is a newcomer. An order of any route counts, because the row of a target has only the newest
    /// order, and another route may have replaced the one of this route.
    fn found(&mut self) {
        if !self.facts.row.waves.is_empty() {
            return;
        }
        let facts = self.facts;
        for wave in &mut self.row.waves {
            wave.members.retain(|target| !is_new(&facts.targets, target));
        }
    }

    /// Notes the images that are gone. They are not ordered any more.
    fn note_gone(&mut self) {
        for change in &self.facts.gone {
            if !self.row.is_gone(change) {
                self.row.add_gone(change);
                self.decide(about_change(change, Decision::new(Outcome::Failed, GONE)));
            }
        }
    }

    fn end_holds(&mut self) {
        let (active, ended): (Vec<Hold>, Vec<Hold>) =
            std::mem::take(&mut self.row.holds).into_iter().partition(|hold| hold.is_active(self.now));
        self.row.holds = active;
        for hold in ended {
            let decision = Decision::new(Outcome::Resumed, "the time of the hold is over");
            self.decide(decision.about_some("wave", hold.wave).about_some("ref", hold.source_ref.map(String::from)));
        }
    }

    /// Selects the waves that the scope names.
    fn examine(&mut self) {
        let is_new = self.row.waves != self.facts.row.waves;
        let selected: BTreeSet<usize> = match &self.facts.scope {
            _ if is_new => self.waves().map(|at| at.index).collect(),
            Scope::All => self.waves().map(|at| at.index).collect(),
            Scope::Arrival => BTreeSet::from([0]),
            Scope::Target(target) => self.place_of(target).into_iter().collect(),
        };
        self.examined = selected;
        self.examine_waiting();
    }

    fn place_of(&self, target: &TargetId) -> Option<usize> {
        self.targets.iter().position(|targets| targets.contains(target))
    }

    /// Selects the waves for which a change or a newcomer waits, as far as the train's row shows that.
    fn examine_waiting(&mut self) {
        let waiting = self.waves().filter(|at| {
            let Some(wave) = self.row.waves.get(at.index) else { return false };
            let has_newcomers = self.targets.get(at.index).is_some_and(|targets| targets.len() > wave.members.len());
            has_newcomers || wave.promotion.is_some() || wave.open().is_none() && self.candidate(*at).is_some()
        });
        let waiting: Vec<usize> = waiting.map(|at| at.index).collect();
        self.examined.extend(waiting);
    }

    fn check_rows(&self) -> Result<(), Missing> {
        let examined = self.examined.iter().filter_map(|index| self.targets.get(*index)).flatten();
        let missing: BTreeSet<TargetId> = examined.filter(|target| !self.facts.targets.has(target)).cloned().collect();
        if missing.is_empty() { Ok(()) } else { Err(Missing(missing)) }
    }

    /// The row of a target, with the order that it got in this step. `None` if it cannot be read.
    fn target(&self, target: &TargetId) -> Option<&TargetRow> {
        match self.orders.get(target) {
            Some((_, placed)) => Some(&placed.row),
            None => self.facts.targets.read.get(target).map(|snapshot| &snapshot.row),
        }
    }

    fn wave(&self, at: At<'_>) -> Option<&WaveRow> {
        self.row.waves.get(at.index)
    }

    fn wave_mut(&mut self, at: At<'_>) -> Option<&mut WaveRow> {
        self.has_changed = true;
        self.row.waves.get_mut(at.index)
    }

    /// The targets of a wave, each with its row.
    fn targets_of(&self, at: At<'_>) -> impl Iterator<Item = (&TargetId, Option<&TargetRow>)> {
        self.targets.get(at.index).into_iter().flatten().map(|target| (target, self.target(target)))
    }

    fn state(&self, at: At<'_>) -> WaveState {
        match self.wave(at) {
            Some(wave) => self.observer.observe(&self.row, wave, self.targets_of(at)),
            None => WaveState { places: vec![] },
        }
    }

    /// How many more targets of a wave may deploy now.
    fn free_slots(at: At<'_>, in_flight: usize) -> usize {
        let limit = at.wave.at_once.and_then(|limit| usize::try_from(limit.get()).ok());
        limit.map_or(usize::MAX, |limit| limit.saturating_sub(in_flight))
    }

    /// Places an order in the row of a target.
    fn place(&mut self, target: &TargetId, change: &Change, kind: OrderKind, train: TrainOrder) {
        let urgency = match kind {
            OrderKind::Rollback => Urgency::Rollback,
            OrderKind::Deploy => Urgency::Deploy,
        };
        let sources = Sources::new(self.facts.routes, target);
        if let Some(row) = self.target(target).map(|row| row.ordered(change, (kind, train), sources, self.now)) {
            self.write(target.clone(), row, urgency);
        }
    }

    /// Notes that the row of a target is to be written.
    fn write(&mut self, target: TargetId, row: TargetRow, urgency: Urgency) {
        let replaces = self.facts.targets.read.get(&target).and_then(|Snapshot { revision, .. }| *revision);
        self.orders.insert(target.clone(), (urgency, Placed { target, row, replaces }));
        self.has_changed = true;
    }

    fn deploy(&self, at: At<'_>, seen: u64) -> TrainOrder {
        TrainOrder {
            route: self.facts.route.name().to_owned(),
            seen,
            bake: at.wave.bake,
            promoted: false,
            accepted: false,
            joined: false,
        }
    }

    fn rollback(&self, at: At<'_>, seen: u64, joined: bool) -> TrainOrder {
        TrainOrder { bake: BakeTime::NONE, joined, ..self.deploy(at, seen) }
    }

    fn decide(&mut self, decision: Decision<Outcome>) {
        let decision = decision.about("route", self.facts.route.name());
        self.decisions.push(decision);
    }

    /// Makes a decision about a change in a wave.
    fn decide_about(&mut self, at: At<'_>, change: &Change, outcome: Outcome, reason: impl Into<String>) {
        self.decide(about_change(change, Decision::new(outcome, reason)).about("wave", at.wave.name.as_str()));
    }
}

#[cfg(test)]
mod tests;
