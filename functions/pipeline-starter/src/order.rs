//! Orders: the row of a pipeline's newest order, and how the row changes when a start is attempted. [`crate::end`] says
//! how the row changes when the execution ends.

use std::time::Duration;

use sekisho_domain::change::{Change, CommitId};
use sekisho_domain::order::{Order, OrderKind};
use sekisho_domain::report::{ReportState, ReportTime};
use sekisho_domain::route::PipelineName;
use sekisho_domain::timestamp::epoch_millis;
use sekisho_ledger::{Key, Lease};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::pause::backoff;
use crate::report::{LastReport, Place, report};
use crate::world::StartAnswer;

/// The partition key of all rows of orders.
pub const PARTITION: &str = "order";
/// The length of an invocation's lease on a row. It must be longer than the sum of the function's timeout (45 s), the
/// difference between the clocks of two invocations (40 s), and the lag of CodePipeline's list: when the lease ends by
/// any clock, the invocation has ended too, and the list shows the execution that it may have started.
pub const LEASE_TERM: Duration = Duration::from_mins(2);
/// The pause after a start without an answer. CodePipeline's list shows the execution within this time, also if the
/// clock of the next invocation is 40 s ahead.
const UNANSWERED_PAUSE: Duration = Duration::from_secs(100);
/// The longest pause between two attempts that CodePipeline rejects.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);
/// The pause before the first look at an execution whose end may have been missed.
pub(crate) const FIRST_CHECK: Duration = Duration::from_mins(2);
/// The number of executions of earlier orders that a row remembers. A search must not take them for its own.
pub(crate) const REMEMBERED: usize = 10;

/// The key of a pipeline's row.
#[must_use]
pub fn key(pipeline: &PipelineName) -> Key {
    Key { pk: PARTITION.to_owned(), sk: pipeline.to_string() }
}

/// The newest order of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRow {
    /// The order's number.
    pub number: u64,
    /// The order's purpose.
    pub kind: OrderKind,
    /// Whether the event had no order, so that the number is the change's sequence.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_implicit: bool,
    /// The change to run.
    pub change: Change,
    /// The progress of the order.
    pub progress: Progress,
    /// The client request token of every attempt to start the execution. Each new start of the order, such as one after
    /// a cancellation, gets another token.
    pub token: String,
    /// When the first attempt began whose result is not known, in epoch milliseconds. The search for an execution
    /// begins some time before.
    pub since: u64,
    /// Whether an attempt may have started an execution that the row does not name.
    pub may_run: bool,
    /// The id of the order's execution.
    pub execution: Option<String>,
    /// The number of the execution's run. A retried stage begins another run.
    pub run: u32,
    /// The executions of earlier orders, and earlier executions of this order, from the oldest to the newest.
    pub executions: Vec<String>,
    /// The commit that was last healthy.
    pub good: Option<CommitId>,
    /// The number of executions of this order that have ended without a verdict.
    pub restarts: u32,
    /// The number of executions that CodePipeline canceled.
    pub cancellations: u32,
    /// When an execution failed in a source action for the first time, in epoch milliseconds.
    pub source_failed: Option<u64>,
    /// The number of attempts in a row that CodePipeline rejected.
    pub failures: u32,
    /// Whether people got the notice that CodePipeline rejects the start.
    pub is_announced: bool,
    /// The lease of whatever may still start an older order. Nothing starts before the lease ends.
    pub fence: Lease,
    /// The time of the last report, or the time that a claim reserved for the next report.
    pub at: Option<ReportTime>,
    /// The last report about the pipeline.
    pub report: Option<LastReport>,
}

/// The progress of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Progress {
    /// An invocation starts the execution, and holds the claim until this lease ends.
    Claimed(Lease),
    /// The order waits for its next attempt.
    Waiting(Wait),
    /// The execution runs.
    Running {
        /// When the follow-up looks at the execution, in epoch milliseconds.
        check: u64,
    },
    /// The order has ended in this state. `refused` means that no route leads to the pipeline any more.
    Ended(ReportState),
}

/// Why an order waits, and how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// The cause.
    pub cause: Cause,
    /// The earliest time of the next attempt, in epoch milliseconds.
    pub next: u64,
}

/// Why an order waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// The pipeline is busy, CodePipeline throttles, or an older order may still be started.
    Busy,
    /// CodePipeline rejects the start.
    Rejected,
    /// A start got no answer, or CodePipeline's list does not show yet which execution is the order's.
    Unanswered,
    /// The execution failed in a source action.
    Source,
    /// CodePipeline canceled the execution.
    Canceled,
}

impl OrderRow {
    /// The row of an order that takes the place of `earlier`. The order waits for its first attempt.
    #[must_use]
    pub fn new(
        order: Order,
        change: &Change,
        pipeline: &PipelineName,
        earlier: Option<&Self>,
        now: OffsetDateTime,
    ) -> Self {
        Self {
            number: order.number,
            kind: order.kind,
            is_implicit: false,
            change: change.clone(),
            progress: Progress::Waiting(Wait { cause: Cause::Busy, next: epoch_millis(now) }),
            token: token(change, pipeline, order.number, 0),
            since: epoch_millis(now),
            may_run: false,
            execution: None,
            run: 1,
            executions: earlier.map(Self::all_executions).unwrap_or_default(),
            good: earlier.and_then(|earlier| earlier.good.clone()),
            restarts: 0,
            cancellations: 0,
            source_failed: None,
            failures: 0,
            is_announced: false,
            fence: earlier.map(|earlier| earlier.blocker(now)).unwrap_or_default(),
            at: earlier.and_then(|earlier| earlier.at),
            report: None,
        }
    }

