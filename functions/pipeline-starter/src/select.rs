//! Which of this account's pipelines a change starts.

use std::collections::{BTreeMap, BTreeSet};

use sekisho_domain::account::{AccountId, Region};
use sekisho_domain::change::{GitRef, RepositoryArn, SourceChange};
use sekisho_domain::route::{ActionName, PipelineName, Routes};

/// Pipelines with the source actions to pin, in the order of their names.
pub type Selected = BTreeMap<PipelineName, BTreeSet<ActionName>>;

/// What our own configuration routes here for the change's repository and reference, narrowed to what the event names.
#[must_use]
pub fn select(routes: &Routes, event: &SourceChange, account: &AccountId, region: &Region) -> Selected {
    let mut selected = routed(routes, &event.change.repository, &event.change.git_ref, account, region);
    selected.retain(|pipeline, _| event.pipelines.iter().any(|named| named == pipeline.as_str()));
    selected
}

/// What our own configuration routes here for a repository and reference.
#[must_use]
pub fn routed(
    routes: &Routes,
    repository: &RepositoryArn,
    git_ref: &GitRef,
    account: &AccountId,
    region: &Region,
) -> Selected {
    let mut selected = Selected::new();
    for target in routes.concerning(repository.name(), git_ref).flat_map(sekisho_domain::route::Route::targets) {
        if target.account == *account && target.region == *region {
            selected.entry(target.pipeline.clone()).or_default().insert(target.action.clone());
        }
    }
    selected
}

/// Whether any route starts this pipeline here.
#[must_use]
pub fn is_ours(routes: &Routes, pipeline: &str, account: &AccountId, region: &Region) -> bool {
    routes
        .iter()
        .flat_map(sekisho_domain::route::Route::targets)
        .any(|target| target.account == *account && target.region == *region && target.pipeline.as_str() == pipeline)
}
