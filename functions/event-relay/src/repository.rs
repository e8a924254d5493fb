//! The ledger's row of a repository, and the decision whether a reference existed before a route covered it.

use std::collections::{BTreeMap, BTreeSet};

use sekisho_domain::account::Region;
use sekisho_domain::change::{RefKind, RepositoryArn, SourceRef};
use sekisho_domain::route::{Coverage, Existing, Route, Routes};
use sekisho_ledger::Key;
use serde::{Deserialize, Serialize};

use crate::branch::BranchRow;
use crate::selection::routes_here;

/// The key of a repository's row.
pub(crate) fn key(repository: &RepositoryArn) -> Key {
    Key::state(format!("repository#{repository}"))
}

/// The row of a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RepositoryRow {
    /// The globs of branches and tags whose first look at this repository is done, such as `refs/heads/release/*`, each
    /// with the exclusions of its route. A reference that appears after the first look is relayed.
    #[serde(default)]
    pub(crate) covered: BTreeSet<String>,
    /// The largest sequence in an expired row of a reference. A reference that returns gets a larger sequence.
    #[serde(default)]
    pub(crate) floor: u64,
    /// Whether the first look at the repository's tags is done.
    #[serde(default)]
    pub(crate) tags_seen: bool,
    /// The time of the look after which `covered` was written last, in epoch milliseconds.
    #[serde(default)]
    pub(crate) looked_at: u64,
}

/// The globs of the routes, each with the time since when it is configured, in epoch milliseconds. A repository that no
/// route covers is not looked at, so its row does not show that a glob was removed and came back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Globs(BTreeMap<String, u64>);

impl Globs {
    /// The globs of the current routes. A glob that was not configured before is configured since `now`.
    pub(crate) fn configured(&self, routes: &Routes, here: &Region, now: u64) -> Self {
        let names =
            routes_here(routes, here).flat_map(|route| globs(route).map(move |(_, glob)| Self::name(route, glob)));
        Self(
            names
                .map(|name| (self.0.get(&name).copied().unwrap_or(now), name))
                .map(|(since, name)| (name, since))
                .collect(),
        )
    }

    fn name(route: &Route, glob: &str) -> String {
        format!("{} {glob}", route.repository().pattern())
    }

    fn since(&self, route: &Route, glob: &str) -> u64 {
        self.0.get(&Self::name(route, glob)).copied().unwrap_or(0)
    }
}

/// The globs of a route that include references, each with its kind.
fn globs(route: &Route) -> impl Iterator<Item = (RefKind, &str)> {
    let kinds = [RefKind::Branch, RefKind::Tag, RefKind::Image].into_iter();
    kinds.flat_map(|kind| route.including(kind).map(move |glob| (kind, glob)))
}

/// What decides, besides a repository's row, whether its references are old.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Covering<'r> {
    pub(crate) routes: &'r Routes,
    pub(crate) globs: &'r Globs,
    /// When a rule about caches of other registries last ended, in epoch milliseconds.
    pub(crate) caches_ended: u64,
    /// When the repository was created, in epoch milliseconds, if that was after a reconcile that reached every
    /// repository; otherwise 0.
    pub(crate) created: u64,
    /// Whether an earlier version wrote rows of this repository's references.
    pub(crate) is_upgrade: bool,
}

impl RepositoryRow {
    /// The row after a look at all references that the routes cover. Globs that no route has any more are forgotten: if
    /// such a glob comes back, it covers the repository anew.
    pub(crate) fn looked(&self, routes: &Routes, since: &Globs, repository: &RepositoryArn, now: u64) -> Self {
        let routes: Vec<&Route> = routes.iter().filter(|route| route.covers_repository(repository)).collect();
        let all = || routes.iter().flat_map(|route| globs(route).map(move |(kind, glob)| (*route, kind, glob)));
        let covered = all().map(|(route, kind, glob)| covering_name(route, kind, glob)).collect();
        let newest = all().map(|(route, _, glob)| since.since(route, glob)).max().unwrap_or(0);
        if self.tags_seen && self.covered == covered && newest <= self.looked_at {
            return self.clone();
        }
        Self { covered, tags_seen: true, looked_at: now.max(newest), ..self.clone() }
    }

