//! The end of an order's execution, and what follows from it for the order.

use std::time::Duration;

use sekisho_domain::order::OrderKind;
use sekisho_domain::pause::doubled;
use sekisho_domain::report::ReportState;
use sekisho_domain::timestamp::epoch_millis;
use time::OffsetDateTime;

use crate::conclusion::{ended, go_back, succeeded};
use crate::order::{Cause, FIRST_CHECK, OrderRow, Progress};
use crate::pins::Verdict;
use crate::report::{FIRST_PAUSE, Place};

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
        /// Whether a deploy action had begun. `false` if that does not matter, because the order does not go back.
        has_deployed: bool,
        /// The error message of the action.
        reason: String,
    },
    /// CodePipeline canceled the execution, because the pipeline was edited.
    Canceled,
    /// Somebody else ended the execution. The text says how.
    Unknown(&'static str),
    /// A stage is retried.
    Resumed,
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

/// When an execution ended, and which of its runs that was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ending {
    /// The number of the run, if it is known.
    pub(crate) run: Option<u32>,
    /// The time, if it is known.
    pub(crate) at: Option<OffsetDateTime>,
}

/// The row after the end of a run of the order's execution, with the report that follows. Returns `None` if the end
/// changes nothing, for example because the event about it came late.
pub(crate) fn after_end(
    row: &OrderRow,
    end: &End,
    ending: Ending,
    place: &Place<'_>,
    now: OffsetDateTime,
) -> Option<OrderRow> {
    // The execution has succeeded already.
    if row.window().is_some() {
        return None;
    }
    let Ending { run, at } = ending;
    let is_running = matches!(row.progress, Progress::Running { .. });
    let is_unknown = row.progress == Progress::Ended(ReportState::Unknown);
    // A retried stage can change these two verdicts. Nothing can follow a success.
    let is_open = is_unknown || row.progress == Progress::Ended(ReportState::Failed);
    // CodePipeline's events may be lost, and may arrive in another order.
    let is_late = run.is_some_and(|run| run < row.run);
    let is_new_run = run.is_some_and(|run| run > row.run);
    let row = &OrderRow { run: run.unwrap_or(row.run).max(row.run), ..row.clone() };
    match end {
        End::Succeeded if is_running || is_open => Some(succeeded(row, at.unwrap_or(now), place, now)),
        _ if is_late => None,
        End::Failed { is_in_source: true, reason, .. } if is_running => Some(
            start_again_after_source(row, reason, place, now)
                .unwrap_or_else(|| failed_in_source(row, reason, place, now)),
        ),
        End::Failed { is_in_source: true, reason, .. } if is_unknown || (is_open && is_new_run) => {
            Some(failed_in_source(row, reason, place, now))
        }
        End::Failed { has_deployed, reason, .. } if is_running || is_unknown || (is_open && is_new_run) => {
            Some(failed(row, *has_deployed, reason, place, now))
        }
        End::Canceled if is_running => Some(start_again_after_cancellation(row, place, now)),
        End::Unknown(reason) if is_running || (is_open && is_new_run) => {
            Some(ended(row, ReportState::Unknown, reason, place, now))
        }
        End::Resumed if is_new_run || (is_open && run.is_none()) => resumed(row, is_running, is_open, place, now),
        _ => None,
    }
}

/// The row after an execution of an earlier order has ended. The end only changes what later orders are pinned to.
/// Returns `None` if it changes nothing.
pub(crate) fn after_earlier_end(row: &OrderRow, execution: &str, end: &End) -> Option<OrderRow> {
    let verdict = match end {
        End::Failed { is_in_source: false, .. } => Verdict::Failed,
        // Until the retried stage succeeds, the revision has failed.
        End::Resumed => return None,
        End::Failed { .. } | End::Succeeded | End::Canceled | End::Unknown(_) => Verdict::Passed,
    };
    let mut after = row.clone();
    let order = after.sources.earlier.iter_mut().find(|order| order.execution.as_deref() == Some(execution))?;
    // A revision that has failed stays so if its retried stage ends without a result.
    let is_lifted = order.verdict != Verdict::Failed || matches!(end, End::Succeeded);
    if order.verdict == verdict || !is_lifted {
        return None;
    }
    order.verdict = verdict;
    Some(after)
}

