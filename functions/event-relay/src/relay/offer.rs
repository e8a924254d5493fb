//! Offers orders: sends them to the event buses of their targets' accounts. The ledger has each order before it is
//! offered, so an offer that is lost is repeated by a later reconcile.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use futures_util::{StreamExt, stream};
use sekisho_domain::route::TargetId;

use crate::delivery::{OrderEvent, batches, group};
use crate::run::{CONCURRENT_CALLS, Run};
use crate::target::PlacedOrder;
use crate::world::{EntryResult, World};

/// The most times that one offer sends an event again that a bus did not accept for a passing reason.
const MAX_RETRIES: usize = 3;
/// No call begins when only this time is left: one attempt of a call takes up to 5 s, and the decisions must be
/// recorded afterwards. If a call needs more attempts, Lambda may end the invocation; the orders are in the ledger all
/// the same.
const RESERVE: Duration = Duration::from_secs(10);
/// The reason for a bus to which nothing was sent.
const NO_TIME: &str = "no time was left to send the order";

/// The orders of one event that its bus did not accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotAccepted {
    /// The targets of the event, which are in one account and region.
    pub(crate) targets: Vec<TargetId>,
    /// The bus's error, or the reason why nothing was sent.
    pub(crate) reason: String,
    /// Whether the bus refused the event, so that only a person can help.
    pub(crate) is_refused: bool,
}

/// The result of an offer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Offered {
    /// The number of events that their buses accepted. Each account and region gets one event for each change.
    pub(crate) accepted: usize,
    /// The other events.
    pub(crate) not_accepted: Vec<NotAccepted>,
}

impl Offered {
    /// The number of events.
    pub(crate) fn all(&self) -> usize {
        self.accepted + self.not_accepted.len()
    }

    /// Adds the result of another offer.
    pub(crate) fn extend(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.not_accepted.extend(other.not_accepted);
    }
}

/// Sends orders to the buses of their targets. A bus that does not accept an event is no error: the caller reports it,
/// and a later reconcile offers the order again.
pub(crate) async fn offer<W: World>(run: &Run<'_, W>, orders: &[(TargetId, PlacedOrder)]) -> Offered {
    let events = group(orders);
    let mut open: Vec<&OrderEvent<'_>> = events.iter().collect();
    let mut offered = Offered::default();
    let mut pauses = ExponentialBuilder::default()
        .with_jitter()
        .with_jitter_seed(run.invocation.jitter_seed())
        .with_min_delay(Duration::from_millis(200))
        .with_max_times(MAX_RETRIES)
        .build();
    loop {
        let mut passing = Vec::new();
        for (event, result) in put(run, &open).await {
            match result {
                EntryResult::Accepted => offered.accepted += 1,
                EntryResult::Refused(reason) => offered.not_accepted.push(not_accepted(event, reason, true)),
                EntryResult::Retryable(reason) => passing.push((event, reason)),
            }
        }
        let pause = pauses.next().filter(|pause| run.time_left() > *pause + RESERVE);
        let (Some(pause), false) = (pause, passing.is_empty()) else {
            offered.not_accepted.extend(passing.into_iter().map(|(event, reason)| not_accepted(event, reason, false)));
            offered.not_accepted.sort_by(|one, other| one.targets.cmp(&other.targets));
            return offered;
        };
        run.world.sleep(pause).await;
        open = passing.into_iter().map(|(event, _)| event).collect();
    }
}

fn not_accepted(event: &OrderEvent<'_>, reason: String, is_refused: bool) -> NotAccepted {
    NotAccepted { targets: event.targets().collect(), reason, is_refused }
}

/// Sends each event once, with several calls at a time.
async fn put<'e, 'o, W: World>(
    run: &Run<'_, W>,
    events: &[&'e OrderEvent<'o>],
) -> Vec<(&'e OrderEvent<'o>, EntryResult)> {
    let batches = batches(&run.invocation.partition, events);
    let results: Vec<Vec<_>> = stream::iter(batches)
        .map(async |batch| {
            let _permit = run.calls.acquire().await;
            let results = if run.time_left() > RESERVE {
                run.world.put_events(batch.region, &batch.entries).await
            } else {
                vec![EntryResult::Retryable(NO_TIME.to_owned()); batch.entries.len()]
            };
            batch.events.into_iter().zip(results).collect()
        })
        .buffer_unordered(CONCURRENT_CALLS)
        .collect()
        .await;
    results.into_iter().flatten().collect()
}
