//! The widget `artifacts`: the compliant share of each bucket, the progress of its sweeps, and the open findings, as HTML.

use std::collections::BTreeMap;
use std::time::Duration;

use maud::{Markup, html};
use sekisho_board::{Tone, Viewer, bar, note, outside, page, tag};
use sekisho_domain::code::Code;
use sekisho_domain::timestamp::{epoch_millis, parse_seconds, span};

use crate::finding::{FindingRow, FindingState};
use crate::outcome::Outcome;
use crate::request::SweepMode;
use crate::sweep_row::SweepRow;

/// The most findings of which the widget shows more than their number.
const MOST_SHOWN: usize = 30;

/// The documentation of the widget.
pub(crate) const DOCUMENTATION: &str = "\
# Sekisho: artifacts

Shows, for each artifact bucket, the share of compliant objects and the progress of its sweeps; and the open findings by
verdict, with their age.

| parameter | meaning |
| --- | --- |
| `widget` | `artifacts`; may be left out |

```yaml
widget: artifacts
```

The widget shows the stack's own bucket, those under `[artifacts.buckets]`, and those with a finding. It only reads.
";

/// A bucket, and what the ledger has about its sweeps.
#[derive(Debug)]
pub(crate) struct Bucket {
    pub(crate) name: String,
    /// The last sweep in the ordinary mode, and the sweeps of other modes that are under way, with what their open ranges
    /// have found.
    pub(crate) sweeps: Vec<SweepRow>,
    /// The number of objects at the end of the last finished sweep; `None` before that.
    pub(crate) objects: Option<u64>,
}

/// What the ledger has about artifacts.
#[derive(Debug)]
pub(crate) struct Records {
    pub(crate) buckets: Vec<Bucket>,
    pub(crate) findings: Vec<(Code, FindingRow)>,
    /// The number of rows that cannot be read.
    pub(crate) unreadable: usize,
}

/// The HTML of the widget.
pub(crate) fn artifacts(viewer: &Viewer, records: &Records) -> String {
    let is_open = |row: &FindingRow| matches!(row.state, FindingState::New | FindingState::Open);
    let mut open: Vec<&(Code, FindingRow)> = records.findings.iter().filter(|(_, row)| is_open(row)).collect();
    open.sort_by(|(one, of), (other, to)| (&of.since, one).cmp(&(&to.since, other)));
    let accepted = records.findings.iter().filter(|(_, row)| row.state == FindingState::Accepted).count();
    let body = html! {
        @if records.unreadable > 0 {
            p.why {
                (tag(Tone::Odd, "unreadable")) " " (records.unreadable)
                " rows of the ledger cannot be read: fix or delete them"
            }
        }
        section.card {
            h2 { "Buckets" }
            ul.cols { @for bucket in &records.buckets { li.col { (self::bucket(viewer, bucket)) } } }
        }
        section.card {
            h2 { "Open findings" @if !open.is_empty() { " (" (open.len()) ")" } }
            @if open.is_empty() { (note("There are no open findings.")) }
            (verdicts(viewer, &open))
            ul.cols { @for (code, row) in open.iter().take(MOST_SHOWN) { li.col { (finding(viewer, code, row)) } } }
            @if open.len() > MOST_SHOWN { p.muted { "… and " (open.len() - MOST_SHOWN) " more" } }
            @if accepted > 0 {
                p.muted {
                    (accepted) @if accepted == 1 { " accepted finding is" } @else { " accepted findings are" } " not shown"
                }
            }
        }
    };
    page(viewer, &body)
}

fn bucket(viewer: &Viewer, bucket: &Bucket) -> Markup {
    let last = bucket.sweeps.iter().find(|sweep| sweep.mode() == SweepMode::ORDINARY);
    html! {
        h3 { (outside(&bucket.name)) }
        @match last {
            None => p { (tag(Tone::Idle, "never swept")) }
            Some(sweep) => { (share(sweep)) }
        }
        @for sweep in &bucket.sweeps { (progress(viewer, bucket, sweep)) }
    }
}

