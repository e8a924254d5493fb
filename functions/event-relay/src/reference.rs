//! What the ledger holds of a branch or tag, and what follows from it.

use sekisho_domain::change::{Change, CommitId, GitRef, RepositoryArn};
use sekisho_domain::timestamp::epoch_millis;
use sekisho_ledger::Key;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::deliver::Delivery;

/// How long a pending change belongs to the invocation that works on it: the function's timeout, 45 s, and a margin.
pub const LEASE: Duration = Duration::seconds(55);

/// How far two invocations' clocks are apart at most.
const CLOCKS: Duration = Duration::minutes(1);

/// How many invocations at least offer a change: the first, and Lambda's two retries …
const TRIES: u32 = 3;
/// … which come after one minute and after two: a burst of events within seconds is not three tries of a bus that is away.
const TRIED_FOR: Duration = Duration::minutes(3);

/// Bytes of deliveries that a row can hold, of DynamoDB's 400 KB: some 6,000 accounts. The rest is for the change and for a
/// tag's events.
const DELIVERIES: usize = 384_000;

/// How many events of a tag are remembered, to tell a doubled one: EventBridge doubles soon or not at all.
const EVENTS_REMEMBERED: usize = 32;

/// The ledger's row of a reference.
#[must_use]
pub fn key(repository: &RepositoryArn, git_ref: &GitRef) -> Key {
    Key { pk: partition(repository), sk: git_ref.to_string() }
}

/// The ledger's partition with all references of a repository.
#[must_use]
pub fn partition(repository: &RepositoryArn) -> String {
    format!("branch#{repository}")
}

/// The state of a reference.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Where it pointed when it was relayed last.
    pub commit: Option<CommitId>,
    /// The sequence of that.
    pub sequence: u64,
    /// What is being relayed now.
    pub pending: Option<Pending>,
    /// The latest events of a tag.
    #[serde(default)]
    pub events: Vec<String>,
    /// When the newest relayed event of a tag happened, in epoch milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<u64>,
    /// A head that touched no routed path when it was compared last: not to be compared anew by every reconcile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untouched: Option<Untouched>,
}

/// A head that touched no path of the routes as they were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Untouched {
    /// The head.
    pub commit: CommitId,
    /// A digest of the routes' paths: other paths may be touched.
    pub paths: String,
}

/// A change that not every target has yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The change.
    pub change: Change,
    /// To whom it has to go yet.
    pub deliveries: Vec<Delivery>,
    /// Until when, in epoch milliseconds, it belongs to whoever wrote this.
    pub lease: u64,
    /// How many invocations have offered it, and were not rid of all of it.
    #[serde(default)]
    pub tries: u32,
    /// Since when it is pending, in epoch milliseconds.
    #[serde(default)]
    pub since: u64,
    /// When a tag's event happened, in epoch milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
}

impl Pending {
    /// Whether no invocation after this one is to try: a target that does not answer must not keep the next head from the
    /// others for good.
    #[must_use]
    pub fn is_last_try(&self, now: OffsetDateTime) -> bool {
        self.tries + 1 >= TRIES && epoch_millis(now - TRIED_FOR) >= self.since
    }
}

/// Whether a row can hold them, as DynamoDB counts: 44 bytes each, the region, and the pipelines' names.
#[must_use]
pub fn fit(deliveries: &[Delivery]) -> bool {
    let pipelines = |d: &Delivery| d.pipelines.iter().map(|pipeline| pipeline.as_str().len() + 1).sum::<usize>();
    let bytes: usize = deliveries.iter().map(|d| 44 + d.region.as_str().len() + pipelines(d)).sum();
    bytes <= DELIVERIES
}

/// What to do about a row, before anything else is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing is pending: look where the reference points.
    Look,
    /// Another invocation is at work on it until then (epoch milliseconds).
    Wait(u64),
    /// An invocation has left it unfinished: finish it.
    Finish(Box<Pending>),
}

impl State {
    /// What to do first.
    #[must_use]
    pub fn step(&self, now: OffsetDateTime) -> Step {
        match &self.pending {
            None => Step::Look,
            // A lease that ends later than any can is of a clock that was wrong: it is nobody's.
            Some(pending) if (epoch_millis(now) + 1..=epoch_millis(now + LEASE + CLOCKS)).contains(&pending.lease) => {
                Step::Wait(pending.lease)
            }
            Some(pending) => Step::Finish(Box::new(pending.clone())),
        }
    }

    /// The next sequence: the larger of last + 1 and the clock in milliseconds, so that even a lost table never goes back.
    #[must_use]
    pub fn next_sequence(&self, now: OffsetDateTime) -> u64 {
        epoch_millis(now).max(self.sequence + 1)
    }

    /// The largest sequence that was given to a change of the reference.
    #[must_use]
    pub fn newest_sequence(&self) -> u64 {
        self.pending.as_ref().map_or(self.sequence, |pending| pending.change.sequence)
    }

