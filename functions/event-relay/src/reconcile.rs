//! The schedule: every routed branch's head against the ledger, and what is pending. Events are best effort; this is not.

use std::collections::BTreeSet;

use futures_util::{StreamExt, stream};
use sekisho_domain::change::{GitRef, RefKind, RepositoryArn};
use sekisho_domain::decision::Decision;
use sekisho_domain::route::Route;
use sekisho_domain::timestamp::epoch_millis;
use sekisho_lambda::Invocation;
use sekisho_ledger::Store;
use time::OffsetDateTime;

use crate::event::Hint;
use crate::handler::{By, Error, Kept, Outcome, Relay, about, unmended};
use crate::reference::{self, State, Step};
use crate::world::World;

/// References that are looked at at once: one after the other, a thousand would take longer than Lambda lets the
/// function run.
const LOOKS: usize = 8;
/// Decisions that may be lost with the invocation: after so many they are written down. Fewer are at its end.
const AT_ONCE: usize = 100;
/// How often the schedule comes by default, in milliseconds.
const TICK: u64 = 300_000;

/// What is said of many references at once.
#[derive(Debug, Default)]
struct Count {
    unmoved: usize,
    at_work: usize,
    late: usize,
    late_repositories: usize,
    failures: Vec<Error>,
}

/// The references of a repository that are to be looked at.
#[derive(Debug, Default)]
pub(crate) struct References {
    /// Pending ones and branches in turn, so that neither keeps the other from its time.
    pub(crate) hints: Vec<(Hint, By)>,
    /// How many another invocation is at: waiting for it would take another's place.
    at_work: usize,
    /// Every branch that exists.
    branches: Vec<String>,
    /// What is wrong with the routes, or with rows of the ledger.
    pub(crate) wrong: Vec<Decision<Outcome>>,
}

impl<W: World> Relay<W> {
    /// Looks at every routed branch, and finishes what is pending. What did not move is told in one decision, and so is what
    /// there was no time for. What no retry mends is a decision; only the rest fails the invocation.
    pub(crate) async fn reconcile(&self, invocation: &Invocation, kept: &mut Kept) -> Result<(), Error> {
        let mut count = Count::default();
        let (mut names, is_whole) = self.routed_repositories(&mut count, kept).await;
        turn(&mut names, self.world.now());
        let mut branches: Vec<(String, Vec<String>)> = Vec::new();
        for (done, name) in names.iter().enumerate() {
            if !self.has_time(invocation) {
                count.late_repositories = names.len() - done;
                break;
            }
            let arn = RepositoryArn::new(&invocation.partition, invocation.region.as_str(), &invocation.account, name);
            let Ok(repository) = arn else {
                kept.push(Decision::new(Outcome::Failed, format!("`{name}` of a route is no repository name")));
                continue;
            };
            match self.references(&repository).await {
                Err(error) if error.is_final() => {
                    kept.push(unmended(&error).about("repository", repository.as_str()));
                }
                Err(error) => count.failures.push(error),
                Ok(mut references) => {
                    references.wrong.drain(..).for_each(|decision| kept.push(decision));
                    count.at_work += references.at_work;
                    self.look_at_all(references.hints, invocation, &mut count, kept).await;
                    branches.push((name.clone(), references.branches));
                }
            }
        }
        if is_whole && branches.len() == names.len() {
            self.globs_in_vain(&branches).for_each(|decision| kept.push(decision));
        }
        count.told(kept)
    }

    async fn look_at_all(&self, hints: Vec<(Hint, By)>, invocation: &Invocation, count: &mut Count, kept: &mut Kept) {
        let mut looks = stream::iter(hints)
            .map(async |(hint, by)| {
                if !self.has_time(invocation) {
                    return None;
                }
                let mut found = Vec::new();
                let answer = self.look(&hint, by, invocation, &mut found).await;
                Some((hint, found, answer))
            })
            .buffer_unordered(LOOKS);
        while let Some(looked) = looks.next().await {
            let Some((hint, found, answer)) = looked else {
                count.late += 1;
                continue;
            };
            match answer {
                Ok(()) => {}
                Err(Error::Busy(..)) => count.at_work += 1,
                Err(Error::NoTime(..)) => count.late += 1,
                Err(error) if error.is_final() => kept.push(about(&hint, unmended(&error))),
                Err(error) => count.failures.push(error),
            }
            for decision in found {
                // A pending change that is routed no more is told.
                let is_quiet = decision.outcome == Outcome::Duplicate
                    || decision.outcome == Outcome::Filtered && !decision.concerns.contains_key("account");
                if is_quiet { count.unmoved += 1 } else { kept.push(decision) }
            }
            if kept.open() >= AT_ONCE
                && let Err(error) = self.keep(invocation, kept).await
            {
                count.failures.push(error);
            }
        }
    }

