//! Divides and closes the ranges of a sweep, and sends their messages.

use std::collections::BTreeSet;
use std::iter::once;
use std::time::Duration;

use sekisho_lambda::ServiceError;
use sekisho_ledger::{Error, Store};

use crate::aws::s3::{S3, list};
use crate::aws::sqs;
use crate::checker::division::Rest;
use crate::checker::sweep_state::change;
use crate::error::SweepError;
use crate::rate::Rates;
use crate::request::{SweepMode, SweepRequest};
use crate::run::Run;
use crate::sweep_row::{SweepRow, shortened};

/// After so many ranges that could not be checked, the fault does not lie in single objects, so each further range is
/// set aside as a whole.
const MOST_SKIPPED: u64 = 10;
/// The most objects that the name of an unchecked part has.
const MOST_NAMED: usize = 10;

/// Another sweep learns within this time that a sweep has begun.
pub(crate) const UNAWARE: Duration = Duration::from_secs(10);

/// Sends a request to the function's queue.
pub(crate) async fn send<L>(run: &Run<'_, L>, request: &SweepRequest, delay: Duration) -> Result<(), ServiceError> {
    sqs::send(&run.clients.sqs, &run.settings.queue_url, &request.message(), delay).await
}

/// Sends the messages of all open ranges of a sweep that no invocation checks, because these messages may be lost. Two
/// messages for one range do no harm, because only one invocation at a time checks it. A sweep without ranges has not come
/// to them or lacks only its end, and gets a message of its own.
pub(crate) async fn resume<L: Store>(
    run: &Run<'_, L>,
    request: &SweepRequest,
    sweep: &SweepRow,
) -> Result<(), SweepError> {
    // The other sweep uses the whole rates until it notices this one.
    let delay = if sweep.leaves_rest() { UNAWARE } else { Duration::ZERO };
    if sweep.ranges.is_empty() && !sweep.is_held(run.now()) {
        return Ok(send(run, &request.continuing(&sweep.sweep, None), delay).await?);
    }
    send_to(run, request, sweep, delay, |range| !range.is_some_and(|range| range.is_held(run.now()))).await
}

/// Sends the messages of those ranges of the request's sweep that no invocation has begun to check. An invocation that
/// died after it had divided its range may not have sent the message of the new one. A range that was begun has a
/// message of its own, perhaps with a delay after an error, so it gets no other.
pub(crate) async fn resume_untouched<L: Store>(run: &Run<'_, L>, request: &SweepRequest) -> Result<(), SweepError> {
    let key = SweepRow::key(&request.bucket, request.mode());
    let Some(sweep) = run.ledger.read::<SweepRow>(&key).await?.map(|row| row.state) else { return Ok(()) };
    if request.sweep.as_deref() != Some(sweep.sweep.as_str()) {
        return Ok(());
    }
    send_to(run, request, &sweep, Duration::ZERO, |range| range.is_some_and(SweepRow::is_untouched)).await
}

/// Sends the messages of the open ranges whose rows are chosen. A range without a row of this sweep is `None`.
async fn send_to<L: Store>(
    run: &Run<'_, L>,
    request: &SweepRequest,
    sweep: &SweepRow,
    delay: Duration,
    is_chosen: impl Fn(Option<&SweepRow>) -> bool,
) -> Result<(), SweepError> {
    let keys: Vec<_> = sweep.open_range_keys(&request.bucket).collect();
    let rows = run.ledger.read_many::<SweepRow>(&keys).await?;
    for (number, row) in sweep.ranges.numbers().zip(rows) {
        let range = row?.map(|row| row.state).filter(|range| range.sweep == sweep.sweep);
        if is_chosen(range.as_ref()) {
            send(run, &request.continuing(&sweep.sweep, Some(number)), delay).await?;
        }
    }
    Ok(())
}

/// Adds to sweeps, each with its bucket, what their open ranges have found. Returns how many rows cannot be read.
pub(crate) async fn add_open_ranges<L: Store>(ledger: &L, sweeps: &mut [(&str, SweepRow)]) -> Result<usize, Error> {
    let keys: Vec<_> = sweeps.iter().flat_map(|(bucket, sweep)| sweep.open_range_keys(bucket)).collect();
    let mut rows = ledger.read_many::<SweepRow>(&keys).await?.into_iter();
    let mut unreadable = 0;
    for (_, sweep) in sweeps {
        for range in rows.by_ref().take(sweep.ranges.len()) {
            unreadable += usize::from(range.is_err());
            if let Ok(Some(range)) = range {
                sweep.add_open_range(range.state);
            }
        }
    }
    Ok(unreadable)
}

