//! The ledgers of an earlier version, with which some histories begin.

use std::collections::BTreeMap;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use pipeline_starter::claim;
use sekisho_domain::change::{Change, CommitId, GitRef};
use sekisho_domain::route::PipelineName;
use sekisho_domain::timestamp::epoch_millis;
use sekisho_ledger::{Key, Memory, Store};
use serde_json::{Value, json};
use time::Duration;

use crate::check::Broken;
use crate::cloud::Cloud;
use crate::repository::{self, PATHS};

/// The branches and tags that an earlier version relayed, and the pipelines that follow each of them.
const RELAYED: [(&str, &[(usize, &str)]); 3] = [
    ("refs/heads/main", &[(0, "all"), (0, "api"), (1, "all"), (1, "both")]),
    ("refs/heads/release/1", &[(1, "both")]),
    ("refs/tags/live", &[(1, "tags")]),
];

/// The rows of an earlier version.
#[derive(Debug, Default)]
pub(crate) struct Upgrade {
    /// The commit and the sequence of each branch and tag that was relayed.
    relayed: BTreeMap<GitRef, (CommitId, u64)>,
    /// The executions that were started: the place, the id, and the sequence of the change.
    executions: Vec<(usize, String, u64)>,
}

impl Upgrade {
    pub(crate) fn is_upgrade(&self) -> bool {
        !self.relayed.is_empty()
    }

    /// The commit that an earlier version relayed last.
    pub(crate) fn commit(&self, git_ref: &GitRef) -> Option<&CommitId> {
        self.relayed.get(git_ref).map(|(commit, _)| commit)
    }

    /// The sequence that an earlier version gave last.
    pub(crate) fn sequence(&self, git_ref: &GitRef) -> Option<u64> {
        self.relayed.get(git_ref).map(|(_, sequence)| *sequence)
    }

    /// Whether an earlier version started this execution.
    pub(crate) fn has_execution(&self, place: usize, id: &str) -> bool {
        self.executions.iter().any(|(at, execution, _)| *at == place && execution == id)
    }

    /// Whether an earlier version started this change in a pipeline.
    pub(crate) fn has_started(&self, place: usize, pipeline: &str, change: &Change) -> bool {
        let is_own = |id: &str| id.strip_prefix(pipeline).is_some_and(|rest| rest.starts_with('-'));
        let is_same = self.relayed.get(&change.git_ref).is_some_and(|(commit, _)| *commit == change.commit);
        is_same
            && self
                .executions
                .iter()
                .any(|(at, id, sequence)| *at == place && is_own(id) && *sequence == change.sequence)
    }
}

/// Writes the rows that an earlier version leaves behind when it has relayed and started every head.
pub(crate) fn prepare(cloud: &Cloud) -> Result<Upgrade, Broken> {
    let mut upgrade = Upgrade::default();
    let relayed_at = cloud.clock.now.get() - Duration::hours(1);
    for (name, pipelines) in RELAYED {
        let git_ref: GitRef = name.parse().map_err(|error| broken(&error))?;
        let commit = cloud.repository.commit(None, PATHS[0]);
        cloud.repository.point(&git_ref, &commit);
        let sequence = epoch_millis(relayed_at);
        let row = json!({"commit": commit, "sequence": sequence, "pending": null, "events": []});
        write(&cloud.relay_ledger, &event_relay::branch::key(&repository::arn(), &git_ref), &row)?;
        let change = Change {
            kind: git_ref.kind(),
            repository: repository::arn(),
            git_ref: git_ref.clone(),
            commit: commit.clone(),
            previous: None,
            sequence,
            actor: None,
            event: None,
        };
        for (place, pipeline) in pipelines {
            let token = format!("{}-{pipeline}", change.id());
            let place_state = &cloud.places[*place];
            let id = place_state.codepipeline.add_ended(pipeline, &commit, token.clone(), relayed_at);
            let claim = json!({
                "sequence": sequence, "commit": commit, "token": token, "since": epoch_millis(relayed_at),
                "progress": {"started": id},
            });
            let name: PipelineName = pipeline.parse().map_err(|error| broken(&error))?;
            write(&place_state.ledger, &claim::key(&name, &repository::arn(), &git_ref), &claim)?;
            upgrade.executions.push((*place, id, sequence));
        }
        upgrade.relayed.insert(git_ref, (commit, sequence));
    }
    Ok(upgrade)
}

/// Writes a row into a ledger in memory, which answers at once.
fn write(ledger: &Memory, key: &Key, row: &Value) -> Result<(), Broken> {
    let mut writing = pin!(ledger.write(key, row, None, "an earlier version"));
    match writing.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(written) => written.map(drop).map_err(|error| broken(&error)),
        Poll::Pending => Err(Broken("a ledger in memory answers at once".to_owned())),
    }
}

fn broken(error: &dyn std::fmt::Display) -> Broken {
    Broken(error.to_string())
}