    /// With this change pending, leased from `now`. `at` is when a tag's event happened.
    #[must_use]
    pub fn with_pending(
        &self,
        change: Change,
        deliveries: Vec<Delivery>,
        at: Option<u64>,
        now: OffsetDateTime,
    ) -> Self {
        let pending =
            Pending { change, deliveries, lease: epoch_millis(now + LEASE), tries: 0, since: epoch_millis(now), at };
        Self { pending: Some(pending), ..self.clone() }
    }

    /// With what is pending leased from `now`.
    #[must_use]
    pub fn taken_up(&self, now: OffsetDateTime) -> Self {
        let leased = |pending: &Pending| Pending { lease: epoch_millis(now + LEASE), ..pending.clone() };
        Self { pending: self.pending.as_ref().map(leased), ..self.clone() }
    }

    /// With what is left of the pending change given back, so that the next invocation takes it up at once. It was a try
    /// where something was offered.
    #[must_use]
    pub fn given_back(&self, left: &[Delivery], offered: bool) -> Self {
        let back = |pending: &Pending| Pending {
            deliveries: left.to_vec(),
            lease: 0,
            tries: pending.tries + u32::from(offered),
            ..pending.clone()
        };
        Self { pending: self.pending.as_ref().map(back), ..self.clone() }
    }

    /// With nothing pending, its sequence used, and nothing known of where the reference was relayed last: some targets may
    /// have what was pending. The next look relays the head, whatever it is.
    #[must_use]
    pub fn dropped(&self) -> Self {
        Self { commit: None, sequence: self.newest_sequence(), pending: None, untouched: None, ..self.clone() }
    }

    /// With this change relayed.
    #[must_use]
    pub fn relayed(&self, change: &Change) -> Self {
        let at = self.pending.as_ref().and_then(|pending| pending.at);
        let mut events = self.events.clone();
        if change.git_ref.kind() == sekisho_domain::change::RefKind::Tag {
            events.extend(change.event.clone());
            let surplus = events.len().saturating_sub(EVENTS_REMEMBERED);
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
    use super::*;
    use time::macros::datetime;

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

    #[test]
    fn a_sequence_follows_the_clock_and_never_goes_back() {
        let clock = epoch_millis(NOW);
        assert_eq!(State::default().next_sequence(NOW), clock);
        assert_eq!(State { sequence: clock + 5, ..State::default() }.next_sequence(NOW), clock + 6);
    }

    #[test]
    fn a_pending_change_belongs_to_its_invocation_for_the_lease() {
        let state = State::default().with_pending(change("refs/heads/main", 1, "e"), vec![], None, NOW);
        assert_eq!(state.step(NOW), Step::Wait(epoch_millis(NOW + LEASE)));
        assert!(matches!(state.step(NOW + LEASE), Step::Finish(_)));
        let back = state.given_back(&[], true);
        assert!(matches!(back.step(NOW), Step::Finish(_)));
    }

    #[test]
    fn a_lease_of_a_clock_that_was_wrong_is_nobodys() {
        let state = State::default().with_pending(change("refs/heads/main", 1, "e"), vec![], None, NOW);
        assert!(matches!(state.step(NOW - Duration::seconds(59)), Step::Wait(_)));
        assert!(matches!(state.step(NOW - Duration::days(1)), Step::Finish(_)));
    }

    /// Three events within half a minute used up what a bus has to come back in.
    #[test]
    fn the_last_try_is_the_third_and_minutes_after_the_first() {
        let mut state = State::default().with_pending(change("refs/heads/main", 1, "e"), vec![], None, NOW);
        for (offered, tries) in [(true, 1), (false, 1), (true, 2), (false, 2)] {
            state = state.taken_up(NOW).given_back(&[], offered);
            assert_eq!(state.pending.as_ref().unwrap().tries, tries);
        }
        let pending = state.pending.unwrap();
        assert!(!pending.is_last_try(NOW + Duration::seconds(60)));
        assert!(pending.is_last_try(NOW + Duration::minutes(3)));
        assert!(!Pending { tries: 1, ..pending }.is_last_try(NOW + Duration::hours(1)));
    }

    #[test]
    fn a_row_of_an_earlier_version_still_reads() {
        let old = r#"{"commit":null,"sequence":7,"pending":null}"#;
        assert_eq!(serde_json::from_str::<State>(old).unwrap(), State { sequence: 7, ..State::default() });
    }

    #[test]
    fn a_tag_remembers_its_latest_events_and_a_branch_none() {
        let mut tag = State::default();
        for n in 0..40 {
            tag = tag.relayed(&change("refs/tags/v1", n, &format!("e{n}")));
        }
        assert_eq!(tag.events.len(), EVENTS_REMEMBERED);
        assert_eq!(tag.events.last().map(String::as_str), Some("e39"));
        assert!(State::default().relayed(&change("refs/heads/main", 1, "e")).events.is_empty());
    }
}
