//! The use case in which a message of the queue asks for the check of one range of a sweep.

use std::slice::from_ref;
use std::time::Duration;

use sekisho_domain::decision::Decision;
use sekisho_lambda::failure::chain;
use sekisho_lambda::telemetry;
use sekisho_ledger::Store;
use tracing::{info, warn};

use crate::answer::Answer;
use crate::checker::bucket::stores_for_rest;
use crate::checker::passes::Passes;
use crate::checker::range_state::{close, end_of_next_page, resume_untouched, send, set_aside, share};
use crate::checker::sweep::{Preparation, Prepared, prepare, requested};
use crate::checker::sweep_end::send_delayed;
use crate::checker::sweep_state::{TakeRange, TakenSweep, take_range};
use crate::checker::tracker::Tracker;
use crate::error::{Error, SweepError};
use crate::outcome::Outcome;
use crate::request::SweepRequest;
use crate::run::Run;
use crate::sweep_report::SweepReport;
use crate::sweep_row::SweepRow;

/// The pause before another attempt to check a range. Each further pause is longer by this time.
const PAUSE: Duration = Duration::from_mins(1);

/// How an attempt to check a range ended.
enum Attempt {
    /// The range is checked, or another invocation has to continue it. With the report, and the objects whose checks take
    /// long.
    Ended(Box<SweepReport>, Vec<Decision<Outcome>>),
    /// No object of the bucket can be checked, for this reason.
    Impossible(String),
}

/// Checks a range, or as much of it as the time allows.
pub(crate) async fn check<L: Store>(run: &Run<'_, L>, request: &SweepRequest, range: u32) -> Result<Answer, Error> {
    let mut taken = match take_range(run.ledger, request, range, run.request_id(), run.now()).await? {
        TakeRange::Taken(taken) => taken,
        TakeRange::Poison(taken) => {
            return skip(run, request, &taken.row, "each attempt to check them was ended by Lambda").await;
        }
        TakeRange::AllChecked => return end_sweep(run, request, Answer::default()).await,
        TakeRange::SetAside => {
            // The invocation that has set it aside may have died before it sent the message of the rest.
            resume_untouched(run, request).await?;
            return ignore(run, request, "the range is set aside").await;
        }
        TakeRange::Refused(why) => return ignore(run, request, &why).await,
    };
    let attempt = match Box::pin(attempt(run, request, &mut taken)).await {
        Ok(attempt) => attempt,
        Err(error) if error.is_changed() => {
            // The message continues the range if nobody has it, because this invocation could not divide it while many
            // others changed the sweep's row. If another invocation has the range, or a new sweep has replaced this one,
            // the message does nothing.
            send(run, request, PAUSE).await?;
            let why = "another invocation has taken over the range, a new sweep has replaced this one, or the range is \
                       continued later";
            return ignore(run, request, why).await;
        }
        Err(error) => return fail(run, request, taken, &error).await,
    };
    match attempt {
        Attempt::Impossible(why) => give_up(run, request, &taken.row, None, &why).await,
        Attempt::Ended(report, delayed) => end(run, request, taken, *report, delayed).await,
    }
}

/// Walks through the range.
async fn attempt<L: Store>(run: &Run<'_, L>, request: &SweepRequest, taken: &mut TakenSweep) -> Result<Attempt, Error> {
    if taken.row.was_interrupted() {
        resume_untouched(run, request).await?;
    }
    let stores = stores_for_rest(run, &request.bucket).await?;
    let preparation: Preparation = match prepare(run, request, &stores).await? {
        Prepared::Ready(preparation) => *preparation,
        Prepared::Impossible(decisions) => {
            let why = decisions.into_iter().next().map_or_else(|| "unknown".to_owned(), |decision| decision.reason);
            return Ok(Attempt::Impossible(why));
        }
    };
    let tracker = if request.dry_run {
        None
    } else {
        let passes = Passes::read(run, &request.bucket).await?;
        Some(Tracker::load(run, &request.bucket, &taken.row, passes.is_first()).await?)
    };
    let rates = share(run, request).await?.rates;
    let walked = preparation.walk(run, request, &stores, rates, tracker.as_ref(), taken).await;
    if let Some(tracker) = &tracker {
        tracker.flush().await;
    }
    let delayed = walked?;
    taken.release(run.ledger, run.now()).await?;
    let rule = stores.repair_rule(run.settings, &request.bucket);
    let report = SweepReport::new(request, &taken.row, run.settings, &rule);
    Ok(Attempt::Ended(Box::new(report), delayed))
}

