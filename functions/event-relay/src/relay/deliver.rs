//! Relays one change in two phases, and sends the change to the buses between the phases.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use futures_util::{StreamExt, stream};
use sekisho_domain::change::Change;
use sekisho_domain::decision::Decision;

use crate::decision_log::Report;
use crate::delivery::{Delivery, Undelivered};
use crate::error::Error;
use crate::hint::Hint;
use crate::outcome::{Outcome, about_change, dead_lettered, no_longer_routed};
use crate::plan::{Claim, Dropped};
use crate::redelivery::Redelivery;
use crate::run::{RESERVE, Run};
use crate::world::Entry;
use crate::world::{EntryResult, World};
use sekisho_domain::account::Region;
use sekisho_domain::change::{RELAY_DETAIL_TYPE, RELAY_SOURCE, SourceChange};
use sekisho_lambda::eventbridge::bus_arn;

/// The number of calls that run at once. More calls would only wait for the CPU, because a function with 128 MB of
/// memory has a small share of it.
const CONCURRENT_CALLS: usize = 8;
/// The most times that one invocation sends an entry again.
const MAX_RETRIES: usize = 6;
/// The reason that an error gives for a target to which the change was not sent.
const NOT_OFFERED: &str = "no time was left to send the change";
/// The reason that an error gives for a target to which the change was sent once, but not a second time.
const NOT_OFFERED_AGAIN: &str = "no time was left to send the change again";

/// Relays the claimed change. The ledger records the change as pending before the change is sent (phase 1), and records
/// the result afterwards (phase 2).
///
/// # Errors
/// The claim could not be written, so nothing was sent.
pub(crate) async fn relay<W: World>(
    run: &Run<'_, W>,
    hint: &Hint,
    claim: &Claim,
) -> Result<Report, sekisho_ledger::Error> {
    // Phase 1: the ledger records the pending change and the lease before the first bus receives anything.
    let revision = run.write_row(&hint.repository, &hint.git_ref, &claim.row, claim.replaces).await?;
    let mut report = Report::default();
    if let Some(Dropped { change, deliveries }) = &claim.dropped {
        report.log.extend(deliveries.iter().map(|delivery| no_longer_routed(change, delivery)));
    }
    let Some(pending) = &claim.row.pending else { return Ok(report) };
    let (change, all) = (&pending.change, pending.deliveries.len());

    // Every bus accepts the change, refuses it permanently, or must receive it again later.
    let NotDelivered { mut refused, mut not_accepted, not_offered } = deliver(run, change, &pending.deliveries).await;
    if pending.is_last_attempt(run.now()) {
        refused.append(&mut not_accepted);
    }

    // Phase 2: the ledger records the change as relayed. If some targets do not have the change yet, the ledger records
    // these targets instead.
    let was_offered = not_offered.len() < all;
    let reason = not_accepted.first().map_or(NOT_OFFERED, |first| first.reason.as_str()).to_owned();
    let left: Vec<Delivery> = not_accepted.into_iter().map(|one| one.delivery).chain(not_offered).collect();
    let row = if left.is_empty() { claim.row.relayed(change) } else { claim.row.given_back(&left, was_offered) };
    match run.write_row(&hint.repository, &hint.git_ref, &row, Some(revision)).await {
        // A row that has changed is not an error: the lease ended, and another invocation has taken over the change and
        // writes the row.
        Ok(_) | Err(sekisho_ledger::Error::Changed(_)) => {}
        Err(error) => return Ok(report.failed(error)),
    }
    report.log.extend(refused.iter().map(|undelivered| dead_lettered(change, undelivered)));
    if !left.is_empty() {
        return Ok(report.failed(undelivered(change, left.len(), all, reason)));
    }
    let accepted = all - refused.len();
    let reason = format!("{accepted} of {all} buses accepted the change");
    let relayed = about_change(change, Decision::new(Outcome::Relayed, reason)).about("targets", accepted.to_string());
    Ok(report.with(relayed))
}

