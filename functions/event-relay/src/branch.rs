//! The ledger's row of a branch or tag, and the changes of the row while a change is relayed.

use std::time::Duration;

use sekisho_domain::change::{Change, CommitId, GitRef, RefKind, RepositoryArn};
use sekisho_domain::timestamp::epoch_millis;
use sekisho_ledger::{Key, Lease};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::delivery::Delivery;

/// The length of an invocation's lease on a pending change: the function's timeout of 45 s plus a margin.
pub const LEASE_TERM: Duration = Duration::from_secs(55);

/// At least this many invocations try to send a change before the function gives up on a target: the first invocation
/// and Lambda's two retries.
const MIN_ATTEMPTS: u32 = 3;
/// The function tries to send a change for at least this time before it gives up on a target. Lambda's retries come
/// after one and two minutes, and a burst of events within seconds must not use up the attempts while a bus is briefly
/// unavailable.
const MIN_ATTEMPT_TIME: Duration = Duration::from_mins(3);

/// A tag's row keeps this many ids of the latest events, to recognize a repeated event. The number can be small,
/// because EventBridge repeats an event, if at all, soon after the first delivery.
const EVENTS_KEPT: usize = 32;

/// The key of a reference's row.
#[must_use]
pub fn key(repository: &RepositoryArn, git_ref: &GitRef) -> Key {
    Key { pk: partition(repository), sk: git_ref.to_string() }
}

/// The partition key that the rows of all references in a repository share.
pub(crate) fn partition(repository: &RepositoryArn) -> String {
    format!("branch#{repository}")
}

/// The row of a branch or tag.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BranchRow {
    /// The commit that was relayed last.
    pub commit: Option<CommitId>,
    /// The sequence of the change that was relayed last.
    pub sequence: u64,
    /// The change that some targets do not have yet, if there is such a change.
    pub pending: Option<Pending>,
    /// The ids of a tag's latest relayed events. A branch's row has no event ids.
    #[serde(default)]
    pub events: Vec<String>,
    /// The time of a tag's newest relayed event, in epoch milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<u64>,
    /// The latest head that touched no routed path. The row stores the head so that the next reconciles do not compare
    /// it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untouched: Option<Untouched>,
}

/// A head that was compared with the commit that was relayed last, and touched no routed path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Untouched {
    /// The commit of the head.
    pub commit: CommitId,
    /// A digest of the routes' path globs. If the globs change, the head is compared again.
    pub paths: String,
}

/// A change that some targets do not have yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The change to relay.
    pub change: Change,
    /// The targets that do not have the change yet.
    pub deliveries: Vec<Delivery>,
    /// The lease of the invocation that wrote this row.
    pub lease: Lease,
    /// The number of invocations that sent the change to at least one bus and could not finish.
    #[serde(default)]
    pub tries: u32,
    /// The time at which the change became pending, in epoch milliseconds.
    #[serde(default)]
    pub since: u64,
    /// The time of a tag's event, in epoch milliseconds. A change of a branch has no such time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
}

impl Pending {
    /// Whether an invocation holds the lease on the change.
    #[must_use]
    pub fn is_leased(&self, now: OffsetDateTime) -> bool {
        self.lease.is_held(now, LEASE_TERM)
    }

    /// Whether the current attempt is the last attempt. The number of attempts is limited because a target that does
    /// not answer must not keep later heads from the other targets.
    #[must_use]
    pub fn is_last_attempt(&self, now: OffsetDateTime) -> bool {
        self.tries + 1 >= MIN_ATTEMPTS && epoch_millis(now - MIN_ATTEMPT_TIME) >= self.since
    }
}

impl BranchRow {
    /// The sequence of the next change: the current time in epoch milliseconds, or the last sequence plus one if that
    /// is greater. Because sequences follow the clock, they do not go back even if the table is lost.
    #[must_use]
    pub fn next_sequence(&self, now: OffsetDateTime) -> u64 {
        epoch_millis(now).max(self.sequence + 1)
    }

    /// The sequence of the newest change, whether it is relayed or pending.
    #[must_use]
    pub fn newest_sequence(&self) -> u64 {
        self.pending.as_ref().map_or(self.sequence, |pending| pending.change.sequence)
    }

    /// The row with `change` as the pending change and a lease that begins at `now`. `at` is the time of a tag's event,
    /// in epoch milliseconds.
    #[must_use]
    pub fn with_pending(
        &self,
        change: Change,
        deliveries: Vec<Delivery>,
        at: Option<u64>,
        now: OffsetDateTime,
    ) -> Self {
        let pending =
            Pending { change, deliveries, lease: Lease::new(now, LEASE_TERM), tries: 0, since: epoch_millis(now), at };
        Self { pending: Some(pending), ..self.clone() }
    }

    /// The row with a new lease on its pending change.
    #[must_use]
    pub fn leased(&self, now: OffsetDateTime) -> Self {
        let leased = |pending: &Pending| Pending { lease: Lease::new(now, LEASE_TERM), ..pending.clone() };
        Self { pending: self.pending.as_ref().map(leased), ..self.clone() }
    }

