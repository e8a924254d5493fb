//! Reads the facts, decides, and carries the decision out.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use sekisho_domain::change::{Change, CommitId, GitRef, RefKind, RepositoryArn};
use sekisho_domain::config::Misconfigured;
use sekisho_domain::decision::{Decision, Decisions};
use sekisho_domain::envelope;
use sekisho_domain::route::Routes;
use sekisho_lambda::aws::SdkConfig;
use sekisho_lambda::{Environment, ErrorType, Failure, Invocation, log, metrics};
use sekisho_ledger::{Row, Store};
use serde::Serialize;

use crate::aws::Aws;
use crate::deliver::{Delivered, Delivery, RESERVE, Redelivery, dead_letter, deliver};
use crate::event::{self, Here, Hint, Input};
use crate::reference::{self, Pending, State, Step};
use crate::route::Touched;
use crate::world::{Head, Unanswered, World};

/// The name under which decisions are kept.
pub const FUNCTION: &str = "event-relay";

/// Pages of changed paths that are read before everything counts as changed: each has up to some hundred paths.
const PAGES: usize = 100;
/// References of a reconcile that are looked at at once: one after the other, a thousand would take longer than Lambda
/// lets the function run.
const LOOKS: usize = 8;
/// How long to wait before a claimed row is looked at again.
const GLANCE: Duration = Duration::from_secs(1);
/// How often a row is read again that others write at the same time.
const CONTENTIONS: usize = 20;

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// On every target's bus, but for those that a `failed` beside it names.
    Relayed,
    /// The head has been relayed before.
    Duplicate,
    /// No route, or no path of a route.
    Filtered,
    /// Of no concern.
    Ignored,
    /// Not believed.
    Refused,
    /// Will not work as things are; a retry would not help.
    Failed,
}

