//! What the targets of a random history were ordered to run and what they reported. From this, the checks find out what
//! was healthy where, so that they need not believe what `next` wrote into the train's row.

use std::collections::BTreeSet;

use sekisho_domain::report::ReportState;
use time::Duration;

use super::super::*;
use super::world::{World, id};
use crate::target::{PlacedOrder, Progress, is_same_revision};
use crate::train::TrainChange;

pub(super) const WAVES: [&str; 3] = ["a", "b", "c"];
pub(super) const PIPELINES: [&str; 6] = ["a1", "a2", "b1", "b2", "c1", "c2"];

/// A target without a report for this time counts as silent.
const SILENCE: Duration = Duration::hours(2);

/// The pipelines of the wave with this index.
pub(super) fn pipelines(wave: usize) -> &'static [&'static str] {
    &PIPELINES[wave * 2..wave * 2 + 2]
}

/// The index of a target's wave.
pub(super) fn wave_of(target: &TargetId) -> usize {
    PIPELINES.iter().position(|pipeline| target.pipeline.as_str() == *pipeline).unwrap() / 2
}

/// An order, and what became of it.
#[derive(Debug)]
struct Noted {
    target: TargetId,
    order: PlacedOrder,
    state: Option<ReportState>,
    /// When the target said last that it has the order, or when the order was placed.
    heard: OffsetDateTime,
    /// Whether a person took the target for healthy while it was unknown.
    is_accepted: bool,
    /// Whether the order ended. It may come to life again at any time, because somebody retries a stage.
    has_ended: bool,
}

/// What the reports say about a change in a wave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finding {
    Healthy,
    /// More targets failed than the wave tolerates, or a target was sent back.
    Bad,
    Open,
}

/// All orders and reports of a history. Changes are identified by their `seen`.
#[derive(Debug, Default)]
pub(super) struct Record {
    orders: Vec<Noted>,
    /// The number of decisions that were looked at.
    decisions: usize,
    /// The changes that each wave has taken.
    taken: [BTreeSet<u64>; 3],
    /// The changes that were healthy in each wave, and have not been taken back since.
    healthy: [BTreeSet<u64>; 3],
    /// The changes whose revision was condemned at some time.
    condemned: BTreeSet<u64>,
}

impl Noted {
    fn seen(&self) -> u64 {
        self.order.train.as_ref().unwrap().seen
    }

    fn is_deploy(&self) -> bool {
        self.order.kind == OrderKind::Deploy
    }

    fn is_healthy(&self, now: OffsetDateTime) -> bool {
        let is_unknown = match self.state {
            Some(state) if state.is_final() => state == ReportState::Unknown,
            _ => now >= self.heard + SILENCE,
        };
        self.is_deploy() && (self.state == Some(ReportState::Healthy) || self.is_accepted && is_unknown)
    }

    fn has_failed(&self) -> bool {
        self.is_deploy() && matches!(self.state, Some(ReportState::Failed | ReportState::RolledBack))
    }

    /// Whether the order brought its target to the revision of a change.
    fn brought(&self, change: &Change, now: OffsetDateTime) -> bool {
        let is_there = match self.order.kind {
            OrderKind::Deploy => self.is_healthy(now),
            OrderKind::Rollback => matches!(self.state, Some(ReportState::Healthy | ReportState::RolledBack)),
        };
        is_there && is_same_revision(&self.order.change, change)
    }
}

impl Record {
    /// The newest change that each wave has taken; 0 if there is none.
    pub(super) fn newest(&self) -> [u64; 3] {
        [0, 1, 2].map(|wave| self.taken[wave].last().copied().unwrap_or(0))
    }

    /// Whether a change was healthy in a wave, and has not been taken back since.
    pub(super) fn was_healthy(&self, wave: usize, seen: u64) -> bool {
        self.healthy[wave].contains(&seen)
    }

    pub(super) fn was_condemned(&self, seen: u64) -> bool {
        self.condemned.contains(&seen)
    }

    /// Whether a target's last order ended, although the target may work on it again.
    pub(super) fn has_ended(&self, target: &TargetId) -> bool {
        self.last(target).is_some_and(|one| one.has_ended)
    }

    /// How many targets of a wave failed with a change. `None` if a person had accepted one of them: each later failure
    /// of such a target condemns its change.
    pub(super) fn failures(&self, wave: usize, seen: u64) -> Option<usize> {
        let targets = pipelines(wave).iter().map(|pipeline| id(pipeline));
        let own = targets.filter_map(|target| {
            self.orders.iter().rfind(|one| one.target == target && one.is_deploy() && one.seen() == seen)
        });
        let failed: Vec<&Noted> = own.filter(|one| one.has_failed()).collect();
        failed.iter().all(|one| !one.is_accepted).then_some(failed.len())
    }

