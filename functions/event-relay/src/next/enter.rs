//! The entry of a change into a wave, and the orders of its targets.

use sekisho_domain::change::Change;
use sekisho_domain::decision::Decision;
use sekisho_domain::order::OrderKind;
use sekisho_domain::route::TargetId;

use super::{At, Step, gate};
use crate::outcome::{Outcome, about_change};
use crate::target::{Progress, TargetRow, TrainOrder};
use crate::train::{Passage, TrainChange, Verdict};
use crate::wave::{Standing, WaveState};

impl<'a> Step<'a> {
    /// The newest change that may enter a wave by itself, as far as the train's row shows that.
    pub(super) fn candidate(&self, at: At<'_>) -> Option<&TrainChange> {
        let is_open = |one: &&TrainChange| gate(&self.row, at.wave, &one.change, self.now).is_none();
        self.row.candidates(at.index).rfind(is_open)
    }

    /// Lets a change enter a wave, if the wave is free or no target has started the change in it yet.
    pub(super) fn enter(&mut self, at: At<'a>) {
        if self.promote(at) {
            return;
        }
        let Some(wave) = self.wave(at) else { return };
        let newest = self.newest_elsewhere(at);
        let candidate = self.candidate(at).filter(|one| one.again || one.seen > newest);
        let Some(change) = candidate.cloned() else { return };
        let takes = match wave.open() {
            Some(passage) => !passage.promoted && self.is_replaceable(at),
            None => self.is_free(at),
        };
        if takes && self.has_work(at, &change, false) {
            self.let_in(at, &change, false);
        }
    }

    /// The largest sequence of an order that a target of the wave has from the time before the route had waves.
    fn newest_elsewhere(&self, at: At<'_>) -> u64 {
        let plain = self.targets_of(at).filter_map(|(_, row)| row?.standing_order()).filter(|one| one.train.is_none());
        plain.map(|order| order.change.sequence).max().unwrap_or(0)
    }

    /// Whether no change is in the wave, no target is going back, and none is unknown.
    pub(super) fn is_free(&self, at: At<'_>) -> bool {
        if self.wave(at).is_none_or(|wave| wave.open().is_some()) {
            return false;
        }
        self.targets_of(at).all(|(_, row)| row.is_some_and(|row| self.observer.is_free(row)))
    }

    /// Whether every target that got the change in the wave said that it has not started it.
    fn is_replaceable(&self, at: At<'_>) -> bool {
        let untouched = |standing| matches!(standing, Standing::Waiting | Standing::Todo | Standing::OtherTrain);
        let has_joined = |standing| standing == Standing::Healthy;
        let state = self.state(at);
        state.places.iter().all(|place| untouched(place.standing) || place.has_joined && has_joined(place.standing))
    }

    /// Whether a change that enters now would be ordered somewhere, or is healthy everywhere already.
    fn has_work(&self, at: At<'a>, change: &TrainChange, promoted: bool) -> bool {
        let passage = Self::passage(change, promoted);
        let standings = self.targets_of(at).map(|(target, row)| {
            row.map_or(Standing::Unknown, |row| self.observer.standing(target, row, &passage, &change.change))
        });
        let standings: Vec<Standing> = standings.collect();
        standings.contains(&Standing::Todo) || standings.iter().all(|one| *one == Standing::Healthy)
    }

    fn passage(change: &TrainChange, promoted: bool) -> Passage {
        Passage {
            seen: change.seen,
            sequence: change.change.sequence,
            promoted,
            verdict: Verdict::Open,
            failed: vec![],
            failed_newcomers: vec![],
            recalled: false,
        }
    }

    fn let_in(&mut self, at: At<'a>, change: &TrainChange, promoted: bool) {
        let passed_over: Vec<Change> = if promoted {
            vec![]
        } else {
            self.row.candidates(at.index).filter(|one| one.seen < change.seen).map(|one| one.change.clone()).collect()
        };
        let replaced = self.wave(at).and_then(|wave| wave.open()).map(|passage| passage.seen);
        let replaced = replaced.and_then(|seen| self.row.change(seen)).map(|one| one.change.clone());
        let passage = Self::passage(change, promoted);
        let members = self.targets.get(at.index).cloned().unwrap_or_default();
        if let Some(wave) = self.wave_mut(at) {
            wave.passage = Some(passage);
            wave.newest = wave.newest.max(change.seen);
            wave.members = members;
        }
        for old in replaced.into_iter().chain(passed_over) {
            let reason = format!("the wave `{}` takes a newer change", at.wave.name);
            self.decide_about(at, &old, Outcome::Superseded, reason);
        }
        let how = if promoted { ", because a person promoted it" } else { "" };
        let reason = format!("the change enters the wave `{}`{how}", at.wave.name);
        self.decide_about(at, &change.change, Outcome::Entered, reason);
        self.entered.insert(at.index);
    }

