//! Reads the facts, decides, and carries the decision out, each pipeline on its own.

use std::collections::BTreeSet;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use futures_util::future::join_all;
use sekisho_domain::account::AccountId;
use sekisho_domain::change::{Change, GitRef, RepositoryArn, SourceChange};
use sekisho_domain::config::Misconfigured;
use sekisho_domain::decision::{Decision, Decisions};
use sekisho_domain::envelope;
use sekisho_domain::route::{PipelineName, Routes};
use sekisho_lambda::aws::SdkConfig;
use sekisho_lambda::{Environment, ErrorType, Failure, Invocation, log, metrics};
use sekisho_ledger::{Key, Row, Store};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::aws::{Aws, REPOSITORY_ACCOUNT_ID};
use crate::claim::{self, Progress, State, Step};
use crate::event::{self, Execution, Input};
use crate::notice;
use crate::select::{self, Selected};
use crate::world::{Start, Started, Unanswered, World};

/// The name under which decisions are kept.
pub const FUNCTION: &str = "pipeline-starter";

/// How long to wait before a claimed row is looked at again.
const GLANCE: Duration = Duration::from_secs(1);
/// Time that is kept for a call that has begun (three tries of 5 s), to give a claim back and to answer.
const RESERVE: Duration = Duration::from_secs(18);
/// How often a start is tried in one invocation; Lambda tries the invocation again after that.
const TRIES: usize = 8;
/// How often a row is read again that others write at the same time.
const CONTENTIONS: usize = 20;

/// What became of an event, for one pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// An execution runs at the commit.
    Started,
    /// It was started before.
    Duplicate,
    /// A newer change has come for the pipeline.
    Stale,
    /// Our configuration routes nothing here.
    Filtered,
    /// Of no concern.
    Ignored,
    /// Not believed.
    Refused,
    /// Will not work as things are, or an execution failed.
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
    /// CodePipeline or SNS.
    #[error("{0}")]
    Unanswered(#[from] Unanswered),
    /// Another invocation holds the pipeline.
    #[error("another invocation is starting pipeline {0}: tried again by Lambda")]
    Busy(PipelineName),
    /// CodePipeline takes no start for now.
    #[error(
        "pipeline {pipeline} could not be started yet ({reason}): tried again by Lambda, and when an execution of it ends"
    )]
    NotYet {
        /// Which.
        pipeline: PipelineName,
        /// What CodePipeline said.
        reason: String,
    },
}

impl Failure for Error {
    fn error_type(&self) -> ErrorType {
        match self {
            Self::Misconfigured(_) => ErrorType::Misconfigured,
            Self::InvalidRequest(_) => ErrorType::InvalidRequest,
            Self::Ledger(sekisho_ledger::Error::Unavailable { throttled: true, .. })
            | Self::Unanswered(Unanswered { throttled: true, .. })
            | Self::NotYet { .. } => ErrorType::Throttled,
            Self::Ledger(_) | Self::Unanswered(_) | Self::Busy(_) => ErrorType::Internal,
        }
    }
}

/// The function.
#[derive(Debug)]
pub struct Starter<W> {
    /// Where it works.
    pub world: W,
    /// What goes where.
    pub routes: Routes,
    /// Whose changes are believed.
    pub repository_account: AccountId,
}

/// That a failed execution has been told.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    expires: i64,
}

impl Starter<Aws> {
    /// The function as its environment has it.
    ///
    /// # Errors
    /// Where the configuration cannot be read, a route in it is wrong, or a variable is missing or wrong.
    pub fn new(environment: &Environment, aws: &SdkConfig) -> Result<Self, Misconfigured> {
        Ok(Self {
            routes: environment.configuration()?.routes()?,
            repository_account: environment.account(REPOSITORY_ACCOUNT_ID)?,
            world: Aws::new(environment, aws)?,
        })
    }
}

impl<W: World> Starter<W> {
    /// Handles one payload.
    ///
    /// # Errors
    /// What a retry can mend; what it cannot is a decision. Requests with an `action` fail where they are wrong.
    pub async fn handle(&self, payload: &str, invocation: &Invocation) -> Result<Decisions<Outcome>, Error> {
        let (decisions, answer) = match event::read(payload, &self.repository_account, &invocation.account) {
            Input::Explain(event) => return self.explain(event.get(), invocation).await,
            Input::Invalid(reason) => return Err(Error::InvalidRequest(reason)),
            Input::Refused(reason) => (vec![about_payload(payload, Decision::new(Outcome::Refused, reason))], Ok(())),
            Input::Start(event) => self.start_all(&event, invocation).await,
            Input::Ended(execution) => self.ended(&execution, invocation).await,
        };
        // What was decided is kept also where the rest has to be tried again.
        log::decisions(&invocation.request_id, &decisions);
        metrics::count_outcomes(&invocation.function, &decisions);
        if !decisions.is_empty() {
            self.world.ledger().record(FUNCTION, &invocation.request_id, self.world.now(), &decisions).await?;
        }
        answer.map(|()| Decisions { decisions })
    }

