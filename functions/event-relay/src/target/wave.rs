//! The part of a target's row that only the orders of waves use.

use std::collections::BTreeMap;
use std::time::Duration;

use sekisho_domain::change::{Change, RepositoryArn};
use sekisho_domain::order::OrderKind;
use sekisho_domain::report::ReportState;
use sekisho_domain::timestamp::epoch_millis;
use time::OffsetDateTime;

use super::train_order::{Finished, FinishedState, Progress, TrainOrder};
use super::{FIRST_PAUSE, PlacedOrder, TargetRow, millis};
use crate::sources::Sources;

/// A target without a report for this time, or with nothing but refusals, is treated as unknown.
const SILENCE: Duration = Duration::from_hours(2);
/// A report that is repeated is noted if the last one arrived longer ago than this. An order that runs is offered again
/// every hour, so that a target that answers is never treated as unknown.
const HEARD_AFTER: Duration = Duration::from_mins(30);

impl TargetRow {
    /// The change of a repository that was healthy last. The target goes back to it from another change of the
    /// repository.
    #[must_use]
    pub fn last_healthy(&self, repository: &RepositoryArn) -> Option<Change> {
        self.healthy_changes().remove(repository)
    }

    /// For each repository, the change that was healthy last.
    pub(crate) fn healthy_changes(&self) -> BTreeMap<RepositoryArn, Change> {
        let mut healthy = self.healthy.clone();
        let Some((order, report)) = self.order.as_ref().zip(self.current_report()) else { return healthy };
        let of = &order.change;
        if report.state == ReportState::Healthy {
            healthy.insert(of.repository.clone(), of.clone());
        } else if let Some(revision) = report.good.clone().filter(|_| !healthy.contains_key(&of.repository))
            && revision.is_digest() == of.revision.is_digest()
        {
            // The target was ordered by a route without waves. Its report names the revision.
            let good = Change { revision, previous: None, actor: None, event: None, ..of.clone() };
            healthy.insert(of.repository.clone(), good);
        }
        healthy
    }

    /// The row with an order of a wave. What became of the current order is noted if it is another route's.
    #[must_use]
    pub(crate) fn ordered(
        &self,
        change: &Change,
        (kind, train): (OrderKind, TrainOrder),
        sources: Sources<'_>,
        now: OffsetDateTime,
    ) -> Self {
        let mut row = self.placed(change, sources, now);
        row.healthy = self.healthy_changes();
        row.finished.remove(&train.route);
        if let Some(old) = self.order.as_ref()
            && let Some(of) = old.train.as_ref().filter(|of| of.route != train.route)
            && let Some(state) = self.finished_state(now)
        {
            let (sequence, before) = (old.change.sequence, old.before.clone());
            let finished = Finished { seen: of.seen, sequence, state, joined: of.joined, before };
            row.finished.insert(of.route.clone(), finished);
        }
        if let Some(order) = &mut row.order {
            order.before = row.healthy.get(&change.repository).filter(|_| kind == OrderKind::Deploy).cloned();
            (order.kind, order.train) = (kind, Some(train));
        }
        row
    }

    fn finished_state(&self, now: OffsetDateTime) -> Option<FinishedState> {
        match self.progress(now)? {
            Progress::Healthy => Some(FinishedState::Healthy),
            Progress::Failed => Some(FinishedState::Failed),
            Progress::SentBack => Some(FinishedState::SentBack),
            _ => None,
        }
    }

    /// How far the target is with its current order. `None` if it has no order, or calls its order stale.
    pub(crate) fn progress(&self, now: OffsetDateTime) -> Option<Progress> {
        let report = self.current_report();
        // A target that reports on the order does not call it stale.
        let order = if report.is_some() { self.order.as_ref() } else { self.standing_order() }?;
        let is_accepted = order.train.as_ref().is_some_and(|train| train.accepted);
        let is_rollback = order.kind == OrderKind::Rollback;
        let settled = if is_rollback { Progress::SentBack } else { Progress::Healthy };
        let unknown = if is_accepted { settled } else { Progress::Unknown };
        let Some(report) = report else {
            // The bus may have accepted an offer, so a target without an answer may still start a withdrawn order.
            return Some(match self.is_silent(order, now) {
                true if order.withdrawn => Progress::SentBack,
                true => unknown,
                false if is_rollback => Progress::GoingBack,
                false => Progress::Running,
            });
        };
        Some(match report.state {
            ReportState::Unknown => unknown,
            ReportState::Healthy | ReportState::RolledBack | ReportState::Failed if is_rollback => Progress::SentBack,
            ReportState::Healthy => Progress::Healthy,
            // Nothing of the change has run.
            ReportState::Failed if report.in_source => unknown,
            ReportState::Refused if order.withdrawn => Progress::SentBack,
            ReportState::Failed | ReportState::RolledBack => Progress::Failed,
            _ if self.is_silent(order, now) => unknown,
            _ if is_rollback => Progress::GoingBack,
            ReportState::RollingBack => Progress::GoingBack,
            ReportState::Refused | ReportState::Waiting => Progress::Waiting,
            ReportState::Running | ReportState::Baking => Progress::Running,
        })
    }

    fn is_silent(&self, order: &PlacedOrder, now: OffsetDateTime) -> bool {
        let last = self.heard.unwrap_or(0).max(order.placed);
        order.train.is_some() && epoch_millis(now) >= last + millis(SILENCE)
    }

    /// The row in which a person takes the target for healthy as long as its order is unknown. `None` if the order is
    /// not unknown.
    #[must_use]
    pub(crate) fn accepted(&self, now: OffsetDateTime) -> Option<Self> {
        let mut row = self.clone();
        let train = row.order.as_mut()?.train.as_mut()?;
        train.accepted = true;
        (self.progress(now) == Some(Progress::Unknown)).then_some(row)
    }

    /// The row in which the current order is not offered any more, if the target refused it, or has not answered until
    /// the time of the next offer. A target that got the order all the same reports by itself.
    pub(crate) fn withdrawn(&self, now: OffsetDateTime) -> Option<Self> {
        let order = self.standing_order().filter(|order| !order.withdrawn)?;
        let is_without_answer = match self.current_report() {
            Some(report) => report.state == ReportState::Refused,
            None => epoch_millis(now) >= order.offered + millis(FIRST_PAUSE),
        };
        if !is_without_answer {
            return None;
        }
        let mut row = self.clone();
        row.order.as_mut()?.withdrawn = true;
        Some(row)
    }

    /// The row after a new report on its order was stored.
    pub(super) fn heard(mut self, now: OffsetDateTime) -> Self {
        let Some(order) = self.order.as_ref().filter(|order| order.train.is_some()) else { return self };
        let state = self.report.as_ref().map(|report| report.state);
        let went_back = order.kind == OrderKind::Rollback && state == Some(ReportState::RolledBack);
        if state == Some(ReportState::Healthy) || went_back {
            self.healthy.insert(order.change.repository.clone(), order.change.clone());
        }
        if state != Some(ReportState::Refused) {
            self.heard = Some(epoch_millis(now));
        }
        self
    }

    /// The row after the last report on an unfinished order of a wave arrived again, if that is worth a write.
    pub(super) fn heard_again(&self, now: OffsetDateTime) -> Option<Self> {
        let state = self.current_report()?.state;
        let is_open = !state.is_final() && state != ReportState::Refused;
        let is_old = epoch_millis(now) >= self.heard? + millis(HEARD_AFTER);
        (is_open && is_old).then(|| Self { heard: Some(epoch_millis(now)), ..self.clone() })
    }
}