    /// The names that routes have, and those that their globs match; whether these are all.
    async fn routed_repositories(&self, count: &mut Count, kept: &mut Kept) -> (Vec<String>, bool) {
        let mut names: Vec<String> =
            self.routes.iter().filter_map(|route| route.repository().literal()).map(ToOwned::to_owned).collect();
        let mut is_whole = true;
        if self.routes.iter().any(|route| route.repository().literal().is_none()) {
            match self.world.repositories().await.map_err(Error::from) {
                Ok(all) => names.extend(
                    all.into_iter().filter(|name| self.routes.iter().any(|route| route.repository().matches(name))),
                ),
                // What has a name in a route is looked at all the same.
                Err(error) => {
                    is_whole = false;
                    if error.is_final() { kept.push(unmended(&error)) } else { count.failures.push(error) }
                }
            }
        }
        names.sort();
        names.dedup();
        (names, is_whole)
    }

    /// What is pending in a repository and what is routed. Reads, and writes nothing.
    pub(crate) async fn references(&self, repository: &RepositoryArn) -> Result<References, Error> {
        let hint = |git_ref: GitRef| Hint {
            repository: repository.clone(),
            git_ref,
            tag_commit: None,
            at: None,
            actor: None,
            event: None,
        };
        let mut references = References::default();
        let is_named = |route: &&Route| route.repository().literal() == Some(repository.name());
        let Some(branches) = self.world.branches(repository.name()).await? else {
            if self.routes.iter().any(|route| is_named(&route)) {
                let reason = "a route names this repository, and it does not exist: create it, or correct the route";
                let decision = Decision::new(Outcome::Failed, reason).about("repository", repository.as_str());
                references.wrong.push(decision);
            }
            return Ok(references);
        };
        // Not to be looked at once more as a branch.
        let mut known: BTreeSet<GitRef> = BTreeSet::new();
        let mut pending = Vec::new();
        for row in self.world.ledger().each::<State>(&reference::partition(repository), "").await? {
            match row {
                Err(error) => {
                    if let sekisho_ledger::Error::Unreadable { key, .. } = &error {
                        known.extend(key.sk.parse::<GitRef>());
                    }
                    references.wrong.push(unmended(&Error::from(error)).about("repository", repository.as_str()));
                }
                Ok(row) => {
                    let step = row.state.step(self.world.now());
                    let Ok(git_ref) = row.sk.parse::<GitRef>() else { continue };
                    match step {
                        Step::Look => {}
                        Step::Wait(_) => {
                            references.at_work += 1;
                            known.insert(git_ref);
                        }
                        Step::Finish(left) => {
                            known.insert(git_ref.clone());
                            let mut hint = hint(git_ref);
                            // A tag has no head to look at: what is pending is all there is to finish.
                            if left.change.kind == RefKind::Tag {
                                hint.tag_commit = Some(left.change.commit);
                                hint.event = left.change.event;
                                hint.at = left.at;
                            }
                            pending.push((hint, By::Pending));
                        }
                    }
                }
            }
        }
        let named: BTreeSet<&str> =
            self.routes.iter().filter(is_named).flat_map(Route::branches).filter_map(|glob| glob.literal()).collect();
        for branch in named {
            if !branches.iter().any(|existing| existing == branch) {
                let reason = "a route names this branch, and it does not exist: create it, or correct the route";
                let decision = Decision::new(Outcome::Failed, reason).about("repository", repository.as_str());
                references.wrong.push(decision.about("ref", branch));
            }
        }
        let concerned = |git_ref: &GitRef| self.routes.concerning(repository.name(), git_ref).next().is_some();
        let mut routed: Vec<(Hint, By)> = branches
            .iter()
            .filter_map(|branch| GitRef::branch(branch).ok())
            .filter(|git_ref| !known.contains(git_ref) && concerned(git_ref))
            .map(|git_ref| (hint(git_ref), By::Reconcile))
            .collect();
        turn(&mut pending, self.world.now());
        turn(&mut routed, self.world.now());
        let (mut pending, mut routed) = (pending.into_iter(), routed.into_iter());
        loop {
            let (first, second) = (pending.next(), routed.next());
            if first.is_none() && second.is_none() {
                break;
            }
            references.hints.extend(first.into_iter().chain(second));
        }
        references.branches = branches;
        Ok(references)
    }

