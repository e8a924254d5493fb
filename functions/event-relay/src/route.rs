//! The targets that a change goes to.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use sekisho_domain::change::{RepositoryArn, SourceRef};
use sekisho_domain::route::{ActionName, Route, Routes, Target, TargetId};

/// The routes that match a reference, divided into touched and undecided routes. A route is undecided as long as no
/// changed path has touched it and more pages of changed paths may follow.
#[derive(Debug, Clone)]
pub(crate) struct TouchedRoutes<'r> {
    all: Vec<&'r Route>,
    touched: Vec<&'r Route>,
    /// Routes with `paths` that no changed path has touched so far.
    undecided: Vec<&'r Route>,
    paths_digest: String,
}

impl<'r> TouchedRoutes<'r> {
    /// The routes that match the reference, before any changed path is known.
    pub(crate) fn new(routes: &'r Routes, repository: &'r RepositoryArn, source_ref: &'r SourceRef) -> Self {
        let all: Vec<&Route> = routes.concerning(repository, source_ref).collect();
        let (undecided, touched): (Vec<&Route>, Vec<&Route>) = all.iter().partition(|route| route.looks_at_paths());
        let mut digest = DefaultHasher::new();
        for route in &undecided {
            route.paths_as_written().collect::<Vec<_>>().hash(&mut digest);
        }
        Self { all, touched, undecided, paths_digest: format!("{:016x}", digest.finish()) }
    }

    /// The routes that match the reference, whatever paths a change touches.
    pub(crate) fn all(&self) -> impl Iterator<Item = &'r Route> {
        self.all.iter().copied()
    }

    /// Whether any route matches the reference, whatever paths a change touches.
    pub(crate) fn has_route(&self) -> bool {
        !self.all.is_empty()
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

    /// The targets of the touched routes without waves.
    pub(crate) fn targets(&self) -> BTreeSet<TargetId> {
        plain_targets(self.touched.iter().copied())
    }

    /// The targets of all routes without waves that match the reference, touched or not.
    pub(crate) fn all_targets(&self) -> BTreeSet<TargetId> {
        plain_targets(self.all.iter().copied())
    }

    /// The touched routes with waves. Their trains decide when a target gets the change.
    pub(crate) fn trains(&self) -> impl Iterator<Item = &'r Route> {
        self.touched.iter().copied().filter(|route| !route.waves().is_empty())
    }
}

/// The names of the routes without waves that lead to one of these targets. If such a route is held, the target gets no
/// change.
pub(crate) fn plain_routes_to<'r>(
    routes: impl IntoIterator<Item = &'r Route>,
    targets: &BTreeSet<TargetId>,
) -> BTreeSet<String> {
    let leads = |route: &&Route| route.targets().iter().any(|target| targets.contains(&target.id()));
    let plain = routes.into_iter().filter(|route| route.waves().is_empty());
    plain.filter(leads).map(|route| route.name().to_owned()).collect()
}

/// The targets that get every change at once. A target in a wave is never among them.
pub(crate) fn plain_targets<'r>(routes: impl IntoIterator<Item = &'r Route>) -> BTreeSet<TargetId> {
    routes.into_iter().filter(|route| route.waves().is_empty()).flat_map(Route::targets).map(Target::id).collect()
}

/// The targets that get every change at once, each with its source actions that do.
pub(crate) fn plain_sources<'r>(
    routes: impl IntoIterator<Item = &'r Route>,
) -> BTreeMap<TargetId, BTreeSet<&'r ActionName>> {
    let mut sources: BTreeMap<TargetId, BTreeSet<&ActionName>> = BTreeMap::new();
    for target in routes.into_iter().filter(|route| route.waves().is_empty()).flat_map(Route::targets) {
        sources.entry(target.id()).or_default().insert(&target.action);
    }
    sources
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

    fn targets(paths: Option<&[&str]>) -> Vec<String> {
        let routes = Document::parse("t", TWO_ROUTES).unwrap().routes().unwrap();
        let (shop, main) = (repository("shop"), "refs/heads/main".parse().unwrap());
        let mut touched = TouchedRoutes::new(&routes, &shop, &main);
        let all = touched.all_targets();
        match paths {
            Some(paths) => touched.add_paths(&paths.iter().map(ToString::to_string).collect()),
            None => touched = touched.touch_all(),
        }
        assert_eq!(touched.all_targets(), all, "the changed paths should not matter");
        touched.targets().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_changed_paths_decide_which_targets_are_touched() {
        let all = ["222222222222/ap-northeast-1/all", "222222222222/ap-northeast-1/api", "222222222222/us-east-1/all"];
        assert_eq!(targets(Some(&["api/a.rs"])), all);
        assert_eq!(targets(None), all);
        assert_eq!(targets(Some(&["README.md"])), [all[0], all[2]]);
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
