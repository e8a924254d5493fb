//! Every source action of an execution has a revision, and no revision that failed in a pipeline rides along with a new
//! one.

use std::collections::BTreeMap;

use pipeline_starter::order::token;
use pipeline_starter::world::ExecutionStatus;
use sekisho_domain::change::{Change, Revision, SourceKind};
use sekisho_domain::report::ReportState;
use time::Duration;

use super::executions::first_token;
use super::orders::{self, Orders};
use super::{Broken, Target, Traffic, is_waiting};
use crate::cloud::Cloud;
use crate::codepipeline::{Execution, IMAGE, SOURCE};
use crate::history::History;
use crate::operator;

/// pipeline-starter chooses the pins of a start in the same invocation, which lasts at most this long.
const LONGEST_INVOCATION: Duration = Duration::seconds(45);

/// The source action that gets the revision of a change.
pub(crate) fn action_of(change: &Change) -> &'static str {
    if change.repository.kind() == SourceKind::Image { IMAGE } else { SOURCE }
}

/// An execution with its order.
#[derive(Debug, Clone, Copy)]
struct Ordered<'o> {
    execution: &'o Execution,
    number: u64,
    change: &'o Change,
}

impl Ordered<'_> {
    /// Whether the execution has failed in or after its first action behind the sources, so that its revision failed.
    fn has_failed(&self) -> bool {
        self.execution.status == ExecutionStatus::Failed && !self.execution.failed_in_source()
    }
}

/// The executions that orders started, each with its order.
fn ordered<'o>(executions: &'o [Execution], target: &Target, orders: &'o Orders) -> Vec<Ordered<'o>> {
    let pipeline = target.id().pipeline;
    let tokens = orders.iter().map(|order| (token(&order.1, &pipeline, order.0, 0), order));
    let tokens: BTreeMap<String, &(u64, Change)> = tokens.collect();
    let find = |execution: &'o Execution| {
        let (number, change) = *tokens.get(first_token(execution)?)?;
        Some(Ordered { execution, number: *number, change })
    };
    executions.iter().filter_map(find).collect()
}

/// Checks that each execution that an order started has a pin for each source action, and that the revision of another
/// source than the order's did not fail here before.
pub(crate) fn are_right(history: &History, target: &Target, orders: &Orders) -> Result<(), Broken> {
    let codepipeline = &history.cloud.places[target.place].codepipeline;
    let actions = operator::actions(target.pipeline);
    let executions = codepipeline.executions(target.pipeline);
    for execution in executions.iter().filter(|execution| execution.token.is_some()) {
        if !execution.pins.keys().map(String::as_str).eq(actions.iter().copied()) {
            let id = &execution.id;
            return Err(Broken(format!("{}: {id} has pins for {:?}", target.id(), execution.pins.keys())));
        }
    }
    if actions.len() < 2 {
        return Ok(());
    }
    let all = ordered(&executions, target, orders);
    for one in &all {
        for (action, revision) in one.execution.pins.iter().filter(|(action, _)| *action != action_of(one.change)) {
            let wrong = |what: String| Err(Broken(format!("{}: {} {what}", target.id(), one.execution.id)));
            let was_ordered = |(number, change): &(u64, Change)| {
                *number < one.number && action_of(change) == action && change.revision == *revision
            };
            let is_first = |execution: &Execution| execution.token.is_none() && execution.runs(revision);
            if !orders.iter().any(was_ordered) && !executions.iter().any(is_first) {
                return wrong(format!("has {revision}, which nobody ordered"));
            }
            let chosen = codepipeline.first_sent(one.execution) - LONGEST_INVOCATION;
            if let Some(failed) = failed_before(&executions, &all, orders, (one, revision)).filter(|failed| {
                failed.execution.ended.is_some_and(|ended| ended < chosen) && failed.execution.retries == 0
            }) {
                return wrong(format!("has {revision}, which failed as {}", failed.execution.id));
            }
        }
    }
    Ok(())
}

/// The last execution that an earlier order for this revision started, if it failed and nobody ordered the revision
/// anew. A revision that was healthy here may come back.
fn failed_before<'o>(
    executions: &[Execution],
    all: &[Ordered<'o>],
    orders: &Orders,
    (one, revision): (&Ordered<'o>, &Revision),
) -> Option<Ordered<'o>> {
    let is_own = |earlier: &&Ordered<'_>| earlier.number < one.number && earlier.change.revision == *revision;
    let last = all.iter().filter(is_own).max_by_key(|earlier| (earlier.number, earlier.execution.started))?;
    let is_anew = |(number, change): &(u64, Change)| {
        (last.number + 1..one.number).contains(number) && change.revision == *revision
    };
    let was_healthy =
        |execution: &Execution| execution.status == ExecutionStatus::Succeeded && execution.runs(revision);
    let is_excused = orders.iter().any(is_anew) || executions.iter().any(was_healthy);
    Some(*last).filter(|last| last.has_failed() && !is_excused)
}

