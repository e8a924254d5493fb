//! Claims: the ledger's row of a pipeline and reference, and the plan for a change, which depends on that row.

use std::time::Duration;

use sekisho_domain::change::{Change, CommitId, GitRef, RepositoryArn};
use sekisho_domain::decision::Decision;
use sekisho_domain::route::PipelineName;
use sekisho_domain::timestamp::epoch_millis;
use sekisho_ledger::{Key, Lease};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::outcome::Outcome;

/// The length of an invocation's lease on a row: the function's timeout of 45 s plus a margin.
const LEASE_TERM: Duration = Duration::from_secs(55);

/// The key of the row of a pipeline and reference.
#[must_use]
pub fn key(pipeline: &PipelineName, repository: &RepositoryArn, git_ref: &GitRef) -> Key {
    Key { pk: partition(pipeline), sk: format!("{repository}#{git_ref}") }
}

/// The partition key of a pipeline's rows. A pipeline has one row for each reference.
#[must_use]
pub fn partition(pipeline: &PipelineName) -> String {
    format!("pipeline#{pipeline}")
}

/// The repository and the reference whose row has this sort key. Returns `None` if the key has another format.
pub(crate) fn reference(sk: &str) -> Option<(RepositoryArn, GitRef)> {
    let (repository, git_ref) = sk.split_once('#')?;
    Some((repository.parse().ok()?, git_ref.parse().ok()?))
}

/// The row of a pipeline and reference: the newest change of the reference that the pipeline has received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRow {
    /// The change's sequence.
    pub sequence: u64,
    /// The change's commit.
    pub commit: CommitId,
    /// The client request token of every attempt to start the change.
    pub token: String,
    /// The time when the change was first claimed, in epoch milliseconds. The search for an execution whose start got
    /// no answer begins at this time.
    pub since: u64,
    /// The progress of the start.
    pub progress: Progress,
}

/// The progress of a start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Progress {
    /// An invocation holds the claim until this lease ends.
    Claimed(Lease),
    /// CodePipeline deferred the start for this reason.
    Waiting(String),
    /// CodePipeline started the execution with this id.
    Started(String),
    /// The start failed for this reason, and a person must correct the cause.
    Failed(String),
}

/// The plan for a change and one pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Claim the row, then start the execution.
    Claim(Claim),
    /// Wait until the invocation that holds the claim has finished.
    Wait,
    /// Start nothing, because the change was started before. The text is the id of the execution.
    Duplicate(String),
    /// Start nothing, because the pipeline has received a newer change with this sequence.
    Stale(u64),
}

/// A claim that this invocation may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The row to write. The claim is taken when the ledger accepts this row.
    pub(crate) row: ClaimRow,
    /// Whether an earlier invocation may have started the execution. In this case, the invocation must search for the
    /// execution before it starts one.
    pub(crate) is_repeat: bool,
}

impl Claim {
    /// The claim that continues a start which an earlier invocation gave back or did not finish.
    pub(crate) fn again(row: &ClaimRow, now: OffsetDateTime) -> Self {
        Self { row: row.with(Progress::claimed(now)), is_repeat: true }
    }
}

impl Plan {
    /// The plan for a change of the row's reference. Without a row, the pipeline has received no change of the
    /// reference.
    pub(crate) fn new(row: Option<&ClaimRow>, change: &Change, pipeline: &PipelineName, now: OffsetDateTime) -> Self {
        let first = || Self::Claim(Claim { row: ClaimRow::new(change, pipeline, now), is_repeat: false });
        let Some(row) = row else { return first() };
        if row.sequence > change.sequence {
            return Self::Stale(row.sequence);
        }
        match &row.progress {
            // Another invocation is starting this change or an older one, and must finish first. Otherwise the older
            // change could start after this change.
            Progress::Claimed(lease) if lease.is_held(now, LEASE_TERM) => Self::Wait,
            Progress::Started(execution) if row.sequence == change.sequence => Self::Duplicate(execution.clone()),
            // The claim is a repetition, because an earlier start may have succeeded although its answer was lost and
            // the row does not show the execution.
            _ if row.sequence == change.sequence => Self::Claim(Claim::again(row, now)),
            _ => first(),
        }
    }

    /// The decision that the plan leads to if CodePipeline accepts the start.
    pub(crate) fn decision(&self) -> Decision<Outcome> {
        match self {
            Self::Claim(_) => Decision::new(Outcome::Started, "would be started at this commit"),
            Self::Wait => Decision::new(
                Outcome::Started,
                "would be started when another invocation has finished with this pipeline",
            ),
            Self::Duplicate(execution) => {
                Decision::new(Outcome::Duplicate, format!("started before, as execution {execution}"))
                    .about("execution", execution)
            }
            Self::Stale(newer) => Decision::new(
                Outcome::Stale,
                format!("this pipeline has received a newer change, with sequence {newer}"),
            ),
        }
    }
}

