//! The targets of a wave or of a route: one cell for each or, if there are many, counts and the exceptions.

use std::collections::BTreeMap;

use maud::{Markup, html};
use sekisho_board::{Tone, outside, tag};
use sekisho_domain::report::{OrderReport, ReportState};
use sekisho_domain::route::{TargetId, Wave};

use super::drawing::Drawing;
use crate::status::{Runs, foreign_execution, runs, runs_since, start_of_reason};
use crate::target::TargetRow;
use crate::train_text::{label, why};
use crate::wave::Standing;

/// The most targets of a wave that each get a cell. Of more targets, only the exceptions do.
const MOST_CELLS: usize = 24;
/// The most revisions that are named as those that run in a wave.
const MOST_REVISIONS: usize = 3;
/// The state of a target that gets no change because of a hold.
const HELD: &str = "held";
/// A minute in milliseconds. Times are shown without seconds.
const MINUTE: u64 = 60_000;

/// A target, and where it stands.
pub(super) struct Cell<'a> {
    id: &'a TargetId,
    /// `None` if the row cannot be read.
    row: Option<&'a TargetRow>,
    /// The last report, if it is about the current order.
    report: Option<&'a OrderReport>,
    state: &'static str,
    tone: Tone,
    why: Option<String>,
}

impl<'a> Cell<'a> {
    /// A target of a wave. `is_held` tells whether a hold keeps changes from the wave's targets.
    pub(super) fn of_wave(id: &'a TargetId, row: Option<&'a TargetRow>, standing: Standing, is_held: bool) -> Self {
        let is_held = is_held && matches!(standing, Standing::Idle | Standing::Todo);
        let tone = match standing {
            Standing::Idle | Standing::Todo if is_held => Tone::Wait,
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
        let why = why.or_else(|| report.filter(|_| standing == Standing::Healthy).and_then(foreign_execution));
        let state = match (standing, report) {
            (Standing::Waiting | Standing::Running, Some(report)) => word(report.state),
            _ if is_held => HELD,
            _ => label(standing, row),
        };
        Self { id, row, report, state, tone, why }
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
            Some(report) if report.state != ReportState::Healthy => Some(start_of_reason(report)),
            Some(report) => foreign_execution(report),
            None => None,
        };
        Self { id, row, report, state, tone, why }
    }

    /// Whether the last report on the current order has this state.
    pub(super) fn is(&self, state: ReportState) -> bool {
        self.report.is_some_and(|report| report.state == state)
    }

    /// Since when the target has its state, in epoch milliseconds.
    fn since(&self) -> Option<u64> {
        let placed = || self.row.and_then(|row| row.order.as_ref()).map(|order| order.placed);
        self.report.map(|report| report.at.millis()).or_else(placed)
    }

    fn runs(&self) -> Runs<'a> {
        self.row.and_then(|row| row.report.as_ref()).map_or(Runs::Nothing, runs)
    }

    /// Whether the target deploys its first revision, of which nothing may run yet.
    fn is_first(&self) -> bool {
        let report = self.row.and_then(|row| row.report.as_ref());
        report.is_some_and(|report| report.state == ReportState::Running && report.good.is_none())
    }

    /// When the revision that runs was deployed, in epoch milliseconds.
    fn runs_since(&self) -> Option<u64> {
        self.row.and_then(|row| row.report.as_ref()).and_then(runs_since)
    }

    /// Whether people should look at this target even among many.
    fn is_exception(&self) -> bool {
        // The wave says that it is held, and why.
        matches!(self.tone, Tone::Wait | Tone::Bad | Tone::Odd) && self.state != HELD
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

/// What runs in these targets, and the cells of them.
pub(super) fn cells(drawing: &Drawing<'_>, cells: &[Cell<'_>], wave: Option<&Wave>) -> Markup {
    html! {
        (running(drawing, cells))
        @if cells.len() <= MOST_CELLS {
            ul.cells { @for one in cells { (cell(drawing, one, wave)) } }
        } @else {
            (counts(drawing, cells))
            (exceptions(drawing, cells, wave))
        }
    }
}

/// The targets of many that need attention.
fn exceptions(drawing: &Drawing<'_>, cells: &[Cell<'_>], wave: Option<&Wave>) -> Markup {
    let exceptions: Vec<&Cell<'_>> = cells.iter().filter(|cell| cell.is_exception()).collect();
    html! {
        @if !exceptions.is_empty() {
            ul.cells { @for one in exceptions.iter().take(MOST_CELLS) { (cell(drawing, one, wave)) } }
        }
        @if exceptions.len() > MOST_CELLS {
            p.muted { "… and " (exceptions.len() - MOST_CELLS) " more that need attention: see " code { "where" } }
        }
    }
}

