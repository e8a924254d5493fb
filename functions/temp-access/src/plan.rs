//! Pure functions that make the plan of a request from facts. A dry run shows the plan that a real run would execute.

use sekisho_domain::access::{Access, Approval, Minutes, Profile, ProfileName, ReasonRule};
use sekisho_domain::slack;
use sekisho_domain::timestamp;
use sekisho_domain::window::ZoneName;
use time::{Duration, OffsetDateTime};

use crate::error::Error;
use crate::policy::{self, Reading};
use crate::principal::{Kind, Principal};
use crate::request::Grant;
use crate::window::{FURTHEST_START, Window, later, latest_end, reach};

/// The terms of a grant: the request, completed and checked with the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms<'a> {
    /// The user or role that gets access.
    pub principal: &'a Principal,
    /// How many minutes were requested, at most `longest`.
    pub minutes: Minutes,
    /// When access starts; `None` if it starts at once.
    pub from: Option<OffsetDateTime>,
    /// The longest chain of grants that the configuration allows for the profile.
    pub longest: Minutes,
    /// How long after its end a chain of grants may be continued.
    pub rest: Duration,
    /// The time zone in which the answer shows times, beside UTC.
    pub zone: Option<&'a ZoneName>,
    /// The profile's name.
    pub profile: &'a ProfileName,
    /// The statements and conditions of the profile.
    pub allows: &'a Profile,
}

impl<'a> Terms<'a> {
    /// Completes a request with the configuration's defaults. A value that the request names is used unchanged, or
    /// refused.
    ///
    /// # Errors
    /// [`Error::Invalid`] or [`Error::TooLong`], with the values that are allowed.
    pub fn of(grant: &'a Grant, access: &'a Access) -> Result<Self, Error> {
        let name = grant.profile.as_deref().unwrap_or(access.default_profile.as_str());
        let (profile, allows) = access.profiles.iter().find(|(known, _)| known.as_str() == name).ok_or_else(|| {
            let known: Vec<&str> = access.profiles.keys().map(ProfileName::as_str).collect();
            Error::Invalid(format!("`profile` is `{}`: write one of {}", slack::quoted(name), known.join(", ")))
        })?;
        let longest = access.longest(name);
        let minutes = match grant.minutes {
            None => access.usual(name),
            Some(requested) => i64::try_from(requested)
                .ok()
                .and_then(|requested| Minutes::try_from(requested).ok())
                .filter(|minutes| *minutes <= longest)
                .ok_or(Error::TooLong { most: longest })?,
        };
        let rest = Duration::minutes(i64::from(access.rest_minutes));
        let zone = access.time_zone.as_ref();
        let from = grant.from;
        let terms = Self { principal: &grant.principal, minutes, from, longest, rest, zone, profile, allows };
        if terms.principal.kind() == Kind::Person && (allows.require_mfa || allows.mfa_minutes.is_some()) {
            return Err(Error::Refused(format!(
                "{profile} needs a second factor in the session (`require_mfa` or `mfa_minutes`), and sessions of \
                 Identity Center never show one, because it asks at the sign-in: grant another profile"
            )));
        }
        if grant.reason.is_some() {
            terms.check_reason(grant.reason.as_deref())?;
        }
        Ok(terms)
    }

    /// Checks that the reason is enough for the profile.
    ///
    /// # Errors
    /// [`Error::Invalid`], with what to write.
    pub fn check_reason(&self, reason: Option<&str>) -> Result<(), Error> {
        let rule = &self.allows.require_reason;
        if rule.accepts(reason) {
            return Ok(());
        }
        let problem =
            if reason.is_some_and(|reason| !reason.trim().is_empty()) { "does not match" } else { "is missing" };
        Err(Error::Invalid(match rule {
            ReasonRule::Matching(pattern) => format!(
                "`reason` {problem}: {} needs one that matches {}",
                self.profile,
                slack::quoted(pattern.as_str())
            ),
            ReasonRule::None | ReasonRule::Any => {
                format!("`reason` {problem}: {} needs one, so add \"reason\":\"why\"", self.profile)
            }
        }))
    }

