//! Reads the facts, decides, and carries the decision out.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use sekisho_domain::change::{Change, CommitId, GitRef, RefKind, RepositoryArn};
use sekisho_domain::config::Misconfigured;
use sekisho_domain::decision::{Decision, Decisions};
use sekisho_domain::envelope;
use sekisho_domain::route::{PipelineName, Route, Routes};
use sekisho_lambda::aws::SdkConfig;
use sekisho_lambda::failure::chain;
use sekisho_lambda::{Environment, ErrorType, Failure, Invocation, log, metrics};
use sekisho_ledger::{Row, Store};
use serde::Serialize;
use time::OffsetDateTime;

use crate::aws::Aws;
use crate::deliver::{Delivered, Delivery, RESERVE, Redelivery, dead_letter, deliver};
use crate::event::{self, Here, Hint, Input};
use crate::reference::{self, Pending, State, Step, Untouched};
use crate::route::Touched;
use crate::world::{Head, Unanswered, World};

/// The name under which decisions are kept.
pub const FUNCTION: &str = "event-relay";

/// Pages of changed paths that are read before everything counts as changed: each has up to some hundred paths.
const PAGES: usize = 100;
/// Time that an offer needs beside [`RESERVE`], after the changed paths have been read as far as time allowed.
const OFFER: Duration = Duration::from_secs(5);
/// What is said of a target that was not offered the change.
const NOT_OFFERED: &str = "there was no time left to offer it";
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
    #[error("another invocation is relaying {0} of {1}: tried again by Lambda")]
    Busy(GitRef, RepositoryArn),
    /// It would not come to an offer.
    #[error("there is no time left to relay {0} of {1}: tried again by Lambda")]
    NoTime(GitRef, RepositoryArn),
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
            Self::Ledger(_) | Self::Unanswered(_) | Self::Busy(..) | Self::NoTime(..) => ErrorType::Internal,
            Self::Reconcile(_, first) => first.error_type(),
        }
    }
}

impl Error {
    /// Whether the same again fails in the same way, until somebody mends what it names.
    pub(crate) fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Unanswered(Unanswered { is_final: true, .. })
                | Self::Ledger(sekisho_ledger::Error::Unreadable { .. })
        )
    }
}

/// Who asks for a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// An event, which waits for who works on the reference.
    Event,
    /// The reconcile, which has others to look at meanwhile.
    Reconcile,
    /// The reconcile, for what is pending: also where no route is left.
    Pending,
}

/// What an invocation has decided, and how much of it is in the ledger.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    decisions: Vec<Decision<Outcome>>,
    logged: usize,
    recorded: usize,
    at: Option<OffsetDateTime>,
}

impl Kept {
    /// One more.
    pub(crate) fn push(&mut self, decision: Decision<Outcome>) {
        self.decisions.push(decision);
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.decisions.is_empty()
    }

    /// How many the ledger does not have yet.
    pub(crate) fn open(&self) -> usize {
        self.decisions.len() - self.recorded
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
    /// Say so, and remember that this head touches no routed path.
    Untouched(Decision<Outcome>, Box<(Untouched, Row<State>)>),
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
        let mut kept = Kept::default();
        let answer = match event::read(payload, here) {
            Input::Explain(event) => return self.explain(event.get(), here, invocation).await,
            Input::Invalid(reason) => return Err(Error::InvalidRequest(reason)),
            Input::Ignored(reason) => {
                kept.push(about_payload(payload, Decision::new(Outcome::Ignored, reason)));
                Ok(())
            }
            Input::Refused(reason) => {
                kept.push(about_payload(payload, Decision::new(Outcome::Refused, reason)));
                Ok(())
            }
            Input::Look(hint) => match self.look(&hint, By::Event, invocation, &mut kept.decisions).await {
                // The reconcile looks at a branch again; a tag's event would be lost.
                Err(error) if error.is_final() && hint.git_ref.kind() == RefKind::Branch => {
                    kept.push(about(&hint, unmended(&error)));
                    Ok(())
                }
                answer => answer,
            },
            Input::Reconcile => self.reconcile(invocation, &mut kept).await,
            Input::Redeliver(redelivery) => self.redeliver(&redelivery, invocation, &mut kept).await,
        };
        // What was decided is kept also where the rest has to be tried again.
        self.keep(invocation, &mut kept).await?;
        answer.map(|()| Decisions { decisions: kept.decisions })
    }

