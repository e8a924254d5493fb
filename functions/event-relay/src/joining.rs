//! Finds the targets that a route leads to since the heads of its references were relayed.

use std::collections::{BTreeMap, BTreeSet};

use sekisho_domain::route::{ActionName, Routes, TargetId};
use time::OffsetDateTime;

use crate::branch::BranchRow;
use crate::route::{plain_routes_to, plain_sources};
use crate::snapshot::TrainRows;
use crate::train::held_targets;
use crate::worklist::Reference;

/// A reference that targets have joined, or that targets have left.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Joining<'r> {
    pub(crate) reference: &'r Reference,
    /// The targets that may have to run the head. A target that joins several references gets only the newest head of
    /// each source.
    pub(crate) targets: BTreeSet<TargetId>,
    /// The targets among `targets` that another reference feeds whose head was seen later. If the row of such a target
    /// has no order, an earlier version relayed that later head, so the target gets no order.
    pub(crate) fed_later: BTreeSet<TargetId>,
    /// The row of the reference with the targets that are routed now.
    pub(crate) row: BranchRow,
}

/// A reference whose row does not have the targets that are routed now.
struct Changed<'r> {
    reference: &'r Reference,
    /// The routed targets, each with the source actions that get the head.
    current: BTreeMap<TargetId, BTreeSet<&'r ActionName>>,
    /// The routed targets that the row does not have.
    missing: BTreeSet<TargetId>,
    /// The targets that do not get the head now, because a person holds their route.
    held: BTreeSet<TargetId>,
}

/// Compares the targets in the rows with the routes. `undecided` has the targets whose newest head is not known yet:
/// targets of repositories that were not examined, and targets of heads that were ordered in this reconcile.
///
/// # Errors
/// The names of routes without waves whose train rows the caller has to read first: a hold of the route is in that row.
pub(crate) fn joining<'r>(
    routes: &'r Routes,
    references: &'r [Reference],
    undecided: &BTreeSet<TargetId>,
    trains: &TrainRows,
    now: OffsetDateTime,
) -> Result<Vec<Joining<'r>>, BTreeSet<String>> {
    let mut fed: BTreeMap<Source<'_>, u64> = BTreeMap::new();
    let mut changed: Vec<Changed<'_>> = Vec::new();
    for reference in references {
        let row = &reference.snapshot.row;
        let Some(known) = &row.targets else { continue };
        let known: BTreeSet<&TargetId> = known.iter().collect();
        let current = plain_sources(routes.concerning(&reference.repository, &reference.source_ref));
        // A head that was only recorded was not ordered, so its row does not say that a target runs any head.
        if !row.baseline {
            let fed_here = current.iter().filter(|(target, _)| known.contains(target));
            for source in fed_here.flat_map(|(target, actions)| sources(target, actions)) {
                let latest = fed.entry(source).or_default();
                *latest = row.sequence.max(*latest);
            }
        }
        let missing: BTreeSet<TargetId> = current.keys().filter(|target| !known.contains(target)).cloned().collect();
        if !missing.is_empty() || known.len() > current.len() - missing.len() {
            changed.push(Changed { reference, current, missing, held: BTreeSet::new() });
        }
    }
    let holding = changed.iter().flat_map(|one| one.holding(routes, undecided));
    let unread: BTreeSet<String> = holding.filter(|name| !trains.contains_key(name)).collect();
    if !unread.is_empty() {
        return Err(unread);
    }
    for one in changed.iter_mut().filter(|one| one.has_head()) {
        let Reference { repository, source_ref, .. } = one.reference;
        one.held = held_targets(routes.concerning(repository, source_ref), trains, source_ref, now);
    }
    let newest = newest(&changed, undecided);
    let join = |Changed { reference, current, missing, held }: &Changed<'r>| {
        let row = &reference.snapshot.row;
        let sources =
            |target: &TargetId| current.get(target).map(|actions| sources(target, actions)).unwrap_or_default();
        let is_newest = |target: &TargetId| {
            sources(target)
                .iter()
                .any(|source| newest.get(source).is_some_and(|newest| std::ptr::eq(*newest, *reference)))
        };
        let targets: BTreeSet<TargetId> = missing.iter().filter(|target| is_newest(target)).cloned().collect();
        let is_fed_later = |target: &&TargetId| {
            sources(target).iter().all(|source| fed.get(source).is_some_and(|latest| *latest > row.sequence))
        };
        let fed_later = targets.iter().filter(is_fed_later).cloned().collect();
        // The target is not recorded here before it is recorded in the row of its newest head. The order may fail, and
        // a target that is recorded everywhere would not get it in the next reconcile.
        let waits = |target: &TargetId| {
            let is_elsewhere =
                || sources(target).iter().any(|source| newest.contains_key(source)) && !is_newest(target);
            missing.contains(target) && (undecided.contains(target) || held.contains(target) || is_elsewhere())
        };
        let row = row.covering(current.keys().filter(|target| !waits(target)).cloned().collect());
        Joining { reference, targets, fed_later, row }
    };
    let joined = changed.iter().map(join);
    Ok(joined.filter(|one| one.row != one.reference.snapshot.row).collect())
}