    /// All selected pipelines at once, each on its own: one that fails keeps no other from starting.
    async fn start_all(
        &self,
        event: &SourceChange,
        invocation: &Invocation,
    ) -> (Vec<Decision<Outcome>>, Result<(), Error>) {
        let selected = match self.select(event, invocation) {
            Ok(selected) => selected,
            Err(decision) => return (vec![decision], Ok(())),
        };
        let change = &event.change;
        let starts = selected.into_iter().map(async |(pipeline, actions)| {
            let answer = self.start(change, &pipeline, &actions, invocation).await;
            answer.map(|decision| about(change, &pipeline, decision))
        });
        sort(join_all(starts).await)
    }

    fn select(&self, event: &SourceChange, invocation: &Invocation) -> Result<Selected, Decision<Outcome>> {
        let selected = select::select(&self.routes, event, &invocation.account, &invocation.region);
        if !selected.is_empty() {
            return Ok(selected);
        }
        let routed = self.routed(&event.change.repository, &event.change.git_ref, invocation);
        let reason = if routed.is_empty() {
            "this account's configuration routes nothing here for this repository and reference"
        } else {
            "the event names none of the pipelines that this account's configuration routes"
        };
        Err(Decision::new(Outcome::Filtered, reason)
            .about("repository", event.change.repository.as_str())
            .about("ref", event.change.git_ref.as_str())
            .about("id", &event.id))
    }

    fn routed(&self, repository: &RepositoryArn, git_ref: &GitRef, invocation: &Invocation) -> Selected {
        select::routed(&self.routes, repository, git_ref, &invocation.account, &invocation.region)
    }

    /// One pipeline: claim it, start it, write that down.
    async fn start(
        &self,
        change: &Change,
        pipeline: &PipelineName,
        actions: &BTreeSet<sekisho_domain::route::ActionName>,
        invocation: &Invocation,
    ) -> Result<Decision<Outcome>, Error> {
        let key = claim::key(pipeline, &change.repository, &change.git_ref);
        let mut lost = 0;
        while lost < CONTENTIONS {
            let row = self.world.ledger().read::<State>(&key).await?;
            let now = self.world.now();
            match claim::step(row.as_ref().map(|row| &row.state), change.sequence, now) {
                Step::Duplicate(execution) => {
                    let decision =
                        Decision::new(Outcome::Duplicate, format!("started before, as execution {execution}"));
                    return Ok(decision.about("execution", execution));
                }
                Step::Stale(newer) => {
                    let reason = format!("a newer change, with sequence {newer}, has come for this pipeline");
                    return Ok(Decision::new(Outcome::Stale, reason));
                }
                Step::Wait => {
                    if invocation.time_left(now) < GLANCE + RESERVE {
                        return Err(Error::Busy(pipeline.clone()));
                    }
                    self.world.sleep(GLANCE).await;
                }
                Step::Claim => {
                    let before = row.as_ref().map(|row| &row.state).filter(|state| state.sequence == change.sequence);
                    // Whatever the row says: an answer may have been lost on the way to it.
                    let again = before.is_some();
                    let state = match before {
                        Some(state) => state.claimed_again(now),
                        None => State::claimed(change, pipeline, now),
                    };
                    if let Some(claimed) = self.claim(&key, state, row.map(|row| row.revision), invocation).await? {
                        return self.start_claimed(&key, pipeline, actions, claimed, again, invocation).await;
                    }
                    lost += 1;
                }
            }
        }
        Err(Error::Busy(pipeline.clone()))
    }