/// Ends an attempt without errors.
async fn end<L: Store>(
    run: &Run<'_, L>,
    request: &SweepRequest,
    taken: Box<TakenSweep>,
    report: SweepReport,
    delayed: Vec<Decision<Outcome>>,
) -> Result<Answer, Error> {
    send_delayed(run, request, &delayed).await;
    info!(sweep.json = telemetry::json(&report), "sweep");
    let summary = report.summary(taken.row.totals.has_findings());
    run.record(from_ref(&summary)).await?;
    let answer = Answer { decisions: vec![summary], sweeps: vec![report] };
    if !taken.row.complete {
        send(run, request, Duration::ZERO).await?;
        return Ok(answer);
    }
    match close(run, request, &taken.row).await? {
        Some(true) => end_sweep(run, request, answer).await,
        Some(false) | None => Ok(answer),
    }
}

/// Ends an attempt with an error. Another attempt follows, unless there were too many.
async fn fail<L: Store>(
    run: &Run<'_, L>,
    request: &SweepRequest,
    mut taken: Box<TakenSweep>,
    error: &Error,
) -> Result<Answer, Error> {
    let why = chain(error);
    let attempts = taken.row.attempts();
    warn!(error = why, attempts, "a range of a sweep could not be checked");
    // If the ledger cannot be written, this invocation fails, and the queue delivers the message again.
    taken.release(run.ledger, run.now()).await?;
    if taken.row.is_poison() {
        return match error {
            Error::Sweep(SweepError::NoProgress(_)) => skip(run, request, &taken.row, &why).await,
            _ => give_up(run, request, &taken.row, None, &why).await,
        };
    }
    // Pages that this attempt has checked make it the first one again.
    send(run, request, PAUSE * attempts.max(1)).await?;
    let reason = format!("range {} could not be checked, another attempt follows: {why}", taken.row.range_number());
    decide(run, request, Outcome::Unknown, reason).await
}

/// Sets the next page of a range aside, which may have an object that ends each attempt, and leaves the rest of the
/// range to a new one.
async fn skip<L: Store>(
    run: &Run<'_, L>,
    request: &SweepRequest,
    range: &SweepRow,
    why: &str,
) -> Result<Answer, Error> {
    let at = if range.listed { None } else { end_of_next_page(run, request, range).await };
    give_up(run, request, range, at.as_deref(), why).await
}

/// Sets a range aside, up to a key if there is one, so that the sweep ends without it, as incomplete.
async fn give_up<L: Store>(
    run: &Run<'_, L>,
    request: &SweepRequest,
    range: &SweepRow,
    at: Option<&str>,
    why: &str,
) -> Result<Answer, Error> {
    resume_untouched(run, request).await?;
    let Some((part, is_last)) = set_aside(run, request, range, at, why).await? else {
        return ignore(run, request, "the range is checked").await;
    };
    let reason = format!("range {} is set aside: {part}: {why}", range.range_number());
    let answer = decide(run, request, Outcome::Unknown, reason).await?;
    if is_last { end_sweep(run, request, answer).await } else { Ok(answer) }
}

async fn ignore<L: Store>(run: &Run<'_, L>, request: &SweepRequest, why: &str) -> Result<Answer, Error> {
    decide(run, request, Outcome::Ignored, why.to_owned()).await
}

async fn decide<L: Store>(
    run: &Run<'_, L>,
    request: &SweepRequest,
    outcome: Outcome,
    reason: String,
) -> Result<Answer, Error> {
    let decision = Decision::new(outcome, reason)
        .about("bucket", &request.bucket)
        .about("sweep", request.sweep.clone().unwrap_or_default());
    run.record(from_ref(&decision)).await?;
    Ok(Answer::of(vec![decision]))
}

/// Ends the sweep after its last range, as an invocation does that checks a whole bucket.
async fn end_sweep<L: Store>(run: &Run<'_, L>, request: &SweepRequest, answer: Answer) -> Result<Answer, Error> {
    let sweep = request.sweep.clone().unwrap_or_default();
    let ended = Box::pin(requested(run, &request.continuing(&sweep, None))).await?;
    Ok(answer.followed_by(ended))
}
