//! The use case in which S3 Batch Operations makes the repairs that a sweep has left.
//!
//! The row of the repair says which step is next. Each step can be repeated: if an invocation dies, another one does the
//! step again. Messages of the queue continue the repair, and the schedule sends one if they are lost.

mod end;
mod jobs;
mod manifest;
mod report;
mod taken;

use std::slice::from_ref;
use std::time::Duration;

use sekisho_domain::code::Code;
use sekisho_domain::decision::Decision;
use sekisho_lambda::failure::chain;
use sekisho_ledger::{Error as LedgerError, Row, Store};
use tracing::warn;

use crate::answer::Answer;
use crate::aws::sqs;
use crate::batch::{BatchRow, Step};
use crate::checker::batch::taken::TakenBatch;
use crate::checker::notices;
use crate::error::Error;
use crate::finding::{self, FindingRow, row_key};
use crate::outcome::Outcome;
use crate::repair::RepairRule;
use crate::request::{RepairRequest, SweepRequest};
use crate::run::Run;
use crate::sweep_row::SweepRow;

/// The function that takes the messages out of the queue.
const SWEEPER: &str = "sekisho-artifact-sweeper";
/// By how many seconds the clocks of two invocations may differ. A message may come that much before it is due.
const EARLY: i64 = 5;
/// How often a confirmation is repeated if another invocation changes the row at the same time.
const MOST_ATTEMPTS: u32 = 5;

/// What follows after an invocation's work on a repair.
enum Next {
    /// Nothing, or a person's request.
    Nothing,
    /// Another message, which is delivered after this time.
    Message(Duration),
}

/// What the end of a sweep did with the objects that the sweep has left.
#[derive(Default)]
pub(crate) struct AfterSweep {
    /// The finding that a repair waits or is under way.
    pub(crate) finding: Option<Decision<Outcome>>,
    /// Whether the open repair has the objects.
    pub(crate) is_adopted: bool,
}

/// Begins the repair of what a sweep has left, unless another repair has ended since the sweep began. While a repair is
/// open, a complete sweep replaces it if nobody has confirmed it, but only a sweep of all versions replaces a repair of
/// all versions. Other sweeps leave it, and return its finding. The end of a sweep may be repeated.
pub(crate) async fn after_sweep<L: Store>(
    run: &Run<'_, L>,
    request: &SweepRequest,
    sweep: &SweepRow,
) -> Result<AfterSweep, Error> {
    let left = sweep.totals.left;
    if request.dry_run || request.bucket != run.settings.bucket {
        return Ok(AfterSweep::default());
    }
    let known = run.ledger.read::<BatchRow>(&BatchRow::key(&request.bucket)).await?;
    let revision = known.as_ref().map(|row| row.revision);
    let is_done = known.as_ref().is_some_and(|row| row.state.sweep == sweep.sweep && !row.state.is_open());
    // The jobs of a repair that has ended meanwhile may have put objects under the right key after the sweep looked at
    // them. A further job would repair these objects again.
    let is_outdated = known.as_ref().is_some_and(|row| row.state.has_ended_since(sweep, EARLY));
    let ended_at = known.as_ref().and_then(|row| row.state.ended_at);
    let new = || BatchRow::new(&request.bucket, sweep, run.settings.key.as_str(), ended_at, run.request_id());
    let only_reports = matches!(run.settings.repair_rule(&request.bucket), RepairRule::Report(_));
    let row = match known.map(|row| row.state).filter(BatchRow::is_open) {
        // An invocation may repeat the end of a sweep whose repair has ended in the meantime.
        None if left == 0 || is_done => return Ok(AfterSweep { finding: None, is_adopted: is_done }),
        None if is_outdated => return Ok(AfterSweep::default()),
        None => new(),
        Some(row) if row.sweep == sweep.sweep && matches!(row.step, Step::Collecting(_)) => row,
        Some(row) if !is_outdated && is_replaced(&row, sweep) => new(),
        Some(row) if !only_reports && is_over(&row, sweep) => BatchRow { step: Step::Ended, ..row },
        Some(row) => {
            let finding = (!matches!(row.step, Step::Collecting(_))).then(|| row.finding());
            return Ok(AfterSweep { finding, is_adopted: row.sweep == sweep.sweep });
        }
    };
    let mut taken = TakenBatch { row, revision };
    taken.save(run).await?;
    let is_collected = manifest::collect(run, &mut taken).await?;
    taken.release(run).await?;
    if !is_collected {
        send(run, &taken.row.code, Duration::ZERO).await?;
    }
    let finding = (taken.row.step == Step::Waiting).then(|| taken.row.finding());
    Ok(AfterSweep { finding, is_adopted: true })
}

