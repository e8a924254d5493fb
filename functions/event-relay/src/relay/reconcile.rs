//! The use case of the schedule's event: compares every routed branch with the ledger and finishes pending changes.
//! CodeCommit's events are best effort, so the reconcile finds the changes whose event was lost.

use futures_util::{StreamExt, stream};
use sekisho_domain::change::RepositoryArn;
use sekisho_domain::decision::Decision;
use sekisho_ledger::Store;

use crate::branch::{self, BranchRow};
use crate::decision_log::{DecisionLog, Report};
use crate::error::Error;
use crate::hint::{Hint, Trigger};
use crate::outcome::{Outcome, about_hint, needs_repair};
use crate::relay::settle::settle;
use crate::run::Run;
use crate::worklist::{Branches, Worklist, rotate, unmatched_globs};
use crate::world::World;

/// The number of references that are examined at the same time. A thousand references, one after the other, would take
/// longer than the function's timeout.
const CONCURRENT_LOOKS: usize = 8;
/// The reconcile stores its decisions whenever it has this many new decisions, and at the end. If Lambda ends the
/// invocation at the timeout, only the decisions that are not stored are lost.
const STORE_AFTER: usize = 100;

/// Examines every routed branch and finishes pending changes. One decision gives the number of unchanged references.
/// Another decision gives the number of references for which no time was left. Only an error that a retry may cure
/// fails the invocation.
pub(crate) async fn reconcile<W: World>(run: &Run<'_, W>) -> Report {
    let mut reconcile = Reconcile { run, log: DecisionLog::default(), counts: Counts::default(), failures: Vec::new() };
    reconcile.look_everywhere().await;
    reconcile.finish()
}

/// A running reconcile.
struct Reconcile<'r, W> {
    run: &'r Run<'r, W>,
    log: DecisionLog,
    counts: Counts,
    /// Errors that a retry may cure.
    failures: Vec<Error>,
}

/// The numbers of references and repositories that get no decision of their own.
#[derive(Debug, Default)]
struct Counts {
    /// The number of references whose head was relayed before or touches no routed path.
    unchanged: usize,
    /// The number of references that other invocations hold.
    leased: usize,
    /// The number of references for which no time was left.
    late: usize,
    /// The number of repositories for which no time was left.
    late_repositories: usize,
}

/// The repositories that routes match.
struct Repositories {
    names: Vec<String>,
    /// Whether the names include every repository that a glob matches.
    is_complete: bool,
}

