//! Retries the stage of a pipeline that failed because of an artifact, after the artifact was repaired.

use std::rc::Rc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use sekisho_domain::decision::Decision;
use sekisho_lambda::failure::chain;
use sekisho_lambda::{ServiceError, telemetry};
use sekisho_ledger::{Error as LedgerError, Store};
use time::OffsetDateTime;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};
use tracing::warn;

use crate::aws::codepipeline::CONCURRENT_CALLS;
use crate::aws::codepipeline::executions::{self, Execution};
use crate::checker::notices;
use crate::error::CheckError;
use crate::key::{KeyArn, KeyStatus, account_in_name};
use crate::notice::Changes;
use crate::object::ObjectId;
use crate::outcome::Outcome;
use crate::right_key::ArtifactStore;
use crate::run::Run;
use crate::stage_retry::{self, ActionRun, NewestOrder, OldKey, Reading, StageRetryRow};
use crate::verdict::in_words;

/// How long the check for an event waits for an action that began before the repair. An action that cannot read
/// its input fails within this time, unless a build waits for a machine.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_mins(2);
/// The pause between two looks at the actions, and before a throttled call is repeated.
const PAUSE: Duration = Duration::from_secs(5);
/// How often a retry is tried even if there is no time to wait. The SDK does not repeat the call that retries a stage.
const ATTEMPTS: u32 = 3;
/// A sweep looks at the actions again after this time. An action may fail after the first repair of the sweep.
const LONGEST_OLD: Duration = Duration::from_secs(30);
/// If less time than this is left to the invocation, no stage is retried, so that the repair can be counted and recorded.
const TIME_TO_END: Duration = Duration::from_secs(20);
const IN_PROGRESS: &str = "InProgress";
const FAILED: &str = "Failed";

/// Retries stages of the pipelines that store artifacts in one bucket.
pub(crate) struct StageRetrier<'a, L> {
    run: &'a Run<'a, L>,
    stores: &'a [ArtifactStore],
    bucket: &'a str,
    /// The right key of the bucket.
    right_key: &'a KeyArn,
    /// The last look at the runs of actions.
    runs: Mutex<Option<Look>>,
}

/// A look at the runs of actions. A sweep that repairs many objects does not look again for each of them.
struct Look {
    at: OffsetDateTime,
    /// The runs, or why CodePipeline does not show them.
    runs: Rc<Result<Vec<ActionRun>, String>>,
}

/// What was done about the pipeline of a repaired artifact.
enum Retry {
    /// No action failed because of the artifact.
    NotNeeded,
    /// A stage failed, and was not retried for this reason.
    NotRetried(String),
    /// The stage of this action was retried.
    Retried(ActionRun),
}

impl<'a, L: Store> StageRetrier<'a, L> {
    pub(crate) fn new(
        run: &'a Run<'a, L>,
        stores: &'a [ArtifactStore],
        bucket: &'a str,
        right_key: &'a KeyArn,
    ) -> Self {
        Self { run, stores, bucket, right_key, runs: Mutex::default() }
    }

    /// Returns the decision about an object that the check for an event has repaired before `checked`, and the decision
    /// about the retried stage. Waits until `wait_until` for the end of an action that began before the repair.
    pub(crate) async fn after_event(
        &self,
        repaired: Decision<Outcome>,
        checked: OffsetDateTime,
        wait_until: OffsetDateTime,
    ) -> Vec<Decision<Outcome>> {
        let (repaired, retried) = self.after_repair(repaired, checked, wait_until).await;
        [repaired].into_iter().chain(retried).collect()
    }