/// The share of the objects that are compliant, of those that a sweep has checked.
fn share(sweep: &SweepRow) -> Markup {
    let count = |outcome| sweep.totals.outcomes.get(&outcome).copied().unwrap_or(0);
    let checked = sweep.totals.objects.saturating_sub(count(Outcome::Gone));
    let compliant = count(Outcome::Compliant) + count(Outcome::Repaired);
    if checked == 0 {
        return html! { p { "No object was checked." } };
    }
    let (tone, percent) = (if compliant < checked { Tone::Bad } else { Tone::Good }, compliant * 100 / checked);
    html! {
        p { (tag(tone, &format!("{percent}% compliant"))) " " (compliant) " of " (checked) " checked objects" }
        (bar(Tone::Good, percent))
        @if sweep.totals.unchanged > 0 { p.muted { (sweep.totals.unchanged) " others were not written since the last sweep" } }
    }
}

fn progress(viewer: &Viewer, bucket: &Bucket, sweep: &SweepRow) -> Markup {
    let started = parse_seconds(&sweep.started).map(epoch_millis).unwrap_or_default();
    let done = sweep.totals.objects + sweep.totals.unchanged;
    // The number of the latest versions says nothing about all versions.
    let expected = bucket.objects.filter(|_| !sweep.versions).or(sweep.expected);
    let name = match (sweep.dry_run, sweep.versions) {
        (false, false) => "sweep runs",
        (false, true) => "sweep of all versions runs",
        (true, false) => "dry run",
        (true, true) => "dry run of all versions",
    };
    if sweep.complete {
        return html! { p.muted { "Swept " (viewer.age(started)) " ago" } };
    }
    html! {
        p {
            (tag(Tone::Busy, name)) " since " (viewer.millis(started)) ": " (done)
            @if let Some(objects) = expected { " of about " (objects.max(done)) }
            @if sweep.versions { " versions" } @else { " objects" }
            @match left(viewer, started, done, expected) {
                Some(left) => { ", about " (span(left)) " left" }
                None => { ", the end is not known yet" }
            }
        }
        @if let Some(objects) = expected.filter(|objects| *objects > 0) {
            (bar(Tone::Busy, done.min(objects) * 100 / objects))
        }
    }
}

/// The time that a sweep still takes at its speed so far, if the bucket has as many objects as after the last one.
fn left(viewer: &Viewer, started: u64, done: u64, objects: Option<u64>) -> Option<Duration> {
    let rest = objects?.saturating_sub(done);
    let elapsed = epoch_millis(viewer.now).saturating_sub(started);
    let left = u128::from(elapsed) * u128::from(rest) / u128::from(done).max(1);
    (done > 0).then(|| Duration::from_millis(u64::try_from(left).unwrap_or(u64::MAX)))
}

/// How many open findings each verdict has, with the age of the oldest one.
fn verdicts(viewer: &Viewer, open: &[&(Code, FindingRow)]) -> Markup {
    let mut verdicts: BTreeMap<Outcome, (usize, &str)> = BTreeMap::new();
    for (_, row) in open {
        // The findings are sorted by their age.
        verdicts.entry(row.verdict).or_insert((0, &row.since)).0 += 1;
    }
    html! {
        ul {
            @for (verdict, (count, oldest)) in &verdicts {
                li { (tag(Tone::Bad, &format!("{count} {}", verdict.name()))) " for up to " (age(viewer, oldest)) }
            }
        }
    }
}

fn finding(viewer: &Viewer, code: &Code, row: &FindingRow) -> Markup {
    html! {
        h3 { (tag(Tone::Bad, row.verdict.name())) " for " (age(viewer, &row.since)) }
        p {
            @if let Some(bucket) = &row.bucket { (outside(bucket)) }
            @if let Some(key) = &row.key { " / " (outside(key)) }
            @if let Some(pipeline) = &row.pipeline { " pipeline " (outside(pipeline)) }
        }
        p { (outside(&row.reason)) }
        p.muted { "Finding " code { (code.as_str()) } }
    }
}

fn age(viewer: &Viewer, since: &str) -> String {
    parse_seconds(since).map_or_else(|| "an unknown time".to_owned(), |since| viewer.age(epoch_millis(since)))
}

#[cfg(test)]
mod tests;
