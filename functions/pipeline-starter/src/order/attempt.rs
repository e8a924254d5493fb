//! How the row of an order changes when its execution is started.

use std::collections::BTreeSet;
use std::time::Duration;

use sekisho_domain::pause::doubled;
use sekisho_domain::report::ReportState;
use sekisho_domain::route::{ActionName, PipelineName};
use sekisho_domain::timestamp::epoch_millis;
use time::OffsetDateTime;

use super::{Cause, FIRST_CHECK, NO_LONGER_ROUTED, OrderRow, Progress, Wait, token};
use crate::report::{FIRST_PAUSE, Place};
use crate::world::StartAnswer;

/// The pause after a start without an answer. Within this time, the call takes effect or is lost, and CodePipeline's
/// list shows the execution, also if the clock of the next invocation is 40 s ahead.
const UNANSWERED_PAUSE: Duration = Duration::from_mins(2);
/// The longest pause between two attempts that CodePipeline rejects.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);
/// The most ringing alarms that a row remembers.
const MOST_RINGING: usize = 20;

impl OrderRow {
    /// The claimed row after CodePipeline's answer to the attempt. If an earlier attempt may have started an execution,
    /// a search has shown before the attempt that there is none.
    pub(crate) fn after_start(&self, answer: &StartAnswer, place: &Place, now: OffsetDateTime) -> Self {
        match answer {
            StartAnswer::Started(execution) => self.started(execution, place, now),
            StartAnswer::Deferred(reason) => {
                Self { may_run: false, ..self.clone() }.waiting(Cause::Busy, now, reason, place)
            }
            StartAnswer::Unanswered(reason) => {
                Self { may_run: true, ..self.clone() }.waiting(Cause::Unanswered, now + UNANSWERED_PAUSE, reason, place)
            }
            StartAnswer::Rejected(reason) => Self { may_run: false, ..self.clone() }.rejected(reason, place, now),
        }
    }

    /// The claimed row after CodePipeline has rejected the start, or has refused the search before the start.
    pub(crate) fn rejected(&self, reason: &str, place: &Place, now: OffsetDateTime) -> Self {
        let failed = Self { failures: self.failures + 1, ..self.clone() };
        failed.waiting(Cause::Rejected, now + doubled(FIRST_PAUSE, failed.failures, LONGEST_PAUSE), reason, place)
    }

    /// The row when an earlier version of this function has started this execution for the order's change.
    pub(crate) fn adopted(&self, execution: &str, since: u64, now: OffsetDateTime) -> Self {
        Self {
            execution: Some(execution.to_owned()),
            executions: self.executions.iter().filter(|earlier| *earlier != execution).cloned().collect(),
            since,
            // The follow-up looks at the execution soon, because it may have ended before the upgrade.
            progress: Progress::Running { check: epoch_millis(now) },
            ..self.clone()
        }
    }

    /// The claimed row when this execution of the order runs.
    pub(crate) fn started(&self, execution: &str, place: &Place, now: OffsetDateTime) -> Self {
        let running = Self {
            progress: Progress::Running { check: epoch_millis(now + FIRST_CHECK) },
            execution: Some(execution.to_owned()),
            run: 1,
            may_run: false,
            failures: 0,
            awaits_alarms: false,
            rings: BTreeSet::new(),
            foreign_execution: None,
            ..self.clone()
        };
        let reason = match &self.way_back {
            Some(way_back) => format!("{}; the target goes back to {}", way_back.reason, self.destination_text()),
            None => "the execution runs".to_owned(),
        };
        running.report_now(ReportState::Running, &reason, place)
    }

    /// The row when the order waits for this reason until `next`.
    pub(crate) fn waiting(&self, cause: Cause, next: OffsetDateTime, reason: &str, place: &Place) -> Self {
        let wait = Wait { cause, next: epoch_millis(next) };
        let is_other_cause = self.awaits_alarms || !self.lacks().is_empty();
        let reported_cause = self.reported_cause.filter(|_| !is_other_cause);
        let waiting = Self { progress: Progress::Waiting(wait), reported_cause, awaits_alarms: false, ..self.clone() };
        // Every attempt of a busy pipeline would otherwise be reported, which is one report a minute. The reason is not
        // compared, because CodePipeline's text may differ from attempt to attempt.
        if waiting.reported_cause == Some(cause) {
            return waiting;
        }
        Self { reported_cause: Some(cause), ..waiting.report_now(ReportState::Waiting, reason, place) }
    }

