//! Outcomes, and the decisions that several use cases make.

use std::collections::BTreeMap;

use sekisho_domain::change::{Change, Revision};
use sekisho_domain::decision::{self, Decision};
use sekisho_domain::route::PipelineName;
use sekisho_lambda::event;
use sekisho_lambda::failure::chain;
use serde::Serialize;

use crate::delivery::Delivery;
use crate::error::Error;
use crate::hint::Hint;

/// What an invocation returns.
pub type Answer = decision::Answer<Outcome>;

/// The outcome of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// A new head was ordered. The decision has the number of buses that accepted it; the others are offered it again.
    Relayed,
    /// An order without a new head: a target joined, or an order was sent again.
    Ordered,
    /// The head existed before a route covered it: it was recorded and not ordered.
    Baseline,
    /// A target's report was stored.
    Reported,
    /// A change entered a wave.
    Entered,
    /// The change's revision enters no wave: a wave failed with it, or a person sent it back.
    Condemned,
    /// A person lets nothing enter a wave or a train.
    Held,
    /// A person ended a hold.
    Resumed,
    /// A person takes an unknown target for healthy.
    Accepted,
    /// A person lets a change enter a wave ahead of the train.
    Promoted,
    /// A person lets a condemned change be tried again.
    Pardoned,
    /// The head or report was handled before.
    Duplicate,
    /// The targets should run a change that was seen later.
    Superseded,
    /// No route matches, or the change touches no routed path.
    Filtered,
    /// The event needs no action.
    Ignored,
    /// The event or message is not trusted.
    Refused,
    /// A person must fix the cause; a retry would not help.
    Failed,
}

/// Adds the reference of `hint` to a decision.
pub(crate) fn about_hint(hint: &Hint, decision: Decision<Outcome>) -> Decision<Outcome> {
    decision
        .about("repository", hint.repository.as_str())
        .about("ref", hint.source_ref.as_str())
        .about_some("event", hint.event.as_deref())
}

/// The name under which a decision has a revision.
pub(crate) fn revision_key(revision: &Revision) -> &'static str {
    if revision.is_digest() { "digest" } else { "commit" }
}

/// Makes `change` the subject of a decision. The fields of the change replace the subject that the decision had before.
pub(crate) fn about_change(change: &Change, decision: Decision<Outcome>) -> Decision<Outcome> {
    let concerns = BTreeMap::from([
        ("repository", change.repository.to_string()),
        ("ref", change.source_ref.to_string()),
        (revision_key(&change.revision), change.revision.to_string()),
        ("sequence", change.sequence.to_string()),
        ("id", change.id()),
    ]);
    Decision { concerns, ..decision }.about_some("event", change.event.as_deref())
}

/// Adds the fields that identify an event to the decision that ignores or refuses the event.
pub(crate) fn about_payload(payload: &str, decision: Decision<Outcome>) -> Decision<Outcome> {
    const FIELDS: [(&str, &str); 8] = [
        ("event", "/id"),
        ("account", "/account"),
        ("repository", "/detail/repositoryName"),
        ("ref", "/detail/referenceFullName"),
        ("repository", "/detail/repository-name"),
        ("tag", "/detail/image-tag"),
        ("region", "/detail/region"),
        ("pipeline", "/detail/pipeline"),
    ];
    event::about_payload(payload, &FIELDS, decision)
}

/// The decision about an error that no retry cures.
pub(crate) fn needs_repair(error: &Error) -> Decision<Outcome> {
    Decision::new(Outcome::Failed, format!("{}: fix the cause; the next reconcile tries again", chain(error)))
}

/// The decision not to send the pending change to the pipelines of `dropped`, because no route leads to these pipelines
/// any more.
pub(crate) fn no_longer_routed(change: &Change, dropped: &Delivery) -> Decision<Outcome> {
    let pipelines: Vec<&str> = dropped.pipelines.iter().map(PipelineName::as_str).collect();
    let reason = format!("the pending change is no longer routed to {}: it is not sent there", pipelines.join(", "));
    about_change(change, Decision::new(Outcome::Filtered, reason))
        .about("account", dropped.account.as_str())
        .about("region", dropped.region.as_str())
}
