//! What the function answers.

use sekisho_domain::access::Access;
use sekisho_domain::decision::Decisions;
use sekisho_domain::timestamp;
use serde::Serialize;
use time::OffsetDateTime;

use crate::grant::{self, Asked, Effect, Plan};
use crate::window::Window;
use sekisho_domain::slack;

/// How much of a reason an answer repeats, in characters: the ledger has it whole.
const REASON_SHOWN: usize = 100;

/// An answer has fewer characters than 1,000, so that Slack shows it whole.
const LONGEST: usize = 999;

/// Text for a person, decisions for a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// Shown in Slack as it is.
    Text(String),
    /// `{"decisions": […]}`.
    Decisions(Decisions<Outcome>),
}

/// What an invocation came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Access was given.
    Granted,
    /// Access ends later than before.
    Extended,
    /// Access is as it was.
    Unchanged,
    /// Access was ended.
    Revoked,
    /// It was only asked what would happen.
    Previewed,
    /// It was asked who has access.
    Listed,
    /// It was asked what to type.
    Helped,
    /// A policy that had ended was removed.
    Swept,
    /// A sweep found nothing to do.
    Idle,
    /// A policy has our name and no end: somebody has to look at it.
    OpenEnded,
    /// The request was not granted; nothing changed.
    Refused,
    /// It could not be done, or it is not known whether it was.
    Failed,
}

/// What IAM shows after a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// The policy, with this window.
    Window(Window),
    /// Something older, or nothing, though the policy has been accepted.
    NotYet,
    /// IAM did not answer when it was asked.
    Unknown,
}

/// The answer to a grant.
#[must_use]
pub fn granted(asked: &Asked<'_>, plan: &Plan, shown: Shown, reason: Option<&str>) -> String {
    let (principal, profile) = (asked.principal, asked.profile);
    let end = match shown {
        Shown::Window(window) => window.end,
        Shown::NotYet | Shown::Unknown => plan.window.end,
    };
    let mut lines = vec![format!("End time is {}", timestamp::seconds(end))];
    lines.push(match plan.effect {
        Effect::Grants => {
            format!("{principal} has {profile} for {} min; IAM takes some seconds to spread it.", asked.minutes)
        }
        Effect::Extends(from) => format!("{principal} keeps {profile}; before it was {}.", timestamp::seconds(from)),
        Effect::Keeps => format!("{principal} has {profile} until then already, and a grant never shortens it."),
    });
    if plan.capped {
        lines.push(grant::capped(asked, plan));
    }
    match shown {
        Shown::Window(_) => {}
        Shown::NotYet => lines.push("IAM has accepted it, but does not show it yet: give it a minute.".to_owned()),
        Shown::Unknown => lines.push("IAM has accepted it, but could not be asked whether it shows.".to_owned()),
    }
    if !plan.remove.is_empty() {
        lines.push("To make room, policies of ours that had ended were removed.".to_owned());
    }
    if let Some(reason) = reason.filter(|reason| !reason.is_empty()) {
        lines.push(format!("Reason: {}", short(reason)));
    }
    lines.join("\n")
}

/// A reason, short enough for an answer.
#[must_use]
pub fn short(reason: &str) -> String {
    let short: String = reason.chars().take(REASON_SHOWN).collect();
    let more = if short.len() < reason.len() { "…" } else { "" };
    slack::shown(&short) + more
}

/// Cuts an answer where it is too long for Slack, after escaping and behind its first line, which says the end.
pub fn cut(answer: &mut String) {
    let Some((end, _)) = answer.char_indices().nth(LONGEST - 1) else { return };
    let first = answer.find('\n').unwrap_or(answer.len());
    let mut end = end.max(first);
    // Half of an `&amp;` is none.
    if let Some(open) = answer.get(..end).and_then(|kept| kept.rfind('&'))
        && answer.get(open..end).is_some_and(|escape| !escape.contains(';'))
        && open > first
    {
        end = open;
    }
    if end < answer.len() {
        answer.truncate(end);
        answer.push('…');
    }
}

/// One line of a list.
#[must_use]
pub fn listed(subject: &str, profile: &str, end: OffsetDateTime, reason: Option<&str>, now: OffsetDateTime) -> String {
    let left = end - now;
    let left = match (left.whole_hours(), left.whole_minutes() % 60) {
        (0, 0) => "less than a minute".to_owned(),
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    };
    let end = timestamp::seconds(end);
    let reason = reason.filter(|reason| !reason.is_empty()).map_or("no reason given".to_owned(), short);
    format!("{subject}: {profile} until {end} ({left} left): {reason}")
}

/// What to type, for a phone.
#[must_use]
pub fn help(access: &Access) -> String {
    let profiles: Vec<&str> = access.profiles.keys().map(sekisho_domain::access::ProfileName::as_str).collect();
    let profiles = slack::quoted(&profiles.join(", "));
    format!(
        "Payloads for temp-access:\n\
         {{\"user\":\"NAME\"}} lets in for {} min\n\
         {{\"role\":\"NAME\"}} the same for a role\n\
         {{\"action\":\"revoke\",\"user\":\"NAME\"}}\n\
         {{\"action\":\"list\"}} who is in\n\
         Add to a grant:\n\
         \"minutes\":30 (1 to {})\n\
         \"profile\":\"{}\" (the default; there are {profiles})\n\
         \"reason\":\"why\"\n\
         \"dry_run\":true shows the policy only\n\
         Once more extends. Straight quotes, please.",
        access.default_minutes, access.max_minutes, access.default_profile,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_cut_behind_its_first_line_and_between_escapes() {
        let short = "End time is 2026-11-21T23:45:00Z\nfine".to_owned();
        let mut same = short.clone();
        cut(&mut same);
        assert_eq!(same, short);
        for padding in 0..12 {
            let mut long = format!("End time is 2026-11-21T23:45:00Z\n{}{}", "関".repeat(padding), "&amp;".repeat(300));
            cut(&mut long);
            assert!(long.chars().count() < 1_000 && long.ends_with("&amp;…"), "{long}");
            assert!(long.starts_with("End time is 2026-11-21T23:45:00Z\n"));
        }
    }
}
