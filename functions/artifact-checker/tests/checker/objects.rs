//! Helpers for the tests of single objects.

use artifact_checker::{Answer, Outcome};
use sekisho_domain::artifacts::Repair;
use sekisho_domain::decision::Decision;

use crate::world::s3::Version;
use crate::world::{BUCKET, FUNCTION, World, handle};

/// The object and the version of the event `object-created`.
pub(crate) const OBJECT: &str = "shop/SourceArti/8a1Xc0p.zip";
pub(crate) const VERSION: &str = "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e";
/// The object of the event `object-created-large`.
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

/// The only decision of an answer.
pub(crate) fn only(answer: Answer) -> Decision<Outcome> {
    assert_eq!(answer.decisions.len(), 1, "{:?}", answer.decisions);
    answer.decisions.into_iter().next().unwrap()
}

/// The only decision of a cold function about an example event.
pub(crate) async fn decide(world: &World, repair: Repair, event_name: &str) -> Decision<Outcome> {
    only(handle(&world.checker(repair), "r", &event(event_name)).await.unwrap())
}
