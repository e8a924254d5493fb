//! A train as it is drawn for a viewer: the colors of revisions, and the parts that waves and targets share.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};
use sekisho_board::{Console, Tone, Viewer, outside, tag};
use sekisho_domain::change::{Change, Revision};
use sekisho_domain::route::{TargetId, Wave};

use crate::status::{Runs, runs};
use crate::target::TargetRow;
use crate::train::Hold;
use crate::train_text::TrainView;

/// The number of colors for revisions. All older revisions have one color.
const COLORS: usize = 6;

/// One train as it is drawn for a viewer.
pub(super) struct Drawing<'a> {
    pub(super) viewer: &'a Viewer,
    pub(super) console: Console<'a>,
    pub(super) view: &'a TrainView<'a>,
    /// The color of each revision, the newest revision first.
    colors: BTreeMap<&'a Revision, usize>,
}

impl<'a> Drawing<'a> {
    pub(super) fn new(viewer: &'a Viewer, console: Console<'a>, view: &'a TrainView<'a>) -> Self {
        Self { viewer, console, view, colors: colors(view) }
    }

    /// The row of a target; `None` if it cannot be read.
    pub(super) fn row(&self, id: &TargetId) -> Option<&'a TargetRow> {
        self.view.targets.read.get(id).map(|one| &one.row)
    }

    /// Whether a hold keeps the change from the wave.
    pub(super) fn is_held(&self, wave: &Wave, change: &Change) -> bool {
        self.view.row.hold_on(&wave.name, &change.source_ref, self.view.now).is_some()
    }

    /// A change, as a link to its commit or image.
    pub(super) fn change(&self, change: &Change) -> Markup {
        let address = self.console.change(change);
        html! { span class={ "rev " (self.color(&change.revision)) } {
            a href=(address) { code { (change.revision.short()) } }
        } }
    }

    /// The class with the color of a revision.
    pub(super) fn color(&self, revision: &Revision) -> &'static str {
        match self.colors.get(revision) {
            Some(0) => "r0",
            Some(1) => "r1",
            Some(2) => "r2",
            Some(3) => "r3",
            Some(4) => "r4",
            Some(5) => "r5",
            _ => "rx",
        }
    }

    pub(super) fn hold(&self, hold: &Hold) -> Markup {
        html! {
            (tag(Tone::Wait, "held"))
            @if let Some(source_ref) = &hold.source_ref { " for " (outside(source_ref.name())) }
            @match hold.until {
                Some(until) => { " until " (self.viewer.millis(until)) " (" (self.viewer.left(until)) " left)" }
                None => { " until somebody resumes it" }
            }
            @if let Some(by) = &hold.by { ", by " (outside(by)) }
            ", since " (self.viewer.millis(hold.since)) ": " (outside(&hold.reason))
        }
    }
}

/// The colors of the revisions that run or are ordered, the newest one first.
fn colors<'a>(view: &'a TrainView<'a>) -> BTreeMap<&'a Revision, usize> {
    let mut sequences: BTreeMap<&Revision, u64> = BTreeMap::new();
    let mut add = |revision: &'a Revision, sequence: u64| {
        let known = sequences.entry(revision).or_default();
        *known = sequence.max(*known);
    };
    let passages = view.row.waves.iter().filter_map(|wave| wave.passage.as_ref());
    let entered: BTreeSet<u64> = passages.map(|passage| passage.seen).collect();
    let newest = view.row.newest().map(|one| one.seen);
    for one in view.row.changes.iter().filter(|one| entered.contains(&one.seen) || newest == Some(one.seen)) {
        add(&one.change.revision, one.seen);
    }
    for row in view.targets.read.values().map(|one| &one.row) {
        if let Some(order) = &row.order {
            add(&order.change.revision, order.change.sequence);
        }
        for change in row.healthy.values() {
            add(&change.revision, change.sequence);
        }
        if let Some(Runs::Revision(revision) | Runs::Unsure(Some(revision))) = row.report.as_ref().map(runs) {
            add(revision, 0);
        }
    }
    let mut newest_first: Vec<(&Revision, u64)> = sequences.into_iter().collect();
    newest_first.sort_by_key(|(_, sequence)| std::cmp::Reverse(*sequence));
    newest_first.into_iter().take(COLORS).enumerate().map(|(color, (revision, _))| (revision, color)).collect()
}
