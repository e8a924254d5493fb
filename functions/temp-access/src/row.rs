//! The ledger's row of a grant: the intent, its result, and the lease on the policy.
//!
//! The policy in IAM decides about access, but IAM shows a change only after some time. The row shows a recent grant at
//! once. The row also holds what IAM has no place for:
//!
//! - the reason;
//! - the intent, which is written before IAM is called;
//! - the lease, under which one invocation at a time changes the policy. IAM itself has no conditional write.

use sekisho_domain::code::Code;
use sekisho_domain::timestamp;
use sekisho_ledger::{Key, Lease};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::policy;
use crate::principal::{Kind, Principal};
use crate::window::Window;

/// The partition of all grants.
pub(crate) const PARTITION: &str = "grant";
/// The length of a lease. It is slightly longer than the time for which a call of the lease's holder to IAM can be in
/// flight.
pub(crate) const LEASE_TERM: std::time::Duration = std::time::Duration::from_secs(13);
/// IAM shows every change within this time. A grant that IAM does not show by then does not exist any more.
const PROPAGATION: Duration = Duration::minutes(2);
/// How long a row is kept after its access has ended.
const RETENTION: Duration = Duration::days(30);
/// How many requests a row remembers, to recognize a request that Lambda repeats.
const REMEMBERED: usize = 8;

/// The state of a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The grant is about to be carried out.
    Intent,
    /// The grant was carried out.
    Granted,
    /// The access was ended by request.
    Revoked,
    /// The policy was removed after its end.
    Expired,
}

/// The row of one principal and profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a field of the ledger's row, which is optional there")]
pub struct GrantRow {
    /// The state of the grant.
    pub state: State,
    /// The first start of the chain of grants.
    #[serde(with = "moment")]
    pub start: OffsetDateTime,
    /// The end of access.
    #[serde(with = "moment")]
    pub end: OffsetDateTime,
    /// The reason, as it was typed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Id of the request that wrote the row. While the row has a lease, this request holds it.
    pub request: String,
    /// Ids of requests that were carried out, the latest last.
    #[serde(default)]
    pub requests: Vec<String>,
    /// Time of the latest claim by a grant, in epoch milliseconds. A revoke or a removal leaves this time unchanged,
    /// because neither gives access.
    #[serde(default)]
    pub claimed: u64,
    /// The lease of the request that is working on the policy.
    #[serde(rename = "held_until")]
    pub lease: Lease,
    /// When the access was ended by request.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "moment::optional")]
    pub ended: Option<OffsetDateTime>,
    /// Sessions that began after this time, and before the end of access, still have to be ended. `None` if there are
    /// none, or if an earlier version wrote the row.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "moment::optional")]
    pub sessions_from: Option<OffsetDateTime>,
    /// Whether the intent changes nothing about the access, so that no notice is due.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_unchanged: bool,
    /// Whether the grant whose notice is due may allow more than the access did before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_wider: bool,
    /// Whether a failure to end the sessions was reported already.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sessions_failed: bool,
    /// Whether a revoke could not delete the policy, so that a follow-up has to delete it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub owes_delete: bool,
    /// Whether the notice about the grant could not be sent yet, or its decision not be recorded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub owes_notice: bool,
    /// The end about which a reminder was sent.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "moment::optional")]
    pub reminded: Option<OffsetDateTime>,
    /// What was done since this time still has to be summarized after the end of access. `None` if that was done, or if
    /// an earlier version wrote the row.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "moment::optional")]
    pub summary_from: Option<OffsetDateTime>,
    /// When access starts, if the grant was made before that.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "moment::optional")]
    pub from: Option<OffsetDateTime>,
    /// The chain of grants before a scheduled grant. It counts if that grant ends before it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<PreviousChain>,
    /// Who asked for the grant, who approved it, and what the profile allowed.
    #[serde(default, skip_serializing_if = "Consent::is_unknown")]
    pub consent: Consent,
    /// What a person of Identity Center was called in the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Digests of the statements that the grant of a person has in `sekisho-window`, or is about to have. They tell the
    /// person's grants apart after a change of the configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub statements: Vec<String>,
    /// Whether a follow-up still has to enter the grant of a person into `sekisho-window`, shortly before it begins.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub awaits_entry: bool,
    /// When DynamoDB may delete the row, in epoch seconds.
    pub expires: i64,
}

/// A chain of grants that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousChain {
    /// The first start of the chain.
    #[serde(with = "moment")]
    pub start: OffsetDateTime,
    /// When the chain ended.
    #[serde(with = "moment")]
    pub end: OffsetDateTime,
}

/// Who asked for a grant, and who approved it. A row of an earlier version has none of this.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consent {
    /// The door through which the grant was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub door: Option<String>,
    /// The door through which the grant was approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<String>,
    /// The code of the request that was approved, or of the review of a break-glass grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// Whether the grant was one of break-glass.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub break_glass: bool,
    /// What the profile allowed when the grant was made ([`crate::policy::fingerprint`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allows: Option<String>,
}

