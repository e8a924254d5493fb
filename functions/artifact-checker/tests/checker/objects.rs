//! Helpers for the tests of single objects.

use artifact_checker::{Answer, Outcome};
use sekisho_domain::artifacts::Repair;
use sekisho_domain::decision::Decision;

use crate::world::s3::Version;
use crate::world::{BUCKET, FUNCTION, World, handle};

/// The key of the object that the event `object-created` reports. The next constant is the object's version.
pub(crate) const OBJECT: &str = "shop/SourceArti/8a1Xc0p.zip";
pub(crate) const VERSION: &str = "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e";
/// The key of the object that the event `object-created-large` reports.
pub(crate) const LARGE_OBJECT: &str = "shop/BuildArtif/large.zip";
/// A size in bytes that needs a multipart copy.
pub(crate) const LARGE: u64 = 6_000_000_000;

/// The example event of this name.
pub(crate) fn event(name: &str) -> String {
    sekisho_testing::cases::file(FUNCTION, name)
}

/// A world with the object of the event `object-created`.
pub(crate) fn world_with(version: Version) -> World {
    world_with_object(OBJECT, version)
}

/// A world with an object that has the version of the example events.
pub(crate) fn world_with_object(key: &str, version: Version) -> World {
    let world = World::new();
    world.state().put(BUCKET, key, Version { id: VERSION.to_owned(), ..version });
    world
}

/// Returns the decision of an answer that must have exactly one.
pub(crate) fn only(answer: Answer) -> Decision<Outcome> {
    assert_eq!(answer.decisions.len(), 1, "{:?}", answer.decisions);
    answer.decisions.into_iter().next().unwrap()
}

/// Sends an example event to a function after a cold start, and returns the only decision.
pub(crate) async fn decide(world: &World, repair: Repair, event_name: &str) -> Decision<Outcome> {
    only(handle(&world.checker(repair), "r", &event(event_name)).await.unwrap())
}