impl<W: World> Reconcile<'_, W> {
    async fn look_everywhere(&mut self) {
        let Repositories { mut names, is_complete } = self.routed_repositories().await;
        rotate(&mut names, self.run.now());
        let mut found: Vec<Branches> = Vec::new();
        for (done, name) in names.iter().enumerate() {
            if !self.run.has_time() {
                self.counts.late_repositories = names.len() - done;
                break;
            }
            found.extend(self.reconcile_repository(name).await);
        }
        if is_complete && found.len() == names.len() {
            self.log.extend(unmatched_globs(self.run.routes, &found));
        }
    }

    /// The repository names in routes, and the names of the repositories that the routes' globs match.
    async fn routed_repositories(&mut self) -> Repositories {
        let region = self.run.invocation.region.as_str();
        let routes: Vec<_> = self.run.routes.iter().filter(|route| route.is_for_region(region)).collect();
        let literal = routes.iter().filter_map(|route| route.repository().literal());
        let mut names: Vec<String> = literal.map(ToOwned::to_owned).collect();
        let mut is_complete = true;
        if routes.iter().any(|route| route.repository().literal().is_none()) {
            let is_routed = |name: &String| routes.iter().any(|route| route.repository().matches(name));
            match self.run.world.repositories().await {
                Ok(all) => names.extend(all.into_iter().filter(is_routed)),
                // The reconcile continues with the repositories that a route names without a glob.
                Err(error) => {
                    is_complete = false;
                    self.fail(error.into(), |decision| decision);
                }
            }
        }
        names.sort();
        names.dedup();
        Repositories { names, is_complete }
    }

    /// Examines the references of one repository and returns its branches, if they could be read.
    async fn reconcile_repository(&mut self, name: &str) -> Option<Branches> {
        let own = self.run.invocation;
        let Ok(repository) = RepositoryArn::new(&own.partition, own.region.as_str(), &own.account, name) else {
            let reason = format!("a route names `{name}`, which is not a repository name: correct the route");
            self.log.push(Decision::new(Outcome::Failed, reason));
            return None;
        };
        match self.read_repository(&repository).await {
            Err(error) => {
                self.fail(error, |decision| decision.about("repository", repository.as_str()));
                None
            }
            Ok((names, worklist)) => {
                self.log.extend(worklist.mistakes);
                self.counts.leased += worklist.leased;
                self.look_at_all(worklist.looks).await;
                Some(Branches { repository: name.to_owned(), names })
            }
        }
    }

    async fn read_repository(&self, repository: &RepositoryArn) -> Result<(Vec<String>, Worklist), Error> {
        let (world, routes) = (self.run.world, self.run.routes);
        let Some(names) = world.branches(repository.name()).await? else {
            return Ok((Vec::new(), Worklist::of_missing_repository(repository, routes)));
        };
        let rows = world.ledger().each::<BranchRow>(&branch::partition(repository), "").await?;
        let worklist = Worklist::new(repository, &names, rows, routes, self.run.now());
        Ok((names, worklist))
    }

    async fn look_at_all(&mut self, looks: Vec<(Hint, Trigger)>) {
        let run = self.run;
        let mut answers = stream::iter(looks)
            .map(async |(hint, trigger)| {
                let settled = if run.has_time() { Some(settle(run, &hint, trigger).await) } else { None };
                (hint, settled)
            })
            .buffer_unordered(CONCURRENT_LOOKS);
        while let Some((hint, settled)) = answers.next().await {
            let Some(settled) = settled else {
                self.counts.late += 1;
                continue;
            };
            self.add(&hint, settled);
            if self.log.unstored().len() >= STORE_AFTER
                && let Err(error) = run.record(&mut self.log).await
            {
                self.failures.push(error.into());
            }
        }
    }

    fn add(&mut self, hint: &Hint, settled: Report) {
        match settled.failure {
            None => {}
            Some(Error::Busy { .. }) => self.counts.leased += 1,
            Some(Error::NoTime { .. }) => self.counts.late += 1,
            Some(error) => self.fail(error, |decision| about_hint(hint, decision)),
        }
        for decision in settled.log.into_decisions() {
            // A filtered decision that names an account is about a pending change that lost its route. Such a decision
            // is logged separately, and not added to the number of unchanged references.
            let is_unchanged = decision.outcome == Outcome::Duplicate
                || decision.outcome == Outcome::Filtered && !decision.concerns.contains_key("account");
            if is_unchanged { self.counts.unchanged += 1 } else { self.log.push(decision) }
        }
    }

    /// Records an error. If no retry cures the error, it becomes a decision; otherwise the error fails the invocation.
    fn fail(&mut self, error: Error, about: impl FnOnce(Decision<Outcome>) -> Decision<Outcome>) {
        if error.is_final() { self.log.push(about(needs_repair(&error))) } else { self.failures.push(error) }
    }

    fn finish(self) -> Report {
        let Self { mut log, counts, failures, .. } = self;
        log.extend(counts.into_decisions());
        if log.is_empty() && failures.is_empty() {
            let reason = "no existing branch matches a route, and no change is pending";
            log.push(Decision::new(Outcome::Ignored, reason));
        }
        let count = failures.len();
        let failure = failures.into_iter().next().map(|first| Error::Reconcile { count, first: Box::new(first) });
        Report { log, failure }
    }
}

impl Counts {
    fn into_decisions(self) -> Vec<Decision<Outcome>> {
        let mut decisions = Vec::new();
        if self.unchanged > 0 {
            let reason = format!(
                "for {} routed references, the head was already relayed or touches no routed path",
                self.unchanged
            );
            decisions.push(Decision::new(Outcome::Duplicate, reason));
        }
        if self.leased > 0 {
            let reason = format!("other invocations are relaying {} references", self.leased);
            decisions.push(Decision::new(Outcome::Ignored, reason));
        }
        if self.late + self.late_repositories > 0 {
            let reason = format!(
                "no time was left for {} routed references and {} repositories: the next reconciles take the \
                 references and repositories in another order",
                self.late, self.late_repositories
            );
            decisions.push(Decision::new(Outcome::Ignored, reason));
        }
        decisions
    }
}
