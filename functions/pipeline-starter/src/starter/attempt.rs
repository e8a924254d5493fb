//! An attempt to start the execution of an order: takes the claim, searches for an execution that an earlier attempt
//! may have started, starts the execution, reports, and records the result.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use sekisho_domain::decision::Decision;
use sekisho_domain::report::ReportState;
use sekisho_domain::route::PipelineName;
use sekisho_lambda::ServiceError;
use sekisho_lambda::failure::chain;
use sekisho_ledger::{Key, Row, Store, Write};

use crate::bake::Bake;
use crate::claim::{self, ClaimRow, Claims};
use crate::error::Error;
use crate::notice;
use crate::order::{self, Cause, OrderRow, Progress};
use crate::outcome::{Outcome, about_order};
use crate::pins::noun;
use crate::report::Place;
use crate::routing::Pins;
use crate::run::{Run, Written};
use crate::search::{Found, Search};
use crate::starter::entry::{self, Entry};
use crate::starter::sources::{self, Choice};
use crate::starter::{facts, send};
use crate::world::{PipelineStart, StartAnswer, World};

/// The most times that one invocation repeats a start that CodePipeline defers. After that, the follow-up tries again
/// every minute.
pub(crate) const MAX_RETRIES: usize = 3;
/// The most starts or follow-ups at the same time, because CodePipeline throttles at about 20 calls at once.
pub(crate) const MAX_CONCURRENT: usize = 8;
/// The most times that an invocation tries to tell a newer order that its own start has finished.
const MAX_CONFLICTS: usize = 5;

/// An order that can be started.
#[derive(Debug)]
pub(crate) struct Candidate {
    /// The row with this invocation's claim, which the ledger does not have yet.
    pub(crate) row: OrderRow,
    /// The revision of the row in the ledger. `None` if the ledger has no row.
    pub(crate) revision: Option<u64>,
    /// All claims of the pipeline if the ledger has no row, and otherwise the claim of the change's reference.
    pub(crate) claims: Claims,
}

/// A start whose claim this invocation holds.
#[derive(Debug)]
struct Attempt<'a> {
    pipeline: &'a PipelineName,
    /// What the routes say about the start. `None` if no route leads to the pipeline any more: an execution that may
    /// have started is still searched for, but nothing is started.
    pins: Option<Pins>,
    /// The revisions of all source actions, if the pipeline has several sources.
    choice: Choice,
    key: Key,
    row: OrderRow,
    revision: u64,
    /// The claim that earlier versions know of the change's reference.
    claim: Option<Row<ClaimRow>>,
}

/// The result of an attempt.
#[derive(Debug)]
pub(crate) struct Attempted {
    pub(crate) decision: Decision<Outcome>,
    /// Whether the order still waits, for the same reason as before.
    pub(crate) is_unchanged: bool,
}

/// Claims the order and starts its execution, or leaves the order waiting for its next attempt. A start that
/// CodePipeline defers is repeated at most `retries` times. A newer order that has come in the meantime is started
/// afterwards. Returns nothing if another invocation has written the row since it was read.
pub(crate) async fn start<W: World>(
    run: &Run<'_, W>,
    pipeline: &PipelineName,
    first: Candidate,
    retries: usize,
) -> Result<Vec<Attempted>, Error> {
    let Some(attempt) = Attempt::claim(run, pipeline, first).await? else { return Ok(Vec::new()) };
    let (attempted, mut newer) = attempt.start(run, retries).await?;
    let mut all = vec![attempted];
    while let Some(row) = newer.take() {
        match start_newer(run, pipeline, row, retries).await {
            Ok(Some((attempted, newest))) => {
                all.push(attempted);
                newer = newest;
            }
            Ok(None) => {}
            // The first order's decision must not be lost. The follow-up starts the newer order.
            Err(error) => tracing::warn!(error = chain(&error), "the newer order was not started"),
        }
    }
    Ok(all)
}

/// Starts an order that waited until an invocation had finished with an older one.
async fn start_newer<W: World>(
    run: &Run<'_, W>,
    pipeline: &PipelineName,
    row: Row<OrderRow>,
    retries: usize,
) -> Result<Option<(Attempted, Option<Row<OrderRow>>)>, Error> {
    if !row.state.is_startable(true, run.now()) || !run.has_time_after(Duration::ZERO) {
        return Ok(None);
    }
    let claims = facts::claims_of(run, pipeline, &row.state.change).await?;
    let candidate = Candidate { row: row.state.claimed(run.now()), revision: Some(row.revision), claims };
    match Attempt::claim(run, pipeline, candidate).await? {
        Some(attempt) => Ok(Some(attempt.start(run, retries).await?)),
        None => Ok(None),
    }
}

