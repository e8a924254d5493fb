//! Orders: the row of a pipeline's newest order, and how the row changes when a start is attempted. [`crate::end`] says
//! how the row changes when the execution ends.

use std::time::Duration;

use sekisho_domain::change::{Change, CommitId};
use sekisho_domain::order::{Order, OrderKind};
use sekisho_domain::pause::doubled;
use sekisho_domain::report::{ReportState, ReportTime};
use sekisho_domain::route::PipelineName;
use sekisho_domain::timestamp::epoch_millis;
use sekisho_ledger::{Key, Lease};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::report::{FIRST_PAUSE, LastReport, Place, report};
use crate::world::StartAnswer;

/// The partition key of all rows of orders.
pub const PARTITION: &str = "order";
/// The length of an invocation's lease on a row. It must be longer than the sum of the function's timeout (45 s), the
/// difference between the clocks of two invocations (40 s), the time after which a call may still take effect (60 s),
/// and the lag of CodePipeline's list: when the lease ends by any clock, the invocation has ended too, and the list
/// shows the execution that it may have started.
pub const LEASE_TERM: Duration = Duration::from_mins(3);
/// The pause after a start without an answer. Within this time, the call takes effect or is lost, and CodePipeline's
/// list shows the execution, also if the clock of the next invocation is 40 s ahead.
const UNANSWERED_PAUSE: Duration = Duration::from_mins(2);
/// The longest pause between two attempts that CodePipeline rejects.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);
/// The pause before the first look at an execution whose end may have been missed.
pub(crate) const FIRST_CHECK: Duration = Duration::from_mins(2);
/// The longest actor and the longest event id that a row stores, in characters. event-relay copies both from an event,
/// and the follow-up reads all rows every minute.
const LONGEST_DETAIL: usize = 300;
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
    /// The time before the oldest attempt whose result is unknown, in epoch milliseconds. The search for an execution
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
    /// The number of times that the order has begun again with another token.
    pub restarts: u32,
    /// The number of executions that CodePipeline canceled.
    pub cancellations: u32,
    /// The number of executions that failed in a source action.
    pub source_failures: u32,
    /// When an execution failed in a source action for the first time, in epoch milliseconds.
    pub source_failed: Option<u64>,
    /// The number of attempts in a row that CodePipeline rejected.
    pub failures: u32,
    /// Whether people got the notice that CodePipeline rejects the start.
    pub is_announced: bool,
    /// The number of times that CodePipeline refused to return the status of the execution.
    pub refused_checks: u32,
    /// The lease of whatever may still start an older order. Nothing starts before the lease ends.
    pub fence: Lease,
    /// The latest time that a report about the pipeline has or will have: a claim reserves the time of the next report.
    /// Before the first report, the time is 1970.
    pub at: ReportTime,
    /// The last report about this order.
    pub report: Option<LastReport>,
    /// Why the order waits, if the last report says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported_cause: Option<Cause>,
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
    /// The pipeline is busy, CodePipeline throttles, an older order may still be started, or CodePipeline canceled the
    /// execution.
    Busy,
    /// CodePipeline rejects the start, or refuses the search for an execution that may have started.
    Rejected,
    /// A start got no answer, or CodePipeline's list does not show yet which execution is the order's.
    Unanswered,
    /// The execution failed in a source action.
    Source,
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
            change: bounded(change),
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
            source_failures: 0,
            source_failed: None,
            failures: 0,
            is_announced: false,
            refused_checks: 0,
            fence: earlier.map(|earlier| earlier.blocker(now)).unwrap_or_default(),
            at: earlier.map_or_else(|| ReportTime::next(OffsetDateTime::UNIX_EPOCH, None), |earlier| earlier.at),
            report: None,
            reported_cause: None,
        }
    }

    /// The executions that a search of a later start must not find.
    fn all_executions(&self) -> Vec<String> {
        let all: Vec<String> = self.executions.iter().chain(&self.execution).cloned().collect();
        all.into_iter().rev().take(REMEMBERED).rev().collect()
    }

    /// The lease of whatever may still start an execution of this or an older order, or a free lease: an invocation, or
    /// a call that got no answer and may take effect late.
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
        Order::outside_waves(self.number, self.kind)
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
            at: self.next_at(now),
            ..self.clone()
        }
    }

    /// The time for the next report.
    pub(crate) fn next_at(&self, now: OffsetDateTime) -> ReportTime {
        ReportTime::next(now, Some(self.at))
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
            ..self.clone()
        };
        running.report_now(ReportState::Running, "the execution runs", place)
    }

    /// The row when the order waits for this reason until `next`.
    pub(crate) fn waiting(&self, cause: Cause, next: OffsetDateTime, reason: &str, place: &Place) -> Self {
        let wait = Wait { cause, next: epoch_millis(next) };
        let waiting = Self { progress: Progress::Waiting(wait), ..self.clone() };
        // Every attempt of a busy pipeline would otherwise be reported, which is one report a minute. The reason is not
        // compared, because CodePipeline's text may differ from attempt to attempt.
        if self.reported_cause == Some(cause) {
            return waiting;
        }
        Self { reported_cause: Some(cause), ..waiting.report_now(ReportState::Waiting, reason, place) }
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
        Self { executions, fence: if is_own { rest } else { self.fence.max(rest) }, ..self.clone() }
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

    /// Whether no report waits to be sent.
    pub(crate) fn is_answered(&self) -> bool {
        self.report.as_ref().is_none_or(|last| last.is_sent)
    }

    /// The row with a report at the time that was reserved.
    fn report_now(&self, state: ReportState, reason: &str, place: &Place<'_>) -> Self {
        self.report_at(self.at, state, reason, place)
    }

    /// The row with a report at this time.
    pub(crate) fn report_at(&self, at: ReportTime, state: ReportState, reason: &str, place: &Place<'_>) -> Self {
        let mut report = report(self.order(), &self.change, place, state, reason, at);
        report.execution.clone_from(&self.execution);
        report.good.clone_from(&self.good);
        Self { at, report: Some(LastReport::new(report)), reported_cause: None, ..self.clone() }
    }

    /// The reason that the last report gives, or an empty text.
    pub(crate) fn reason(&self) -> &str {
        self.report.as_ref().map_or("", |last| last.report.reason.as_str())
    }
}

/// The change without an actor and an event id that are too long to store. Neither belongs to the change's id.
fn bounded(change: &Change) -> Change {
    let short = |text: &Option<String>| text.clone().filter(|text| text.chars().count() <= LONGEST_DETAIL);
    Change { actor: short(&change.actor), event: short(&change.event), ..change.clone() }
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