/// Checks that the other source action of the last execution runs at the revision that was ordered for it last or, if
/// that one failed, at another one.
pub(crate) fn are_desired(history: &History, target: &Target, orders: &Orders) -> Result<(), Broken> {
    if operator::actions(target.pipeline).len() < 2 || is_waiting(&history.cloud, target)? {
        return Ok(());
    }
    let executions = history.cloud.places[target.place].codepipeline.executions(target.pipeline);
    let all = ordered(&executions, target, orders);
    let Some(last) = all.last() else { return Ok(()) };
    let placed = placed(history, target);
    for (action, revision) in last.execution.pins.iter().filter(|(action, _)| *action != action_of(last.change)) {
        let Some((number, desired)) = newest_of(&placed, action) else { continue };
        let is_right = desired.revision == *revision || has_ever_failed(&all, *number);
        if !is_right && !is_forgotten(history, target, *number, desired) {
            let (id, desired) = (&last.execution.id, &desired.revision);
            return Err(Broken(format!("{}: {id} runs at {revision}, and {desired} was ordered", target.id())));
        }
    }
    Ok(())
}

/// Whether event-relay does not order a change again if the target has not taken its order: the image is gone, or the
/// order was lost with the ledger.
fn is_forgotten(history: &History, target: &Target, number: u64, change: &Change) -> bool {
    let is_gone = history.cloud.registry.gone_since(&change.revision).is_some();
    is_gone || !orders::since_loss(&history.cloud, target).iter().any(|order| order.number == number)
}

/// The orders that event-relay placed since its ledger exists, also those that no bus accepted. If the image of the
/// newest one is gone, nothing is ordered.
fn placed(history: &History, target: &Target) -> Orders {
    orders::since_loss(&history.cloud, target).into_iter().map(|order| (order.number, order.change)).collect()
}

/// The newest order for a source action.
fn newest_of<'o>(orders: &'o Orders, action: &str) -> Option<&'o (u64, Change)> {
    orders.iter().filter(|(_, change)| action_of(change) == action).max_by_key(|(number, _)| *number)
}

/// Whether an execution of this order ever failed, also in its source action.
fn has_ever_failed(all: &[Ordered<'_>], number: u64) -> bool {
    let mut own = all.iter().filter(|one| one.number == number).map(|one| one.execution);
    own.any(|execution| execution.status == ExecutionStatus::Failed || execution.retries > 0)
}

/// The number of executions whose other source was not at the revision of its newest order.
pub(crate) fn passed_over(cloud: &Cloud, target: &Target, orders: &Orders) -> usize {
    if operator::actions(target.pipeline).len() < 2 {
        return 0;
    }
    let executions = cloud.places[target.place].codepipeline.executions(target.pipeline);
    let is_passed_over = |one: &Ordered<'_>| {
        let earlier: Orders = orders.iter().filter(|(number, _)| *number < one.number).cloned().collect();
        one.execution.pins.iter().filter(|(action, _)| *action != action_of(one.change)).any(|(action, revision)| {
            newest_of(&earlier, action).is_some_and(|(_, newest)| newest.revision != *revision)
        })
    };
    ordered(&executions, target, orders).iter().filter(|one| is_passed_over(one)).count()
}

/// The source action without a revision for which the last order of a target may wait: nothing was healthy yet, and the
/// newest order of that action failed or was not taken, or there was none.
pub(crate) fn lacking(history: &History, target: &Target, traffic: &Traffic) -> Result<Option<&'static str>, Broken> {
    let actions = operator::actions(target.pipeline);
    let executions = history.cloud.places[target.place].codepipeline.executions(target.pipeline);
    let is_first = |execution: &Execution| execution.token.is_none() && execution.status == ExecutionStatus::Succeeded;
    // If a newer order came first, the success of an execution was not judged.
    let was_healthy = executions.first().is_some_and(is_first)
        || traffic.reports(target).any(|report| report.state == ReportState::Healthy);
    if actions.len() < 2 || was_healthy {
        return Ok(None);
    }
    let orders = orders::of(&history.cloud, traffic, target)?;
    let Some((_, newest)) = orders.iter().max_by_key(|(number, _)| *number) else { return Ok(None) };
    let other = actions.iter().find(|action| **action != action_of(newest));
    let all = ordered(&executions, target, &orders);
    let is_lacking = |(number, change): &(u64, Change)| {
        has_ever_failed(&all, *number) || is_forgotten(history, target, *number, change)
    };
    let placed = placed(history, target);
    Ok(other.copied().filter(|other| newest_of(&placed, other).is_none_or(is_lacking)))
}