/// The rates of an invocation that works on a sweep.
pub(crate) struct Share {
    pub(crate) rates: Rates,
    /// Whether the invocation has to leave the rates to the ranges, because another sweep is under way.
    pub(crate) leaves_rest: bool,
}

/// The rates of an invocation that works on a sweep. The answer changes when another sweep begins, and is an error if that
/// sweep has replaced the sweep of the invocation's range.
pub(crate) async fn share<L: Store>(run: &Run<'_, L>, request: &SweepRequest) -> Result<Share, Error> {
    let whole = run.settings.rates;
    let of_range = whole.share(run.settings.concurrency);
    if request.range.is_none() {
        let leaves_rest = has_any_other_sweep(run, request).await?;
        return Ok(Share { rates: if leaves_rest { of_range } else { whole }, leaves_rest });
    }
    let own = SweepRow::key(&request.bucket, request.mode());
    let sweep = run.ledger.read::<SweepRow>(&own).await?.map(|row| row.state.sweep);
    if sweep != request.sweep {
        return Err(Error::Changed(own));
    }
    // Each partition that the configuration names belongs to one range of a sweep, which takes half of its rate. Without
    // names, and beside another sweep, the ranges share half of the rate of one partition.
    let is_named = !run.settings.artifacts.partitions(&request.bucket).is_empty();
    let has_partition = is_named && !has_other_sweep(run, request).await?;
    let rates = if has_partition { Rates { s3: whole.s3, ..of_range } } else { of_range };
    Ok(Share { rates, leaves_rest: false })
}

/// Whether another sweep of the request's bucket is under way, whose requests S3 counts together with those of this one.
async fn has_other_sweep<L: Store>(run: &Run<'_, L>, request: &SweepRequest) -> Result<bool, Error> {
    is_swept(run, request, once(request.bucket.as_str())).await
}

/// Whether another sweep is under way in any bucket whose objects this function may repair, so that KMS counts the
/// requests of both sweeps together.
async fn has_any_other_sweep<L: Store>(run: &Run<'_, L>, request: &SweepRequest) -> Result<bool, Error> {
    let configured = run.settings.artifacts.buckets.keys().map(String::as_str);
    let buckets: BTreeSet<&str> = configured.chain([request.bucket.as_str(), run.settings.bucket.as_str()]).collect();
    is_swept(run, request, buckets.into_iter()).await
}

/// Whether a sweep other than the request's is under way in one of the buckets: it has ranges, or its first invocation
/// runs.
async fn is_swept<'b, L: Store>(
    run: &Run<'_, L>,
    request: &SweepRequest,
    buckets: impl Iterator<Item = &'b str>,
) -> Result<bool, Error> {
    let own = SweepRow::key(&request.bucket, request.mode());
    let keys = buckets.flat_map(|bucket| SweepMode::all().map(move |mode| SweepRow::key(bucket, mode)));
    let keys: Vec<_> = keys.filter(|key| *key != own).collect();
    let rows = run.ledger.read_many::<SweepRow>(&keys).await?;
    let mut rows = rows.into_iter().filter_map(Result::ok).flatten().map(|row| row.state);
    Ok(rows.any(|row| !row.complete && (!row.ranges.is_empty() || row.is_held(run.now()))))
}

