//! The targets that a change goes to.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use sekisho_domain::account::{AccountId, Region};
use sekisho_domain::change::{Change, GitRef, RepositoryArn};
use sekisho_domain::route::{PipelineName, Route, Routes};

use crate::delivery::Delivery;

/// The routes that match a reference, divided into touched and undecided routes. A route is undecided as long as no
/// changed path has touched it and more pages of changed paths may follow.
#[derive(Debug, Clone)]
pub(crate) struct TouchedRoutes<'r> {
    touched: Vec<&'r Route>,
    /// Routes with `paths` that no changed path has touched so far.
    undecided: Vec<&'r Route>,
    paths_digest: String,
}

impl<'r> TouchedRoutes<'r> {
    /// The routes that match the reference, before any changed path is known.
    pub(crate) fn new(routes: &'r Routes, repository: &'r RepositoryArn, git_ref: &'r GitRef) -> Self {
        let (undecided, touched): (Vec<&Route>, Vec<&Route>) =
            routes.concerning(repository, git_ref).partition(|route| route.looks_at_paths());
        let mut digest = DefaultHasher::new();
        for route in &undecided {
            route.paths_as_written().collect::<Vec<_>>().hash(&mut digest);
        }
        Self { touched, undecided, paths_digest: format!("{:016x}", digest.finish()) }
    }

    /// Whether any route matches the reference, whatever paths a change touches. Call this function before paths are
    /// added, because undecided routes are removed later.
    pub(crate) fn has_route(&self) -> bool {
        !self.touched.is_empty() || !self.undecided.is_empty()
    }

    /// A digest of the routes' path globs. Another build of the function may compute another digest of the same globs.
    /// The only effect is that the paths are compared again.
    pub(crate) fn paths_digest(&self) -> &str {
        &self.paths_digest
    }

    /// Whether a further changed path could touch another route.
    pub(crate) fn wants_paths(&self) -> bool {
        !self.undecided.is_empty()
    }

    /// Adds some of the changed paths. Undecided routes that these paths touch become touched routes.
    pub(crate) fn add_paths(&mut self, changed: &BTreeSet<String>) {
        let (touched, undecided): (Vec<_>, Vec<_>) =
            self.undecided.drain(..).partition(|route| route.touched_by(changed.iter().map(String::as_str)));
        self.touched.extend(touched);
        self.undecided = undecided;
    }

    /// Returns the routes after the last changed path was added. No changed path touched the undecided routes, so they
    /// are removed.
    pub(crate) fn without_further_paths(self) -> Self {
        Self { undecided: Vec::new(), ..self }
    }

    /// Returns the routes for the case that the changed paths cannot be known. Every undecided route becomes a touched
    /// route.
    pub(crate) fn touch_all(mut self) -> Self {
        self.touched.append(&mut self.undecided);
        self
    }

    /// The deliveries of the touched routes, sorted. Each account and region has one delivery, which has all pipelines
    /// that the touched routes lead to in this account and region.
    pub(crate) fn deliveries(&self) -> Vec<Delivery> {
        let mut by_place: BTreeMap<(&AccountId, &Region), BTreeSet<&PipelineName>> = BTreeMap::new();
        for target in self.touched.iter().flat_map(|route| route.targets()) {
            by_place.entry((&target.account, &target.region)).or_default().insert(&target.pipeline);
        }
        let delivery = |((account, region), pipelines): ((&AccountId, &Region), BTreeSet<&PipelineName>)| Delivery {
            account: account.clone(),
            region: region.clone(),
            pipelines: pipelines.into_iter().cloned().collect(),
        };
        by_place.into_iter().map(delivery).collect()
    }
}

/// The deliveries of a change that touches every route.
pub(crate) fn all_deliveries(routes: &Routes, change: &Change) -> Vec<Delivery> {
    TouchedRoutes::new(routes, &change.repository, &change.git_ref).touch_all().deliveries()
}

/// The part of a delivery that no route leads to any more: the same account and region, with the pipelines that lost
/// their route. Returns `None` if routes still lead to all pipelines of the delivery.
pub(crate) fn unrouted(routes: &Routes, change: &Change, delivery: &Delivery) -> Option<Delivery> {
    let still_routed: BTreeSet<&PipelineName> = routes
        .concerning(&change.repository, &change.git_ref)
        .flat_map(Route::targets)
        .filter(|target| target.account == delivery.account && target.region == delivery.region)
        .map(|target| &target.pipeline)
        .collect();
    let gone: Vec<_> = delivery.pipelines.iter().filter(|pipeline| !still_routed.contains(pipeline)).cloned().collect();
    (!gone.is_empty()).then(|| Delivery { pipelines: gone, ..delivery.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sekisho_domain::config::Document;

    const TWO_ROUTES: &str = r#"
        [[route]]
        repository = "shop"
        branches = ["main"]
        paths = ["api/**"]
        [[route.target]]
        account = "222222222222"
        region = "ap-northeast-1"
        pipeline = "api"
        action = "Source"
        [[route]]
        repository = "sh*"
        branches = ["*"]
        [[route.target]]
        account = "222222222222"
        region = "ap-northeast-1"
        pipeline = "all"
        action = "Source"
        [[route.target]]
        account = "222222222222"
        region = "us-east-1"
        pipeline = "all"
        action = "Source"
    "#;

    fn repository(name: &str) -> RepositoryArn {
        format!("arn:aws:codecommit:ap-northeast-1:111111111111:{name}").parse().unwrap()
    }

    fn pipelines(paths: Option<&[&str]>) -> Vec<(String, Vec<String>)> {
        let routes = Document::parse("t", TWO_ROUTES).unwrap().routes().unwrap();
        let (shop, main) = (repository("shop"), "refs/heads/main".parse().unwrap());
        let mut touched = TouchedRoutes::new(&routes, &shop, &main);
        match paths {
            Some(paths) => touched.add_paths(&paths.iter().map(ToString::to_string).collect()),
            None => touched = touched.touch_all(),
        }
        let names = |d: Delivery| (d.region.to_string(), d.pipelines.iter().map(ToString::to_string).collect());
        touched.deliveries().into_iter().map(names).collect()
    }

    #[test]
    fn each_account_and_region_gets_one_delivery_with_its_pipelines() {
        let whole = vec![
            ("ap-northeast-1".to_owned(), vec!["all".to_owned(), "api".to_owned()]),
            ("us-east-1".to_owned(), vec!["all".to_owned()]),
        ];
        assert_eq!(pipelines(Some(&["api/a.rs"])), whole);
        assert_eq!(pipelines(None), whole);
        assert_eq!(pipelines(Some(&["README.md"]))[0].1, ["all"]);
    }

    #[test]
    fn paths_are_wanted_only_while_they_can_add_a_route() {
        let routes = Document::parse("t", TWO_ROUTES).unwrap().routes().unwrap();
        let (shop, main) = (repository("shop"), "refs/heads/main".parse().unwrap());
        let mut touched = TouchedRoutes::new(&routes, &shop, &main);
        assert!(touched.wants_paths());
        touched.add_paths(&BTreeSet::from(["web/x".to_owned()]));
        assert!(touched.wants_paths());
        touched.add_paths(&BTreeSet::from(["api/x".to_owned()]));
        assert!(!touched.wants_paths());
        assert!(!TouchedRoutes::new(&routes, &repository("other"), &main).has_route());
    }
}