    /// Whether a target had not started its order before the last one.
    pub(super) fn has_replaced_unstarted(&self, target: &TargetId) -> bool {
        let before = self.orders.iter().rev().filter(|one| one.target == *target).nth(1);
        before.is_some_and(|one| matches!(one.state, Some(ReportState::Waiting | ReportState::Refused)))
    }

    fn last(&self, target: &TargetId) -> Option<&Noted> {
        self.orders.iter().rfind(|one| one.target == *target)
    }

    /// Notes a report before the train knows it.
    pub(super) fn note_report(&mut self, world: &World, target: &TargetId, state: ReportState, now: OffsetDateTime) {
        if let Some(one) = self.orders.iter_mut().rfind(|one| one.target == *target) {
            one.state = Some(state);
            one.has_ended |= state.is_final();
            if state != ReportState::Refused {
                one.heard = now;
            }
        }
        self.find(world, now);
    }

    /// Notes that a person is about to accept the unknown targets of a wave.
    pub(super) fn note_acceptance(&mut self, world: &World, wave: usize) {
        for target in pipelines(wave).iter().map(|pipeline| id(pipeline)) {
            let is_unknown = world.targets.get(&target).is_some_and(|row| row.accepted(world.now).is_some());
            if let Some(one) = self.orders.iter_mut().rfind(|one| is_unknown && one.target == target) {
                (one.is_accepted, one.has_ended) = (true, true);
            }
        }
    }

    /// Notes the orders and entries of a step.
    pub(super) fn note(&mut self, world: &World) {
        // A wave that runs the revision of a change already takes the change without an order.
        for decision in world.decisions[self.decisions..].iter().filter(|one| one.outcome == Outcome::Entered) {
            let wave = WAVES.iter().position(|wave| decision.concerns["wave"] == *wave).unwrap();
            let is_subject = |one: &&TrainChange| decision.concerns["sequence"] == one.change.sequence.to_string();
            self.taken[wave].extend(world.row.changes.iter().find(is_subject).map(|one| one.seen));
        }
        self.decisions = world.decisions.len();
        // Such a change may have passed the wave before the wave's targets got the next one.
        self.find(world, world.now);
        for (target, order) in &world.placed[self.orders.len()..] {
            let (target, order) = (target.clone(), order.clone());
            let one = Noted { target, order, state: None, heard: world.now, is_accepted: false, has_ended: false };
            let wave = wave_of(&one.target);
            if one.is_deploy() {
                self.taken[wave].insert(one.seen());
            } else {
                self.healthy[wave].remove(&one.seen());
            }
            self.orders.push(one);
        }
        for one in &world.row.changes {
            if world.row.condemnation(&one.change).is_some() {
                self.condemned.insert(one.seen);
            }
        }
        for (target, row) in &world.targets {
            let is_settled = row.progress(world.now).is_some_and(Progress::is_settled);
            if let Some(one) = self.orders.iter_mut().rfind(|one| is_settled && one.target == *target) {
                one.has_ended = true;
            }
        }
        self.find(world, world.now);
    }

    /// Finds out which changes are healthy where.
    fn find(&mut self, world: &World, now: OffsetDateTime) {
        for wave in 0..WAVES.len() {
            let tolerate = usize::try_from(world.route().waves()[wave].tolerate).unwrap();
            for one in world.row.changes.iter().filter(|one| self.taken[wave].contains(&one.seen)) {
                match self.finding(wave, one.seen, &one.change, tolerate, now) {
                    Finding::Healthy => drop(self.healthy[wave].insert(one.seen)),
                    Finding::Bad => drop(self.healthy[wave].remove(&one.seen)),
                    Finding::Open => {}
                }
            }
        }
    }

    fn finding(&self, wave: usize, seen: u64, change: &Change, tolerate: usize, now: OffsetDateTime) -> Finding {
        let (mut healthy, mut failed) = (0, 0);
        for target in pipelines(wave).iter().map(|pipeline| id(pipeline)) {
            let own = self.orders.iter().rfind(|one| one.target == target && one.seen() == seen);
            // Two references at one revision start a pipeline once.
            let runs = self.last(&target).is_some_and(|last| last.brought(change, now));
            match own {
                Some(own) if own.is_healthy(now) => healthy += 1,
                _ if runs => healthy += 1,
                Some(own) if own.has_failed() => failed += 1,
                Some(own) if !own.is_deploy() => return Finding::Bad,
                _ => {}
            }
        }
        if failed > tolerate || failed == pipelines(wave).len() {
            Finding::Bad
        } else if healthy > 0 && healthy + failed == pipelines(wave).len() {
            Finding::Healthy
        } else {
            Finding::Open
        }
    }
}
