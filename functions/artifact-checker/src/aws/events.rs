//! EventBridge: events about findings, on the default bus of the account.

use sekisho_lambda::eventbridge::{Entry, EntryResult};
use sekisho_lambda::telemetry;
use tracing::warn;

use crate::finding::FindingEvent;
use crate::run::Run;

const SOURCE: &str = "sekisho.checker";
const DETAIL_TYPE: &str = "Artifact Finding";
/// The most entries of one call.
const ENTRIES: usize = 10;

/// Sends events. A lost event is only logged, because the ledger has the state of every finding.
pub(crate) async fn put<L>(run: &Run<'_, L>, events: &[FindingEvent]) {
    let invocation = run.invocation;
    let bus =
        format!("arn:{}:events:{}:{}:event-bus/default", invocation.partition, invocation.region, invocation.account);
    for events in events.chunks(ENTRIES) {
        let entry = |event: &FindingEvent| Entry {
            account: invocation.account.clone(),
            bus: bus.clone(),
            source: SOURCE,
            detail_type: DETAIL_TYPE,
            resource: event.resource(&invocation.partition, &bus),
            detail: telemetry::json(event),
        };
        let entries: Vec<Entry> = events.iter().map(entry).collect();
        let results = run.clients.buses.put_events(&invocation.region, &entries).await;
        for (event, result) in events.iter().zip(results) {
            if let EntryResult::Retryable(reason) | EntryResult::Refused(reason) = result {
                warn!(event.json = telemetry::json(event), reason, "the event about a finding was not sent");
            }
        }
    }
}
