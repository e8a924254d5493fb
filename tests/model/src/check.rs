//! The promises of the functions, which must hold after every history.

pub(crate) mod decisions;
mod executions;
mod heads;
mod notices;
mod orders;
pub(crate) mod pins;
mod reports;
mod traffic;

use event_relay::target::{self, TargetRow};
use pipeline_starter::order::{self, OrderRow, Progress};
use sekisho_domain::change::{Change, RefKind};
use sekisho_domain::report::ReportState;
use sekisho_domain::route::TargetId;
use sekisho_ledger::{Key, Memory, Store};
use serde::de::DeserializeOwned;

pub(crate) use self::traffic::Traffic;
use crate::cloud::Cloud;
use crate::configuration::{self, Features, IMAGE_GLOB, IMAGES, PATH_ROUTE, RELEASE_GLOB, SECOND_TARGET};
use crate::history::History;
use crate::ledger::at_once;
use crate::report::Report;
use crate::repository::{self, Reference, SHELF, SHOP};
use crate::{developer, operator, publisher};

/// A sentence that describes a broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken(pub String);

impl Broken {
    pub(crate) fn of(error: &dyn std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// A pipeline, and the branches and tags that it follows.
#[derive(Debug)]
pub(crate) struct Target {
    place: usize,
    pipeline: &'static str,
    /// The repositories that the pipeline follows.
    repositories: &'static [usize],
    /// The feature without which no route leads to the pipeline.
    feature: Option<u16>,
    /// Whether the pipeline follows `main`.
    follows_main: bool,
    /// Whether the pipeline follows `release/*` if the configuration has the feature.
    follows_releases: bool,
    /// Whether the pipeline follows the tags.
    follows_tags: bool,
    /// The tags of images that the pipeline follows. Only `live` is followed in every configuration.
    images: &'static [&'static str],
    /// The only path that the pipeline follows, or `None` for all paths.
    path: Option<&'static str>,
}

/// All targets of the model's configurations.
pub(crate) const TARGETS: [Target; 8] = [
    Target { follows_main: true, ..Target::new(0, "all") },
    Target { follows_main: true, feature: Some(SECOND_TARGET), ..Target::new(1, "all") },
    Target { follows_main: true, feature: Some(PATH_ROUTE), path: Some("api/main.rs"), ..Target::new(0, "api") },
    Target { follows_main: true, follows_releases: true, repositories: &[SHOP, SHELF], ..Target::new(1, "both") },
    Target { follows_tags: true, ..Target::new(1, "tags") },
    Target { follows_main: true, repositories: &[SHELF], ..Target::new(0, "shelf") },
    Target {
        images: &["live", "v1", "v2"],
        repositories: &[repository::IMAGES],
        feature: Some(IMAGES),
        ..Target::new(0, operator::IMAGES)
    },
    Target {
        follows_main: true,
        images: &["live"],
        repositories: &[SHOP, repository::IMAGES],
        feature: Some(IMAGES),
        ..Target::new(1, operator::PAIR)
    },
];

impl Target {
    const fn new(place: usize, pipeline: &'static str) -> Self {
        Self {
            place,
            pipeline,
            repositories: &[SHOP],
            feature: None,
            follows_main: false,
            follows_releases: false,
            follows_tags: false,
            images: &[],
            path: None,
        }
    }

    pub(crate) fn id(&self) -> TargetId {
        configuration::target(self.place, self.pipeline)
    }

    /// Whether a route of the configuration leads to the target.
    pub(crate) fn is_routed(&self, features: Features) -> bool {
        self.feature.is_none_or(|feature| features.has(feature))
    }