/// Whether a sweep has found what is left anew, so that its repair takes the place of one that nobody has confirmed.
fn is_replaced(row: &BatchRow, sweep: &SweepRow) -> bool {
    let is_later = row.sweep != sweep.sweep && sweep.since.is_none() && sweep.totals.left > 0;
    is_later && row.is_unconfirmed() && (sweep.versions || !row.versions)
}

/// Whether a sweep that repairs objects has decided about each of them, and found that nothing is left of a repair that
/// nobody has confirmed.
fn is_over(row: &BatchRow, sweep: &SweepRow) -> bool {
    let SweepRow { totals, ranges, .. } = sweep;
    let undecided = [Outcome::KeyUnusable, Outcome::Unverifiable, Outcome::Unknown, Outcome::Ignored];
    let is_whole = sweep.since.is_none() && !sweep.listing_refused && ranges.unchecked == 0;
    let is_decided = !undecided.iter().any(|outcome| totals.outcomes.contains_key(outcome));
    let is_nothing_left = is_whole && is_decided && totals.left == 0 && totals.untracked == 0;
    row.is_unconfirmed() && is_nothing_left && sweep.versions == row.versions
}

/// Handles a person's confirmation, or a message of the queue.
pub(crate) async fn requested<L: Store>(run: &Run<'_, L>, request: &RepairRequest) -> Result<Answer, Error> {
    let found = find(run, &request.code).await?;
    if request.follow {
        // artifact-checker may not create a job, so this would end the repair.
        if run.invocation.function != SWEEPER {
            return Err(Error::Refused(format!("only `{SWEEPER}` continues a repair: leave `follow` out")));
        }
        return match found {
            Some(row) => Box::pin(follow(run, row)).await,
            None => Ok(Answer::of(vec![Decision::new(Outcome::Ignored, "a later sweep has replaced the repair")])),
        };
    }
    let mut found = found;
    for _ in 0..MOST_ATTEMPTS {
        let Some(row) = found else { return Err(not_found(&request.code)) };
        match confirm(run, row).await {
            Err(Error::Ledger(LedgerError::Changed(_))) => found = find(run, &request.code).await?,
            confirmed => return confirmed,
        }
    }
    Err(Error::Refused("another invocation works on the repair: try again in a minute".to_owned()))
}

fn not_found(code: &str) -> Error {
    Error::NotFound(format!("no repair waits under the code `{code}`: copy the code from the newest notice"))
}

/// The repair with this code, which was typed in upper or lower case.
async fn find<L: Store>(run: &Run<'_, L>, code: &str) -> Result<Option<Row<BatchRow>>, Error> {
    let Ok(code) = code.parse::<Code>() else { return Ok(None) };
    let row = run.ledger.read::<BatchRow>(&BatchRow::key(&run.settings.bucket)).await?;
    Ok(row.filter(|row| row.state.code == code))
}

/// Lets the jobs be created. If that was confirmed before, the answer says how far the repair has come.
async fn confirm<L: Store>(run: &Run<'_, L>, row: Row<BatchRow>) -> Result<Answer, Error> {
    let mut taken = TakenBatch { row: row.state, revision: Some(row.revision) };
    match taken.row.step {
        Step::Ended => return Err(not_found(taken.row.code.as_str())),
        Step::Collecting(_) => {
            return Err(Error::Refused("the list of the objects is being written: wait for the notice".to_owned()));
        }
        Step::Waiting if taken.row.right_key != run.settings.key.as_str() => {
            let why = "the bucket has another key since that sweep: sweep the bucket again, and use the new code";
            return Err(Error::Refused(why.to_owned()));
        }
        Step::Waiting => {
            taken.row.step = Step::Creating;
            taken.row.confirmed = Some(run.now().unix_timestamp());
            taken.row.due = None;
            taken.release(run).await?;
            reword(run, &taken.row).await?;
        }
        Step::Creating | Step::Running | Step::Reading(_) => {}
    }
    // A message may be lost, so each confirmation sends one. One that comes too early is dropped.
    send(run, &taken.row.code, Duration::ZERO).await?;
    decide(run, taken.row.progress()).await
}

