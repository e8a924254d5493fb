//! What a request for access comes to: pure, from the facts to a plan.

use sekisho_domain::access::{Access, Minutes, Profile, ProfileName};
use sekisho_domain::timestamp;
use time::OffsetDateTime;

use crate::error::Error;
use crate::event::Grant;
use crate::policy::{self, Reading};
use crate::principal::Principal;
use crate::window::{Window, later, reach};
use sekisho_domain::slack;

/// A request, completed and checked by the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked<'a> {
    /// For whom.
    pub principal: &'a Principal,
    /// For how long, at most `longest`.
    pub minutes: Minutes,
    /// The longest chain.
    pub longest: Minutes,
    /// The profile's name.
    pub profile: &'a ProfileName,
    /// What it allows.
    pub allows: &'a Profile,
}

impl<'a> Asked<'a> {
    /// Fills in what the request leaves open. What it names is taken as it is, or refused.
    ///
    /// # Errors
    /// [`Error::Invalid`] or [`Error::TooLong`], with what may be written instead.
    pub fn of(grant: &'a Grant, access: &'a Access) -> Result<Self, Error> {
        let minutes = match grant.minutes {
            None => access.default_minutes,
            Some(asked) => i64::try_from(asked)
                .ok()
                .and_then(|asked| Minutes::try_from(asked).ok())
                .filter(|minutes| *minutes <= access.max_minutes)
                .ok_or(Error::TooLong { most: access.max_minutes })?,
        };
        let name = grant.profile.as_deref().unwrap_or(access.default_profile.as_str());
        let (profile, allows) = access.profiles.iter().find(|(known, _)| known.as_str() == name).ok_or_else(|| {
            let known: Vec<&str> = access.profiles.keys().map(ProfileName::as_str).collect();
            Error::Invalid(format!("`profile` is `{}`: write one of {}", slack::quoted(name), known.join(", ")))
        })?;
        Ok(Self { principal: &grant.principal, minutes, longest: access.max_minutes, profile, allows })
    }

    /// The policy's name.
    #[must_use]
    pub fn policy(&self) -> String {
        policy::name(self.profile)
    }
}

/// An inline policy as IAM shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inline {
    /// Its name.
    pub name: String,
    /// Its text.
    pub document: String,
}

/// What this very Lambda request has come to before: Lambda tries an asynchronous one again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// It is new.
    Nothing,
    /// It was recorded, and perhaps carried out.
    Intended(Window),
    /// It was carried out.
    Done,
}

/// What a grant does to access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Gives it.
    Grants,
    /// Makes it end later than this.
    Extends(OffsetDateTime),
    /// Leaves its end where it is.
    Keeps,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The policy's name.
    pub policy: String,
    /// The window that access has afterwards.
    pub window: Window,
    /// What changes.
    pub effect: Effect,
    /// Whether it would end later, had the chain not been at its longest.
    pub capped: bool,
    /// The text to put; none where what is there stays.
    pub document: Option<String>,
    /// Own policies that have ended and make room.
    pub remove: Vec<String>,
    /// All inline policies together afterwards, as IAM counts.
    pub size: usize,
    /// The most that IAM takes.
    pub limit: usize,
}

