//! The table that shows which revision runs in each target.

use std::fmt::Write as _;
use std::time::Duration;

use sekisho_domain::change::{Change, Revision};
use sekisho_domain::report::{OrderReport, ReportState, ReportTime};
use sekisho_domain::route::TargetId;
use sekisho_domain::slack;
use sekisho_domain::timestamp::{self, epoch_millis};
use time::OffsetDateTime;

use crate::target::TargetRow;

/// The most characters of a reason that the table shows.
const REASON_SHOWN: usize = 100;
/// The first line of the table. `RUNS` is the revision that runs, `FOR` is the age of the state, and `ORDER` is the
/// revision that the target should run.
const HEADER: [&str; COLUMNS] = ["TARGET", "RUNS", "STATE", "FOR", "ORDER"];
const COLUMNS: usize = 5;

/// A target and the state of its row: `None` if the row is unreadable.
pub(crate) type TargetState = (TargetId, Option<TargetRow>);

/// One line for each target, below a header. The columns are aligned for a font with characters of one width.
pub(crate) fn table(targets: &[TargetState], now: OffsetDateTime) -> String {
    let lines = targets.iter().map(|(target, row)| line(target, row.as_ref(), now));
    let lines: Vec<[String; COLUMNS]> = std::iter::once(HEADER.map(str::to_owned)).chain(lines).collect();
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..COLUMNS).map(width).collect();
    let mut table = String::new();
    for line in &lines {
        let mut text = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            // Writing to a string cannot fail.
            let _ = write!(text, "{cell:width$}  ");
        }
        table.push_str(text.trim_end());
        table.push('\n');
    }
    table.trim_end().to_owned()
}

fn line(target: &TargetId, row: Option<&TargetRow>, now: OffsetDateTime) -> [String; COLUMNS] {
    let text = str::to_owned;
    let target = target.to_string();
    let Some(row) = row else {
        return [target, text("?"), text("unreadable"), text("-"), text("fix or delete the row of this target")];
    };
    let runs = row.report.as_ref().map_or_else(|| text("-"), running);
    let Some(order) = &row.order else { return [target, runs, text("no order"), text("-"), text("-")] };
    let ordered = revision(&order.change);
    match row.current_report() {
        None => [target, runs, text("no report"), age(order.placed, now), ordered],
        Some(report) => {
            let ordered = if needs_reason(report.state) { ordered + ": " + &reason(report) } else { ordered };
            [target, runs, report.state.as_str().to_owned(), age(report.at.millis(), now), ordered]
        }
    }
}

/// What runs in a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Runs<'r> {
    /// This revision.
    Revision(&'r Revision),
    /// The target cannot be sure. This revision was healthy last, if there was one.
    Unsure(Option<&'r Revision>),
    /// Nothing was healthy yet.
    Nothing,
}

/// What runs in a target according to its report.
pub(crate) fn runs(report: &OrderReport) -> Runs<'_> {
    let good = report.good.as_ref();
    match report.state {
        ReportState::Healthy | ReportState::Baking => Runs::Revision(&report.revision),
        ReportState::Running => Runs::Revision(good.unwrap_or(&report.revision)),
        // An execution that failed or was stopped may have deployed a part of its revision.
        ReportState::Failed | ReportState::Unknown => Runs::Unsure(good),
        ReportState::Refused | ReportState::Waiting | ReportState::RollingBack | ReportState::RolledBack => {
            good.map_or(Runs::Nothing, Runs::Revision)
        }
    }
}

/// When the revision that runs in a target was deployed, in epoch milliseconds. An earlier version of pipeline-starter
/// does not report the time.
pub(crate) fn runs_since(report: &OrderReport) -> Option<u64> {
    report.since.map(ReportTime::millis)
}

/// The revision that runs according to the report. A question mark says that the target cannot be sure.
fn running(report: &OrderReport) -> String {
    match runs(report) {
        Runs::Revision(revision) => short(revision),
        Runs::Unsure(good) => good.map_or_else(String::new, short) + "?",
        Runs::Nothing => "-".to_owned(),
    }
}

/// Whether people need the reason to understand the state.
fn needs_reason(state: ReportState) -> bool {
    !matches!(state, ReportState::Running | ReportState::Baking | ReportState::Healthy)
}

/// The report's reason on one line. The text comes from another account.
pub(crate) fn reason(report: &OrderReport) -> String {
    slack::shown(&start_of_reason(report))
}

/// The start of the report's reason. An execution that no order started is mentioned at the end of the reason, so it is
/// mentioned once more if the reason is cut off.
pub(crate) fn start_of_reason(report: &OrderReport) -> String {
    let start = start(&report.reason);
    match foreign_execution(report) {
        Some(mention) if start != report.reason => format!("{start}; {mention}"),
        Some(_) | None => start,
    }
}

/// The start of a reason on one line, safe to show in Slack.
pub(crate) fn shortened(reason: &str) -> String {
    slack::shown(&start(reason))
}

/// What is to be said about an execution that no order started, if there was one. It may have changed what runs although
/// the state is healthy.
pub(crate) fn foreign_execution(report: &OrderReport) -> Option<String> {
    let execution = report.foreign_execution.as_deref()?;
    Some(format!("execution {}, which no order is known to have started, ended later", start(execution)))
}

/// The start of a reason.
pub(crate) fn start(reason: &str) -> String {
    let start: String = reason.chars().take(REASON_SHOWN).collect();
    let more = if start.len() < reason.len() { "…" } else { "" };
    start + more
}

/// The revision and the reference of a change.
pub(crate) fn revision(change: &Change) -> String {
    format!("{} {}", short(&change.revision), slack::shown(change.source_ref.name()))
}

