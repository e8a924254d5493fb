//! The sources of a target's pipeline. Each source action has its own newest change, whichever repositories and
//! references lead to the action.

use std::borrow::Borrow;
use std::collections::BTreeSet;

use sekisho_domain::change::{Change, RepositoryArn, SourceRef};
use sekisho_domain::route::{ActionName, Route, TargetId};

use crate::selection::is_target;

/// Tells the sources of a target's pipeline apart by the source actions that routes name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sources<'a> {
    routes: &'a [Route],
    target: &'a TargetId,
}

impl<'a> Sources<'a> {
    pub(crate) fn new(routes: &'a [Route], target: &'a TargetId) -> Self {
        Self { routes, target }
    }

    /// The sources of a target to which no route leads: all commits count as one source, as do all images.
    #[cfg(test)]
    pub(crate) fn unrouted() -> Self {
        static TARGET: std::sync::LazyLock<TargetId> =
            std::sync::LazyLock::new(|| "222222222222/us-east-1/p".parse().unwrap());
        Self { routes: &[], target: &TARGET }
    }

    /// Whether two changes come from the same source: a source action gets both. If no route leads one of them to the
    /// target any more, its source action is not known, and all commits count as one source, as do all images.
    pub(crate) fn are_same(&self, one: &Change, other: &Change) -> bool {
        if one.repository.kind() != other.repository.kind() {
            return false;
        }
        if one.repository == other.repository && one.source_ref == other.source_ref {
            return true;
        }
        let one = self.actions(&one.repository, &one.source_ref);
        let other = self.actions(&other.repository, &other.source_ref);
        one.is_empty() || other.is_empty() || !one.is_disjoint(&other)
    }

    /// The source actions that get the changes of a reference. If no route leads the reference to the target any more,
    /// they are those of its repository.
    fn actions(&self, repository: &RepositoryArn, source_ref: &SourceRef) -> BTreeSet<&'a ActionName> {
        let (mut of_reference, mut of_repository) = (BTreeSet::new(), BTreeSet::new());
        for route in self.routes.iter().filter(|route| route.covers_repository(repository)) {
            let own = route.targets().iter().filter(|target| is_target(target, self.target));
            let actions: BTreeSet<&ActionName> = own.map(|target| &target.action).collect();
            if !actions.is_empty() && route.coverage(source_ref).is_some() {
                of_reference.extend(&actions);
            }
            of_repository.extend(actions);
        }
        if of_reference.is_empty() { of_repository } else { of_reference }
    }

    /// The first one of the changes that come from the same source, for each source. The order stays.
    pub(crate) fn first_of_each<C: Borrow<Change>>(&self, changes: impl IntoIterator<Item = C>) -> Vec<C> {
        let mut first: Vec<C> = Vec::new();
        for change in changes {
            if !first.iter().any(|known| self.are_same(known.borrow(), change.borrow())) {
                first.push(change);
            }
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use sekisho_domain::config::Document;

    use super::*;

    const ROUTES: [(&str, &str); 4] = [
        ("repository = \"sh*\"\nbranches = [\"main\"]", "Source"),
        ("repository = \"lib\"\nbranches = [\"main\"]", "Lib"),
        ("repository = \"shop\"\nbranches = [\"docs\"]", "Docs"),
        ("image = \"shop\"\ntags = [\"**\"]", "Image"),
    ];

    fn change(repository: &str, source_ref: &str) -> Change {
        let is_image = source_ref.starts_with("refs/images/");
        let service = if is_image { "ecr" } else { "codecommit" };
        let (kind, path) = if is_image { ("image", "repository/") } else { ("branch", "") };
        let revision = if is_image { format!("sha256:{:064x}", 1) } else { format!("{:040x}", 1) };
        let mut change = serde_json::json!({
            "kind": kind, "repository": format!("arn:aws:{service}:ap-northeast-1:111111111111:{path}{repository}"),
            "ref": source_ref, "previous": null, "sequence": 1, "actor": null, "event": null,
        });
        change[if is_image { "digest" } else { "commit" }] = revision.into();
        serde_json::from_value(change).unwrap()
    }

    #[test]
    fn changes_come_from_the_same_source_if_one_action_gets_both() {
        let route = |(keys, action): &(&str, &str)| {
            format!(
                "[[route]]\nname = \"{action}\"\n{keys}\n[[route.target]]\naccount = \"222222222222\"\n\
                 region = \"us-east-1\"\npipeline = \"p\"\naction = \"{action}\"\n"
            )
        };
        let text: String = ROUTES.iter().map(route).collect();
        let routes = Document::parse("t", &text).unwrap().routes().unwrap();
        let target: TargetId = "222222222222/us-east-1/p".parse().unwrap();
        let sources = Sources::new(&routes, &target);
        let shop = change("shop", "refs/heads/main");
        for (repository, source_ref, expected) in [
            ("shop", "refs/heads/main", true),
            ("shelf", "refs/heads/main", true),
            ("lib", "refs/heads/main", false),
            ("shop", "refs/heads/docs", false),
            // Not routed any more: the actions of the repository, and of all repositories.
            ("shop", "refs/heads/old", true),
            ("lib", "refs/heads/old", false),
            ("gone", "refs/heads/main", true),
            ("shop", "refs/images/v1", false),
        ] {
            let other = change(repository, source_ref);
            let are_same = [sources.are_same(&shop, &other), sources.are_same(&other, &shop)];
            assert_eq!(are_same, [expected; 2], "{repository} {source_ref}");
        }
    }
}
