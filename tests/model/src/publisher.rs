//! The people who push images, move and delete their tags, and delete images.

use sekisho_domain::change::Revision;
use time::Duration;

use crate::cloud::Cloud;
use crate::codepipeline::{IMAGE, Pins, SOURCE};
use crate::developer::Deed;
use crate::event::{self, ImageAction};
use crate::in_flight::InFlight;
use crate::lambda::Function;
use crate::operator::PAIR;
use crate::registry::Kind;
use crate::repository::{IMAGES, PATHS, Reference, SHOP};

/// The tags of the images. The configuration names `live` literally, `v1` and `v2` match a glob, and no route includes
/// `other`.
const TAGS: [&str; 4] = ["live", "v1", "v2", "other"];

/// All tags of images.
pub(crate) fn references() -> impl Iterator<Item = Reference> {
    TAGS.into_iter().map(reference)
}

fn reference(tag: &str) -> Reference {
    Reference::new(IMAGES, &format!("refs/images/{tag}"))
}

/// A random tag. Half of the pushes move `live`, the tag that most targets follow.
fn any_tag(cloud: &Cloud) -> &'static str {
    if cloud.chance.percent(50) { TAGS[0] } else { TAGS[cloud.chance.below(TAGS.len())] }
}

/// The revisions that ran in the pipeline with two sources before its first order, in half of the histories.
pub(crate) fn begin(cloud: &Cloud) {
    if cloud.chance.percent(50) {
        return;
    }
    let started = cloud.clock.now.get() - Duration::hours(1);
    let image = cloud.registry.push(Kind::Image, started);
    let commit = cloud.repositories[SHOP].commit(None, PATHS[0]);
    let pins = Pins::from([(SOURCE.to_owned(), commit), (IMAGE.to_owned(), image)]);
    cloud.places[1].codepipeline.add_ended(PAIR, pins, None, started);
}

/// Lets somebody push, tag or delete an image.
pub(crate) fn act(cloud: &Cloud, in_flight: &mut InFlight) -> Vec<Deed> {
    match cloud.chance.below(100) {
        0..=44 => push(cloud, in_flight, any_tag(cloud)),
        45..=54 => {
            // A build that pushes one image with two tags.
            let (one, other) = (any_tag(cloud), any_tag(cloud));
            let deeds = push(cloud, in_flight, one);
            let pushed = cloud.registry.at(one);
            deeds
                .into_iter()
                .chain(pushed.into_iter().flat_map(|image| point(cloud, in_flight, other, &image)))
                .collect()
        }
        55..=74 => {
            let images = cloud.registry.images();
            let image = images.get(cloud.chance.below(images.len()));
            image.into_iter().flat_map(|image| point(cloud, in_flight, any_tag(cloud), image)).collect()
        }
        75..=82 => untag(cloud, in_flight, any_tag(cloud)),
        83..=89 => delete(cloud, in_flight),
        90..=96 => push_other(cloud, in_flight),
        _ => {
            let image = cloud.registry.push(Kind::Image, cloud.clock.now.get());
            notify(cloud, in_flight, ImageAction::Push, None, &image);
            vec![Deed::Nothing]
        }
    }
}

/// Pushes a new image under a tag.
pub(crate) fn push(cloud: &Cloud, in_flight: &mut InFlight, tag: &str) -> Vec<Deed> {
    let kind = if cloud.chance.percent(20) { Kind::Index } else { Kind::Image };
    let image = cloud.registry.push(kind, cloud.clock.now.get());
    point(cloud, in_flight, tag, &image)
}

/// Pushes a manifest that no pipeline deploys.
fn push_other(cloud: &Cloud, in_flight: &mut InFlight) -> Vec<Deed> {
    let kind = if cloud.chance.percent(50) { Kind::Chart } else { Kind::Signature };
    let manifest = cloud.registry.push(kind, cloud.clock.now.get());
    point(cloud, in_flight, any_tag(cloud), &manifest)
}

/// Points a tag at a manifest.
fn point(cloud: &Cloud, in_flight: &mut InFlight, tag: &str, manifest: &Revision) -> Vec<Deed> {
    if cloud.registry.at(tag).as_ref() == Some(manifest) {
        return vec![Deed::Nothing];
    }
    cloud.registry.tag(tag, manifest);
    notify(cloud, in_flight, ImageAction::Push, Some(tag), manifest);
    let reference = reference(tag);
    let tags = &cloud.repositories[IMAGES];
    if cloud.registry.kind(manifest).is_some_and(Kind::is_routable) {
        tags.point(&reference.source_ref, manifest);
        vec![Deed::Moved(reference)]
    } else {
        // No pipeline deploys what the tag points at now, as if the tag were gone.
        tags.delete(&reference.source_ref);
        vec![Deed::Deleted(reference)]
    }
}

/// Deletes a tag. The image goes with its last tag.
fn untag(cloud: &Cloud, in_flight: &mut InFlight, tag: &str) -> Vec<Deed> {
    let Some(manifest) = cloud.registry.untag(tag, cloud.clock.now.get()) else { return vec![Deed::Nothing] };
    notify(cloud, in_flight, ImageAction::Delete, Some(tag), &manifest);
    lose_sources(cloud, &manifest);
    let reference = reference(tag);
    cloud.repositories[IMAGES].delete(&reference.source_ref);
    vec![Deed::Deleted(reference)]
}

/// Deletes a random image with all its tags.
fn delete(cloud: &Cloud, in_flight: &mut InFlight) -> Vec<Deed> {
    let images = cloud.registry.images();
    let Some(image) = images.get(cloud.chance.below(images.len())) else { return vec![Deed::Nothing] };
    let tags = cloud.registry.delete(image, cloud.clock.now.get());
    lose_sources(cloud, image);
    if tags.is_empty() {
        notify(cloud, in_flight, ImageAction::Delete, None, image);
    }
    let delete = |tag: &String| {
        notify(cloud, in_flight, ImageAction::Delete, Some(tag), image);
        let reference = reference(tag);
        cloud.repositories[IMAGES].delete(&reference.source_ref);
        Deed::Deleted(reference)
    };
    tags.iter().map(delete).collect()
}

/// The source actions that have not run yet cannot fetch an image that is gone.
fn lose_sources(cloud: &Cloud, manifest: &Revision) {
    if cloud.registry.gone_since(manifest).is_some() {
        for place in &cloud.places {
            place.codepipeline.lose(manifest, cloud.clock.now.get());
        }
    }
}

fn notify(cloud: &Cloud, in_flight: &mut InFlight, action: ImageAction, tag: Option<&str>, manifest: &Revision) {
    let number = in_flight.number();
    in_flight.send(Function::Relay, event::image_action(number, action, tag, manifest), &cloud.chance);
}
