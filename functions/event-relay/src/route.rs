//! Which targets a change goes to.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use sekisho_domain::account::{AccountId, Region};
use sekisho_domain::change::GitRef;
use sekisho_domain::route::{PipelineName, Route, Routes};

use crate::deliver::Delivery;

/// Collects which of the concerned routes are touched, while the pages of changed paths come in.
#[derive(Debug)]
pub struct Touched<'r> {
    certain: Vec<&'r Route>,
    open: Vec<&'r Route>,
    paths: String,
}

impl<'r> Touched<'r> {
    /// Of the routes that the reference concerns.
    #[must_use]
    pub fn new(routes: &'r Routes, repository: &'r str, git_ref: &'r GitRef) -> Self {
        let (open, certain): (Vec<&Route>, Vec<&Route>) =
            routes.concerning(repository, git_ref).partition(|route| route.looks_at_paths());
        let mut digest = DefaultHasher::new();
        for route in &open {
            route.paths_as_written().collect::<Vec<_>>().hash(&mut digest);
        }
        Self { certain, open, paths: format!("{:016x}", digest.finish()) }
    }

    /// A digest of the paths that decide. Another build may have another one of the same paths: then they are looked at anew.
    #[must_use]
    pub fn paths_digest(&self) -> &str {
        &self.paths
    }

    /// Whether any route is concerned at all.
    #[must_use]
    pub fn none_concerned(&self) -> bool {
        self.certain.is_empty() && self.open.is_empty()
    }

    /// Whether more paths could add a route.
    #[must_use]
    pub fn wants_paths(&self) -> bool {
        !self.open.is_empty()
    }

    /// Some of the changed paths.
    pub fn paths(&mut self, changed: &BTreeSet<String>) {
        let (touched, open): (Vec<_>, Vec<_>) =
            self.open.drain(..).partition(|route| route.touched_by(changed.iter().map(String::as_str)));
        self.certain.extend(touched);
        self.open = open;
    }

    /// The changed paths are not known: everything counts as changed.
    pub fn everything(&mut self) {
        self.certain.append(&mut self.open);
    }

    /// One delivery for each account and region, in their order, with the pipelines that are concerned there.
    #[must_use]
    pub fn deliveries(&self) -> Vec<Delivery> {
        let mut by_place: BTreeMap<(&AccountId, &Region), BTreeSet<&PipelineName>> = BTreeMap::new();
        for target in self.certain.iter().flat_map(|route| route.targets()) {
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

    fn pipelines(paths: Option<&[&str]>) -> Vec<(String, Vec<String>)> {
        let routes = Document::parse("t", TWO_ROUTES).unwrap().routes().unwrap();
        let main = "refs/heads/main".parse().unwrap();
        let mut touched = Touched::new(&routes, "shop", &main);
        match paths {
            Some(paths) => touched.paths(&paths.iter().map(ToString::to_string).collect()),
            None => touched.everything(),
        }
        let names = |d: Delivery| (d.region.to_string(), d.pipelines.iter().map(ToString::to_string).collect());
        touched.deliveries().into_iter().map(names).collect()
    }

    #[test]
    fn one_delivery_a_place_with_its_pipelines() {
        let whole = vec![
            ("ap-northeast-1".to_owned(), vec!["all".to_owned(), "api".to_owned()]),
            ("us-east-1".to_owned(), vec!["all".to_owned()]),
        ];
        assert_eq!(pipelines(Some(&["api/a.rs"])), whole);
        assert_eq!(pipelines(None), whole);
        assert_eq!(pipelines(Some(&["README.md"]))[0].1, ["all"]);
    }

    #[test]
    fn paths_are_wanted_only_while_they_can_add_something() {
        let routes = Document::parse("t", TWO_ROUTES).unwrap().routes().unwrap();
        let main = "refs/heads/main".parse().unwrap();
        let mut touched = Touched::new(&routes, "shop", &main);
        assert!(touched.wants_paths());
        touched.paths(&BTreeSet::from(["web/x".to_owned()]));
        assert!(touched.wants_paths());
        touched.paths(&BTreeSet::from(["api/x".to_owned()]));
        assert!(!touched.wants_paths());
        assert!(Touched::new(&routes, "other", &main).none_concerned());
    }
}
