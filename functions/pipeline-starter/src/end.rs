//! The end of an order's execution, and what follows from it for the order.

use std::time::Duration;

use sekisho_domain::report::{ReportState, ReportTime};
use sekisho_domain::timestamp::epoch_millis;
use time::OffsetDateTime;

use crate::order::{Cause, FIRST_CHECK, OrderRow, Progress, backoff};
use crate::report::Place;
use crate::world::ExecutionStatus;

/// The most times that an order is started again after CodePipeline canceled its execution.
const MAX_CANCELLATIONS: u32 = 3;
/// The time for which an order is started again after its execution failed in a source action.
const SOURCE_PATIENCE: Duration = Duration::from_hours(2);
/// The longest pause between two starts after failures in a source action.
const LONGEST_SOURCE_PAUSE: Duration = Duration::from_mins(30);
/// The longest pause between two looks at an execution that runs.
const LONGEST_CHECK: Duration = Duration::from_mins(15);

/// What happened to an execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// Every stage succeeded.
    Succeeded,
    /// An action failed.
    Failed {
        /// Whether the action is a source action. Nothing of the revision has run in this case.
        is_in_source: bool,
        /// The number of the run that failed, if it is known.
        run: Option<u32>,
        /// The error message of the action.
        reason: String,
    },
    /// CodePipeline canceled the execution, because the pipeline was edited.
    Canceled,
    /// Somebody else ended the execution. The text says how.
    Unknown(&'static str),
    /// A stage is retried.
    Resumed {
        /// The number of the new run, if it is known.
        run: Option<u32>,
    },
}

impl End {
    /// The end that this status means. Returns `None` if the execution runs, or if it failed, because a status does not
    /// say where.
    pub(crate) fn of(status: Option<ExecutionStatus>) -> Option<Self> {
        match status {
            Some(ExecutionStatus::Running | ExecutionStatus::Failed) => None,
            Some(ExecutionStatus::Succeeded) => Some(Self::Succeeded),
            Some(ExecutionStatus::Canceled) => Some(Self::Canceled),
            Some(ExecutionStatus::Stopped) => Some(Self::Unknown("somebody stopped the execution")),
            Some(ExecutionStatus::Superseded) => Some(Self::Unknown("another execution superseded the order's")),
            None => Some(Self::Unknown("CodePipeline does not know the execution any more")),
        }
    }
}

/// The row after the end of the order's execution, with the report that follows. Returns `None` if the end changes
/// nothing, for example because the event about it came late.
pub(crate) fn after_end(row: &OrderRow, end: &End, place: &Place<'_>, now: OffsetDateTime) -> Option<OrderRow> {
    let is_running = matches!(row.progress, Progress::Running { .. });
    // A retried stage can change these two verdicts. Nothing can follow a success.
    let is_open = matches!(row.progress, Progress::Ended(ReportState::Failed | ReportState::Unknown));
    let ended = |row: OrderRow, state, reason: &str| {
        let ended = OrderRow { progress: Progress::Ended(state), ..row };
        ended.report_at(ReportTime::next(now, ended.at), state, reason, place)
    };
    match end {
        End::Succeeded if is_running || is_open => {
            let healthy = OrderRow { good: Some(row.change.commit.clone()), ..row.clone() };
            Some(ended(healthy, ReportState::Healthy, "the execution succeeded"))
        }
        // CodePipeline's events may arrive in another order: this run failed before the stage was retried.
        End::Failed { run: Some(run), .. } if *run < row.run => None,
        End::Failed { is_in_source: true, reason, .. } if is_running => Some(
            start_again_after_source(row, reason, place, now)
                .unwrap_or_else(|| ended(row.clone(), ReportState::Failed, reason)),
        ),
        End::Failed { reason, .. } if is_running => Some(ended(row.clone(), ReportState::Failed, reason)),
        End::Canceled if is_running && row.cancellations < MAX_CANCELLATIONS => {
            let restarted = row.restarted(place.pipeline, now);
            let again = OrderRow { cancellations: row.cancellations + 1, ..restarted };
            let again = OrderRow { at: Some(ReportTime::next(now, row.at)), ..again };
            let reason = "CodePipeline canceled the execution, because the pipeline was edited";
            Some(again.waiting(Cause::Canceled, now, reason, place))
        }
        End::Canceled if is_running => {
            let reason = "CodePipeline canceled every execution of the order, because the pipeline was edited";
            Some(ended(row.clone(), ReportState::Unknown, reason))
        }
        End::Unknown(reason) if is_running => Some(ended(row.clone(), ReportState::Unknown, reason)),
        End::Resumed { run } if is_open || (is_running && run.is_some_and(|run| run > row.run)) => {
            let check = epoch_millis(now + FIRST_CHECK);
            let progress = Progress::Running { check };
            let resumed = OrderRow { progress, run: run.unwrap_or(row.run + 1), ..row.clone() };
            let at = ReportTime::next(now, row.at);
            Some(if is_open {
                resumed.report_at(at, ReportState::Running, "a stage is retried", place)
            } else {
                resumed
            })
        }
        _ => None,
    }
}

/// The row that starts the order again after a failure in a source action, or `None` if that has failed for too long.
fn start_again_after_source(row: &OrderRow, reason: &str, place: &Place<'_>, now: OffsetDateTime) -> Option<OrderRow> {
    let since = row.source_failed.unwrap_or(epoch_millis(now));
    let patience = u64::try_from(SOURCE_PATIENCE.as_millis()).unwrap_or(u64::MAX);
    if epoch_millis(now) >= since.saturating_add(patience) {
        return None;
    }
    // A start resets the number of failures, so the pauses grow with the number of restarts.
    let failures = row.restarts - row.cancellations.min(row.restarts) + 1;
    let again = OrderRow {
        source_failed: Some(since),
        at: Some(ReportTime::next(now, row.at)),
        ..row.restarted(place.pipeline, now)
    };
    Some(again.waiting(Cause::Source, now + backoff(failures, LONGEST_SOURCE_PAUSE), reason, place))
}

/// The row after the follow-up has seen that the execution still runs: the next look comes later.
pub(crate) fn still_runs(row: &OrderRow, now: OffsetDateTime) -> OrderRow {
    let age = Duration::from_millis(epoch_millis(now).saturating_sub(row.since));
    let pause = age.clamp(FIRST_CHECK, LONGEST_CHECK);
    OrderRow { progress: Progress::Running { check: epoch_millis(now + pause) }, ..row.clone() }
}
