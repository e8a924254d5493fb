//! A train and its targets, without AWS.

use std::collections::{BTreeMap, BTreeSet};

use sekisho_domain::change::Change;
use sekisho_domain::config::Document;
use sekisho_domain::order::OrderKind;
use sekisho_domain::report::{OrderReport, ReportState, ReportTime};
use sekisho_domain::route::ActionName;
use time::Duration;
use time::macros::datetime;

use super::super::*;
use crate::target::{PlacedOrder, Reception};
use crate::train::{Arrival, Judge};
use crate::wave::Standing;

pub(super) const START: OffsetDateTime = datetime!(2026-11-23 12:00 UTC);

/// The waves `a`, `b` and `c`, with the pipelines `a1`, `a2`, `b1`, `b2`, `c1` and `c2`.
pub(super) const CONFIG: &str = r#"
[[route]]
name = "shop"
repository = "shop"
branches = ["**"]
[[route.wave]]
name = "a"
#a
[[route.wave.target]]
account = "222222222222"
region = "ap-northeast-1"
pipeline = "a1"
action = "Source"
[[route.wave.target]]
account = "222222222222"
region = "ap-northeast-1"
pipeline = "a2"
action = "Source"
[[route.wave]]
name = "b"
#b
[[route.wave.target]]
account = "222222222222"
region = "ap-northeast-1"
pipeline = "b1"
action = "Source"
[[route.wave.target]]
account = "222222222222"
region = "ap-northeast-1"
pipeline = "b2"
action = "Source"
[[route.wave]]
name = "c"
#c
[[route.wave.target]]
account = "222222222222"
region = "ap-northeast-1"
pipeline = "c1"
action = "Source"
[[route.wave.target]]
account = "222222222222"
region = "ap-northeast-1"
pipeline = "c2"
action = "Source"
"#;

pub(super) fn routes(config: &str) -> Routes {
    Document::parse("t", config).unwrap().routes().unwrap()
}

/// The configuration with more keys in one of the waves.
pub(super) fn with(wave: &str, keys: &str) -> String {
    CONFIG.replace(&format!("#{wave}\n"), &format!("{keys}\n#{wave}\n"))
}

pub(super) fn id(pipeline: &str) -> TargetId {
    format!("222222222222/ap-northeast-1/{pipeline}").parse().unwrap()
}

/// The parts of a report that few reports have.
#[derive(Debug, Default)]
pub(super) struct Details {
    in_source: bool,
    lacks: BTreeSet<ActionName>,
}

/// A train in memory. Each method does what an invocation would do, and then moves the train on.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) routes: Routes,
    pub(super) now: OffsetDateTime,
    pub(super) row: TrainRow,
    pub(super) targets: BTreeMap<TargetId, TargetRow>,
    pub(super) decisions: Vec<Decision<Outcome>>,
    /// Each order that was placed.
    pub(super) placed: Vec<(TargetId, PlacedOrder)>,
    /// The commits that nobody can deploy any more, as images that were deleted.
    pub(super) deleted: BTreeSet<u64>,
}

impl World {
    pub(super) fn new(config: &str) -> Self {
        let (row, targets) = (TrainRow::default(), BTreeMap::new());
        let (decisions, placed, deleted) = (vec![], vec![], BTreeSet::new());
        Self { routes: routes(config), now: START, row, targets, decisions, placed, deleted }
    }

    pub(super) fn route(&self) -> &Route {
        self.routes.iter().find(|route| !route.waves().is_empty()).unwrap()
    }

    /// The changes of these new orders that were deleted.
    fn deleted_in(&self, next: &Next) -> Vec<Change> {
        let orders = next.orders.iter().filter_map(|placed| placed.row.order.as_ref()).filter(|order| !order.withdrawn);
        orders.map(|order| order.change.clone()).filter(|change| self.deleted.contains(&number(change))).collect()
    }

    /// The decision with the rows that it asks for, and without the orders of changes that were deleted.
    pub(super) fn decide(&self, scope: &Scope) -> Next {
        let mut targets = TargetRows::default();
        let mut gone: Vec<Change> = vec![];
        let (routes, route) = (&self.routes, self.route());
        loop {
            let row = self.row.clone();
            let facts = TrainFacts { routes, route, row, targets, scope: scope.clone(), gone: gone.clone() };
            match next(&facts, self.now) {
                Ok(next) => {
                    let deleted = self.deleted_in(&next);
                    assert!(deleted.iter().all(|change| !gone.contains(change)), "an image that is gone is ordered");
                    if deleted.is_empty() {
                        return next;
                    }
                    (gone, targets) = ([gone, deleted].concat(), facts.targets);
                }
                Err(Missing(missing)) => {
                    assert!(missing.iter().all(|target| !facts.targets.has(target)), "rows are asked for once");
                    targets = facts.targets;
                    for target in missing {
                        let row = self.targets.get(&target).cloned().unwrap_or_default();
                        targets.read.insert(target, Snapshot { row, revision: Some(1) });
                    }
                }
            }
        }
    }