/// The writes of the claims that a pipeline's first order replaces.
pub(crate) fn replaced_claims<W: World>(
    run: &Run<'_, W>,
    pipeline: &PipelineName,
    revision: Option<u64>,
    claims: &Claims,
) -> Result<Vec<Write>, Error> {
    if revision.is_some() {
        return Ok(Vec::new());
    }
    let write = |row: Row<ClaimRow>| {
        let key = Key { pk: claim::partition(pipeline), sk: row.sk };
        Write::new(key, &row.state, Some(row.revision))
    };
    Ok(claims.replaced(run.now()).map(write).collect::<Result<_, _>>()?)
}

impl<'a> Attempt<'a> {
    /// Takes the claim by writing the claimed row. Returns `None` if another invocation has written the row since it
    /// was read.
    async fn claim<W: World>(
        run: &Run<'_, W>,
        pipeline: &'a PipelineName,
        candidate: Candidate,
    ) -> Result<Option<Self>, Error> {
        let Candidate { row, revision, claims } = candidate;
        let (row, choice) = sources::choose(run, pipeline, with_settings(run, pipeline, row)).await;
        let key = order::key(pipeline);
        let replaced = replaced_claims(run, pipeline, revision, &claims)?;
        let claim = claims.of(&row.change).cloned().map(|claim| {
            let is_replaced = replaced.iter().any(|write| write.key().sk == claim.sk);
            Row { revision: claim.revision + u64::from(is_replaced), ..claim }
        });
        let pins = run.routes.pins(row.kind, &row.change, pipeline);
        Ok(match run.write_with(&key, &row, revision, replaced).await? {
            Written::Revision(revision) => Some(Self { pipeline, pins, choice, key, row, revision, claim }),
            Written::ChangedByAnother => None,
        })
    }

    /// Makes the attempt. Also returns the row of a newer order that was waiting until this attempt had finished.
    async fn start<W: World>(
        self,
        run: &Run<'_, W>,
        retries: usize,
    ) -> Result<(Attempted, Option<Row<OrderRow>>), Error> {
        let after = self.attempt(run, retries).await;
        let is_unchanged = after.report == self.row.report;
        let after = self.announce(run, after).await;
        let after = send::announce(run, &self.key, &send::send_if_due(run, &after).await).await;
        let newer = match self.record(run, &after).await? {
            Written::Revision(_) => None,
            Written::ChangedByAnother => self.unblock(run, &after).await?,
        };
        let decision = about_order(&after, self.pipeline, decision(&after));
        Ok((Attempted { decision, is_unchanged }, newer))
    }

    /// Writes the result. The claim of the change's reference gets the execution too.
    async fn record<W: World>(&self, run: &Run<'_, W>, after: &OrderRow) -> Result<Written, Error> {
        let claim = claim::started(self.pipeline, after, self.claim.as_ref()).transpose()?;
        if let Some(claim) = claim {
            let written = run.write_with(&self.key, after, Some(self.revision), vec![claim]).await?;
            if written != Written::ChangedByAnother {
                return Ok(written);
            }
            // An earlier version, which CloudFormation has brought back, may have written the claim.
        }
        run.write(&self.key, after, Some(self.revision)).await
    }

    /// The row after the search and the start.
    async fn attempt<W: World>(&self, run: &Run<'_, W>, retries: usize) -> OrderRow {
        let place = run.place(self.pipeline);
        if self.row.may_run {
            match self.search(run).await {
                Ok(Some(Found::Nothing)) => {}
                Ok(Some(Found::Execution(execution))) => return self.row.started(&execution, &place, run.now()),
                Ok(Some(Found::Undecided(execution))) => {
                    let reason = format!("CodePipeline does not show yet at which revision execution {execution} runs");
                    return self.row.waiting(Cause::Unanswered, run.now(), &reason, &place);
                }
                Ok(None) => {
                    let reason = "the search in CodePipeline's list of executions takes too long";
                    return self.row.waiting(Cause::Unanswered, run.now(), reason, &place);
                }
                // Without the search nothing can start, until a person has corrected the cause.
                Err(error) if error.is_refused() => {
                    let reason = format!("{error}: {}", error.description());
                    return self.row.rejected(&reason, &place, run.now());
                }
                Err(error) => return self.row.waiting(Cause::Unanswered, run.now(), &error.to_string(), &place),
            }
        }
        let Some(pins) = &self.pins else { return self.unrouted(&place, run) };
        if let Some(row) = self.lacks_pins(&place, run) {
            return row;
        }
        match entry::prepare(run, self.pipeline, &self.row, pins).await {
            Entry::Start(row) => {
                let answer = self.start_with_retries(run, pins, retries).await;
                row.after_start(&answer, &place, run.now())
            }
            Entry::Stay(row) => row,
        }
    }

