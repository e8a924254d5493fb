//! The targets that joined a wave.

use sekisho_domain::change::Change;
use sekisho_domain::decision::Decision;
use sekisho_domain::order::OrderKind;
use sekisho_domain::route::TargetId;

use super::{At, Step, gate};
use crate::outcome::{Outcome, about_change};
use crate::target::{Progress, TargetRow, TrainOrder, is_same_revision};
use crate::train::Verdict;
use crate::wave::{Standing, WaveState};

impl<'a> Step<'a> {
    /// The newcomers that have the wave's change already become members.
    pub(super) fn take_up(&mut self, at: At<'a>, state: &WaveState) {
        let is_new = |standing| matches!(standing, Standing::Todo | Standing::OtherChange | Standing::OtherTrain);
        let targets: Vec<TargetId> = self
            .targets_of(at)
            .zip(&state.places)
            .filter(|(_, place)| !place.is_member && !is_new(place.standing))
            .map(|((target, _), _)| target.clone())
            .collect();
        if !targets.is_empty()
            && let Some(wave) = self.wave_mut(at)
        {
            wave.members.extend(targets);
        }
    }

    /// Orders the newcomers of a wave to run what was healthy there last. While a change is in the wave, they get that
    /// change.
    pub(super) fn admit(&mut self, at: At<'a>) {
        let Some(wave) = self.wave(at).filter(|wave| wave.open().is_none()) else { return };
        let newcomers: Vec<TargetId> =
            self.targets_of(at).map(|(target, _)| target).filter(|one| !wave.members.contains(one)).cloned().collect();
        if newcomers.is_empty() {
            return;
        }
        let desired = self.desired(at);
        let state = self.state(at);
        let mut slots = Self::free_slots(at, state.in_flight());
        for target in newcomers {
            let Some(row) = self.target(&target) else { continue };
            let is_done = match &desired {
                // An order that was withdrawn brought the target nothing.
                None => match self.observer.own(row) {
                    Some((order, _)) => !order.withdrawn && row.progress(self.now).is_none_or(Progress::is_settled),
                    None => true,
                },
                Some((seen, change)) => self.is_done(row, *seen, change),
            };
            if is_done {
                if let Some(wave) = self.wave_mut(at) {
                    wave.members.push(target);
                }
                continue;
            }
            let Some((seen, change)) = desired.as_ref().filter(|_| slots > 0 && !state.has_unknown()) else { continue };
            let is_closed = gate(&self.row, at.wave, change, self.now).is_some();
            if is_closed || !self.is_idle(&target, row) {
                continue;
            }
            slots -= 1;
            let order = TrainOrder { joined: true, ..self.deploy(at, *seen) };
            self.place(&target, change, OrderKind::Deploy, order);
            if let Some(wave) = self.wave_mut(at) {
                wave.members.push(target.clone());
            }
            let reason = format!("the target joined the wave `{}`, where this change was healthy last", at.wave.name);
            let decision = about_change(change, Decision::new(Outcome::Ordered, reason));
            self.decide(decision.about("wave", at.wave.name.as_str()).about("target", target.to_string()));
        }
    }

    /// The change that was healthy in a wave last and, if the train knows none, what its members had healthy last. A
    /// condemned revision is neither, and nor is an image that is gone.
    fn desired(&self, at: At<'a>) -> Option<(u64, Change)> {
        let wave = self.wave(at)?;
        // A promoted change may have been seen before the changes that were healthy here earlier.
        let passed = wave.passage.as_ref().filter(|passage| passage.verdict == Verdict::Passed);
        let known = passed.map(|passage| passage.seen).into_iter().chain(wave.healthy.iter().rev().copied());
        let is_sound = |change: &Change| self.row.condemnation(change).is_none() && !self.row.is_gone(change);
        let mut sound = known.filter_map(|seen| self.row.change(seen)).filter(|one| is_sound(&one.change));
        if let Some(newest) = sound.next() {
            return Some((newest.seen, newest.change.clone()));
        }
        let members = self.targets_of(at).filter(|(target, _)| wave.members.contains(target));
        let healthy = members.filter_map(|(_, row)| row).flat_map(|row| row.healthy_changes().into_values());
        let own = healthy.filter(|change| self.facts.route.covers_repository(&change.repository));
        let sound = own.filter(is_sound);
        let last = sound.max_by_key(|change| change.sequence)?;
        Some((last.sequence, last))
    }

    /// Whether nothing is left to do for a newcomer: it runs the change, or a newer one.
    fn is_done(&self, row: &TargetRow, seen: u64, change: &Change) -> bool {
        // The target was in a route without waves before, or this route had no waves for a while. However the target is
        // with its head, an older change must not replace it.
        let plain = row.standing_order().filter(|order| order.train.is_none()).map(|order| &order.change);
        if plain.is_some_and(|head| head.repository == change.repository && head.sequence > change.sequence) {
            return true;
        }
        let progress = row.progress(self.now);
        let is_settled = progress.is_none_or(Progress::is_settled);
        let has_newer =
            self.observer.own(row).is_some_and(|(_, of)| of.seen > seen && progress == Some(Progress::Healthy));
        let runs = || row.last_healthy(&change.repository).is_some_and(|last| is_same_revision(&last, change));
        is_settled && (has_newer || runs())
    }

    /// Whether a newcomer has no unfinished order of a train.
    fn is_idle(&self, target: &TargetId, row: &TargetRow) -> bool {
        let is_settled = row.progress(self.now).is_none_or(Progress::is_settled);
        (self.observer.own(row).is_none() || is_settled) && !self.observer.is_busy_elsewhere(target, row)
    }
}
