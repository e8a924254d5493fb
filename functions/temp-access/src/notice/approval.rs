//! The notices about requests that wait for an approval, about break-glass grants, and about scheduled grants.

use sekisho_domain::access::Access;
use sekisho_domain::notice::Notice;
use sekisho_domain::timestamp;
use sekisho_lambda::Invocation;

use super::{context, review};
use crate::answer::approval::approvers;
use crate::aws::lambda::HUB;
use crate::door::Door;
use crate::pending::{self, PendingRow};
use crate::principal::Principal;

/// How many characters the names of the doors may have in a notice. Slack shows 7,500, and a reason may take 2,500.
const MOST_OF_DOORS: usize = 4_000;

/// The notice about a request that waits for an approval.
pub(crate) fn waiting(row: &PendingRow, access: &Access, invocation: &Invocation) -> Notice {
    let PendingRow { code, kind, name, profile, door, .. } = row;
    let mut lines = vec![
        format!(
            "{kind} {name} would get access to account {} as {profile} for {}.",
            invocation.account,
            pending::length(row)
        ),
        format!("Asked for at the door {door}."),
        reason(row),
        format!("{}.", approvers(row, access, all_that_fit)),
    ];
    lines.extend(row.until.map(|until| format!("The request lapses at {}.", timestamp::seconds(until))));
    lines.push(format!("To approve it: {{\"approve\":\"{code}\"}}"));
    lines.push(format!("To decline it: {{\"decline\":\"{code}\"}}"));
    if invocation.qualifier.as_deref() == Some(HUB) {
        lines.push(
            "It was asked for in the hub account's channel. There, add \"account\" as in the request.".to_owned(),
        );
    }
    let context = [("access", "pending".to_owned()), ("code", code.to_string())].into();
    Notice { title: format!("Approve {code}? {kind} {name} as {profile}"), lines, context, ..Notice::default() }
}

/// The notice that a request ended without an approval, so that nobody waits for it. `how` says what became of it.
pub(crate) fn ended(row: &PendingRow, how: &str, invocation: &Invocation) -> Notice {
    let PendingRow { code, kind, name, profile, door, .. } = row;
    let lines = vec![
        format!(
            "Request {code} for {kind} {name}, account {}, as {profile} gives no access: {how}.",
            invocation.account
        ),
        format!("Asked for at the door {door}. What was granted before stays."),
        reason(row),
    ];
    Notice { title: format!("Request ended: {kind} {name} as {profile}"), lines, ..Notice::default() }
}

/// The notice that nobody has closed the review of a break-glass grant yet.
pub(crate) fn still_open(row: &PendingRow, invocation: &Invocation) -> Notice {
    let PendingRow { code, kind, name, profile, door, .. } = row;
    let lines = vec![
        format!(
            "{kind} {name} was given access to account {} as {profile} at {}, through the door {door}.",
            invocation.account,
            timestamp::seconds(row.asked)
        ),
        reason(row),
        review(code.as_str()),
    ];
    let context = [
        ("access", "break-glass".to_owned()),
        ("code", code.to_string()),
        ("kind", kind.clone()),
        ("name", name.clone()),
    ];
    Notice {
        title: format!("Break-glass, not reviewed yet: {kind} {name}"),
        lines,
        context: context.into(),
        mentions_channel: true,
        ..Notice::default()
    }
}

/// The notice that the review of a break-glass grant was closed.
pub(crate) fn closed(row: &PendingRow, closing: &Door, invocation: &Invocation) -> Notice {
    let PendingRow { code, kind, name, profile, door, .. } = row;
    let lines = vec![
        format!("The review {code} was closed at the door {closing}."),
        format!(
            "{kind} {name} was given access to account {} as {profile} through the door {door} at {}.",
            invocation.account,
            timestamp::seconds(row.asked)
        ),
        reason(row),
    ];
    Notice { title: format!("Reviewed: break-glass of {kind} {name}"), lines, ..Notice::default() }
}

/// The notice that a scheduled grant was ended before it began.
pub(crate) fn schedule_ended(principal: &Principal, profile: &str, why: &str, invocation: &Invocation) -> Notice {
    Notice {
        title: format!("Ended before its start: access of {principal}"),
        lines: vec![
            format!("{principal} does not get access to account {} as {profile}: {why}.", invocation.account),
            "If it is still needed, ask again.".to_owned(),
        ],
        context: context(principal, "ended", None),
        ..Notice::default()
    }
}

/// The notice that a scheduled grant was shortened before it began.
pub(crate) fn schedule_shortened(
    principal: &Principal,
    profile: &str,
    (start, end): (&str, &str),
    invocation: &Invocation,
) -> Notice {
    Notice {
        title: format!("Shortened before its start: access of {principal}"),
        lines: vec![format!(
            "{principal} will have access to account {} as {profile} from {start} until {end}, which is less than was \
             granted: `max_minutes` of the profile was lowered.",
            invocation.account
        )],
        context: context(principal, "scheduled", None),
        ..Notice::default()
    }
}

/// The notice that access ends as before its extension, which was not entered yet.
pub(crate) fn not_extended(
    principal: &Principal,
    profile: &str,
    end: &str,
    why: &str,
    invocation: &Invocation,
) -> Notice {
    Notice {
        title: format!("Not let in for longer: {principal}"),
        lines: vec![
            format!(
                "{principal} has access to account {} as {profile} until {end}, as before the extension: {why}.",
                invocation.account
            ),
            "If it is needed for longer, ask again.".to_owned(),
        ],
        context: context(principal, "open", None),
        ..Notice::default()
    }
}

/// The names of doors, as many as the notice has room for beside its other lines.
fn all_that_fit(doors: &[String]) -> String {
    let mut room = MOST_OF_DOORS;
    let fits = |door: &&String| {
        room = room.saturating_sub(door.len() + 2);
        room > 0
    };
    let named: Vec<&str> = doors.iter().take_while(fits).map(String::as_str).collect();
    let more =
        if named.len() < doors.len() { format!(" and {} more", doors.len() - named.len()) } else { String::new() };
    named.join(", ") + &more
}

fn reason(row: &PendingRow) -> String {
    row.reason.as_deref().map_or_else(|| "No reason was given.".to_owned(), |reason| format!("Reason: {reason}"))
}