/// The row of an order that has ended because its execution failed in a source action. A failed rollback is a failed
/// rollback, wherever it failed.
fn failed_in_source(row: &OrderRow, reason: &str, place: &Place<'_>, now: OffsetDateTime) -> OrderRow {
    let mut after = ended(row, ReportState::Failed, reason, place, now);
    if let Some(last) = &mut after.report {
        last.report.in_source = row.kind == OrderKind::Deploy;
    }
    after
}

/// The row after an execution has failed, and not in a source action.
fn failed(row: &OrderRow, has_deployed: bool, reason: &str, place: &Place<'_>, now: OffsetDateTime) -> OrderRow {
    if row.bake.is_none() {
        return ended(row, ReportState::Failed, reason, place, now);
    }
    if has_deployed {
        return go_back(row, reason, place, now);
    }
    let reason = format!("{reason}; the target stays as it is, because no deploy action has begun");
    ended(row, ReportState::Failed, &reason, place, now)
}

/// The row when a stage is retried, or `None` if that changes nothing.
fn resumed(
    row: &OrderRow,
    is_running: bool,
    is_open: bool,
    place: &Place<'_>,
    now: OffsetDateTime,
) -> Option<OrderRow> {
    let progress = Progress::Running { check: epoch_millis(now + FIRST_CHECK) };
    let resumed = OrderRow { progress, ..row.clone() };
    if is_open {
        return Some(resumed.report_at(row.next_at(now), ReportState::Running, "a stage is retried", place));
    }
    is_running.then_some(resumed)
}

/// The row that starts the order again after CodePipeline canceled the execution, or that ends the order if
/// CodePipeline has canceled too many executions.
fn start_again_after_cancellation(row: &OrderRow, place: &Place<'_>, now: OffsetDateTime) -> OrderRow {
    if row.cancellations >= MAX_CANCELLATIONS {
        let reason = "CodePipeline canceled every execution of the order, because the pipeline was edited";
        return ended(row, ReportState::Unknown, reason, place, now);
    }
    let again = OrderRow {
        cancellations: row.cancellations + 1,
        // This execution did not fail in its source action, so the next failure there is the first one again.
        source_failed: None,
        source_failures: 0,
        at: row.next_at(now),
        ..row.restarted(place.pipeline, now)
    };
    let reason = "CodePipeline canceled the execution, because the pipeline was edited; the order starts again";
    again.waiting(Cause::Busy, now, reason, place)
}

/// The row that starts the order again after a failure in a source action, or `None` if that has failed for too long.
fn start_again_after_source(row: &OrderRow, reason: &str, place: &Place<'_>, now: OffsetDateTime) -> Option<OrderRow> {
    let since = row.source_failed.unwrap_or(epoch_millis(now));
    let patience = u64::try_from(SOURCE_PATIENCE.as_millis()).unwrap_or(u64::MAX);
    if epoch_millis(now) >= since.saturating_add(patience) {
        return None;
    }
    let again = OrderRow {
        source_failed: Some(since),
        source_failures: row.source_failures + 1,
        at: row.next_at(now),
        ..row.restarted(place.pipeline, now)
    };
    let next = now + doubled(FIRST_PAUSE, again.source_failures, LONGEST_SOURCE_PAUSE);
    Some(again.waiting(Cause::Source, next, reason, place))
}