    /// Whether the target follows a branch or tag in this configuration.
    fn follows(&self, Reference { repository, source_ref }: &Reference, features: Features) -> bool {
        let is_followed = match (source_ref.kind(), source_ref.name()) {
            (RefKind::Image, tag) => self.images.contains(&tag) && (tag == "live" || features.has(IMAGE_GLOB)),
            (RefKind::Tag, _) => self.follows_tags,
            (RefKind::Branch, "main") => self.follows_main,
            (RefKind::Branch, name) => {
                self.follows_releases && features.has(RELEASE_GLOB) && name.starts_with("release/")
            }
        };
        is_followed && self.repositories.contains(repository) && self.is_routed(features)
    }
}

/// Checks all promises.
pub(crate) fn check(history: &History, traffic: &Traffic) -> Result<(), Broken> {
    decisions::are_recorded(history)?;
    heads::are_followed(history)?;
    notices::are_sent(history)?;
    for target in &TARGETS {
        let orders = orders::of(&history.cloud, traffic, target)?;
        let reports = reports::of(traffic, target)?;
        orders::rise(history, &orders, target)?;
        executions::start_once_and_in_order(history, target, &orders)?;
        pins::are_right(history, target, &orders)?;
        reports::rise(history, &reports, target)?;
        if target.is_routed(history.deployment.newest) {
            executions::run_the_last_order(history, target, &reports)?;
            heads::are_ordered(history, target)?;
            heads::touch_the_path(history, target)?;
            pins::are_desired(history, target, &orders)?;
        }
    }
    Ok(())
}

/// Adds the numbers of orders and reports to the report of a history.
pub(crate) fn count(cloud: &Cloud, traffic: &Traffic, report: &mut Report) -> Result<(), Broken> {
    report.reports = traffic.report_count();
    for target in &TARGETS {
        let offers = traffic.offers(target)?.len();
        let orders = orders::of(cloud, traffic, target)?;
        report.orders += orders.len();
        report.repeated_offers += offers - orders.len();
        report.passed_over += pins::passed_over(cloud, target, &orders);
        report.refusals += traffic.reports(target).filter(|report| report.state == ReportState::Refused).count();
    }
    Ok(())
}

/// The row of a target in event-relay's ledger.
pub(crate) fn target_row(cloud: &Cloud, target: &Target) -> Result<TargetRow, Broken> {
    Ok(read(&cloud.relay_ledger, &target::key(&target.id()))?.unwrap_or_default())
}

/// Whether the target's last order is about an image that was deleted before the target took the order.
pub(crate) fn is_not_offered(history: &History, row: &TargetRow) -> bool {
    let is_gone = |change: &Change| history.cloud.registry.gone_since(&change.revision).is_some();
    row.current_report().is_none() && row.order.as_ref().is_some_and(|order| is_gone(&order.change))
}

/// Whether an order of the target's pipeline waits for its start, according to pipeline-starter's row.
pub(crate) fn is_waiting(cloud: &Cloud, target: &Target) -> Result<bool, Broken> {
    let row = read::<OrderRow>(&cloud.places[target.place].ledger, &order::key(&target.id().pipeline))?;
    Ok(row.is_some_and(|row| matches!(row.progress, Progress::Waiting(_) | Progress::Claimed(_))))
}

/// Whether pipeline-starter's row says that the execution of the target's order runs or bakes.
pub(crate) fn is_followed(cloud: &Cloud, target: &Target) -> Result<bool, Broken> {
    let row = read::<OrderRow>(&cloud.places[target.place].ledger, &order::key(&target.id().pipeline))?;
    Ok(row.is_some_and(|row| matches!(row.progress, Progress::Running { .. })))
}

/// All branches, tags, and tags of images.
pub(crate) fn references() -> impl Iterator<Item = Reference> {
    developer::references().chain(publisher::references())
}

/// Whether the last configuration leads a change to the target: the target follows the branch or tag of the change, or
/// another one that is at the same commit.
pub(crate) fn is_led(history: &History, target: &Target, change: &Change) -> bool {
    let features = history.deployment.newest;
    let is_at_commit = |reference: &Reference| history.cloud.head(reference).as_ref() == Some(&change.revision);
    let is_followed = |reference: &Reference| target.follows(reference, features);
    is_followed(&Reference::of(change)) || references().any(|one| is_followed(&one) && is_at_commit(&one))
}

/// Reads a row of a ledger in memory.
fn read<T: DeserializeOwned>(ledger: &Memory, key: &Key) -> Result<Option<T>, Broken> {
    Ok(at_once(ledger.read::<T>(key))?.map(|row| row.state))
}