    /// Moves the train on until nothing is left to do.
    pub(super) fn advance(&mut self, scope: &Scope) {
        let next = self.decide(scope);
        self.row = next.row;
        self.decisions.extend(next.decisions);
        for placed in next.orders {
            let order = placed.row.order.clone().unwrap();
            if !order.withdrawn {
                self.placed.push((placed.target.clone(), order));
            }
            self.targets.insert(placed.target, placed.row);
        }
        let rest = self.decide(scope);
        assert_eq!((&rest.row, rest.orders.len(), rest.decisions.len()), (&self.row, 0, 0), "a second call does more");
    }

    pub(super) fn wait(&mut self, minutes: i64) {
        self.now += Duration::minutes(minutes);
        self.advance(&Scope::All);
    }

    pub(super) fn change(n: u64, branch: &str, sequence: u64) -> Change {
        let change = serde_json::json!({
            "kind": "branch", "repository": "arn:aws:codecommit:ap-northeast-1:111111111111:shop",
            "ref": format!("refs/heads/{branch}"), "commit": format!("{n:040x}"), "previous": null,
            "sequence": sequence, "actor": null, "event": null,
        });
        serde_json::from_value(change).unwrap()
    }

    pub(super) fn push_to(&mut self, branch: &str, n: u64) -> Arrival {
        let arrival = self.arrive(branch, n);
        if arrival == Arrival::Joined {
            self.advance(&Scope::Arrival);
        }
        arrival
    }

    /// Adds the n-th commit of a branch to the train's row.
    pub(super) fn arrive(&mut self, branch: &str, n: u64) -> Arrival {
        self.now += Duration::seconds(1);
        self.deleted.remove(&n);
        let mut row = self.row.clone();
        let change = Self::change(n, branch, row.next_sequence(self.now));
        self.row.arrive(&change)
    }

    /// Moves `main` to the n-th commit.
    pub(super) fn push(&mut self, n: u64) {
        self.push_to("main", n);
    }

    /// A target reports on its current order.
    pub(super) fn report(&mut self, pipeline: &str, state: ReportState) {
        self.send_report(pipeline, state, Details::default());
    }

    /// A target reports that its execution failed in a source action.
    pub(super) fn fail_in_source(&mut self, pipeline: &str) {
        self.send_report(pipeline, ReportState::Failed, Details { in_source: true, ..Details::default() });
    }

    /// A target reports that its order waits until this source action has a revision.
    pub(super) fn lack(&mut self, pipeline: &str, action: &str) {
        let lacks = [action.parse().unwrap()].into();
        self.send_report(pipeline, ReportState::Waiting, Details { lacks, ..Details::default() });
    }

    fn send_report(&mut self, pipeline: &str, state: ReportState, details: Details) {
        self.receive(pipeline, state, details);
        self.advance(&Scope::Target(id(pipeline)));
    }