    /// The executions that a search of a later start must not find.
    fn all_executions(&self) -> Vec<String> {
        let all: Vec<String> = self.executions.iter().chain(&self.execution).cloned().collect();
        all.into_iter().rev().take(REMEMBERED).rev().collect()
    }

    /// The lease of whatever may still start an execution of this or an older order, or a free lease: an invocation, or a
    /// call that got no answer and may take effect late.
    pub(crate) fn blocker(&self, now: OffsetDateTime) -> Lease {
        let own = match &self.progress {
            Progress::Claimed(lease) => *lease,
            Progress::Waiting(Wait { cause: Cause::Unanswered, next }) => Lease::until(*next),
            _ => Lease::FREE,
        };
        let held = [own, self.fence].into_iter().filter(|lease| lease.is_held(now, LEASE_TERM));
        held.max().unwrap_or(Lease::FREE)
    }

    pub(crate) fn order(&self) -> Order {
        Order { number: self.number, kind: self.kind }
    }

    /// Whether an attempt to start the execution may begin now. `has_room` says that an execution of the pipeline has
    /// just ended, so that a busy pipeline may have room.
    pub(crate) fn is_startable(&self, has_room: bool, now: OffsetDateTime) -> bool {
        if self.blocker(now) != Lease::FREE {
            return false;
        }
        match &self.progress {
            Progress::Claimed(_) => true,
            Progress::Waiting(wait) => {
                let is_due = wait.next <= epoch_millis(now);
                is_due || (has_room && matches!(wait.cause, Cause::Busy | Cause::Rejected))
            }
            Progress::Running { .. } | Progress::Ended(_) => false,
        }
    }

    /// The row with a claim of this invocation. The claim reserves the time of the report that follows.
    #[must_use]
    pub fn claimed(&self, now: OffsetDateTime) -> Self {
        let may_run = self.may_run || matches!(self.progress, Progress::Claimed(_));
        Self {
            progress: Progress::Claimed(Lease::new(now, LEASE_TERM)),
            since: if may_run { self.since } else { epoch_millis(now) },
            may_run,
            fence: Lease::FREE,
            at: Some(ReportTime::next(now, self.at)),
            ..self.clone()
        }
    }

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
            StartAnswer::Rejected(reason) => {
                let failed = Self { may_run: false, failures: self.failures + 1, ..self.clone() };
                let next = now + backoff(failed.failures, LONGEST_PAUSE);
                failed.waiting(Cause::Rejected, next, reason, place)
            }
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
            ..self.clone()
        };
        running.report_now(ReportState::Running, "the execution runs", place)
    }

    /// The row when the order waits for this reason until `next`.
    pub(crate) fn waiting(&self, cause: Cause, next: OffsetDateTime, reason: &str, place: &Place) -> Self {
        let wait = Wait { cause, next: epoch_millis(next) };
        let waiting = Self { progress: Progress::Waiting(wait), ..self.clone() };
        // Every attempt of a busy pipeline would otherwise be reported, which is one report a minute.
        let is_reported = self.own_report().is_some_and(|last| last.says(ReportState::Waiting, reason));
        if is_reported { waiting } else { waiting.report_now(ReportState::Waiting, reason, place) }
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
        let closed = Self { progress: Progress::Ended(ReportState::Refused), ..self.clone() };
        closed.report_at(ReportTime::next(now, self.at), ReportState::Refused, NO_LONGER_ROUTED, place)
    }

    /// The row after another invocation, which was starting an older order, has finished.
    pub(crate) fn unblocked(&self, execution: Option<&str>) -> Self {
        let executions = self.executions.iter().map(String::as_str).chain(execution).map(ToOwned::to_owned);
        Self { executions: executions.collect(), fence: Lease::FREE, ..self.clone() }
    }

    /// The row of a closed order, which waits for its first attempt again.
    pub(crate) fn reopened(&self, now: OffsetDateTime) -> Self {
        let wait = Wait { cause: Cause::Busy, next: epoch_millis(now) };
        Self { progress: Progress::Waiting(wait), ..self.clone() }
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

    /// Whether no report waits to be sent.
    pub(crate) fn is_answered(&self) -> bool {
        self.report.as_ref().is_none_or(|last| last.is_sent)
    }

    /// The row with a report at the time that the claim reserved.
    fn report_now(&self, state: ReportState, reason: &str, place: &Place<'_>) -> Self {
        self.report_at(
            self.at.unwrap_or_else(|| ReportTime::next(OffsetDateTime::UNIX_EPOCH, None)),
            state,
            reason,
            place,
        )
    }

    /// The row with a report at this time.
    pub(crate) fn report_at(&self, at: ReportTime, state: ReportState, reason: &str, place: &Place<'_>) -> Self {
        let mut report = report(self.order(), &self.change, place, state, reason, at);
        report.execution.clone_from(&self.execution);
        report.good.clone_from(&self.good);
        Self { at: Some(at), report: Some(LastReport::new(report)), ..self.clone() }
    }

    /// The last report, if it is about this order.
    pub(crate) fn own_report(&self) -> Option<&LastReport> {
        self.report.as_ref().filter(|last| last.report.number == self.number)
    }
}

/// The reason of an order that is closed.
pub(crate) const NO_LONGER_ROUTED: &str =
    "no route of this account's configuration leads from the reference to this pipeline any more";

/// The client request token: the SHA-256 digest of the change's id, the pipeline and the number, in hexadecimal, and
/// the number of the restart. CodePipeline accepts up to 128 characters of `[a-zA-Z0-9-]`.
#[must_use]
pub fn token(change: &Change, pipeline: &PipelineName, number: u64, restart: u32) -> String {
    let digest = hex::encode(Sha256::digest(format!("{}\n{pipeline}\n{number}", change.id())));
    if restart == 0 { digest } else { format!("{digest}-{restart}") }
}

#[cfg(test)]
mod tests;
