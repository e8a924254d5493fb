//! What happens in the accounts with pipelines: executions end, people stop or retry them, pipelines are edited, and
//! buses refuse events.

use pipeline_starter::world::ExecutionStatus::{self, Canceled, Failed, Running, Stopped, Succeeded, Superseded};

use crate::cloud::{Cloud, PLACES};
use crate::codepipeline::{IMAGE, Pins, SOURCE};
use crate::event;
use crate::in_flight::InFlight;
use crate::lambda::Function;
use crate::repository::NAMES;

/// The pipeline whose only source is an image.
pub(crate) const IMAGES: &str = "images";

/// The pipeline with two sources: code and an image.
pub(crate) const PAIR: &str = "pair";

/// The pipelines of each place. The last one of each runs only in histories with images.
pub(crate) const PIPELINES: [&[&str]; PLACES.len()] =
    [&["all", "api", "shelf", IMAGES], &["all", "both", "tags", PAIR]];

/// The number of times that each kind of thing happened to executions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Deeds {
    pub(crate) canceled: usize,
    /// Executions that a person stopped, or that a newer execution replaced.
    pub(crate) stopped: usize,
    pub(crate) retried: usize,
    /// Executions that failed before their source action had run.
    pub(crate) failed_in_source: usize,
    /// Executions that no order started.
    pub(crate) by_others: usize,
}

/// Ends one random execution.
pub(crate) fn end_any(cloud: &Cloud, in_flight: &mut InFlight, deeds: &mut Deeds) {
    let place = cloud.chance.below(PLACES.len());
    let running = cloud.places[place].codepipeline.with_status(Running);
    if let Some((pipeline, id)) = running.get(cloud.chance.below(running.len())) {
        end(cloud, in_flight, deeds, place, (pipeline, id));
    }
}

/// Ends an execution in a random way. An execution that cannot fetch its source does not succeed.
pub(crate) fn end(
    cloud: &Cloud,
    in_flight: &mut InFlight,
    deeds: &mut Deeds,
    place: usize,
    (pipeline, id): (&str, &str),
) {
    let execution = cloud.places[place].codepipeline.execution(pipeline, id);
    let lacks_source = execution.is_some_and(|execution| execution.lacks_source());
    let status = match cloud.chance.below(100) {
        0..=59 if lacks_source => Failed,
        0..=59 => Succeeded,
        60..=84 => Failed,
        85..=91 => Stopped,
        _ => Superseded,
    };
    if matches!(status, Stopped | Superseded) {
        deeds.stopped += 1;
    }
    set_status(cloud, in_flight, place, (pipeline, id), status);
    let execution = cloud.places[place].codepipeline.execution(pipeline, id);
    deeds.failed_in_source += usize::from(execution.is_some_and(|execution| execution.failed_in_source()));
}

/// Edits a random pipeline, which cancels its running executions.
pub(crate) fn edit_pipeline(cloud: &Cloud, in_flight: &mut InFlight, deeds: &mut Deeds) {
    let place = cloud.chance.below(PLACES.len());
    let running = cloud.places[place].codepipeline.with_status(Running);
    let Some((pipeline, _)) = running.get(cloud.chance.below(running.len())) else { return };
    for (name, id) in &running {
        if name == pipeline {
            deeds.canceled += 1;
            set_status(cloud, in_flight, place, (name, id), Canceled);
        }
    }
}

/// Retries the failed stage of an execution. CodePipeline allows this only for the last execution of a pipeline. An
/// execution that failed in its source action is left to pipeline-starter.
pub(crate) fn retry_stage(cloud: &Cloud, in_flight: &mut InFlight, deeds: &mut Deeds) {
    let place = cloud.chance.below(PLACES.len());
    let codepipeline = &cloud.places[place].codepipeline;
    let failed = codepipeline.with_status(Failed);
    let Some((pipeline, _)) = failed.get(cloud.chance.below(failed.len())) else { return };
    let last = codepipeline.executions(pipeline).pop();
    if let Some(last) = last.filter(|last| last.status == Failed && !last.failed_in_source()) {
        deeds.retried += 1;
        set_status(cloud, in_flight, place, (pipeline, &last.id), Running);
    }
}

/// Starts an execution that no order asked for, at a random commit.
pub(crate) fn start_by_other(cloud: &Cloud, deeds: &mut Deeds) {
    let (place, pipeline) = any_pipeline(cloud);
    let mut pins = Pins::new();
    for action in actions(pipeline) {
        let revisions = match *action {
            IMAGE => cloud.registry.images(),
            _ => cloud.repositories[cloud.chance.below(NAMES.len())].commits(),
        };
        let Some(revision) = revisions.get(cloud.chance.below(revisions.len())) else { return };
        pins.insert((*action).to_owned(), revision.clone());
    }
    deeds.by_others += 1;
    let now = cloud.clock.now.get();
    cloud.places[place].codepipeline.start_by_other(pipeline, pins, now, &cloud.chance);
}

/// Deletes a random pipeline, or creates it again.
pub(crate) fn toggle_pipeline(cloud: &Cloud) {
    let (place, pipeline) = any_pipeline(cloud);
    cloud.places[place].codepipeline.toggle(pipeline);
}

/// Closes a random bus, or opens it again.
pub(crate) fn toggle_bus(cloud: &Cloud) {
    let buses = [&cloud.places[0].bus, &cloud.places[1].bus, &cloud.report_bus];
    let bus = buses[cloud.chance.below(buses.len())];
    if bus.is_closed() { bus.open() } else { bus.close() }
}

/// The request of a person to send the orders of a random route to a random place again. Each route has the name of its
/// pipeline. Some routes do not lead to the place, so the request fails.
pub(crate) fn resend(cloud: &Cloud) -> String {
    let (place, pipeline) = any_pipeline(cloud);
    let place = if cloud.chance.percent(5) { 1 - place } else { place };
    event::resend(pipeline, PLACES[place].0)
}

fn any_pipeline(cloud: &Cloud) -> (usize, &'static str) {
    let place = cloud.chance.below(PLACES.len());
    let names = PIPELINES[place];
    // The last pipeline is for images.
    let count = names.len() - usize::from(!cloud.has_images.get());
    (place, names[cloud.chance.below(count)])
}

/// The source actions of a pipeline.
pub(crate) fn actions(pipeline: &str) -> &'static [&'static str] {
    match pipeline {
        IMAGES => &[IMAGE],
        PAIR => &[IMAGE, SOURCE],
        _ => &[SOURCE],
    }
}

pub(crate) fn set_status(
    cloud: &Cloud,
    in_flight: &mut InFlight,
    place: usize,
    (pipeline, id): (&str, &str),
    status: ExecutionStatus,
) {
    let codepipeline = &cloud.places[place].codepipeline;
    codepipeline.set_status(pipeline, id, status, cloud.clock.now.get());
    let retries = codepipeline.execution(pipeline, id).map_or(0, |execution| execution.retries);
    let number = in_flight.number();
    let at = codepipeline.seen(cloud.clock.now.get());
    let payload = event::execution_changed(number, place, pipeline, (id, retries), (status, at));
    in_flight.send(Function::Starter(place), payload, &cloud.chance);
}
