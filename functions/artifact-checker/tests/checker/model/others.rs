//! What changes objects besides the function: people and pipelines, and the events about it.

use std::time::Duration;

use super::cloud::Cloud;
use super::scene::{Kind, Scene, Special, sse};
use crate::sweeps::{SCHEDULE, SWEEP, SWEEP_DRY_RUN, SWEEP_VERSIONS};
use crate::world::s3::{Sse, Version};
use crate::world::{BUCKET, created, now, under};

/// The invocations for events of objects, whose request ids begin with `event-`.
pub(super) const EVENTS: &str = "events of objects";

/// The time between two sweeps of the schedule.
pub(super) const DAY: Duration = Duration::from_hours(24);

/// Something that happens at a time of a history.
#[derive(Debug, Clone)]
pub(super) enum Deed {
    /// An object is written, and perhaps S3 sends an event.
    Put(String),
    Delete(String),
    /// Somebody changes the key of an object in place, of which no event tells.
    Rekey(String),
    /// An invocation of artifact-checker, by a person, a schedule or an event.
    Invoke {
        payload: String,
        what: &'static str,
    },
}

/// How often the payload of a sweep is drawn.
const SWEEPS: [(&str, &str); 6] = [
    (SWEEP, "sweeps of a person"),
    (SCHEDULE, "sweeps of the schedule"),
    (SWEEP_VERSIONS, "sweeps of a person"),
    (SWEEP, "sweeps of a person"),
    (SWEEP_DRY_RUN, "sweeps of a person"),
    (SCHEDULE, "sweeps of the schedule"),
];

fn some_sweep(cloud: &Cloud) -> Deed {
    let (payload, what) = cloud.state().one_of(&SWEEPS);
    Deed::Invoke { payload: payload.to_owned(), what }
}

/// What happens in a history, each with its time.
pub(super) fn deeds(cloud: &Cloud, scene: &Scene) -> Vec<(Duration, Deed)> {
    let mut deeds = vec![(Duration::ZERO, some_sweep(cloud))];
    let of_person = |payload: &str| Deed::Invoke { payload: payload.to_owned(), what: "sweeps of a person" };
    match scene.special {
        Special::TwoSweeps => {
            deeds = vec![(Duration::ZERO, of_person(SWEEP)), (Duration::from_secs(8), of_person(SWEEP_VERSIONS))];
        }
        Special::JobBesideSweep => return vec![(Duration::ZERO, of_person(SWEEP))],
        Special::Nothing | Special::LateDivisions | Special::LongCheck => {}
    }
    let count = cloud.state().below(match scene.kind {
        Kind::Changes => 24,
        Kind::Deep => 3,
        _ => 8,
    });
    for _ in 0..count {
        // Most sweeps last some minutes.
        let seconds = cloud.state().one_of(&[10, 60, 400]);
        let at = Duration::from_millis(cloud.state().below(seconds * 1_000));
        let (draw, key) = {
            let mut state = cloud.state();
            (state.below(10), state.one_of(&scene.keys))
        };
        let deed = match (scene.kind, draw) {
            (_, 0 | 1) => some_sweep(cloud),
            (Kind::Changes, 2 | 3) => Deed::Put(format!("{key}{}", cloud.state().below(3))),
            (Kind::Changes, 4 | 5) => Deed::Put(key),
            (Kind::Changes, 6) => Deed::Delete(key),
            (Kind::Changes, 7 | 8) => Deed::Rekey(key),
            _ => event(cloud, &key),
        };
        deeds.push((at, deed));
    }
    if matches!(scene.kind, Kind::Poison | Kind::Unlisted) {
        // Every pass must end although the fault lasts.
        for day in 1..=2 {
            deeds.push((DAY * day, sweep_of_schedule()));
        }
    }
    deeds
}

pub(super) fn sweep_of_schedule() -> Deed {
    Deed::Invoke { payload: SCHEDULE.to_owned(), what: "sweeps of the schedule" }
}

/// The event about the latest version of an object, which may have been repeated or late.
pub(super) fn event(cloud: &Cloud, key: &str) -> Deed {
    let world = cloud.world.state();
    let bucket = world.bucket(BUCKET);
    let version = bucket.latest(key).map(|latest| latest.id.clone()).filter(|_| bucket.versioned);
    Deed::Invoke { payload: created(BUCKET, key, version.as_deref()), what: EVENTS }
}

/// Writes an object. Returns the events that S3 sends.
pub(super) fn put(cloud: &Cloud, key: &str) -> Vec<(Duration, Deed)> {
    let mut state = cloud.state();
    let sse = sse(state.below(100));
    let version = Version { written: Some(now()), ..Version::new("new content", sse) };
    let id = cloud.world.state().put(BUCKET, key, version);
    state.witness.touched(key, &id);
    state.count("objects written");
    state.log(&format!("somebody writes {key} {id}"));
    // Some doubled events are handled at the same time.
    let (events, late) = (state.one_of(&[1, 1, 1, 0, 2]), state.below(30) * state.one_of(&[40, 40, 1_000]));
    drop(state);
    (0..events).map(|n| (Duration::from_millis(late * n), event(cloud, key))).collect()
}

pub(super) fn delete(cloud: &Cloud, key: &str) {
    let mut state = cloud.state();
    let mut world = cloud.world.state();
    let id = if world.bucket(BUCKET).versioned {
        let marker = Version { delete_marker: true, ..Version::new("", Sse::S3) };
        world.put(BUCKET, key, marker)
    } else {
        world.buckets.get_mut(BUCKET).unwrap().objects.remove(key);
        "null".to_owned()
    };
    state.witness.touched(key, &id);
    state.count("objects deleted");
    state.log(&format!("somebody deletes {key}"));
}

/// Changes the key of the latest version in place, mostly to a wrong one.
pub(super) fn rekey(cloud: &Cloud, key: &str) {
    let mut state = cloud.state();
    let to = if state.below(3) == 0 { under("right") } else { under("other") };
    let mut world = cloud.world.state();
    let versions = world.buckets.get_mut(BUCKET).unwrap().objects.get_mut(key);
    let Some(latest) = versions.and_then(|all| all.last_mut()).filter(|latest| !latest.delete_marker) else { return };
    latest.sse = to;
    let id = latest.id.clone();
    state.witness.touched(key, &id);
    state.count("objects re-keyed");
    state.log(&format!("somebody re-keys {key} {id} to {:?}", latest.sse));
}
