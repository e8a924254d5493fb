//! The texts about requests that wait for an approval, and about reviews.

use sekisho_domain::access::Access;
use sekisho_domain::timestamp;
use sekisho_domain::window::ZoneName;

use super::{short, shown};
use crate::door::Door;
use crate::names::some;
use crate::pending::{self, PendingRow, Stage};

/// The answer to a request that waits for an approval.
pub(crate) fn waiting(row: &PendingRow, access: &Access) -> String {
    let until = row.until.map_or_else(String::new, |until| shown(until, access.time_zone.as_ref()));
    let mut lines = vec![format!("Request {} waits for approval until {until}", row.code)];
    lines.push(format!("{} {} would get {} for {}.", row.kind, row.name, row.profile, pending::length(row)));
    lines.push(format!("To withdraw it: {{\"decline\":\"{}\"}}", row.code));
    lines.push(format!("{}.", approvers(row, access, some)));
    lines.extend(row.reason.as_deref().map(|reason| format!("Reason: {}", short(reason))));
    lines.join("\n")
}

/// The doors that may approve a request, as a sentence without its end. `list` writes their names.
pub(crate) fn approvers(row: &PendingRow, access: &Access, list: impl FnOnce(&[String]) -> String) -> String {
    let doors = pending::approvers(row, access);
    match doors.as_slice() {
        [] => "Nobody may approve it: see `may_approve` in the configuration".to_owned(),
        doors => format!("It may be approved through {}", list(doors)),
    }
}

/// What an approval adds to the answer of its grant, after the first line.
pub(crate) fn approved(row: &PendingRow, minutes: Option<u64>, approving: &Door) -> String {
    let mut text = format!("Asked for at the door {}, approved at the door {approving} ({}).", row.door, row.code);
    if minutes.is_some_and(|minutes| minutes < row.minutes.get().into()) {
        let (minutes, profile) = (row.minutes, &row.profile);
        let fell =
            format!("\nThat is less than the {minutes} min that were requested: `max_minutes` of {profile} fell.");
        text.push_str(&fell);
    }
    text
}

/// The answer to a decline.
pub(crate) fn declined(row: &PendingRow, is_own: bool) -> String {
    let what = if is_own { "withdrawn" } else { "declined" };
    format!("Request {} is {what}: {} {} does not get {}.", row.code, row.kind, row.name, row.profile)
}

/// The answer to the approval that closes a review.
pub(crate) fn closed(row: &PendingRow, closing: &Door) -> String {
    format!(
        "The review {} is closed at the door {closing}: {} {} was given {} through the door {} at {}.",
        row.code,
        row.kind,
        row.name,
        row.profile,
        row.door,
        timestamp::seconds(row.asked)
    )
}

/// What a break-glass grant adds to its answer, after the first line.
pub(crate) fn review(row: &PendingRow) -> String {
    format!(
        "Break-glass: everybody is notified. The review {} stays open until another door closes it with \
         {{\"approve\":\"{}\"}}",
        row.code, row.code
    )
}

/// One line of the list of requests and reviews.
pub(crate) fn listed(row: &PendingRow, zone: Option<&ZoneName>) -> String {
    let reason = row.reason.as_deref().map_or("no reason given".to_owned(), short);
    let PendingRow { code, kind, name, profile, door, .. } = row;
    let length = pending::length(row);
    match (row.stage, row.until) {
        (Stage::Review, _) | (_, None) => format!(
            "{code}: review of break-glass: {kind} {name} was given {profile} for {length} through {door} at {}: \
             {reason}",
            shown(row.asked, zone)
        ),
        (_, Some(until)) => {
            let until = shown(until, zone);
            format!(
                "{code}: {kind} {name}: {profile} for {length}, asked for through {door}, lapses at {until}: {reason}"
            )
        }
    }
}

/// What a revoke adds to its answer about requests.
pub(crate) fn withdrawn(rows: &[PendingRow], is_incomplete: bool) -> Vec<String> {
    let mut lines = Vec::new();
    if is_incomplete {
        lines.push(
            "Requests that wait for an approval may remain: see {\"action\":\"pending\"}, and decline them.".to_owned(),
        );
    }
    if !rows.is_empty() {
        let codes: Vec<String> = rows.iter().map(|row| row.code.to_string()).collect();
        lines.push(format!("Withdrawn, because it waited for an approval: {}.", some(&codes)));
    }
    lines
}
