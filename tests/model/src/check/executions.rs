//! Each order starts once and never after a newer one, and each target runs its last order.

use std::collections::BTreeMap;

use event_relay::target::PlacedOrder;
use pipeline_starter::order::token;
use pipeline_starter::world::ExecutionStatus;
use sekisho_domain::change::Change;
use sekisho_domain::report::ReportState;
use time::Duration;

use super::orders::Orders;
use super::pins::action_of;
use super::reports::Reports;
use super::{Broken, Target, is_led, is_not_offered, target_row};
use crate::codepipeline::Execution;
use crate::history::History;

/// The number of cancellations after which an order is started again.
const MAX_CANCELLATIONS: usize = 3;

/// Checks that the executions run the target's orders, that no order has two executions at a time or starts again
/// without need, and that none starts after a newer one.
pub(crate) fn start_once_and_in_order(history: &History, target: &Target, orders: &Orders) -> Result<(), Broken> {
    let executions = history.cloud.places[target.place].codepipeline.executions(target.pipeline);
    let pipeline = target.id().pipeline;
    let first_tokens = orders.iter().map(|order| (token(&order.1, &pipeline, order.0, 0), order));
    let ordered: BTreeMap<String, &(u64, Change)> = first_tokens.collect();
    let mut last: Option<(&u64, &Execution)> = None;
    for execution in executions.iter().filter(|execution| execution.token.is_some()) {
        let Some((number, change)) = first_token(execution).and_then(|token| ordered.get(token)) else {
            if history.upgrade.has_execution(target.place, &execution.id) {
                continue;
            }
            return Err(Broken(format!("{}: {} belongs to no order", target.id(), execution.id)));
        };
        if execution.pins.get(action_of(change)) != Some(&change.revision) {
            return Err(Broken(format!("{}: {} does not run the revision of its order", target.id(), execution.id)));
        }
        // A later order may lead back to what an earlier version ran, if another execution followed.
        let is_first = last.is_none_or(|(earlier, _)| earlier != number);
        let is_theirs =
            |one: &&Execution| history.upgrade.has_execution(target.place, &one.id) && one.runs(&change.revision);
        let before = executions.iter().take_while(|one| one.id != execution.id);
        let leads_back = before.skip_while(|one| !is_theirs(one)).nth(1).is_some();
        if is_first && !leads_back && history.upgrade.has_started(target.place, target.pipeline, change) {
            return Err(Broken(format!("{}: {} repeats an earlier version's", target.id(), execution.id)));
        }
        match last {
            Some((last, _)) if last > number => {
                return Err(Broken(format!("{}: went back from order {last} to {number}", target.id())));
            }
            Some((last, earlier)) if last == number && !is_restart(earlier, execution) => {
                return Err(Broken(format!(
                    "{}: order {number} started twice, as {} ({:?}) and {}",
                    target.id(),
                    earlier.id,
                    earlier.status,
                    execution.id
                )));
            }
            _ => last = Some((number, execution)),
        }
    }
    Ok(())
}

/// Whether an execution may take the place of an earlier one of the same order.
fn is_restart(earlier: &Execution, later: &Execution) -> bool {
    earlier.may_be_repeated() && earlier.ended.is_some_and(|ended| ended <= later.started)
}

/// The executions of the same order as `last`.
fn of_same_order<'e>(executions: &'e [Execution], last: &'e Execution) -> impl Iterator<Item = &'e Execution> {
    executions.iter().filter(|execution| first_token(execution) == first_token(last))
}

/// The token of the first start of the execution's order. The token of a restart is the same with a suffix.
pub(crate) fn first_token(execution: &Execution) -> Option<&str> {
    execution.token.as_deref().and_then(|token| token.split('-').next())
}

/// The number of executions of an order that CodePipeline canceled.
fn cancellations(executions: &[Execution], last: &Execution) -> usize {
    of_same_order(executions, last).filter(|execution| execution.status == ExecutionStatus::Canceled).count()
}

/// Whether an order whose source action fails was tried for about two hours.
fn has_been_patient(executions: &[Execution], last: &Execution) -> bool {
    let first = of_same_order(executions, last).find(|execution| execution.failed_in_source());
    first.is_some_and(|first| last.started - first.started > Duration::minutes(80))
}

/// Checks that the target has reported the end of its last order, and that its last execution ended as reported. An
/// order that no route of the last configuration leads to the target is not checked.
pub(crate) fn run_the_last_order(history: &History, target: &Target, reports: &Reports) -> Result<(), Broken> {
    let row = target_row(&history.cloud, target)?;
    let is_led = |order: &&PlacedOrder| is_led(history, target, &order.change);
    let Some(order) = row.order.as_ref().filter(is_led) else { return Ok(()) };
    if is_not_offered(history, &row) {
        return Ok(());
    }
    let wrong = |what: &str| Err(Broken(format!("{}: order {}: {what}", target.id(), order.number)));
    let Some(report) = row.current_report().filter(|report| report.state.is_final()) else {
        return wrong("the target has not reported the end");
    };
    if reports.values().rfind(|sent| sent.number == order.number).is_none_or(|last| last.at != report.at) {
        return wrong("event-relay does not have the last report");
    }
    if report.revision != order.change.revision {
        return wrong("the report is about another revision");
    }
    let executions = history.cloud.places[target.place].codepipeline.executions(target.pipeline);
    let Some(last) = executions.iter().rfind(|execution| execution.token.is_some()) else {
        return wrong("nothing was started");
    };
    if !last.runs(&order.change.revision) {
        return wrong(&format!("the last execution {} runs another revision", last.id));
    }
    if report.execution.as_ref() != Some(&last.id) {
        return wrong(&format!("the report names {:?}, and the last execution is {}", report.execution, last.id));
    }
    let agrees = match report.state {
        ReportState::Healthy => last.status == ExecutionStatus::Succeeded,
        // The events about a retried stage may be lost.
        ReportState::Failed if last.failed_in_source() => has_been_patient(&executions, last),
        ReportState::Failed => last.status == ExecutionStatus::Failed || last.retries > 0,
        ReportState::Unknown if last.status == ExecutionStatus::Canceled => {
            cancellations(&executions, last) > MAX_CANCELLATIONS
        }
        ReportState::Unknown => matches!(last.status, ExecutionStatus::Stopped | ExecutionStatus::Superseded),
        _ => false,
    };
    if agrees {
        Ok(())
    } else {
        wrong(&format!("the report is {:?}, and {} is {:?}", report.state, last.id, last.status))
    }
}
