//! The function's answer: the texts that people read in Slack.

pub(crate) mod approval;

use sekisho_domain::access::{Access, ProfileName};
use sekisho_domain::decision::Decisions;
use sekisho_domain::slack;
use sekisho_domain::timestamp;
use sekisho_domain::window::ZoneName;
use sekisho_lambda::Invocation;
use serde::Serialize;
use time::OffsetDateTime;

use crate::names::some;
use crate::outcome::Outcome;
use crate::plan::{Effect, Plan};
use crate::policy::Reading;
use crate::principal::{Kind, Principal};
use crate::revocation::Revocation;
use crate::session::SessionsEnd;
use crate::window::Window;

/// The largest number of characters of a reason that an answer shows. The ledger keeps the whole reason.
const REASON_SHOWN: usize = 100;

/// What to do so that a role's session shows the second factor. AWS does not pass on a code that was given to
/// `AssumeRole`.
const MFA_OF_A_ROLE: &str = "It works only in sessions that show MFA: call sts get-session-token with the MFA code, \
                             and assume the role with these keys. A code given to assume-role does not count, and \
                             neither does one of a sign-in through SAML or Identity Center.";

/// The largest number of characters of an answer. Slack shows a text completely only if it has fewer than 1,000.
const LONGEST: usize = 999;

/// A text for a person, or decisions for the schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// Text that Slack shows unchanged.
    Text(String),
    /// The JSON object `{"decisions": […]}`.
    Decisions(Decisions<Outcome>),
}

/// What IAM shows after a grant was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Confirmation {
    /// IAM shows the policy, with this window.
    Confirmed(Window),
    /// IAM has accepted the policy, but still shows the previous state.
    NotYet,
    /// IAM did not answer the read.
    Unknown,
    /// A follow-up enters the access into `sekisho-window`.
    Later,
}

/// Puts a line that people have to read right after the first line, so that [`cut`] never removes it.
pub(crate) fn warn(answer: &mut String, line: &str) {
    answer.insert_str(answer.find('\n').unwrap_or(answer.len()), &format!("\n{line}"));
}

/// The answer to a grant. What may be cut off comes last: the reason, and what follows from the end time.
pub(crate) fn granted(plan: &Plan<'_>, confirmation: Confirmation, reason: Option<&str>) -> String {
    let (principal, profile) = (plan.terms.principal, plan.terms.profile);
    let end = match confirmation {
        Confirmation::Confirmed(window) => window.end,
        Confirmation::NotYet | Confirmation::Unknown | Confirmation::Later => plan.window.end,
    };
    let mut lines = vec![format!("End time is {}", shown(end, plan.terms.zone))];
    lines.push(match plan.effect {
        Effect::Grants => {
            let minutes = plan.minutes;
            let when = if principal.kind() == Kind::Person { "a minute" } else { "some seconds" };
            format!("{principal} has {profile} for {minutes} min; it takes effect everywhere within {when}.")
        }
        Effect::Schedules => {
            let (start, minutes) = (shown(plan.window.start, plan.terms.zone), plan.minutes);
            format!("{principal} will have {profile} for {minutes} min, from {start}. A revoke ends it before that.")
        }
        Effect::Extends { from } => {
            format!("{principal} keeps {profile}, which would have ended at {}.", timestamp::seconds(from))
        }
        Effect::Widens { .. } => format!(
            "{principal} keeps {profile} as it is configured now, which may allow more than the access did before."
        ),
        Effect::Keeps => format!("{principal} already has {profile} until then, and a grant never shortens access."),
    });
    match confirmation {
        Confirmation::Confirmed(_) => {}
        Confirmation::NotYet => {
            lines.push("IAM has accepted the policy, but does not show it yet: wait a minute.".to_owned());
        }
        Confirmation::Unknown => {
            lines.push("IAM has accepted the policy, but could not be asked whether it is in effect.".to_owned());
        }
        Confirmation::Later => lines.push(
            "sekisho-window is busy, so this access begins a little later: the function writes it within three \
             minutes."
                .to_owned(),
        ),
    }
    if plan.terms.needs_mfa_of_a_role() {
        lines.push(MFA_OF_A_ROLE.to_owned());
    }
    if plan.capped {
        lines.push(capped(plan));
    }
    if !plan.remove.is_empty() {
        lines.push("To make room, policies of Sekisho that had ended were removed.".to_owned());
    }
    if let Some(reason) = reason.filter(|reason| !reason.is_empty()) {
        lines.push(format!("Reason: {}", short(reason)));
    }
    lines.join("\n")
}

