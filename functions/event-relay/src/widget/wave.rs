//! A wave: its change, what it waits for, and its targets.

use maud::{Markup, html};
use sekisho_board::{Tone, outside, tag};
use sekisho_domain::change::Change;
use sekisho_domain::report::ReportState;
use sekisho_domain::route::{Target, TargetId, Wave};

use super::drawing::Drawing;
use super::target::{Cell, cells};
use crate::target::TargetRow;
use crate::train::{Verdict, WaveRow};
use crate::train_text::{NEVER_OPEN, Wait};
use crate::wave::{Standing, WaveState};

/// The column of a wave.
pub(super) fn column(drawing: &Drawing<'_>, wave: &Wave) -> Markup {
    let ids: Vec<TargetId> = wave.targets.iter().map(Target::id).collect();
    let Some(row) = drawing.view.row.wave(&wave.name) else {
        return html! { section.col { h3 { (outside(&wave.name)) } (tag(Tone::Idle, "no change yet")) } };
    };
    let rows: Vec<(&TargetId, Option<&TargetRow>)> = ids.iter().map(|id| (id, drawing.row(id))).collect();
    let state = drawing.view.observe_rows(row, rows.iter().copied());
    let change = row.passage.as_ref().and_then(|passage| drawing.view.row.change(passage.seen)).map(|one| &one.change);
    let waits = drawing.view.waits(wave, row, &state);
    let is_held = awaited(row, change, &waits).is_some_and(|change| drawing.is_held(wave, change));
    let places = rows.iter().zip(&state.places);
    let targets: Vec<Cell<'_>> =
        places.map(|((id, row), place)| Cell::of_wave(id, *row, place.standing, is_held)).collect();
    let (tone, summary) = summary(row, &targets, &state, !waits.is_empty());
    html! {
        section.col {
            h3 { (outside(&wave.name)) }
            p {
                (tag(tone, summary)) " "
                @if let Some(change) = change {
                    (drawing.change(change)) " " (outside(change.source_ref.name()))
                    @if row.open().is_some_and(|passage| passage.promoted) { " (promoted)" }
                }
            }
            @for wait in &waits { p.why { (self::wait(drawing, *wait)) } }
            @if waits.is_empty() && let Some((before, next)) = coming(drawing, wave, row) {
                p.why { "Gets " (drawing.change(next)) " when it is healthy in " (outside(before)) }
            }
            (cells(drawing, &targets, Some(wave)))
        }
    }
}

/// The change that the targets without an order get next.
fn awaited<'d>(row: &WaveRow, change: Option<&'d Change>, waits: &[Wait<'d>]) -> Option<&'d Change> {
    if row.promotion.is_some() {
        return None;
    }
    match row.open() {
        // No hold stops a promoted change.
        Some(passage) => change.filter(|_| !passage.promoted),
        None => waits.iter().find_map(|wait| if let Wait::Next(next) = wait { Some(*next) } else { None }),
    }
}

/// The state of a wave in a few words.
fn summary(row: &WaveRow, targets: &[Cell<'_>], state: &WaveState, waits: bool) -> (Tone, &'static str) {
    let is_baking = targets.iter().any(|target| target.is(ReportState::Baking));
    let is_deploying = targets.iter().any(|target| target.is(ReportState::Running));
    match row.passage.as_ref().map(|passage| passage.verdict) {
        _ if state.has_unknown() => (Tone::Odd, "needs a person"),
        None if waits => (Tone::Wait, "waiting"),
        None => (Tone::Idle, "no change yet"),
        _ if state.count(Standing::GoingBack) > 0 => (Tone::Bad, "rolling back"),
        Some(Verdict::Failed) => (Tone::Bad, "failed"),
        Some(Verdict::Passed) => (Tone::Good, "healthy"),
        Some(Verdict::Open) if is_baking && !is_deploying => (Tone::Busy, "baking"),
        Some(Verdict::Open) if state.in_flight() > 0 => (Tone::Busy, "deploying"),
        Some(Verdict::Open) => (Tone::Wait, "waiting"),
    }
}

/// The wave before this one, and the change on which it works and which this wave has not seen.
fn coming<'d>(drawing: &'d Drawing<'_>, wave: &Wave, row: &WaveRow) -> Option<(&'d str, &'d Change)> {
    let waves = &drawing.view.row.waves;
    let index = waves.iter().position(|one| one.name == wave.name)?;
    let before = waves.get(index.checked_sub(1)?)?;
    let passage = before.open().filter(|passage| passage.seen > row.newest)?;
    Some((before.name.as_str(), &drawing.view.row.change(passage.seen)?.change))
}

fn wait(drawing: &Drawing<'_>, wait: Wait<'_>) -> Markup {
    match wait {
        Wait::Unknown(count) => html! {
            "Waits for a person: " code { "accept" } " or " code { "rollback" } " of "
            @if count == 1 { "the unknown target" } @else { (count) " unknown targets" }
        },
        Wait::GoingBack => html! { "Waits for the rollback to end" },
        Wait::Promoted(change) => html! {
            @if let Some(change) = change { (drawing.change(change)) }
            " was promoted and enters next"
        },
        Wait::Hold(hold) => drawing.hold(hold),
        Wait::Next(change) => html! { "Next is " (drawing.change(change)) " " (outside(change.source_ref.name())) },
        Wait::Closed(Some(opens)) => html! {
            (tag(Tone::Wait, "closed")) " until its window opens at " (drawing.viewer.time(opens))
        },
        Wait::Closed(None) => html! { (tag(Tone::Odd, "closed")) " " (NEVER_OPEN) },
    }
}
