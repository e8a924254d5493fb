//! Requests that wait: for an approval, or, after a break-glass grant, for a review. This module has their row, and the
//! pure rules that decide what may happen to a row.
//!
//! Each door has one slot per principal and profile, so that a new request replaces the one before it. A code names one
//! request. It never names another one, so that an approval that arrives late finds nothing.

use std::collections::BTreeSet;

use sekisho_domain::access::{Access, DoorName, Minutes, ProfileName};
use sekisho_domain::code::Code;
use sekisho_domain::timestamp;
use sekisho_ledger::{Key, Lease};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::door::{self, Door};
use crate::error::Error;
use crate::plan::Terms;
use crate::policy;
use crate::principal::{Kind, Principal};
use crate::row::{self, Consent, LEASE_TERM, moment};

/// The partition of all requests that wait.
pub(crate) const PARTITION: &str = "request";
/// The beginning of the sort keys of all reviews.
const REVIEW: &str = "review/";
/// How long a request waits for an approval.
const WAITS: Duration = Duration::hours(1);
/// How long the row of a request is kept after the request was decided.
const KEPT: Duration = Duration::days(1);
/// The same request again does not announce it again within this time.
const ANNOUNCED: Duration = Duration::minutes(5);
/// A review that nobody has closed is announced again after this time.
const RINGS_AFTER: Duration = Duration::days(1);

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The request waits for an approval.
    Waiting,
    /// An approval is being carried out. If its lease ends before that is done, the request waits again.
    Approving,
    /// The grant was a break-glass grant, and waits for a review.
    Review,
    /// The request was approved and carried out, or the review was closed.
    Approved,
    /// The request was declined or withdrawn.
    Declined,
    /// Nobody approved the request in time.
    Lapsed,
}

/// The row of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingRow {
    /// The code of the request.
    pub code: Code,
    /// Where the request stands.
    pub stage: Stage,
    /// The door through which the request came.
    pub door: String,
    /// The kind of the principal: `user`, `role` or `person`.
    pub kind: String,
    /// The name of the user or role, or the person's e-mail address.
    pub name: String,
    /// What identifies the principal: the name, or the person's id in the identity store.
    pub key: String,
    /// The profile.
    pub profile: ProfileName,
    /// How many minutes were requested.
    pub minutes: Minutes,
    /// When access starts; `None` if it starts with the approval.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "moment::optional")]
    pub from: Option<OffsetDateTime>,
    /// The reason, as it was typed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the profile allowed at the time of the request ([`policy::fingerprint`]).
    pub allows: String,
    /// Who stood behind the door then. The members of a group may change until somebody approves the request.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub people: BTreeSet<DoorName>,
    /// When the request was made.
    #[serde(with = "moment")]
    pub asked: OffsetDateTime,
    /// Id of the Lambda request that made the request.
    pub request: String,
    /// When the request lapses; `None` for a review, which does not lapse.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "moment::optional")]
    pub until: Option<OffsetDateTime>,
    /// When the request or the review was announced last.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "moment::optional")]
    pub announced: Option<OffsetDateTime>,
    /// The door that decided the request, or is about to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
    /// Id of the Lambda request that decided the request, or is about to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// The lease of the approval that is being carried out.
    #[serde(default, rename = "held_until")]
    pub lease: Lease,
    /// When DynamoDB may delete the row, in epoch seconds; `None` for a review, which waits without a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<i64>,
}

/// A claim on a request, under which its grant is carried out.
pub(crate) struct Claim {
    pub(crate) key: Key,
    pub(crate) row: PendingRow,
    pub(crate) revision: u64,
    /// Whether the request had been approved already, by an earlier attempt of the same Lambda request.
    pub(crate) was_approved: bool,
}

/// What a new request does to its slot.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asking {
    /// The slot has the same request already.
    Waits,
    /// The new request is written to the slot.
    Replaces,
}

/// What an approval does.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Approving {
    /// The grant is carried out, with this many minutes.
    Grants(Minutes),
    /// The review is closed.
    Closes,
}

