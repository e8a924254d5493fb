//! Where changes come from: CodeCommit for the repositories of commits, ECR for those of images. The rest of the
//! function does not tell the two kinds apart.

use std::borrow::Cow;

use sekisho_domain::account::Malformed;
use sekisho_domain::change::{Change, RefKind, RepositoryArn, SourceKind, SourceRef};
use sekisho_domain::route::{Route, Routes};
use sekisho_lambda::{Invocation, ServiceError};

use crate::image::{Image, unroutable_tag};
use crate::ordering::{Placed, orders};
use crate::run::Run;
use crate::worklist::Listed;
use crate::world::{FoundImage, Head, ImageId, World};

/// Reads the head of a reference.
pub(crate) async fn head<W: World>(
    world: &W,
    repository: &RepositoryArn,
    source_ref: &SourceRef,
) -> Result<Head, ServiceError> {
    if repository.kind() == SourceKind::Git {
        return world.head(repository.name(), source_ref).await;
    }
    let tag = source_ref.name();
    if let Some(reason) = unroutable_tag(tag) {
        return Ok(Head::Unroutable(reason));
    }
    Ok(match world.image(repository.name(), &ImageId::Tag(tag)).await? {
        FoundImage::At(image) => of_image(&image, tag),
        FoundImage::NoImage => Head::NoRef,
        FoundImage::NoRepository => Head::NoRepository,
    })
}

/// Lists the branches or image tags of a repository. Returns `None` if the repository does not exist.
pub(crate) async fn list<W: World>(world: &W, repository: &RepositoryArn) -> Result<Option<Vec<Listed>>, ServiceError> {
    if repository.kind() == SourceKind::Git {
        let branches = world.branches(repository.name()).await?;
        let listed = |branch: &String| {
            let source_ref = SourceRef::branch(branch).ok()?;
            Some(Listed { source_ref, head: None, pushed: 0 })
        };
        return Ok(branches.map(|branches| branches.iter().filter_map(listed).collect()));
    }
    let images = world.images(repository.name()).await?;
    let listed = |image: Image| {
        let one = |tag: &String| {
            let source_ref = SourceRef::new(RefKind::Image, tag).ok()?;
            Some(Listed { source_ref, head: Some(of_image(&image, tag)), pushed: image.pushed })
        };
        image.tags.iter().filter_map(one).collect::<Vec<_>>()
    };
    Ok(images.map(|images| images.into_iter().flat_map(listed).collect()))
}

fn of_image(image: &Image, tag: &str) -> Head {
    let unroutable = unroutable_tag(tag).or_else(|| image.unroutable());
    unroutable.map_or_else(|| Head::At(image.digest.clone()), Head::Unroutable)
}

/// The ARN of a repository of this account and region.
pub(crate) fn arn(own: &Invocation, kind: SourceKind, name: &str) -> Result<RepositoryArn, Malformed> {
    match kind {
        SourceKind::Git => RepositoryArn::codecommit(&own.partition, own.region.as_str(), &own.account, name),
        SourceKind::Image => RepositoryArn::ecr(&own.partition, own.region.as_str(), &own.account, name),
    }
}

/// Lists the names of all repositories of a kind.
pub(crate) async fn repositories<W: World>(world: &W, kind: SourceKind) -> Result<Vec<String>, ServiceError> {
    match kind {
        SourceKind::Git => world.repositories().await,
        SourceKind::Image => Ok(world.image_repositories().await?.into_iter().map(|one| one.name).collect()),
    }
}

/// The routes, in which no glob matches a cache of another registry any more: such a repository is routed only by its
/// literal name. The caches are read only if one of the routes that `concerned` selects has a glob for images.
pub(crate) async fn without_caches<'r, W: World>(
    world: &W,
    routes: &'r Routes,
    concerned: impl Fn(&Route) -> bool,
) -> Result<Cow<'r, Routes>, ServiceError> {
    if !routes.iter().filter(|route| route.is_glob_for(SourceKind::Image)).any(concerned) {
        return Ok(Cow::Borrowed(routes));
    }
    Ok(Cow::Owned(routes.without_caches(&world.cache_prefixes().await?)))
}

/// The changes in these new orders whose images are gone.
pub(crate) async fn gone<W: World>(run: &Run<'_, W>, placed: &[Placed]) -> Vec<Change> {
    let mut gone = Vec::new();
    for (_, order) in orders(placed) {
        if is_gone(run, &order.change).await {
            gone.push(order.change);
        }
    }
    gone
}

/// Whether the image of a change was deleted or archived since its tag was read. A commit never is. If ECR does not
/// answer, the image counts as present: an execution with an image that is gone fails in its source action.
pub(crate) async fn is_gone<W: World>(run: &Run<'_, W>, change: &Change) -> bool {
    if change.repository.kind() == SourceKind::Git {
        return false;
    }
    let key = (change.repository.clone(), change.revision.clone());
    if let Some(is_gone) = run.gone_images.borrow().get(&key) {
        return *is_gone;
    }
    // The list may be older than a look at the image.
    if run.has_listed(&change.repository, &change.revision) {
        return false;
    }
    let found = run.world.image(change.repository.name(), &ImageId::Digest(&change.revision)).await;
    let is_gone = match found {
        Ok(FoundImage::At(image)) => image.is_archived,
        Ok(FoundImage::NoImage | FoundImage::NoRepository) => true,
        Err(_) => false,
    };
    run.gone_images.borrow_mut().insert(key, is_gone);
    is_gone
}