    /// Returns the decision about an object that a sweep has repaired. People get a notice about a retried stage at
    /// once, because the sweep may take long.
    pub(crate) async fn after_sweep(&self, repaired: Decision<Outcome>) -> Decision<Outcome> {
        let now = self.run.now();
        let (repaired, retried) = self.after_repair(repaired, now, now).await;
        if let Some(retried) = retried {
            telemetry::decision(&retried);
            let changes = Changes { found: vec![retried], ..Changes::default() };
            if let Err(error) = Box::pin(self.run.record(&changes.found)).await {
                warn!(error = chain(&error), "the ledger does not have the decision about a retried stage");
            }
            let title = self.run.notice_title("artifacts");
            if let Err(error) = Box::pin(notices::publish(self.run, &title, &changes)).await {
                warn!(error = chain(&error), "the notice about a retried stage could not be sent");
            }
        }
        repaired
    }

    /// The retry is an addition to a repair that is done, so an error is only noted in the decision about the repair.
    async fn after_repair(
        &self,
        repaired: Decision<Outcome>,
        checked: OffsetDateTime,
        wait_until: OffsetDateTime,
    ) -> (Decision<Outcome>, Option<Decision<Outcome>>) {
        let about = |name| repaired.concerns.get(name).map_or("", String::as_str);
        let (key, old_key) = (about("object"), about("encryption"));
        if !self.run.settings.artifacts.retry_stage || repaired.outcome != Outcome::Repaired {
            return (repaired, None);
        }
        // The object is compliant now, so no later check of it would retry the stage. Each attempt looks at everything
        // again, because a newer order may have begun.
        let mut attempts = 1;
        let retry = loop {
            let time = self.run.time_left().saturating_sub(TIME_TO_END);
            match timeout(time, Box::pin(self.retry(key, old_key, checked, wait_until))).await {
                Err(_) => break Ok(Retry::NotRetried("the time of the invocation ended".to_owned())),
                Ok(Err(CheckError::Service(error)))
                    if !error.is_refused() && (attempts < ATTEMPTS || self.run.now() < wait_until) =>
                {
                    attempts += 1;
                    sleep(PAUSE).await;
                }
                Ok(retry) => break retry,
            }
        };
        match retry {
            Ok(Retry::NotNeeded) => (repaired, None),
            Ok(Retry::NotRetried(why)) => (repaired.about("not_retried", why), None),
            Err(error) => (repaired.about("not_retried", chain(&error)), None),
            Ok(Retry::Retried(run)) => {
                let retried = decision(&run, self.bucket, key, old_key);
                (repaired, Some(retried))
            }
        }
    }

    /// `checked` is a time right after the object was repaired.
    async fn retry(
        &self,
        key: &str,
        old_key: &str,
        checked: OffsetDateTime,
        wait_until: OffsetDateTime,
    ) -> Result<Retry, CheckError> {
        let look = self.look().await;
        let mut fresh;
        let mut runs = match &*look {
            Ok(runs) => runs,
            Err(why) if self.run.now() >= wait_until => return Ok(Retry::NotRetried(why.clone())),
            Err(_) => {
                fresh = self.read_runs().await?;
                &fresh
            }
        };
        let (failed, execution) = loop {
            match stage_retry::reading(runs, key, checked) {
                Reading::Unaffected => return Ok(Retry::NotNeeded),
                Reading::Running => {}
                Reading::Failed(failed) => match self.execution(&failed).await? {
                    Some(execution) if execution.status == IN_PROGRESS => {}
                    execution => break (failed, execution),
                },
            }
            if self.run.now() >= wait_until {
                let why = "an action that reads the object, or another action of its stage, is still running";
                return Ok(Retry::NotRetried(why.to_owned()));
            }
            sleep(PAUSE).await;
            fresh = self.read_runs().await?;
            runs = &fresh;
        };
        match execution {
            Some(Execution { status, .. }) if status != FAILED => {
                return Ok(Retry::NotRetried(format!("the execution's status is {status}")));
            }
            Some(Execution { is_parallel: true, .. }) => {
                return Ok(Retry::NotRetried("the pipeline's mode is PARALLEL".to_owned()));
            }
            None => return Ok(Retry::NotRetried("CodePipeline has no such execution any more".to_owned())),
            Some(_) => {}
        }
        // The runs of a sweep may be old, and the stage may have been retried by somebody else.
        let Some(pipeline) = failed.first().map(|run| &run.pipeline) else { return Ok(Retry::NotNeeded) };
        let current = self.read_runs_of(pipeline).await?;
        let Reading::Failed(failed) = stage_retry::reading(&current, key, checked) else {
            return Ok(Retry::NotRetried("the stage has been retried meanwhile".to_owned()));
        };
        let failed = self.with_builds(&failed).await?;
        let Some(run) = failed.first() else { return Ok(Retry::NotNeeded) };
        let old_key = self.old_key(old_key).await?;
        if let Some(objection) = stage_retry::objection(&failed, key, old_key, self.run.account()) {
            return Ok(Retry::NotRetried(objection));
        }
        if !self.is_newest(run).await? {
            return Ok(Retry::NotRetried("the execution does not belong to the pipeline's newest order".to_owned()));
        }
        // The stage is retried only once, so the retry waits for the repair of the last input.
        for input in failed.iter().flat_map(|run| &run.inputs).filter(|input| *input != key) {
            if !self.is_repaired(input).await? {
                return Ok(Retry::NotRetried(format!("another input is not repaired yet: {input}")));
            }
        }
        self.retry_once(run, key).await
    }

