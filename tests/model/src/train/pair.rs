//! A pipeline with two sources, code and an image. Each of them comes from a route with a wave. The target goes back by
//! itself, and a rollback must restore the whole set of revisions.

use std::fmt::Write as _;

use event_relay::target::{self, TargetRow};
use event_relay::train::{self, TrainRow};
use pipeline_starter::order;
use pipeline_starter::world::{ExecutionStatus, PipelineStart};
use sekisho_domain::change::{Change, Revision};
use sekisho_domain::order::OrderKind;
use sekisho_domain::report::{OrderReport, ReportState};
use serde_json::json;

use super::witness::read;
use crate::check::Broken;
use crate::cloud::{Cloud, PLACES};
use crate::codepipeline::{Execution, IMAGE, Pins, SOURCE};
use crate::configuration;
use crate::operator::PAIR;

/// The place of the pipeline.
pub(crate) const PLACE: usize = 1;
/// The wave of both routes.
const WAVE: &str = "pair";
/// The routes that lead to the pipeline, each with its source and its source action.
const ROUTES: [(&str, &str, &str); 2] = [
    ("pair", "repository = \"shop\"\nbranches = [\"main\"]\nexisting = \"relay\"", SOURCE),
    ("pair-image", "image = \"shop\"\ntags = [\"live\"]", IMAGE),
];

/// What the model knows about the pipeline.
#[derive(Debug, Default)]
pub(crate) struct PairWitness {
    /// The sets of revisions that the target called healthy, from the oldest to the newest.
    healthy: Vec<Pins>,
    /// The revisions of orders that failed or that the target took back.
    failed: Vec<Revision>,
    /// The number of starts that go back.
    pub(crate) rollbacks: usize,
}

/// Adds the routes to a configuration.
pub(crate) fn write_routes(text: &mut String) {
    let (account, region) = PLACES[PLACE];
    for (name, source, action) in ROUTES {
        let _ = write!(
            text,
            "[[route]]\nname = \"{name}\"\n{source}\n[[route.wave]]\nname = \"{WAVE}\"\nbake = \"5m\"\n\
             alarms = [\"pair-*\"]\n[[route.wave.target]]\naccount = \"{account}\"\nregion = \"{region}\"\n\
             pipeline = \"{PAIR}\"\naction = \"{action}\"\n"
        );
    }
}

/// The request of a person about one of the routes.
pub(crate) fn request(cloud: &Cloud) -> String {
    let (route, ..) = ROUTES[cloud.chance.below(ROUTES.len())];
    let action = ["rollback", "resume", "resume", "accept"][cloud.chance.below(4)];
    let mut request = json!({"action": action, "route": route, "wave": WAVE});
    if action != "resume" {
        request["reason"] = json!("the model");
    }
    request.to_string()
}

/// Checks a start that pipeline-starter is about to make.
pub(crate) fn see_start(cloud: &Cloud, place: usize, start: &PipelineStart) {
    let mut train = cloud.train.borrow_mut();
    let Some(witness) = train.as_mut().map(|train| &mut train.pair) else { return };
    if start.pipeline.as_str() != PAIR {
        return;
    }
    let pins: Pins = start.pins.iter().map(|(action, pin)| (action.to_string(), pin.clone())).collect();
    if let Err(broken) = check_start(cloud, witness, &pins, ordered(cloud, place, start)) {
        cloud.broken.borrow_mut().push(Broken(format!("a start of {PAIR} at {pins:?}: {}", broken.0)));
    }
}

/// The change that a start is made for, and whether the start goes back to it. Both follow from the token, because the
/// ledger's row may be about a newer order by now. A start has the number of an order that event-relay placed, also if the
/// target goes back by itself.
fn ordered(cloud: &Cloud, place: usize, start: &PipelineStart) -> Option<(Change, bool)> {
    let key = target::key(&configuration::target(place, PAIR));
    let placed = cloud.placed.borrow();
    let orders = || placed.iter().filter(|placing| placing.key == key).map(|placing| &placing.order);
    let digest = start.token.split('-').next().unwrap_or_default();
    for order in orders() {
        for change in orders().map(|one| &one.change) {
            if order::token(change, &start.pipeline, order.number, 0) == digest {
                let goes_back = order.kind == OrderKind::Rollback || order.change.id() != change.id();
                return Some((change.clone(), goes_back));
            }
        }
    }
    None
}

