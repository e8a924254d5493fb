//! The pipelines of this account and region to which a route of the account's own configuration leads.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sekisho_domain::account::{AccountId, Region};
use sekisho_domain::change::{Change, RepositoryArn, Revision, SourceChange, SourceKind};
use sekisho_domain::decision::Decision;
use sekisho_domain::order::{Order, OrderKind};
use sekisho_domain::route::{ActionName, PipelineName, Route, Routes, Target, TargetId, Wave};
use sekisho_domain::timestamp::epoch_millis;
use time::OffsetDateTime;

use crate::outcome::Outcome;
use crate::pins::Pin;

/// What a start of a pipeline gets from the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pins {
    /// The source actions that are pinned to the change's revision.
    pub(crate) actions: BTreeSet<ActionName>,
    /// The pipeline variables, whose values may contain placeholders.
    pub(crate) variables: BTreeMap<String, String>,
}

/// What an event means for one pipeline of this account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// The pipeline gets this order.
    Order {
        order: Order,
        /// Whether the event has no order for the pipeline.
        is_implicit: bool,
    },
    /// The event has this order, but no route leads to the pipeline.
    Unrouted(Order),
    /// The order cannot be taken.
    Malformed(Malformed),
}

/// An order that cannot be read, or whose number is not plausible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// The order's number, if at least the number can be read.
    pub(crate) number: Option<u64>,
    /// Whether event-relay takes a report with this number.
    pub(crate) is_reported: bool,
    /// The field, and what is wrong with it.
    pub(crate) reason: String,
}

/// The pipelines of this account that get an order by an event.
#[derive(Debug)]
pub(crate) enum Selection {
    /// At least one pipeline.
    Pipelines(BTreeMap<PipelineName, Address>),
    /// No pipeline. The decision has the reason.
    Filtered(Decision<Outcome>),
}

/// How far the number of an order may be ahead of the clock. Numbers are times in milliseconds since 1970. A number
/// that is larger would make every later order stale, and event-relay refuses reports with such a number.
const LONGEST_AHEAD: Duration = Duration::from_hours(24);

const TOO_FAR_AHEAD: &str = "more than a day ahead of the clock";

/// The reason why an event starts no pipeline.
pub(crate) const NOT_ROUTED: &str =
    "no route of this account's configuration leads from this repository and reference to a pipeline here";

/// The routes whose targets are in one account and region.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LocalRoutes<'a> {
    pub(crate) routes: &'a Routes,
    pub(crate) account: &'a AccountId,
    pub(crate) region: &'a Region,
}

impl<'a> LocalRoutes<'a> {
    /// The pipelines that the event names, as far as the routes or an order in the event concern them.
    pub(crate) fn select(&self, event: &SourceChange, now: OffsetDateTime) -> Selection {
        let routed = Routed { now: self.pipelines(&event.change), by_repository: self.of_repository(&event.change) };
        let reason = if routed.now.is_empty() {
            NOT_ROUTED
        } else {
            "the event names none of the pipelines to which this account's configuration routes the change"
        };
        let named = event.pipelines.iter().filter_map(|name| name.parse::<PipelineName>().ok());
        let selected: BTreeMap<_, _> =
            named.filter_map(|pipeline| Some((pipeline.clone(), address(event, &pipeline, &routed, now)?))).collect();
        if !selected.is_empty() {
            return Selection::Pipelines(selected);
        }
        Selection::Filtered(
            Decision::new(Outcome::Filtered, reason)
                .about("repository", event.change.repository.as_str())
                .about("ref", event.change.source_ref.as_str())
                .about("id", &event.id),
        )
    }

    /// What the routes say about a start of this pipeline for the change. Returns `None` if no route leads to it. For a
    /// rollback, the branch or tag need not be routed any more.
    pub(crate) fn pins(&self, kind: OrderKind, change: &Change, pipeline: &PipelineName) -> Option<Pins> {
        let routed = self.pipelines(change).remove(pipeline);
        routed.or_else(|| (kind == OrderKind::Rollback).then(|| self.of_repository(change).remove(pipeline))?)
    }

    /// The source actions of the pipeline that any route leads to.
    pub(crate) fn sources(&self, pipeline: &PipelineName) -> BTreeSet<ActionName> {
        let targets = self.routes.iter().flat_map(Route::targets).filter(|target| self.is_local(target));
        targets.filter(|target| target.pipeline == *pipeline).map(|target| target.action.clone()).collect()
    }

    /// The source actions of the pipeline that get the revision of this pin. If the pin's branch or tag is not routed
    /// any more, they are those of its repository.
    pub(crate) fn sources_of(&self, pin: &Pin, pipeline: &PipelineName) -> BTreeSet<ActionName> {
        let Some(repository) = &pin.repository else { return BTreeSet::new() };
        let by_ref = pin.source_ref.as_ref().map(|one| self.pins_by(self.routes.concerning(repository, one)));
        let pins = by_ref.and_then(|mut routed| routed.remove(pipeline));
        let of_repository = || self.pins_by(self.routes.iter().filter(|route| route.covers_repository(repository)));
        pins.or_else(|| of_repository().remove(pipeline)).unwrap_or_default().actions
    }

