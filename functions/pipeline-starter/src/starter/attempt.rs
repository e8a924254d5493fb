//! An attempt to start the execution of an order: takes the claim, searches for an execution that an earlier attempt
//! may have started, starts the execution, reports, and records the result.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use sekisho_domain::decision::Decision;
use sekisho_domain::route::PipelineName;
use sekisho_ledger::{Key, Store};

use crate::error::Error;
use crate::notice;
use crate::order::{self, Cause, OrderRow, Progress};
use crate::outcome::{Outcome, about_order};
use crate::routing::Pins;
use crate::run::{Run, Written};
use crate::search::{Found, Search};
use crate::starter::send;
use crate::variables;
use crate::world::{PipelineStart, StartAnswer, World};

/// The most times that one invocation repeats a start that CodePipeline defers. After that, the follow-up tries again
/// every minute.
pub(crate) const MAX_RETRIES: usize = 3;
/// The most times that an invocation tries to tell a newer order that its own start has finished.
const MAX_CONFLICTS: usize = 5;

/// A start whose claim this invocation holds.
#[derive(Debug)]
pub(crate) struct Attempt<'a> {
    pipeline: &'a PipelineName,
    /// What the routes say about the start. `None` if no route leads to the pipeline any more: an execution that may
    /// have started is still searched for, but nothing is started.
    pins: Option<&'a Pins>,
    key: Key,
    row: OrderRow,
    revision: u64,
}

/// The result of an attempt.
#[derive(Debug)]
pub(crate) struct Attempted {
    pub(crate) decision: Decision<Outcome>,
    /// Whether the order still waits, for the same reason as before.
    pub(crate) is_unchanged: bool,
}

impl<'a> Attempt<'a> {
    /// Takes the claim by writing the claimed row. Returns `None` if another invocation has written the row since it
    /// was read.
    pub(crate) async fn claim<W: World>(
        run: &Run<'_, W>,
        pipeline: &'a PipelineName,
        pins: Option<&'a Pins>,
        row: OrderRow,
        revision: Option<u64>,
    ) -> Result<Option<Self>, Error> {
        let key = order::key(pipeline);
        Ok(match run.write(&key, &row, revision).await? {
            Written::Revision(revision) => Some(Self { pipeline, pins, key, row, revision }),
            Written::ChangedByAnother => None,
        })
    }

    /// Starts the execution, or leaves the order waiting for its next attempt. A start that CodePipeline defers is
    /// repeated at most `retries` times.
    pub(crate) async fn start<W: World>(self, run: &Run<'_, W>, retries: usize) -> Result<Attempted, Error> {
        let after = self.attempt(run, retries).await;
        let is_unchanged = after.own_report() == self.row.own_report();
        let after = self.announce(run, after).await;
        let after = send::send_if_due(run, &after).await;
        if run.write(&self.key, &after, Some(self.revision)).await? == Written::ChangedByAnother {
            self.unblock(run, after.execution.as_deref()).await?;
        }
        let decision = about_order(&after, self.pipeline, decision(&after));
        Ok(Attempted { decision, is_unchanged })
    }

    /// The row after the search and the start.
    async fn attempt<W: World>(&self, run: &Run<'_, W>, retries: usize) -> OrderRow {
        let place = run.place(self.pipeline);
        if self.row.may_run {
            match self.search(run).await {
                Ok(Found::Nothing) => {}
                Ok(Found::Execution(execution)) => return self.row.started(&execution, &place, run.now()),
                Ok(Found::Undecided(execution)) => {
                    let reason = format!("CodePipeline does not show yet at which commit execution {execution} runs");
                    return self.row.waiting(Cause::Unanswered, run.now(), &reason, &place);
                }
                Err(reason) => return self.row.waiting(Cause::Unanswered, run.now(), &reason, &place),
            }
        }
        match self.pins {
            Some(pins) => {
                let answer = self.start_with_retries(run, pins, retries).await;
                self.row.after_start(&answer, &place, run.now())
            }
            None => self.row.closed(&place, run.now()),
        }
    }

    async fn search<W: World>(&self, run: &Run<'_, W>) -> Result<Found, String> {
        let mut search = Search::new(&self.row);
        let mut next = None;
        loop {
            let page = run.world.executions(self.pipeline, next).await.map_err(|error| error.to_string())?;
            if let Some(found) = search.add(&page) {
                return Ok(found);
            }
            if !run.has_time_after(Duration::ZERO) {
                return Err("the search in CodePipeline's list of executions takes too long".to_owned());
            }
            next = page.next;
        }
    }

    async fn start_with_retries<W: World>(&self, run: &Run<'_, W>, pins: &Pins, retries: usize) -> StartAnswer {
        let start = PipelineStart {
            pipeline: self.pipeline.clone(),
            actions: pins.actions.iter().cloned().collect(),
            commit: self.row.change.commit.clone(),
            variables: variables::resolve(&pins.variables, &self.row.change, self.row.number),
            token: self.row.token.clone(),
        };
        let mut pauses = ExponentialBuilder::default()
            .with_jitter()
            .with_min_delay(Duration::from_millis(500))
            .with_max_times(retries)
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

    /// Sends a notice if CodePipeline rejects the start, once for each order.
    async fn announce<W: World>(&self, run: &Run<'_, W>, row: OrderRow) -> OrderRow {
        let is_rejected = matches!(&row.progress, Progress::Waiting(wait) if wait.cause == Cause::Rejected);
        if !is_rejected || row.is_announced {
            return row;
        }
        let reason = row.own_report().map_or("", |last| last.report.reason.as_str());
        let (account, region) = (&run.invocation.account, &run.invocation.region);
        let notice = notice::about_rejection(&row, self.pipeline, account, region, reason);
        // If the topic does not accept the notice, the next attempt sends it.
        OrderRow { is_announced: run.world.publish(&notice).await.is_ok(), ..row }
    }

    /// Tells a newer order, which has replaced this order's row, that this invocation starts nothing any more.
    async fn unblock<W: World>(&self, run: &Run<'_, W>, execution: Option<&str>) -> Result<(), Error> {
        for _ in 0..MAX_CONFLICTS {
            let Some(newer) = run.ledger().read::<OrderRow>(&self.key).await? else { return Ok(()) };
            if newer.state.number == self.row.number {
                return Ok(());
            }
            let unblocked = newer.state.unblocked(execution);
            if run.write(&self.key, &unblocked, Some(newer.revision)).await? != Written::ChangedByAnother {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// The decision about an attempt that led to this row.
fn decision(row: &OrderRow) -> Decision<Outcome> {
    let reason = row.own_report().map_or("", |last| last.report.reason.as_str());
    match (&row.progress, &row.execution) {
        (Progress::Running { .. }, Some(execution)) => {
            Decision::new(Outcome::Started, format!("execution {execution} runs at this commit"))
                .about("execution", execution)
        }
        (Progress::Ended(_), _) => Decision::new(Outcome::Filtered, reason),
        _ => Decision::new(Outcome::Waiting, reason),
    }
}
