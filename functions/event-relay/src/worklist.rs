//! The references that a reconcile examines, in the order of the examination, and the mistakes in the routes.

use std::collections::BTreeSet;

use sekisho_domain::change::{GitRef, RefKind, RepositoryArn};
use sekisho_domain::decision::Decision;
use sekisho_domain::route::{Route, Routes};
use sekisho_domain::timestamp::epoch_millis;
use sekisho_ledger::Row;
use time::OffsetDateTime;

use crate::branch::{BranchRow, Pending};
use crate::error::Error;
use crate::hint::{Hint, Trigger};
use crate::outcome::{Outcome, needs_repair};

/// The default interval of the schedule, in milliseconds.
const INTERVAL: u64 = 300_000;

/// A row of the ledger, or the error that occurred when the row was read.
pub(crate) type RowResult = Result<Row<BranchRow>, sekisho_ledger::Error>;

/// A repository and the names of its branches.
#[derive(Debug)]
pub(crate) struct Branches {
    pub(crate) repository: String,
    pub(crate) names: Vec<String>,
}

/// The references of one repository that a reconcile must examine.
#[derive(Debug, Default)]
pub(crate) struct Worklist {
    /// The references to examine, with the trigger of each. Pending changes and routed branches alternate, so that
    /// neither kind uses up the time for the other kind.
    pub(crate) looks: Vec<(Hint, Trigger)>,
    /// The number of references that other invocations hold. The reconcile skips these references, because waiting
    /// would use up the time for other references.
    pub(crate) leased: usize,
    /// The decisions about mistakes in the routes and about rows that cannot be read.
    pub(crate) mistakes: Vec<Decision<Outcome>>,
}

/// The part of a worklist that comes from the ledger's rows.
#[derive(Debug, Default)]
struct Rows {
    pending: Vec<(Hint, Trigger)>,
    leased: usize,
    unreadable: Vec<Decision<Outcome>>,
    /// The references with a pending or an unreadable row. The worklist must not contain these references a second time
    /// as routed branches.
    seen: BTreeSet<GitRef>,
}

impl Worklist {
    /// The worklist of a repository that has these branches and rows.
    pub(crate) fn new(
        repository: &RepositoryArn,
        branches: &[String],
        rows: Vec<RowResult>,
        routes: &Routes,
        now: OffsetDateTime,
    ) -> Self {
        let Rows { mut pending, leased, unreadable, seen } = Rows::new(repository, rows, now);
        let mut mistakes = unreadable;
        mistakes.extend(missing_branches(repository, branches, routes));
        let is_routed = |git_ref: &GitRef| routes.concerning(repository, git_ref).next().is_some();
        let mut concerned: Vec<(Hint, Trigger)> = branches
            .iter()
            .filter_map(|branch| GitRef::branch(branch).ok())
            .filter(|git_ref| !seen.contains(git_ref) && is_routed(git_ref))
            .map(|git_ref| (Hint::without_event(repository, git_ref), Trigger::Reconcile))
            .collect();
        rotate(&mut pending, now);
        rotate(&mut concerned, now);
        Self { looks: alternate(pending, concerned), leased, mistakes }
    }

    /// The worklist of a repository that does not exist. The worklist has one mistake if a route names the repository,
    /// and is empty otherwise.
    pub(crate) fn of_missing_repository(repository: &RepositoryArn, routes: &Routes) -> Self {
        let mut worklist = Self::default();
        if routes.iter().any(|route| is_named(route, repository)) {
            let reason = "a route names this repository, but it does not exist: create it, or correct the route";
            let decision = Decision::new(Outcome::Failed, reason).about("repository", repository.as_str());
            worklist.mistakes.push(decision);
        }
        worklist
    }
}