/// Writes into the row of the finding that the repair is confirmed, so that nobody is asked to confirm it again.
async fn reword<L: Store>(run: &Run<'_, L>, row: &BatchRow) -> Result<(), LedgerError> {
    let Decision { reason, .. } = row.finding();
    let Some(id) = finding::id(&row.finding()) else { return Ok(()) };
    let Some(known) = run.ledger.read::<FindingRow>(&row_key(&id)).await? else { return Ok(()) };
    let finding = FindingRow { reason, ..known.state };
    match run.ledger.write(&row_key(&id), &finding, Some(known.revision), run.request_id()).await {
        Ok(_) | Err(LedgerError::Changed(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Continues a repair. Only this path calls S3 Batch Operations, and only `sekisho-artifact-sweeper` may do that.
async fn follow<L: Store>(run: &Run<'_, L>, row: Row<BatchRow>) -> Result<Answer, Error> {
    let Row { state, revision, .. } = row;
    let ignored = |why: &str| decide(run, Decision::new(Outcome::Ignored, why).about("bucket", &run.settings.bucket));
    if !state.is_open() {
        return ignored("the repair has ended").await;
    }
    if state.is_held(run.now()) && state.holder != run.request_id() {
        return ignored("another invocation works on the repair").await;
    }
    // Each message sends the next one, so a second chain of messages would last as long as the first one.
    if state.due.is_some_and(|due| run.now().unix_timestamp() + EARLY < due) {
        return ignored("another message continues the repair later").await;
    }
    let mut taken = TakenBatch { row: state, revision: Some(revision) };
    let worked = async {
        taken.save(run).await?;
        work(run, &mut taken).await
    };
    let next = match worked.await {
        Err(error) if error.is_changed() => return ignored("another invocation has taken over the repair").await,
        Err(error) => {
            if let Err(error) = taken.release(run).await {
                warn!(error = chain(&error), "the repair continues when the lease of its row has ended");
            }
            return Err(error);
        }
        Ok(next) => next,
    };
    taken.row.due = match next {
        Next::Message(delay) => Some((run.now() + delay).unix_timestamp()),
        Next::Nothing => None,
    };
    taken.release(run).await?;
    // Until the row is free, the message would find nothing to do.
    if let Next::Message(delay) = next {
        send(run, &taken.row.code, delay).await?;
    }
    decide(run, taken.row.progress()).await
}

/// Does the steps of a repair until it has to wait.
async fn work<L: Store>(run: &Run<'_, L>, taken: &mut TakenBatch) -> Result<Next, Error> {
    let now = Next::Message(Duration::ZERO);
    loop {
        match taken.row.step {
            Step::Collecting(_) => {
                if !manifest::collect(run, taken).await? {
                    return Ok(now);
                }
            }
            Step::Waiting => {
                announce(run, &taken.row).await?;
                return Ok(Next::Nothing);
            }
            // S3 may not show a job at once.
            Step::Creating => {
                jobs::create(run, taken).await?;
                return Ok(Next::Message(jobs::pause(run, &taken.row)));
            }
            Step::Running => {
                if !jobs::look(run, taken).await? {
                    return Ok(Next::Message(jobs::pause(run, &taken.row)));
                }
            }
            Step::Reading(_) => {
                if !report::read(run, taken).await? {
                    return Ok(now);
                }
                end::end(run, taken).await?;
            }
            Step::Ended => return Ok(Next::Nothing),
        }
    }
}

/// Tells people that a repair waits for them, unless they know.
async fn announce<L: Store>(run: &Run<'_, L>, row: &BatchRow) -> Result<(), Error> {
    let news = notices::compared(run, vec![row.finding()]).await;
    notices::send(run, &run.notice_title(&format!("repair of {}", row.bucket)), &news).await?;
    Ok(())
}

/// Continues the repair of a bucket whose message may be lost. An error is only logged, because the sweeps go on.
pub(crate) async fn resume<L: Store>(run: &Run<'_, L>) {
    let resumed = async {
        let row = run.ledger.read::<BatchRow>(&BatchRow::key(&run.settings.bucket)).await?;
        match row.map(|row| row.state) {
            Some(row) if row.is_open() && !row.is_held(run.now()) => send(run, &row.code, Duration::ZERO).await,
            _ => Ok(()),
        }
    };
    if let Err(error) = resumed.await {
        warn!(error = chain(&error), "a repair that is left to S3 Batch Operations was not resumed");
    }
}

/// Sends the message that continues a repair.
async fn send<L>(run: &Run<'_, L>, code: &Code, delay: Duration) -> Result<(), Error> {
    let message = serde_json::json!({"action": "repair", "code": code, "follow": true}).to_string();
    Ok(sqs::send(&run.clients.sqs, &run.settings.queue_url, &message, delay).await?)
}

async fn decide<L: Store>(run: &Run<'_, L>, decision: Decision<Outcome>) -> Result<Answer, Error> {
    run.record(from_ref(&decision)).await?;
    Ok(Answer::of(vec![decision]))
}