impl ClaimRow {
    /// The row that claims a change for the first time.
    #[must_use]
    pub fn new(change: &Change, pipeline: &PipelineName, now: OffsetDateTime) -> Self {
        Self {
            sequence: change.sequence,
            commit: change.commit.clone(),
            token: token(change, pipeline),
            since: epoch_millis(now),
            progress: Progress::claimed(now),
        }
    }

    /// The same row with this progress.
    #[must_use]
    pub fn with(&self, progress: Progress) -> Self {
        Self { progress, ..self.clone() }
    }

    /// Whether the start is unfinished and no invocation is working on it: an invocation gave the claim back, or
    /// crashed.
    pub(crate) fn is_waiting(&self, now: OffsetDateTime) -> bool {
        match &self.progress {
            Progress::Waiting(_) => true,
            Progress::Claimed(lease) => !lease.is_held(now, LEASE_TERM),
            Progress::Started(_) | Progress::Failed(_) => false,
        }
    }
}

impl Progress {
    fn claimed(now: OffsetDateTime) -> Self {
        Self::Claimed(Lease::new(now, LEASE_TERM))
    }
}

/// The client request token: the SHA-256 digest of the change's id and the pipeline, in hexadecimal. CodePipeline
/// accepts tokens of up to 128 characters of `[a-zA-Z0-9-]`.
fn token(change: &Change, pipeline: &PipelineName) -> String {
    hex::encode(Sha256::digest(format!("{}\n{pipeline}", change.id())))
}

#[cfg(test)]
mod tests {
    use sekisho_domain::change::RefKind;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-21 12:00 UTC);

    fn pipeline() -> PipelineName {
        "shop".parse().unwrap()
    }

    fn change(sequence: u64) -> Change {
        Change {
            kind: RefKind::Branch,
            repository: "arn:aws:codecommit:ap-northeast-1:111111111111:shop".parse().unwrap(),
            git_ref: "refs/heads/main".parse().unwrap(),
            commit: "0123456789abcdef0123456789abcdef01234567".parse().unwrap(),
            previous: None,
            sequence,
            actor: None,
            event: None,
        }
    }

    /// The row of the change with sequence 5, which was first claimed an hour ago.
    fn row(progress: Progress) -> ClaimRow {
        ClaimRow::new(&change(5), &pipeline(), NOW - Duration::from_hours(1)).with(progress)
    }

    fn plan(row: &ClaimRow, sequence: u64) -> Plan {
        Plan::new(Some(row), &change(sequence), &pipeline(), NOW)
    }

    #[test]
    fn a_sort_key_names_its_reference() {
        let repository: RepositoryArn = "arn:aws:codecommit:ap-northeast-1:111111111111:shop".parse().unwrap();
        let git_ref: GitRef = "refs/heads/fix#12".parse().unwrap();
        let key = key(&pipeline(), &repository, &git_ref);
        assert_eq!(reference(&key.sk), Some((repository, git_ref)));
        assert_eq!(reference("execution-1"), None);
    }

    #[test]
    fn a_lease_of_a_wrong_clock_does_not_count() {
        let row = row(Progress::Claimed(Lease::new(NOW, Duration::from_hours(24))));
        assert!(matches!(plan(&row, 5), Plan::Claim(_)));
        assert!(row.is_waiting(NOW));
    }

    #[test]
    fn every_row_has_one_plan_for_every_sequence() {
        let live = row(Progress::Claimed(Lease::new(NOW, Duration::from_millis(1))));
        let expired = row(Progress::Claimed(Lease::new(NOW, Duration::ZERO)));
        let started = row(Progress::Started("e".into()));
        let waiting = row(Progress::Waiting("busy".into()));
        let failed = row(Progress::Failed("no such pipeline".into()));
        let again = |row: &ClaimRow| Plan::Claim(Claim::again(row, NOW));
        let first = |sequence| {
            let row = ClaimRow::new(&change(sequence), &pipeline(), NOW);
            Plan::Claim(Claim { row, is_repeat: false })
        };
        let cases = [
            (&live, [Plan::Stale(5), Plan::Wait, Plan::Wait]),
            (&expired, [Plan::Stale(5), again(&expired), first(6)]),
            (&started, [Plan::Stale(5), Plan::Duplicate("e".into()), first(6)]),
            (&waiting, [Plan::Stale(5), again(&waiting), first(6)]),
            (&failed, [Plan::Stale(5), again(&failed), first(6)]),
        ];
        for (row, expected) in cases {
            assert_eq!([4, 5, 6].map(|sequence| plan(row, sequence)), expected, "{row:?}");
        }
        assert_eq!(Plan::new(None, &change(1), &pipeline(), NOW), first(1));
    }

    #[test]
    fn a_repeated_claim_keeps_token_and_first_time() {
        let row = row(Progress::Waiting("busy".into()));
        let claim = Claim::again(&row, NOW);
        assert_eq!((claim.row.token.as_str(), claim.row.since), (row.token.as_str(), row.since));
    }
}
