//! The targets of a wave or of a route: one cell for each or, if there are many, counts and the exceptions.

use std::collections::BTreeMap;

use maud::{Markup, html};
use sekisho_board::{Tone, outside, tag};
use sekisho_domain::report::{OrderReport, ReportState};
use sekisho_domain::route::{TargetId, Wave};

use super::drawing::Drawing;
use crate::status::{Runs, runs, start};
use crate::target::TargetRow;
use crate::train_text::{label, why};
use crate::wave::Standing;

/// The most targets of a wave that each get a cell. Of more targets, only the exceptions do.
const MOST_CELLS: usize = 24;

/// A target, and where it stands.
pub(super) struct Cell<'a> {
    id: &'a TargetId,
    /// `None` if the row cannot be read.
    row: Option<&'a TargetRow>,
    state: &'static str,
    tone: Tone,
    why: Option<String>,
}

impl<'a> Cell<'a> {
    /// A target of a wave.
    pub(super) fn of_wave(id: &'a TargetId, row: Option<&'a TargetRow>, standing: Standing) -> Self {
        let tone = match standing {
            Standing::Idle | Standing::Todo => Tone::Idle,
            Standing::Healthy | Standing::Ahead => Tone::Good,
            Standing::OtherChange | Standing::OtherTrain | Standing::Running => Tone::Busy,
            Standing::Waiting | Standing::GoingBack => Tone::Wait,
            Standing::Failed | Standing::SentBack => Tone::Bad,
            Standing::Unknown => Tone::Odd,
        };
        // The state says it all for targets that are well, and those that wait for their turn have no reason of their own.
        let is_clear = matches!(standing, Standing::Healthy | Standing::Idle | Standing::Todo);
        let why = if is_clear { None } else { why(standing, row) };
        let report = row.and_then(TargetRow::current_report);
        let state = match (standing, report) {
            (Standing::Waiting | Standing::Running, Some(report)) => word(report.state),
            _ => label(standing, row),
        };
        Self { id, row, state, tone, why }
    }

    /// A target of a route without waves.
    pub(super) fn plain(id: &'a TargetId, row: Option<&'a TargetRow>) -> Self {
        let report = row.and_then(TargetRow::current_report);
        let (state, tone) = match (row, report) {
            (None, _) => ("unreadable", Tone::Odd),
            (Some(TargetRow { order: None, .. }), _) => ("no order yet", Tone::Idle),
            (Some(_), None) => ("no report", Tone::Wait),
            (Some(_), Some(report)) => (word(report.state), tone(report.state)),
        };
        let why = match report {
            None if row.is_none() => Some("the ledger's row cannot be read: fix or delete it".to_owned()),
            Some(report) if report.state != ReportState::Healthy => Some(start(&report.reason)),
            _ => None,
        };
        Self { id, row, state, tone, why }
    }

    fn report(&self) -> Option<&'a OrderReport> {
        self.row.and_then(TargetRow::current_report)
    }

    /// Since when the target has its state, in epoch milliseconds.
    fn since(&self) -> Option<u64> {
        let placed = || self.row.and_then(|row| row.order.as_ref()).map(|order| order.placed);
        self.report().map(|report| report.at.millis()).or_else(placed)
    }

    fn runs(&self) -> Runs<'a> {
        self.row.and_then(|row| row.report.as_ref()).map_or(Runs::Nothing, runs)
    }

    /// Whether people should look at this target even among many.
    fn is_exception(&self) -> bool {
        matches!(self.tone, Tone::Wait | Tone::Bad | Tone::Odd)
    }
}

/// The state in a word. An execution that runs has not changed what runs in the target.
fn word(state: ReportState) -> &'static str {
    if state == ReportState::Running { "deploying" } else { state.as_str() }
}

fn tone(state: ReportState) -> Tone {
    match state {
        ReportState::Healthy => Tone::Good,
        ReportState::Running | ReportState::Baking => Tone::Busy,
        ReportState::Waiting | ReportState::RollingBack => Tone::Wait,
        ReportState::Failed | ReportState::Refused | ReportState::RolledBack => Tone::Bad,
        ReportState::Unknown => Tone::Odd,
    }
}

