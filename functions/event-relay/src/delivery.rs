//! The targets of a change, and the events that carry orders to the targets.

use std::collections::BTreeMap;

use sekisho_domain::account::{AccountId, Region};
use sekisho_domain::change::{Change, RELAY_DETAIL_TYPE, RELAY_SOURCE, SourceChange};
use sekisho_domain::order::Order;
use sekisho_domain::route::{PipelineName, TargetId};
use sekisho_lambda::eventbridge::bus_arn;
use serde::{Deserialize, Serialize};

use crate::target::PlacedOrder;
use crate::world::Entry;

/// The most entries that EventBridge accepts in one PutEvents call.
const MAX_ENTRIES: usize = 10;
/// The most bytes of details in one PutEvents call. EventBridge accepts 1 MB; the difference is for the other fields.
const MAX_BYTES: usize = 900_000;
/// The most bytes of deliveries and targets in one row. DynamoDB accepts a row of 400 KB; the difference is for the
/// change. The deliveries to about 6,000 accounts fit into a row.
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

impl Delivery {
    /// The targets that get the change.
    pub(crate) fn targets(&self) -> impl Iterator<Item = TargetId> {
        let Self { account, region, pipelines } = self;
        pipelines.iter().map(|pipeline| TargetId {
            account: account.clone(),
            region: region.clone(),
            pipeline: pipeline.clone(),
        })
    }
}

/// Groups targets by account and region. The targets are sorted, and so are the deliveries.
pub(crate) fn deliveries<'t>(targets: impl IntoIterator<Item = &'t TargetId>) -> Vec<Delivery> {
    let mut deliveries: Vec<Delivery> = Vec::new();
    for TargetId { account, region, pipeline } in targets {
        match deliveries.last_mut() {
            Some(last) if last.account == *account && last.region == *region => last.pipelines.push(pipeline.clone()),
            _ => deliveries.push(Delivery {
                account: account.clone(),
                region: region.clone(),
                pipelines: vec![pipeline.clone()],
            }),
        }
    }
    deliveries
}

/// Whether the row of a reference can hold the deliveries of a pending change together with the other targets. DynamoDB
/// counts 44 bytes for each delivery, and in addition the bytes of its region and of the names of its pipelines.
pub(crate) fn fit_row(deliveries: &[Delivery], others: &[TargetId]) -> bool {
    let pipelines = |d: &Delivery| d.pipelines.iter().map(|pipeline| pipeline.as_str().len() + 1).sum::<usize>();
    let bytes: usize = deliveries.iter().map(|d| 44 + d.region.as_str().len() + pipelines(d)).sum();
    bytes + target_bytes(others) <= MAX_ROW_BYTES
}

/// Whether the row of a reference can hold these targets.
pub(crate) fn fit_targets(targets: &[TargetId]) -> bool {
    target_bytes(targets) <= MAX_ROW_BYTES
}

/// The bytes that DynamoDB counts for a list of targets, each as text.
fn target_bytes(targets: &[TargetId]) -> usize {
    let bytes = |id: &TargetId| id.account.as_str().len() + id.region.as_str().len() + id.pipeline.as_str().len() + 3;
    targets.iter().map(bytes).sum()
}

/// The event that brings orders to one account and region. All its orders are about one change.
#[derive(Debug)]
pub(crate) struct OrderEvent<'o> {
    account: &'o AccountId,
    region: &'o Region,
    change: &'o Change,
    orders: BTreeMap<PipelineName, Order>,
}

impl OrderEvent<'_> {
    /// The targets of the orders.
    pub(crate) fn targets(&self) -> impl Iterator<Item = TargetId> {
        self.orders.keys().map(|pipeline| TargetId {
            account: self.account.clone(),
            region: self.region.clone(),
            pipeline: pipeline.clone(),
        })
    }

    fn entry(&self, partition: &str) -> Entry {
        Entry {
            account: self.account.clone(),
            bus: bus_arn(partition, self.account, self.region),
            source: RELAY_SOURCE,
            detail_type: RELAY_DETAIL_TYPE,
            resource: self.change.repository.to_string(),
            detail: to_json(&SourceChange::with_orders(self.change.clone(), &self.orders)),
        }
    }
}

/// Groups orders into events, sorted by region and account. An account and region gets one event for each change.
pub(crate) fn group(orders: &[(TargetId, PlacedOrder)]) -> Vec<OrderEvent<'_>> {
    let mut events: BTreeMap<_, OrderEvent<'_>> = BTreeMap::new();
    for (TargetId { account, region, pipeline }, placed) in orders {
        let change = &placed.change;
        let key = (region, account, &change.repository, &change.source_ref, change.sequence, &change.revision);
        let new = || OrderEvent { account, region, change, orders: BTreeMap::new() };
        events.entry(key).or_insert_with(new).orders.insert(pipeline.clone(), placed.order());
    }
    events.into_values().collect()
}

/// The events of one PutEvents call, all for buses of one region.
#[derive(Debug)]
pub(crate) struct Batch<'e, 'o> {
    pub(crate) region: &'e Region,
    pub(crate) events: Vec<&'e OrderEvent<'o>>,
    /// One entry for each event, in the same order.
    pub(crate) entries: Vec<Entry>,
    bytes: usize,
}

/// Divides events into PutEvents calls, each for one region and within PutEvents' limits. The events are sorted by
/// region.
pub(crate) fn batches<'e, 'o>(partition: &str, events: &[&'e OrderEvent<'o>]) -> Vec<Batch<'e, 'o>> {
    let mut batches: Vec<Batch<'e, 'o>> = Vec::new();
    for event in events {
        let entry = event.entry(partition);
        let bytes = entry.detail.len() + entry.resource.len() + 100;
        match batches.last_mut() {
            Some(batch)
                if batch.entries.len() < MAX_ENTRIES
                    && batch.bytes + bytes <= MAX_BYTES
                    && batch.region == event.region =>
            {
                batch.bytes += bytes;
                batch.events.push(event);
                batch.entries.push(entry);
            }
            _ => batches.push(Batch { region: event.region, events: vec![event], entries: vec![entry], bytes }),
        }
    }
    batches
}

/// The JSON text of a struct. The structs that this crate passes have only strings and numbers, so the conversion
/// cannot fail.
fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
