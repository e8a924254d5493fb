//! What the rows of a wave's targets say about the change in the wave.

use std::collections::BTreeSet;

use sekisho_domain::change::Change;
use sekisho_domain::order::OrderKind;
use sekisho_domain::report::ReportState;
use sekisho_domain::route::{Route, Routes, TargetId};
use time::OffsetDateTime;

use crate::target::{FinishedState, PlacedOrder, Progress, TargetRow, TrainOrder, is_same_revision};
use crate::train::{Passage, TrainRow, Verdict, WaveRow};

/// Where a target is with the change in its wave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing entered the wave yet, and the target is not busy.
    Idle,
    /// The target has no order for the change yet.
    Todo,
    /// The target still works on another change of the train.
    OtherChange,
    /// The target works on an order of another train.
    OtherTrain,
    /// The target took a newer change before it moved to this wave, or while the route had no waves.
    Ahead,
    /// The target said that it has not started the change.
    Waiting,
    /// The target works on the change, or has not answered yet.
    Running,
    /// The target goes back from the change.
    GoingBack,
    /// The change is healthy, or a person takes it for healthy.
    Healthy,
    /// The change failed, or the target went back by itself.
    Failed,
    /// The target was sent back.
    SentBack,
    /// Nobody can tell how the target is, or the ledger's row cannot be read. A person must help.
    Unknown,
}

impl Standing {
    /// Whether the target has an order of this train that has not ended.
    pub(crate) fn is_in_flight(self) -> bool {
        matches!(self, Self::OtherChange | Self::Waiting | Self::Running | Self::GoingBack)
    }
}

/// A target of a wave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) standing: Standing,
    /// Whether the wave's row has the target as a member. A target that joins the wave becomes a member with its order.
    pub(crate) is_member: bool,
    /// Whether the target got the change as a newcomer of the wave.
    pub(crate) has_joined: bool,
}

/// What a wave says about its change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judgment {
    Open,
    Passed,
    /// More targets failed than the wave tolerates, or none is healthy.
    Failed,
    /// The change is condemned elsewhere or its image is gone, and some targets never got it.
    Abandoned,
}

/// The targets of a wave, in the order of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WaveState {
    pub(crate) places: Vec<Place>,
}

/// Finds out where targets are with the changes of one train.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Observer<'a> {
    /// All routes, because other trains may lead to the same targets.
    pub(crate) routes: &'a Routes,
    /// The name of the train's route.
    pub(crate) route: &'a str,
    pub(crate) now: OffsetDateTime,
}

