//! What the ledger holds of a branch or tag, and what follows from it.

use sekisho_domain::change::{Change, CommitId, GitRef, RepositoryArn};
use sekisho_domain::timestamp::epoch_millis;
use sekisho_ledger::Key;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::deliver::Delivery;

/// How long a pending change belongs to the invocation that works on it: the function's timeout, 45 s, and a margin.
pub const LEASE: Duration = Duration::seconds(55);

/// How many invocations try to deliver a change: the first, and Lambda's two retries.
const TRIES: u32 = 3;

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
    /// How many invocations have taken it up.
    #[serde(default)]
    pub tries: u32,
}

impl Pending {
    /// Whether no further invocation is to try: a target that does not answer must not keep the next head from the
    /// others for good.
    #[must_use]
    pub fn is_last_try(&self) -> bool {
        self.tries >= TRIES
    }
}

/// What to do about a row, before anything else is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing is pending: look where the reference points.
    Look,
    /// Another invocation is at work on it until then (epoch milliseconds).
    Wait(u64),
    /// An invocation has left it unfinished: finish it.
    Finish(Pending),
}

impl State {
    /// What to do first.
    #[must_use]
    pub fn step(&self, now: OffsetDateTime) -> Step {
        match &self.pending {
            None => Step::Look,
            Some(pending) if pending.lease > epoch_millis(now) => Step::Wait(pending.lease),
            Some(pending) => Step::Finish(pending.clone()),
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

    /// With this change pending, leased from `now`.
    #[must_use]
    pub fn with_pending(&self, change: Change, deliveries: Vec<Delivery>, now: OffsetDateTime) -> Self {
        let tries = self.pending.as_ref().map_or(0, |pending| pending.tries) + 1;
        Self { pending: Some(Pending { change, deliveries, lease: epoch_millis(now + LEASE), tries }), ..self.clone() }
    }

    /// With what is left of the pending change given back, so that the next invocation takes it up at once.
    #[must_use]
    pub fn given_back(&self, change: Change, left: Vec<Delivery>) -> Self {
        let tries = self.pending.as_ref().map_or(0, |pending| pending.tries);
        Self { pending: Some(Pending { change, deliveries: left, lease: 0, tries }), ..self.clone() }
    }

    /// With this change relayed.
    #[must_use]
    pub fn relayed(&self, change: &Change) -> Self {
        let mut events = self.events.clone();
        if change.git_ref.kind() == sekisho_domain::change::RefKind::Tag {
            events.extend(change.event.clone());
            let surplus = events.len().saturating_sub(EVENTS_REMEMBERED);
            events.drain(..surplus);
        }
        Self { commit: Some(change.commit.clone()), sequence: change.sequence, pending: None, events }
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
        let state = State::default().with_pending(change("refs/heads/main", 1, "e"), vec![], NOW);
        assert_eq!(state.step(NOW), Step::Wait(epoch_millis(NOW + LEASE)));
        assert!(matches!(state.step(NOW + LEASE), Step::Finish(_)));
        let back = state.given_back(change("refs/heads/main", 1, "e"), vec![]);
        assert!(matches!(back.step(NOW), Step::Finish(_)));
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
