//! An attempt to start a pipeline: takes the claim, starts the execution and records the result.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use sekisho_domain::decision::Decision;
use sekisho_domain::route::{ActionName, PipelineName};
use sekisho_ledger::Key;
use time::OffsetDateTime;

use crate::claim::{Claim, ClaimRow, Progress};
use crate::error::Error;
use crate::outcome::Outcome;
use crate::run::{Run, Written};
use crate::world::{PipelineStart, StartAnswer, World};

/// The most times that one invocation repeats a start that CodePipeline defers. After that, Lambda retries the
/// invocation.
const MAX_RETRIES: usize = 8;

/// A pipeline, and the source actions of the pipeline that are pinned to the commit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PinnedPipeline<'a> {
    pub(crate) name: &'a PipelineName,
    pub(crate) actions: &'a BTreeSet<ActionName>,
}

/// A start whose claim this invocation holds.
#[derive(Debug)]
pub(crate) struct Attempt<'a> {
    pipeline: PinnedPipeline<'a>,
    key: Key,
    row: ClaimRow,
    revision: u64,
    /// Whether an earlier invocation may have started the execution.
    is_repeat: bool,
}

impl<'a> Attempt<'a> {
    /// Takes the claim. Returns `None` if another invocation has written the row since the row was read.
    pub(crate) async fn claim<W: World>(
        run: &Run<'_, W>,
        pipeline: PinnedPipeline<'a>,
        key: Key,
        Claim { row, is_repeat }: Claim,
        revision: Option<u64>,
    ) -> Result<Option<Self>, Error> {
        Ok(match run.write(&key, &row, revision).await? {
            Written::Revision(revision) => Some(Self { pipeline, key, row, revision, is_repeat }),
            Written::ChangedByAnother => None,
        })
    }

    /// Starts the execution within the time that Lambda leaves, or gives the claim back.
    pub(crate) async fn start<W: World>(self, run: &Run<'_, W>) -> Result<Decision<Outcome>, Error> {
        let earlier = if self.is_repeat { self.find_earlier_execution(run).await? } else { None };
        let answer = match earlier {
            Some(execution) => StartAnswer::Started(execution),
            None => self.start_with_retries(run).await,
        };
        let progress = match answer.clone() {
            StartAnswer::Started(execution) => Progress::Started(execution),
            StartAnswer::Deferred(reason) | StartAnswer::Unanswered(reason) => Progress::Waiting(reason),
            StartAnswer::Rejected(reason) => Progress::Failed(reason),
        };
        self.record(run, progress).await?;
        match answer {
            StartAnswer::Started(execution) => {
                let decision = Decision::new(Outcome::Started, format!("execution {execution} runs at this commit"));
                Ok(decision.about("execution", execution))
            }
            StartAnswer::Rejected(reason) => Ok(Decision::new(Outcome::Failed, reason)),
            StartAnswer::Deferred(reason) | StartAnswer::Unanswered(reason) => {
                Err(Error::Deferred { pipeline: self.pipeline.name.clone(), reason })
            }
        }
    }

    async fn find_earlier_execution<W: World>(&self, run: &Run<'_, W>) -> Result<Option<String>, Error> {
        let since = OffsetDateTime::UNIX_EPOCH + Duration::from_millis(self.row.since);
        match run.world.executions(self.pipeline.name, None).await {
            Ok(page) => {
                let found = page.executions.into_iter().find(|execution| {
                    execution.is_by_call
                        && execution.started.is_some_and(|started| started >= since)
                        && execution.revisions.iter().any(|revision| revision == self.row.commit.as_str())
                });
                Ok(found.map(|execution| execution.id))
            }
            Err(error) => {
                // This write ends the lease. Without the write, every newer change would wait until the lease ends by
                // itself.
                self.record(run, Progress::Waiting(error.to_string())).await?;
                Err(error.into())
            }
        }
    }

    async fn start_with_retries<W: World>(&self, run: &Run<'_, W>) -> StartAnswer {
        let start = PipelineStart {
            pipeline: self.pipeline.name.clone(),
            actions: self.pipeline.actions.iter().cloned().collect(),
            commit: self.row.commit.clone(),
            variables: BTreeMap::default(),
            token: self.row.token.clone(),
        };
        let mut pauses = ExponentialBuilder::default()
            .with_jitter()
            .with_min_delay(Duration::from_millis(500))
            .with_max_delay(Duration::from_secs(8))
            .with_max_times(MAX_RETRIES)
            .build();
        loop {
            let answer = run.world.start(&start).await;
            let StartAnswer::Deferred(_) = answer else { return answer };
            match pauses.next() {
                Some(pause) if run.has_time_after(pause) => run.world.sleep(pause).await,
                _ => return answer,
            }
        }
    }

    async fn record<W: World>(&self, run: &Run<'_, W>, progress: Progress) -> Result<(), Error> {
        // If another invocation has changed the row in the meantime, this write changes nothing. The result is ignored
        // on purpose, because the other invocation uses the same token and records the same execution.
        run.write(&self.key, &self.row.with(progress), Some(self.revision)).await?;
        Ok(())
    }
}