    /// Whether the repository may be younger than a glob that covers it, so that the time of its creation decides
    /// whether its references are old. `began` is when the reconcile began.
    pub(crate) fn may_be_young(&self, routes: &Routes, since: &Globs, repository: &RepositoryArn, began: u64) -> bool {
        let routes = routes.iter().filter(|route| route.covers_repository(repository));
        let mut since = routes.flat_map(|route| globs(route).map(|(_, glob)| since.since(route, glob)));
        self.covered.is_empty() && since.any(|since| (1..began).contains(&since))
    }

    /// The row of a repository that does not exist.
    pub(crate) fn unseen(&self) -> Self {
        Self { floor: self.floor, ..Self::default() }
    }

    /// Whether the reference is only recorded and not relayed, because it existed before a route covered it. `row` is
    /// the row of the reference, if the ledger has one. `pushed` is when its image was pushed, in milliseconds since
    /// 1970; 0 if that is not known.
    pub(crate) fn is_baseline(
        &self,
        covering: Covering<'_>,
        repository: &RepositoryArn,
        source_ref: &SourceRef,
        row: Option<&BranchRow>,
        pushed: u64,
    ) -> bool {
        let Covering { routes, globs, caches_ended, created, is_upgrade } = covering;
        if row.is_some_and(|row| row.targets.is_some()) {
            return false;
        }
        let routes = routes.concerning(repository, source_ref);
        let covering: Vec<(&Route, Coverage<'_>)> =
            routes.filter_map(|route| Some((route, route.coverage(source_ref)?))).collect();
        if source_ref.kind() == RefKind::Tag && !self.tags_seen && is_upgrade {
            // Earlier versions relayed events of tags and could not read tags. The commit in an event of an annotated
            // tag may differ from the commit that the tag leads to, so even a tag with their row is recorded.
            return !covering.iter().any(|(_, one)| one.explicit && one.existing == Existing::Relay);
        }
        let is_seen = |(route, one): &(&Route, Coverage<'_>)| {
            globs.since(route, one.glob) <= self.looked_at && self.has_covered(route, source_ref.kind(), one.glob)
        };
        // The first look at a repository that is younger than its route. After it, a glob that covers the repository
        // anew may have excluded the image when it was pushed. No glob routes a cache.
        let is_younger = |(route, one): &(&Route, Coverage<'_>)| {
            let since = globs.since(route, one.glob);
            self.covered.is_empty() && 0 < since && (since < created || since.max(caches_ended) < pushed)
        };
        if row.is_some() || covering.iter().any(|one| is_seen(one) || is_younger(one)) {
            return false;
        }
        // A literal name wins over a glob.
        let has_literal = covering.iter().any(|(_, one)| one.is_literal);
        let mut deciding = covering.iter().filter(|(_, one)| one.is_literal == has_literal);
        !deciding.any(|(_, one)| one.existing == Existing::Relay)
    }
}

impl RepositoryRow {
    /// Whether the first look at what the glob covers is done. If an exclusion was removed since, the glob covers the
    /// repository anew, because the references that were excluded are not new.
    fn has_covered(&self, route: &Route, kind: RefKind, glob: &str) -> bool {
        self.covered.iter().any(|name| {
            let mut parts = name.split(" !");
            parts.next() == Some(glob) && parts.all(|excluded| route.excluding(kind).any(|one| one == excluded))
        })
    }
}

/// The name of a glob in `covered`. It has the exclusions of the route.
fn covering_name(route: &Route, kind: RefKind, glob: &str) -> String {
    let excluding = route.excluding(kind).map(|excluded| format!(" !{excluded}"));
    excluding.fold(glob.to_owned(), |name, excluded| name + &excluded)
}

#[cfg(test)]
mod tests {
    use sekisho_domain::config::Document;

    use super::*;

