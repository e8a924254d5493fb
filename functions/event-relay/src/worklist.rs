//! What a reconcile looks at, in which order, and the mistakes in the routes that it finds.

use std::collections::BTreeSet;

use sekisho_domain::change::{GitRef, RefKind, RepositoryArn};
use sekisho_domain::decision::Decision;
use sekisho_domain::route::{Route, Routes};
use sekisho_domain::timestamp::epoch_millis;
use sekisho_ledger::Row;
use time::OffsetDateTime;

use crate::branch::{BranchRow, Pending};
use crate::error::Error;
use crate::hint::{Hint, TagMove, Trigger};
use crate::outcome::{Outcome, needs_repair};

/// The default interval of the schedule, in milliseconds.
const INTERVAL: u64 = 300_000;

/// A row of the ledger, or the error that made the row unreadable.
pub(crate) type RowResult = Result<Row<BranchRow>, sekisho_ledger::Error>;

/// A repository and the names of its branches.
#[derive(Debug)]
pub(crate) struct Branches {
    pub(crate) repository: String,
    pub(crate) names: Vec<String>,
}

/// The references of one repository that a reconcile must look at.
#[derive(Debug, Default)]
pub(crate) struct Worklist {
    /// Pending changes and routed branches in turn, so that neither keeps the other from its time.
    pub(crate) looks: Vec<(Hint, Trigger)>,
    /// The number of references that another invocation holds. Waiting for them would take time from other references.
    pub(crate) leased: usize,
    /// Mistakes in the routes, and rows that cannot be read.
    pub(crate) mistakes: Vec<Decision<Outcome>>,
}

/// What the ledger's rows of a repository contribute to the worklist.
#[derive(Debug, Default)]
struct Rows {
    pending: Vec<(Hint, Trigger)>,
    leased: usize,
    unreadable: Vec<Decision<Outcome>>,
    /// References that must not be looked at as branches as well.
    seen: BTreeSet<GitRef>,
}

impl Worklist {
    /// The worklist of a repository with these branches and rows.
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
        let is_routed = |git_ref: &GitRef| routes.concerning(repository.name(), git_ref).next().is_some();
        let mut routed: Vec<(Hint, Trigger)> = branches
            .iter()
            .filter_map(|branch| GitRef::branch(branch).ok())
            .filter(|git_ref| !seen.contains(git_ref) && is_routed(git_ref))
            .map(|git_ref| (Hint::without_event(repository, git_ref), Trigger::Reconcile))
            .collect();
        rotate(&mut pending, now);
        rotate(&mut routed, now);
        Self { looks: alternate(pending, routed), leased, mistakes }
    }

    /// The worklist of a repository that does not exist: a mistake if a route names the repository.
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
        // A tag has no head that could be read: the pending change is all there is to finish.
        RefKind::Tag => Hint {
            tag: Some(TagMove { commit: pending.change.commit, at: pending.at }),
            event: pending.change.event,
            ..hint
        },
    }
}

fn is_named(route: &Route, repository: &RepositoryArn) -> bool {
    route.repository().literal() == Some(repository.name())
}

/// Branches that a route of this repository names without a glob and that do not exist.
fn missing_branches(
    repository: &RepositoryArn,
    branches: &[String],
    routes: &Routes,
) -> impl Iterator<Item = Decision<Outcome>> {
    let named: BTreeSet<&str> = routes
        .iter()
        .filter(|route| is_named(route, repository))
        .flat_map(Route::branches)
        .filter_map(|glob| glob.literal())
        .collect();
    named.into_iter().filter(|branch| !branches.iter().any(|existing| existing == branch)).map(|branch| {
        let reason = "a route names this branch, but it does not exist: create it, or correct the route";
        Decision::new(Outcome::Failed, reason).about("repository", repository.as_str()).about("ref", branch)
    })
}

/// Routes with a glob for the repository that match nothing: no repository matches, or no matching repository has a
/// branch that the route names. A branch that only some of the repositories lack is no mistake.
pub(crate) fn unmatched_globs(routes: &Routes, found: &[Branches]) -> Vec<Decision<Outcome>> {
    let globs = routes.iter().filter(|route| route.repository().literal().is_none());
    globs.flat_map(|route| unmatched_by(route, found)).collect()
}

fn unmatched_by(route: &Route, found: &[Branches]) -> Vec<Decision<Outcome>> {
    let pattern = route.repository().pattern();
    let matching: Vec<&Branches> = found.iter().filter(|one| route.repository().matches(&one.repository)).collect();
    if matching.is_empty() {
        let reason = format!("no repository matches `{pattern}` of a route: create one, or correct the route");
        return vec![Decision::new(Outcome::Failed, reason)];
    }
    let branches: BTreeSet<&str> = matching.into_iter().flat_map(|one| &one.names).map(String::as_str).collect();
    let missing = route.branches().iter().filter_map(|glob| glob.literal()).filter(|name| !branches.contains(name));
    let decision = |branch: &str| {
        let reason = format!(
            "no repository that matches `{pattern}` of a route has this branch: create it, or correct the route"
        );
        Decision::new(Outcome::Failed, reason).about("ref", branch)
    };
    missing.map(decision).collect()
}

/// Takes one element of each list in turn.
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

/// Rotates the list so that each reconcile begins elsewhere, because the last elements may get no time. Steps of the
/// golden ratio reach every large part of the list soon.
pub(crate) fn rotate<T>(list: &mut [T], now: OffsetDateTime) {
    let fraction = (epoch_millis(now) / INTERVAL).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    let length = u64::try_from(list.len()).unwrap_or(0) & u64::from(u32::MAX);
    list.rotate_left(usize::try_from((fraction * length) >> 32).unwrap_or(0));
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn two_lists_take_turns_until_both_are_empty() {
        assert_eq!(alternate(vec![1, 2, 3], vec![10]), [1, 10, 2, 3]);
        assert_eq!(alternate(vec![], vec![10, 20]), [10, 20]);
    }
}