    /// Whether the latest version of an artifact is under the right key.
    async fn is_repaired(&self, key: &str) -> Result<bool, CheckError> {
        let object = ObjectId { bucket: self.bucket.to_owned(), key: key.to_owned(), version: None };
        let head = self.run.s3().head(&object, false).await?;
        let Some(name) = head.facts.encryption.key() else { return Ok(false) };
        if name == self.right_key.as_str() || account_in_name(name).is_some_and(|owner| owner != self.run.account()) {
            return Ok(name == self.right_key.as_str());
        }
        let status = self.run.keys.status(name).await?;
        Ok(matches!(status, KeyStatus::Usable(key) if key == *self.right_key))
    }

    async fn retry_once(&self, run: &ActionRun, artifact: &str) -> Result<Retry, CheckError> {
        let Run { ledger, .. } = *self.run;
        let key = StageRetryRow::key(run);
        let once = || Ok(Retry::NotRetried("the stage was retried before, and is retried only once".to_owned()));
        let earlier = ledger.read::<StageRetryRow>(&key).await?;
        // A repeated attempt of this request has the same id, by which `write` recognizes a row as its own.
        if earlier.as_ref().is_some_and(|row| !row.state.is_refused()) {
            return once();
        }
        // The row is written before the call, so that a lost answer does not lead to a second retry.
        let row = StageRetryRow::new(artifact, self.run.now());
        let before = earlier.map(|row| row.revision);
        let revision = match ledger.write(&key, &row, before, self.run.request_id()).await {
            Ok(revision) => revision,
            Err(LedgerError::Changed(_)) => return once(),
            Err(error) => return Err(error.into()),
        };
        let retried = executions::retry_stage(&self.run.clients.stage_retries, run).await;
        if let Err(error) = &retried
            && (error.is_refused() || is_throttled(error))
        {
            ledger.write(&key, &row.refused(), Some(revision), self.run.request_id()).await?;
        }
        match retried {
            Ok(()) => Ok(Retry::Retried(run.clone())),
            Err(error) if error.is_refused() => {
                Ok(Retry::NotRetried(format!("CodePipeline does not retry the stage: {}", in_words(&error))))
            }
            Err(error) if is_throttled(&error) => Err(error.into()),
            Err(error) => {
                let why = in_words(&error);
                Ok(Retry::NotRetried(format!("it is unknown whether CodePipeline retries the stage: {why}")))
            }
        }
    }