    /// Whether somebody else has to approve the grant.
    #[must_use]
    pub fn needs_approval(&self) -> bool {
        self.allows.approval == Approval::Another
    }

    /// Whether the access works only in sessions of a role that show a second factor.
    #[must_use]
    pub fn needs_mfa_of_a_role(&self) -> bool {
        self.principal.kind() == Kind::Role && (self.allows.require_mfa || self.allows.mfa_minutes.is_some())
    }

    /// The name of the policy that the grant puts.
    #[must_use]
    pub fn policy(&self) -> String {
        policy::name(self.profile)
    }
}

/// An inline policy of the principal, as IAM shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlinePolicy {
    /// The policy's name.
    pub name: String,
    /// The policy's JSON text.
    pub document: String,
}

/// What the ledger records about the grants of the principal and the profile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recorded {
    /// The window of a very recent grant that IAM may not show yet.
    pub granted: Option<Window>,
    /// The last chain of grants, with the time at which it ended or will end.
    pub chain: Option<Window>,
    /// The end of a grant that nothing has ended. A policy with this end is ours, whatever the end is.
    pub end: Option<OffsetDateTime>,
    /// What an earlier attempt of the same request did.
    pub earlier: EarlierAttempt,
}

/// What an earlier attempt of the same Lambda request did. Lambda repeats an asynchronous invocation that failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EarlierAttempt {
    /// There was no earlier attempt.
    #[default]
    None,
    /// An earlier attempt wrote its intent to the ledger, and perhaps put the policy.
    Intended(Window),
    /// An earlier attempt was carried out.
    CarriedOut,
}

/// How a grant changes access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The principal did not have this access before.
    Grants,
    /// The principal does not have this access, and will have it later.
    Schedules,
    /// The access ends later than before.
    Extends {
        /// The end before this grant.
        from: OffsetDateTime,
    },
    /// The policy is written as the profile is configured today, and it is not certain that it allowed as much before.
    Widens {
        /// The end before this grant. The end after this grant is the same, or later.
        from: OffsetDateTime,
    },
    /// The end stays the same, and it is certain that the policy allows no more than before.
    Keeps,
}

impl Effect {
    /// Whether the access is new, now or later.
    #[must_use]
    pub fn is_new(self) -> bool {
        matches!(self, Self::Grants | Self::Schedules)
    }
}

/// What a grant does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan<'a> {
    /// The terms that the plan fulfills.
    pub terms: Terms<'a>,
    /// The name of the policy.
    pub policy: String,
    /// The window of the access after the grant.
    pub window: Window,
    /// The first start of the chain of grants. It is earlier than the window's start if a scheduled grant continues a
    /// chain.
    pub chain_start: OffsetDateTime,
    /// How many minutes the access lasts from now on, or from its start if that is later, rounded up.
    pub minutes: i64,
    /// How access changes.
    pub effect: Effect,
    /// Whether the end is earlier than requested, because the chain has reached its maximum length.
    pub capped: bool,
    /// The policy's text for the window.
    pub document: String,
    /// Whether the grant puts the text. If not, the existing policy stays as it is.
    pub puts: bool,
    /// Policies of ours that have ended and are removed first, to make room.
    pub remove: Vec<String>,
    /// The size of all inline policies together after the grant, as IAM counts it.
    pub size: usize,
    /// The largest size that IAM accepts.
    pub limit: usize,
}