impl Rows {
    fn new(repository: &RepositoryArn, rows: Vec<RowResult>, now: OffsetDateTime) -> Self {
        let mut found = Self::default();
        for row in rows {
            match row {
                Err(error) => {
                    if let sekisho_ledger::Error::Unreadable { key, .. } = &error {
                        found.seen.extend(key.sk.parse::<GitRef>());
                    }
                    let decision = needs_repair(&Error::from(error));
                    found.unreadable.push(decision.about("repository", repository.as_str()));
                }
                Ok(row) => {
                    let (Ok(git_ref), Some(pending)) = (row.sk.parse::<GitRef>(), row.state.pending) else { continue };
                    found.seen.insert(git_ref.clone());
                    if pending.is_leased(now) {
                        found.leased += 1;
                    } else {
                        found.pending.push((pending_hint(repository, git_ref, pending), Trigger::Pending));
                    }
                }
            }
        }
        found
    }
}

fn pending_hint(repository: &RepositoryArn, git_ref: GitRef, pending: Pending) -> Hint {
    let hint = Hint::without_event(repository, git_ref);
    match pending.change.kind {
        RefKind::Branch => hint,
        // A tag has no head that could be read, so the hint repeats the commit of the pending change.
        RefKind::Tag => Hint { event: pending.change.event, ..hint },
    }
}

fn is_named(route: &Route, repository: &RepositoryArn) -> bool {
    route.is_for_region(repository.region()) && route.repository().literal() == Some(repository.name())
}

/// The decisions about branches that a route of this repository names without a glob and that do not exist.
fn missing_branches(
    repository: &RepositoryArn,
    branches: &[String],
    routes: &Routes,
) -> impl Iterator<Item = Decision<Outcome>> {
    let named: BTreeSet<&str> = routes
        .iter()
        .filter(|route| is_named(route, repository))
        .flat_map(|route| route.literal_names(RefKind::Branch))
        .collect();
    named.into_iter().filter(|branch| !branches.iter().any(|existing| existing == branch)).map(|branch| {
        let reason = "a route names this branch, but it does not exist: create it, or correct the route";
        Decision::new(Outcome::Failed, reason).about("repository", repository.as_str()).about("ref", branch)
    })
}

/// The decisions about routes that name their repository by a glob and lead to nothing: no repository matches the glob,
/// or no matching repository has a branch that the route names. A branch that only some of the matching repositories
/// lack is not a mistake.
pub(crate) fn unmatched_globs(routes: &Routes, found: &[Branches]) -> Vec<Decision<Outcome>> {
    let globs = routes.iter().filter(|route| route.repository().literal().is_none());
    globs.flat_map(|route| unmatched_by(route, found)).collect()
}

fn unmatched_by(route: &Route, found: &[Branches]) -> Vec<Decision<Outcome>> {
    let pattern = route.repository().pattern();
    let matching: Vec<&Branches> = found.iter().filter(|one| route.repository().matches(&one.repository)).collect();
    if matching.is_empty() {
        let reason = format!("no repository matches `{pattern}` in a route: create one, or correct the route");
        return vec![Decision::new(Outcome::Failed, reason)];
    }
    let branches: BTreeSet<&str> = matching.into_iter().flat_map(|one| &one.names).map(String::as_str).collect();
    let missing = route.literal_names(RefKind::Branch).filter(|name| !branches.contains(name));
    let decision = |branch: &str| {
        let reason = format!(
            "no repository that matches `{pattern}` in a route has this branch: create it, or correct the route"
        );
        Decision::new(Outcome::Failed, reason).about("ref", branch)
    };
    missing.map(decision).collect()
}

/// Returns the elements of both lists alternately.
fn alternate<T>(first: Vec<T>, second: Vec<T>) -> Vec<T> {
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut both = Vec::with_capacity(first.len() + second.len());
    loop {
        let (one, other) = (first.next(), second.next());
        if one.is_none() && other.is_none() {
            return both;
        }
        both.extend(one.into_iter().chain(other));
    }
}

/// Rotates the list so that each reconcile begins with another element. Without the rotation, a reconcile that runs out
/// of time would never reach the last elements. The starting point moves by the golden ratio of the list's length each
/// time, so a few reconciles reach every large part of the list.
pub(crate) fn rotate<T>(list: &mut [T], now: OffsetDateTime) {
    let fraction = (epoch_millis(now) / INTERVAL).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    let length = u64::try_from(list.len()).unwrap_or(0) & u64::from(u32::MAX);
    list.rotate_left(usize::try_from((fraction * length) >> 32).unwrap_or(0));
}