/// Plans a grant. `inline` is every inline policy that IAM shows of the principal; `granted` is what the ledger knows to
/// have been granted a moment ago, whether IAM shows it yet or not.
///
/// # Errors
/// Where a policy of that name is not ours, where it does not fit, or where the request has been carried out before and
/// its access is over.
pub fn plan(
    asked: &Asked<'_>,
    inline: &[Inline],
    granted: Option<Window>,
    before: Before,
    now: OffsetDateTime,
) -> Result<Plan, Error> {
    let policy = asked.policy();
    let existing = inline.iter().find(|one| one.name == policy);
    let live = match existing.map(|one| policy::read(&one.document)) {
        Some(reading @ (Reading::Foreign(_) | Reading::Denies)) => {
            let why = if let Reading::Foreign(why) = reading { why } else { "it only denies" };
            return Err(Error::Refused(format!(
                "{} has a policy {policy} that is not Sekisho's ({why}), and it is not replaced: look who wrote it, \
                 and delete it",
                asked.principal
            )));
        }
        Some(Reading::Grant(window)) => Some(window).filter(|window| window.is_live(now)),
        None => None,
    };
    // More than may be granted is not written again, so that only IAM can say that it is there.
    let within = |window: &Window| window.is_live(now) && window.end - window.start <= asked.longest.duration();
    let live = later(live, granted.filter(within));
    let (window, capped) = match (before, live) {
        (Before::Nothing, _) => {
            let reach = reach(now, asked.minutes, asked.longest, live);
            (reach.window, reach.capped)
        }
        (Before::Intended(intended), live) if live.is_some() || intended.is_live(now) => {
            let live = live.unwrap_or(intended);
            let start = live.start.min(intended.start);
            let last = start.saturating_add(asked.longest.duration());
            (Window { start, end: live.end.max(intended.end.min(last)) }, intended.end > last)
        }
        (Before::Done, Some(live)) => (live, false),
        (Before::Intended(_) | Before::Done, _) => {
            return Err(Error::Refused(format!(
                "this very request was carried out before, and the access it gave {} is over: type it again",
                asked.principal
            )));
        }
    };
    let effect = match live {
        None => Effect::Grants,
        Some(live) if live.end < window.end => Effect::Extends(live.end),
        Some(_) => Effect::Keeps,
    };

    let document = policy::document(asked.allows, window);
    let same = existing.is_some_and(|one| same(&one.document, &document));
    // Access that is longer than may be granted is left as it is: it is not ours to shorten here, nor to write again.
    let beyond = window.end - window.start > asked.longest.duration();
    let writes = before != Before::Done && !same && !beyond;

    let limit = asked.principal.kind().policy_limit();
    let others = |one: &&Inline| one.name != policy;
    let own = if writes { policy::size(&document) } else { existing.map_or(0, |one| policy::size(&one.document)) };
    let mut size: usize = own + inline.iter().filter(others).map(|one| policy::size(&one.document)).sum::<usize>();
    let mut remove = Vec::new();
    if writes && size > limit {
        let ended = inline.iter().filter(others).filter(|one| has_ended(one, now));
        for one in ended {
            if size > limit {
                size -= policy::size(&one.document);
                remove.push(one.name.clone());
            }
        }
        if size > limit {
            return Err(Error::TooLarge { principal: asked.principal.clone(), size, limit });
        }
    }
    Ok(Plan { policy, window, effect, capped, document: writes.then_some(document), remove, size, limit })
}

/// Whether it is ours and over.
#[must_use]
pub fn has_ended(inline: &Inline, now: OffsetDateTime) -> bool {
    inline.name.starts_with(policy::PREFIX)
        && matches!(policy::read(&inline.document), Reading::Grant(window) if !window.is_live(now))
}

/// Compared as JSON, since IAM promises to keep the meaning, not the spelling.
fn same(one: &str, other: &str) -> bool {
    let read = |text| serde_json::from_str::<serde_json::Value>(text).ok();
    read(one).is_some_and(|one| Some(one) == read(other))
}

/// What `dry_run` answers.
#[must_use]
pub fn preview(asked: &Asked<'_>, plan: &Plan) -> String {
    let (principal, profile) = (asked.principal, asked.profile);
    let end = timestamp::seconds(plan.window.end);
    let mut lines = vec![format!("Dry run, nothing is written. End time would be {end}")];
    lines.push(match (plan.effect, &plan.document) {
        (Effect::Grants, _) => format!("{principal} would get {profile} for {} min.", asked.minutes),
        (Effect::Extends(from), _) => {
            format!("It would replace the live policy, which ends at {}.", timestamp::seconds(from))
        }
        (Effect::Keeps, Some(_)) => {
            "It would replace the live policy by the profile as it is configured now, with the same end.".to_owned()
        }
        (Effect::Keeps, None) => "The live policy would stay as it is.".to_owned(),
    });
    if plan.capped {
        lines.push(capped(asked, plan));
    }
    if !plan.remove.is_empty() {
        lines.push(format!("To make room, these, which have ended, would go: {}.", plan.remove.join(", ")));
    }
    lines.push(format!("Inline policies together: {} of {} characters.", plan.size, plan.limit));
    lines.push(format!("{}:", plan.policy));
    let document = policy::document(asked.allows, plan.window);
    let pretty =
        serde_json::from_str::<serde_json::Value>(&document).and_then(|value| serde_json::to_string_pretty(&value));
    lines.push(pretty.unwrap_or(document));
    lines.join("\n")
}

/// Why it ends earlier than asked.
#[must_use]
pub fn capped(asked: &Asked<'_>, plan: &Plan) -> String {
    format!(
        "It ends there, not {} min from now: grants that follow each other last at most {} min from the first start, {}.",
        asked.minutes,
        asked.longest,
        timestamp::seconds(plan.window.start)
    )
}