/// What a sweep does to a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Lapses,
    /// Nobody is left who can have made the request.
    Withdraws,
    /// The review is announced again.
    Rings,
}

impl PendingRow {
    /// A request that waits for an approval.
    pub(crate) fn waiting(
        terms: &Terms<'_>,
        door: &Door,
        reason: Option<&str>,
        request: &str,
        now: OffsetDateTime,
    ) -> Self {
        let until = terms.from.map_or(now + WAITS, |from| from.min(now + WAITS));
        let until = until.replace_nanosecond(0).unwrap_or(until);
        let expires = Some((until + KEPT).unix_timestamp());
        Self { until: Some(until), expires, ..Self::new(Stage::Waiting, terms, door, reason, request, now) }
    }

    /// A break-glass grant that waits for a review.
    pub(crate) fn review(
        terms: &Terms<'_>,
        door: &Door,
        reason: Option<&str>,
        request: &str,
        now: OffsetDateTime,
    ) -> Self {
        Self::new(Stage::Review, terms, door, reason, request, now)
    }

    fn new(
        stage: Stage,
        terms: &Terms<'_>,
        door: &Door,
        reason: Option<&str>,
        request: &str,
        now: OffsetDateTime,
    ) -> Self {
        let principal = terms.principal;
        let (kind, profile) = (principal.kind().as_str(), terms.profile);
        // The id of the Lambda request makes the code unique, and lets its retry find the same code.
        let code = Code::of(&[door.as_str(), kind, principal.name(), profile.as_str(), request]);
        Self {
            code,
            stage,
            door: door.as_str().to_owned(),
            kind: kind.to_owned(),
            name: principal.name().to_owned(),
            key: principal.key().to_owned(),
            profile: profile.clone(),
            minutes: terms.minutes,
            from: terms.from,
            reason: reason.filter(|reason| !reason.is_empty()).map(str::to_owned),
            allows: policy::fingerprint(terms.allows),
            people: BTreeSet::new(),
            asked: now.replace_nanosecond(0).unwrap_or(now),
            request: request.to_owned(),
            until: None,
            announced: Some(now.replace_nanosecond(0).unwrap_or(now)),
            decided_by: None,
            decision: None,
            lease: Lease::FREE,
            expires: None,
        }
    }

    /// The row's key.
    pub(crate) fn key(&self, principal: &Principal) -> Key {
        let slot = || format!("{}{}/{}", row::prefix(principal), self.profile, self.door);
        key(if self.is_review() { format!("{REVIEW}{}", self.code) } else { slot() })
    }

    /// The principal of the request.
    pub(crate) fn principal(&self) -> Option<Principal> {
        match self.kind.as_str() {
            "person" => Some(Principal::person(&self.key, Some(&self.name))),
            "user" => Principal::new(Kind::User, &self.name).ok(),
            "role" => Principal::new(Kind::Role, &self.name).ok(),
            _ => None,
        }
    }

    /// Whether the row is that of a break-glass grant.
    pub(crate) fn is_review(&self) -> bool {
        self.until.is_none()
    }

    /// Whether the request waits for an approval. An approval that was cut off has changed nothing, or can be continued
    /// by the next one.
    pub(crate) fn is_waiting(&self, now: OffsetDateTime) -> bool {
        let is_undecided = match self.stage {
            Stage::Waiting => true,
            Stage::Approving => !self.lease.is_held(now, LEASE_TERM),
            Stage::Review | Stage::Approved | Stage::Declined | Stage::Lapsed => false,
        };
        is_undecided && self.until.is_some_and(|until| now < until)
    }

    /// Whether an approval is being carried out.
    fn is_held(&self, now: OffsetDateTime) -> bool {
        self.stage == Stage::Approving && self.lease.is_held(now, LEASE_TERM)
    }

    /// Whether the request was announced lately, so that a repetition of the request does not announce it again.
    pub(crate) fn is_announced(&self, now: OffsetDateTime) -> bool {
        self.is_held(now) || self.announced.is_some_and(|announced| now < announced.saturating_add(ANNOUNCED))
    }

