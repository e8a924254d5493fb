//! The time after the faults: the train must come to rest, and a good change must then reach every target, or `train`
//! must name what keeps it.

use event_relay::target::{self, PlacedOrder, TargetRow};
use event_relay::train::{self, Condemned, Judge, TrainRow, Verdict};
use pipeline_starter::order::{self, OrderRow, Progress};
use pipeline_starter::world::ExecutionStatus;
use sekisho_domain::change::Revision;
use sekisho_domain::order::OrderKind;
use sekisho_domain::report::{OrderReport, ReportState};
use sekisho_domain::route::Retreat;
use sekisho_domain::timestamp::epoch_millis;
use sekisho_testing::invocation::invocation;
use serde_json::json;
use time::Duration;

use crate::check::Broken;
use crate::cloud::{PLACES, REPOSITORY_ACCOUNT};
use crate::configuration;
use crate::deployment::FUNCTIONS;
use crate::history::History;
use crate::repository::SHOP;
use crate::settle::run_minute;
use crate::train::TrainHistory;
use crate::train::answer::{self, Answer};
use crate::train::configuration::{ROUTE, TARGETS, TOLERANT, alarm, tolerated, wave_names, waves};
use crate::train::pair;
use crate::train::people::{self, Action, Request};
use crate::train::witness::{is_given_up, read};

/// The train must have come to rest after this many minutes without faults.
const MAX_MINUTES: usize = 14 * 60;
/// The train rests if nothing happens for this many minutes.
const QUIET_MINUTES: usize = 25;
/// A person who helps looks at the train after this many minutes.
const LOOK_MINUTES: usize = 15;

/// Ends all faults, and lets the train come to rest. Then a good change arrives.
pub(crate) fn settle(train: &mut TrainHistory) -> Result<(), Broken> {
    end_faults(train)?;
    rest(train, None)?;
    check_way_back(train)?;
    check_condemned(train)?;
    pair::check_sources(&train.history.cloud)?;
    let fix = {
        let History { cloud, in_flight, .. } = &mut train.history;
        people::push_fix(cloud, in_flight)
    };
    // In half of the histories, a person does what `train` asks for. Then the change must reach every target.
    let helps = train.history.has_redrive;
    rest(train, helps.then_some(&fix))?;
    if !helps {
        pair::check_sources(&train.history.cloud)?;
    }
    check_condemned(train)?;
    check_end(train, &fix, helps)
}

fn end_faults(train: &mut TrainHistory) -> Result<(), Broken> {
    let history = &mut train.history;
    history.cloud.chance.faults.set(false);
    let now = history.cloud.clock.now.get();
    for place in &history.cloud.places {
        place.codepipeline.repair();
        place.bus.open();
        place.cloudwatch.repair(now);
    }
    history.cloud.report_bus.open();
    history.cloud.report_bus.refused_sender.set(None);
    for function in FUNCTIONS {
        history.deployment.deploy(function);
        run_minute(history)?;
    }
    // Nobody orders anything any more for a target that left the route, so a person repairs it.
    let routed = waves(history.deployment.newest).concat();
    for (place, pipeline) in TARGETS.into_iter().filter(|target| !routed.contains(target)) {
        history.cloud.places[place].cloudwatch.deployed(&alarm(pipeline), now, Duration::ZERO, None);
    }
    train.good_images_from = history.cloud.registry.pushed_count() + 1;
    train.good_from = history.cloud.repositories[SHOP].commits().len() as u64 + 1;
    Ok(())
}

/// Runs until nothing happens any more. A person who helps lets the change `fix` through.
fn rest(train: &mut TrainHistory, fix: Option<&Revision>) -> Result<(), Broken> {
    let mut quiet = 0;
    let mut before = traces(&train.history);
    for minute in 0..MAX_MINUTES {
        work(train);
        run_minute(&mut train.history)?;
        train.watch()?;
        if train.history.has_redrive && minute % 4 == 3 {
            train.history.redrive();
        }
        if let Some(fix) = fix.filter(|_| minute % LOOK_MINUTES == LOOK_MINUTES - 1) {
            if unreached(train, fix)?.is_empty() {
                return Ok(());
            }
            help(train, fix)?;
        }
        let after = traces(&train.history);
        quiet = if after == before { quiet + 1 } else { 0 };
        before = after;
        if fix.is_none() && quiet >= QUIET_MINUTES && unsettled(train)?.is_none() {
            return Ok(());
        }
    }
    let what = match fix {
        Some(fix) => Some(format!("{:?} do not run {fix}: {}", unreached(train, fix)?, text(train)?)),
        None => unsettled(train)?,
    };
    Err(Broken(format!("after {MAX_MINUTES} minutes without faults, {}", what.unwrap_or("events go on".to_owned()))))
}

