//! The pipelines of this account and region to which a route of the account's own configuration leads.

use std::collections::{BTreeMap, BTreeSet};

use sekisho_domain::account::{AccountId, Region};
use sekisho_domain::change::{GitRef, RepositoryArn, SourceChange};
use sekisho_domain::decision::Decision;
use sekisho_domain::route::{ActionName, PipelineName, Route, Routes, Target};

use crate::outcome::Outcome;

/// Pipelines, each with the source actions that are pinned to the commit.
pub(crate) type PinnedPipelines = BTreeMap<PipelineName, BTreeSet<ActionName>>;

/// The pipelines that an event starts.
#[derive(Debug)]
pub(crate) enum Selection {
    /// At least one pipeline.
    Pipelines(PinnedPipelines),
    /// No pipeline. The decision has the reason.
    Filtered(Decision<Outcome>),
}

/// The routes whose targets are in one account and region.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LocalRoutes<'a> {
    pub(crate) routes: &'a Routes,
    pub(crate) account: &'a AccountId,
    pub(crate) region: &'a Region,
}

impl<'a> LocalRoutes<'a> {
    /// The pipelines that both the routes and the event name for the change.
    pub(crate) fn select(&self, event: &SourceChange) -> Selection {
        let routed = self.pipelines(&event.change.repository, &event.change.git_ref);
        let reason = if routed.is_empty() {
            "no route of this account's configuration leads from this repository and reference to a pipeline here"
        } else {
            "the event names none of the pipelines to which this account's configuration routes the change"
        };
        let mut selected = routed;
        selected.retain(|pipeline, _| event.pipelines.iter().any(|named| named == pipeline.as_str()));
        if !selected.is_empty() {
            return Selection::Pipelines(selected);
        }
        Selection::Filtered(
            Decision::new(Outcome::Filtered, reason)
                .about("repository", event.change.repository.as_str())
                .about("ref", event.change.git_ref.as_str())
                .about("id", &event.id),
        )
    }

    /// The pipelines that the routes name for a repository and reference.
    pub(crate) fn pipelines(&self, repository: &RepositoryArn, git_ref: &GitRef) -> PinnedPipelines {
        let mut pipelines = PinnedPipelines::new();
        let routes = self.routes.concerning(repository, git_ref);
        for target in routes.flat_map(Route::targets).filter(|target| self.is_local(target)) {
            pipelines.entry(target.pipeline.clone()).or_default().insert(target.action.clone());
        }
        pipelines
    }

    /// The local pipeline of this name, if any route leads to it.
    pub(crate) fn pipeline(&self, name: &str) -> Option<&'a PipelineName> {
        let mut targets = self.routes.iter().flat_map(Route::targets).filter(|target| self.is_local(target));
        targets.find(|target| target.pipeline.as_str() == name).map(|target| &target.pipeline)
    }

    fn is_local(&self, target: &Target) -> bool {
        target.account == *self.account && target.region == *self.region
    }
}