impl Consent {
    fn is_unknown(&self) -> bool {
        *self == Self::default()
    }
}

pub(crate) mod moment {
    use super::{OffsetDateTime, timestamp};
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(at: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&timestamp::seconds(*at))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OffsetDateTime, D::Error> {
        let text = String::deserialize(deserializer)?;
        timestamp::parse_seconds(&text).ok_or_else(|| {
            serde::de::Error::custom(format!("`{text}` is not a time: write it like 2026-11-21T23:45:00Z"))
        })
    }

    /// The same format for a time that may be missing.
    pub(crate) mod optional {
        use super::{Deserialize, Deserializer, OffsetDateTime, Serializer};

        #[derive(Deserialize)]
        struct Moment(#[serde(with = "super")] OffsetDateTime);

        #[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
        pub(crate) fn serialize<S: Serializer>(at: &Option<OffsetDateTime>, serializer: S) -> Result<S::Ok, S::Error> {
            match at {
                Some(at) => super::serialize(at, serializer),
                None => serializer.serialize_none(),
            }
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<OffsetDateTime>, D::Error> {
            Ok(Option::<Moment>::deserialize(deserializer)?.map(|Moment(at)| at))
        }
    }
}

impl GrantRow {
    /// A row whose lease begins at `now`. `before` is the row that the new row replaces.
    pub(crate) fn held(
        state: State,
        window: Window,
        request: &str,
        before: Option<&Self>,
        now: OffsetDateTime,
    ) -> Self {
        let due = before.and_then(|row| row.sessions_from);
        // The invocation that left an intent died, and with it the notice of what it may have given. If the new one
        // changes nothing, a follow-up sends that notice.
        let is_dead = |row: &Self| (state, row.state) == (State::Intent, State::Intent) && !row.is_unchanged;
        let owes_notice = before.is_some_and(|row| row.owes_notice || is_dead(row));
        let sessions_from = match state {
            State::Intent | State::Revoked => Some(due.map_or(window.start, |due| due.min(window.start))),
            State::Granted | State::Expired => due,
        };
        // The row of the same access keeps the first start of its chain, which a scheduled window does not show.
        let same = before.filter(|row| row.window() == window);
        Self {
            state,
            start: same.map_or(window.start, |row| row.start),
            end: window.end,
            reason: before.and_then(|row| row.reason.clone()),
            request: request.to_owned(),
            requests: before.map(|row| row.requests.clone()).unwrap_or_default(),
            claimed: match state {
                State::Intent => timestamp::epoch_millis(now),
                State::Granted | State::Revoked | State::Expired => before.map_or(0, |row| row.claimed),
            },
            lease: Lease::new(now, LEASE_TERM),
            ended: match state {
                State::Revoked => Some(now),
                State::Intent => None,
                State::Granted | State::Expired => before.and_then(|row| row.ended),
            },
            sessions_from,
            is_unchanged: false,
            sessions_failed: false,
            owes_delete: false,
            owes_notice,
            is_wider: owes_notice && before.is_some_and(|row| row.is_wider),
            reminded: before.and_then(|row| row.reminded),
            summary_from: match state {
                State::Intent => Some(summary_from(window, before, now)),
                State::Granted | State::Revoked | State::Expired => before.and_then(|row| row.summary_from),
            },
            from: same.and_then(|row| row.from),
            previous: before.and_then(|row| row.previous),
            consent: before.map(|row| row.consent.clone()).unwrap_or_default(),
            email: before.and_then(|row| row.email.clone()),
            statements: before.map(|row| row.statements.clone()).unwrap_or_default(),
            awaits_entry: false,
            expires: window.end.saturating_add(RETENTION).unix_timestamp(),
        }
    }

    /// The chain of grants that the row records, with the time at which it ended or will end. A row of an earlier
    /// version does not show when a revoke ended the access, so such a chain counts until the end that it had.
    pub(crate) fn chain(&self) -> Window {
        Window { start: self.start, end: self.ended.unwrap_or(self.end).min(self.end) }
    }

    /// The chain that a new grant may continue. It is the one before a scheduled grant that has not begun, so that
    /// scheduling and revoking do not begin a new chain.
    pub(crate) fn counted_chain(&self, now: OffsetDateTime) -> Window {
        let chain = self.chain();
        match self.previous {
            Some(PreviousChain { start, end }) if chain.end.min(now) < chain.start => Window { start, end },
            _ => chain,
        }
    }

    /// Whether a revoke ended access that would have gone on. A revoke that knew nothing of the access wrote a row that
    /// begins in 1970; it says nothing about access.
    pub(crate) fn is_ended_early(&self) -> bool {
        self.state == State::Revoked
            && self.start > OffsetDateTime::UNIX_EPOCH
            && self.ended.is_some_and(|ended| ended < self.end)
    }

    /// When a grant claimed the row last.
    pub(crate) fn claimed_at(&self) -> Option<OffsetDateTime> {
        i64::try_from(self.claimed).ok().and_then(timestamp::from_epoch_millis)
    }

