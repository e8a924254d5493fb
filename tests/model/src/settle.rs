//! The time after the faults: schedules, events and executions go on, and nobody helps.

use sekisho_domain::report::ReportState;
use time::Duration;

use crate::bus::Bus;
use crate::check::{self, Broken, TARGETS, Traffic, is_followed, is_waiting, pins, target_row};
use crate::cloud::PLACES;
use crate::codepipeline::IMAGE;
use crate::deployment::FUNCTIONS;
use crate::history::History;
use crate::{developer, operator, publisher};
use pipeline_starter::world::ExecutionStatus::Running;

/// All orders must have been carried out after this many minutes without faults.
const MAX_MINUTES: usize = 12 * 60;
/// At least this many minutes pass without faults, so that at least two reconciles run.
const MIN_MINUTES: usize = 11;
/// The time for which nothing may happen after all orders have been carried out.
const QUIET_MINUTES: usize = 7;
/// After this many minutes, somebody looks whether the pipeline with two sources has both of them.
const HELP_MINUTES: usize = 30;
/// After this many steps, no invocation that began within a minute may still run.
const MAX_STEPS: usize = 100_000;

/// Runs the first reconcile after an upgrade without faults, and checks that it starts nothing.
pub(crate) fn first_reconcile(history: &mut History) -> Result<(), Broken> {
    history.cloud.chance.faults.set(false);
    let before = traces(history);
    for _ in 0..6 {
        run_minute(history)?;
    }
    history.cloud.chance.faults.set(true);
    if traces(history) == before { Ok(()) } else { Err(Broken("the first reconcile ordered something".to_owned())) }
}

/// Ends all faults and runs until every order has been carried out and every configuration is deployed.
pub(crate) fn settle(history: &mut History) -> Result<(), Broken> {
    history.cloud.chance.faults.set(false);
    for place in &history.cloud.places {
        place.codepipeline.repair();
        place.bus.open();
    }
    history.cloud.report_bus.open();
    let first = history.cloud.chance.below(FUNCTIONS.len());
    for index in 0..FUNCTIONS.len() {
        history.deploy(FUNCTIONS[(first + index) % FUNCTIONS.len()]);
        for _ in 0..history.cloud.chance.below(4) {
            run_minute(history)?;
        }
    }
    for minute in 0..MAX_MINUTES {
        end_executions(history);
        run_minute(history)?;
        if history.has_redrive && minute % 4 == 3 {
            history.redrive();
        }
        if minute % HELP_MINUTES == HELP_MINUTES - 1 {
            help_pair(history)?;
        }
        if minute >= MIN_MINUTES && unsettled(history)?.is_none() {
            history.report.dropped += history.lambda.dead.len();
            return stay_quiet(history);
        }
    }
    let what = unsettled(history)?.unwrap_or_default();
    Err(Broken(format!("after {MAX_MINUTES} minutes without faults, {what}")))
}

/// Pushes code or an image if the pipeline with two sources waits for it.
fn help_pair(history: &mut History) -> Result<(), Broken> {
    for target in &TARGETS {
        if !target.is_routed(history.deployment.newest) || !is_waiting(&history.cloud, target)? {
            continue;
        }
        match pins::lacking(history, target, &Traffic::read(&history.cloud)?)? {
            Some(IMAGE) => history.publish(|cloud, in_flight| publisher::push(cloud, in_flight, "live")),
            Some(_) => history.develop(developer::push_main),
            None => {}
        }
    }
    Ok(())
}

/// Checks that nothing happens once all orders have been carried out.
fn stay_quiet(history: &mut History) -> Result<(), Broken> {
    let before = traces(history);
    for _ in 0..QUIET_MINUTES {
        run_minute(history)?;
    }
    if traces(history) == before {
        Ok(())
    } else {
        Err(Broken("an order was offered or started after all orders had been carried out".to_owned()))
    }
}

/// The number of events on the buses of the places, and the number of executions.
fn traces(history: &History) -> Vec<usize> {
    let places = history.cloud.places.iter();
    places.flat_map(|place| [place.bus.accepted_count(), place.codepipeline.ordered_count()]).collect()
}

/// Ends some of the running executions.
fn end_executions(history: &mut History) {
    for place in 0..PLACES.len() {
        for (pipeline, id) in history.cloud.places[place].codepipeline.with_status(Running) {
            if history.cloud.chance.percent(40) {
                let History { cloud, in_flight, deeds, .. } = history;
                operator::end(cloud, in_flight, deeds, place, (&pipeline, &id));
            }
        }
    }
}

/// The reason why the history has not come to rest, or `None` if it has.
fn unsettled(history: &History) -> Result<Option<String>, Broken> {
    if !history.lambda.is_idle() || !history.in_flight.is_empty() || (history.has_redrive && has_dead(history)) {
        return Ok(Some("events are on their way".to_owned()));
    }
    if history.cloud.places.iter().any(|place| !place.codepipeline.with_status(Running).is_empty()) {
        return Ok(Some("executions run".to_owned()));
    }
    for target in &TARGETS {
        // An older order may still wait if the last one was refused, because its reference is not routed any more.
        if is_waiting(&history.cloud, target)? {
            return Ok(Some(format!("{}: an order waits for its start", target.id())));
        }
        if is_followed(&history.cloud, target)? {
            return Ok(Some(format!("{}: pipeline-starter has not seen the end of an execution", target.id())));
        }
        let row = target_row(&history.cloud, target)?;
        // If the target has its last order, but never had that of another source, the next reconcile places the latter
        // again.
        let has_order = row.current_report().is_some_and(|report| report.state != ReportState::Refused);
        let mut others = row.other.iter().chain(&row.more).filter(|other| other.open && has_order);
        if others.any(|other| check::is_led(history, target, &other.change)) {
            return Ok(Some(format!("{}: the change of another source has to be ordered again", target.id())));
        }
        let Some(order) = &row.order else { continue };
        if !check::is_led(history, target, &order.change) || check::is_not_offered(history, &row) {
            continue;
        }
        let state = row.current_report().map(|report| report.state);
        if !state.is_some_and(ReportState::is_final) {
            return Ok(Some(format!("{}: the last report on order {} is {state:?}", target.id(), order.number)));
        }
    }
    Ok(None)
}

fn has_dead(history: &History) -> bool {
    !history.lambda.dead.is_empty()
}

/// Lets a minute pass, then delivers all events and runs all invocations.
pub(crate) fn run_minute(history: &mut History) -> Result<(), Broken> {
    history.pass(Duration::minutes(1));
    for _ in 0..MAX_STEPS {
        history.retry();
        history.deliver_in_flight();
        history.deliver_order();
        history.deliver_report();
        if is_quiet(history) {
            return Ok(());
        }
        if !history.lambda.poll() && history.cloud.chance.below(8) == 0 {
            // The clock must move forward, because an invocation may sleep or wait for the end of a lease.
            history.pass(Duration::milliseconds(100));
        }
    }
    Err(Broken(format!("the history does not become quiet: {} invocations run", history.lambda.running())))
}

/// Whether no event is on its way and no invocation runs. Failed invocations may wait for their retries.
fn is_quiet(history: &History) -> bool {
    let mut buses = history.cloud.places.iter().map(|place| &place.bus).chain([&history.cloud.report_bus]);
    history.lambda.running() == 0 && history.in_flight.is_empty() && buses.all(Bus::is_empty)
}
