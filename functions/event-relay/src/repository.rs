//! The ledger's row of a repository, and the decision whether a reference existed before a route covered it.

use std::collections::BTreeSet;

use sekisho_domain::change::{GitRef, RefKind, RepositoryArn};
use sekisho_domain::route::{Coverage, Existing, Route, Routes};
use sekisho_ledger::Key;
use serde::{Deserialize, Serialize};

use crate::branch::BranchRow;

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
}

impl RepositoryRow {
    /// The row after a look at all references that the routes cover. Globs that no route has any more are forgotten: if
    /// such a glob comes back, it covers the repository anew.
    pub(crate) fn looked(&self, routes: &Routes, repository: &RepositoryArn) -> Self {
        let routes = routes.iter().filter(|route| route.covers_repository(repository));
        let globs = |route: &'_ Route| -> Vec<String> {
            let kinds = [RefKind::Branch, RefKind::Tag].into_iter();
            kinds.flat_map(|kind| route.including(kind).map(move |glob| covering_name(route, kind, glob))).collect()
        };
        Self { covered: routes.flat_map(globs).collect(), tags_seen: true, ..self.clone() }
    }

    /// The row of a repository that does not exist.
    pub(crate) fn unseen(&self) -> Self {
        Self { floor: self.floor, ..Self::default() }
    }

    /// Whether the reference is only recorded and not relayed, because it existed before a route covered it. `row` is
    /// the row of the reference, if the ledger has one.
    pub(crate) fn is_baseline(
        &self,
        routes: &Routes,
        repository: &RepositoryArn,
        git_ref: &GitRef,
        row: Option<&BranchRow>,
    ) -> bool {
        if row.is_some_and(|row| row.targets.is_some()) {
            return false;
        }
        let routes = routes.concerning(repository, git_ref);
        let covering: Vec<(&Route, Coverage<'_>)> =
            routes.filter_map(|route| Some((route, route.coverage(git_ref)?))).collect();
        if git_ref.kind() == RefKind::Tag && !self.tags_seen {
            // Earlier versions relayed events of tags and could not read tags. The commit in an event of an annotated
            // tag may differ from the commit that the tag leads to, so even a tag with their row is recorded.
            return !covering.iter().any(|(_, one)| one.explicit && one.existing == Existing::Relay);
        }
        let is_seen = |(route, one): &(&Route, Coverage<'_>)| {
            self.covered.contains(&covering_name(route, git_ref.kind(), one.glob))
        };
        if row.is_some() || covering.iter().any(is_seen) {
            return false;
        }
        // A literal name wins over a glob.
        let has_literal = covering.iter().any(|(_, one)| one.is_literal);
        let mut deciding = covering.iter().filter(|(_, one)| one.is_literal == has_literal);
        !deciding.any(|(_, one)| one.existing == Existing::Relay)
    }
}

/// The name under which a glob counts as covered. It has the exclusions of the route: if an exclusion is removed, the
/// glob covers the repository anew, because the references that were excluded are not new.
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

    fn is_baseline(row: &RepositoryRow, routes: &Routes, git_ref: &str) -> bool {
        row.is_baseline(routes, &shop(), &git_ref.parse().unwrap(), None)
    }

    #[test]
    fn the_first_look_records_what_a_glob_covers_and_relays_what_a_literal_name_covers() {
        let new = RepositoryRow::default();
        let routes = |keys: &str| routes(&[keys]);
        for (keys, git_ref, expected) in [
            (r#"branches = ["main", "release/*"]"#, "refs/heads/main", false),
            (r#"branches = ["main", "release/*"]"#, "refs/heads/release/1", true),
            ("branches = [\"main\", \"release/*\"]\nexisting = \"relay\"", "refs/heads/release/1", false),
            ("branches = [\"main\", \"release/*\"]\nexisting = \"baseline\"", "refs/heads/main", true),
            (r#"branches = ["main", "*"]"#, "refs/heads/main", false),
        ] {
            assert_eq!(is_baseline(&new, &routes(keys), git_ref), expected, "{keys} {git_ref}");
        }
    }

    #[test]
    fn a_reference_that_appears_after_the_first_look_is_relayed() {
        let old = routes(&[r#"branches = ["release/*"]"#]);
        let row = RepositoryRow::default().looked(&old, &shop());
        assert!(!is_baseline(&row, &old, "refs/heads/release/2"));
        // A glob that is new covers the repository anew, also if it was removed in between.
        let other = routes(&[r#"branches = ["hotfix/*"]"#]);
        assert!(is_baseline(&row, &other, "refs/heads/hotfix/2"));
        let row = row.looked(&other, &shop());
        assert!(is_baseline(&row, &old, "refs/heads/release/2"));
    }

    #[test]
    fn a_reference_that_was_excluded_is_not_new_when_the_exclusion_ends() {
        let excluding = routes(&[r#"branches = ["**", "!wip/**"]"#]);
        let row = RepositoryRow::default().looked(&excluding, &shop());
        assert!(!is_baseline(&row, &excluding, "refs/heads/new"));
        assert!(is_baseline(&row, &routes(&[r#"branches = ["**"]"#]), "refs/heads/wip/old"));
    }

    #[test]
    fn a_literal_name_of_another_route_wins_over_a_glob() {
        let two = routes(&[r#"branches = ["*"]"#, r#"branches = ["main"]"#]);
        assert!(!is_baseline(&RepositoryRow::default(), &two, "refs/heads/main"));
        assert!(is_baseline(&RepositoryRow::default(), &two, "refs/heads/other"));
    }

    #[test]
    fn the_first_look_records_all_tags() {
        let (new, tag) = (RepositoryRow::default(), "refs/tags/v1".parse().unwrap());
        let literal = routes(&[r#"tags = ["v1"]"#]);
        let earlier = BranchRow { sequence: 7, ..BranchRow::default() };
        for row in [None, Some(&earlier)] {
            assert!(new.is_baseline(&literal, &shop(), &tag, row));
        }
        // A tag that this version relayed before the first reconcile is compared like every other reference.
        assert!(!new.is_baseline(&literal, &shop(), &tag, Some(&earlier.covering(vec![]))));
        let explicit = routes(&["tags = [\"v1\"]\nexisting = \"relay\""]);
        assert!(!is_baseline(&new, &explicit, "refs/tags/v1"));
        assert!(!is_baseline(&new.looked(&literal, &shop()), &literal, "refs/tags/v1"));
    }

    #[test]
    fn a_reference_with_a_row_is_never_a_baseline_again() {
        let glob = routes(&[r#"branches = ["*"]"#]);
        assert!(!RepositoryRow::default().is_baseline(
            &glob,
            &shop(),
            &"refs/heads/a".parse().unwrap(),
            Some(&BranchRow::default())
        ));
    }
}
