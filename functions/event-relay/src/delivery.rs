//! The targets of a change, and the events that carry the change to the targets.

use sekisho_domain::account::{AccountId, Region};
use sekisho_domain::change::{Change, RELAY_DETAIL_TYPE, RELAY_SOURCE, SourceChange};
use sekisho_domain::route::PipelineName;
use sekisho_lambda::eventbridge::bus_arn;
use serde::{Deserialize, Serialize};

use crate::world::Entry;

/// The most entries that EventBridge accepts in one PutEvents call.
const MAX_ENTRIES: usize = 10;
/// The most bytes of details in one PutEvents call. EventBridge accepts 1 MB; the difference is for the other fields.
const MAX_BYTES: usize = 900_000;
/// The most bytes of deliveries in one row. DynamoDB accepts a row of 400 KB; the difference is for the change and for
/// the event ids of a tag. The deliveries to about 6,000 accounts fit into a row.
const MAX_ROW_BYTES: usize = 384_000;

/// A target account and region, and the pipelines in this account and region that get the change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Delivery {
    /// The account that owns the bus and the pipelines.
    pub account: AccountId,
    /// The region of the bus and the pipelines.
    pub region: Region,
    /// The pipelines, sorted by name.
    pub pipelines: Vec<PipelineName>,
}

/// A delivery that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Undelivered {
    pub(crate) delivery: Delivery,
    /// The bus's error, or the reason why the change was not sent again.
    pub(crate) reason: String,
}

/// Whether a ledger row can hold the deliveries. DynamoDB counts 44 bytes for each delivery, and in addition the bytes
/// of its region and of the names of its pipelines.
pub(crate) fn fit_row(deliveries: &[Delivery]) -> bool {
    let pipelines = |d: &Delivery| d.pipelines.iter().map(|pipeline| pipeline.as_str().len() + 1).sum::<usize>();
    let bytes: usize = deliveries.iter().map(|d| 44 + d.region.as_str().len() + pipelines(d)).sum();
    bytes <= MAX_ROW_BYTES
}

/// The entries of one PutEvents call, all for buses of one region.
#[derive(Debug)]
pub(crate) struct Batch<'d> {
    pub(crate) region: &'d Region,
    pub(crate) deliveries: Vec<&'d Delivery>,
    /// One entry for each delivery, in the same order.
    pub(crate) entries: Vec<Entry>,
    bytes: usize,
}

/// Divides the deliveries into PutEvents calls, each for one region and within PutEvents' limits.
pub(crate) fn batches<'d>(partition: &str, change: &Change, deliveries: &'d [Delivery]) -> Vec<Batch<'d>> {
    let mut sorted: Vec<&Delivery> = deliveries.iter().collect();
    sorted.sort_by_key(|delivery| (&delivery.region, &delivery.account));
    let mut batches: Vec<Batch<'d>> = Vec::new();
    for delivery in sorted {
        let entry = entry(partition, change, delivery);
        let bytes = entry.detail.len() + entry.resource.len() + 100;
        match batches.last_mut() {
            Some(batch)
                if batch.entries.len() < MAX_ENTRIES
                    && batch.bytes + bytes <= MAX_BYTES
                    && *batch.region == delivery.region =>
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
        detail: to_json(&SourceChange::new(change.clone(), pipelines)),
    }
}

/// The JSON text of a struct. The structs that this crate passes have only strings and numbers, so the conversion
/// cannot fail.
pub(crate) fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