/// Plans a grant.
///
/// `inline` has every inline policy that IAM shows for the principal.
///
/// # Errors
/// If the existing policy is not ours, if the policies do not fit, if the chain of grants has reached its maximum
/// length, or if the request was carried out before and its access is over.
pub fn plan<'a>(
    terms: &Terms<'a>,
    inline: &[InlinePolicy],
    recorded: &Recorded,
    now: OffsetDateTime,
) -> Result<Plan<'a>, Error> {
    let policy = terms.policy();
    let existing = inline.iter().find(|one| one.name == policy);
    let shown = shown_window(terms, &policy, existing, recorded, now)?;
    // Sekisho never writes a window that is longer than the longest chain. If the ledger nevertheless has such a
    // window, the window is ignored. A window that IAM shows is never ignored.
    let within = |window: &Window| window.is_live(now) && window.end - window.start <= terms.longest.duration();
    let live = later(shown.filter(|shown| shown.is_live(now)), recorded.granted.filter(within));
    // The policy of a grant that was scheduled begins with the access. Its chain may have begun earlier.
    let chain_of = |live: Window| recorded.chain.filter(|chain| chain.end == live.end && !live.is_scheduled(now));
    let live =
        live.map(|live| chain_of(live).map_or(live, |chain| Window { start: live.start.min(chain.start), ..live }));
    // An ended policy that is still in IAM counts, too. A chain that should still be live, but is not, ended by a
    // revoke that could not be recorded, or by hand. A chain that was revoked before it began does not count.
    let ended = later(recorded.chain, shown).map(|chain| Window { end: chain.end.min(now), ..chain });
    let start = terms.from.unwrap_or(now);
    let is_resting = |chain: &Window| chain.start <= chain.end && start < chain.end.saturating_add(terms.rest);
    let Placed { window, chain_start, capped } = place(terms, live, ended.filter(is_resting), recorded.earlier, now)?;

    let document = policy::document(terms.allows, window, now);
    let is_same = existing.is_some_and(|one| policy::is_same(&one.document, terms.allows, window));
    // Access that lasts longer than the configuration allows is left as it is: a grant neither shortens it nor writes
    // its policy again.
    let is_beyond = window.end - chain_start > terms.longest.duration();
    let puts = recorded.earlier != EarlierAttempt::CarriedOut && !is_same && !is_beyond;
    let shows_live = shown.is_some_and(|shown| shown.is_live(now));
    let is_wider = puts && shows_live && existing.is_some_and(|one| !policy::covers(&one.document, &document));
    let effect = match live {
        None if window.is_scheduled(now) => Effect::Schedules,
        None => Effect::Grants,
        Some(live) if is_wider => Effect::Widens { from: live.end },
        Some(live) if live.end < window.end => Effect::Extends { from: live.end },
        Some(_) => Effect::Keeps,
    };

    let own = if puts { policy::size(&document) } else { existing.map_or(0, |one| policy::size(&one.document)) };
    let others: Vec<&InlinePolicy> = inline.iter().filter(|one| one.name != policy).collect();
    let mut size: usize = own + others.iter().map(|one| policy::size(&one.document)).sum::<usize>();
    let limit = terms.principal.kind().policy_limit();
    let mut remove = Vec::new();
    if puts {
        for one in others.iter().filter(|one| has_ended(one, now)) {
            if size > limit {
                size -= policy::size(&one.document);
                remove.push(one.name.clone());
            }
        }
        if size > limit {
            return Err(Error::TooLarge { principal: terms.principal.clone(), size, limit });
        }
    }
    let begin = if window.is_scheduled(now) { window.start } else { now.replace_nanosecond(0).unwrap_or(now) };
    let minutes = (window.end - begin).whole_seconds().saturating_add(59) / 60;
    let terms = *terms;
    Ok(Plan { terms, policy, window, chain_start, minutes, effect, capped, document, puts, remove, size, limit })
}

/// The window of the existing policy, which may have ended.
fn shown_window(
    terms: &Terms<'_>,
    policy: &str,
    existing: Option<&InlinePolicy>,
    recorded: &Recorded,
    now: OffsetDateTime,
) -> Result<Option<Window>, Error> {
    let why = match existing.map(|one| policy::read(&one.document)) {
        None => return Ok(None),
        Some(Reading::Grant(window)) if recorded.end == Some(window.end) => return Ok(Some(window)),
        Some(Reading::Grant(window)) if window.end <= latest_end(now, terms.longest) => return Ok(Some(window)),
        Some(Reading::Grant(window)) => format!("it ends only at {}", timestamp::seconds(window.end)),
        Some(Reading::OpenEnded(why)) => why.to_owned(),
        Some(Reading::DenyOnly) => "it has only Deny statements".to_owned(),
    };
    Err(Error::Refused(format!(
        "{} has a policy {policy} that Sekisho did not write ({why}), and a grant does not replace it: find out who \
         wrote it, and delete it",
        terms.principal
    )))
}