/// Lets executions go on, and approves what waits.
fn work(train: &mut TrainHistory) {
    for place in 0..PLACES.len() {
        let running = train.history.cloud.places[place].codepipeline.with_status(ExecutionStatus::Running);
        for (pipeline, id) in running {
            if train.history.cloud.chance.percent(40) {
                train.end(place, &pipeline, &id);
            }
        }
    }
}

/// The number of orders and reports, and the number of executions.
fn traces(history: &History) -> Vec<usize> {
    let places = history.cloud.places.iter();
    let mut traces: Vec<usize> =
        places.flat_map(|place| [place.bus.accepted_count(), place.codepipeline.ordered_count()]).collect();
    traces.push(history.cloud.report_bus.accepted_count());
    traces
}

/// What is still going on.
fn unsettled(train: &TrainHistory) -> Result<Option<String>, Broken> {
    let history = &train.history;
    if !history.lambda.is_idle() || !history.in_flight.is_empty() {
        return Ok(Some("events are on their way".to_owned()));
    }
    if history.cloud.places.iter().any(|place| !place.codepipeline.with_status(ExecutionStatus::Running).is_empty()) {
        return Ok(Some("executions run".to_owned()));
    }
    for (place, pipeline) in targets(train) {
        let name = format!("{place}/{pipeline}");
        if let Some(row) = starter_row(train, place, pipeline)? {
            let is_ended = matches!(row.progress, Progress::Ended(_)) || row.awaits_alarms;
            if !is_ended {
                return Ok(Some(format!("{name}: order {} has progress {:?}", row.number, row.progress)));
            }
        }
        let row = relay_row(train, place, pipeline)?;
        let Some(order) = &row.order else { continue };
        let state = row.current_report().map(|report| report.state);
        // A condemned change is not offered any more to a target that refused it or never answered.
        let has_refused = order.withdrawn && state == Some(ReportState::Refused);
        if has_refused || is_given_up(&row, epoch_millis(history.cloud.clock.now.get())) {
            continue;
        }
        if !state.is_some_and(|state| state.is_final() || state == ReportState::Waiting) {
            return Ok(Some(format!("{name}: the last report on order {} is {state:?}", order.number)));
        }
    }
    Ok(None)
}

/// The targets of the last configuration.
fn targets(train: &TrainHistory) -> Vec<(usize, &'static str)> {
    waves(train.history.deployment.newest).concat()
}

fn starter_row(train: &TrainHistory, place: usize, pipeline: &str) -> Result<Option<OrderRow>, Broken> {
    let id = configuration::target(place, pipeline);
    read(&train.history.cloud.places[place].ledger, &order::key(&id.pipeline))
}

fn relay_row(train: &TrainHistory, place: usize, pipeline: &str) -> Result<TargetRow, Broken> {
    let key = target::key(&configuration::target(place, pipeline));
    Ok(read(&train.history.cloud.relay_ledger, &key)?.unwrap_or_default())
}

fn train_row(train: &TrainHistory) -> Result<TrainRow, Broken> {
    Ok(read(&train.history.cloud.relay_ledger, &train::key(ROUTE))?.unwrap_or_default())
}

/// The targets that are not healthy at a commit.
fn unreached(train: &TrainHistory, commit: &Revision) -> Result<Vec<(usize, &'static str)>, Broken> {
    let features = train.history.deployment.newest;
    let tolerant = if features.has(TOLERANT) { waves(features)[2].clone() } else { Vec::new() };
    let mut unreached = Vec::new();
    for (place, pipeline) in targets(train) {
        let row = relay_row(train, place, pipeline)?;
        let report = row.current_report();
        let is_healthy = report.is_some_and(|report| match report.state {
            ReportState::Healthy => true,
            // A wave may tolerate that one of its targets stays as it is until the next change.
            ReportState::Failed | ReportState::RolledBack => tolerant.contains(&(place, pipeline)),
            _ => false,
        });
        if !is_healthy || row.order.is_none_or(|order| order.change.revision != *commit) {
            unreached.push((place, pipeline));
        }
    }
    Ok(unreached)
}

