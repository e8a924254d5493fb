//! The widget `pipelines`: the order of each pipeline, what runs there, and what is waiting, as HTML.

use maud::{Markup, html};
use sekisho_board::{Console, Tone, Viewer, note, outside, page, tag};
use sekisho_domain::account::Region;
use sekisho_domain::change::Change;
use sekisho_domain::order::OrderKind;
use sekisho_domain::report::ReportState;

use crate::order::{OrderRow, Progress, Wait};

/// The most pipelines that the widget shows.
const MOST_SHOWN: usize = 200;

/// The documentation of the widget.
pub(crate) const DOCUMENTATION: &str = "\
# Sekisho: pipelines

Shows the newest order of each pipeline of this account and region: its revision, its execution, the revision that was
healthy last, and what the order waits for.

| parameter | meaning |
| --- | --- |
| `widget` | `pipelines`; may be left out |

```yaml
widget: pipelines
```

The widget only reads.
";

/// A pipeline with its newest order.
#[derive(Debug)]
pub(crate) struct Pipeline {
    /// The pipeline's name.
    pub(crate) name: String,
    pub(crate) order: Order,
}

/// The row of a pipeline's order.
#[derive(Debug)]
pub(crate) enum Order {
    /// No order arrived yet.
    None,
    /// The row cannot be read.
    Unreadable,
    /// The row.
    Row(Box<OrderRow>),
}

/// The HTML of the widget.
pub(crate) fn pipelines(viewer: &Viewer, partition: &str, region: &Region, pipelines: &[Pipeline]) -> String {
    let drawing = Drawing { viewer, console: Console { partition }, region };
    let mut sorted: Vec<&Pipeline> = pipelines.iter().collect();
    sorted.sort_by_key(|pipeline| (urgency(&pipeline.order), pipeline.name.as_str()));
    let body = html! {
        @if sorted.is_empty() { (note("No route leads to a pipeline of this account and region.")) }
        ul.cols { @for pipeline in sorted.iter().take(MOST_SHOWN) { li.col { (drawing.pipeline(pipeline)) } } }
        @if sorted.len() > MOST_SHOWN { p.muted { "… and " (sorted.len() - MOST_SHOWN) " more pipelines" } }
    };
    page(viewer, &body)
}

/// The pipelines that need attention come first.
fn urgency(order: &Order) -> u8 {
    let Order::Row(row) = order else { return if matches!(order, Order::Unreadable) { 0 } else { 4 } };
    match state(row).0 {
        Tone::Bad | Tone::Odd => 0,
        Tone::Wait => 1,
        Tone::Busy => 2,
        Tone::Good | Tone::Idle => 3,
    }
}

/// The state of an order, with its tone.
fn state(row: &OrderRow) -> (Tone, &'static str) {
    match &row.progress {
        Progress::Ended(ReportState::Healthy) if row.kind == OrderKind::Rollback => (Tone::Bad, "rolled back"),
        Progress::Ended(state) => (of_report(*state), state.as_str()),
        _ if row.way_back.is_some() => (Tone::Bad, "rolling back"),
        Progress::Claimed(_) => (Tone::Busy, "starting"),
        Progress::Waiting(_) => (Tone::Wait, "waiting"),
        Progress::Running { .. } if row.is_baking() => (Tone::Busy, "baking"),
        Progress::Running { .. } => (Tone::Busy, "deploying"),
    }
}

fn of_report(state: ReportState) -> Tone {
    match state {
        ReportState::Healthy => Tone::Good,
        ReportState::Running | ReportState::Baking => Tone::Busy,
        ReportState::Waiting => Tone::Wait,
        ReportState::Failed | ReportState::Refused | ReportState::RollingBack | ReportState::RolledBack => Tone::Bad,
        ReportState::Unknown => Tone::Odd,
    }
}

/// A page as it is drawn for a viewer.
struct Drawing<'a> {
    viewer: &'a Viewer,
    console: Console<'a>,
    region: &'a Region,
}