    /// What globs of repositories name and nowhere is: a branch that but some of the repositories lack is no mistake.
    fn globs_in_vain(&self, found: &[(String, Vec<String>)]) -> impl Iterator<Item = Decision<Outcome>> {
        self.routes.iter().filter(|route| route.repository().literal().is_none()).flat_map(|route| {
            let pattern = route.repository().pattern();
            let mut matching = found.iter().filter(|(name, _)| route.repository().matches(name)).peekable();
            if matching.peek().is_none() {
                let reason = format!("no repository matches `{pattern}` of a route: create one, or correct the route");
                return vec![Decision::new(Outcome::Failed, reason)];
            }
            let branches: BTreeSet<&str> = matching.flat_map(|(_, branches)| branches).map(String::as_str).collect();
            let missing =
                route.branches().iter().filter_map(|glob| glob.literal()).filter(|name| !branches.contains(name));
            let told = |branch: &str| {
                let reason = format!(
                    "no repository that `{pattern}` of a route matches has this branch: create it, or correct the route"
                );
                Decision::new(Outcome::Failed, reason).about("ref", branch)
            };
            missing.map(told).collect()
        })
    }
}

impl Count {
    fn told(self, kept: &mut Kept) -> Result<(), Error> {
        if self.unmoved > 0 {
            let reason =
                format!("{} routed references are as they were relayed, or touch no routed path", self.unmoved);
            kept.push(Decision::new(Outcome::Duplicate, reason));
        }
        if self.at_work > 0 {
            let reason = format!("{} references are left to the invocations that are relaying them", self.at_work);
            kept.push(Decision::new(Outcome::Ignored, reason));
        }
        if self.late + self.late_repositories > 0 {
            let reason = format!(
                "{} routed references and {} repositories were not looked at, as no time was left: the next reconciles begin elsewhere",
                self.late, self.late_repositories
            );
            kept.push(Decision::new(Outcome::Ignored, reason));
        }
        if kept.is_empty() && self.failures.is_empty() {
            kept.push(Decision::new(Outcome::Ignored, "no branch that a route concerns exists, and none is pending"));
        }
        let failures = self.failures.len();
        match self.failures.into_iter().next() {
            None => Ok(()),
            Some(first) => Err(Error::Reconcile(failures, Box::new(first))),
        }
    }
}

/// Begins each time at another place, and soon at every one: what comes last does not always come last. Steps of the
/// golden ratio leave no large part of a circle out for long.
fn turn<T>(list: &mut [T], now: OffsetDateTime) {
    let fraction = (epoch_millis(now) / TICK).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    let length = u64::try_from(list.len()).unwrap_or(0) & u64::from(u32::MAX);
    list.rotate_left(usize::try_from((fraction * length) >> 32).unwrap_or(0));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_of_a_long_list_comes_first_part_soon() {
        let mut reached = BTreeSet::new();
        for tick in 0..20_u32 {
            let mut list: Vec<usize> = (0..13_000).collect();
            turn(&mut list, OffsetDateTime::UNIX_EPOCH + time::Duration::minutes(5) * tick);
            reached.extend(list.into_iter().take(2_000));
        }
        assert_eq!(reached.len(), 13_000);
        turn::<u8>(&mut [], OffsetDateTime::UNIX_EPOCH);
    }
}
