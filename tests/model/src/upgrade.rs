//! The ledgers of an earlier version, with which some histories begin.

use std::collections::BTreeMap;

use pipeline_starter::claim;
use sekisho_domain::change::{Change, Revision};
use sekisho_domain::route::PipelineName;
use sekisho_domain::timestamp::epoch_millis;
use sekisho_ledger::Store;
use serde_json::json;
use time::Duration;

use crate::check::Broken;
use crate::cloud::Cloud;
use crate::codepipeline::at_commit;
use crate::ledger::at_once;
use crate::repository::{PATHS, Reference, SHELF, SHOP};

/// Pipelines, each with its place.
type Pipelines = &'static [(usize, &'static str)];

/// The branches and tags that an earlier version relayed, and the pipelines that follow each of them.
const RELAYED: [(usize, &str, Pipelines); 4] = [
    (SHOP, "refs/heads/main", &[(0, "all"), (0, "api"), (1, "all"), (1, "both")]),
    (SHOP, "refs/heads/release/1", &[(1, "both")]),
    (SHOP, "refs/tags/live", &[(1, "tags")]),
    (SHELF, "refs/heads/main", &[(0, "shelf"), (1, "both")]),
];

/// The writer of all rows.
const WRITER: &str = "an earlier version";

/// The rows of an earlier version.
#[derive(Debug, Default)]
pub(crate) struct Upgrade {
    /// The commit and the sequence of each branch and tag that was relayed.
    relayed: BTreeMap<Reference, (Revision, u64)>,
    /// The executions that were started: the place, the id, and the sequence of the change.
    executions: Vec<(usize, String, u64)>,
}

impl Upgrade {
    pub(crate) fn is_upgrade(&self) -> bool {
        !self.relayed.is_empty()
    }

    /// The commit that an earlier version relayed last.
    pub(crate) fn commit(&self, reference: &Reference) -> Option<&Revision> {
        self.relayed.get(reference).map(|(commit, _)| commit)
    }

    /// The sequence that an earlier version gave last.
    pub(crate) fn sequence(&self, reference: &Reference) -> Option<u64> {
        self.relayed.get(reference).map(|(_, sequence)| *sequence)
    }

    /// Whether an earlier version started this execution.
    pub(crate) fn has_execution(&self, place: usize, id: &str) -> bool {
        self.executions.iter().any(|(at, execution, _)| *at == place && execution == id)
    }

    /// Whether an earlier version started this change in a pipeline.
    pub(crate) fn has_started(&self, place: usize, pipeline: &str, change: &Change) -> bool {
        let is_own = |id: &str| id.strip_prefix(pipeline).is_some_and(|rest| rest.starts_with('-'));
        let is_same = self.relayed.get(&Reference::of(change)).is_some_and(|(commit, _)| *commit == change.revision);
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
    let mut relayed_at = cloud.clock.now.get() - Duration::hours(1);
    for (repository, name, pipelines) in RELAYED {
        relayed_at += Duration::minutes(1);
        let reference = Reference::new(repository, name);
        let commit = cloud.repositories[repository].commit(None, PATHS[0]);
        cloud.repositories[repository].point(&reference.source_ref, &commit);
        let sequence = epoch_millis(relayed_at);
        let row = json!({"commit": commit, "sequence": sequence, "pending": null, "events": []});
        at_once(cloud.relay_ledger.write(&reference.key(), &row, None, WRITER))?;
        let change = Change {
            kind: reference.source_ref.kind(),
            repository: reference.arn(),
            source_ref: reference.source_ref.clone(),
            revision: commit.clone(),
            previous: None,
            sequence,
            actor: None,
            event: None,
        };
        for (place, pipeline) in pipelines {
            let token = format!("{}-{pipeline}", change.id());
            let place_state = &cloud.places[*place];
            let id = place_state.codepipeline.add_ended(pipeline, at_commit(&commit), Some(token.clone()), relayed_at);
            let claim = json!({
                "sequence": sequence, "commit": commit, "token": token, "since": epoch_millis(relayed_at),
                "progress": {"started": id},
            });
            let name: PipelineName = pipeline.parse().map_err(|error| Broken::of(&error))?;
            let key = claim::key(&name, &change.repository, &change.source_ref);
            at_once(place_state.ledger.write(&key, &claim, None, WRITER))?;
            upgrade.executions.push((*place, id, sequence));
        }
        upgrade.relayed.insert(reference, (commit, sequence));
    }
    Ok(upgrade)
}
