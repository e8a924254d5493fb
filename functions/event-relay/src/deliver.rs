//! Brings a change to its targets' buses: in batches, several in flight, each entry's own result read.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use futures_util::{StreamExt, TryStreamExt, stream};
use sekisho_domain::account::{AccountId, Region};
use sekisho_domain::change::{Change, SourceChange};
use sekisho_domain::route::PipelineName;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::world::{Entry, Taken, Unanswered, World};

/// The bus's name in every pipeline account.
pub const BUS: &str = "sekisho";
/// PutEvents takes 10 entries …
const ENTRIES: usize = 10;
/// … of together less than 1 MB; a good part of it is left for what surrounds the details.
const BYTES: usize = 900_000;
/// Calls at once. More would only queue for the CPU that 128 MB have.
const IN_FLIGHT: usize = 8;
/// How often an entry is offered again that its bus did not take for now.
const RETRIES: usize = 6;
/// Time that is kept for a call that has begun (three tries of 5 s) and to write down what is left.
pub(crate) const RESERVE: Duration = Duration::from_secs(20);

/// One target account and region, and the pipelines there that the change concerns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Delivery {
    /// Whose bus.
    pub account: AccountId,
    /// In which region.
    pub region: Region,
    /// In the order of their names.
    pub pipelines: Vec<PipelineName>,
}

/// The message in the dead-letter queue for a delivery that its bus will never take as things are: sent to the
/// function as it is, it is delivered again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redelivery {
    /// Always `redeliver`.
    pub action: String,
    /// Why it could not be delivered.
    pub reason: String,
    /// The change.
    pub change: Change,
    /// To whom.
    pub delivery: Delivery,
}

/// How it went.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Refused for good, with the reason.
    pub failed: Vec<(Delivery, String)>,
    /// Offered, and not taken in the time there was, with the reason.
    pub left: Vec<(Delivery, String)>,
    /// Never offered: there was no time.
    pub untried: Vec<Delivery>,
}

/// Offers the change to every delivery's bus until each has it, refuses it for good, or time is short.
pub async fn deliver<W: World>(
    world: &W,
    partition: &str,
    change: &Change,
    deliveries: &[Delivery],
    deadline: OffsetDateTime,
) -> Delivered {
    let mut delivered = Delivered::default();
    let mut open: Vec<Delivery> = deliveries.to_vec();
    let mut pauses = ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(5))
        .with_max_times(RETRIES)
        .build();
    let mut is_first = true;
    loop {
        let mut later = offer(world, partition, change, &open, deadline, &mut delivered).await;
        if !std::mem::take(&mut is_first) {
            // Whoever has a further round has been offered it in the first.
            let again = |delivery| (delivery, "there was no time left to offer it again".to_owned());
            later.extend(delivered.untried.drain(..).map(again));
        }
        if later.is_empty() {
            break;
        }
        match pauses.next() {
            Some(pause) if pause + RESERVE < left(world, deadline) => {
                world.sleep(pause).await;
                open = later.into_iter().map(|(delivery, _)| delivery).collect();
            }
            _ => {
                delivered.left = later;
                break;
            }
        }
    }
    delivered.failed.sort();
    delivered
}

/// Sends to the dead-letter queue what its bus does not take, each with the reason.
///
/// # Errors
/// Where the queue did not take one; everything is then to be delivered again.
pub async fn dead_letter<W: World>(
    world: &W,
    change: &Change,
    failed: &[(Delivery, String)],
) -> Result<(), Unanswered> {
    stream::iter(failed.iter().map(Ok))
        .try_for_each_concurrent(IN_FLIGHT, async |(delivery, reason)| {
            let message = Redelivery {
                action: "redeliver".to_owned(),
                reason: reason.clone(),
                change: change.clone(),
                delivery: delivery.clone(),
            };
            world.dead_letter(to_json(&message)).await
        })
        .await
}

fn left<W: World>(world: &W, deadline: OffsetDateTime) -> Duration {
    Duration::try_from(deadline - world.now()).unwrap_or_default()
}

/// One offer to each; what was refused for good is noted, what may be taken later returned.
async fn offer<W: World>(
    world: &W,
    partition: &str,
    change: &Change,
    open: &[Delivery],
    deadline: OffsetDateTime,
    delivered: &mut Delivered,
) -> Vec<(Delivery, String)> {
    let calls = batches(partition, change, open);
    let answers: Vec<_> = stream::iter(&calls)
        .map(async |batch| {
            let entries: Vec<Entry> = batch.iter().map(|(_, entry)| entry.clone()).collect();
            let region = batch.first().map(|(delivery, _)| &delivery.region);
            match region {
                Some(region) if left(world, deadline) > RESERVE => (batch, Some(world.put(region, &entries).await)),
                _ => (batch, None),
            }
        })
        .buffer_unordered(IN_FLIGHT)
        .collect()
        .await;
    let mut later = Vec::new();
    for (batch, taken) in answers {
        let Some(taken) = taken else {
            delivered.untried.extend(batch.iter().map(|(delivery, _)| (*delivery).clone()));
            continue;
        };
        for ((delivery, _), taken) in batch.iter().zip(taken) {
            match taken {
                Taken::Yes => {}
                Taken::Later(reason) => later.push(((*delivery).clone(), reason)),
                Taken::Never(reason) => delivered.failed.push(((*delivery).clone(), reason)),
            }
        }
    }
    later.sort();
    later
}

/// Calls by region, each within PutEvents' limits.
fn batches<'d>(partition: &str, change: &Change, open: &'d [Delivery]) -> Vec<Vec<(&'d Delivery, Entry)>> {
    let mut sorted: Vec<&Delivery> = open.iter().collect();
    sorted.sort_by_key(|delivery| (&delivery.region, &delivery.account));
    let mut calls: Vec<Vec<(&Delivery, Entry)>> = Vec::new();
    let mut bytes = 0;
    for delivery in sorted {
        let entry = entry(partition, change, delivery);
        let size = entry.detail.len() + entry.resource.len() + 100;
        match calls.last_mut() {
            Some(call)
                if call.len() < ENTRIES
                    && bytes + size <= BYTES
                    && call.first().is_some_and(|(first, _)| first.region == delivery.region) =>
            {
                bytes += size;
                call.push((delivery, entry));
            }
            _ => {
                bytes = size;
                calls.push(vec![(delivery, entry)]);
            }
        }
    }
    calls
}

fn entry(partition: &str, change: &Change, delivery: &Delivery) -> Entry {
    let pipelines = delivery.pipelines.iter().map(ToString::to_string).collect();
    Entry {
        account: delivery.account.clone(),
        bus: format!("arn:{partition}:events:{}:{}:event-bus/{BUS}", delivery.region, delivery.account),
        resource: change.repository.to_string(),
        detail: to_json(&SourceChange::new(change.clone(), pipelines)),
    }
}

/// These values are structs of strings and numbers: they always have a JSON text.
fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
