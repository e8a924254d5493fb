//! EventBridge: puts events on the buses of other accounts, with a client for each region.

use std::cell::RefCell;
use std::collections::HashMap;

use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::config::Builder;
use aws_sdk_eventbridge::config::Region as ClientRegion;
use aws_sdk_eventbridge::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_eventbridge::types::{PutEventsRequestEntry, PutEventsResultEntry};
use futures_util::future::join_all;
use sekisho_domain::account::Region;
use sekisho_domain::change::{RELAY_DETAIL_TYPE, RELAY_SOURCE};

use crate::world::{Entry, Taken};

/// What PutEvents says of an entry that may go better later; all else is for good.
const PASSING: [&str; 4] = ["InternalFailure", "InternalException", "ThrottlingException", "InternalServiceError"];

/// The buses of all regions.
#[derive(Debug)]
pub struct Buses {
    base: Builder,
    /// The function's own region, if it is known.
    home: Option<Region>,
    clients: RefCell<HashMap<Region, Client>>,
}

impl Buses {
    /// With what all clients share.
    #[must_use]
    pub fn new(aws: &sekisho_lambda::aws::SdkConfig) -> Self {
        let home = aws.region().and_then(|region| region.as_ref().parse().ok());
        Self { home, ..Self::from_builder(Builder::from(aws)) }
    }

    /// With a client's configuration, but for its region.
    #[must_use]
    pub fn from_builder(base: Builder) -> Self {
        Self { base, home: None, clients: RefCell::default() }
    }

    /// Makes the client for the function's own region, where most buses are.
    pub fn make_client(&self) {
        if let Some(home) = &self.home {
            self.client(home);
        }
    }

    /// A bus is reached at its own region's endpoint only.
    fn client(&self, region: &Region) -> Client {
        let mut clients = self.clients.borrow_mut();
        let make = || Client::from_conf(self.base.clone().region(ClientRegion::new(region.to_string())).build());
        clients.entry(region.clone()).or_insert_with(make).clone()
    }

    /// Puts up to 10 entries, and reads each one's result.
    ///
    /// Where a call as a whole is refused for good, each entry is put by itself: one bus that does not exist, or does
    /// not let us in, must not keep the event from the others.
    pub async fn put(&self, region: &Region, entries: &[Entry]) -> Vec<Taken> {
        let client = self.client(region);
        match put(&client, entries).await {
            Ok(taken) => taken,
            Err(Taken::Never(_)) if entries.len() > 1 => {
                // All at once: one after the other, ten calls of 15 s each outlast the function.
                let alone = entries.iter().map(async |entry| match put(&client, std::slice::from_ref(entry)).await {
                    Ok(mut one) => one.pop().unwrap_or_else(no_result),
                    Err(refused) => refused,
                });
                join_all(alone).await
            }
            Err(refused) => vec![refused; entries.len()],
        }
    }
}

async fn put(client: &Client, entries: &[Entry]) -> Result<Vec<Taken>, Taken> {
    let request = entries.iter().map(|entry| {
        PutEventsRequestEntry::builder()
            .event_bus_name(&entry.bus)
            .source(RELAY_SOURCE)
            .detail_type(RELAY_DETAIL_TYPE)
            .resources(&entry.resource)
            .detail(&entry.detail)
            .build()
    });
    match client.put_events().set_entries(Some(request.collect())).send().await {
        // Results come in the order of the entries, and a success of the call says nothing about them.
        Ok(answer) => {
            let mut taken: Vec<Taken> = answer.entries.unwrap_or_default().iter().map(result).collect();
            taken.resize_with(entries.len(), no_result);
            Ok(taken)
        }
        Err(error) => {
            let said = match (error.code(), error.message()) {
                (Some(code), Some(message)) => format!("{code}: {message}"),
                (Some(code), None) => code.to_owned(),
                _ => sekisho_lambda::failure::chain(&error),
            };
            let is_final = match &error {
                SdkError::ServiceError(service) => {
                    service.raw().status().as_u16() < 500
                        && !error.code().is_some_and(|code| PASSING.contains(&code) || code.contains("Throttl"))
                }
                SdkError::ConstructionFailure(_) => true,
                _ => false,
            };
            Err(if is_final { Taken::Never(said) } else { Taken::Later(said) })
        }
    }
}

fn result(entry: &PutEventsResultEntry) -> Taken {
    match (&entry.event_id, &entry.error_code) {
        (Some(_), None) => Taken::Yes,
        (_, Some(code)) => {
            let said = format!("{code}: {}", entry.error_message.as_deref().unwrap_or("no message"));
            if PASSING.contains(&code.as_str()) { Taken::Later(said) } else { Taken::Never(said) }
        }
        (None, None) => no_result(),
    }
}

fn no_result() -> Taken {
    Taken::Later("PutEvents gave no result for the entry".to_owned())
}