#[cfg(test)]
mod tests {
    use sekisho_domain::change::Change;
    use sekisho_domain::config::Document;
    use sekisho_ledger::Key;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-21 12:00 UTC);

    const CONFIG: &str = r#"
        [[route]]
        repository = "shop"
        branches = ["main", "missing", "release/*"]
        [[route.target]]
        account = "222222222222"
        region = "ap-northeast-1"
        pipeline = "shop"
        action = "Source"
    "#;

    fn row(repository: &RepositoryArn, git_ref: &str, is_leased: bool) -> Row<BranchRow> {
        let git_ref: GitRef = git_ref.parse().unwrap();
        let change = Change {
            kind: git_ref.kind(),
            repository: repository.clone(),
            git_ref: git_ref.clone(),
            commit: "0123456789abcdef0123456789abcdef01234567".parse().unwrap(),
            previous: None,
            sequence: 1,
            actor: None,
            event: Some("event".to_owned()),
        };
        let row = BranchRow::default().with_pending(change, vec![], Some(5), NOW);
        let state = if is_leased { row } else { row.given_back(&[], true) };
        Row { sk: git_ref.to_string(), revision: 1, state }
    }

    #[test]
    fn a_worklist_has_pending_changes_and_routed_branches_but_no_leased_or_unreadable_rows() {
        let repository: RepositoryArn = "arn:aws:codecommit:ap-northeast-1:111111111111:shop".parse().unwrap();
        let routes = Document::parse("t", CONFIG).unwrap().routes().unwrap();
        let branches = ["main", "other", "release/1", "release/2", "release/3"].map(ToOwned::to_owned);
        let unreadable = Key { pk: "branch".to_owned(), sk: "refs/heads/release/3".to_owned() };
        let rows = vec![
            Ok(row(&repository, "refs/heads/release/1", true)),
            Ok(row(&repository, "refs/heads/release/2", false)),
            Ok(row(&repository, "refs/tags/v1", false)),
            Ok(Row { sk: "refs/heads/main".to_owned(), revision: 1, state: BranchRow::default() }),
            Err(sekisho_ledger::Error::Unreadable { key: unreadable, source: "no sequence".into() }),
        ];
        let worklist = Worklist::new(&repository, &branches, rows, &routes, NOW);
        let mut looks: Vec<_> =
            worklist.looks.iter().map(|(hint, trigger)| (hint.git_ref.as_str(), *trigger)).collect();
        looks.sort_by_key(|(git_ref, _)| *git_ref);
        let expected = [
            ("refs/heads/main", Trigger::Reconcile),
            ("refs/heads/release/2", Trigger::Pending),
            ("refs/tags/v1", Trigger::Pending),
        ];
        assert_eq!(looks, expected);
        assert_eq!(worklist.leased, 1);
        let refs: Vec<_> = worklist.mistakes.iter().map(|mistake| mistake.concerns.get("ref").cloned()).collect();
        assert_eq!(refs, [None, Some("missing".to_owned())]);
    }

    #[test]
    fn every_part_of_a_long_list_comes_first_within_twenty_reconciles() {
        let mut reached = BTreeSet::new();
        for tick in 0..20_u32 {
            let mut list: Vec<usize> = (0..13_000).collect();
            rotate(&mut list, OffsetDateTime::UNIX_EPOCH + time::Duration::minutes(5) * tick);
            reached.extend(list.into_iter().take(2_000));
        }
        assert_eq!(reached.len(), 13_000);
        rotate::<u8>(&mut [], OffsetDateTime::UNIX_EPOCH);
    }

    #[test]
    fn two_lists_alternate_until_both_are_empty() {
        assert_eq!(alternate(vec![1, 2, 3], vec![10]), [1, 10, 2, 3]);
        assert_eq!(alternate(vec![], vec![10, 20]), [10, 20]);
    }
}
