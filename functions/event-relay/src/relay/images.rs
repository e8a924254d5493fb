//! What a reconcile knows about the image repositories before it looks at them: which of them exist, and which are
//! caches of other registries.

use std::borrow::Cow;

use sekisho_domain::change::SourceKind;
use sekisho_domain::route::{Route, Routes};
use sekisho_lambda::ServiceError;

use crate::caches::Caches;
use crate::image::ImageRepository;
use crate::relay::source;
use crate::run::Run;
use crate::selection::routes_here;
use crate::world::World;

/// The image repositories, as far as the globs of routes need them.
pub(crate) struct Images {
    /// The names of all repositories.
    pub(crate) listed: Result<Vec<String>, Unlisted>,
    /// The rules about caches, if they were read now.
    pub(crate) caches: Option<Caches>,
}

/// Why the repositories that globs match are not known.
pub(crate) enum Unlisted {
    /// They could not be listed.
    Repositories(ServiceError),
    /// Nobody knows which of them are caches of other registries.
    Caches(ServiceError),
}

impl Images {
    /// Lists the repositories, if a route here has a glob for images. Returns also the routes, in which no glob matches
    /// a cache. The rules about caches are read only if the stored ones do not suffice.
    pub(crate) async fn find<'r, W: World>(run: &Run<'r, W>, stored: Option<&Caches>) -> (Cow<'r, Routes>, Self) {
        let here = routes_here(run.routes, &run.invocation.region);
        let globs: Vec<&Route> = here.filter(|route| route.is_glob_for(SourceKind::Image)).collect();
        if globs.is_empty() {
            return (Cow::Borrowed(run.routes), Self { listed: Ok(vec![]), caches: None });
        }
        let listed = run.world.image_repositories().await;
        let is_matched = |one: &&ImageRepository| {
            let arn = source::arn(run.invocation, SourceKind::Image, &one.name);
            arn.is_ok_and(|arn| globs.iter().any(|route| route.covers_repository(&arn)))
        };
        let suffice = |caches: &&Caches| {
            listed.as_ref().is_ok_and(|listed| caches.suffice(listed.iter().filter(is_matched), run.now()))
        };
        let (prefixes, caches) = match stored.filter(suffice) {
            Some(stored) => (Cow::Borrowed(&stored.prefixes), None),
            None => match run.world.cache_prefixes().await {
                Ok(prefixes) => (Cow::Owned(prefixes.clone()), Some(Caches::new(prefixes, run.now()))),
                Err(error) => {
                    return (Cow::Borrowed(run.routes), Self { listed: Err(Unlisted::Caches(error)), caches: None });
                }
            },
        };
        let names = |listed: Vec<ImageRepository>| listed.into_iter().map(|one| one.name).collect();
        let listed = listed.map(names).map_err(Unlisted::Repositories);
        (Cow::Owned(run.routes.without_caches(&prefixes)), Self { listed, caches })
    }
}
