//! The widget `access`: who has access, what waits for an approval, and what ended today, as HTML.

use maud::{Markup, html};
use sekisho_board::{Tone, Viewer, bar, note, outside, page, tag};
use sekisho_domain::access::Access;
use sekisho_domain::timestamp::epoch_millis;
use time::OffsetDateTime;

use crate::pending::{self, PendingRow};
use crate::principal::Principal;
use crate::row::{GrantRow, State};

/// The most entries of a list.
const MOST_SHOWN: usize = 100;

/// The documentation of the widget.
pub(crate) const DOCUMENTATION: &str = "\
# Sekisho: access

Shows who has access, with which profile, until when and why; the requests that wait for an approval; and the access that
ended today.

| parameter | meaning |
| --- | --- |
| `widget` | `access`; may be left out |

```yaml
widget: access
```

The widget shows what the ledger records. `{\"action\":\"list\"}` also asks IAM, and names policies that the ledger does not
know. The widget only reads.
";

/// A grant of the ledger.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) principal: Principal,
    pub(crate) profile: String,
    pub(crate) row: GrantRow,
}

/// What the ledger has about access.
#[derive(Debug)]
pub(crate) struct Records<'a> {
    pub(crate) grants: Vec<Grant>,
    pub(crate) requests: Vec<PendingRow>,
    /// The number of rows that cannot be read.
    pub(crate) unreadable: usize,
    /// The configuration, which names the doors that may approve; `None` if it cannot be read.
    pub(crate) access: Option<&'a Access>,
}

/// The HTML of the widget.
pub(crate) fn access(viewer: &Viewer, records: &Records<'_>) -> String {
    let now = viewer.now;
    let mut live: Vec<&Grant> = records.grants.iter().filter(|grant| is_live(grant, now)).collect();
    live.sort_by_key(|grant| grant.row.end);
    let (later, live): (Vec<&Grant>, Vec<&Grant>) = live.into_iter().partition(|grant| is_scheduled(grant, now));
    let (sure, unsure): (Vec<&Grant>, Vec<&Grant>) = live.into_iter().partition(|grant| is_sure(grant, now));
    let mut open: Vec<&PendingRow> = records.requests.iter().filter(|row| row.is_open(now)).collect();
    // A review lapses never, so it must not be among what a long list leaves out.
    open.sort_by_key(|row| (row.until.is_some(), row.until, row.asked));
    let mut ended: Vec<&Grant> = records.grants.iter().filter(|grant| ended_today(grant, viewer)).collect();
    ended.sort_by_key(|grant| std::cmp::Reverse(grant.row.over_at()));
    let body = html! {
        @match records.unreadable {
            0 => {}
            count => p.why { (tag(Tone::Odd, "unreadable")) " " (count) " rows of the ledger cannot be read: fix or delete them" }
        }
        @if !sure.is_empty() || unsure.is_empty() {
            (section("Has access now", &sure, "Nobody has access now.", |grant| has_access(viewer, grant)))
        }
        @if !unsure.is_empty() { (section("May have access", &unsure, "", |grant| has_access(viewer, grant))) }
        (section("Waits for somebody", &open, "Nothing waits for an approval.", |row| waits(viewer, row, records.access)))
        @if !later.is_empty() { (section("Gets access later", &later, "", |grant| scheduled(viewer, grant))) }
        (section("Ended today", &ended, "No access ended today.", |grant| over(viewer, grant)))
    };
    page(viewer, &body)
}

/// Whether there is access, or may be: IAM may still allow what a revoke could not delete.
fn is_live(grant: &Grant, now: OffsetDateTime) -> bool {
    grant.row.gives_access(now) || is_unfinished(grant, now)
}

fn is_unfinished(grant: &Grant, now: OffsetDateTime) -> bool {
    grant.row.owes_delete && now < grant.row.end
}

fn is_scheduled(grant: &Grant, now: OffsetDateTime) -> bool {
    grant.row.window().is_scheduled(now)
}

/// Whether the access ended on this day by the viewer's clock.
fn ended_today(grant: &Grant, viewer: &Viewer) -> bool {
    let (over, now) = (grant.row.over_at(), viewer.now);
    let is_over = !is_live(grant, now) && grant.row.state != State::Intent && over <= now;
    is_over && viewer.local(over).date() == now.date()
}

/// Whether there certainly is access. There may be access if a grant or a revoke has not ended, or was cut off.
fn is_sure(grant: &Grant, now: OffsetDateTime) -> bool {
    grant.row.state == State::Granted && !grant.row.awaits_entry && !is_unfinished(grant, now)
}

/// A list with its title, or a sentence if it is empty.
fn section<T>(title: &str, entries: &[T], empty: &str, entry: impl Fn(&T) -> Markup) -> Markup {
    html! {
        section.card {
            h2 { (title) @if !entries.is_empty() { " (" (entries.len()) ")" } }
            @if entries.is_empty() { (note(empty)) }
            ul.cols { @for one in entries.iter().take(MOST_SHOWN) { li.col { (entry(one)) } } }
            @if entries.len() > MOST_SHOWN { p.muted { "… and " (entries.len() - MOST_SHOWN) " more" } }
        }
    }
}

