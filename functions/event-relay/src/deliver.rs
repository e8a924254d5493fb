//! Relays one change in two phases, and offers it to the buses in between.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use futures_util::{StreamExt, TryStreamExt, stream};
use sekisho_domain::change::Change;
use sekisho_domain::decision::Decision;
use sekisho_lambda::ServiceError;

use crate::delivery::{Batch, Delivery, Undelivered, batches, to_json};
use crate::error::Error;
use crate::hint::Hint;
use crate::outcome::{Outcome, about_change, dead_lettered, no_longer_routed};
use crate::plan::Claim;
use crate::redelivery::Redelivery;
use crate::run::{RESERVE, Run};
use crate::world::{EntryResult, World};

/// Calls in flight. More calls would only queue for the CPU share that 128 MB of memory come with.
const CONCURRENT_CALLS: usize = 8;
/// How often an entry is offered again within one invocation.
const MAX_RETRIES: usize = 6;
/// The reason for a target that was not offered the change.
const NOT_OFFERED: &str = "no time was left to offer the change";
/// The reason for a target that was offered the change once and not again.
const NOT_OFFERED_AGAIN: &str = "no time was left to offer the change again";

/// The decisions about one change, and the error that ended its delivery, if any.
#[derive(Debug)]
pub(crate) struct Relayed {
    pub(crate) decisions: Vec<Decision<Outcome>>,
    pub(crate) failure: Option<Error>,
}

/// Relays the claimed change: the only place where the two phases happen.
///
/// # Errors
/// The claim could not be written, so nothing was sent.
pub(crate) async fn relay<W: World>(
    run: &Run<'_, W>,
    hint: &Hint,
    claim: &Claim,
) -> Result<Relayed, sekisho_ledger::Error> {
    // Phase 1: the ledger has the pending change and the lease before the first bus receives anything.
    let revision = run.write_row(&hint.repository, &hint.git_ref, &claim.row, claim.replaces).await?;
    let dropped = claim.dropped.iter();
    let mut decisions: Vec<_> = dropped
        .flat_map(|dropped| dropped.deliveries.iter().map(|delivery| no_longer_routed(&dropped.change, delivery)))
        .collect();
    let Some(pending) = &claim.row.pending else { return Ok(Relayed { decisions, failure: None }) };
    let (change, all) = (&pending.change, pending.deliveries.len());

    // Every bus accepts the change, refuses it permanently, or has to be asked again later.
    let Delivered { mut refused, mut not_accepted, not_offered } = deliver(run, change, &pending.deliveries).await;
    if pending.is_last_attempt(run.now()) {
        refused.append(&mut not_accepted);
    }
    if let Err(error) = dead_letter(run, change, &refused).await {
        return Ok(Relayed { decisions, failure: Some(error.into()) });
    }

    // Phase 2: the ledger has the change as relayed, or the targets that do not have it yet.
    let was_offered = not_offered.len() < all;
    let reason = not_accepted.first().map_or(NOT_OFFERED, |first| first.reason.as_str()).to_owned();
    let left: Vec<Delivery> = not_accepted.into_iter().map(|one| one.delivery).chain(not_offered).collect();
    let row = if left.is_empty() { claim.row.relayed(change) } else { claim.row.given_back(&left, was_offered) };
    match run.write_row(&hint.repository, &hint.git_ref, &row, Some(revision)).await {
        // The lease ended, and another invocation took the change over: that invocation writes the same row.
        Ok(_) | Err(sekisho_ledger::Error::Changed(_)) => {}
        Err(error) => return Ok(Relayed { decisions, failure: Some(error.into()) }),
    }
    decisions.extend(refused.iter().map(|undelivered| dead_lettered(change, undelivered)));
    if !left.is_empty() {
        return Ok(Relayed { decisions, failure: Some(undelivered(change, left.len(), all, reason)) });
    }
    let accepted = all - refused.len();
    let reason = format!("the buses of {accepted} of {all} targets accepted the change");
    let relayed = about_change(change, Decision::new(Outcome::Relayed, reason)).about("targets", accepted.to_string());
    decisions.push(relayed);
    Ok(Relayed { decisions, failure: None })
}