/// The times since when targets run a revision, in epoch milliseconds.
#[derive(Debug, Default)]
struct Times {
    count: usize,
    /// The first and the last time, of the targets that know it.
    known: Option<(u64, u64)>,
    /// The number of targets that do not know it.
    unknown: usize,
}

impl Times {
    fn add(&mut self, since: Option<u64>) {
        self.count += 1;
        match since {
            None => self.unknown += 1,
            Some(at) => self.known = Some(self.known.map_or((at, at), |(from, to)| (from.min(at), to.max(at)))),
        }
    }
}

/// Which revisions run in several targets, and since when. One target says it in its cell.
fn running(drawing: &Drawing<'_>, cells: &[Cell<'_>]) -> Markup {
    let mut all: BTreeMap<Runs<'_>, Times> = BTreeMap::new();
    for cell in cells.iter().filter(|cell| !cell.is_first()) {
        all.entry(cell.runs()).or_default().add(cell.runs_since());
    }
    let mut revisions: Vec<(Runs<'_>, Times)> =
        all.into_iter().filter(|(runs, _)| matches!(runs, Runs::Revision(_))).collect();
    revisions.sort_by_key(|(_, times)| std::cmp::Reverse(times.count));
    html! {
        @if cells.len() > 1 {
            @for (runs, times) in revisions.iter().take(MOST_REVISIONS) {
                @let (color, text) = shown(drawing, *runs);
                p {
                    "Runs " span class={ "rev " (color) } { code { (text) } } " in "
                    @if times.count == cells.len() { "all " (times.count) } @else { (times.count) " of " (cells.len()) }
                    " targets, " (since(drawing, times))
                }
            }
            @if revisions.len() > MOST_REVISIONS {
                p.muted { "and " (revisions.len() - MOST_REVISIONS) " more" }
            }
        }
    }
}

fn since(drawing: &Drawing<'_>, times: &Times) -> Markup {
    let viewer = drawing.viewer;
    html! {
        @match times.known {
            None => "since unknown",
            Some((from, to)) => {
                "since " (viewer.millis(from))
                @if from / MINUTE != to / MINUTE { " to " (viewer.millis(to)) }
                " (" (viewer.age(from)) ")"
                @if times.unknown > 0 { ", unknown in " (times.unknown) }
            }
        }
    }
}

/// How many targets are in each state with each revision, the largest number first.
fn counts(drawing: &Drawing<'_>, cells: &[Cell<'_>]) -> Markup {
    let mut counts: BTreeMap<(&str, Runs<'_>), (usize, Tone)> = BTreeMap::new();
    for cell in cells {
        counts.entry((cell.state, cell.runs())).or_insert((0, cell.tone)).0 += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
    html! {
        ul {
            @for ((state, runs), (count, tone)) in counts.iter().take(MOST_CELLS) {
                @let (color, text) = shown(drawing, *runs);
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
        Runs::Unsure(Some(revision)) => (drawing.color(revision), format!("perhaps {}", revision.short())),
        Runs::Unsure(None) => ("rx", "unknown".to_owned()),
        Runs::Nothing => ("rx", "nothing yet".to_owned()),
    }
}

fn cell(drawing: &Drawing<'_>, cell: &Cell<'_>, wave: Option<&Wave>) -> Markup {
    let TargetId { account, region, pipeline } = cell.id;
    let (color, runs) = shown(drawing, cell.runs());
    let report = cell.report;
    let until = report.filter(|report| report.state == ReportState::Baking).and_then(|report| report.until);
    let execution = report.and_then(|report| report.execution.as_deref());
    let alarms =
        wave.filter(|_| until.is_some() || cell.tone == Tone::Bad).and_then(|wave| wave.alarms.prefixes().next());
    let mut times = Times::default();
    times.add(cell.runs_since());
    html! {
        li class={ "cell " (color) } {
            div {
                @if let Some(name) = drawing.view.routes.account_name(account) { span.name { (name) } " " }
                code { (account) } " " (region) " " (pipeline)
            }
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
                        ", healthy before: " code { (good.short()) } ", " (since(drawing, &times))
                    }
                } @else {
                    "runs " code { (runs) }
                    @if let Runs::Revision(_) = cell.runs() { ", " (since(drawing, &times)) }
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