impl Observer<'_> {
    /// The state of a wave's targets, each with its row, or `None` if the row cannot be read.
    pub(crate) fn observe<'t>(
        &self,
        train: &TrainRow,
        wave: &WaveRow,
        targets: impl IntoIterator<Item = (&'t TargetId, Option<&'t TargetRow>)>,
    ) -> WaveState {
        let passage = wave.passage.as_ref();
        let change = passage.and_then(|passage| Some((passage, &train.change(passage.seen)?.change)));
        let members: BTreeSet<&TargetId> = wave.members.iter().collect();
        let place = |(target, row): (&TargetId, Option<&TargetRow>)| Place {
            standing: row.map_or(Standing::Unknown, |row| match change {
                Some((passage, change)) => self.standing(target, row, passage, change),
                None => self.without_change(row),
            }),
            is_member: members.contains(target),
            has_joined: passage.zip(row).is_some_and(|(passage, row)| self.has_joined(row, passage)),
        };
        WaveState { places: targets.into_iter().map(place).collect() }
    }

    /// The target's current order, if it belongs to this train.
    pub(crate) fn own<'r>(&self, row: &'r TargetRow) -> Option<(&'r PlacedOrder, &'r TrainOrder)> {
        let order = row.standing_order()?;
        order.train.as_ref().filter(|of| of.route == self.route).map(|of| (order, of))
    }

    fn without_change(&self, row: &TargetRow) -> Standing {
        match self.own(row).and_then(|_| row.progress(self.now)) {
            Some(Progress::Unknown) => Standing::Unknown,
            Some(progress) if !progress.is_settled() => Standing::OtherChange,
            _ => Standing::Idle,
        }
    }

    /// Where a target is with a change that has entered its wave, or would enter it.
    pub(crate) fn standing(&self, target: &TargetId, row: &TargetRow, passage: &Passage, change: &Change) -> Standing {
        // Only a target with a standing order has progress.
        if let Some((progress, order)) = row.progress(self.now).zip(row.order.as_ref()) {
            match &order.train {
                Some(of) if of.route == self.route => {
                    if of.seen == passage.seen && order.change.sequence >= passage.sequence {
                        return with_order(progress, passage);
                    }
                    if progress == Progress::Unknown {
                        return Standing::Unknown;
                    }
                    let is_unstarted = progress == Progress::Waiting && order.kind == OrderKind::Deploy;
                    if !progress.is_settled() && !is_unstarted {
                        return Standing::OtherChange;
                    }
                    if of.seen > passage.seen && progress == Progress::Healthy && !passage.promoted {
                        return Standing::Ahead;
                    }
                }
                Some(_) if self.is_busy_elsewhere(target, row) => return Standing::OtherTrain,
                // The route had no waves for a while, and a newer head was ordered.
                None if order.change.sequence > passage.sequence => return Standing::Ahead,
                _ => {}
            }
        }
        let finished = row.finished.get(self.route);
        match finished.filter(|one| one.seen == passage.seen && one.sequence >= passage.sequence).map(|one| one.state) {
            Some(FinishedState::Healthy) => Standing::Healthy,
            Some(FinishedState::Failed) => Standing::Failed,
            Some(FinishedState::SentBack) => sent_back(passage),
            // Two references at one commit start a pipeline once.
            None if runs(row, change, self.now) => Standing::Healthy,
            None => Standing::Todo,
        }
    }

    /// Whether a route of this name has the target in a wave. If it does not any more, nobody waits for its orders.
    fn is_train(&self, route: &str, target: &TargetId) -> bool {
        self.routes.iter().any(|one| one.name() == route && one.wave_of(target).is_some())
    }

    /// Whether another train's order keeps the target from getting one of this train.
    pub(crate) fn is_busy_elsewhere(&self, target: &TargetId, row: &TargetRow) -> bool {
        let of = row.standing_order().and_then(|order| order.train.as_ref()).filter(|of| of.route != self.route);
        let is_open = row.progress(self.now).is_some_and(|progress| !progress.is_settled());
        is_open && of.is_some_and(|of| self.is_train(&of.route, target)) && !self.is_awaited(target, row)
    }

    /// Whether the target says that it has not started its order because a source action of this train's route has no
    /// revision yet. An order of this train brings the revision, and the other train orders its change again after it.
    fn is_awaited(&self, target: &TargetId, row: &TargetRow) -> bool {
        let waits = row.progress(self.now) == Some(Progress::Waiting);
        let Some(report) = row.current_report().filter(|report| waits && !report.lacks.is_empty()) else {
            return false;
        };
        let own = self.routes.iter().filter(|route| route.name() == self.route).flat_map(Route::targets);
        let mut own = own.filter(|one| one.id() == *target);
        own.any(|one| report.lacks.contains(&one.action))
    }

    fn has_joined(&self, row: &TargetRow, passage: &Passage) -> bool {
        let finished = row.finished.get(self.route).is_some_and(|one| one.seen == passage.seen && one.joined);
        let may_have = row.order.as_ref().and_then(|order| order.train.as_ref()).is_some_and(|of| of.joined);
        finished || may_have && self.own(row).is_some_and(|(_, of)| of.seen == passage.seen)
    }

    /// Whether no order of this train keeps the target from a newer change. An order that the target has not started
    /// keeps it from nothing, because a newer order replaces it.
    pub(crate) fn is_free(&self, row: &TargetRow) -> bool {
        let Some((order, _)) = self.own(row) else { return true };
        match row.progress(self.now) {
            Some(Progress::Waiting) => order.kind == OrderKind::Deploy,
            Some(progress) => progress.is_settled(),
            None => true,
        }
    }
}