/// The row after the follow-up has seen that the execution still runs: the next look comes later.
pub(crate) fn still_runs(row: &OrderRow, now: OffsetDateTime) -> OrderRow {
    let age = Duration::from_millis(epoch_millis(now).saturating_sub(row.since));
    let pause = age.clamp(FIRST_CHECK, LONGEST_CHECK);
    OrderRow { progress: Progress::Running { check: epoch_millis(now + pause) }, ..row.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{NOW, at_shop, row, running, waiting, with};

    fn failed(is_in_source: bool) -> End {
        End::Failed { is_in_source, has_deployed: true, reason: "exit status 1".to_owned() }
    }

    fn after(row: &OrderRow, end: &End) -> Option<OrderRow> {
        after_run(row, end, 1)
    }

    fn after_run(row: &OrderRow, end: &End, run: u32) -> Option<OrderRow> {
        at_shop(|place| after_end(row, end, Ending { run: Some(run), at: None }, place, NOW))
    }

    fn ended(state: ReportState) -> OrderRow {
        OrderRow { execution: Some("e".to_owned()), ..with(&row(5), Progress::Ended(state)) }
    }

    #[test]
    fn every_progress_has_one_state_after_every_end() {
        use ReportState::{Failed, Healthy, Refused, Running, Unknown, Waiting};
        let ends = [
            (End::Succeeded, 1),
            (failed(false), 1),
            (failed(true), 1),
            (End::Canceled, 1),
            (End::Unknown("somebody stopped the execution"), 1),
            (End::Resumed, 2),
        ];
        let cases = [
            (running(&row(5)), [Some(Healthy), Some(Failed), Some(Waiting), Some(Waiting), Some(Unknown), None]),
            (ended(Failed), [Some(Healthy), None, None, None, None, Some(Running)]),
            (ended(Unknown), [Some(Healthy), Some(Failed), Some(Failed), None, None, Some(Running)]),
            (ended(Healthy), [None; 6]),
            (ended(Refused), [None; 6]),
            (waiting(&row(5), Cause::Busy, NOW), [None; 6]),
        ];
        for (row, expected) in cases {
            let states = ends.iter().map(|(end, run)| {
                let after = after_run(&row, end, *run)?;
                let last = after.report.clone()?;
                assert!(!last.is_sent && after.at == last.report.at, "{after:?}");
                Some(last.report.state)
            });
            assert_eq!(states.collect::<Vec<_>>(), expected, "{row:?}");
        }
    }

    #[test]
    fn only_a_success_makes_a_commit_good() {
        let row = running(&row(5));
        assert_eq!(after(&row, &End::Succeeded).unwrap().good, Some(row.change.revision.clone()));
        assert_eq!(after(&row, &failed(false)).unwrap().good, None);
    }

    /// A retried stage begins another run. Events about the runs may be lost, and may arrive in another order.
    #[test]
    fn each_run_has_its_end() {
        use ReportState::{Failed, Healthy, Running, Unknown};
        let second = |row: OrderRow| OrderRow { run: 2, ..row };
        let stopped = End::Unknown("somebody stopped the execution");
        let cases = [
            (second(running(&row(5))), failed(false), Some(1), None),
            (second(running(&row(5))), failed(false), Some(2), Some((Failed, 2))),
            (second(running(&row(5))), stopped.clone(), Some(1), None),
            (second(running(&row(5))), End::Canceled, Some(1), None),
            (second(running(&row(5))), End::Succeeded, Some(1), Some((Healthy, 2))),
            (second(ended(Failed)), End::Resumed, Some(2), None),
            (second(ended(Failed)), End::Resumed, Some(3), Some((Running, 3))),
            (second(ended(Failed)), failed(false), Some(2), None),
            (ended(Failed), failed(false), Some(2), Some((Failed, 2))),
            (ended(Failed), stopped, Some(2), Some((Unknown, 2))),
            (second(ended(Unknown)), failed(false), Some(2), Some((Failed, 2))),
            (second(ended(Unknown)), failed(false), Some(1), None),
            (ended(Failed), End::Resumed, None, Some((Running, 1))),
        ];
        for (row, end, run, expected) in cases {
            let after = at_shop(|place| after_end(&row, &end, Ending { run, at: None }, place, NOW));
            let found = after.map(|after| (after.report.unwrap().report.state, after.run));
            assert_eq!(found, expected, "{:?} {end:?} {run:?}", row.progress);
        }
        let resumed = after_run(&running(&row(5)), &End::Resumed, 2).unwrap();
        assert_eq!((resumed.run, resumed.report.is_none()), (2, true), "the report says already that it runs");
    }

    #[test]
    fn a_start_after_a_cancellation_has_another_token_and_leaves_the_old_execution_out_of_its_search() {
        let mut row = running(&row(5));
        for cancellations in 1..=MAX_CANCELLATIONS {
            let again = after(&row, &End::Canceled).unwrap();
            assert_eq!((again.cancellations, &again.execution, again.may_run), (cancellations, &None, false));
            assert!(again.executions.contains(&"e".to_owned()) && again.token != row.token);
            assert!(again.token.len() <= 128 && again.is_startable(false, NOW));
            row = running(&again);
        }
        assert_eq!(after(&row, &End::Canceled).unwrap().progress, Progress::Ended(ReportState::Unknown));
    }

    #[test]
    fn a_source_action_may_fail_for_two_hours() {
        let first = after(&running(&row(5)), &failed(true)).unwrap();
        assert_eq!((first.source_failed, first.source_failures), (Some(epoch_millis(NOW)), 1));
        assert!(!first.is_startable(true, NOW) && first.is_startable(false, NOW + Duration::from_mins(1)));
        let since = |ago| Some(epoch_millis(NOW - ago));
        let failing = OrderRow { source_failed: since(Duration::from_mins(119)), ..running(&row(5)) };
        assert!(matches!(after(&failing, &failed(true)).unwrap().progress, Progress::Waiting(_)));
        let failing = OrderRow { source_failed: since(SOURCE_PATIENCE), ..failing };
        let edited = running(&after(&failing, &End::Canceled).unwrap());
        assert_eq!(after(&edited, &failed(true)).unwrap().source_failed, Some(epoch_millis(NOW)), "it failed anew");
        let ended = after(&failing, &failed(true)).unwrap();
        assert_eq!((ended.progress, ended.execution.as_deref()), (Progress::Ended(ReportState::Failed), Some("e")));
    }

    #[test]
    fn the_report_says_that_an_order_failed_in_a_source_action() {
        let failing = OrderRow { source_failed: Some(epoch_millis(NOW - SOURCE_PATIENCE)), ..running(&row(5)) };
        let back = OrderRow { kind: OrderKind::Rollback, ..failing.clone() };
        let retried = |row: OrderRow| OrderRow { run: 1, ..row };
        let cases = [
            (failing.clone(), failed(true), 1, true),
            (failing, failed(false), 1, false),
            (back, failed(true), 1, false),
            (retried(ended(ReportState::Failed)), failed(true), 2, true),
            (retried(ended(ReportState::Unknown)), failed(true), 2, true),
        ];
        for (row, end, run, expected) in cases {
            let report = after_run(&row, &end, run).unwrap().report.unwrap().report;
            assert_eq!((report.state, report.in_source), (ReportState::Failed, expected), "{row:?} {end:?}");
        }
    }

    #[test]
    fn a_status_without_an_end_is_no_end() {
        assert_eq!(End::of(Some(ExecutionStatus::Running)), None);
        assert_eq!(End::of(Some(ExecutionStatus::Failed)), None);
        assert!(matches!(End::of(None), Some(End::Unknown(_))));
    }

    #[test]
    fn the_pause_between_two_looks_grows_with_the_age_of_the_start() {
        for (minutes, pause) in [(0, 2), (1, 2), (5, 5), (60, 15)] {
            let age = Duration::from_mins(minutes);
            let row = OrderRow { since: epoch_millis(NOW - age), ..running(&row(5)) };
            let check = epoch_millis(NOW + Duration::from_mins(pause));
            assert_eq!(still_runs(&row, NOW).progress, Progress::Running { check });
        }
    }
}
