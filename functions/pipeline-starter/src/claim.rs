//! What the ledger holds of a pipeline and reference, and what a change may do about it.

use sekisho_domain::change::{Change, CommitId, GitRef, RepositoryArn};
use sekisho_domain::route::PipelineName;
use sekisho_domain::timestamp::epoch_millis;
use sekisho_ledger::Key;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};

/// How long a claim belongs to the invocation that took it: the function's timeout, 45 s, and a margin.
pub const LEASE: Duration = Duration::seconds(55);

/// How far two invocations' clocks are apart at most.
const CLOCKS: Duration = Duration::minutes(1);

/// The ledger's row of a pipeline and reference.
#[must_use]
pub fn key(pipeline: &PipelineName, repository: &RepositoryArn, git_ref: &GitRef) -> Key {
    Key { pk: partition(pipeline.as_str()), sk: format!("{repository}#{git_ref}") }
}

/// The reference whose row has this sort key.
#[must_use]
pub fn reference(sk: &str) -> Option<(RepositoryArn, GitRef)> {
    let (repository, git_ref) = sk.split_once('#')?;
    Some((repository.parse().ok()?, git_ref.parse().ok()?))
}

/// The ledger's partition with all references of a pipeline.
#[must_use]
pub fn partition(pipeline: &str) -> String {
    format!("pipeline#{pipeline}")
}

/// The newest change of a reference that came for a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The change's sequence.
    pub sequence: u64,
    /// The change's commit.
    pub commit: CommitId,
    /// The client request token of every try.
    pub token: String,
    /// When it was claimed first, in epoch milliseconds: a start whose answer was lost is looked for since then.
    pub since: u64,
    /// How far it has come.
    pub progress: Progress,
}

/// How far a start has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Progress {
    /// An invocation is at it until then, in epoch milliseconds.
    Claimed(u64),
    /// CodePipeline would not take it for now, for this reason.
    Waiting(String),
    /// Running, or run: the execution's id.
    Started(String),
    /// Cannot be started as things are, for this reason.
    Failed(String),
}

/// What to do for a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Take the row.
    Claim,
    /// Another invocation has it.
    Wait,
    /// It has been started, as this execution.
    Duplicate(String),
    /// A newer change, with this sequence, has come for this pipeline.
    Stale(u64),
}

/// What to do for the change with this sequence, given the row.
#[must_use]
pub fn step(row: Option<&State>, sequence: u64, now: OffsetDateTime) -> Step {
    let Some(state) = row else { return Step::Claim };
    if state.sequence > sequence {
        return Step::Stale(state.sequence);
    }
    match &state.progress {
        // An older change that is being started comes first: overtaken, it would start after this one.
        Progress::Claimed(lease) if is_live(*lease, now) => Step::Wait,
        Progress::Started(execution) if state.sequence == sequence => Step::Duplicate(execution.clone()),
        _ => Step::Claim,
    }
}

impl State {
    /// The row that claims it from `now`.
    #[must_use]
    pub fn claimed(change: &Change, pipeline: &PipelineName, now: OffsetDateTime) -> Self {
        Self {
            sequence: change.sequence,
            commit: change.commit.clone(),
            token: token(change, pipeline),
            since: epoch_millis(now),
            progress: leased(now),
        }
    }

    /// The row that claims it once more from `now`.
    #[must_use]
    pub fn claimed_again(&self, now: OffsetDateTime) -> Self {
        self.with(leased(now))
    }

    /// Whether nobody is at work on a start that has not come to an end: it was given back, or its invocation died.
    #[must_use]
    pub fn waits(&self, now: OffsetDateTime) -> bool {
        match &self.progress {
            Progress::Waiting(_) => true,
            Progress::Claimed(lease) => !is_live(*lease, now),
            Progress::Started(_) | Progress::Failed(_) => false,
        }
    }

    /// The row with another progress.
    #[must_use]
    pub fn with(&self, progress: Progress) -> Self {
        Self { progress, ..self.clone() }
    }
}

/// A lease that ends later than any can is of a clock that was wrong: it is nobody's.
fn is_live(lease: u64, now: OffsetDateTime) -> bool {
    (epoch_millis(now) + 1..=epoch_millis(now + LEASE + CLOCKS)).contains(&lease)
}

fn leased(now: OffsetDateTime) -> Progress {
    Progress::Claimed(epoch_millis(now + LEASE))
}

/// Hex SHA-256 of the change's id and the pipeline: 64 of the `[a-zA-Z0-9-]` that a client request token may have.
fn token(change: &Change, pipeline: &PipelineName) -> String {
    hex::encode(Sha256::digest(format!("{}\n{pipeline}", change.id())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-11-21 12:00 UTC);

    fn row(sequence: u64, progress: Progress) -> State {
        let commit = "0123456789abcdef0123456789abcdef01234567".parse().unwrap();
        State { sequence, commit, token: String::new(), since: 0, progress }
    }

    #[test]
    fn a_sort_key_names_its_reference() {
        let repository: RepositoryArn = "arn:aws:codecommit:ap-northeast-1:111111111111:shop".parse().unwrap();
        let git_ref: GitRef = "refs/heads/fix#12".parse().unwrap();
        let key = key(&"shop".parse().unwrap(), &repository, &git_ref);
        assert_eq!(reference(&key.sk), Some((repository, git_ref)));
        assert_eq!(reference("execution-1"), None);
    }

    #[test]
    fn a_lease_of_a_clock_that_was_wrong_is_nobodys() {
        let row = row(5, Progress::Claimed(epoch_millis(NOW + Duration::days(1))));
        assert_eq!(step(Some(&row), 5, NOW), Step::Claim);
        assert!(row.waits(NOW));
    }

    #[test]
    fn every_row_has_one_answer_to_every_sequence() {
        let live = Progress::Claimed(epoch_millis(NOW) + 1);
        let ended = Progress::Claimed(epoch_millis(NOW));
        let started = Progress::Started("e".into());
        let waiting = Progress::Waiting("busy".into());
        let failed = Progress::Failed("no such pipeline".into());
        let cases = [
            (live.clone(), [Step::Stale(5), Step::Wait, Step::Wait]),
            (ended, [Step::Stale(5), Step::Claim, Step::Claim]),
            (started, [Step::Stale(5), Step::Duplicate("e".into()), Step::Claim]),
            (waiting, [Step::Stale(5), Step::Claim, Step::Claim]),
            (failed, [Step::Stale(5), Step::Claim, Step::Claim]),
        ];
        for (progress, expected) in cases {
            let row = row(5, progress);
            let answers = [4, 5, 6].map(|sequence| step(Some(&row), sequence, NOW));
            assert_eq!(answers, expected, "{row:?}");
        }
        assert_eq!(step(None, 1, NOW), Step::Claim);
    }
}