    /// Whether the request or the review is open.
    pub(crate) fn is_open(&self, now: OffsetDateTime) -> bool {
        self.stage == Stage::Review || self.is_waiting(now)
    }

    /// Who asked for the grant and who approved it, for its row and its decisions.
    pub(crate) fn consent(&self, approved_by: Option<&Door>) -> Consent {
        Consent {
            door: Some(self.door.clone()),
            approved_by: approved_by.map(|door| door.as_str().to_owned()),
            code: Some(self.code.clone()),
            break_glass: self.is_review(),
            allows: None,
        }
    }

    /// Id under which the grant is carried out. All approvals of one request have the same id, so that the request is
    /// granted once, however often an approval is repeated.
    pub(crate) fn grant_id(&self) -> String {
        format!("approval-{}", self.code)
    }

    /// The row while an approval is carried out.
    pub(crate) fn claimed(&self, door: &Door, request: &str, now: OffsetDateTime) -> Self {
        Self { lease: Lease::new(now, LEASE_TERM), ..self.decided(Stage::Approving, Some(door), request, now) }
    }

    /// The row of a request that waits again, because its approval changed nothing.
    pub(crate) fn released(&self) -> Self {
        Self { stage: Stage::Waiting, lease: Lease::FREE, decided_by: None, decision: None, ..self.clone() }
    }

    /// The row after the decision.
    pub(crate) fn decided(&self, stage: Stage, door: Option<&Door>, request: &str, now: OffsetDateTime) -> Self {
        let expires = self.until.map_or(now, |until| until.max(now)) + KEPT;
        Self {
            stage,
            decided_by: door.map(|door| door.as_str().to_owned()),
            decision: Some(request.to_owned()),
            lease: Lease::FREE,
            expires: Some(expires.unix_timestamp()),
            ..self.clone()
        }
    }

    /// Whether the request is the same.
    fn is_same(&self, other: &Self) -> bool {
        let Self { minutes, from, allows, key, people, .. } = other;
        (&self.minutes, &self.from, &self.allows, &self.key, &self.people) == (minutes, from, allows, key, people)
    }

    fn unknown(&self) -> Error {
        Error::NoRequest(self.code.clone())
    }
}

/// The key of a row.
pub(crate) fn key(sk: String) -> Key {
    Key { pk: PARTITION.to_owned(), sk }
}

/// Decides what a new request does to its slot. A request that waits already keeps its code and its reason.
///
/// # Errors
/// [`Error::Refused`] if the request is a repetition of one that was decided.
pub(crate) fn ask(before: Option<&PendingRow>, new: &PendingRow, now: OffsetDateTime) -> Result<Asking, Error> {
    match before {
        // While an approval is carried out, the request is as good as approved.
        Some(before) if before.is_same(new) && (before.is_waiting(now) || before.is_held(now)) => Ok(Asking::Waits),
        Some(before) if before.request == new.request => Err(Error::Refused(format!(
            "the request {} was already decided, or has lapsed: send a new request",
            before.code
        ))),
        _ => Ok(Asking::Replaces),
    }
}

/// Decides what an approval of a request does. `request` is the id of the Lambda request that approves. If it is repeated,
/// the approval is continued.
///
/// # Errors
/// [`Error::NoRequest`] if the request is not open, and [`Error::Refused`] if the approval is not allowed.
pub(crate) fn approve(
    row: &PendingRow,
    principal: &Principal,
    approving: &Door,
    access: &Access,
    request: &str,
    now: OffsetDateTime,
) -> Result<Approving, Error> {
    let is_repeated =
        matches!(row.stage, Stage::Approving | Stage::Approved) && row.decision.as_deref() == Some(request);
    if !is_repeated && !row.is_open(now) {
        return Err(row.unknown());
    }
    let asking = Door::named(&row.door).ok_or_else(|| row.unknown())?;
    check_door(row, principal, approving, &asking, access)?;
    if row.is_review() {
        return Ok(Approving::Closes);
    }
    door::check_asking(access, &asking, &row.profile, principal)?;
    door::check_left(access, &asking, &row.people)?;
    if access.profiles.get(&row.profile).is_none_or(|profile| policy::fingerprint(profile) != row.allows) {
        return Err(Error::Refused(format!(
            "the profile {} allows something else than at the time of the request: ask again. Nothing was approved",
            row.profile
        )));
    }
    Ok(Approving::Grants(row.minutes.min(access.longest(row.profile.as_str()))))
}