    /// The runs of actions, as they were a short time ago.
    async fn look(&self) -> Rc<Result<Vec<ActionRun>, String>> {
        let mut last = self.runs.lock().await;
        if let Some(look) = last.as_ref().filter(|look| self.run.now() - look.at < LONGEST_OLD) {
            return Rc::clone(&look.runs);
        }
        let runs = Rc::new(self.read_runs().await.map_err(|error| chain(&error)));
        // The checks that wait for this look use it, however long it took.
        *last = Some(Look { at: self.run.now(), runs: Rc::clone(&runs) });
        runs
    }

    /// The runs of the bucket's pipelines, from the latest to the earliest of each pipeline.
    async fn read_runs(&self) -> Result<Vec<ActionRun>, CheckError> {
        let pipelines = self.stores.iter().filter(|store| store.bucket == self.bucket).map(|store| &*store.pipeline);
        stream::iter(pipelines.map(|pipeline| self.read_runs_of(pipeline)))
            .buffered(CONCURRENT_CALLS)
            .try_concat()
            .await
    }

    async fn read_runs_of(&self, pipeline: &str) -> Result<Vec<ActionRun>, CheckError> {
        Ok(executions::open_or_failed_runs(&self.run.clients.codepipeline, pipeline, self.bucket).await?)
    }

    async fn execution(&self, failed: &[&ActionRun]) -> Result<Option<Execution>, CheckError> {
        let Some(run) = failed.first() else { return Ok(None) };
        let codepipeline = &self.run.clients.codepipeline_calls;
        Ok(executions::execution(codepipeline, &run.pipeline, &run.execution).await?)
    }

    /// The failed runs, with what CodeBuild says about their builds.
    async fn with_builds(&self, failed: &[&ActionRun]) -> Result<Vec<ActionRun>, CheckError> {
        let mut runs = Vec::new();
        for run in failed {
            let mut run = (*run).clone();
            if let Some(build) = &run.build {
                run.was_denied |= executions::could_not_download(&self.run.clients.codebuild, build).await?;
            }
            runs.push(run);
        }
        Ok(runs)
    }

    async fn old_key(&self, name: &str) -> Result<OldKey, CheckError> {
        // The decision has the encryption in words.
        let name = name.strip_suffix(" (DSSE)").unwrap_or(name);
        if !name.starts_with("arn:") {
            return Ok(OldKey::S3Managed);
        }
        let is_aws_managed = self.run.keys.is_aws_managed(name).await?;
        Ok(if is_aws_managed == Some(true) { OldKey::AwsManaged } else { OldKey::Customer })
    }

    /// Whether the execution belongs to the pipeline's newest order. A pipeline without orders has its latest execution.
    async fn is_newest(&self, run: &ActionRun) -> Result<bool, CheckError> {
        if let Some(order) = self.run.ledger.read::<NewestOrder>(&NewestOrder::key(&run.pipeline)).await? {
            return Ok(order.state.has(&run.execution));
        }
        let latest = executions::latest(&self.run.clients.codepipeline_calls, &run.pipeline).await?;
        Ok(latest.as_ref() == Some(&run.execution))
    }
}

/// Whether CodePipeline throttled a call, and therefore did nothing. An answer without a code does not prove this.
fn is_throttled(error: &ServiceError) -> bool {
    error.is_throttled() && error.code().is_some()
}

fn decision(run: &ActionRun, bucket: &str, key: &str, old_key: &str) -> Decision<Outcome> {
    let ActionRun { pipeline, execution, stage, action, .. } = run;
    let reason = format!(
        "action {action} failed because it could not use the object's old key {old_key}: the object is repaired, and \
         stage {stage} of pipeline {pipeline} is retried"
    );
    Decision::new(Outcome::Retried, reason)
        .about("bucket", bucket)
        .about("object", key)
        .about("pipeline", pipeline)
        .about("execution", execution)
        .about("stage", stage)
        .about("action", action)
}