/// The answer to a dry run of a grant: the plan, and the policy's text.
pub(crate) fn grant_preview(plan: &Plan<'_>) -> String {
    let (principal, profile) = (plan.terms.principal, plan.terms.profile);
    let end = shown(plan.window.end, plan.terms.zone);
    let mut lines = vec![format!("Dry run, nothing is written. End time would be {end}")];
    lines.push(match plan.effect {
        Effect::Grants => format!("{principal} would get {profile} for {} min.", plan.minutes),
        Effect::Schedules => {
            let start = shown(plan.window.start, plan.terms.zone);
            format!("{principal} would get {profile} for {} min, from {start}.", plan.minutes)
        }
        Effect::Extends { from } => {
            format!("It would replace the live policy, which ends at {}.", timestamp::seconds(from))
        }
        Effect::Widens { from } => format!(
            "It would replace the live policy, which ends at {}, with the profile as it is configured now, which may \
             allow more.",
            timestamp::seconds(from)
        ),
        Effect::Keeps if plan.puts => {
            "It would replace the live policy with the profile as it is configured now; the end would stay.".to_owned()
        }
        Effect::Keeps => "The live policy would stay as it is.".to_owned(),
    });
    if plan.terms.needs_approval() && plan.puts {
        lines.push("Somebody else would have to approve this first.".to_owned());
    }
    if plan.capped {
        lines.push(capped(plan));
    }
    if plan.terms.needs_mfa_of_a_role() {
        lines.push(MFA_OF_A_ROLE.to_owned());
    }
    if !plan.remove.is_empty() {
        lines.push(format!("To make room, these ended policies would be removed: {}.", plan.remove.join(", ")));
    }
    lines.push(format!("All inline policies together: {} of {} characters.", plan.size, plan.limit));
    lines.push(format!("{}:", plan.policy));
    let pretty = serde_json::from_str::<serde_json::Value>(&plan.document)
        .and_then(|document| serde_json::to_string_pretty(&document));
    lines.push(pretty.unwrap_or_else(|_| plan.document.clone()));
    lines.join("\n")
}

/// A time in UTC and, if the configuration has a time zone, in the reader's time.
fn shown(at: OffsetDateTime, zone: Option<&ZoneName>) -> String {
    let utc = timestamp::seconds(at);
    match zone.and_then(|zone| Some((zone.local(at)?, zone))) {
        Some((local, zone)) => format!("{utc} ({} {zone})", timestamp::local_minutes(local)),
        None => utc,
    }
}

/// The line that says why a grant ends earlier than requested.
fn capped(plan: &Plan<'_>) -> String {
    format!(
        "That is earlier than requested: grants that follow each other last at most {} min from the first start, {}.",
        plan.terms.longest,
        timestamp::seconds(plan.chain_start)
    )
}

/// The answer to a revoke in which no call to IAM failed. `besides` has the lines of [`revoked_besides`].
pub(crate) fn revoked(principal: &Principal, removed: &[String], besides: &[String]) -> String {
    let mut lines = besides.to_vec();
    if removed.is_empty() {
        lines.insert(0, format!("{principal} had no access that could be ended."));
    } else {
        lines.insert(0, format!("Access of {principal} is ended: {} removed.", some(removed)));
        lines.push("It may take seconds or minutes until this takes effect everywhere.".to_owned());
    }
    lines.join("\n")
}

/// The lines of a revoke's answer about everything but the policies whose access was ended by it, or was to be ended.
/// Access that may remain comes first, because the last lines may be cut off.
pub(crate) fn revoked_besides(revocation: &Revocation, invocation: &Invocation) -> Vec<String> {
    let Revocation { expired, open_ended, held, is_unrecorded, is_owed, sessions, .. } = revocation;
    let mut lines = Vec::new();
    match open_ended.as_slice() {
        [] => {}
        [(policy, why)] => lines.push(format!(
            "Not removed, because Sekisho did not write it ({why}): {policy}. Find out who wrote it, and delete it."
        )),
        // Each policy has a notice of its own, which says why.
        several => {
            let names: Vec<String> = several.iter().map(|(policy, _)| policy.clone()).collect();
            lines.push(format!(
                "Not removed, because Sekisho did not write them: {}. Find out who wrote them, and delete them.",
                some(&names)
            ));
        }
    }
    if !held.is_empty() {
        lines.push(format!(
            "Another request for {} is running, or was cut off: send {{\"action\":\"list\"}} in a minute, and revoke \
             again if it still shows the access.",
            some(held)
        ));
    }
    if *is_owed {
        lines.push("The function tries again every minute.".to_owned());
    }
    if *is_unrecorded {
        lines.push(
            "The ledger does not record this yet: a new grant within two minutes of the ended one may bring \
             back the old end time."
                .to_owned(),
        );
    }
    if revocation.may_begin_later {
        lines.push(
            "The ledger, or a row of it, could not be read or written: if access was to begin later, it still does. \
             Revoke again in a minute; if this happens again, the function's log names the row."
                .to_owned(),
        );
    }
    if let Some(sessions) = sessions {
        lines.push(ended_sessions(sessions, *is_unrecorded, invocation));
        lines.push(
            "This ends no connection that is open already (SSH, databases), no job that runs, and no session in \
             another region."
                .to_owned(),
        );
    }
    for (policy, end) in expired {
        lines.push(format!("{policy} had already ended at {}, and is removed.", timestamp::seconds(*end)));
    }
    lines
}