/// The first digits of a commit or digest.
pub(crate) fn short(revision: &Revision) -> String {
    revision.short().to_owned()
}

/// The time since a point in time. A time in the future is 0 seconds ago, because clocks differ.
fn age(since: u64, now: OffsetDateTime) -> String {
    timestamp::span(Duration::from_millis(epoch_millis(now).saturating_sub(since)))
}

#[cfg(test)]
mod tests {
    use sekisho_domain::change::RefKind;
    use time::macros::datetime;

    use super::*;
    use crate::sources::Sources;

    const NOW: OffsetDateTime = datetime!(2026-11-21 12:00 UTC);

    fn commit(n: u64) -> Revision {
        format!("{n:08x}{n:032x}").parse().unwrap()
    }

    fn change(n: u64) -> Change {
        Change {
            kind: RefKind::Branch,
            repository: "arn:aws:codecommit:ap-northeast-1:111111111111:shop".parse().unwrap(),
            source_ref: "refs/heads/main".parse().unwrap(),
            revision: commit(n),
            previous: None,
            sequence: n,
            actor: None,
            event: None,
        }
    }

    /// The row after an order of the second commit and a report. Before, the first commit was healthy.
    fn row(state: ReportState, minutes_ago: u64) -> TargetRow {
        let at = NOW - Duration::from_mins(minutes_ago);
        let row = TargetRow::default().placed(&change(2), Sources::unrouted(), at);
        let order = row.order.clone().unwrap();
        let report = OrderReport {
            version: OrderReport::VERSION,
            pipeline: "shop".parse().unwrap(),
            number: order.number,
            id: order.change.id(),
            revision: order.change.revision,
            state,
            region: "ap-northeast-1".parse().unwrap(),
            execution: None,
            reason: "The pipeline\nis <busy>.".to_owned(),
            at: ReportTime::next(at, None),
            until: None,
            good: Some(commit(if state == ReportState::Healthy { 2 } else { 1 })),
            since: None,
            in_source: false,
            lacks: std::collections::BTreeSet::new(),
            foreign_execution: None,
        };
        TargetRow { report: Some(report), ..row }
    }

    fn shown(rows: Vec<(&str, Option<TargetRow>)>) -> Vec<String> {
        let targets: Vec<TargetState> = rows.into_iter().map(|(id, row)| (id.parse().unwrap(), row)).collect();
        table(&targets, NOW).lines().map(ToOwned::to_owned).collect()
    }

    #[test]
    fn each_target_has_one_aligned_line() {
        let lines = shown(vec![
            ("222222222222/ap-northeast-1/shop", Some(row(ReportState::Healthy, 180))),
            ("222222222222/us-east-1/shop", Some(row(ReportState::Waiting, 12))),
            (
                "333333333333/ap-northeast-1/shop",
                Some(TargetRow::default().placed(&change(2), Sources::unrouted(), NOW)),
            ),
            ("333333333333/us-east-1/shop", Some(TargetRow::default())),
            ("444444444444/us-east-1/shop", None),
        ]);
        assert_eq!(
            lines,
            [
                "TARGET                            RUNS      STATE       FOR  ORDER",
                "222222222222/ap-northeast-1/shop  00000002  healthy     3h   00000002 main",
                "222222222222/us-east-1/shop       00000001  waiting     12m  00000002 main: The pipeline is \
                 &lt;busy&gt;.",
                "333333333333/ap-northeast-1/shop  -         no report   0s   00000002 main",
                "333333333333/us-east-1/shop       -         no order    -    -",
                "444444444444/us-east-1/shop       ?         unreadable  -    fix or delete the row of this target",
            ]
        );
    }

    #[test]
    fn the_last_healthy_revision_runs_until_the_new_one_is_deployed() {
        use ReportState::{Baking, Failed, Healthy, Refused, RolledBack, RollingBack, Running, Unknown, Waiting};
        let runs = |state| running(&row(state, 0).report.unwrap());
        for state in [Refused, Waiting, Running, RollingBack, RolledBack] {
            assert_eq!(runs(state), "00000001", "{state:?}");
        }
        for state in [Baking, Healthy] {
            assert_eq!(runs(state), "00000002", "{state:?}");
        }
        for state in [Failed, Unknown] {
            assert_eq!(runs(state), "00000001?", "{state:?}");
        }
    }

    #[test]
    fn the_time_since_when_a_revision_runs_is_never_that_of_the_report() {
        use ReportState::{Baking, Failed, Healthy, Refused, RolledBack, RollingBack, Running, Unknown, Waiting};
        for state in [Baking, Healthy, Failed, Refused, RolledBack, RollingBack, Running, Unknown, Waiting] {
            let report = row(state, 3).report.unwrap();
            assert_eq!(runs_since(&report), None, "{state:?}");
            let since = Some(ReportTime::next(NOW - Duration::from_hours(1), None));
            assert_eq!(runs_since(&OrderReport { since, ..report }), since.map(ReportTime::millis), "{state:?}");
        }
    }

    #[test]
    fn a_report_on_an_earlier_order_still_says_what_runs() {
        let next = row(ReportState::Healthy, 60).placed(&change(3), Sources::unrouted(), NOW - Duration::from_secs(30));
        let lines = shown(vec![("222222222222/ap-northeast-1/shop", Some(next))]);
        assert!(lines[1].ends_with("00000002  no report  30s  00000003 main"), "{lines:?}");
    }

    #[test]
    fn a_time_in_the_future_is_now() {
        assert_eq!(age(epoch_millis(NOW) - 59_000, NOW), "59s");
        assert_eq!(age(epoch_millis(NOW) + 5_000, NOW), "0s");
    }
}
