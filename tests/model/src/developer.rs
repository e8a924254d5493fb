//! The people who push to the repository: commits, force-pushes, moved tags and deletions.

use sekisho_domain::change::{CommitId, GitRef, RefKind};

use crate::cloud::Cloud;
use crate::event;
use crate::in_flight::InFlight;
use crate::lambda::Function;
use crate::repository::PATHS;

/// The branches. No route includes the last one.
const BRANCHES: [&str; 4] = ["main", "release/1", "release/2", "other"];

/// The tags. The configuration names the first one literally.
const TAGS: [&str; 3] = ["live", "v1", "v2"];

/// All branches and tags.
pub(crate) fn refs() -> impl Iterator<Item = GitRef> {
    let branches = BRANCHES.iter().map(|name| GitRef::branch(name));
    let tags = TAGS.iter().map(|name| format!("refs/tags/{name}").parse());
    branches.chain(tags).map(|git_ref| git_ref.unwrap_or_else(|error| unreachable!("{error}")))
}

/// What a developer did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Nothing was there to do.
    Nothing,
    /// The head of this branch or tag moved, or the branch or tag was created.
    Moved(GitRef),
    /// This branch or tag was deleted.
    Deleted(GitRef),
}

/// Pushes a new commit to a random branch.
pub(crate) fn push(cloud: &Cloud, in_flight: &mut InFlight) -> Deed {
    // Half of all pushes go to `main`, because most targets follow it.
    let name = if cloud.chance.percent(50) { BRANCHES[0] } else { BRANCHES[cloud.chance.below(BRANCHES.len())] };
    let Ok(branch) = GitRef::branch(name) else { return Deed::Nothing };
    let before = cloud.repository.head(&branch);
    let commit = cloud.repository.commit(before.as_ref(), PATHS[cloud.chance.below(PATHS.len())]);
    point(cloud, in_flight, &branch, &commit)
}

/// Points a random branch at an older commit of any branch: a force-push, or a merge that moves two branches to the
/// same commit.
pub(crate) fn force_push(cloud: &Cloud, in_flight: &mut InFlight) -> Deed {
    let Ok(branch) = GitRef::branch(BRANCHES[cloud.chance.below(BRANCHES.len())]) else { return Deed::Nothing };
    point_at_any(cloud, in_flight, &branch)
}

/// Creates or moves a random tag. Some tags move twice within the same millisecond.
pub(crate) fn tag(cloud: &Cloud, in_flight: &mut InFlight) -> Deed {
    let tag = refs().filter(|git_ref| git_ref.kind() == RefKind::Tag).nth(cloud.chance.below(TAGS.len()));
    let Some(tag) = tag else { return Deed::Nothing };
    if cloud.chance.percent(30) {
        point_at_any(cloud, in_flight, &tag);
    }
    point_at_any(cloud, in_flight, &tag)
}

/// Deletes a random branch or tag.
pub(crate) fn delete(cloud: &Cloud, in_flight: &mut InFlight) -> Deed {
    let Some(git_ref) = refs().nth(cloud.chance.below(BRANCHES.len() + TAGS.len())) else { return Deed::Nothing };
    if !cloud.repository.delete(&git_ref) {
        return Deed::Nothing;
    }
    notify(cloud, in_flight, &git_ref, "referenceDeleted", None);
    Deed::Deleted(git_ref)
}

fn point_at_any(cloud: &Cloud, in_flight: &mut InFlight, git_ref: &GitRef) -> Deed {
    let commits = cloud.repository.commits();
    match commits.get(cloud.chance.below(commits.len())) {
        Some(commit) if cloud.repository.head(git_ref).as_ref() != Some(commit) => {
            point(cloud, in_flight, git_ref, commit)
        }
        _ => Deed::Nothing,
    }
}

/// Points a branch or tag at a commit.
pub(crate) fn point(cloud: &Cloud, in_flight: &mut InFlight, git_ref: &GitRef, commit: &CommitId) -> Deed {
    let before = cloud.repository.point(git_ref, commit);
    let kind = if before.is_some() { "referenceUpdated" } else { "referenceCreated" };
    notify(cloud, in_flight, git_ref, kind, Some(commit));
    Deed::Moved(git_ref.clone())
}

fn notify(cloud: &Cloud, in_flight: &mut InFlight, git_ref: &GitRef, kind: &str, commit: Option<&CommitId>) {
    let number = in_flight.number();
    let payload = event::reference_changed(number, git_ref, kind, commit);
    in_flight.send(Function::Relay, payload, &cloud.chance);
}
