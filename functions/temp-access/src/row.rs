//! The ledger's row of a grant: what was meant and what came of it, and whose turn it is.
//!
//! The policy in IAM is the truth about access, but it shows late: of a grant of a moment ago, the row knows first. The row
//! adds what IAM has no room for (the reason), what must be known before IAM is touched (the intent), and the lease that
//! lets one invocation at a time change the policy: IAM itself has no conditional write.

use sekisho_domain::timestamp;
use sekisho_ledger::Key;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::policy;
use crate::principal::{Kind, Principal};
use crate::window::Window;

/// Partition of all grants.
pub const PARTITION: &str = "grant";
/// A lease outlives whatever an invocation may still have under way at IAM, and no more.
pub const LEASE: Duration = Duration::seconds(13);
/// How long IAM may take to show what it has been told; what it does not show then is gone.
const SPREAD: Duration = Duration::minutes(2);
/// How long a row is kept after its access has ended.
const KEPT: Duration = Duration::days(30);
/// How many requests a row remembers, to know them when Lambda tries them again.
const REMEMBERED: usize = 8;

/// What a row says about its policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// About to be granted.
    Intent,
    /// Granted.
    Granted,
    /// Ended by request.
    Revoked,
    /// Removed after its end.
    Expired,
}

/// One principal and profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// What is known.
    pub state: State,
    /// First start of the chain.
    #[serde(with = "moment")]
    pub start: OffsetDateTime,
    /// End of access.
    #[serde(with = "moment")]
    pub end: OffsetDateTime,
    /// Why, as it was typed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The request that wrote the row; holds the lease, if there is one.
    pub request: String,
    /// Requests that have been carried out, the latest last.
    #[serde(default)]
    pub requests: Vec<String>,
    /// When a grant last claimed it, in epoch milliseconds. What ends access leaves it alone: it gives no access.
    #[serde(default)]
    pub claimed: u64,
    /// End of the lease in epoch milliseconds; 0: free.
    pub held_until: u64,
    /// When DynamoDB may forget the row, in epoch seconds.
    pub expires: i64,
}

mod moment {
    use super::{OffsetDateTime, timestamp};
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(at: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&timestamp::seconds(*at))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OffsetDateTime, D::Error> {
        let text = String::deserialize(deserializer)?;
        timestamp::parse_seconds(&text).ok_or_else(|| serde::de::Error::custom(format!("`{text}` is no time")))
    }
}

impl Row {
    /// A row that is held from `now` on, for what `request` is about to do.
    #[must_use]
    pub fn held(state: State, window: Window, request: &str, before: Option<&Row>, now: OffsetDateTime) -> Self {
        Self {
            state,
            start: window.start,
            end: window.end,
            reason: before.and_then(|row| row.reason.clone()),
            request: request.to_owned(),
            requests: before.map(|row| row.requests.clone()).unwrap_or_default(),
            claimed: match state {
                State::Intent => timestamp::epoch_millis(now),
                State::Granted | State::Revoked | State::Expired => before.map_or(0, |row| row.claimed),
            },
            held_until: timestamp::epoch_millis(now + LEASE),
            expires: window.end.saturating_add(KEPT).unix_timestamp(),
        }
    }

    /// The same, carried out and free.
    #[must_use]
    pub fn settled(mut self, state: State) -> Self {
        if state == State::Granted && !self.requests.contains(&self.request) {
            self.requests.push(self.request.clone());
            let surplus = self.requests.len().saturating_sub(REMEMBERED);
            self.requests.drain(..surplus);
        }
        self.state = state;
        self.free()
    }

    /// The same, free.
    #[must_use]
    pub fn free(mut self) -> Self {
        self.held_until = 0;
        self
    }

    /// Whether another request is at work. A request that is tried again takes up what it held.
    #[must_use]
    pub fn is_held_by_another(&self, request: &str, now: OffsetDateTime) -> bool {
        self.request != request && timestamp::epoch_millis(now) < self.held_until
    }

    /// Whether it says that there is access, or may be.
    #[must_use]
    pub fn gives_access(&self, now: OffsetDateTime) -> bool {
        matches!(self.state, State::Intent | State::Granted) && self.window().is_live(now)
    }

    /// Whether a grant claimed it so short a time ago that IAM may still show what was there before.
    #[must_use]
    pub fn is_young(&self, now: OffsetDateTime) -> bool {
        timestamp::epoch_millis(now - SPREAD) < self.claimed
    }

    /// The window of a grant so young that IAM may still show what was there before.
    #[must_use]
    pub fn just_granted(&self, now: OffsetDateTime) -> Option<Window> {
        Some(self.window()).filter(|window| self.state == State::Granted && self.is_young(now) && window.is_live(now))
    }

    /// Its window.
    #[must_use]
    pub fn window(&self) -> Window {
        Window { start: self.start, end: self.end }
    }
}

/// The row's key. `policy` is the policy's whole name.
#[must_use]
pub fn key(principal: &Principal, policy: &str) -> Key {
    let profile = policy.strip_prefix(policy::PREFIX).unwrap_or(policy);
    Key { pk: PARTITION.to_owned(), sk: prefix(principal) + profile }
}

/// How the sort keys of a principal's rows begin.
#[must_use]
pub fn prefix(principal: &Principal) -> String {
    format!("{}/{}/", principal.kind().as_str(), principal.name())
}

/// Principal and profile of a sort key; `None` where it is not ours.
#[must_use]
pub fn subject(sk: &str) -> Option<(Principal, &str)> {
    let mut parts = sk.splitn(3, '/');
    let kind = match parts.next()? {
        "user" => Kind::User,
        "role" => Kind::Role,
        _ => return None,
    };
    let principal = Principal::new(kind, parts.next()?).ok()?;
    Some((principal, parts.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-11-21 20:45 UTC);
    const WINDOW: Window = Window { start: NOW, end: datetime!(2026-11-21 23:45 UTC) };

    #[test]
    fn a_lease_binds_others_until_it_lapses() {
        let row = Row::held(State::Intent, WINDOW, "one", None, NOW);
        assert!(row.is_held_by_another("two", NOW + Duration::seconds(12)));
        assert!(!row.is_held_by_another("one", NOW));
        assert!(!row.is_held_by_another("two", NOW + LEASE));
        assert!(!row.settled(State::Granted).is_held_by_another("two", NOW));
    }

    #[test]
    fn the_latest_requests_are_remembered() {
        let mut row = Row::held(State::Intent, WINDOW, "0", None, NOW).settled(State::Granted);
        for i in 1..20 {
            row = Row::held(State::Intent, WINDOW, &i.to_string(), Some(&row), NOW).settled(State::Granted);
        }
        assert_eq!(row.requests, ["12", "13", "14", "15", "16", "17", "18", "19"]);
    }

    #[test]
    fn keys_are_read_back() {
        let principal = Principal::new(Kind::Role, "ops+night").unwrap();
        let key = key(&principal, "sekisho-read-only");
        assert_eq!((key.pk.as_str(), key.sk.as_str()), ("grant", "role/ops+night/read-only"));
        assert_eq!(subject(&key.sk), Some((principal, "read-only")));
        for bad in ["", "user", "user/a", "group/a/b", "user//b"] {
            assert_eq!(subject(bad), None, "{bad}");
        }
    }
}