    /// Carries out a person's request to let a change enter the wave. Returns whether there is such a request.
    fn promote(&mut self, at: At<'a>) -> bool {
        let Some(wave) = self.wave(at) else { return false };
        let Some(seen) = wave.promotion else { return false };
        let open = wave.open().map(|passage| passage.seen);
        let change = self.row.change(seen).filter(|one| !self.row.is_gone(&one.change)).cloned();
        let newest = self.newest_elsewhere(at);
        let obstacle = change.as_ref().and_then(|one| match one.change.sequence {
            _ if self.is_condemned(seen) => {
                Some((Outcome::Condemned, "the change was condemned before it could enter the wave: pardon it first"))
            }
            sequence if sequence < newest => Some((
                Outcome::Superseded,
                "a newer change was ordered while the route had no waves: promote this one again if it is still wanted",
            )),
            _ => None,
        });
        let Some(change) = change.filter(|_| obstacle.is_none()) else {
            if let Some(wave) = self.wave_mut(at) {
                wave.promotion = None;
            }
            if let Some((change, (outcome, reason))) = self.row.change(seen).map(|one| one.change.clone()).zip(obstacle)
            {
                self.decide_about(at, &change, outcome, reason);
            }
            return false;
        };
        let is_inside = open == Some(seen);
        let takes = if open.is_some() { self.is_replaceable(at) } else { self.is_free(at) };
        if is_inside {
            if let Some(passage) = self.wave_mut(at).and_then(|wave| wave.passage.as_mut()) {
                passage.promoted = true;
            }
        } else if takes && self.has_work(at, &change, true) {
            self.let_in(at, &change, true);
        } else {
            return true;
        }
        if let Some(wave) = self.wave_mut(at) {
            wave.promotion = None;
        }
        true
    }

    /// Orders the change in a wave to the targets that are still to come.
    pub(super) fn order(&mut self, at: At<'a>) {
        let Some(passage) = self.wave(at).and_then(|wave| wave.open()).cloned() else { return };
        let Some(change) = self.row.change(passage.seen).map(|one| one.change.clone()) else { return };
        let state = self.state(at);
        self.take_up(at, &state);
        if !self.may_order(at, &passage, &change, &state) {
            return;
        }
        let slots = Self::free_slots(at, state.in_flight());
        let mut todo: Vec<(bool, TargetId, bool)> = self
            .targets_of(at)
            .zip(&state.places)
            .filter(|((_, row), place)| match place.standing {
                Standing::Todo => true,
                // The change was promoted after this order was placed. A promoted order starts although an alarm rings.
                Standing::Waiting => passage.promoted && !self.is_promoted(*row),
                _ => false,
            })
            .map(|((target, row), place)| (!self.waits(row), target.clone(), place.has_joined || !place.is_member))
            .collect();
        // An older change that is still waiting must not start any more.
        todo.sort_by_key(|(has_ended, ..)| *has_ended);
        let waiting = todo.iter().filter(|(has_ended, ..)| !has_ended).count();
        todo.truncate(slots.max(waiting));
        if todo.is_empty() {
            return;
        }
        let count = todo.len();
        for (_, target, joined) in todo {
            let order = TrainOrder { promoted: passage.promoted, joined, ..self.deploy(at, passage.seen) };
            self.place(&target, &change, OrderKind::Deploy, order);
            if joined
                && let Some(wave) = self.wave_mut(at)
                && !wave.members.contains(&target)
            {
                wave.members.push(target);
            }
        }
        if self.entered.remove(&at.index) {
            return;
        }
        let reason = format!("{count} targets of the wave `{}` are ordered to run this change", at.wave.name);
        let decision = about_change(&change, Decision::new(Outcome::Ordered, reason));
        self.decide(decision.about("wave", at.wave.name.as_str()).about("count", count.to_string()));
    }

    /// Whether the target has an order of this train that it has not started.
    fn waits(&self, row: Option<&TargetRow>) -> bool {
        let own = row.filter(|row| self.observer.own(row).is_some());
        own.and_then(|row| row.progress(self.now)) == Some(Progress::Waiting)
    }

    /// Whether the target's order of this train is promoted.
    fn is_promoted(&self, row: Option<&TargetRow>) -> bool {
        row.and_then(|row| self.observer.own(row)).is_some_and(|(_, of)| of.promoted)
    }

    /// Whether further targets of a wave may get its change. An unknown target and too many failures stop the wave.
    fn may_order(&self, at: At<'a>, passage: &Passage, change: &Change, state: &WaveState) -> bool {
        let bad = state.failures() + state.count(Standing::GoingBack);
        let is_stopped = state.has_unknown()
            || bad > usize::try_from(at.wave.tolerate).unwrap_or(usize::MAX)
            || self.row.condemnation(change).is_some()
            || self.row.is_gone(change);
        !is_stopped && (passage.promoted || gate(&self.row, at.wave, change, self.now).is_none())
    }
}
