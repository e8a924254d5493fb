//! pipeline-starter turns an order into one execution of a pipeline, at exactly the commit or image of the order's
//! change, and answers event-relay with reports on the order.
//!
//! The function runs in every pipeline account. A rule on the bus `sekisho` invokes the function. The function trusts
//! only the event's outer `account`, which EventBridge sets. The function starts only the pipelines to which this
//! account's **own** configuration routes the repository and reference. The event's `pipelines` can narrow that
//! selection, but cannot widen it.
//!
//! **Orders.** An event gives each pipeline an order with a number. An event without orders counts as an order whose
//! number is the change's sequence. The ledger holds the newest order of each pipeline ([`order::OrderRow`]). A larger
//! number ends the older order, whatever its reference was. An order that arrives again is a `duplicate`, and an older
//! one is `stale`: both start nothing, and are answered with the last report. An order that the configuration does not
//! route, and an order that cannot be read, are reported as refused; event-relay offers them again. A refused order
//! does not end the older order, because this account does not run the refused one. A number, or a sequence without an
//! order, that is more than a day ahead of the clock is refused without a report, because it would make every later
//! order stale.
//!
//! **Starts.** Before a start, the function claims the row for the length of a lease, which outlasts every invocation
//! by any clock. If an invocation crashes, or if a start gets no answer, nothing is started before CodePipeline's list
//! must show what the earlier attempt has started; the function searches this list first, and every attempt has the
//! same client request token. A newer order waits as long as a call of an older order may still take effect. A start
//! that CodePipeline defers or rejects leaves the order waiting. People get one notice about a rejection, also if
//! CodePipeline refuses the list; no person has to send the order again.
//!
//! **Sources.** Routes may feed several source actions of one pipeline, such as code and an image. No execution starts
//! with an unpinned source. The order's own source is pinned at its revision, and every other source at the revision of
//! its own newest order here ([`pins`]). If that order failed or was taken back, its last healthy revision is pinned.
//! If there is none, the order waits. The row holds what this needs ([`sources::RowSources`]): the newest order of each
//! other source, and the sets of pins that were healthy. What is healthy is the whole set, and a way back restores the
//! whole set: an order of kind `rollback` pins the newest healthy set with its revision. Before the first order, the
//! last successful execution counts as healthy. The pins are in the row before the start, so a search for a lost start
//! goes by the whole set. If an earlier order's execution had not ended when the newer order came, the list of
//! executions is read before the start, because the event about a failure may be late or lost.
//!
//! **Variables.** The values of a target's variables may contain `{tag}`, `{branch}`, `{commit}`, `{digest}`,
//! `{image}`, `{previous}` and `{order}`. With several sources, a placeholder takes its value from the first source
//! that has one, and the order's own source comes first. The names of branches and tags are inserted as they are, and
//! git allows `$(…)`, `;` and quotes in these names. A build command must therefore read such a variable from its
//! environment, in double quotes, and must never be composed of its text.
//!
//! **Ends.** A success makes the order healthy, and its revision good. A failure ends the order, except in a source
//! action: then the order is started again for two hours. An execution that CodePipeline canceled is started again up
//! to three times. If somebody stopped or superseded the execution, the result is not known. A retried stage begins
//! another run of the execution and reopens a failure; events about earlier runs change nothing, except a success. An
//! execution that no order started changes no order. If it ends after the order's execution, reports mention it.
//!
//! **Bakes.** An order of a wave has the field `bake`. A target bakes if the order or the target's wave in the own
//! configuration says so, for the longer time of the two, with the alarms of the own wave, and with the settings that
//! were in force when the order started ([`bake::Bake`]). Before the start, these alarms must be quiet, or the order
//! waits; an order that a person promoted starts all the same. After the execution has succeeded, the alarms are read
//! once a minute and whenever an event says that one of them rings. An alarm that rings fails the bake at once, also if
//! it is quiet again when the event arrives, or when the function learns late that the execution has ended. At the
//! end, the history of the whole time decides, so that no ringing is missed. If the alarms cannot tell, for example
//! because one of them was edited or deleted, the result is not known. If no alarm matches, a report says so when the
//! bake begins. A reading that CloudWatch throttles is repeated for an hour. The orders of an invocation share the
//! lists of alarms. A list from before the beginning of a bake is read again for that bake, and one that is older than
//! five seconds is read again before a start.
//!
//! **Ways back.** If the bake fails, or if the execution fails after a deploy action has begun, the target goes back to
//! the commit that was last healthy, under the same order ([`way_back::WayBack`]). The rollback starts before the
//! report and the notice about it are sent, because the repository account may not answer. If there is nothing to go
//! back to, or if the rollback fails, the target stays as it is. A rollback is never rolled back, does not bake, and
//! does not wait for alarms; an order of kind `rollback` needs only its repository to be routed. Before a rollback, the
//! function stops executions of its orders that wait for their turn or for an approval. If nothing has been deployed
//! since the commit was healthy, an order of kind `rollback` starts nothing.
//!
//! **Reports.** The row holds each report before it is sent, with a time that is later than those of all earlier
//! reports about the pipeline. A report that the bus does not accept is sent again with the same time.
//!
//! **Follow-up.** Once a minute, the function reads all orders of the account with one query. It starts orders that
//! wait, takes up starts that a crash left behind, looks at executions whose end it may have missed, reads the alarms
//! of orders that bake, and sends reports that the bus has not accepted. What has been due for the longest time comes
//! first. If nothing is due, the follow-up writes nothing. A failure is logged every minute. If it will not pass by
//! itself, it is also the decision `failed`: once for each order if CodePipeline refuses to return the status of an
//! execution, and once an hour if a row cannot be read or the ledger fails. The follow-up never fails the invocation,
//! because the schedule repeats it.
//!
//! | input | action |
//! | --- | --- |
//! | `Source Change` from the repository account | start the pipelines, and report |
//! | `CodePipeline Pipeline Execution State Change` of this account | report; notify about a failure; start an order |
//! | `CodePipeline Action Execution State Change` of this account | send a notice if the action waits for an approval |
//! | `CloudWatch Alarm State Change` of this account | read the alarms of the orders that bake |
//! | an event of the schedule (`aws.events`) of this account | follow up |
//! | `{"action":"explain","event":{…}}` | explain what would happen and why; nothing is written, sent or started |
//! | `widgetContext` or `describe` | return the widget `pipelines` as HTML, or its documentation; nothing is written |
//! | anything through the alias `board` | explain; everything else is refused, and nothing is written |
//!
//! Apart from widgets, the function returns `{"decisions":[…]}` with the outcomes `started`, `duplicate`, `stale`, `filtered`, `ignored`,
//! `refused`, `failed`, `waiting` (for a start, for an approval or for the end of a bake), `execution-failed`,
//! `healthy`, `unhealthy` (the bake failed), `rolled-back` and `unknown`. A decision about an order has the field
//! `order`, unless the event had no order. An order whose row or whose claim cannot be read is `failed`, and reported
//! as waiting. Only a problem with the ledger, or a notice that could not be sent, fails the invocation.
//!
//! **Earlier versions.** Versions without orders kept a claim for each pipeline and reference ([`claim::ClaimRow`]). As
//! long as a pipeline has no order, all its claims are read; later, an order reads the claim of its reference in the
//! same call as the row. An order for a change that such a version started continues with that execution. A change that
//! such a version left waiting starts only through its event or the end of an execution. CloudFormation may bring such
//! a version back. Therefore the claims that wait are closed when the pipeline gets its first order, and each start is
//! written into the claim of its reference: the earlier version then starts nothing twice, and no older change. The
//! first order of a pipeline takes seven calls because of the claims; every later one takes six, unless it bakes or
//! goes back. While CloudFormation has brought back a version without bakes, no bake is judged, and no target goes back
//! by itself. The next deployment of this version judges each bake to its end, and continues each way back.

pub mod aws;
pub mod bake;
pub mod claim;
mod conclusion;
mod destination;
mod end;
mod error;
#[cfg(feature = "testing")]
pub mod fake;
mod judge;
mod notice;
pub mod order;
mod outcome;
pub mod pins;
mod plan;
pub mod report;
mod request;
mod results;
mod routing;
mod run;
#[cfg(test)]
mod sample;
mod search;
pub mod sources;
mod starter;
mod variables;
pub mod way_back;
mod widget;
pub mod world;

pub use error::Error;
pub use outcome::Outcome;
pub use starter::{Answer, Starter};
