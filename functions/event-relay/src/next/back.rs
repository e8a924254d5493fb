//! Sending targets back.

use sekisho_domain::change::Change;
use sekisho_domain::decision::Decision;
use sekisho_domain::order::OrderKind;
use sekisho_domain::report::ReportState;
use sekisho_domain::route::{Retreat, TargetId};

use super::{At, Step, Urgency};
use crate::outcome::{Outcome, about_change};
use crate::target::{FinishedState, Progress, TargetRow, is_same_revision};
use crate::train::Verdict;
use crate::wave::runs;

/// How far the targets of a wave go back from a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Extent {
    /// The targets that have not started the change.
    Waiting,
    /// The targets that have the change, except those that failed: they judge themselves.
    Wave,
    /// All targets that have or had the change, because a person says so.
    All,
}

/// A change from which targets of a wave go back.
#[derive(Debug)]
struct Recall {
    seen: u64,
    extent: Extent,
    /// The targets that failed, newcomers included, and may have been retried since.
    failed: Vec<TargetId>,
}

impl<'a> Step<'a> {
    /// Sends the targets of a wave back from changes that failed here or, with `retreat = "train"`, in a later wave.
    /// Nothing blocks a rollback.
    pub(super) fn send_back(&mut self, at: At<'a>) {
        for recall in self.recalls(at) {
            let Some(change) = self.row.change(recall.seen).map(|one| one.change.clone()) else { continue };
            let mut targets: Vec<(TargetId, Change, bool)> = vec![];
            let mut others: Vec<TargetId> = vec![];
            for (target, row) in self.targets_of(at) {
                let back = row.and_then(|row| self.goes_back(target, row, &recall, &change));
                let way = back.and_then(|(before, joined)| Some((before?, joined)));
                match way.filter(|(before, _)| !is_same_revision(before, &change) && !self.row.is_gone(before)) {
                    Some((before, joined)) => targets.push((target.clone(), before, joined)),
                    None => others.push(target.clone()),
                }
            }
            self.withdraw(at, recall.seen, &change, &others);
            if targets.is_empty() {
                continue;
            }
            let count = targets.len();
            for (target, before, joined) in targets {
                let before = Change { sequence: self.row.next_sequence(self.now), ..before };
                let order = self.rollback(at, recall.seen, joined);
                self.place(&target, &before, OrderKind::Rollback, order);
            }
            let reason = format!("{count} targets of the wave `{}` are sent back from this change", at.wave.name);
            let decision = about_change(&change, Decision::new(Outcome::Ordered, reason));
            self.decide(decision.about("wave", at.wave.name.as_str()).about("count", count.to_string()));
        }
    }

    /// Ends the offers of a condemned change to those of the targets that refused it or never answered. An order that
    /// its target has taken can only be ended by a newer one.
    fn withdraw(&mut self, at: At<'a>, seen: u64, change: &Change, targets: &[TargetId]) {
        let withdrawn = |target: &TargetId| {
            let row = self.target(target)?;
            self.observer.own(row).filter(|(order, of)| of.seen == seen && order.kind == OrderKind::Deploy)?;
            Some((target.clone(), row.withdrawn(self.now)?))
        };
        let withdrawn: Vec<(TargetId, TargetRow)> = targets.iter().filter_map(withdrawn).collect();
        if withdrawn.is_empty() {
            return;
        }
        let count = withdrawn.len();
        for (target, row) in withdrawn {
            // The wave still has to bring a newcomer to what is healthy here.
            if self.observer.own(&row).is_some_and(|(_, of)| of.joined)
                && let Some(wave) = self.wave_mut(at)
            {
                wave.members.retain(|member| *member != target);
            }
            self.write(target, row, Urgency::Rollback);
        }
        let reason = format!(
            "{count} targets of the wave `{}` refused this condemned change or never answered: it is not offered any \
             more",
            at.wave.name
        );
        let decision = about_change(change, Decision::new(Outcome::Filtered, reason));
        self.decide(decision.about("wave", at.wave.name.as_str()).about("count", count.to_string()));
    }