/// Does what the train waits for: ends holds, accepts unknown targets, pardons the good change, and promotes what waits
/// for alarms.
fn help(train: &mut TrainHistory, fix: &Revision) -> Result<(), Broken> {
    for hold in train_row(train)?.holds {
        send(train, &Request::new(Action::Resume, hold.wave.as_deref(), None));
        send(train, &Request::new(Action::Resume, None, None));
    }
    if train_row(train)?.condemned.iter().any(|one| one.revision == *fix) {
        send(train, &Request::new(Action::Pardon, None, Some(fix)));
    }
    let features = train.history.deployment.newest;
    for (name, targets) in wave_names(features).into_iter().zip(waves(features)) {
        let (mut is_unknown, mut waiting) = (false, None);
        for (place, pipeline) in targets {
            let row = relay_row(train, place, pipeline)?;
            let is_open = |report: &OrderReport| report.state == ReportState::Unknown || report.in_source;
            is_unknown |= row.current_report().is_some_and(is_open);
            let awaits = starter_row(train, place, pipeline)?.is_some_and(|row| row.awaits_alarms);
            waiting = row.order.map(|order| order.change.revision).filter(|_| awaits).or(waiting);
        }
        if is_unknown {
            send(train, &Request::new(Action::Accept, Some(name), None));
        }
        if let Some(waiting) = waiting {
            send(train, &Request::new(Action::Promote, Some(name), Some(&waiting)));
        }
    }
    Ok(())
}

/// Sends a request whose invocation runs at once. It may be refused, because the train went on in the meantime.
fn send(train: &mut TrainHistory, request: &Request) {
    train.report.requests += 1;
    let _ = ask(train, request);
}

/// The answer to a request whose invocation runs at once.
fn ask(train: &TrainHistory, request: &Request) -> Result<String, Broken> {
    answer_to(train, &request.payload())
}

fn answer_to(train: &TrainHistory, payload: &str) -> Result<String, Broken> {
    let deadline = train.history.cloud.clock.now.get() + Duration::minutes(1);
    let invocation = invocation("model", REPOSITORY_ACCOUNT, deadline);
    let answer = train.history.deployment.ask(payload, &invocation).map_err(Broken)?;
    serde_json::from_str(&answer).map_err(|error| Broken::of(&error))
}

/// The answer to the request `train`.
fn text(train: &TrainHistory) -> Result<String, Broken> {
    ask(train, &Request::new(Action::Train, None, None))
}

/// Checks that no target still has a condemned change if something was healthy there before: in the wave that failed or
/// that a person sent back and, with `retreat = "train"`, in the waves before. No hold and no window prevents that.
fn check_way_back(train: &TrainHistory) -> Result<(), Broken> {
    let row = train_row(train)?;
    let retreats = train.history.deployment.relay_waves(ROUTE);
    for (index, targets) in waves(train.history.deployment.newest).into_iter().enumerate() {
        let mut rows = targets.iter().map(|(place, pipeline)| relay_row(train, *place, pipeline));
        let is_undecided = rows.any(|row| row.is_ok_and(|row| is_undecided(&row)));
        for (place, (wave, retreat)) in row.waves.iter().zip(&retreats).enumerate().skip(index) {
            let failed = wave.passage.as_ref().filter(|passage| passage.verdict == Verdict::Failed);
            let failed = failed.filter(|passage| {
                let goes_back = if place == index { *retreat != Retreat::Target } else { *retreat == Retreat::Train };
                let by_wave = goes_back && !passage.failed.is_empty() && !is_undecided;
                by_wave || place == index && passage.recalled
            });
            let condemned = failed
                .filter(|passage| row.change(passage.seen).is_some_and(|one| row.condemnation(&one.change).is_some()));
            let Some(passage) = condemned else { continue };
            for (place, pipeline) in &targets {
                if keeps_change(&relay_row(train, *place, pipeline)?, passage.seen) {
                    return Err(Broken(format!("{place}/{pipeline} keeps a change that is condemned")));
                }
            }
        }
    }
    Ok(())
}

/// Whether a target does not know what became of its order, and nobody has accepted that.
fn is_undecided(row: &TargetRow) -> bool {
    let is_accepted = row.order.as_ref().and_then(|order| order.train.as_ref()).is_some_and(|of| of.accepted);
    let is_unknown = |report: &OrderReport| report.state == ReportState::Unknown || report.in_source;
    row.current_report().is_some_and(is_unknown) && !is_accepted
}

/// Whether a target is healthy with a change, although something else was healthy there before.
fn keeps_change(row: &TargetRow, seen: u64) -> bool {
    let is_healthy = row.current_report().is_some_and(|report| report.state == ReportState::Healthy);
    let has_change = |order: &PlacedOrder| {
        order.kind == OrderKind::Deploy
            && order.train.as_ref().is_some_and(|of| of.seen == seen)
            && order.before.as_ref().is_some_and(|before| before.revision != order.change.revision)
    };
    is_healthy && row.order.as_ref().is_some_and(has_change)
}