impl Changed<'_> {
    /// Whether the row has a head that may be ordered.
    fn has_head(&self) -> bool {
        let row = &self.reference.snapshot.row;
        !row.baseline && row.commit.is_some()
    }

    /// The names of the routes that may be held for the missing targets.
    fn holding(&self, routes: &Routes, undecided: &BTreeSet<TargetId>) -> BTreeSet<String> {
        if !self.has_head() {
            return BTreeSet::new();
        }
        let Reference { repository, source_ref, .. } = self.reference;
        plain_routes_to(routes.concerning(repository, source_ref), &(&self.missing - undecided))
    }
}

/// A source action of a target's pipeline.
type Source<'r> = (TargetId, &'r ActionName);

fn sources<'r>(target: &TargetId, actions: &BTreeSet<&'r ActionName>) -> Vec<Source<'r>> {
    actions.iter().map(|action| (target.clone(), *action)).collect()
}

/// The reference with the newest head for each target that has joined a reference, and for each source action. The
/// held heads do not count, so that the hold of one reference does not keep the targets from the head of another one.
fn newest<'r>(changed: &[Changed<'r>], undecided: &BTreeSet<TargetId>) -> BTreeMap<Source<'r>, &'r Reference> {
    let mut newest: BTreeMap<Source<'_>, &Reference> = BTreeMap::new();
    for Changed { reference, current, missing, held } in changed.iter().filter(|one| one.has_head()) {
        let row = &reference.snapshot.row;
        let joins =
            |target: &TargetId| missing.contains(target) && !undecided.contains(target) && !held.contains(target);
        let joined = current.iter().filter(|(target, _)| joins(target));
        for source in joined.flat_map(|(target, actions)| sources(target, actions)) {
            let known = newest.entry(source).or_insert(reference);
            if known.snapshot.row.sequence < row.sequence {
                *known = reference;
            }
        }
    }
    newest
}

#[cfg(test)]
mod tests {
    use sekisho_domain::config::Document;
    use time::macros::datetime;

    use super::*;
    use crate::snapshot::Snapshot;
    use crate::train::{Hold, TrainRow};

    const NOW: OffsetDateTime = datetime!(2026-11-28 12:00 UTC);

    fn routes(pipelines: &[&str]) -> Routes {
        let target = |pipeline: &&str| {
            format!(
                "[[route.target]]\naccount = \"222222222222\"\nregion = \"ap-northeast-1\"\npipeline = \"{pipeline}\"\n\
                 action = \"Source\"\n"
            )
        };
        let targets: String = pipelines.iter().map(target).collect();
        let text = format!("[[route]]\nrepository = \"shop\"\nbranches = [\"**\"]\n{targets}");
        Document::parse("t", &text).unwrap().routes().unwrap()
    }

    fn id(pipeline: &str) -> TargetId {
        format!("222222222222/ap-northeast-1/{pipeline}").parse().unwrap()
    }

    fn reference(branch: &str, sequence: u64, pipelines: &[&str], baseline: bool) -> Reference {
        let row = BranchRow {
            commit: Some(format!("{sequence:040x}").parse().unwrap()),
            sequence,
            targets: Some(pipelines.iter().map(|pipeline| id(pipeline)).collect()),
            baseline,
            ..BranchRow::default()
        };
        Reference {
            repository: "arn:aws:codecommit:ap-northeast-1:111111111111:shop".parse().unwrap(),
            source_ref: format!("refs/heads/{branch}").parse().unwrap(),
            snapshot: Snapshot { row, revision: Some(1) },
        }
    }