    /// Takes the row; none where another invocation was faster.
    async fn claim(
        &self,
        key: &Key,
        state: State,
        revision: Option<u64>,
        invocation: &Invocation,
    ) -> Result<Option<Row<State>>, Error> {
        match self.world.ledger().write(key, &state, revision, &invocation.request_id).await {
            Ok(revision) => Ok(Some(Row { sk: key.sk.clone(), revision, state })),
            Err(sekisho_ledger::Error::Changed(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Starts what is claimed, within the time that Lambda has left, or gives the claim back. What was tried before
    /// (`again`) is looked for first.
    async fn start_claimed(
        &self,
        key: &Key,
        pipeline: &PipelineName,
        actions: &BTreeSet<sekisho_domain::route::ActionName>,
        claimed: Row<State>,
        again: bool,
        invocation: &Invocation,
    ) -> Result<Decision<Outcome>, Error> {
        let found = if again {
            let since = OffsetDateTime::UNIX_EPOCH + Duration::from_millis(claimed.state.since);
            match self.world.find(pipeline.as_str(), &claimed.state.commit, since).await {
                Ok(found) => found,
                Err(unanswered) => {
                    self.write_down(key, &claimed, Progress::Waiting(unanswered.to_string()), invocation).await?;
                    return Err(unanswered.into());
                }
            }
        } else {
            None
        };
        let start = Start {
            pipeline: pipeline.clone(),
            actions: actions.iter().cloned().collect(),
            commit: claimed.state.commit.clone(),
            token: claimed.state.token.clone(),
        };
        let mut pauses = ExponentialBuilder::default()
            .with_jitter()
            .with_min_delay(Duration::from_millis(500))
            .with_max_delay(Duration::from_secs(8))
            .with_max_times(TRIES)
            .build();
        let progress = loop {
            if let Some(execution) = found {
                break Progress::Started(execution);
            }
            match self.world.start(&start).await {
                Started::Execution(execution) => break Progress::Started(execution),
                Started::Never(reason) => break Progress::Failed(reason),
                Started::Later(reason) => match pauses.next() {
                    Some(pause) if pause + RESERVE < invocation.time_left(self.world.now()) => {
                        self.world.sleep(pause).await;
                    }
                    _ => break Progress::Waiting(reason),
                },
            }
        };
        self.write_down(key, &claimed, progress.clone(), invocation).await?;
        match progress {
            Progress::Started(execution) => {
                let decision = Decision::new(Outcome::Started, format!("execution {execution} runs at this commit"));
                Ok(decision.about("execution", execution))
            }
            Progress::Failed(reason) => Ok(Decision::new(Outcome::Failed, reason)),
            Progress::Waiting(reason) => Err(Error::NotYet { pipeline: pipeline.clone(), reason }),
            // Never the end of the loop above; said as what it would be.
            Progress::Claimed(_) => Err(Error::Busy(pipeline.clone())),
        }
    }

    /// How far a claimed start has come.
    async fn write_down(
        &self,
        key: &Key,
        claimed: &Row<State>,
        progress: Progress,
        invocation: &Invocation,
    ) -> Result<(), Error> {
        let next = claimed.state.with(progress);
        match self.world.ledger().write(key, &next, Some(claimed.revision), &invocation.request_id).await {
            // The lease had ended and another invocation has taken it up, with the same token: it writes down the same.
            Ok(_) | Err(sekisho_ledger::Error::Changed(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// An execution has ended: a failure is told once, and a start that was given back is tried.
    async fn ended(
        &self,
        execution: &Execution,
        invocation: &Invocation,
    ) -> (Vec<Decision<Outcome>>, Result<(), Error>) {
        let ours = select::is_ours(&self.routes, &execution.pipeline, &invocation.account, &invocation.region);
        if !ours {
            let decision = Decision::new(Outcome::Ignored, "no route starts this pipeline");
            return (vec![about_execution(execution, decision)], Ok(()));
        }
        let told = async {
            if execution.state == "FAILED" { Some(self.tell_failure(execution, invocation).await) } else { None }
        };
        let (told, waiting) = futures_util::join!(told, self.start_waiting(execution, invocation));
        let mut answers: Vec<Result<Decision<Outcome>, Error>> = told.into_iter().chain(waiting).collect();
        if answers.is_empty() {
            answers.push(Ok(about_execution(
                execution,
                Decision::new(Outcome::Ignored, "nothing waits for this pipeline"),
            )));
        }
        sort(answers)
    }

    async fn tell_failure(&self, execution: &Execution, invocation: &Invocation) -> Result<Decision<Outcome>, Error> {
        let key = told_key(execution);
        if self.world.ledger().read::<Told>(&key).await?.is_some() {
            let decision = Decision::new(Outcome::Duplicate, "this failure has been told");
            return Ok(about_execution(execution, decision));
        }
        let failed = self.world.why_failed(&execution.pipeline, &execution.execution).await?;
        let notice =
            notice::of(&execution.pipeline, &execution.execution, &invocation.account, &invocation.region, &failed);
        self.world.tell(&notice).await?;
        let expires = (self.world.now() + time::Duration::days(14)).unix_timestamp();
        match self.world.ledger().write(&key, &Told { expires }, None, &invocation.request_id).await {
            Ok(_) | Err(sekisho_ledger::Error::Changed(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let reason = format!("the execution failed: {}", failed.reason.as_deref().unwrap_or("the reason is not known"));
        let decision = Decision::new(Outcome::Failed, reason).about_some("commit", failed.commit);
        Ok(about_execution(execution, decision.about_some("place", failed.place)))
    }

    /// Starts what CodePipeline would not take before, or a crash left: there may be room now.
    async fn start_waiting(
        &self,
        execution: &Execution,
        invocation: &Invocation,
    ) -> Vec<Result<Decision<Outcome>, Error>> {
        let pk = claim::partition(&execution.pipeline);
        let Ok(pipeline) = PipelineName::try_from(execution.pipeline.clone()) else { return Vec::new() };
        let rows = match self.world.ledger().each::<State>(&pk, "").await {
            Ok(rows) => rows,
            Err(error) => return vec![Err(error.into())],
        };
        let mut answers = Vec::new();
        let mut waiting = Vec::new();
        for row in rows {
            match row {
                Ok(row) if row.state.waits(self.world.now()) => waiting.push(row),
                Ok(_) => {}
                // No retry would read it, and the others are not to wait for it.
                Err(error) => {
                    let decision = Decision::new(Outcome::Failed, sekisho_lambda::failure::chain(&error));
                    answers.push(Ok(about_execution(execution, decision)));
                }
            }
        }
        // Who has waited longest comes first, where there is not room for all.
        waiting.sort_by_key(|row| row.state.since);
        for row in waiting {
            // As the configuration has it now, which may have been corrected since.
            let routed = claim::reference(&row.sk)
                .and_then(|(repository, git_ref)| self.routed(&repository, &git_ref, invocation).remove(&pipeline));
            let key = Key { pk: pk.clone(), sk: row.sk.clone() };
            let commit = row.state.commit.to_string();
            let answer = match routed {
                None => self.close(&key, &row, invocation).await,
                // What is left waits for the next end, as it does where the pipeline has no room.
                Some(_) if invocation.time_left(self.world.now()) < GLANCE + RESERVE => {
                    Err(Error::Busy(pipeline.clone()))
                }
                Some(actions) => {
                    let state = row.state.claimed_again(self.world.now());
                    match self.claim(&key, state, Some(row.revision), invocation).await {
                        Ok(Some(claimed)) => {
                            self.start_claimed(&key, &pipeline, &actions, claimed, true, invocation).await
                        }
                        Ok(None) => continue,
                        Err(error) => Err(error),
                    }
                }
            };
            answers.push(answer.map(|decision| about_execution(execution, decision).about("commit", commit)));
        }
        answers
    }

    /// Ends the waiting of what is routed no more: months later, when the route is back, it would start an old commit.
    async fn close(&self, key: &Key, row: &Row<State>, invocation: &Invocation) -> Result<Decision<Outcome>, Error> {
        let reason = "it waited for this pipeline, and is routed here no more: not started";
        self.write_down(key, row, Progress::Failed(reason.to_owned()), invocation).await?;
        Ok(Decision::new(Outcome::Filtered, reason).about("row", key.to_string()))
    }

    /// What the end of an execution would lead to.
    async fn explain_end(
        &self,
        execution: &Execution,
        invocation: &Invocation,
    ) -> Result<Vec<Decision<Outcome>>, Error> {
        if !select::is_ours(&self.routes, &execution.pipeline, &invocation.account, &invocation.region) {
            let decision = Decision::new(Outcome::Ignored, "no route starts this pipeline");
            return Ok(vec![about_execution(execution, decision)]);
        }
        let mut decisions = Vec::new();
        if execution.state == "FAILED" {
            let told = self.world.ledger().read::<Told>(&told_key(execution)).await?.is_some();
            let decision = if told {
                Decision::new(Outcome::Duplicate, "this failure has been told")
            } else {
                Decision::new(Outcome::Failed, "the failure would be told, with what CodePipeline says of it")
            };
            decisions.push(about_execution(execution, decision));
        }
        for row in self.world.ledger().each::<State>(&claim::partition(&execution.pipeline), "").await? {
            let decision = match row {
                Err(error) => Decision::new(Outcome::Failed, sekisho_lambda::failure::chain(&error)),
                Ok(row) if !row.state.waits(self.world.now()) => continue,
                Ok(row) => {
                    let is_routed = claim::reference(&row.sk).is_some_and(|(repository, git_ref)| {
                        let routed = self.routed(&repository, &git_ref, invocation);
                        routed.keys().any(|pipeline| pipeline.as_str() == execution.pipeline)
                    });
                    let decision = if is_routed {
                        Decision::new(Outcome::Started, "waits, and would be tried at its commit")
                    } else {
                        Decision::new(Outcome::Filtered, "waits, and is routed here no more: would not be started")
                    };
                    decision.about("row", row.sk).about("commit", row.state.commit.as_str())
                }
            };
            decisions.push(about_execution(execution, decision));
        }
        if decisions.is_empty() {
            let decision = Decision::new(Outcome::Ignored, "nothing waits for this pipeline");
            decisions.push(about_execution(execution, decision));
        }
        Ok(decisions)
    }

    /// The same reading and the same selection, and nothing after it.
    async fn explain(&self, payload: &str, invocation: &Invocation) -> Result<Decisions<Outcome>, Error> {
        let event = match event::read(payload, &self.repository_account, &invocation.account) {
            Input::Start(event) => event,
            Input::Refused(reason) => {
                let decision = about_payload(payload, Decision::new(Outcome::Refused, reason));
                return Ok(Decisions { decisions: vec![decision] });
            }
            Input::Invalid(reason) => return Err(Error::InvalidRequest(reason)),
            Input::Ended(execution) => {
                return Ok(Decisions { decisions: self.explain_end(&execution, invocation).await? });
            }
            Input::Explain(_) => {
                let reason = "`event` is itself a request to explain: send the event alone";
                return Err(Error::InvalidRequest(reason.to_owned()));
            }
        };
        let selected = match self.select(&event, invocation) {
            Ok(selected) => selected,
            Err(decision) => return Ok(Decisions { decisions: vec![decision] }),
        };
        let change = &event.change;
        let mut decisions = Vec::new();
        for pipeline in selected.keys() {
            let key = claim::key(pipeline, &change.repository, &change.git_ref);
            let row = self.world.ledger().read::<State>(&key).await?;
            let decision = match claim::step(row.as_ref().map(|row| &row.state), change.sequence, self.world.now()) {
                Step::Claim => Decision::new(Outcome::Started, "would be started at this commit"),
                Step::Wait => Decision::new(
                    Outcome::Started,
                    "would be started when another invocation is done with this pipeline",
                ),
                Step::Duplicate(execution) => {
                    Decision::new(Outcome::Duplicate, format!("started before, as execution {execution}"))
                }
                Step::Stale(newer) => Decision::new(
                    Outcome::Stale,
                    format!("a newer change, with sequence {newer}, has come for this pipeline"),
                ),
            };
            decisions.push(about(change, pipeline, decision));
        }
        Ok(Decisions { decisions })
    }
}

/// The row that says that a failure has been told.
fn told_key(execution: &Execution) -> Key {
    Key::state(format!("notice#{}", execution.execution))
}

/// Decisions, and the first failure if there is one.
fn sort(answers: Vec<Result<Decision<Outcome>, Error>>) -> (Vec<Decision<Outcome>>, Result<(), Error>) {
    let mut decisions = Vec::new();
    let mut failure = Ok(());
    for answer in answers {
        match answer {
            Ok(decision) => decisions.push(decision),
            Err(error) => failure = failure.and(Err(error)),
        }
    }
    (decisions, failure)
}

/// An event that is not acted on: what it says of itself.
fn about_payload(payload: &str, decision: Decision<Outcome>) -> Decision<Outcome> {
    const SAID: [(&str, &str); 5] = [
        ("event", "/id"),
        ("account", "/account"),
        ("repository", "/detail/change/repository"),
        ("ref", "/detail/change/ref"),
        ("id", "/detail/id"),
    ];
    envelope::says(payload, &SAID).into_iter().fold(decision, |decision, (what, said)| decision.about(what, said))
}

fn about(change: &Change, pipeline: &PipelineName, decision: Decision<Outcome>) -> Decision<Outcome> {
    decision
        .about("repository", change.repository.as_str())
        .about("ref", change.git_ref.as_str())
        .about("commit", change.commit.as_str())
        .about("sequence", change.sequence.to_string())
        .about("id", change.id())
        .about("pipeline", pipeline.as_str())
}

fn about_execution(execution: &Execution, decision: Decision<Outcome>) -> Decision<Outcome> {
    let has_execution = decision.concerns.contains_key("execution");
    let decision = decision.about("pipeline", &execution.pipeline);
    if has_execution { decision } else { decision.about("execution", &execution.execution) }
}