/// The window after a grant.
struct Placed {
    window: Window,
    /// The first start of the chain of grants.
    chain_start: OffsetDateTime,
    /// Whether the end of the window is earlier than requested.
    capped: bool,
}

/// Places the window after the grant.
fn place(
    terms: &Terms<'_>,
    live: Option<Window>,
    resting: Option<Window>,
    earlier: EarlierAttempt,
    now: OffsetDateTime,
) -> Result<Placed, Error> {
    let placed = |window: Window, capped| Placed { window, chain_start: window.start, capped };
    match (earlier, live) {
        (EarlierAttempt::None, _) => {
            let start = start(terms, live, now)?;
            let Some(reach) = reach(start, terms.minutes, terms.longest, live, resting) else {
                return Err(Error::ChainOver {
                    principal: terms.principal.clone(),
                    profile: terms.profile.clone(),
                    longest: terms.longest,
                    again: resting.map_or(now, |chain| chain.end.saturating_add(terms.rest)),
                });
            };
            let placed = placed(reach.window, reach.capped);
            // A policy allows every instant of its window, so the window of a later start does not begin earlier.
            let window = Window { start: terms.from.unwrap_or(placed.window.start), ..placed.window };
            Ok(Placed { window, ..placed })
        }
        (EarlierAttempt::Intended(intended), live) if live.is_some() || intended.is_live(now) => {
            let live = live.unwrap_or(intended);
            let start = live.start.min(intended.start);
            let last = start.saturating_add(terms.longest.duration());
            Ok(placed(Window { start, end: live.end.max(intended.end.min(last)) }, intended.end > last))
        }
        (EarlierAttempt::CarriedOut, Some(live)) => Ok(placed(live, false)),
        (EarlierAttempt::Intended(_) | EarlierAttempt::CarriedOut, _) => Err(Error::Refused(format!(
            "this request was already carried out, and the access that it gave to {} is over: send a new request",
            terms.principal
        ))),
    }
}

/// When the access of a new request starts.
///
/// A policy has exactly one window, so a start in the future is possible only if there is no access, and there is no
/// other request beside a scheduled one.
fn start(terms: &Terms<'_>, live: Option<Window>, now: OffsetDateTime) -> Result<OffsetDateTime, Error> {
    let Terms { principal, profile, .. } = terms;
    if let Some(scheduled) = live.filter(|live| live.is_scheduled(now)) {
        let (start, end) = (timestamp::seconds(scheduled.start), timestamp::seconds(scheduled.end));
        return Err(Error::Refused(format!(
            "{profile} for {principal} is scheduled from {start} until {end}: revoke it first. Nothing was granted"
        )));
    }
    let Some(from) = terms.from else { return Ok(now) };
    if let Some(live) = live {
        return Err(Error::Refused(format!(
            "{principal} has {profile} until {}: a start can be set only when that is over, so leave out `from` to \
             extend the access now. Nothing was granted",
            timestamp::seconds(live.end)
        )));
    }
    if from <= now {
        return Err(Error::Invalid("`from` is in the past: leave it out to start now".to_owned()));
    }
    if from > now.saturating_add(FURTHEST_START) {
        return Err(Error::Invalid(format!(
            "`from` is more than {} days ahead: write an earlier time",
            FURTHEST_START.whole_days()
        )));
    }
    Ok(from)
}

/// Whether the policy is a grant of ours that has ended.
#[must_use]
pub fn has_ended(inline: &InlinePolicy, now: OffsetDateTime) -> bool {
    inline.name.starts_with(policy::PREFIX)
        && matches!(policy::read(&inline.document), Reading::Grant(window) if !window.is_live(now))
}

/// Plans a revoke. Returns the names of all policies to delete, in alphabetical order. `inline` has the principal's
/// inline policies as IAM shows them. `recorded` has the profiles of the principal's rows in the ledger, because IAM
/// may not show a very recent grant yet.
pub(crate) fn revocation<'a>(inline: Vec<String>, recorded: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut policies: Vec<String> = recorded.map(|profile| format!("{}{profile}", policy::PREFIX)).collect();
    policies.extend(inline.into_iter().filter(|name| name.starts_with(policy::PREFIX)));
    policies.sort();
    policies.dedup();
    policies
}