/// Why an invocation failed. All but [`Error::Misconfigured`] and [`Error::InvalidRequest`] may go better on a retry.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Configuration or environment.
    #[error("{0}")]
    Misconfigured(#[from] Misconfigured),
    /// A request with an `action` that is not one.
    #[error("{0}")]
    InvalidRequest(String),
    /// The ledger.
    #[error("{0}")]
    Ledger(#[from] sekisho_ledger::Error),
    /// CodeCommit or the dead-letter queue.
    #[error("{0}")]
    Unanswered(#[from] Unanswered),
    /// Another invocation holds the reference.
    #[error("another invocation is relaying {0} of {1}, or there is no time left to: tried again by Lambda")]
    Busy(GitRef, RepositoryArn),
    /// Some buses have not taken it yet.
    #[error("{left} of {all} targets have not taken {git_ref} of {repository}: {reason}")]
    Undelivered {
        /// How many.
        left: usize,
        /// Of how many.
        all: usize,
        /// What the first of them said.
        reason: String,
        /// Which reference.
        git_ref: GitRef,
        /// Of which repository.
        repository: RepositoryArn,
    },
    /// Some references of a reconcile failed.
    #[error("{0} of the routed references could not be reconciled, the first: {1}")]
    Reconcile(usize, #[source] Box<Error>),
}

impl Failure for Error {
    fn error_type(&self) -> ErrorType {
        match self {
            Self::Misconfigured(_) => ErrorType::Misconfigured,
            Self::InvalidRequest(_) => ErrorType::InvalidRequest,
            Self::Ledger(sekisho_ledger::Error::Unavailable { throttled: true, .. })
            | Self::Unanswered(Unanswered { throttled: true, .. })
            | Self::Undelivered { .. } => ErrorType::Throttled,
            Self::Ledger(_) | Self::Unanswered(_) | Self::Busy(..) => ErrorType::Internal,
            Self::Reconcile(_, first) => first.error_type(),
        }
    }
}

/// The function.
#[derive(Debug)]
pub struct Relay<W> {
    /// Where it works.
    pub world: W,
    /// What goes where.
    pub routes: Routes,
}

/// What to do about a reference, all facts being read.
#[derive(Debug)]
enum Plan {
    /// Nothing but to say so.
    Decided(Decision<Outcome>),
    /// Relay this change to these, from this state of its row.
    Relay(Box<(Change, Vec<Delivery>, Option<Row<State>>)>),
}

impl Relay<Aws> {
    /// The function as its environment has it.
    ///
    /// # Errors
    /// Where the configuration cannot be read, a route in it is wrong, or a variable is missing.
    pub fn new(environment: &Environment, aws: &SdkConfig) -> Result<Self, Misconfigured> {
        Ok(Self { routes: environment.configuration()?.routes()?, world: Aws::new(environment, aws)? })
    }
}

impl<W: World> Relay<W> {
    /// Handles one payload.
    ///
    /// # Errors
    /// What a retry can mend; what it cannot is a decision. Requests with an `action` fail where they are wrong.
    pub async fn handle(&self, payload: &str, invocation: &Invocation) -> Result<Decisions<Outcome>, Error> {
        let here = Here { partition: &invocation.partition, account: &invocation.account, region: &invocation.region };
        let mut decisions = Vec::new();
        let answer = match event::read(payload, here) {
            Input::Explain(event) => return self.explain(event.get(), here).await,
            Input::Invalid(reason) => return Err(Error::InvalidRequest(reason)),
            Input::Ignored(reason) => {
                decisions.push(about_payload(payload, Decision::new(Outcome::Ignored, reason)));
                Ok(())
            }
            Input::Refused(reason) => {
                decisions.push(about_payload(payload, Decision::new(Outcome::Refused, reason)));
                Ok(())
            }
            Input::Look(hint) => self.look(&hint, invocation, &mut decisions).await,
            Input::Reconcile => self.reconcile(invocation, &mut decisions).await,
            Input::Redeliver(redelivery) => self.redeliver(&redelivery, invocation, &mut decisions).await,
        };
        // What was decided is kept also where the rest has to be tried again.
        log::decisions(&invocation.request_id, &decisions);
        metrics::count_outcomes(&invocation.function, &decisions);
        if !decisions.is_empty() {
            self.world.ledger().record(FUNCTION, &invocation.request_id, self.world.now(), &decisions).await?;
        }
        answer.map(|()| Decisions { decisions })
    }

    /// Looks at one reference until its head is relayed, or there is nothing to relay.
    async fn look(
        &self,
        hint: &Hint,
        invocation: &Invocation,
        decisions: &mut Vec<Decision<Outcome>>,
    ) -> Result<(), Error> {
        let mut touched = Touched::new(&self.routes, hint.repository.name(), &hint.git_ref);
        if touched.none_concerned() {
            decisions.push(about(hint, Decision::new(Outcome::Filtered, "no route for this repository and reference")));
            return Ok(());
        }
        for _ in 0..CONTENTIONS {
            let row = self.unclaimed(hint, invocation, decisions).await?;
            match self.plan(hint, row, &mut touched).await? {
                Plan::Decided(decision) => {
                    decisions.push(decision);
                    return Ok(());
                }
                Plan::Relay(plan) => {
                    let (change, deliveries, row) = *plan;
                    self.can_offer(hint, invocation)?;
                    let (revision, state) = row.map_or((None, State::default()), |row| (Some(row.revision), row.state));
                    let pending = state.with_pending(change.clone(), deliveries.clone(), self.world.now());
                    match self.write(hint, &pending, revision, invocation).await {
                        Ok(revision) => {
                            return self
                                .carry_out(&change, &deliveries, &pending, revision, invocation, decisions)
                                .await;
                        }
                        // Somebody else moved it on: look again.
                        Err(sekisho_ledger::Error::Changed(_)) => {
                            touched = Touched::new(&self.routes, hint.repository.name(), &hint.git_ref);
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
        Err(Error::Busy(hint.git_ref.clone(), hint.repository.clone()))
    }

    /// The row of a reference, once nothing is pending in it: waits for who works on it, finishes what was left.
    async fn unclaimed(
        &self,
        hint: &Hint,
        invocation: &Invocation,
        decisions: &mut Vec<Decision<Outcome>>,
    ) -> Result<Option<Row<State>>, Error> {
        loop {
            let row = self.world.ledger().read::<State>(&reference::key(&hint.repository, &hint.git_ref)).await?;
            let Some(row) = row else { return Ok(None) };
            match row.state.step(self.world.now()) {
                Step::Look => return Ok(Some(row)),
                Step::Wait(_) => {
                    self.can_offer(hint, invocation)?;
                    self.world.sleep(GLANCE).await;
                }
                Step::Finish(pending) => {
                    self.can_offer(hint, invocation)?;
                    // What is routed no more, after a correction of the configuration, has not to go anywhere.
                    let deliveries: Vec<Delivery> = pending
                        .deliveries
                        .into_iter()
                        .filter(|delivery| self.is_routed(&pending.change, delivery))
                        .collect();
                    let state = row.state.with_pending(pending.change.clone(), deliveries.clone(), self.world.now());
                    match self.write(hint, &state, Some(row.revision), invocation).await {
                        Ok(revision) => {
                            self.carry_out(&pending.change, &deliveries, &state, revision, invocation, decisions)
                                .await?;
                        }
                        Err(sekisho_ledger::Error::Changed(_)) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
    }

    /// Whether there is time left to offer a change: of three tries to deliver it, none is spent on not doing so.
    fn can_offer(&self, hint: &Hint, invocation: &Invocation) -> Result<(), Error> {
        if invocation.time_left(self.world.now()) > RESERVE + GLANCE {
            return Ok(());
        }
        Err(Error::Busy(hint.git_ref.clone(), hint.repository.clone()))
    }

    /// What to do about a reference of which nothing is pending. Reads, and writes nothing.
    async fn plan(&self, hint: &Hint, row: Option<Row<State>>, touched: &mut Touched<'_>) -> Result<Plan, Error> {
        let decided = |outcome, reason: &str, head: Option<&CommitId>| {
            let decision = Decision::new(outcome, reason).about_some("commit", head.map(CommitId::as_str));
            Ok(Plan::Decided(about(hint, decision)))
        };
        let state = row.as_ref().map(|row| &row.state);
        // The row was read before the head: an old head cannot take a newer sequence.
        let head = match (&hint.tag_commit, hint.git_ref.kind()) {
            (Some(commit), RefKind::Tag) => commit.clone(),
            _ => match self.world.head(hint.repository.name(), hint.git_ref.name()).await? {
                Head::At(commit) => commit,
                Head::NoBranch => return decided(Outcome::Ignored, "the branch does not exist (any more)", None),
                Head::NoRepository => {
                    return decided(Outcome::Ignored, "the repository does not exist (any more)", None);
                }
            },
        };
        let previous = state.and_then(|state| state.commit.clone());
        let seen = match hint.git_ref.kind() {
            RefKind::Branch => previous.as_ref() == Some(&head),
            RefKind::Tag => state.is_some_and(|state| hint.event.iter().any(|event| state.events.contains(event))),
        };
        if seen {
            return decided(Outcome::Duplicate, "this head has been relayed", Some(&head));
        }
        self.read_paths(hint, previous.as_ref(), &head, touched).await?;
        let deliveries = touched.deliveries();
        if deliveries.is_empty() {
            return decided(Outcome::Filtered, "the change touches no path of its routes", Some(&head));
        }
        let change = Change {
            kind: hint.git_ref.kind(),
            repository: hint.repository.clone(),
            git_ref: hint.git_ref.clone(),
            commit: head,
            previous,
            sequence: state.unwrap_or(&State::default()).next_sequence(self.world.now()),
            actor: hint.actor.clone(),
            event: hint.event.clone(),
        };
        Ok(Plan::Relay(Box::new((change, deliveries, row))))
    }

    /// Reads changed paths as long as they can make a difference.
    async fn read_paths(
        &self,
        hint: &Hint,
        previous: Option<&CommitId>,
        head: &CommitId,
        touched: &mut Touched<'_>,
    ) -> Result<(), Error> {
        let Some(previous) = previous else {
            touched.everything();
            return Ok(());
        };
        let mut page = None;
        for _ in 0..PAGES {
            if !touched.wants_paths() {
                return Ok(());
            }
            match self.world.differences(hint.repository.name(), previous, head, page).await? {
                // A commit that a force-push left behind may be gone.
                None => break,
                Some(differences) => {
                    touched.paths(&differences.paths);
                    page = differences.next;
                    if page.is_none() {
                        return Ok(());
                    }
                }
            }
        }
        touched.everything();
        Ok(())
    }

    /// Delivers what is pending in `state`, and writes down that it is done, or what is left.
    async fn carry_out(
        &self,
        change: &Change,
        deliveries: &[Delivery],
        state: &State,
        revision: u64,
        invocation: &Invocation,
        decisions: &mut Vec<Decision<Outcome>>,
    ) -> Result<(), Error> {
        let key = reference::key(&change.repository, &change.git_ref);
        let Delivered { mut failed, mut left } =
            deliver(&self.world, &invocation.partition, change, deliveries, invocation.deadline).await;
        if state.pending.as_ref().is_some_and(Pending::is_last_try) {
            failed.append(&mut left);
        }
        dead_letter(&self.world, change, &failed).await?;
        let next = match left.first() {
            None => state.relayed(change),
            Some(_) => state.given_back(change.clone(), left.iter().map(|(delivery, _)| delivery.clone()).collect()),
        };
        match self.world.ledger().write(&key, &next, Some(revision), &invocation.request_id).await {
            // The lease had ended and another invocation has taken it up: it writes down the same.
            Ok(_) | Err(sekisho_ledger::Error::Changed(_)) => {}
            Err(error) => return Err(error.into()),
        }
        for (delivery, reason) in &failed {
            decisions.push(failed_delivery(change, delivery, reason));
        }
        if let Some((_, reason)) = left.first() {
            return Err(Error::Undelivered {
                left: left.len(),
                all: deliveries.len(),
                reason: reason.clone(),
                git_ref: change.git_ref.clone(),
                repository: change.repository.clone(),
            });
        }
        let taken = deliveries.len() - failed.len();
        decisions.push(
            about_change(
                change,
                Decision::new(Outcome::Relayed, format!("on the bus of {taken} of {} targets", deliveries.len())),
            )
            .about("targets", taken.to_string()),
        );
        Ok(())
    }

    /// Looks at every routed branch, and finishes what is pending. What did not move is told in one decision.
    async fn reconcile(&self, invocation: &Invocation, decisions: &mut Vec<Decision<Outcome>>) -> Result<(), Error> {
        let mut failures = Vec::new();
        let mut unmoved = 0_usize;
        for name in self.routed_repositories().await? {
            let here =
                RepositoryArn::new(&invocation.partition, invocation.region.as_str(), &invocation.account, &name);
            let Ok(repository) = here else {
                decisions.push(Decision::new(Outcome::Failed, format!("`{name}` of a route is no repository name")));
                continue;
            };
            match self.routed_references(&repository, decisions).await {
                Err(error) => failures.push(error),
                Ok(hints) => {
                    let mut looks = stream::iter(hints)
                        .map(async |hint| {
                            let mut found = Vec::new();
                            let answer = self.look(&hint, invocation, &mut found).await;
                            (found, answer)
                        })
                        .buffer_unordered(LOOKS);
                    while let Some((mut found, answer)) = looks.next().await {
                        failures.extend(answer.err());
                        let before = found.len();
                        found.retain(|decision| !matches!(decision.outcome, Outcome::Duplicate | Outcome::Filtered));
                        unmoved += before - found.len();
                        decisions.append(&mut found);
                    }
                }
            }
        }
        if unmoved > 0 {
            let reason = format!("{unmoved} routed references are as they were relayed, or touch no routed path");
            decisions.push(Decision::new(Outcome::Duplicate, reason));
        }
        if decisions.is_empty() && failures.is_empty() {
            decisions
                .push(Decision::new(Outcome::Ignored, "no branch that a route concerns exists, and none is pending"));
        }
        let count = failures.len();
        match failures.into_iter().next() {
            None => Ok(()),
            Some(first) => Err(Error::Reconcile(count, Box::new(first))),
        }
    }

    async fn routed_repositories(&self) -> Result<Vec<String>, Error> {
        let mut names: Vec<String> =
            self.routes.iter().filter_map(|route| route.repository().literal()).map(ToOwned::to_owned).collect();
        if self.routes.iter().any(|route| route.repository().literal().is_none()) {
            let all = self.world.repositories().await?;
            names.extend(
                all.into_iter().filter(|name| self.routes.iter().any(|route| route.repository().matches(name))),
            );
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Pending references first, then the routed branches. Tells what a route names and does not exist.
    async fn routed_references(
        &self,
        repository: &RepositoryArn,
        decisions: &mut Vec<Decision<Outcome>>,
    ) -> Result<Vec<Hint>, Error> {
        let hint = |git_ref: GitRef| Hint {
            repository: repository.clone(),
            git_ref,
            tag_commit: None,
            actor: None,
            event: None,
        };
        let Some(branches) = self.world.branches(repository.name()).await? else {
            let reason = "a route names this repository, and it does not exist: create it, or correct the route";
            decisions.push(Decision::new(Outcome::Failed, reason).about("repository", repository.as_str()));
            return Ok(Vec::new());
        };
        let rows: Vec<Row<State>> = self.world.ledger().list(&reference::partition(repository), "").await?;
        let mut references: Vec<Hint> = Vec::new();
        for row in rows {
            if let (Some(pending), Ok(git_ref)) = (row.state.pending, row.sk.parse::<GitRef>()) {
                let mut pending_hint = hint(git_ref);
                // A tag has no head to look at: what is pending is all there is to finish.
                if pending.change.kind == RefKind::Tag {
                    pending_hint.tag_commit = Some(pending.change.commit);
                    pending_hint.event = pending.change.event;
                }
                references.push(pending_hint);
            }
        }
        let routes = self.routes.iter().filter(|route| route.repository().matches(repository.name()));
        for branch in routes.flat_map(sekisho_domain::route::Route::branches).filter_map(|glob| glob.literal()) {
            if !branches.iter().any(|existing| existing == branch) {
                let reason = "a route names this branch, and it does not exist: create it, or correct the route";
                decisions.push(
                    Decision::new(Outcome::Failed, reason)
                        .about("repository", repository.as_str())
                        .about("ref", branch),
                );
            }
        }
        for branch in branches {
            let Ok(git_ref) = GitRef::branch(&branch) else { continue };
            let concerned = self.routes.concerning(repository.name(), &git_ref).next().is_some();
            if concerned && !references.iter().any(|known| known.git_ref == git_ref) {
                references.push(hint(git_ref));
            }
        }
        Ok(references)
    }

    /// A message of the dead-letter queue: the same change to the same target, with its own sequence.
    async fn redeliver(
        &self,
        redelivery: &Redelivery,
        invocation: &Invocation,
        decisions: &mut Vec<Decision<Outcome>>,
    ) -> Result<(), Error> {
        let change = &redelivery.change;
        if change.repository.account() != invocation.account.as_str() {
            let reason = format!("the change is of {}: only this account's are relayed", change.repository);
            decisions.push(Decision::new(Outcome::Refused, reason));
            return Ok(());
        }
        if !self.is_routed(change, &redelivery.delivery) {
            let reason = "no route leads to this target (any more)";
            decisions.push(about_change(change, Decision::new(Outcome::Filtered, reason)));
            return Ok(());
        }
        let row = self.world.ledger().read::<State>(&reference::key(&change.repository, &change.git_ref)).await?;
        // A larger one would make every change that comes later stale.
        if row.is_none_or(|row| change.sequence > row.state.newest_sequence()) {
            let reason = "this sequence was never given to a change of this reference: push again instead";
            decisions.push(about_change(change, Decision::new(Outcome::Refused, reason)));
            return Ok(());
        }
        let deliveries = std::slice::from_ref(&redelivery.delivery);
        let Delivered { failed, left } =
            deliver(&self.world, &invocation.partition, change, deliveries, invocation.deadline).await;
        // The message stays where it came from: a new one would be redriven again, without an end.
        if let Some((_, reason)) = failed.into_iter().chain(left).next() {
            return Err(Error::Undelivered {
                left: 1,
                all: 1,
                reason,
                git_ref: change.git_ref.clone(),
                repository: change.repository.clone(),
            });
        }
        decisions.push(
            about_change(change, Decision::new(Outcome::Relayed, "delivered again"))
                .about("account", redelivery.delivery.account.as_str()),
        );
        Ok(())
    }

    /// Whether a route leads a change of this reference to that account and region.
    fn is_routed(&self, change: &Change, delivery: &Delivery) -> bool {
        self.routes
            .concerning(change.repository.name(), &change.git_ref)
            .flat_map(sekisho_domain::route::Route::targets)
            .any(|target| target.account == delivery.account && target.region == delivery.region)
    }

    /// The same reading and the same plan, and nothing after it.
    async fn explain(&self, payload: &str, here: Here<'_>) -> Result<Decisions<Outcome>, Error> {
        let decision = match event::read(payload, here) {
            Input::Ignored(reason) => about_payload(payload, Decision::new(Outcome::Ignored, reason)),
            Input::Refused(reason) => about_payload(payload, Decision::new(Outcome::Refused, reason)),
            Input::Invalid(reason) => return Err(Error::InvalidRequest(reason)),
            Input::Explain(_) | Input::Redeliver(_) | Input::Reconcile => {
                let reason = "`event` is not the event of a change: send the event itself, as the log or the dead-letter queue has it";
                return Err(Error::InvalidRequest(reason.to_owned()));
            }
            Input::Look(hint) => self.explain_hint(&hint).await?,
        };
        Ok(Decisions { decisions: vec![decision] })
    }

    async fn explain_hint(&self, hint: &Hint) -> Result<Decision<Outcome>, Error> {
        let mut touched = Touched::new(&self.routes, hint.repository.name(), &hint.git_ref);
        if touched.none_concerned() {
            return Ok(about(hint, Decision::new(Outcome::Filtered, "no route for this repository and reference")));
        }
        let row = self.world.ledger().read::<State>(&reference::key(&hint.repository, &hint.git_ref)).await?;
        let pending = row.as_ref().and_then(|row| row.state.pending.as_ref()).map(|pending| pending.change.sequence);
        let decision = match self.plan(hint, row, &mut touched).await? {
            Plan::Decided(decision) => decision,
            Plan::Relay(plan) => {
                let (change, deliveries, _) = *plan;
                let place = |d: &Delivery| {
                    let pipelines: Vec<&str> =
                        d.pipelines.iter().map(sekisho_domain::route::PipelineName::as_str).collect();
                    format!("{}/{}: {}", d.account, d.region, pipelines.join(", "))
                };
                let targets: Vec<String> = deliveries.iter().map(place).collect();
                let reason = format!("would be relayed to the buses of {} targets", targets.len());
                about_change(&change, Decision::new(Outcome::Relayed, reason)).about("targets", targets.join("; "))
            }
        };
        Ok(decision.about_some("pending", pending.map(|sequence| sequence.to_string())))
    }

    async fn write(
        &self,
        hint: &Hint,
        state: &State,
        revision: Option<u64>,
        invocation: &Invocation,
    ) -> Result<u64, sekisho_ledger::Error> {
        let key = reference::key(&hint.repository, &hint.git_ref);
        self.world.ledger().write(&key, state, revision, &invocation.request_id).await
    }
}

/// An event that is not acted on: what it says of itself.
fn about_payload(payload: &str, decision: Decision<Outcome>) -> Decision<Outcome> {
    const SAID: [(&str, &str); 4] = [
        ("event", "/id"),
        ("account", "/account"),
        ("repository", "/detail/repositoryName"),
        ("ref", "/detail/referenceFullName"),
    ];
    envelope::says(payload, &SAID).into_iter().fold(decision, |decision, (what, said)| decision.about(what, said))
}

fn about(hint: &Hint, decision: Decision<Outcome>) -> Decision<Outcome> {
    decision
        .about("repository", hint.repository.as_str())
        .about("ref", hint.git_ref.as_str())
        .about_some("event", hint.event.as_deref())
}

fn about_change(change: &Change, decision: Decision<Outcome>) -> Decision<Outcome> {
    let concerns = BTreeMap::from([
        ("repository", change.repository.to_string()),
        ("ref", change.git_ref.to_string()),
        ("commit", change.commit.to_string()),
        ("sequence", change.sequence.to_string()),
        ("id", change.id()),
    ]);
    Decision { concerns, ..decision }.about_some("event", change.event.as_deref())
}

fn failed_delivery(change: &Change, delivery: &Delivery, reason: &str) -> Decision<Outcome> {
    let reason = format!("{reason}; the dead-letter queue has it: mend the cause, then redrive");
    about_change(change, Decision::new(Outcome::Failed, reason))
        .about("account", delivery.account.as_str())
        .about("region", delivery.region.as_str())
}