/// Checks that the request may be approved, or the review closed, through the door `approving`.
fn check_door(
    row: &PendingRow,
    principal: &Principal,
    approving: &Door,
    asking: &Door,
    access: &Access,
) -> Result<(), Error> {
    door::check_others(access, approving, &row.people)?;
    // If the asking door is gone, every door that may approve is another one.
    let is_gone = !matches!(asking, Door::Person(name) if access.people.contains_key(name));
    if row.is_review() && is_gone && door::approves(access, approving, &row.profile, principal) {
        return Ok(());
    }
    door::check_approving(access, approving, asking, &row.profile, principal)
}

/// The doors that may approve the request.
pub(crate) fn approvers(row: &PendingRow, access: &Access) -> Vec<String> {
    let (Some(asking), Some(principal)) = (Door::named(&row.door), row.principal()) else { return Vec::new() };
    let doors = access.people.keys().map(|name| Door::Person(name.clone()));
    let may = |door: &Door| check_door(row, &principal, door, &asking, access).is_ok();
    doors.filter(may).map(|door| format!("temp-access:{door}")).collect()
}

/// Checks that a request may be declined or withdrawn through a door.
///
/// # Errors
/// [`Error::NoRequest`] if the request is not open, and [`Error::Refused`] if the door may not decline it.
pub(crate) fn check_decline(
    row: &PendingRow,
    principal: &Principal,
    declining: &Door,
    access: &Access,
    request: &str,
    now: OffsetDateTime,
) -> Result<(), Error> {
    let is_repeated = row.stage == Stage::Declined && row.decision.as_deref() == Some(request);
    if !is_repeated && !row.is_open(now) {
        return Err(row.unknown());
    }
    let asking = Door::named(&row.door).ok_or_else(|| row.unknown())?;
    door::check_declining(access, declining, &asking, &row.profile, principal)?;
    if row.is_review() {
        return Err(Error::Refused(format!(
            "the access was given already, and its review cannot be declined: close it with {{\"approve\":\"{}\"}}, and \
             end the access with a revoke",
            row.code
        )));
    }
    Ok(())
}

/// What a sweep does to a request. `access` is `None` if the configuration cannot be read.
pub(crate) fn due(row: &PendingRow, access: Option<&Access>, now: OffsetDateTime) -> Option<Due> {
    let asking = Door::named(&row.door);
    let is_left = |access| asking.as_ref().is_none_or(|asking| door::check_left(access, asking, &row.people).is_err());
    match row.stage {
        Stage::Review => {
            let announced = row.announced.unwrap_or(row.asked);
            (announced.saturating_add(RINGS_AFTER) <= now).then_some(Due::Rings)
        }
        Stage::Approving if row.lease.is_held(now, LEASE_TERM) => None,
        Stage::Waiting | Stage::Approving if !row.is_waiting(now) => Some(Due::Lapses),
        Stage::Waiting | Stage::Approving if access.is_some_and(is_left) => Some(Due::Withdraws),
        Stage::Waiting | Stage::Approving | Stage::Approved | Stage::Declined | Stage::Lapsed => None,
    }
}

/// How long a request is for, as the part of a sentence: `60 min`, or `60 min from 2026-12-01T13:00:00Z`.
pub(crate) fn length(row: &PendingRow) -> String {
    match row.from {
        Some(from) => format!("{} min from {}", row.minutes, timestamp::seconds(from)),
        None => format!("{} min", row.minutes),
    }
}

#[cfg(test)]
mod tests;
