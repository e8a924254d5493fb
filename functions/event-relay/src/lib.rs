//! event-relay orders every target to run the newest head that a route leads to it, and repeats each order until its
//! target has reported on it. A target is a pipeline of an account and region.
//!
//! The function runs in the repository account and is **level-triggered**: an event is only a hint that a branch, a tag
//! or the tag of an image may have moved. The function reads the head, which is a commit of CodeCommit or the digest of
//! an image of ECR. If that head was already relayed, nothing happens; otherwise the head becomes a change with a new
//! sequence, and each target of its routes gets an order. Late, repeated and lost events, several pushes within a
//! second and force-pushes therefore all lead to the current head.
//!
//! **Images.** Only container images and their indexes are relayed: a tag that points at a signature or at anything
//! else is ignored and leaves no row. Of several new images that a reconcile finds, the one that was pushed last is the
//! newest change. An image that was deleted or archived is not ordered: before an order for a digest that was not just
//! read as the head of its tag, the digest is read.
//!
//! **Orders.** The ledger has one row for each target, with the order that the target got last. The number of an order
//! is larger than the number of every earlier order to the same target, whatever the branches or tags of the orders
//! are. A target that should already run the revision gets no order, and neither does a target that should run a change
//! that was seen later. If a pipeline has two sources, code and an image, each source has its own newest change. One
//! transaction writes the rows of the targets together with the row of the branch or tag; only then are the orders sent
//! to the buses. If more targets get the change than one transaction can hold, the change is *pending* until the last
//! transaction. If the invocation ends before that, the next invocation continues the change with the same sequence and
//! id.
//!
//! **Offers.** A bus that does not accept an order fails nothing. Every reconcile offers the open orders again: those
//! that their targets did not answer or refused, after five minutes at first and after an hour at most, and those that
//! have not finished for an hour. No redrive and no person is necessary for that.
//!
//! **The reconcile** finds changes without an event: heads whose event was lost, targets that a route leads to only
//! now, and references that no longer exist, whose rows expire after 90 days. A reference that existed before a route
//! covered it is recorded as a *baseline* and not ordered, unless the route names it literally or has
//! `existing = "relay"`. If an event about a recorded head arrives later, the head is new after all and is ordered. A
//! repository that fails, or for which no time is left, comes first in the next reconcile.
//!
//! | input | effect |
//! | --- | --- |
//! | an event about a moved reference, a merged pull request or a pushed image | orders the head of the branch or tag |
//! | schedule (`source` is `aws.events`) | compares all routed references, and offers open orders again |
//! | `{"action":"explain","event":{…}}` | returns the plan for the event and its reason; writes and sends nothing |
//! | a target's report (`source` is `sekisho.starter`) | stores the report if it is about the target's current order |
//! | `{"action":"where"}` | returns a text that shows which revision runs in each target |
//! | `{"action":"resend","route":…,"account":…}` | sends the latest order of these targets again; returns a text |
//! | `{"action":"train","route":…}` | returns a text that shows where every change is, and what each wave waits for |
//! | `hold`, `resume`, `accept`, `promote`, `pardon`, `rollback` | changes a train as a person asks; returns a text |
//! | `widgetContext` or `describe` | returns the widget `trains` as HTML, or its documentation; writes nothing |
//! | anything through the alias `board` | answers questions and dry runs; refuses the rest, and writes nothing |
//! | `{"action":"redeliver",…}` | a message of an earlier version: offers the order, or orders the newest change |
//!
//! The function returns `{"decisions":[…]}`, or a text where the table says so. Each decision has an [`Outcome`] and a
//! reason. An error that a retry can cure fails the invocation, so that Lambda retries the event.

pub mod aws;
pub mod branch;
mod caches;
mod code;
mod decision_log;
pub mod delivery;
mod error;
#[cfg(feature = "testing")]
pub mod fake;
mod heads;
mod hint;
pub mod image;
mod joining;
mod newest;
mod next;
mod notice;
mod ordering;
mod outcome;
mod plan;
mod reconcile_row;
pub mod redelivery;
mod relay;
mod repository;
mod request;
mod route;
mod run;
mod selection;
mod snapshot;
mod sources;
mod status;
pub mod target;
mod target_report;
mod target_request;
pub mod train;
mod train_effect;
mod train_request;
mod train_text;
mod wave;
mod widget;
mod worklist;
pub mod world;

pub use error::Error;
pub use outcome::{Answer, Outcome};
pub use relay::Relay;