    const TARGET: &str = "[[route.target]]\naccount = \"222222222222\"\nregion = \"ap-northeast-1\"\n\
                          pipeline = \"shop\"\naction = \"Source\"\n";

    fn routes(keys: &[&str]) -> Routes {
        let route = |keys: &&str| format!("[[route]]\nrepository = \"shop\"\n{keys}\n{TARGET}");
        let text: String = keys.iter().map(route).collect();
        Document::parse("t", &text).unwrap().routes().unwrap()
    }

    fn shop() -> RepositoryArn {
        "arn:aws:codecommit:ap-northeast-1:111111111111:shop".parse().unwrap()
    }

    fn covering<'r>(routes: &'r Routes, globs: &'r Globs, is_upgrade: bool) -> Covering<'r> {
        Covering { routes, globs, caches_ended: 0, created: 0, is_upgrade }
    }

    fn looked(row: &RepositoryRow, routes: &Routes) -> RepositoryRow {
        row.looked(routes, &Globs::default(), &shop(), 1)
    }

    fn is_baseline(row: &RepositoryRow, routes: &Routes, source_ref: &str) -> bool {
        row.is_baseline(covering(routes, &Globs::default(), false), &shop(), &source_ref.parse().unwrap(), None, 0)
    }

    #[test]
    fn the_first_look_records_what_a_glob_covers_and_relays_what_a_literal_name_covers() {
        let new = RepositoryRow::default();
        let routes = |keys: &str| routes(&[keys]);
        for (keys, source_ref, expected) in [
            (r#"branches = ["main", "release/*"]"#, "refs/heads/main", false),
            (r#"branches = ["main", "release/*"]"#, "refs/heads/release/1", true),
            ("branches = [\"main\", \"release/*\"]\nexisting = \"relay\"", "refs/heads/release/1", false),
            ("branches = [\"main\", \"release/*\"]\nexisting = \"baseline\"", "refs/heads/main", true),
            (r#"branches = ["main", "*"]"#, "refs/heads/main", false),
        ] {
            assert_eq!(is_baseline(&new, &routes(keys), source_ref), expected, "{keys} {source_ref}");
        }
    }

    #[test]
    fn a_reference_that_appears_after_the_first_look_is_relayed() {
        let old = routes(&[r#"branches = ["release/*"]"#]);
        let row = looked(&RepositoryRow::default(), &old);
        assert!(!is_baseline(&row, &old, "refs/heads/release/2"));
        // A glob that is new covers the repository anew, also if it was removed in between.
        let other = routes(&[r#"branches = ["hotfix/*"]"#]);
        assert!(is_baseline(&row, &other, "refs/heads/hotfix/2"));
        let row = looked(&row, &other);
        assert!(is_baseline(&row, &old, "refs/heads/release/2"));
    }

    #[test]
    fn a_glob_that_was_not_configured_for_a_while_covers_the_repository_anew() {
        let here = "ap-northeast-1".parse().unwrap();
        let (old, other) = (routes(&[r#"branches = ["release/*"]"#]), routes(&[r#"branches = ["main"]"#]));
        let globs = Globs::default().configured(&old, &here, 1);
        let row = RepositoryRow::default().looked(&old, &globs, &shop(), 2);
        let branch = "refs/heads/release/2".parse().unwrap();
        let is_baseline =
            |row: &RepositoryRow, globs| row.is_baseline(covering(&old, globs, false), &shop(), &branch, None, 0);
        let same = globs.configured(&old, &here, 5);
        assert_eq!((&same, is_baseline(&row, &same)), (&globs, false));
        assert_eq!(row.looked(&old, &same, &shop(), 6), row, "the row is written only if something is new");
        let returned = globs.configured(&other, &here, 7).configured(&old, &here, 8);
        assert!(is_baseline(&row, &returned));
        assert!(!is_baseline(&row.looked(&old, &returned, &shop(), 8), &returned));
    }

    #[test]
    fn a_reference_that_was_excluded_is_not_new_when_the_exclusion_ends() {
        let excluding = routes(&[r#"branches = ["**", "!wip/**"]"#]);
        let row = looked(&RepositoryRow::default(), &excluding);
        assert!(!is_baseline(&row, &excluding, "refs/heads/new"));
        assert!(is_baseline(&row, &routes(&[r#"branches = ["**"]"#]), "refs/heads/wip/old"));
        let more = routes(&[r#"branches = ["**", "!wip/**", "!tmp/**"]"#]);
        assert!(!is_baseline(&row, &more, "refs/heads/new"), "a further exclusion makes nothing old");
    }

    #[test]
    fn a_literal_name_of_another_route_wins_over_a_glob() {
        let two = routes(&[r#"branches = ["*"]"#, r#"branches = ["main"]"#]);
        assert!(!is_baseline(&RepositoryRow::default(), &two, "refs/heads/main"));
        assert!(is_baseline(&RepositoryRow::default(), &two, "refs/heads/other"));
    }

    #[test]
    fn the_first_look_after_an_upgrade_records_all_tags() {
        let (new, tag) = (RepositoryRow::default(), "refs/tags/v1".parse().unwrap());
        let literal = routes(&[r#"tags = ["v1"]"#]);
        let earlier = BranchRow { sequence: 7, ..BranchRow::default() };
        let none = Globs::default();
        let is_old = |routes: &Routes, row: Option<&BranchRow>| {
            new.is_baseline(covering(routes, &none, true), &shop(), &tag, row, 0)
        };
        assert!(is_old(&literal, None) && is_old(&literal, Some(&earlier)));
        assert!(!is_baseline(&new, &literal, "refs/tags/v1"), "a new repository follows the configuration");
        // A tag that this version relayed before the first reconcile is compared like every other reference.
        assert!(!is_old(&literal, Some(&earlier.covering(vec![]))));
        let explicit = routes(&["tags = [\"v1\"]\nexisting = \"relay\""]);
        assert!(!is_old(&explicit, None));
        assert!(!looked(&new, &literal).is_baseline(covering(&literal, &none, true), &shop(), &tag, None, 0));
    }

    #[test]
    fn a_reference_with_a_row_is_never_a_baseline_again() {
        let glob = routes(&[r#"branches = ["*"]"#]);
        assert!(!RepositoryRow::default().is_baseline(
            covering(&glob, &Globs::default(), false),
            &shop(),
            &"refs/heads/a".parse().unwrap(),
            Some(&BranchRow::default()),
            0
        ));
    }

    #[test]
    fn an_image_that_was_pushed_after_its_glob_was_configured_is_new_in_the_first_look() {
        let text = format!("[[route]]\nimage = \"shop\"\ntags = [\"v*\"]\n{TARGET}");
        let routes = Document::parse("t", &text).unwrap().routes().unwrap();
        let images: RepositoryArn = "arn:aws:ecr:ap-northeast-1:111111111111:repository/shop".parse().unwrap();
        let tag = "refs/images/v1".parse().unwrap();
        let globs = Globs::default().configured(&routes, &"ap-northeast-1".parse().unwrap(), 5);
        let is_baseline = |row: &RepositoryRow, globs: &Globs, pushed| {
            row.is_baseline(covering(&routes, globs, false), &images, &tag, None, pushed)
        };
        let new = RepositoryRow::default();
        assert_eq!([4, 5, 6].map(|pushed| is_baseline(&new, &globs, pushed)), [true, true, false]);
        assert!(is_baseline(&new, &Globs::default(), 6), "nobody knows since when the glob is configured");
        let after_cache = Covering { caches_ended: 6, ..covering(&routes, &globs, false) };
        let old = [6, 7].map(|pushed| new.is_baseline(after_cache, &images, &tag, None, pushed));
        assert_eq!(old, [true, false], "the repository may have been a cache");
        // An exclusion may have ended since the first look.
        let other = RepositoryRow { covered: BTreeSet::from(["v* !v1".to_owned()]), looked_at: 7, ..new };
        assert!(is_baseline(&other, &globs, 6));
    }
}