    /// Whether nobody knows yet what became of an order in a target of the wave. A target that refused its order or
    /// never answered is not among them: it gets a way back like the others.
    fn is_undecided(&self, at: At<'a>) -> bool {
        let is_unknown = |row: &TargetRow| {
            let has_begun = row.current_report().is_some_and(|report| report.state != ReportState::Refused);
            has_begun && row.progress(self.now) == Some(Progress::Unknown) && self.observer.own(row).is_some()
        };
        self.targets_of(at).any(|(_, row)| row.is_some_and(is_unknown))
    }

    fn recalls(&self, at: At<'a>) -> Vec<Recall> {
        let mut recalls = Vec::new();
        // Until somebody decides, a wave with an unknown target does not go back by itself.
        let is_undecided = self.is_undecided(at);
        for later in self.waves().skip(at.index) {
            let Some(passage) = self.wave(later).and_then(|wave| wave.passage.as_ref()) else { continue };
            // Nobody goes back from a change that a person pardoned.
            if !self.is_condemned(passage.seen) {
                continue;
            }
            let (seen, has_failed) = (passage.seen, !passage.failed.is_empty());
            let failed = passage.failed.iter().chain(&passage.failed_newcomers).cloned().collect();
            if later.index > at.index {
                let has_failed = passage.verdict == Verdict::Failed && has_failed;
                if later.wave.retreat == Retreat::Train && has_failed && !is_undecided {
                    recalls.push(Recall { seen, extent: Extent::Wave, failed: vec![] });
                }
            } else if passage.recalled {
                recalls.push(Recall { seen, extent: Extent::All, failed });
            } else {
                let is_wave = later.wave.retreat != Retreat::Target && has_failed && !is_undecided;
                let extent = if is_wave { Extent::Wave } else { Extent::Waiting };
                recalls.push(Recall { seen, extent, failed });
            }
        }
        recalls
    }

    /// What the target goes back to, and whether its order was that of a newcomer. `None` if the target stays. The
    /// change to go back to is `None` if nothing was healthy before.
    fn goes_back(
        &self,
        target: &TargetId,
        row: &TargetRow,
        recall: &Recall,
        change: &Change,
    ) -> Option<(Option<Change>, bool)> {
        if let Some((order, of)) = self.observer.own(row).filter(|(_, of)| of.seen == recall.seen) {
            let progress = row.progress(self.now)?;
            let is_deploy = order.kind == OrderKind::Deploy;
            // Nobody knows whether a target works on the order that never answered.
            let is_unanswered = row.current_report().is_none() && progress == Progress::Unknown;
            let progress = if is_unanswered { Progress::Running } else { progress };
            let goes = is_deploy && goes_back(progress, recall, target, || has_failed(row));
            return goes.then(|| (order.before.clone(), of.joined));
        }
        if recall.extent == Extent::Waiting {
            return None;
        }
        let finished = row.finished.get(self.observer.route).filter(|one| one.seen == recall.seen);
        if let Some(finished) = finished.filter(|one| one.state == FinishedState::Healthy) {
            return Some((finished.before.clone(), finished.joined));
        }
        let order = row.standing_order()?;
        runs(row, change, self.now).then(|| (order.before.clone(), false))
    }
}

/// Whether a target goes back that has an order for the change.
fn goes_back(progress: Progress, recall: &Recall, target: &TargetId, has_failed: impl FnOnce() -> bool) -> bool {
    match progress {
        Progress::Healthy => recall.extent >= Extent::Wave,
        // A target that failed before works on the change again because a stage was retried: the new end counts.
        Progress::Running => {
            recall.extent == Extent::All || recall.extent == Extent::Wave && !recall.failed.contains(target)
        }
        Progress::Waiting => recall.extent == Extent::All || !recall.failed.contains(target),
        Progress::Unknown => recall.extent == Extent::All,
        Progress::Failed => recall.extent == Extent::All && has_failed(),
        Progress::GoingBack | Progress::SentBack => false,
    }
}

/// Whether the target failed and did not go back by itself.
fn has_failed(row: &TargetRow) -> bool {
    row.current_report().is_some_and(|report| report.state == ReportState::Failed)
}