    /// When the access ended or will end. It is the time of the revoke, although the chain may have ended before.
    pub(crate) fn over_at(&self) -> OffsetDateTime {
        self.ended.unwrap_or(self.chain().end)
    }

    /// The row after its holder has finished: with a new state and without a lease.
    pub(crate) fn settled(mut self, state: State) -> Self {
        if state == State::Granted && !self.requests.contains(&self.request) {
            self.requests.push(self.request.clone());
            let surplus = self.requests.len().saturating_sub(REMEMBERED);
            self.requests.drain(..surplus);
        }
        self.state = state;
        self.free()
    }

    /// The row without its lease.
    pub(crate) fn free(mut self) -> Self {
        self.lease = Lease::FREE;
        self
    }

    /// Whether another request holds the lease. A request that Lambda repeats continues with its own lease.
    pub(crate) fn is_held_by_another(&self, request: &str, now: OffsetDateTime) -> bool {
        self.request != request && self.lease.is_held(now, LEASE_TERM)
    }

    /// Whether an invocation is working on the policy.
    pub(crate) fn is_held(&self, now: OffsetDateTime) -> bool {
        self.lease.is_held(now, LEASE_TERM)
    }

    /// Whether the row is that of a grant, which vouches for the end of the policy.
    pub(crate) fn is_granted(&self) -> bool {
        matches!(self.state, State::Intent | State::Granted)
    }

    /// Whether a revoke deleted the policy so recently that IAM may still show it. The row of an earlier version does
    /// not say when that was.
    pub(crate) fn is_deleted(&self, now: OffsetDateTime) -> bool {
        self.state == State::Revoked && self.ended.is_none_or(|ended| now < ended.saturating_add(PROPAGATION))
    }

    /// Whether the row says that access exists or may exist.
    pub(crate) fn gives_access(&self, now: OffsetDateTime) -> bool {
        self.is_granted() && self.window().is_live(now)
    }

    /// Whether a grant claimed the row so recently that IAM may still show the state before the grant.
    pub(crate) fn is_recent(&self, now: OffsetDateTime) -> bool {
        timestamp::epoch_millis(now - PROPAGATION) < self.claimed
    }

    /// The window of a grant that was carried out so recently that IAM may not show it yet.
    pub(crate) fn recent_grant(&self, now: OffsetDateTime) -> Option<Window> {
        Some(self.window()).filter(|window| self.state == State::Granted && self.is_recent(now) && window.is_live(now))
    }

    /// The window of the access.
    #[must_use]
    pub fn window(&self) -> Window {
        Window { start: self.from.unwrap_or(self.start), end: self.end }
    }

    /// Whether the row says that access exists or may exist, and has begun.
    pub(crate) fn is_open(&self, now: OffsetDateTime) -> bool {
        self.gives_access(now) && !self.window().is_scheduled(now)
    }
}

/// The time from which the summary after a grant counts. A chain may go on after the summary of its earlier access.
fn summary_from(window: Window, before: Option<&GrantRow>, now: OffsetDateTime) -> OffsetDateTime {
    match before {
        Some(GrantRow { summary_from: Some(due), .. }) => window.start.min(*due),
        Some(row) if !row.gives_access(now) => window.start.max(now),
        Some(_) | None => window.start,
    }
}

/// The key of a policy's row. `policy` is the whole name of the policy.
pub(crate) fn key(principal: &Principal, policy: &str) -> Key {
    let profile = policy.strip_prefix(policy::PREFIX).unwrap_or(policy);
    Key { pk: PARTITION.to_owned(), sk: prefix(principal) + profile }
}

/// The beginning of the sort keys of all rows of a principal.
pub(crate) fn prefix(principal: &Principal) -> String {
    format!("{}/{}/", principal.kind().as_str(), principal.key())
}

/// The beginning of the sort keys of the rows of all people.
pub(crate) const PEOPLE: &str = "person/";

/// The principal of a row, with the address that a person had in the request, and the profile.
pub(crate) fn subject_of<'a>(sk: &'a str, row: &GrantRow) -> Option<(Principal, &'a str)> {
    let (principal, profile) = subject(sk)?;
    match (principal.kind(), &row.email) {
        (Kind::Person, Some(email)) => Some((Principal::person(principal.key(), Some(email)), profile)),
        _ => Some((principal, profile)),
    }
}

/// The principal and the profile in a sort key; `None` if the key has another form.
pub(crate) fn subject(sk: &str) -> Option<(Principal, &str)> {
    let mut parts = sk.splitn(3, '/');
    let kind = match parts.next()? {
        "user" => Kind::User,
        "role" => Kind::Role,
        "person" => Kind::Person,
        _ => return None,
    };
    let key = parts.next()?;
    let principal = Principal::new(kind, key).ok()?;
    let principal = if kind == Kind::Person { Principal::person(key, None) } else { principal };
    Some((principal, parts.next()?))
}

#[cfg(test)]
mod tests;