impl Drawing<'_> {
    fn pipeline(&self, pipeline: &Pipeline) -> Markup {
        let name = pipeline.name.as_str();
        html! {
            h3 { a href=(self.console.execution(self.region.as_str(), name, None)) { (outside(name)) } }
            @match &pipeline.order {
                Order::None => { p { (tag(Tone::Idle, "no order yet")) } }
                Order::Unreadable => {
                    p.why { (tag(Tone::Odd, "unreadable")) " The ledger's row of this pipeline: fix or delete it" }
                }
                Order::Row(row) => { (self.order(name, row)) }
            }
        }
    }

    fn order(&self, pipeline: &str, row: &OrderRow) -> Markup {
        let (tone, state) = state(row);
        let report = row.report.as_ref().map(|last| &last.report);
        html! {
            p {
                (tag(tone, state))
                @if let Some(report) = report { " for " (self.viewer.age(report.at.millis())) }
                @if let Some(window) = row.window().filter(|_| row.is_baking()) {
                    ", " (self.viewer.left(window.until)) " left (until " (self.viewer.millis(window.until)) ")"
                }
            }
            p {
                @match (row.kind, &row.progress) {
                    (OrderKind::Rollback, Progress::Ended(_)) => "Went back to ",
                    (OrderKind::Rollback, _) => "Goes back to ",
                    _ => "Ordered: ",
                }
                (self.change(&row.change))
                @if row.promoted { " (promoted)" }
            }
            @if let Some(way_back) = &row.way_back { p { "From " (self.change(&way_back.change)) } }
            @if let Some(execution) = &row.execution {
                p { a href=(self.console.execution(self.region.as_str(), pipeline, Some(execution))) { "Execution " (outside(execution)) } }
            }
            (self.runs(row))
            (self.why(row, tone))
        }
    }

    /// What runs, and since when. A target that is not sure shows what was healthy last.
    fn runs(&self, row: &OrderRow) -> Markup {
        let is_sure = match &row.progress {
            Progress::Ended(state) => !matches!(state, ReportState::Failed | ReportState::Unknown),
            _ => row.kind == OrderKind::Deploy,
        };
        html! {
            @if row.is_baking() {
                p { "Runs " code { (row.change.revision.short()) } ", " (self.since(row.runs_since(ReportState::Baking))) }
            }
            p {
                @match &row.good {
                    Some(good) => {
                        @if row.is_baking() { "Before: " } @else if is_sure { "Runs " } @else { "Healthy last: " }
                        code { (good.short()) }
                        @if let Some(source_ref) = &row.good_ref { " " (outside(source_ref.name())) }
                        ", " (self.since(row.good_since))
                    }
                    None => "Nothing was healthy yet"
                }
            }
        }
    }

    fn since(&self, at: Option<u64>) -> Markup {
        html! {
            @match at {
                Some(at) => { "since " (self.viewer.millis(at)) " (" (self.viewer.age(at)) ")" }
                None => "since unknown"
            }
        }
    }

    /// Why the order has its state, unless all is well.
    fn why(&self, row: &OrderRow, tone: Tone) -> Markup {
        let reason = row.reason();
        html! {
            @if tone != Tone::Good && !reason.is_empty() { p.why { (outside(reason)) } }
            @if let Progress::Waiting(Wait { next, .. }) = &row.progress {
                p.muted { "Next attempt at " (self.viewer.millis(*next)) }
            }
            @if row.report.as_ref().is_some_and(|last| !last.is_sent) {
                p.muted { "event-relay has not accepted the last report yet" }
            }
        }
    }

    fn change(&self, change: &Change) -> Markup {
        html! {
            a href=(self.console.change(change)) { code { (change.revision.short()) } }
            " " (outside(change.source_ref.name())) " of " (outside(change.repository.name()))
        }
    }
}

#[cfg(test)]
mod tests;