fn with_order(progress: Progress, passage: &Passage) -> Standing {
    match progress {
        Progress::Waiting => Standing::Waiting,
        Progress::Running => Standing::Running,
        Progress::GoingBack => Standing::GoingBack,
        Progress::Healthy => Standing::Healthy,
        Progress::Failed => Standing::Failed,
        Progress::SentBack => sent_back(passage),
        Progress::Unknown => Standing::Unknown,
    }
}

/// A target that was sent back gets the change once more if a healthy end of the others lifted the condemnation.
fn sent_back(passage: &Passage) -> Standing {
    if passage.verdict == Verdict::Failed { Standing::SentBack } else { Standing::Todo }
}

/// Whether the target runs the commit of a change, whichever order brought it there.
pub(crate) fn runs(row: &TargetRow, change: &Change, now: OffsetDateTime) -> bool {
    let Some(order) = row.standing_order() else { return false };
    let is_there = match order.kind {
        OrderKind::Deploy => row.progress(now) == Some(Progress::Healthy),
        OrderKind::Rollback => row
            .current_report()
            .is_some_and(|report| matches!(report.state, ReportState::Healthy | ReportState::RolledBack)),
    };
    is_there && is_same_revision(&order.change, change)
}

impl WaveState {
    /// The number of targets with this standing, newcomers included.
    pub(crate) fn count(&self, standing: Standing) -> usize {
        self.places.iter().filter(|place| place.standing == standing).count()
    }

    /// Whether a target is unknown.
    pub(crate) fn has_unknown(&self) -> bool {
        self.count(Standing::Unknown) > 0
    }

    /// The number of targets that deploy, go back, or have an order that they did not start.
    pub(crate) fn in_flight(&self) -> usize {
        self.places.iter().filter(|place| place.standing.is_in_flight()).count()
    }

    /// The targets that decide about the change. Those that got it as newcomers decide only if no other target is left.
    pub(crate) fn counted(&self) -> impl Iterator<Item = (usize, Standing)> {
        let has_old = self.places.iter().any(|place| place.is_member && !place.has_joined);
        let places = self.places.iter().enumerate();
        places
            .filter(move |(_, place)| place.is_member && !(has_old && place.has_joined))
            .map(|(index, place)| (index, place.standing))
    }

    /// The number of targets that failed, of those that decide about the change.
    pub(crate) fn failures(&self) -> usize {
        self.counted().filter(|(_, standing)| *standing == Standing::Failed).count()
    }

    /// What the wave says about its change. `is_ended` is true if the change may not be ordered any more.
    pub(crate) fn judge(&self, tolerate: u32, is_ended: bool) -> Judgment {
        let is = |standing| self.counted().any(|(_, one)| one == standing);
        let is_final = |standing| match standing {
            Standing::Healthy | Standing::Failed | Standing::Ahead => true,
            Standing::Todo => is_ended,
            _ => false,
        };
        if self.counted().next().is_none() {
            // All members left. The newcomers decide as soon as they have the change.
            Judgment::Open
        } else if self.failures() > usize::try_from(tolerate).unwrap_or(usize::MAX) {
            Judgment::Failed
        } else if !self.counted().all(|(_, standing)| is_final(standing)) {
            Judgment::Open
        } else if is(Standing::Todo) {
            Judgment::Abandoned
        } else if is(Standing::Healthy) {
            Judgment::Passed
        } else if is(Standing::Failed) {
            Judgment::Failed
        } else {
            Judgment::Abandoned
        }
    }
}
