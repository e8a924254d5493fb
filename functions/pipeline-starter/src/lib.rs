//! pipeline-starter turns a relayed change into one execution of each routed pipeline, at exactly the change's commit
//! and in the order of the changes.
//!
//! The function runs in every pipeline account. A rule on the bus `sekisho` invokes the function. The function trusts
//! only the event's outer `account`, which EventBridge sets. The function starts only the pipelines to which this
//! account's **own** configuration routes the repository and reference. The event's `pipelines` can narrow that
//! selection, but cannot widen it.
//!
//! **Claims.** For each pipeline and reference, the ledger holds the newest sequence that the pipeline has received. A
//! change that was started before is a `duplicate`. A change with a smaller sequence is `stale`. Before a start, the
//! function claims the row for the length of a lease. If an invocation crashes between claim and start, another
//! invocation repeats the start with the same client request token. If CodePipeline does not accept a start in time,
//! the invocation gives the claim back. Lambda's retry, a newer change or the end of an execution of that pipeline then
//! claims the row again.
//!
//! | input | action |
//! | --- | --- |
//! | `Source Change` from the repository account | start the pipelines |
//! | `CodePipeline Pipeline Execution State Change` of this account | send a notice about a failure; start waiting changes |
//! | `CodePipeline Action Execution State Change` of this account | send a notice if the action waits for an approval |
//! | `{"action":"explain","event":{…}}` | explain what would happen and why; nothing is written or started |
//!
//! The function returns `{"decisions":[…]}` with the outcomes `started`, `duplicate`, `stale`, `filtered`, `ignored`,
//! `refused`, `failed`, `execution-failed` and `waiting` (for an approval). If a retry may succeed, the invocation fails
//! instead.

pub mod aws;
pub mod claim;
mod end;
mod error;
#[cfg(feature = "testing")]
pub mod fake;
mod notice;
pub mod order;
mod outcome;
mod pause;
mod plan;
pub mod report;
mod request;
mod results;
mod routing;
mod run;
#[cfg(test)]
mod sample;
mod search;
mod starter;
mod variables;
pub mod world;

pub use error::Error;
pub use outcome::Outcome;
pub use starter::Starter;