    /// The claimed row when the order waits for the target's alarms. `ringing` is empty if they cannot be read.
    pub(crate) fn waiting_for_alarms(
        &self,
        ringing: &BTreeSet<String>,
        reason: &str,
        place: &Place<'_>,
        now: OffsetDateTime,
    ) -> Self {
        // People read the report while the order waits, so it names the alarms that ring now. What keeps the alarms from
        // being read may have another text in each attempt, so that text is not compared.
        let rings: BTreeSet<String> = ringing.iter().take(MOST_RINGING).cloned().collect();
        let reported_cause = self.reported_cause.filter(|_| self.awaits_alarms && self.rings == rings);
        let row = Self { may_run: false, reported_cause, awaits_alarms: false, ..self.clone() };
        Self { awaits_alarms: true, rings, ..row.waiting(Cause::Busy, now, reason, place) }
    }

    /// The claimed row when these source actions have no revision, and the next attempt is at `next`.
    pub(crate) fn waiting_for_sources(
        &self,
        lacks: &BTreeSet<ActionName>,
        reason: &str,
        next: OffsetDateTime,
        place: &Place<'_>,
    ) -> Self {
        if self.reported_cause == Some(Cause::Busy) && self.lacks() == *lacks {
            let wait = Wait { cause: Cause::Busy, next: epoch_millis(next) };
            return Self { progress: Progress::Waiting(wait), ..self.clone() };
        }
        let mut row = Self { reported_cause: None, ..self.clone() }.waiting(Cause::Busy, next, reason, place);
        if let Some(last) = row.report.as_mut().filter(|last| last.report.state == ReportState::Waiting) {
            last.report.lacks.clone_from(lacks);
        }
        row
    }

    /// The source actions whose first revision the order waits for, as its last report says.
    fn lacks(&self) -> BTreeSet<ActionName> {
        self.report.as_ref().map(|last| last.report.lacks.clone()).unwrap_or_default()
    }

    /// The row when the order must be started again, with another token.
    pub(crate) fn restarted(&self, pipeline: &PipelineName, now: OffsetDateTime) -> Self {
        Self {
            executions: self.all_executions(),
            execution: None,
            run: 1,
            restarts: self.restarts + 1,
            token: token(&self.change, pipeline, self.number, self.restarts + 1),
            since: epoch_millis(now),
            may_run: false,
            ..self.clone()
        }
    }

    /// The row when no route leads from the change to the pipeline any more. A waiting order is never started then,
    /// unless event-relay offers the order again after the route has come back.
    pub(crate) fn closed(&self, place: &Place, now: OffsetDateTime) -> Self {
        // An order is closed only after a search has found no execution of the order.
        let closed = Self { progress: Progress::Ended(ReportState::Refused), may_run: false, ..self.clone() };
        closed.report_at(self.next_at(now), ReportState::Refused, NO_LONGER_ROUTED, place)
    }

    /// The row after another invocation, which was starting the older order `older`, has finished with the result
    /// `after`. A call of the older order that got no answer keeps the fence closed.
    pub(crate) fn unblocked(&self, older: &Self, after: &Self, now: OffsetDateTime) -> Self {
        let executions = self.executions.iter().chain(&after.execution).cloned().collect();
        let rest = after.blocker(now);
        let is_own = matches!(older.progress, Progress::Claimed(lease) if lease == self.fence);
        let sources = self.sources.started_late(older.ordered(), after.execution.as_ref());
        Self { executions, fence: if is_own { rest } else { self.fence.max(rest) }, sources, ..self.clone() }
    }

    /// The row of a closed order, which begins again with another token.
    pub(crate) fn reopened(&self, pipeline: &PipelineName, now: OffsetDateTime) -> Self {
        let restarts = self.restarts + 1;
        Self {
            restarts,
            token: token(&self.change, pipeline, self.number, restarts),
            is_implicit: self.is_implicit,
            ..Self::new(self.order(), &self.change, pipeline, Some(self), now)
        }
    }

    /// The row with a rejected start that is tried again at once.
    pub(crate) fn hurried(&self, now: OffsetDateTime) -> Self {
        match &self.progress {
            Progress::Waiting(wait) if wait.cause == Cause::Rejected && wait.next > epoch_millis(now) => {
                let progress = Progress::Waiting(Wait { next: epoch_millis(now), ..wait.clone() });
                Self { progress, ..self.clone() }
            }
            _ => self.clone(),
        }
    }
}