fn check_start(
    cloud: &Cloud,
    witness: &mut PairWitness,
    pins: &Pins,
    ordered: Option<(Change, bool)>,
) -> Result<(), Broken> {
    if !pins.keys().map(String::as_str).eq([IMAGE, SOURCE]) {
        return Err(Broken("a source has no pin".to_owned()));
    }
    let Some((change, goes_back)) = ordered else {
        // What ran before the first order was not ordered either, and the target may go back to it.
        let was_last =
            |pin: &Revision| witness.healthy.iter().rfind(|set| set.values().any(|one| one == pin)) == Some(pins);
        if !pins.values().any(was_last) {
            return Err(Broken("nobody ordered it, and it was not the last healthy set with its revisions".to_owned()));
        }
        witness.rollbacks += 1;
        return Ok(());
    };
    if !pins.values().any(|pin| *pin == change.revision) {
        return Err(Broken(format!("it lacks the revision {} of its order", change.revision)));
    }
    // The order's own revision may run again, because somebody ordered it anew or retried a stage.
    let is_other = |pin: &Revision| change.revision != *pin;
    let executions = cloud.places[PLACE].codepipeline.executions(PAIR);
    // Somebody retried a stage after a newer order had come, and the execution has succeeded in the end.
    let recovered =
        |one: &Execution, pin: &Revision| one.status == ExecutionStatus::Succeeded && one.retries > 0 && one.runs(pin);
    let is_bad = |pin: &&Revision| {
        let has_failed = witness.failed.contains(pin) && !witness.was_healthy(pin);
        is_other(pin) && has_failed && !executions.iter().any(|one| recovered(one, pin))
    };
    if let Some(pin) = pins.values().find(is_bad) {
        return Err(Broken(format!("{pin} failed here")));
    }
    if !goes_back {
        return Ok(());
    }
    witness.rollbacks += 1;
    let ran = |one: &Execution| one.status == ExecutionStatus::Succeeded && one.pins == *pins;
    if !executions.iter().any(ran) {
        return Err(Broken("a rollback leads to revisions that never ran together".to_owned()));
    }
    let last = |is_it: &dyn Fn(&Pins) -> bool| witness.healthy.iter().rposition(is_it);
    let newest = last(&|set| set.values().any(|pin| *pin == change.revision));
    match last(&|set| set == pins) {
        Some(own) if newest.is_some_and(|newest| newest > own) => {
            Err(Broken(format!("a newer healthy set has {}", change.revision)))
        }
        _ => Ok(()),
    }
}

/// Checks, at rest, that the target does not wait for a source whose train has a change for it.
pub(crate) fn check_sources(cloud: &Cloud) -> Result<(), Broken> {
    let target = configuration::target(PLACE, PAIR);
    let row: TargetRow = read(&cloud.relay_ledger, &target::key(&target))?.unwrap_or_default();
    let Some(report) = row.current_report().filter(|report| report.state == ReportState::Waiting) else {
        return Ok(());
    };
    for (route, _, action) in ROUTES {
        if !report.lacks.iter().any(|lacking| lacking.as_str() == action) {
            continue;
        }
        let train: TrainRow = read(&cloud.relay_ledger, &train::key(route))?.unwrap_or_default();
        let Some(change) = train.newest().map(|newest| &newest.change) else { continue };
        let is_over = train.condemnation(change).is_some() || train.is_gone(change);
        if !is_over && train.hold_on(WAVE, &change.source_ref, cloud.clock.now.get()).is_none() {
            return Err(Broken(format!("{PAIR} waits for {action}, and {} is not ordered", change.revision)));
        }
    }
    Ok(())
}

impl PairWitness {
    /// What the model knows before the first order: what ran before counts as healthy.
    pub(crate) fn new(cloud: &Cloud) -> Self {
        let executions = cloud.places[PLACE].codepipeline.executions(PAIR);
        Self { healthy: executions.into_iter().map(|execution| execution.pins).collect(), ..Self::default() }
    }

    fn was_healthy(&self, revision: &Revision) -> bool {
        self.healthy.iter().any(|set| set.values().any(|pin| pin == revision))
    }

    /// Notes a report of the target.
    pub(crate) fn see_report(&mut self, cloud: &Cloud, report: &OrderReport) {
        if report.pipeline.as_str() != PAIR || report.in_source {
            return;
        }
        let id = report.execution.as_deref().unwrap_or_default();
        let execution = cloud.places[PLACE].codepipeline.execution(PAIR, id);
        let succeeded = execution.filter(|execution| execution.status == ExecutionStatus::Succeeded);
        match report.state {
            ReportState::Healthy => self.healthy.extend(succeeded.map(|execution| execution.pins)),
            ReportState::RolledBack => {
                let restored = succeeded.filter(|execution| !execution.runs(&report.revision));
                self.healthy.extend(restored.map(|execution| execution.pins));
                self.failed.push(report.revision.clone());
            }
            ReportState::Failed => self.failed.push(report.revision.clone()),
            // The revision runs again, because somebody retried a stage or sent a new order, so it may still succeed.
            ReportState::Running => self.failed.retain(|failed| *failed != report.revision),
            _ => {}
        }
    }
}