/// The line about the sessions of Session Manager. A follow-up tries again only if the ledger records the end of
/// access.
fn ended_sessions(sessions: &SessionsEnd, is_unrecorded: bool, invocation: &Invocation) -> String {
    let region = &invocation.region;
    let again = if is_unrecorded { "Revoke again" } else { "The function tries again every minute" };
    match sessions {
        SessionsEnd::Ended(0) => format!("No session of Session Manager was open in {region}."),
        SessionsEnd::Ended(1) => format!("One open session of Session Manager in {region} is ended."),
        SessionsEnd::Ended(count) => format!("{count} open sessions of Session Manager in {region} are ended."),
        SessionsEnd::Failed { ended, why } => format!(
            "Sessions of Session Manager in {region} may still be open ({ended} ended): {}. {again}; end them in \
             the console if it is urgent.",
            slack::shown(why)
        ),
    }
}

/// The answer to a dry run of a revoke.
pub(crate) fn revoke_preview(principal: &Principal, policies: &[(String, Reading)], now: OffsetDateTime) -> String {
    let mut lines = vec!["Dry run, nothing is written.".to_owned()];
    for (policy, reading) in policies {
        lines.push(match reading {
            Reading::Grant(window) if window.is_live(now) => {
                let is_scheduled = if window.is_scheduled(now) { "is scheduled and " } else { "" };
                let end = timestamp::seconds(window.end);
                format!("{principal} would lose {policy}, which {is_scheduled}ends at {end}.")
            }
            Reading::Grant(window) => {
                format!("{policy} has already ended, at {}, and would be removed.", timestamp::seconds(window.end))
            }
            Reading::OpenEnded(why) => {
                format!("{policy} would stay, because Sekisho did not write it ({why}): delete it by hand.")
            }
            Reading::DenyOnly => format!("{policy} would stay, because it only denies."),
        });
    }
    if policies.is_empty() {
        lines.push(format!("{principal} has no policy of Sekisho's."));
    }
    lines.join("\n")
}

/// The beginning of a reason, safe to show in Slack.
fn short(reason: &str) -> String {
    let short: String = reason.chars().take(REASON_SHOWN).collect();
    let more = if short.len() < reason.len() { "…" } else { "" };
    slack::shown(&short) + more
}

/// Cuts an answer that is too long for Slack. The text is already escaped. The first line is never cut, because it has
/// the end time.
pub(crate) fn cut(answer: &mut String) {
    let Some((end, _)) = answer.char_indices().nth(LONGEST - 1) else { return };
    let first = answer.find('\n').unwrap_or(answer.len());
    let mut end = end.max(first);
    // An escape such as `&amp;` is not cut in half.
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

/// One line of a list: who has which profile, until when, and why.
pub(crate) fn listed(
    principal: &Principal,
    profile: &str,
    window: Window,
    reason: Option<&str>,
    now: OffsetDateTime,
    zone: Option<&ZoneName>,
) -> String {
    let (end, left) = (window.end, window.end - now);
    let left = match (left.whole_hours(), left.whole_minutes() % 60) {
        (0, 0) => "less than a minute".to_owned(),
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    };
    let end = shown(end, zone);
    let reason = reason.filter(|reason| !reason.is_empty()).map_or("no reason given".to_owned(), short);
    if window.is_scheduled(now) {
        let start = shown(window.start, zone);
        return format!("{principal}: {profile} from {start} until {end} (scheduled): {reason}");
    }
    format!("{principal}: {profile} until {end} ({left} left): {reason}")
}

/// The help text, short enough for a phone.
pub(crate) fn help(access: &Access, invocation: &Invocation) -> String {
    let profiles: Vec<&str> = access.profiles.keys().map(ProfileName::as_str).collect();
    let profiles = slack::quoted(&profiles.join(", "));
    format!(
        "Payloads for temp-access, after\n\
         @Amazon Q lambda invoke --function-name {}\n\
         --region {} --payload\n\
         {{\"user\":\"NAME\"}} gives access for {} min\n\
         {{\"role\":\"NAME\"}} or {{\"person\":\"E-MAIL\"}} does the same\n\
         {{\"action\":\"revoke\",\"user\":\"NAME\"}}\n\
         {{\"action\":\"list\"}} shows who has access\n\
         {{\"action\":\"pending\"}} shows what waits for approval\n\
         Add to a grant:\n\
         \"minutes\":30 (1 to {})\n\
         \"profile\":\"{}\" (the default; there are {profiles})\n\
         \"reason\":\"why\"\n\
         \"from\":\"2026-12-01T22:00:00+09:00\" starts later\n\
         \"dry_run\":true only shows the policy\n\
         A second grant extends the access. Type straight quotes.\n\
         No answer in a channel? /invite @Amazon Q",
        invocation.function,
        invocation.region,
        access.usual(access.default_profile.as_str()),
        access.longest(access.default_profile.as_str()),
        access.default_profile,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_cut_after_its_first_line_and_between_escapes() {
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