    /// For each changed row, the branch, the pipelines that are ordered to run its head, and the pipelines in the row.
    fn joined(
        routed: &[&str],
        references: &[Reference],
        undecided: &[&str],
    ) -> Vec<(String, Vec<String>, Vec<String>)> {
        let undecided = undecided.iter().map(|pipeline| id(pipeline)).collect();
        let names = |targets: Vec<TargetId>| targets.into_iter().map(|target| target.pipeline.to_string()).collect();
        let summary = |joining: Joining<'_>| {
            let branch = joining.reference.source_ref.name().to_owned();
            (branch, names(joining.targets.into_iter().collect()), names(joining.row.targets.unwrap()))
        };
        joined_with(&routes(routed), references, &undecided, &[]).into_iter().map(summary).collect()
    }

    /// The references, while the changes of these branches are held.
    fn joined_with<'r>(
        routes: &'r Routes,
        references: &'r [Reference],
        undecided: &BTreeSet<TargetId>,
        held: &[&str],
    ) -> Vec<Joining<'r>> {
        let mut row = TrainRow::default();
        for branch in held {
            let source_ref = Some(format!("refs/heads/{branch}").parse().unwrap());
            row.hold(Hold { wave: None, source_ref, reason: "r".to_owned(), until: None, by: None, since: 1 });
        }
        let mut trains = TrainRows::new();
        if let Err(names) = joining(routes, references, undecided, &trains, NOW) {
            assert_eq!(names, BTreeSet::from(["shop".to_owned()]));
            trains.insert("shop".to_owned(), Snapshot { row, revision: Some(1) });
        }
        joining(routes, references, undecided, &trains, NOW).unwrap()
    }

    fn owned(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_new_target_gets_the_newest_head_of_its_references() {
        let references = [reference("a", 1, &["p"], false), reference("b", 2, &["p"], false)];
        let expected = [("b".to_owned(), owned(&["q"]), owned(&["p", "q"]))];
        assert_eq!(
            joined(&["p", "q"], &references, &[]),
            expected,
            "if the order fails, the next reconcile repeats it"
        );
        let references = [reference("a", 1, &["p"], false), reference("b", 2, &["p", "q"], false)];
        let expected = [("a".to_owned(), owned(&["q"]), owned(&["p", "q"]))];
        assert_eq!(joined(&["p", "q"], &references, &[]), expected);
    }

    #[test]
    fn a_target_that_another_reference_with_a_later_head_feeds_is_marked() {
        for (sequence, expected) in [(1, false), (3, true)] {
            let references = [reference("a", sequence, &["p"], false), reference("b", 2, &[], false)];
            let routes = routes(&["p"]);
            let joining = joined_with(&routes, &references, &BTreeSet::new(), &[]);
            assert_eq!((joining.len(), joining[0].targets.contains(&id("p"))), (1, true));
            assert_eq!(joining[0].fed_later.contains(&id("p")), expected);
        }
    }

    #[test]
    fn a_recorded_head_is_never_ordered() {
        let references = [reference("a", 1, &["p"], false), reference("old", 2, &["q"], true)];
        let expected =
            [("a".to_owned(), owned(&["q"]), owned(&["p", "q"])), ("old".to_owned(), vec![], owned(&["p", "q"]))];
        assert_eq!(joined(&["p", "q"], &references, &[]), expected);
        assert_eq!(joined(&["p", "q"], &references[1..], &[]), expected[1..]);
    }

    #[test]
    fn a_held_head_does_not_keep_the_head_of_another_reference() {
        let references = [reference("a", 1, &[], false), reference("b", 2, &[], false)];
        let summary = |held: &[&str]| -> Vec<(String, bool, bool)> {
            let routes = routes(&["p"]);
            let joining = joined_with(&routes, &references, &BTreeSet::new(), held);
            let known = |one: &Joining<'_>| one.row.targets.as_ref().unwrap().contains(&id("p"));
            let one =
                |one: &Joining<'_>| (one.reference.source_ref.name().to_owned(), !one.targets.is_empty(), known(one));
            joining.iter().map(one).collect()
        };
        let ordered = |branch: &str| vec![(branch.to_owned(), true, true)];
        assert_eq!((summary(&[]), summary(&["a"])), (ordered("b"), ordered("b")));
        assert_eq!((summary(&["b"]), summary(&["a", "b"])), (ordered("a"), vec![]));
    }

    #[test]
    fn a_target_that_left_may_join_again() {
        let left = joined(&["p"], &[reference("a", 1, &["p", "q"], false)], &[]);
        assert_eq!(left, [("a".to_owned(), vec![], owned(&["p"]))]);
        assert!(joined(&["p"], &[reference("a", 1, &["p"], false)], &[]).is_empty());
    }

    #[test]
    fn a_target_of_a_repository_that_was_not_examined_waits() {
        let references = [reference("a", 1, &["p"], false)];
        assert!(joined(&["p", "q"], &references, &["q"]).is_empty());
        let expected = [("a".to_owned(), owned(&["q"]), owned(&["p", "q"]))];
        assert_eq!(joined(&["p", "q", "r"], &references, &["r"]), expected);
    }
}