/// Sends the change of a dead-letter message to its target again. A failure makes no new message, because the queue
/// keeps the message that was redriven.
pub(crate) async fn redeliver<W: World>(run: &Run<'_, W>, redelivery: &Redelivery) -> Result<(), Error> {
    let change = &redelivery.change;
    let NotDelivered { refused, not_accepted, not_offered } =
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

/// The deliveries that did not succeed. Every other delivery succeeded.
#[derive(Debug, Default)]
struct NotDelivered {
    /// The bus refused the change permanently.
    refused: Vec<Undelivered>,
    /// The bus did not accept the change during this invocation, but a later attempt may succeed.
    not_accepted: Vec<Undelivered>,
    /// The change was not sent to the bus, because no time was left.
    not_offered: Vec<Delivery>,
}

/// Sends the change again and again until each bus has accepted or refused it, or until no time or retry is left.
async fn deliver<W: World>(run: &Run<'_, W>, change: &Change, deliveries: &[Delivery]) -> NotDelivered {
    let mut open = offer(run, change, deliveries).await;
    let mut pauses = ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(5))
        .with_max_times(MAX_RETRIES)
        .build();
    while !open.not_accepted.is_empty() {
        let Some(pause) = pauses.next().filter(|pause| *pause + RESERVE < run.time_left()) else { break };
        run.world.sleep(pause).await;
        let again: Vec<Delivery> = open.not_accepted.into_iter().map(|one| one.delivery).collect();
        let NotDelivered { refused, mut not_accepted, not_offered } = offer(run, change, &again).await;
        // The change was sent to these buses in an earlier round, and the buses did not accept it.
        let not_again = |delivery| Undelivered { delivery, reason: NOT_OFFERED_AGAIN.to_owned() };
        not_accepted.extend(not_offered.into_iter().map(not_again));
        open.refused.extend(refused);
        open.not_accepted = not_accepted;
    }
    open.refused.sort();
    open
}

/// Sends the change to each bus once. The entries for the buses are sent in batches, with several calls at a time.
async fn offer<W: World>(run: &Run<'_, W>, change: &Change, deliveries: &[Delivery]) -> NotDelivered {
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
    let mut open = NotDelivered::default();
    for (batch, results) in answers {
        let deliveries = batch.deliveries.iter().map(|delivery| (*delivery).clone());
        let Some(results) = results else {
            open.not_offered.extend(deliveries);
            continue;
        };
        for (delivery, result) in deliveries.zip(results) {
            match result {
                EntryResult::Accepted => {}
                EntryResult::Retryable(reason) => open.not_accepted.push(Undelivered { delivery, reason }),
                EntryResult::Refused(reason) => open.refused.push(Undelivered { delivery, reason }),
            }
        }
    }
    open.not_accepted.sort();
    open
}

/// The entries of one PutEvents call, all for buses of one region.
#[derive(Debug)]
struct Batch<'d> {
    region: &'d Region,
    deliveries: Vec<&'d Delivery>,
    /// One entry for each delivery, in the same order.
    entries: Vec<Entry>,
    bytes: usize,
}

/// Divides the deliveries into PutEvents calls, each for one region and within PutEvents' limits.
fn batches<'d>(partition: &str, change: &Change, deliveries: &'d [Delivery]) -> Vec<Batch<'d>> {
    let mut sorted: Vec<&Delivery> = deliveries.iter().collect();
    sorted.sort_by_key(|delivery| (&delivery.region, &delivery.account));
    let mut batches: Vec<Batch<'d>> = Vec::new();
    for delivery in sorted {
        let entry = entry(partition, change, delivery);
        let bytes = entry.detail.len() + entry.resource.len() + 100;
        match batches.last_mut() {
            Some(batch)
                if batch.entries.len() < 10 && batch.bytes + bytes <= 900_000 && *batch.region == delivery.region =>
            {
                batch.bytes += bytes;
                batch.deliveries.push(delivery);
                batch.entries.push(entry);
            }
            _ => batches.push(Batch {
                region: &delivery.region,
                deliveries: vec![delivery],
                entries: vec![entry],
                bytes,
            }),
        }
    }
    batches
}

fn entry(partition: &str, change: &Change, delivery: &Delivery) -> Entry {
    let pipelines = delivery.pipelines.iter().map(ToString::to_string).collect();
    Entry {
        account: delivery.account.clone(),
        bus: bus_arn(partition, &delivery.account, &delivery.region),
        source: RELAY_SOURCE,
        detail_type: RELAY_DETAIL_TYPE,
        resource: change.repository.to_string(),
        detail: serde_json::to_string(&SourceChange::new(change.clone(), pipelines)).unwrap_or_default(),
    }
}
