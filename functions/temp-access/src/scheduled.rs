//! Whether a scheduled grant still fits the configuration: a pure rule.

use sekisho_domain::access::{Access, Approval, DoorName};
use time::OffsetDateTime;

use crate::door::Door;
use crate::policy;
use crate::row::GrantRow;
use crate::window::Window;

/// What a sweep does to a scheduled grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The grant stays as it is.
    Keeps,
    /// The grant ends before it begins. The text completes a sentence about the principal.
    Ends(String),
    /// The grant ends earlier.
    Shortens(OffsetDateTime),
    /// The access that the grant extends goes on until its own end. The text completes a sentence about the principal.
    ExtendsNothing(OffsetDateTime, String),
}

/// A grant that has not begun.
pub(crate) struct Scheduled<'a> {
    pub(crate) profile: &'a str,
    pub(crate) window: Window,
    /// The policy's text, if IAM shows it.
    pub(crate) document: Option<&'a str>,
    /// The end of the live access that the grant extends. `None` if there is none, or if the policy has the extension.
    pub(crate) extended: Option<OffsetDateTime>,
    /// The ledger's row; `None` if the ledger has none.
    pub(crate) row: Option<&'a GrantRow>,
}

/// Compares a scheduled grant with the configuration. Nothing is in use yet, so a difference ends the grant, and people
/// ask again. Of an extension, only what is added ends, because the configuration ends no live access.
pub(crate) fn verdict(scheduled: &Scheduled<'_>, access: &Access) -> Verdict {
    match (compare(scheduled, access), scheduled.extended) {
        (Verdict::Ends(why), Some(end)) => Verdict::ExtendsNothing(end, why),
        (Verdict::Shortens(last), Some(end)) if last <= end => {
            Verdict::ExtendsNothing(end, "`max_minutes` of the profile was lowered".to_owned())
        }
        (verdict, _) => verdict,
    }
}

fn compare(scheduled: &Scheduled<'_>, access: &Access) -> Verdict {
    let ends = |why: &str| Verdict::Ends(why.to_owned());
    let Some((_, profile)) = access.profiles.iter().find(|(name, _)| name.as_str() == scheduled.profile) else {
        return ends("the profile is gone from the configuration");
    };
    let row = scheduled.row;
    let is_changed = match (row.and_then(|row| row.consent.allows.as_deref()), scheduled.document) {
        (Some(allows), _) => allows != policy::fingerprint(profile),
        (None, Some(document)) => !policy::is_same(document, profile, scheduled.window),
        (None, None) => true,
    };
    if is_changed {
        return ends("the profile has changed since the grant was made");
    }
    let approved_by = row.and_then(|row| row.consent.approved_by.as_deref());
    if profile.approval == Approval::Another && approved_by.is_none() {
        return ends("the profile needs an approval by now, and the grant has none");
    }
    let doors = row.and_then(|row| row.consent.door.as_deref()).into_iter().chain(approved_by);
    if let Some(gone) = doors.into_iter().find(|door| is_gone(door, access)) {
        return Verdict::Ends(format!("the door {gone}, which asked for it or approved it, is gone"));
    }
    let chain_start = row.map_or(scheduled.window.start, |row| row.start).min(scheduled.window.start);
    let last = chain_start.saturating_add(access.longest(scheduled.profile).duration());
    if scheduled.window.end <= last {
        Verdict::Keeps
    } else if last <= scheduled.window.start {
        ends("nothing is left of it, because `max_minutes` of the profile was lowered")
    } else {
        Verdict::Shortens(last)
    }
}

fn is_gone(door: &str, access: &Access) -> bool {
    door != Door::Channel.as_str() && !door.parse::<DoorName>().is_ok_and(|name| access.people.contains_key(&name))
}

#[cfg(test)]
mod tests;