    /// The row if the execution cannot start at its pins now.
    fn lacks_pins<W: World>(&self, place: &Place<'_>, run: &Run<'_, W>) -> Option<OrderRow> {
        let row = OrderRow { may_run: false, ..self.row.clone() };
        match &self.choice {
            Choice::Pins(pins) if *pins == self.row.sources.pins => None,
            // The execution of an earlier attempt, which has not started, had other pins. The ledger must have the pins
            // before the start.
            Choice::Pins(_) => Some(row.waiting(Cause::Busy, run.now(), "the other sources have new revisions", place)),
            Choice::Missing(missing) => {
                Some(row.waiting_for_sources(missing, &sources::reason(missing), run.now() + sources::PAUSE, place))
            }
            Choice::Unread(error) => {
                let reason = format!("{error}: {}", error.description());
                let is_refused = error.is_refused();
                let answer = if is_refused { StartAnswer::Rejected(reason) } else { StartAnswer::Deferred(reason) };
                Some(row.after_start(&answer, place, run.now()))
            }
        }
    }

    /// The row if no route leads to the pipeline any more. A target that goes back keeps trying.
    fn unrouted<W: World>(&self, place: &Place<'_>, run: &Run<'_, W>) -> OrderRow {
        if self.row.way_back.is_some() {
            let row = OrderRow { may_run: false, ..self.row.clone() };
            return row.rejected(order::CANNOT_GO_BACK_WITHOUT_ROUTE, place, run.now());
        }
        self.row.closed(place, run.now())
    }

    /// Searches for an execution that an earlier attempt may have started. Returns `None` if the time does not suffice.
    async fn search<W: World>(&self, run: &Run<'_, W>) -> Result<Option<Found>, ServiceError> {
        let mut search = Search::new(&self.row, self.pins.as_ref());
        let mut next = None;
        loop {
            let page = run.world.executions(self.pipeline, next).await?;
            if let Some(found) = search.add(&page) {
                return Ok(Some(found));
            }
            if !run.has_time_after(Duration::ZERO) {
                return Ok(None);
            }
            next = page.next;
        }
    }

    async fn start_with_retries<W: World>(&self, run: &Run<'_, W>, pins: &Pins, retries: usize) -> StartAnswer {
        let start = PipelineStart {
            pipeline: self.pipeline.clone(),
            pins: self.row.revisions(&pins.actions),
            variables: self.row.variables(&pins.variables),
            token: self.row.token.clone(),
        };
        let mut pauses = ExponentialBuilder::default()
            .with_jitter()
            .with_jitter_seed(run.invocation.jitter_seed())
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
        let (account, region) = (&run.invocation.account, &run.invocation.region);
        let notice = notice::about_rejection(&row, self.pipeline, account, region, row.reason());
        // If the topic does not accept the notice, the next attempt sends it.
        OrderRow { is_announced: run.world.publish(&notice).await.is_ok(), ..row }
    }

    /// Tells a newer order, which has replaced this order's row, that this invocation starts nothing any more. Returns
    /// the newer order's row.
    async fn unblock<W: World>(&self, run: &Run<'_, W>, after: &OrderRow) -> Result<Option<Row<OrderRow>>, Error> {
        for _ in 0..MAX_CONFLICTS {
            let Some(Row { sk, revision, state }) = run.ledger().read::<OrderRow>(&self.key).await? else {
                return Ok(None);
            };
            if state.number == self.row.number {
                return Ok(None);
            }
            let state = state.unblocked(&self.row, after, run.now());
            if let Written::Revision(revision) = run.write(&self.key, &state, Some(revision)).await? {
                return Ok(Some(Row { sk, revision, state }));
            }
        }
        Ok(None)
    }
}

/// The claimed row with the settings of its bake. The settings stay as they are if an execution has started or may have
/// started: an order is judged by the settings with which it started.
fn with_settings<W: World>(run: &Run<'_, W>, pipeline: &PipelineName, row: OrderRow) -> OrderRow {
    if (row.may_run || row.restarts > 0) && row.bake.is_some() {
        return row;
    }
    let waves = run.routes.waves(&row.change, pipeline);
    let bake = Bake::new(row.order(), waves.into_iter());
    OrderRow { bake, ..row }
}

/// The decision about an attempt that led to this row.
fn decision(row: &OrderRow) -> Decision<Outcome> {
    let reason = row.reason();
    match (&row.progress, &row.execution) {
        (Progress::Running { .. }, Some(execution)) => {
            let text = match row.way_back {
                Some(_) => format!("execution {execution} takes the target back to {}", row.destination_text()),
                None => {
                    format!("execution {execution} runs at this {}{}", noun(&row.change.revision), row.others_text())
                }
            };
            Decision::new(Outcome::Started, text).about("execution", execution)
        }
        (Progress::Ended(ReportState::Healthy), _) => Decision::new(Outcome::RolledBack, reason),
        (Progress::Ended(_), _) => Decision::new(Outcome::Filtered, reason),
        _ => Decision::new(Outcome::Waiting, reason),
    }
}