    /// The pin of a source action that ran at this revision, if a route to the action has repositories of the kind of
    /// the revision. The repository belongs to the account and region of `like`. It is known if the route has its
    /// literal name.
    pub(crate) fn pin(
        &self,
        revision: &Revision,
        action: &ActionName,
        pipeline: &PipelineName,
        like: &RepositoryArn,
    ) -> Option<Pin> {
        let kind = if revision.is_digest() { SourceKind::Image } else { SourceKind::Git };
        let leads_there =
            |target: &Target| self.is_local(target) && target.pipeline == *pipeline && target.action == *action;
        let mut routes = self.routes.iter().filter(|route| route.targets().iter().any(leads_there));
        let route = routes.find(|route| route.source() == kind)?;
        let name = route.repository().literal();
        let repository = name.and_then(|name| sibling(like, kind, name));
        Some(Pin { revision: revision.clone(), repository, source_ref: None })
    }

    /// The waves that the change reaches this pipeline by.
    pub(crate) fn waves(&self, change: &'a Change, pipeline: &PipelineName) -> Vec<&'a Wave> {
        let (account, region, pipeline) = (self.account.clone(), self.region.clone(), pipeline.clone());
        let target = TargetId { account, region, pipeline };
        let routes = self.routes.concerning(&change.repository, &change.source_ref);
        routes.filter_map(|route| route.wave_of(&target)).collect()
    }

    /// The pipelines that the routes name for a change.
    fn pipelines(&self, change: &Change) -> BTreeMap<PipelineName, Pins> {
        self.pins_by(self.routes.concerning(&change.repository, &change.source_ref))
    }

    /// The pipelines that the routes name for any branch or tag of a change's repository.
    fn of_repository(&self, change: &Change) -> BTreeMap<PipelineName, Pins> {
        self.pins_by(self.routes.iter().filter(|route| route.covers_repository(&change.repository)))
    }

    fn pins_by<'r>(&self, routes: impl Iterator<Item = &'r Route>) -> BTreeMap<PipelineName, Pins> {
        let mut pipelines: BTreeMap<PipelineName, Pins> = BTreeMap::new();
        for target in routes.flat_map(Route::targets).filter(|target| self.is_local(target)) {
            let pins = pipelines.entry(target.pipeline.clone()).or_default();
            pins.actions.insert(target.action.clone());
            pins.variables.extend(target.variables.clone());
        }
        pipelines
    }

    /// The local pipeline of this name, if any route leads to it.
    pub(crate) fn pipeline(&self, name: &str) -> Option<&'a PipelineName> {
        self.names().find(|pipeline| pipeline.as_str() == name)
    }

    /// The local pipelines to which any route leads. A pipeline may occur several times.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'a PipelineName> {
        let local = *self;
        let targets = local.routes.iter().flat_map(Route::targets).filter(move |target| local.is_local(target));
        targets.map(|target| &target.pipeline)
    }

    fn is_local(&self, target: &Target) -> bool {
        target.account == *self.account && target.region == *self.region
    }
}

/// The repository of this kind and name in the same account and region.
fn sibling(repository: &RepositoryArn, kind: SourceKind, name: &str) -> Option<RepositoryArn> {
    let partition = repository.as_str().split(':').nth(1)?;
    let account: AccountId = repository.account().parse().ok()?;
    let new = match kind {
        SourceKind::Git => RepositoryArn::codecommit,
        SourceKind::Image => RepositoryArn::ecr,
    };
    new(partition, repository.region(), &account, name).ok()
}

/// The pipelines to which the routes lead.
struct Routed {
    /// From the change.
    now: BTreeMap<PipelineName, Pins>,
    /// From any branch or tag of the change's repository.
    by_repository: BTreeMap<PipelineName, Pins>,
}

impl Routed {
    /// Whether an order of this kind is routed to the pipeline.
    fn includes(&self, pipeline: &PipelineName, kind: OrderKind) -> bool {
        self.now.contains_key(pipeline) || (kind == OrderKind::Rollback && self.by_repository.contains_key(pipeline))
    }
}

/// What the event means for a pipeline. Returns `None` if neither a route nor an order concerns the pipeline.
fn address(event: &SourceChange, pipeline: &PipelineName, routed: &Routed, now: OffsetDateTime) -> Option<Address> {
    let written = event.orders.get(pipeline.as_str());
    let is_routed = |order: Order| routed.includes(pipeline, order.kind);
    let latest = epoch_millis(now + LONGEST_AHEAD);
    Some(match event.order(pipeline) {
        Ok(order) if written.is_none() && !is_routed(order) => return None,
        Ok(order) if order.number > latest => Address::Malformed(Malformed {
            number: Some(order.number),
            is_reported: false,
            reason: match written {
                Some(_) => format!("detail.orders.{pipeline}.number: {} is {TOO_FAR_AHEAD}", order.number),
                None => format!("detail.change.sequence: {} is {TOO_FAR_AHEAD}", order.number),
            },
        }),
        Ok(order) if is_routed(order) => Address::Order { order, is_implicit: written.is_none() },
        Ok(order) => Address::Unrouted(order),
        Err(reason) => {
            let number = written.and_then(Order::number_of);
            Address::Malformed(Malformed { number, is_reported: number.is_some_and(|number| number <= latest), reason })
        }
    })
}