    /// Writes down what has been decided since the last time.
    pub(crate) async fn keep(&self, invocation: &Invocation, kept: &mut Kept) -> Result<(), Error> {
        let unlogged = kept.decisions.get(kept.logged..).unwrap_or_default();
        log::decisions(&invocation.request_id, unlogged);
        metrics::count_outcomes(&invocation.function, unlogged);
        kept.logged = kept.decisions.len();
        let open = kept.decisions.get(kept.recorded..).unwrap_or_default();
        if !open.is_empty() {
            // A row is named by its millisecond: two rows of an invocation must not have the same.
            let now = self.world.now();
            let at = kept.at.map_or(now, |last| now.max(last + Duration::from_millis(1)));
            self.world.ledger().record(FUNCTION, &invocation.request_id, at, open).await?;
            kept.at = Some(at);
            kept.recorded = kept.decisions.len();
        }
        Ok(())
    }

    /// Looks at one reference until its head is relayed, or there is nothing to relay.
    pub(crate) async fn look(
        &self,
        hint: &Hint,
        by: By,
        invocation: &Invocation,
        decisions: &mut Vec<Decision<Outcome>>,
    ) -> Result<(), Error> {
        for _ in 0..CONTENTIONS {
            let mut touched = Touched::new(&self.routes, hint.repository.name(), &hint.git_ref);
            if touched.none_concerned() && by != By::Pending {
                decisions
                    .push(about(hint, Decision::new(Outcome::Filtered, "no route for this repository and reference")));
                return Ok(());
            }
            let row = self.unclaimed(hint, by, invocation, decisions).await?;
            if touched.none_concerned() {
                return Ok(());
            }
            match self.plan(hint, row, &mut touched, invocation).await? {
                Plan::Decided(decision) => {
                    decisions.push(decision);
                    return Ok(());
                }
                Plan::Untouched(decision, remembered) => {
                    decisions.push(decision);
                    // An event comes once, the reconcile every five minutes.
                    if by != By::Event {
                        let (untouched, row) = *remembered;
                        let state = State { untouched: Some(untouched), ..row.state };
                        match self.write(hint, &state, Some(row.revision), invocation).await {
                            Ok(_) | Err(sekisho_ledger::Error::Changed(_)) => {}
                            Err(error) => return Err(error.into()),
                        }
                    }
                    return Ok(());
                }
                Plan::Relay(plan) => {
                    let (change, deliveries, row) = *plan;
                    self.can_offer(hint, invocation)?;
                    let (revision, state) = row.map_or((None, State::default()), |row| (Some(row.revision), row.state));
                    let pending = state.with_pending(change, deliveries, hint.at, self.world.now());
                    match self.write(hint, &pending, revision, invocation).await {
                        Ok(revision) => return self.carry_out(&pending, revision, invocation, decisions).await,
                        // Somebody else moved it on: look again.
                        Err(sekisho_ledger::Error::Changed(_)) => {}
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
        by: By,
        invocation: &Invocation,
        decisions: &mut Vec<Decision<Outcome>>,
    ) -> Result<Option<Row<State>>, Error> {
        loop {
            let row = self.world.ledger().read::<State>(&reference::key(&hint.repository, &hint.git_ref)).await?;
            let Some(row) = row else { return Ok(None) };
            match row.state.step(self.world.now()) {
                Step::Look => return Ok(Some(row)),
                Step::Wait(_) => {
                    if by != By::Event || !self.has_time(invocation) {
                        return Err(Error::Busy(hint.git_ref.clone(), hint.repository.clone()));
                    }
                    self.world.sleep(GLANCE).await;
                }
                Step::Finish(pending) => {
                    self.can_offer(hint, invocation)?;
                    let gone: Vec<Delivery> =
                        pending.deliveries.iter().filter_map(|d| self.unrouted(&pending.change, d)).collect();
                    let state = if gone.is_empty() {
                        row.state.taken_up(self.world.now())
                    } else {
                        self.routed_anew(&row.state, &pending)
                    };
                    match self.write(hint, &state, Some(row.revision), invocation).await {
                        Ok(revision) => {
                            decisions.extend(gone.iter().map(|delivery| routed_no_more(&pending.change, delivery)));
                            self.carry_out(&state, revision, invocation, decisions).await?;
                        }
                        Err(sekisho_ledger::Error::Changed(_)) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
    }

    /// The state after a correction of the configuration, which what is pending does not fit any more. A branch's head is
    /// looked at anew; a tag has none: its change goes, with a new sequence, to where it is routed now.
    fn routed_anew(&self, state: &State, pending: &Pending) -> State {
        let dropped = state.dropped();
        let change = &pending.change;
        let mut touched = Touched::new(&self.routes, change.repository.name(), &change.git_ref);
        touched.everything();
        let deliveries = touched.deliveries();
        if change.kind == RefKind::Branch || deliveries.is_empty() {
            return dropped;
        }
        let now = self.world.now();
        let change = Change { sequence: dropped.next_sequence(now), previous: None, ..change.clone() };
        dropped.with_pending(change, deliveries, pending.at, now)
    }

    /// Whether there is time left to look and to offer what is found.
    pub(crate) fn has_time(&self, invocation: &Invocation) -> bool {
        invocation.time_left(self.world.now()) > RESERVE + GLANCE
    }

    /// Whether there is time left to offer a change: of the tries to deliver it, none is spent on not doing so.
    fn can_offer(&self, hint: &Hint, invocation: &Invocation) -> Result<(), Error> {
        if self.has_time(invocation) {
            return Ok(());
        }
        Err(Error::NoTime(hint.git_ref.clone(), hint.repository.clone()))
    }

    /// What to do about a reference of which nothing is pending. Reads, and writes nothing.
    async fn plan(
        &self,
        hint: &Hint,
        row: Option<Row<State>>,
        touched: &mut Touched<'_>,
        invocation: &Invocation,
    ) -> Result<Plan, Error> {
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
        // Each event of a tag is a change, and the newest one is where it points.
        if hint.at.zip(state.and_then(|state| state.newest)).is_some_and(|(at, newest)| at < newest) {
            return decided(Outcome::Ignored, "a newer event of this tag has been relayed", Some(&head));
        }
        let untouched = Untouched { commit: head.clone(), paths: touched.paths_digest().to_owned() };
        let no_path = "the change touches no path of its routes";
        if state.and_then(|state| state.untouched.as_ref()) == Some(&untouched) {
            return decided(Outcome::Filtered, no_path, Some(&head));
        }
        self.read_paths(hint, previous.as_ref(), &head, touched, invocation).await?;
        let deliveries = touched.deliveries();
        if deliveries.is_empty() {
            let decision = about(hint, Decision::new(Outcome::Filtered, no_path)).about("commit", head.as_str());
            return Ok(match row {
                Some(row) if hint.git_ref.kind() == RefKind::Branch => {
                    Plan::Untouched(decision, Box::new((untouched, row)))
                }
                _ => Plan::Decided(decision),
            });
        }
        if !reference::fit(&deliveries) {
            let reason = format!(
                "the change goes to {} accounts and regions, more than a row of the ledger can hold (some 6,000), and was sent to none: have fewer targets",
                deliveries.len()
            );
            return decided(Outcome::Failed, &reason, Some(&head));
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

    /// Reads changed paths as long as they can make a difference, and there is time to offer the change after that: a diff
    /// that takes too long to read would take as long on every retry, and the branch would wait for good.
    async fn read_paths(
        &self,
        hint: &Hint,
        previous: Option<&CommitId>,
        head: &CommitId,
        touched: &mut Touched<'_>,
        invocation: &Invocation,
    ) -> Result<(), Error> {
        let time = invocation.time_left(self.world.now()).saturating_sub(RESERVE + OFFER);
        let is_known = match previous {
            None => false,
            Some(previous) => {
                let pages = pin!(self.read_pages(hint, previous, head, touched));
                match select(pages, pin!(self.world.sleep(time))).await {
                    Either::Left((is_known, _)) => is_known?,
                    Either::Right(_) => false,
                }
            }
        };
        if !is_known {
            touched.everything();
        }
        Ok(())
    }

    /// Whether all that could make a difference has been read.
    async fn read_pages(
        &self,
        hint: &Hint,
        previous: &CommitId,
        head: &CommitId,
        touched: &mut Touched<'_>,
    ) -> Result<bool, Error> {
        let mut page = None;
        for _ in 0..PAGES {
            if !touched.wants_paths() {
                return Ok(true);
            }
            // A commit that a force-push left behind may be gone.
            let Some(differences) = self.world.differences(hint.repository.name(), previous, head, page).await? else {
                return Ok(false);
            };
            touched.paths(&differences.paths);
            page = differences.next;
            if page.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Delivers what is pending in `state`, and writes down that it is done, or what is left.
    async fn carry_out(
        &self,
        state: &State,
        revision: u64,
        invocation: &Invocation,
        decisions: &mut Vec<Decision<Outcome>>,
    ) -> Result<(), Error> {
        let Some(pending) = &state.pending else { return Ok(()) };
        let (change, deliveries) = (&pending.change, pending.deliveries.as_slice());
        let key = reference::key(&change.repository, &change.git_ref);
        let Delivered { mut failed, mut left, untried } =
            deliver(&self.world, &invocation.partition, change, deliveries, invocation.deadline).await;
        if pending.is_last_try(self.world.now()) {
            failed.append(&mut left);
        }
        dead_letter(&self.world, change, &failed).await?;
        let offered = untried.len() < deliveries.len();
        let reason = left.first().map_or_else(|| NOT_OFFERED.to_owned(), |(_, reason)| reason.clone());
        let open: Vec<Delivery> = left.into_iter().map(|(delivery, _)| delivery).chain(untried).collect();
        let next = if open.is_empty() { state.relayed(change) } else { state.given_back(&open, offered) };
        match self.world.ledger().write(&key, &next, Some(revision), &invocation.request_id).await {
            // The lease had ended and another invocation has taken it up: it writes down the same.
            Ok(_) | Err(sekisho_ledger::Error::Changed(_)) => {}
            Err(error) => return Err(error.into()),
        }
        for (delivery, reason) in &failed {
            decisions.push(failed_delivery(change, delivery, reason));
        }
        if !open.is_empty() {
            return Err(Error::Undelivered {
                left: open.len(),
                all: deliveries.len(),
                reason,
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

    /// A message of the dead-letter queue: the same change to the same target, with its own sequence.
    async fn redeliver(&self, redelivery: &Redelivery, invocation: &Invocation, kept: &mut Kept) -> Result<(), Error> {
        if let Some(decision) = self.why_not(redelivery, invocation).await? {
            kept.push(decision);
            return Ok(());
        }
        let change = &redelivery.change;
        let deliveries = std::slice::from_ref(&redelivery.delivery);
        let Delivered { failed, left, untried } =
            deliver(&self.world, &invocation.partition, change, deliveries, invocation.deadline).await;
        let untried = untried.into_iter().map(|delivery| (delivery, NOT_OFFERED.to_owned()));
        // The message stays where it came from: a new one would be redriven again, without an end.
        if let Some((_, reason)) = failed.into_iter().chain(left).chain(untried).next() {
            return Err(Error::Undelivered {
                left: 1,
                all: 1,
                reason,
                git_ref: change.git_ref.clone(),
                repository: change.repository.clone(),
            });
        }
        kept.push(
            about_change(change, Decision::new(Outcome::Relayed, "delivered again"))
                .about("account", redelivery.delivery.account.as_str()),
        );
        Ok(())
    }

    /// Why a message of the dead-letter queue is not to be delivered again, where it is not.
    async fn why_not(
        &self,
        redelivery: &Redelivery,
        invocation: &Invocation,
    ) -> Result<Option<Decision<Outcome>>, Error> {
        let (change, delivery) = (&redelivery.change, &redelivery.delivery);
        if change.repository.account() != invocation.account.as_str() {
            let reason = format!("the change is of {}: only this account's are relayed", change.repository);
            return Ok(Some(Decision::new(Outcome::Refused, reason)));
        }
        if self.unrouted(change, delivery).is_some_and(|gone| gone.pipelines.len() == delivery.pipelines.len()) {
            let reason = "no route leads to this target (any more)";
            return Ok(Some(about_change(change, Decision::new(Outcome::Filtered, reason))));
        }
        let row = self.world.ledger().read::<State>(&reference::key(&change.repository, &change.git_ref)).await?;
        // A larger one would make every change that comes later stale.
        if row.is_none_or(|row| change.sequence > row.state.newest_sequence()) {
            let reason = "this sequence was never given to a change of this reference: push again instead";
            return Ok(Some(about_change(change, Decision::new(Outcome::Refused, reason))));
        }
        Ok(None)
    }

    /// What of a delivery is routed no more: the same place with the pipelines that no route leads to.
    fn unrouted(&self, change: &Change, delivery: &Delivery) -> Option<Delivery> {
        let routed: BTreeSet<&PipelineName> = self
            .routes
            .concerning(change.repository.name(), &change.git_ref)
            .flat_map(Route::targets)
            .filter(|target| target.account == delivery.account && target.region == delivery.region)
            .map(|target| &target.pipeline)
            .collect();
        let gone: Vec<_> = delivery.pipelines.iter().filter(|pipeline| !routed.contains(pipeline)).cloned().collect();
        (!gone.is_empty()).then(|| Delivery { pipelines: gone, ..delivery.clone() })
    }

    /// The same reading and the same plan, and nothing after it.
    async fn explain(
        &self,
        payload: &str,
        here: Here<'_>,
        invocation: &Invocation,
    ) -> Result<Decisions<Outcome>, Error> {
        let decision = match event::read(payload, here) {
            Input::Ignored(reason) => about_payload(payload, Decision::new(Outcome::Ignored, reason)),
            Input::Refused(reason) => about_payload(payload, Decision::new(Outcome::Refused, reason)),
            Input::Invalid(reason) => return Err(Error::InvalidRequest(reason)),
            Input::Explain(_) => {
                let reason = "`event` is itself a request to explain: send the event alone";
                return Err(Error::InvalidRequest(reason.to_owned()));
            }
            Input::Reconcile => {
                let globs: BTreeSet<&str> = self.routes.iter().map(|route| route.repository().pattern()).collect();
                let globs: Vec<&str> = globs.into_iter().collect();
                let reason = format!(
                    "a schedule's event: every routed branch of {} would be looked at, and what is pending finished; what comes of it, each branch's own event explains",
                    globs.join(", ")
                );
                about_payload(payload, Decision::new(Outcome::Ignored, reason))
            }
            Input::Redeliver(redelivery) => match self.why_not(&redelivery, invocation).await? {
                Some(decision) => decision,
                None => about_change(
                    &redelivery.change,
                    Decision::new(Outcome::Relayed, "would be delivered again, with the sequence that it has"),
                )
                .about("account", redelivery.delivery.account.as_str()),
            },
            Input::Look(hint) => self.explain_hint(&hint, invocation).await?,
        };
        Ok(Decisions { decisions: vec![decision] })
    }

    async fn explain_hint(&self, hint: &Hint, invocation: &Invocation) -> Result<Decision<Outcome>, Error> {
        let mut touched = Touched::new(&self.routes, hint.repository.name(), &hint.git_ref);
        if touched.none_concerned() {
            return Ok(about(hint, Decision::new(Outcome::Filtered, "no route for this repository and reference")));
        }
        let mut row = self.world.ledger().read::<State>(&reference::key(&hint.repository, &hint.git_ref)).await?;
        // What is pending is finished first: the plan is made from what the row would be after that.
        let mut pending = None;
        if let Some(row) = &mut row
            && let Some(first) = row.state.pending.clone()
        {
            let fits = first.deliveries.iter().all(|delivery| self.unrouted(&first.change, delivery).is_none());
            row.state = if fits { row.state.relayed(&first.change) } else { row.state.dropped() };
            pending = Some(first.change.sequence);
        }
        let decision = match self.plan(hint, row, &mut touched, invocation).await? {
            Plan::Decided(decision) | Plan::Untouched(decision, _) => decision,
            Plan::Relay(plan) => {
                let (change, deliveries, _) = *plan;
                let place = |d: &Delivery| {
                    let pipelines: Vec<&str> = d.pipelines.iter().map(PipelineName::as_str).collect();
                    format!("{}/{}: {}", d.account, d.region, pipelines.join(", "))
                };
                let targets: Vec<String> = deliveries.iter().map(place).collect();
                let reason = format!("would be relayed to the buses of {} targets", targets.len());
                about_change(&change, Decision::new(Outcome::Relayed, reason)).about("targets", targets.join("; "))
            }
        };
        let Some(sequence) = pending else { return Ok(decision) };
        let reason = format!("{}, once what is pending (sequence {sequence}) has been finished", decision.reason);
        Ok(Decision { reason, ..decision }.about("pending", sequence.to_string()))
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

/// What no retry mends: what is wrong, and that it is looked at again.
pub(crate) fn unmended(error: &Error) -> Decision<Outcome> {
    Decision::new(Outcome::Failed, format!("{}: mend it; the reconcile looks again", chain(error)))
}

pub(crate) fn about(hint: &Hint, decision: Decision<Outcome>) -> Decision<Outcome> {
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

fn routed_no_more(change: &Change, gone: &Delivery) -> Decision<Outcome> {
    let pipelines: Vec<&str> = gone.pipelines.iter().map(PipelineName::as_str).collect();
    let reason = format!("pending, and routed no more to {}: it does not go there", pipelines.join(", "));
    about_change(change, Decision::new(Outcome::Filtered, reason))
        .about("account", gone.account.as_str())
        .about("region", gone.region.as_str())
}
