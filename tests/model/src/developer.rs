//! The people who push to the repositories: commits, force-pushes, moved tags and deletions.

use sekisho_domain::change::{RefKind, Revision};

use crate::cloud::Cloud;
use crate::event;
use crate::in_flight::InFlight;
use crate::lambda::Function;
use crate::repository::{PATHS, Reference, SHELF, SHOP};

/// The branches and tags of each repository. Its first branch is `main`. No route includes `other`, and the
/// configuration names the tag `live` literally.
const REFERENCES: [&[&str]; 2] = [
    &[
        "refs/heads/main",
        "refs/heads/release/1",
        "refs/heads/release/2",
        "refs/heads/other",
        "refs/tags/live",
        "refs/tags/v1",
        "refs/tags/v2",
    ],
    &["refs/heads/main", "refs/heads/release/1"],
];

/// All branches and git tags.
pub(crate) fn references() -> impl Iterator<Item = Reference> {
    [SHOP, SHELF].into_iter().flat_map(|repository| {
        REFERENCES[repository].iter().map(move |source_ref| Reference::new(repository, source_ref))
    })
}

/// A random repository. Most targets follow the first one.
fn any_repository(cloud: &Cloud) -> usize {
    if cloud.chance.percent(25) { SHELF } else { SHOP }
}

/// A random branch or tag of this kind in a repository. `None` if the repository has none.
fn any_of(cloud: &Cloud, repository: usize, kind: RefKind) -> Option<Reference> {
    let all = || references().filter(|one| one.repository == repository && one.source_ref.kind() == kind);
    all().nth(cloud.chance.below(all().count()))
}

/// What a developer did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Nothing was there to do.
    Nothing,
    /// The head of this branch or tag moved, or the branch or tag was created.
    Moved(Reference),
    /// This branch or tag was deleted.
    Deleted(Reference),
}

/// Pushes a new commit to a random branch.
pub(crate) fn push(cloud: &Cloud, in_flight: &mut InFlight) -> Deed {
    let repository = any_repository(cloud);
    // Half of all pushes go to `main`, because most targets follow it.
    let main = || Some(Reference::new(repository, "refs/heads/main"));
    let branch = if cloud.chance.percent(50) { main() } else { any_of(cloud, repository, RefKind::Branch) };
    let Some(branch) = branch else { return Deed::Nothing };
    let before = cloud.head(&branch);
    let commit = cloud.repositories[repository].commit(before.as_ref(), PATHS[cloud.chance.below(PATHS.len())]);
    point(cloud, in_flight, &branch, &commit)
}

/// Pushes a new commit to `main` of the repository that most targets follow.
pub(crate) fn push_main(cloud: &Cloud, in_flight: &mut InFlight) -> Deed {
    let main = Reference::new(SHOP, "refs/heads/main");
    let commit = cloud.repositories[SHOP].commit(cloud.head(&main).as_ref(), PATHS[0]);
    point(cloud, in_flight, &main, &commit)
}

/// Points a random branch at an older commit of any branch of its repository: a force-push, or a merge that moves two
/// branches to the same commit.
pub(crate) fn force_push(cloud: &Cloud, in_flight: &mut InFlight) -> Deed {
    let Some(branch) = any_of(cloud, any_repository(cloud), RefKind::Branch) else { return Deed::Nothing };
    point_at_any(cloud, in_flight, &branch)
}

/// Creates or moves a random tag. Some tags move twice within the same millisecond.
pub(crate) fn tag(cloud: &Cloud, in_flight: &mut InFlight) -> Deed {
    let Some(tag) = any_of(cloud, SHOP, RefKind::Tag) else { return Deed::Nothing };
    if cloud.chance.percent(30) {
        point_at_any(cloud, in_flight, &tag);
    }
    point_at_any(cloud, in_flight, &tag)
}

/// Deletes a random branch or tag.
pub(crate) fn delete(cloud: &Cloud, in_flight: &mut InFlight) -> Deed {
    let Some(reference) = references().nth(cloud.chance.below(references().count())) else { return Deed::Nothing };
    if !cloud.repositories[reference.repository].delete(&reference.source_ref) {
        return Deed::Nothing;
    }
    notify(cloud, in_flight, &reference, "referenceDeleted", None);
    Deed::Deleted(reference)
}

fn point_at_any(cloud: &Cloud, in_flight: &mut InFlight, reference: &Reference) -> Deed {
    let commits = cloud.repositories[reference.repository].commits();
    match commits.get(cloud.chance.below(commits.len())) {
        Some(commit) if cloud.head(reference).as_ref() != Some(commit) => point(cloud, in_flight, reference, commit),
        _ => Deed::Nothing,
    }
}

/// Points a branch or tag at a commit.
pub(crate) fn point(cloud: &Cloud, in_flight: &mut InFlight, reference: &Reference, commit: &Revision) -> Deed {
    let before = cloud.repositories[reference.repository].point(&reference.source_ref, commit);
    let kind = if before.is_some() { "referenceUpdated" } else { "referenceCreated" };
    notify(cloud, in_flight, reference, kind, Some(commit));
    Deed::Moved(reference.clone())
}

fn notify(cloud: &Cloud, in_flight: &mut InFlight, reference: &Reference, kind: &str, commit: Option<&Revision>) {
    let number = in_flight.number();
    let payload = event::reference_changed(number, reference, kind, commit);
    in_flight.send(Function::Relay, payload, &cloud.chance);
}