fn heading(grant: &Grant) -> Markup {
    html! { h3 { (grant.principal.kind().as_str()) " " (outside(grant.principal.name())) ": " (outside(&grant.profile)) } }
}

fn has_access(viewer: &Viewer, grant: &Grant) -> Markup {
    let row = &grant.row;
    let window = row.window();
    let (start, end, now) = (epoch_millis(window.start), epoch_millis(window.end), epoch_millis(viewer.now));
    let percent = end.saturating_sub(now).saturating_mul(100) / end.saturating_sub(start).max(1);
    let left = format!("{} left", viewer.left(end));
    html! {
        (heading(grant))
        p {
            @if is_unfinished(grant, viewer.now) {
                (unfinished())
            } @else if row.state == State::Intent && row.is_held(viewer.now) {
                (tag(Tone::Busy, "being granted"))
            } @else if row.state == State::Intent {
                (tag(Tone::Odd, "uncertain"))
            } @else if row.awaits_entry {
                (tag(Tone::Busy, "not in sekisho-window yet"))
            } @else {
                (tag(Tone::Good, &left))
            }
            " until " (viewer.time(window.end)) ", since " (viewer.time(window.start))
        }
        (bar(if percent < 20 { Tone::Wait } else { Tone::Good }, percent))
        @if row.state == State::Intent && !row.is_held(viewer.now) {
            p { "The grant was cut off: " code { "list" } " asks IAM whether it took effect" }
        }
        @if is_unfinished(grant, viewer.now) {
            p {
                "IAM could not delete the policy in time: follow-ups go on, and " code { "list" }
                " asks IAM whether it is gone"
            }
        }
        (reason(row.reason.as_deref()))
        (consent(row))
    }
}

fn unfinished() -> Markup {
    tag(Tone::Bad, "revoke unfinished")
}

fn scheduled(viewer: &Viewer, grant: &Grant) -> Markup {
    let window = grant.row.window();
    html! {
        (heading(grant))
        p {
            @if is_unfinished(grant, viewer.now) { (unfinished()) } @else { (tag(Tone::Idle, "scheduled")) }
            " from " (viewer.time(window.start)) " until " (viewer.time(window.end))
        }
        (reason(grant.row.reason.as_deref()))
        (consent(&grant.row))
    }
}

fn over(viewer: &Viewer, grant: &Grant) -> Markup {
    let was_revoked = grant.row.state == State::Revoked;
    html! {
        (heading(grant))
        p {
            (tag(Tone::Idle, if was_revoked { "revoked" } else { "ended" })) " at " (viewer.time(grant.row.over_at()))
        }
        (reason(grant.row.reason.as_deref()))
        (consent(&grant.row))
    }
}

fn reason(reason: Option<&str>) -> Markup {
    html! {
        @match reason.filter(|reason| !reason.is_empty()) {
            Some(reason) => p { "Why: " (outside(reason)) }
            None => p.muted { "No reason given" }
        }
    }
}

/// Who asked, and who approved.
fn consent(row: &GrantRow) -> Markup {
    let consent = &row.consent;
    html! {
        @if consent.door.is_some() || consent.approved_by.is_some() {
            p.muted {
                @if let Some(door) = &consent.door { "Asked at the door " (outside(door)) }
                @if let Some(door) = &consent.approved_by { ", approved by " (outside(door)) }
                @if consent.break_glass { ", " (tag(Tone::Bad, "break-glass")) }
                @else if consent.approved_by.is_none() { ", no approval needed" }
            }
        }
    }
}

fn waits(viewer: &Viewer, row: &PendingRow, access: Option<&Access>) -> Markup {
    let approvers = access.map(|access| pending::approvers(row, access)).unwrap_or_default();
    html! {
        h3 { (outside(&row.kind)) " " (outside(&row.name)) ": " (outside(row.profile.as_str())) }
        p {
            @match row.until {
                Some(until) => {
                    (tag(Tone::Wait, "waits for approval")) " for " (row.minutes) " min"
                    @if let Some(from) = row.from { " from " (viewer.time(from)) }
                    ", lapses at " (viewer.time(until))
                }
                None => {
                    (tag(Tone::Bad, "break-glass")) " was given for " (row.minutes) " min at " (viewer.time(row.asked))
                    " and waits for a review"
                }
            }
        }
        (reason(row.reason.as_deref()))
        p.muted {
            "Request " code { (row.code.as_str()) } " of " (outside(&row.door))
            @if approvers.is_empty() { "; no door may approve it" } @else {
                @if row.until.is_none() { "; the review may be closed at " } @else { "; may be approved at " }
                @for (index, door) in approvers.iter().enumerate() {
                    @if index > 0 { ", " }
                    (outside(door))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
