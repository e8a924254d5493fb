//! event-relay sends each new head of a branch or tag once, to the event bus of every account that a route leads to.
//!
//! The function runs in the repository account and is **level-triggered**: an event is only a hint that a branch may
//! have moved. For a branch the function reads the head. If that head was already relayed, nothing happens; otherwise
//! the function gives the head the branch's next sequence and sends the head to every target. Late, repeated and lost
//! events, several pushes within a second and force-pushes therefore all lead to the current head.
//!
//! **Two phases.** The ledger records a change as `pending` before the first bus receives the change. The ledger
//! records the change as `relayed` when every target is settled: the target's bus has accepted the change, or the
//! dead-letter queue holds the change and the reason of the failure. If an invocation crashes between these two
//! records, Lambda's retry or the next reconcile finishes the change with the same sequence and id.
//!
//! | input | effect |
//! | --- | --- |
//! | an event about a moved reference or a merged pull request | relays the head of that branch or tag |
//! | schedule (`source` is `aws.events`) | compares every routed branch with the ledger, and finishes pending changes |
//! | `{"action":"explain","event":{…}}` | returns the plan for the event and its reason; writes and sends nothing |
//! | a target's report (`source` is `sekisho.starter`) | stores the report if it is about the target's current order |
//! | `{"action":"where"}` | returns a text that shows which revision runs in each target |
//! | `{"action":"resend","route":…,"account":…}` | sends the latest order of these targets again; returns a text |
//! | `{"action":"redeliver",…}` | sends a change from the dead-letter queue to its target again |
//!
//! The function returns `{"decisions":[…]}`, or a text where the table says so. Each decision has an [`Outcome`] and a
//! reason. An error that a retry can cure fails the invocation, so that Lambda retries the event.

mod answer;
pub mod aws;
pub mod branch;
mod decision_log;
pub mod delivery;
mod error;
#[cfg(feature = "testing")]
pub mod fake;
mod hint;
mod joining;
mod newest;
mod outcome;
mod plan;
pub mod redelivery;
mod relay;
mod repository;
mod request;
mod route;
mod run;
mod selection;
mod status;
pub mod target;
mod target_report;
mod target_request;
mod worklist;
pub mod world;

pub use answer::Answer;
pub use error::Error;
pub use outcome::Outcome;
pub use relay::Relay;