/// Checks that a wave condemned only changes that failed in more of its targets than it tolerates, or that were healthy
/// in none of them. If a person accepts an unknown target, each later failure there condemns its change.
fn check_condemned(train: &TrainHistory) -> Result<(), Broken> {
    let row = train_row(train)?;
    let cloud = train.history.cloud.train.borrow();
    let Some(witness) = cloud.as_ref() else { return Ok(()) };
    let named = witness.waves.iter().flatten().zip(wave_names(witness.features));
    for (index, (targets, name)) in named.enumerate() {
        let by_wave = Judge::Wave(name.to_owned());
        let by_failures = |one: &&Condemned| one.by == by_wave && !witness.accepted.contains(&one.seen);
        for condemned in row.condemned.iter().filter(by_failures) {
            let has_failed = |(place, pipeline): &&(usize, &'static str)| {
                witness.failed.contains(&(*place, (*pipeline).to_owned(), condemned.seen))
            };
            let was_healthy = |(place, pipeline): &(usize, &'static str)| {
                witness.healthy.contains(&(*place, (*pipeline).to_owned(), condemned.revision.clone()))
            };
            let failures = targets.iter().filter(has_failed).count();
            if failures <= tolerated(witness.features, index) && targets.iter().any(was_healthy) {
                let revision = &condemned.revision;
                return Err(Broken(format!(
                    "the wave {name} condemned {revision}, which failed in {failures} targets"
                )));
            }
        }
    }
    Ok(())
}

/// Checks that every target runs the good change, or that `train` names what keeps it from this target.
fn check_end(train: &mut TrainHistory, fix: &Revision, is_helped: bool) -> Result<(), Broken> {
    let unreached = unreached(train, fix)?;
    if unreached.is_empty() {
        train.report.arrivals += 1;
        return Ok(());
    }
    let text = text(train)?;
    if is_helped {
        return Err(Broken(format!("{unreached:?} do not run {fix}, and `train` says: {text}")));
    }
    let table = if answer::is_cut(&text) { Some(answer_to(train, &where_request())?) } else { None };
    let answer = Answer::read(&text, wave_names(train.history.deployment.newest), table)?;
    for (place, pipeline) in unreached {
        if !is_explained(train, &answer, (place, pipeline), fix)? {
            return Err(Broken(format!("{place}/{pipeline} does not run {fix}, and `train` gives no reason: {text}")));
        }
    }
    train.report.held_ends += 1;
    Ok(())
}

/// The request that shows every target of the route.
fn where_request() -> String {
    json!({"action": "where", "route": ROUTE}).to_string()
}

/// Whether the answer gives a reason why this target does not run the good change: a reason of the target itself if it
/// was ordered to run the change, and otherwise a reason of the wave where the change is.
fn is_explained(
    train: &TrainHistory,
    answer: &Answer,
    (place, pipeline): (usize, &'static str),
    fix: &Revision,
) -> Result<bool, Broken> {
    let features = train.history.deployment.newest;
    let (names, waves) = (wave_names(features), waves(features));
    let row = train_row(train)?;
    let seen = row.changes.iter().rfind(|one| one.change.revision == *fix).map(|one| one.seen);
    let has_passed =
        |name: &str| seen.is_some_and(|seen| row.wave(name).is_some_and(|wave| wave.healthy.contains(&seen)));
    let Some(own) = waves.iter().position(|wave| wave.contains(&(place, pipeline))) else { return Ok(false) };
    // A wave in which the change was not healthy yet keeps the change from all later ones.
    let at = (0..own).find(|index| !has_passed(names[*index])).unwrap_or(own);
    if answer.condemns(fix, names[at]) {
        return Ok(true);
    }
    let id = configuration::target(place, pipeline);
    let order = relay_row(train, place, pipeline)?.order;
    if order.is_some_and(|order| order.kind == OrderKind::Deploy && order.change.revision == *fix) {
        return Ok(answer.awaits_alarms(&id) || answer.asks_about(names[own]) && answer.is_unknown(&id));
    }
    let mut targets = waves[at].iter().map(|(place, pipeline)| configuration::target(*place, pipeline));
    let awaits_others = targets.any(|target| answer.awaits_alarms(&target));
    Ok(answer.closes(names[at]) || answer.asks_about(names[at]) || awaits_others)
}

/// Checks that the numbers of the orders to each target rise.
pub(crate) fn check_numbers(history: &History) -> Result<(), Broken> {
    for (place, pipeline) in TARGETS {
        let key = target::key(&configuration::target(place, pipeline));
        let placed = history.cloud.placed.borrow();
        let numbers: Vec<u64> = placed.iter().filter(|one| one.key == key).map(|one| one.order.number).collect();
        if !numbers.is_sorted_by(|one, next| one < next) {
            return Err(Broken(format!("{place}/{pipeline}: the numbers {numbers:?} do not rise")));
        }
    }
    Ok(())
}