/// Divides what is left of the request's range after a key, if there are fewer ranges than invocations that may work on
/// them. Returns the new end of the range; `None` if it was not divided.
pub(crate) async fn divide<L: Store>(
    run: &Run<'_, L>,
    s3: &S3,
    request: &SweepRequest,
    after: &str,
    end: Option<&str>,
) -> Result<Option<String>, SweepError> {
    let Some(number) = request.range else { return Ok(None) };
    let wanted = usize::try_from(run.settings.concurrency).unwrap_or(usize::MAX);
    let row = run.ledger.read::<SweepRow>(&SweepRow::key(&request.bucket, request.mode())).await?;
    if row.is_none_or(|row| row.state.ranges.len() >= wanted) {
        return Ok(None);
    }
    let middle = match run.settings.artifacts.partitions(&request.bucket) {
        [] => Rest { s3, bucket: &request.bucket, after, end }.middle().await.ok().flatten(),
        partitions => middle_of(partitions, after, end),
    };
    // Without a middle, this invocation checks everything that is left.
    let Some(middle) = middle else { return Ok(None) };
    let divided = change(run.ledger, request, run.request_id(), |sweep| {
        if sweep.ranges.len() >= wanted {
            return None;
        }
        let range = sweep.divide(number, &middle)?;
        Some((range.range_number(), Some(range)))
    });
    let Some(new) = divided.await? else { return Ok(None) };
    let sweep = request.sweep.as_deref().unwrap_or_default();
    send(run, &request.continuing(sweep, Some(new)), Duration::ZERO).await?;
    Ok(Some(middle))
}

/// The middle one of the partitions that begin after a key and before the end of a range. A partition is not divided,
/// because its rate is the limit.
fn middle_of(partitions: &[String], after: &str, end: Option<&str>) -> Option<String> {
    let is_within = |key: &&String| key.as_str() > after && end.is_none_or(|end| key.as_str() < end);
    let within: Vec<&String> = partitions.iter().filter(is_within).collect();
    within.get(within.len() / 2).map(|key| (*key).clone())
}

/// Adds the totals of a checked range to the sweep. Returns whether it was the last range; `None` if the range was
/// closed before.
pub(crate) async fn close<L: Store>(
    run: &Run<'_, L>,
    request: &SweepRequest,
    range: &SweepRow,
) -> Result<Option<bool>, Error> {
    change(run.ledger, request, run.request_id(), |sweep| {
        let was_open = sweep.close_range(range.range?, range.totals.clone());
        was_open.then(|| (sweep.ranges.is_empty(), None))
    })
    .await
}

/// Sets a range aside for this reason, up to `at` if there is a key: the rest becomes a new range, which gets the
/// objects whose checks take long. What was checked of the range counts. Returns the part that is set aside, in words,
/// and whether no range is left; `None` if the range was closed before.
pub(crate) async fn set_aside<L: Store>(
    run: &Run<'_, L>,
    request: &SweepRequest,
    range: &SweepRow,
    at: Option<&str>,
    why: &str,
) -> Result<Option<(String, bool)>, SweepError> {
    let changed = change(run.ledger, request, run.request_id(), |sweep| {
        let number = range.range?;
        let end = sweep.ranges.end(number)?.map(str::to_owned);
        // An invocation that died may have divided the range before this key.
        let at = at.filter(|at| sweep.ranges.unchecked < MOST_SKIPPED && end.as_deref().is_none_or(|end| *at < end));
        let mut rest = at.and_then(|at| sweep.divide(number, at));
        let part = range.part(at.or(end.as_deref()));
        sweep.close_range(number, range.totals.clone());
        // If the whole range is listed, only objects are left whose checks take long.
        if !range.listed {
            sweep.ranges.add_unchecked(format!("{part} ({why})"));
        }
        let left = range.leave_slow(rest.as_mut());
        if !left.is_empty() {
            let keys: Vec<String> = left.iter().take(MOST_NAMED).map(|key| shortened(key)).collect();
            let more = left.len().saturating_sub(MOST_NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let what = if left.len() == 1 { "the object" } else { "objects whose checks take long:" };
            sweep.ranges.add_unchecked(format!("{what} {}{more} ({why})", keys.join(", ")));
        }
        Some(((part, sweep.ranges.is_empty(), rest.as_ref().map(SweepRow::range_number)), rest))
    });
    let Some((part, is_last, rest)) = changed.await? else { return Ok(None) };
    if let (Some(rest), Some(sweep)) = (rest, &request.sweep) {
        send(run, &request.continuing(sweep, Some(rest)), Duration::ZERO).await?;
    }
    Ok(Some((part, is_last)))
}

/// The key at the end of the next page of a range. `None` if it is the last page, or if S3 does not list it.
pub(crate) async fn end_of_next_page<L: Store>(
    run: &Run<'_, L>,
    request: &SweepRequest,
    range: &SweepRow,
) -> Option<String> {
    let page = list::page(&run.s3(), &request.bucket, request.versions, range.position.as_ref()).await.ok()?;
    Some(page.within(range.end.as_deref()).end?.key)
}