    /// The row after an attempt that did not get the change to the targets in `left`. The lease ends, so the next
    /// invocation can continue at once. `tries` grows only if the change was sent to at least one bus.
    #[must_use]
    pub fn given_back(&self, left: &[Delivery], was_offered: bool) -> Self {
        let back = |pending: &Pending| Pending {
            deliveries: left.to_vec(),
            lease: Lease::FREE,
            tries: pending.tries + u32::from(was_offered),
            ..pending.clone()
        };
        Self { pending: self.pending.as_ref().map(back), ..self.clone() }
    }

    /// The row without its pending change. No later change gets the sequence of the dropped change. Some targets may
    /// have received the dropped change, so the row also forgets the commit that was relayed last. The next invocation
    /// therefore relays the head, even if the head is that commit.
    #[must_use]
    pub fn dropped(&self) -> Self {
        Self { commit: None, sequence: self.newest_sequence(), pending: None, untouched: None, ..self.clone() }
    }

    /// The row after `change` was relayed.
    #[must_use]
    pub fn relayed(&self, change: &Change) -> Self {
        let at = self.pending.as_ref().and_then(|pending| pending.at);
        let mut events = self.events.clone();
        if change.git_ref.kind() == RefKind::Tag {
            events.extend(change.event.clone());
            let surplus = events.len().saturating_sub(EVENTS_KEPT);
            events.drain(..surplus);
        }
        Self {
            commit: Some(change.commit.clone()),
            sequence: change.sequence,
            pending: None,
            events,
            newest: self.newest.max(at),
            untouched: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-21 12:00 UTC);

    fn change(git_ref: &str, sequence: u64, event: &str) -> Change {
        let git_ref: GitRef = git_ref.parse().unwrap();
        Change {
            kind: git_ref.kind(),
            repository: "arn:aws:codecommit:ap-northeast-1:111111111111:shop".parse().unwrap(),
            git_ref,
            commit: "0123456789abcdef0123456789abcdef01234567".parse().unwrap(),
            previous: None,
            sequence,
            actor: None,
            event: Some(event.to_owned()),
        }
    }

    /// A row whose change became pending at `NOW`.
    fn pending_row() -> BranchRow {
        BranchRow::default().with_pending(change("refs/heads/main", 1, "e"), vec![], None, NOW)
    }

    fn is_leased(row: &BranchRow, now: OffsetDateTime) -> bool {
        row.pending.as_ref().unwrap().is_leased(now)
    }

    #[test]
    fn a_sequence_follows_the_clock_and_never_goes_back() {
        let clock = epoch_millis(NOW);
        assert_eq!(BranchRow::default().next_sequence(NOW), clock);
        assert_eq!(BranchRow { sequence: clock + 5, ..BranchRow::default() }.next_sequence(NOW), clock + 6);
    }

    #[test]
    fn a_pending_change_is_leased_until_the_lease_ends_or_is_given_back() {
        let row = pending_row();
        assert_eq!(row.pending.as_ref().unwrap().lease, Lease::new(NOW, LEASE_TERM));
        assert!(is_leased(&row, NOW));
        assert!(!is_leased(&row, NOW + LEASE_TERM));
        assert!(!is_leased(&row.given_back(&[], true), NOW));
    }

    #[test]
    fn a_lease_that_a_wrong_clock_wrote_counts_as_ended() {
        let row = pending_row();
        assert!(is_leased(&row, NOW - Duration::from_secs(59)));
        assert!(!is_leased(&row, NOW - Duration::from_hours(24)));
    }

    /// In an earlier version, three events within half a minute used up all attempts while a bus was briefly
    /// unavailable.
    #[test]
    fn the_last_attempt_is_the_third_and_minutes_after_the_first() {
        let mut row = pending_row();
        for (was_offered, tries) in [(true, 1), (false, 1), (true, 2), (false, 2)] {
            row = row.leased(NOW).given_back(&[], was_offered);
            assert_eq!(row.pending.as_ref().unwrap().tries, tries);
        }
        let pending = row.pending.unwrap();
        assert!(!pending.is_last_attempt(NOW + Duration::from_mins(1)));
        assert!(pending.is_last_attempt(NOW + Duration::from_mins(3)));
        assert!(!Pending { tries: 1, ..pending }.is_last_attempt(NOW + Duration::from_hours(1)));
    }

    #[test]
    fn a_row_of_an_earlier_version_can_be_read() {
        let old = r#"{"commit":null,"sequence":7,"pending":null}"#;
        assert_eq!(serde_json::from_str::<BranchRow>(old).unwrap(), BranchRow { sequence: 7, ..BranchRow::default() });
    }

    #[test]
    fn a_tag_remembers_its_latest_events_and_a_branch_none() {
        let mut tag = BranchRow::default();
        for n in 0..40 {
            tag = tag.relayed(&change("refs/tags/v1", n, &format!("e{n}")));
        }
        assert_eq!(tag.events.len(), EVENTS_KEPT);
        assert_eq!(tag.events.last().map(String::as_str), Some("e39"));
        assert!(BranchRow::default().relayed(&change("refs/heads/main", 1, "e")).events.is_empty());
    }
}
