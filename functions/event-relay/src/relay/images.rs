//! What a reconcile knows about the image repositories before it looks at them: which of them exist, and which are
//! caches of other registries.
//!
//! A reconcile either lists the repositories or reads the rules about caches. Otherwise, the reconcile that reads the
//! rules would make one call more than all others.

use std::borrow::Cow;
use std::collections::BTreeSet;

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
#[derive(Default)]
pub(crate) struct Images {
    /// The names of the repositories.
    pub(crate) names: Vec<String>,
    /// Why this reconcile does not look at some repositories that globs match.
    pub(crate) left_out: Option<LeftOut>,
    /// The rules about caches, if the ledger must get them.
    pub(crate) caches: Option<Caches>,
}

/// Why a reconcile does not look at some repositories that globs match.
pub(crate) enum LeftOut {
    /// They could not be listed.
    Unlisted(ServiceError),
    /// Nobody knows which of them are caches of other registries.
    UnknownCaches(ServiceError),
    /// This reconcile has read the rules about caches, and has not listed the repositories.
    RulesRead,
    /// These repositories may be caches: they are newer than the rules that are known.
    New(BTreeSet<String>),
}

impl Images {
    /// Lists the repositories, if a route here has a glob for images and the stored rules about caches are recent. If
    /// they are not, the rules are read instead. Returns also the routes, in which no glob matches a known cache.
    pub(crate) async fn find<'r, W: World>(run: &Run<'r, W>, stored: Option<&Caches>) -> (Cow<'r, Routes>, Self) {
        let here = &run.invocation.region;
        let is_glob = |route: &&Route| route.is_glob_for(SourceKind::Image);
        if !routes_here(run.routes, here).any(|route| is_glob(&route)) {
            return (Cow::Borrowed(run.routes), Self::default());
        }
        let Some(stored) = stored.filter(|stored| stored.are_recent(run.now())) else {
            let before = stored;
            return match run.world.cache_prefixes().await {
                Ok(prefixes) => {
                    let routes = run.routes.without_caches(&prefixes);
                    let caches = Some(Caches::new(before, prefixes, run.now()));
                    (Cow::Owned(routes), Self { left_out: Some(LeftOut::RulesRead), caches, ..Self::default() })
                }
                Err(error) => (Cow::Borrowed(run.routes), Self::without(LeftOut::UnknownCaches(error))),
            };
        };
        let routes = run.routes.without_caches(&stored.prefixes);
        let listed = match run.world.image_repositories().await {
            Ok(listed) => listed,
            Err(error) => return (Cow::Owned(routes), Self::without(LeftOut::Unlisted(error))),
        };
        let globs: Vec<&Route> = routes_here(&routes, here).filter(is_glob).collect();
        let is_matched = |name: &str| {
            let arn = source::arn(run.invocation, SourceKind::Image, name);
            arn.is_ok_and(|arn| globs.iter().any(|route| route.covers_repository(&arn)))
        };
        let is_new = |one: &ImageRepository| !stored.cover(one) && is_matched(&one.name);
        let (new, known): (Vec<_>, Vec<_>) = listed.into_iter().partition(is_new);
        let names = known.into_iter().map(|one| one.name).collect();
        let images = if new.is_empty() {
            Self { names, ..Self::default() }
        } else {
            let new = new.into_iter().map(|one| one.name).collect();
            Self { names, left_out: Some(LeftOut::New(new)), caches: Some(stored.outdated()) }
        };
        (Cow::Owned(routes), images)
    }

    fn without(left_out: LeftOut) -> Self {
        Self { left_out: Some(left_out), ..Self::default() }
    }
}
