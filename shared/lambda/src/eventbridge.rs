//! EventBridge: puts events on buses of other accounts, with one client for each region.

use std::cell::RefCell;
use std::collections::HashMap;

use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::config::Builder;
use aws_sdk_eventbridge::config::Region as ClientRegion;
use aws_sdk_eventbridge::types::{PutEventsRequestEntry, PutEventsResultEntry};
use futures_util::future::join_all;
use sekisho_domain::account::{AccountId, Region};

use crate::aws::SdkConfig;
use crate::service_error::{ServiceError, is_throttling};

/// The name of the event bus in every account: orders go to the buses of the pipeline accounts, and reports go to the
/// bus of the repository account.
const BUS: &str = "sekisho";

/// One event for one bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The account that owns the bus.
    pub account: AccountId,
    /// The ARN of the bus.
    pub bus: String,
    /// The event's source, such as `sekisho.relay`.
    pub source: &'static str,
    /// The event's detail type.
    pub detail_type: &'static str,
    /// The ARN of the repository.
    pub resource: String,
    /// The event's detail, as JSON.
    pub detail: String,
}

/// The ARN of the bus `sekisho` of an account and region.
#[must_use]
pub fn bus_arn(partition: &str, account: &AccountId, region: &Region) -> String {
    format!("arn:{partition}:events:{region}:{account}:event-bus/{BUS}")
}

/// The result of one entry of a PutEvents call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryResult {
    /// The bus accepted the event.
    Accepted,
    /// The bus did not accept the event, or the answer was lost. The text is the reason. A later attempt may succeed.
    Retryable(String),
    /// The bus refused the event for this reason. Later attempts fail too, until a person fixes the cause.
    Refused(String),
}

/// The error codes of failures inside EventBridge. After one of these codes, or after throttling, a later attempt may
/// succeed. After every other code, later attempts fail too.
const INTERNAL: [&str; 3] = ["InternalFailure", "InternalException", "InternalServiceError"];

/// The buses of all regions.
#[derive(Debug)]
pub struct Buses {
    base: Builder,
    /// The function's own region, if it is known.
    home: Option<Region>,
    clients: RefCell<HashMap<Region, Client>>,
}

impl Buses {
    /// Stores the configuration for the clients. Each client is made when it is first used.
    #[must_use]
    pub fn new(aws: &SdkConfig) -> Self {
        let home = aws.region().and_then(|region| region.as_ref().parse().ok());
        Self { base: Builder::from(aws), home, clients: RefCell::default() }
    }

    /// Makes the client for the function's own region, where most buses are.
    pub fn make_client(&self) {
        if let Some(home) = &self.home {
            self.client(home);
        }
    }

    /// The client for a region. A bus can be reached only through the endpoint of its own region.
    fn client(&self, region: &Region) -> Client {
        let mut clients = self.clients.borrow_mut();
        let make = || Client::from_conf(self.base.clone().region(ClientRegion::new(region.to_string())).build());
        clients.entry(region.clone()).or_insert_with(make).clone()
    }

    /// Puts up to 10 entries on their buses, and returns one result for each entry.
    ///
    /// If EventBridge refuses the whole call permanently, each entry is sent again in a call of its own, because a bus
    /// that does not exist or denies access must not keep the event from the other buses.
    pub async fn put_events(&self, region: &Region, entries: &[Entry]) -> Vec<EntryResult> {
        let client = self.client(region);
        match put_events(&client, entries).await {
            Ok(results) => results,
            Err(EntryResult::Refused(_)) if entries.len() > 1 => {
                // All calls run at once. Ten calls of up to 15 s, one after the other, would take longer than the
                // function's timeout.
                let single =
                    entries.iter().map(async |entry| match put_events(&client, std::slice::from_ref(entry)).await {
                        Ok(mut results) => results.pop().unwrap_or_else(no_result),
                        Err(failed) => failed,
                    });
                join_all(single).await
            }
            Err(failed) => vec![failed; entries.len()],
        }
    }
}

/// Makes one call. If the whole call fails, `Err` holds the result that every entry gets.
async fn put_events(client: &Client, entries: &[Entry]) -> Result<Vec<EntryResult>, EntryResult> {
    let request = entries.iter().map(|entry| {
        PutEventsRequestEntry::builder()
            .event_bus_name(&entry.bus)
            .source(entry.source)
            .detail_type(entry.detail_type)
            .resources(&entry.resource)
            .detail(&entry.detail)
            .build()
    });
    match client.put_events().set_entries(Some(request.collect())).send().await {
        // The results are in the order of the entries. Single entries can fail although the call succeeds.
        Ok(answer) => {
            let mut results: Vec<EntryResult> = answer.entries.unwrap_or_default().iter().map(result).collect();
            results.resize_with(entries.len(), no_result);
            Ok(results)
        }
        Err(error) => {
            let error = ServiceError::new("EventBridge's PutEvents", error);
            let is_internal = error.code().is_some_and(|code| INTERNAL.contains(&code));
            let reason = error.description();
            let is_final = error.is_refused() && !is_internal;
            Err(if is_final { EntryResult::Refused(reason) } else { EntryResult::Retryable(reason) })
        }
    }
}

fn result(entry: &PutEventsResultEntry) -> EntryResult {
    match (&entry.event_id, &entry.error_code) {
        (Some(_), None) => EntryResult::Accepted,
        (_, Some(code)) => {
            let reason = format!("{code}: {}", entry.error_message.as_deref().unwrap_or("no message"));
            let is_retryable = is_throttling(code) || INTERNAL.contains(&code.as_str());
            if is_retryable { EntryResult::Retryable(reason) } else { EntryResult::Refused(reason) }
        }
        (None, None) => no_result(),
    }
}

fn no_result() -> EntryResult {
    EntryResult::Retryable("PutEvents returned no result for the entry".to_owned())
}