    /// Stores the report of a target on its current order.
    pub(super) fn receive(&mut self, pipeline: &str, state: ReportState, details: Details) {
        self.now += Duration::seconds(1);
        let target = id(pipeline);
        let row = self.targets[&target].clone();
        let order = row.order.clone().unwrap();
        let last = row.report.as_ref().map(|report| report.at);
        let healthy = row.last_healthy(&order.change.repository).map(|change| change.revision);
        let good = if state == ReportState::Healthy { Some(order.change.revision.clone()) } else { healthy };
        let report = OrderReport {
            version: OrderReport::VERSION,
            pipeline: target.pipeline.clone(),
            number: order.number,
            id: order.change.id(),
            revision: order.change.revision.clone(),
            state,
            region: target.region.clone(),
            execution: None,
            reason: "an alarm rang".to_owned(),
            at: ReportTime::next(self.now, last),
            until: None,
            good,
            since: None,
            in_source: details.in_source,
            lacks: details.lacks,
            foreign_execution: None,
        };
        match row.receive(&report, self.now) {
            Reception::Stored { row, .. } => drop(self.targets.insert(target, row)),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn all(&mut self, pipelines: &[&str], state: ReportState) {
        for pipeline in pipelines {
            self.report(pipeline, state);
        }
    }

    /// The commit that a target was ordered to run last, with `<` for a rollback; 0 if it has no order.
    pub(super) fn ordered(&self, pipeline: &str) -> String {
        let order = self.targets.get(&id(pipeline)).and_then(|row| row.order.as_ref());
        order.map_or("0".to_owned(), |order| {
            let back = if order.kind == OrderKind::Rollback { "<" } else { "" };
            format!("{back}{}", number(&order.change))
        })
    }

    pub(super) fn orders(&self) -> String {
        ["a1", "a2", "b1", "b2", "c1", "c2"].map(|pipeline| self.ordered(pipeline)).join(" ")
    }

    pub(super) fn state(&self, wave: usize) -> WaveState {
        let observer = Observer { routes: &self.routes, route: self.route().name(), now: self.now };
        let wave_targets: Vec<TargetId> = self.route().waves()[wave].targets.iter().map(Target::id).collect();
        let none = TargetRow::default();
        let rows = wave_targets.iter().map(|target| (target, Some(self.targets.get(target).unwrap_or(&none))));
        observer.observe(&self.row, &self.row.waves[wave], rows)
    }

    pub(super) fn standings(&self, wave: usize) -> Vec<Standing> {
        self.state(wave).places.iter().map(|place| place.standing).collect()
    }

    pub(super) fn hold(&mut self, wave: Option<&str>) {
        self.row.hold(Hold {
            wave: wave.map(ToOwned::to_owned),
            source_ref: None,
            reason: "r".to_owned(),
            until: None,
            by: None,
            since: 0,
        });
        self.advance(&Scope::All);
    }

    pub(super) fn resume(&mut self, wave: Option<&str>) -> usize {
        let ended = self.row.resume(wave).len();
        self.advance(&Scope::All);
        ended
    }

    pub(super) fn accept(&mut self, wave: usize) {
        let targets: Vec<TargetId> = self.route().waves()[wave].targets.iter().map(Target::id).collect();
        for target in targets {
            if let Some(row) = self.targets.get(&target).and_then(|row| row.accepted(self.now)) {
                self.targets.insert(target, row);
            }
        }
        self.advance(&Scope::All);
    }

    /// The change with the n-th commit that was seen last.
    pub(super) fn seen(&self, n: u64) -> Option<u64> {
        self.row.changes.iter().rfind(|one| number(&one.change) == n).map(|one| one.seen)
    }

    pub(super) fn promote(&mut self, wave: &str, n: u64) {
        let seen = self.seen(n).unwrap();
        assert!(self.row.promote(wave, seen, self.now));
        self.advance(&Scope::All);
    }

    pub(super) fn pardon(&mut self, n: u64) -> bool {
        let change = Self::change(n, "main", 0);
        let pardoned = self.row.pardon(&change.repository, &change.revision, self.now);
        self.advance(&Scope::All);
        pardoned.is_some()
    }

    pub(super) fn recall(&mut self, wave: &str) -> bool {
        let recalled = self.row.recall(wave, None, "r", self.now).is_some();
        self.hold(Some(wave));
        recalled
    }

    pub(super) fn is_condemned(&self, n: u64) -> bool {
        self.row.condemnation(&Self::change(n, "main", 0)).is_some()
    }

    /// The outcomes of all decisions so far, with the commits.
    pub(super) fn outcomes(&mut self) -> Vec<String> {
        let text = |decision: Decision<Outcome>| {
            let commit = decision.concerns.get("commit").map_or("", |commit| commit.trim_start_matches('0'));
            let wave = decision.concerns.get("wave").map_or("", String::as_str);
            let outcome = serde_json::to_value(decision.outcome).unwrap();
            format!("{} {commit} {wave}", outcome.as_str().unwrap())
        };
        std::mem::take(&mut self.decisions).into_iter().map(text).collect()
    }
}

/// The number of a commit.
pub(super) fn number(change: &Change) -> u64 {
    u64::from_str_radix(change.revision.as_str(), 16).unwrap()
}

/// Whether a wave condemned the commit.
pub(super) fn is_by_wave(world: &World, n: u64) -> bool {
    let condemned = world.row.condemnation(&World::change(n, "main", 0));
    condemned.is_some_and(|one| matches!(one.by, Judge::Wave(_)))
}
