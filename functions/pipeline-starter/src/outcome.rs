//! Outcomes, and the subjects of decisions.

use sekisho_domain::change::{Change, Revision};
use sekisho_domain::decision::Decision;
use sekisho_domain::route::PipelineName;
use sekisho_lambda::event;
use serde::Serialize;

use crate::order::OrderRow;
use crate::request::{ActionState, ChangedAlarm, EndedExecution};

/// The outcome of a decision about an event and one pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// An execution runs at the change's revision.
    Started,
    /// The order arrived before, the change was started before, or the notice was sent before.
    Duplicate,
    /// The pipeline has already received a newer order.
    Stale,
    /// No route of this account leads from the reference to a pipeline here, or the event names none of these
    /// pipelines.
    Filtered,
    /// The event needs no action.
    Ignored,
    /// The event is not trusted, or an order in it is malformed.
    Refused,
    /// A ledger row cannot be read. A person must correct the row.
    Failed,
    /// CodePipeline reported a failed execution, and the function sent the notice about the failure.
    ExecutionFailed,
    /// An order waits for its start or for the end of its bake, or an execution waits for the approval of a person, and
    /// the function sent the notice about the approval.
    Waiting,
    /// The execution of an order succeeded, and its bake ended well.
    Healthy,
    /// The bake of an order failed.
    Unhealthy,
    /// The target went back.
    RolledBack,
    /// An order ended without a verdict: somebody stopped its execution, another execution superseded it, or the alarms
    /// do not tell whether the revision is healthy.
    Unknown,
}

/// Adds the fields that identify the event to the decision about a payload that leads to no action.
pub(crate) fn about_payload(payload: &str, decision: Decision<Outcome>) -> Decision<Outcome> {
    const FIELDS: [(&str, &str); 5] = [
        ("event", "/id"),
        ("account", "/account"),
        ("repository", "/detail/change/repository"),
        ("ref", "/detail/change/ref"),
        ("id", "/detail/id"),
    ];
    event::about_payload(payload, &FIELDS, decision)
}

/// Adds the change and the pipeline to a decision about them.
pub(crate) fn about_change(change: &Change, pipeline: &PipelineName, decision: Decision<Outcome>) -> Decision<Outcome> {
    decision
        .about("repository", change.repository.as_str())
        .about("ref", change.source_ref.as_str())
        .about(if change.revision.is_digest() { "digest" } else { "commit" }, change.revision.as_str())
        .about("sequence", change.sequence.to_string())
        .about("id", change.id())
        .about("pipeline", pipeline.as_str())
}

/// Adds the first commit and the first image of an execution to a decision about it.
pub(crate) fn about_revisions(revisions: &[Revision], decision: Decision<Outcome>) -> Decision<Outcome> {
    let first = |is_digest| revisions.iter().find(|revision| revision.is_digest() == is_digest).map(Revision::as_str);
    decision.about_some("commit", first(false)).about_some("digest", first(true))
}

/// Adds an order to a decision about the order. An event without orders gives an implicit order, whose number is the
/// change's sequence.
pub(crate) fn about_order(row: &OrderRow, pipeline: &PipelineName, decision: Decision<Outcome>) -> Decision<Outcome> {
    let number = (!row.is_implicit).then(|| row.number.to_string());
    about_change(row.ordered(), pipeline, decision).about_some("order", number)
}

/// Adds the pipeline to a decision. Also adds the execution that ended, unless the decision names the execution that
/// was started.
pub(crate) fn about_execution(ended: &EndedExecution, decision: Decision<Outcome>) -> Decision<Outcome> {
    let names_execution = decision.concerns.contains_key("execution");
    let decision = decision.about("pipeline", &ended.pipeline);
    if names_execution { decision } else { decision.about("execution", &ended.id) }
}

/// The decision about an alarm that no order watches.
pub(crate) fn nothing_bakes(alarm: &ChangedAlarm) -> Decision<Outcome> {
    Decision::new(Outcome::Ignored, "no order that bakes watches this alarm").about("alarm", &alarm.name)
}

/// Adds the pipeline, the execution and the place to a decision about an action.
pub(crate) fn about_action(action: &ActionState, decision: Decision<Outcome>) -> Decision<Outcome> {
    decision.about("pipeline", &action.pipeline).about("execution", &action.execution).about("place", action.place())
}

/// The decision about an execution of a pipeline that no route leads to.
pub(crate) fn not_routed(ended: &EndedExecution) -> Decision<Outcome> {
    about_execution(ended, Decision::new(Outcome::Ignored, "no route starts this pipeline"))
}

/// The decision about an execution whose end needs no action.
pub(crate) fn nothing_waits(ended: &EndedExecution) -> Decision<Outcome> {
    about_execution(ended, Decision::new(Outcome::Ignored, "no order and no change waits for this pipeline"))
}