/// Sends the change of a dead-letter message to its target again. A failure makes no new message, because the queue
/// keeps the one that was redriven.
pub(crate) async fn redeliver<W: World>(run: &Run<'_, W>, redelivery: &Redelivery) -> Result<(), Error> {
    let change = &redelivery.change;
    let Delivered { refused, not_accepted, not_offered } =
        deliver(run, change, std::slice::from_ref(&redelivery.delivery)).await;
    let not_offered = not_offered.into_iter().map(|_| NOT_OFFERED.to_owned());
    let mut reasons = refused.into_iter().chain(not_accepted).map(|one| one.reason).chain(not_offered);
    match reasons.next() {
        Some(reason) => Err(undelivered(change, 1, 1, reason)),
        None => Ok(()),
    }
}

fn undelivered(change: &Change, left: usize, all: usize, reason: String) -> Error {
    let (git_ref, repository) = (change.git_ref.clone(), change.repository.clone());
    Error::Undelivered { left, all, reason, git_ref, repository }
}

/// The deliveries that did not succeed. A delivery that is not listed succeeded.
#[derive(Debug, Default)]
struct Delivered {
    /// The bus refused the change permanently.
    refused: Vec<Undelivered>,
    /// The bus did not accept the change in the time that was left.
    not_accepted: Vec<Undelivered>,
    /// The bus was not asked, because no time was left.
    not_offered: Vec<Delivery>,
}

/// Offers the change until each bus accepts or refuses it, or no time is left.
async fn deliver<W: World>(run: &Run<'_, W>, change: &Change, deliveries: &[Delivery]) -> Delivered {
    let mut delivered = offer(run, change, deliveries).await;
    let mut pauses = ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(5))
        .with_max_times(MAX_RETRIES)
        .build();
    while !delivered.not_accepted.is_empty() {
        let Some(pause) = pauses.next().filter(|pause| *pause + RESERVE < run.time_left()) else { break };
        run.world.sleep(pause).await;
        let again: Vec<Delivery> = delivered.not_accepted.into_iter().map(|one| one.delivery).collect();
        let Delivered { refused, mut not_accepted, not_offered } = offer(run, change, &again).await;
        // These buses were asked in an earlier round.
        let not_again = |delivery| Undelivered { delivery, reason: NOT_OFFERED_AGAIN.to_owned() };
        not_accepted.extend(not_offered.into_iter().map(not_again));
        delivered.refused.extend(refused);
        delivered.not_accepted = not_accepted;
    }
    delivered.refused.sort();
    delivered
}

/// Offers the change to each bus once, in batches, several calls at a time.
async fn offer<W: World>(run: &Run<'_, W>, change: &Change, deliveries: &[Delivery]) -> Delivered {
    let batches = batches(&run.invocation.partition, change, deliveries);
    let answers: Vec<(&Batch<'_>, Option<Vec<EntryResult>>)> = stream::iter(&batches)
        .map(async |batch| {
            let has_time = run.time_left() > RESERVE;
            let results = if has_time { Some(run.world.put_events(batch.region, &batch.entries).await) } else { None };
            (batch, results)
        })
        .buffer_unordered(CONCURRENT_CALLS)
        .collect()
        .await;
    let mut delivered = Delivered::default();
    for (batch, results) in answers {
        let deliveries = batch.deliveries.iter().map(|delivery| (*delivery).clone());
        let Some(results) = results else {
            delivered.not_offered.extend(deliveries);
            continue;
        };
        // An event that was accepted carries no reason.
        for (delivery, result) in deliveries.zip(results) {
            match result {
                EntryResult::Accepted => {}
                EntryResult::Retryable(reason) => delivered.not_accepted.push(Undelivered { delivery, reason }),
                EntryResult::Refused(reason) => delivered.refused.push(Undelivered { delivery, reason }),
            }
        }
    }
    delivered.not_accepted.sort();
    delivered
}

/// Sends a message to the dead-letter queue for each refused delivery. If the queue does not accept one of them, the
/// whole change is delivered again later.
async fn dead_letter<W: World>(run: &Run<'_, W>, change: &Change, refused: &[Undelivered]) -> Result<(), ServiceError> {
    stream::iter(refused.iter().map(Ok))
        .try_for_each_concurrent(CONCURRENT_CALLS, async |undelivered| {
            run.world.dead_letter(to_json(&Redelivery::new(change, undelivered))).await
        })
        .await
}