/// The cells of these targets.
pub(super) fn cells(drawing: &Drawing<'_>, cells: &[Cell<'_>], wave: Option<&Wave>) -> Markup {
    if cells.len() <= MOST_CELLS {
        return html! { ul.cells { @for one in cells { (cell(drawing, one, wave)) } } };
    }
    let exceptions: Vec<&Cell<'_>> = cells.iter().filter(|cell| cell.is_exception()).collect();
    html! {
        (counts(drawing, cells))
        @if !exceptions.is_empty() {
            ul.cells { @for one in exceptions.iter().take(MOST_CELLS) { (cell(drawing, one, wave)) } }
        }
        @if exceptions.len() > MOST_CELLS {
            p.muted { "… and " (exceptions.len() - MOST_CELLS) " more that need attention: see " code { "where" } }
        }
    }
}

/// How many targets are in each state with each revision, the largest number first.
fn counts(drawing: &Drawing<'_>, cells: &[Cell<'_>]) -> Markup {
    let mut counts: BTreeMap<(&str, &str, String), (usize, Tone)> = BTreeMap::new();
    for cell in cells {
        let (color, text) = shown(drawing, cell.runs());
        counts.entry((cell.state, color, text)).or_insert((0, cell.tone)).0 += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
    html! {
        ul {
            @for ((state, color, text), (count, tone)) in counts.iter().take(MOST_CELLS) {
                li {
                    (tag(*tone, &format!("{count} {state}"))) " "
                    span class={ "rev " (color) } { code { (text) } }
                }
            }
        }
        p.muted { (cells.len()) " targets" }
    }
}

/// The color and the text of what runs.
fn shown(drawing: &Drawing<'_>, runs: Runs<'_>) -> (&'static str, String) {
    match runs {
        Runs::Revision(revision) => (drawing.color(revision), revision.short().to_owned()),
        Runs::Unsure(Some(revision)) => (drawing.color(revision), format!("{}?", revision.short())),
        Runs::Unsure(None) => ("rx", "unknown".to_owned()),
        Runs::Nothing => ("rx", "nothing yet".to_owned()),
    }
}

fn cell(drawing: &Drawing<'_>, cell: &Cell<'_>, wave: Option<&Wave>) -> Markup {
    let TargetId { account, region, pipeline } = cell.id;
    let (color, runs) = shown(drawing, cell.runs());
    let report = cell.report();
    let until = report.filter(|report| report.state == ReportState::Baking).and_then(|report| report.until);
    let execution = report.and_then(|report| report.execution.as_deref());
    let alarms =
        wave.filter(|_| until.is_some() || cell.tone == Tone::Bad).and_then(|wave| wave.alarms.prefixes().next());
    html! {
        li class={ "cell " (color) } {
            div { code { (account) } " " (region) " " (pipeline) }
            div {
                (tag(cell.tone, cell.state))
                @if let Some(since) = cell.since() { " for " (drawing.viewer.age(since)) }
                @if let Some(until) = until {
                    ", " (drawing.viewer.left(until.millis())) " left (until " (drawing.viewer.millis(until.millis())) ")"
                }
            }
            div {
                @if let Some(report) = report.filter(|report| report.state == ReportState::Running) {
                    "deploys " code { (report.revision.short()) }
                    @if let Some(good) = &report.good {
                        ", healthy before: " code { (good.short()) }
                    }
                } @else {
                    "runs " code { (runs) }
                }
                @if let Some(execution) = execution {
                    ", "
                    a href=(drawing.console.execution(region.as_str(), pipeline.as_str(), Some(execution))) {
                        "execution"
                    }
                }
                @if let Some(prefix) = alarms {
                    ", " a href=(drawing.console.alarms(region.as_str(), prefix)) { "alarms" }
                }
            }
            @if let Some(why) = &cell.why { div.muted { (outside(why)) } }
        }
    }
}
