//! The promises of a train that are checked at the moment when event-relay places an order, and when pipeline-starter
//! sends a report.

use std::collections::BTreeSet;

use event_relay::target::{self, PlacedOrder, TargetRow};
use event_relay::train::{self, Hold, TrainRow};
use pipeline_starter::order::{self, OrderRow};
use pipeline_starter::world::Entry;
use sekisho_domain::change::Revision;
use sekisho_domain::order::OrderKind;
use sekisho_domain::report::{OrderReport, ReportState};
use sekisho_domain::timestamp::{epoch_millis, from_epoch_millis};
use sekisho_ledger::{Key, Memory, Row, Store};
use serde::de::DeserializeOwned;
use time::{Duration, OffsetDateTime};

use crate::check::Broken;
use crate::cloud::Cloud;
use crate::configuration::{self, Features};
use crate::ledger::at_once;
use crate::train::configuration::{ROUTE, TARGETS, alarm, tolerated, wave_names};
use crate::train::entry::{self, Deploy, Other};
use crate::train::pair::PairWitness;

/// The largest difference between a time in a row and the true time: a clock is up to 20 seconds off, and so is
/// CodePipeline's.
const TOLERANCE: Duration = Duration::seconds(45);

/// After this time in milliseconds, a target without an answer counts as silent.
const LONGEST_SILENCE: u64 = 2 * 60 * 60 * 1_000;

/// What the model knows about its train.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    /// The commits that a target called healthy, each with the target's place and pipeline.
    pub(crate) healthy: BTreeSet<(usize, String, Revision)>,
    /// The targets of the waves, unless the configuration changes in the history.
    pub(crate) waves: Option<[Vec<(usize, &'static str)>; 3]>,
    /// The features of the first configuration.
    pub(crate) features: Features,
    /// The changes that each wave has taken, the oldest first. A change that was taken again is there again.
    pub(crate) taken: [Vec<u64>; 3],
    /// The orders that ended, each with the target's place and pipeline.
    pub(crate) ended: BTreeSet<(usize, String, u64)>,
    /// The changes that failed in a target, each with the target's place and pipeline.
    pub(crate) failed: BTreeSet<(usize, String, u64)>,
    /// The changes of which a person accepted an unknown target. They may go on without a target that called them
    /// healthy.
    pub(crate) accepted: BTreeSet<u64>,
    /// What the model knows about the pipeline with two sources.
    pub(crate) pair: PairWitness,
    /// The number of orders of kind `rollback`.
    pub(crate) rollbacks: usize,
    /// The number of bakes that failed.
    pub(crate) failed_bakes: usize,
}

/// Notes whether a person took the target of an order for healthy, when event-relay has just written the target's row.
pub(crate) fn see_row(cloud: &Cloud, order: &PlacedOrder) {
    let mut train = cloud.train.borrow_mut();
    let accepted = order.train.as_ref().filter(|of| of.accepted && of.route == ROUTE);
    if let Some((witness, of)) = train.as_mut().zip(accepted) {
        witness.accepted.insert(of.seen);
    }
}

/// Checks an order that event-relay has just placed.
pub(crate) fn see_order(cloud: &Cloud, key: &Key, placed: &PlacedOrder) {
    let mut train = cloud.train.borrow_mut();
    let Some(witness) = train.as_mut() else { return };
    let target = TARGETS.into_iter().find(|(place, name)| target::key(&configuration::target(*place, name)) == *key);
    let Some(target) = target else { return };
    if placed.kind == OrderKind::Rollback {
        witness.rollbacks += 1;
    }
    let result = check_order(cloud, witness, target, placed);
    if let Err(broken) = result {
        let (place, pipeline) = target;
        let what = format!("order {} to {place}/{pipeline}: {}", placed.number, broken.0);
        cloud.broken.borrow_mut().push(Broken(what));
    }
}

fn check_order(
    cloud: &Cloud,
    witness: &mut Witness,
    (place, pipeline): (usize, &'static str),
    placed: &PlacedOrder,
) -> Result<(), Broken> {
    let Some(order) = &placed.train else { return Err(Broken("the order is no order of a wave".to_owned())) };
    let row: TrainRow = read(&cloud.relay_ledger, &train::key(ROUTE))?.unwrap_or_default();
    entry::check_change(placed, order, &row)?;
    if placed.kind == OrderKind::Rollback {
        return Ok(());
    }
    let commit = &placed.change.revision;
    if row.condemnation(&placed.change).is_some() {
        return Err(Broken(format!("commit {commit} is condemned")));
    }
    let millis = epoch_millis(cloud.clock.now.get() + TOLERANCE);
    let wave = witness.wave_of(place, pipeline).map(|index| wave_names(witness.features)[index]);
    let is_held = |hold: &&Hold| {
        let is_of_wave = hold.wave.as_deref().is_none_or(|name| Some(name) == wave);
        is_of_wave && hold.source_ref.is_none() && hold.until.is_none_or(|until| until > millis)
    };
    if let Some(hold) = row.holds.iter().find(is_held).filter(|_| !order.promoted) {
        return Err(Broken(format!("{} is held", hold.wave.as_deref().unwrap_or("the train"))));
    }
    let was_healthy = |name: &str| {
        let in_place = |place| witness.healthy.contains(&(place, name.to_owned(), commit.clone()));
        in_place(0) || in_place(1)
    };
    // One target of the second wave may move to the third one.
    let earlier: &[&str] = match (place, pipeline) {
        (_, "one") => &[],
        (1, "two") => &["one", "two"],
        (_, "two") => &["one"],
        _ => &["two"],
    };
    let is_free = order.promoted || order.joined || witness.accepted.contains(&order.seen);
    if !is_free && !earlier.is_empty() && !earlier.iter().any(|name| was_healthy(name)) {
        return Err(Broken(format!("commit {commit} was never healthy in the wave before")));
    }
    let key = target::key(&configuration::target(place, pipeline));
    let target: TargetRow = read(&cloud.relay_ledger, &key)?.unwrap_or_default();
    let all = cloud.placed.borrow();
    let before = all.iter().rfind(|one| one.key == key && one.order.number < placed.number).map(|one| &one.order);
    let has_replaced_unstarted = entry::has_replaced_unstarted(&target, before);
    let now = cloud.clock.now.get();
    let deploy = Deploy { place, pipeline, placed, order, has_replaced_unstarted, train: &row, now };
    entry::check_window(witness, &deploy)?;
    // In the other histories, targets move between waves.
    let Some(index) = witness.wave_of(place, pipeline) else { return Ok(()) };
    if let Some(before) = index.checked_sub(1).filter(|_| !is_free) {
        check_wave_before(cloud, witness, before, &deploy)?;
    }
    let others: Vec<Other> = witness.rows(cloud, index)?;
    let others: Vec<Other> =
        others.into_iter().filter(|other| (other.place, other.pipeline) != (place, pipeline)).collect();
    for Other { place, pipeline, row } in &others {
        if let Some(what) = works_on_another(row, order.seen, millis) {
            return Err(Broken(format!("{place}/{pipeline} of the same wave {what}")));
        }
    }
    entry::check_others(witness, index, &others, &deploy)?;
    entry::check_newer(&mut witness.taken[index], &deploy)
}

/// Checks that no target of the wave before is unknown with the change, and that no more of them failed with it than the
/// wave tolerates. A target that has taken another change since does not count.
fn check_wave_before(cloud: &Cloud, witness: &Witness, before: usize, deploy: &Deploy<'_>) -> Result<(), Broken> {
    let rows = witness.rows(cloud, before)?;
    for Other { place, pipeline, row } in &rows {
        let order = row.order.as_ref().and_then(|order| order.train.as_ref());
        let report = row.current_report();
        let is_unknown = report.is_some_and(|report| report.state == ReportState::Unknown || report.in_source);
        if is_unknown && order.is_some_and(|order| order.seen == deploy.order.seen && !order.joined) {
            return Err(Broken(format!("{place}/{pipeline} of the wave before is unknown")));
        }
    }
    let failed = rows.iter().filter(|other| entry::has_failed(&other.row, deploy)).count();
    if failed > tolerated(witness.features, before) {
        return Err(Broken(format!(
            "{failed} targets of the wave before failed with the change {}",
            deploy.order.seen
        )));
    }
    Ok(())
}

impl Witness {
    /// The index of a target's wave, unless the configuration changes in the history.
    pub(crate) fn wave_of(&self, place: usize, pipeline: &'static str) -> Option<usize> {
        self.waves.as_ref()?.iter().position(|wave| wave.contains(&(place, pipeline)))
    }

    /// The targets of a wave that have rows.
    fn rows(&self, cloud: &Cloud, index: usize) -> Result<Vec<Other>, Broken> {
        let mut rows = Vec::new();
        for (place, pipeline) in self.waves.iter().flat_map(|waves| &waves[index]).copied() {
            let key = target::key(&configuration::target(place, pipeline));
            rows.extend(read(&cloud.relay_ledger, &key)?.map(|row| Other { place, pipeline, row }));
        }
        Ok(rows)
    }

    /// Notes what a report says about the end of its order.
    fn see_end(&mut self, cloud: &Cloud, place: usize, report: &OrderReport) {
        let target = TARGETS.into_iter().find(|target| *target == (place, report.pipeline.as_str()));
        let Some((_, pipeline)) = target.filter(|_| report.state.is_final()) else { return };
        self.ended.insert((place, pipeline.to_owned(), report.number));
        let key = target::key(&configuration::target(place, pipeline));
        let all = cloud.placed.borrow();
        let placed = all.iter().rfind(|one| one.key == key && one.order.number == report.number);
        let Some(order) = placed.map(|one| &one.order).filter(|order| order.kind == OrderKind::Deploy) else { return };
        let has_failed = match report.state {
            ReportState::Failed => !report.in_source,
            state => state == ReportState::RolledBack,
        };
        if let Some(of) = order.train.as_ref().filter(|_| has_failed) {
            self.failed.insert((place, pipeline.to_owned(), of.seen));
        }
    }
}

/// What a target of the wave still does with another change than this one.
fn works_on_another(row: &TargetRow, seen: u64, now: u64) -> Option<String> {
    let order = row.order.as_ref().filter(|_| !is_given_up(row, now))?;
    let train = order.train.as_ref().filter(|train| train.seen != seen && !train.accepted)?;
    let state = row.current_report().map(|report| report.state);
    let is_in_source = row.current_report().is_some_and(|report| report.in_source);
    let is_over = match state {
        _ if is_in_source => false,
        Some(ReportState::Healthy | ReportState::Failed | ReportState::RolledBack) => true,
        Some(ReportState::Waiting | ReportState::Refused) => order.kind == OrderKind::Deploy,
        _ => false,
    };
    (!is_over).then(|| format!("has reported {state:?} on order {} of the change {}", order.number, train.seen))
}

/// Whether nobody waits for the target's answer any more, because the change is not offered any more, and the target has
/// not answered for two hours.
pub(crate) fn is_given_up(row: &TargetRow, now: u64) -> bool {
    let is_silent = |order: &PlacedOrder| order.withdrawn && now >= order.placed + LONGEST_SILENCE;
    row.order.as_ref().is_some_and(is_silent) && row.current_report().is_none()
}

/// Checks a report that pipeline-starter is about to send.
pub(crate) fn see_report(cloud: &Cloud, place: usize, event: &Entry) {
    let mut train = cloud.train.borrow_mut();
    let Some(witness) = train.as_mut() else { return };
    let Ok(report) = OrderReport::parse(&event.detail) else { return };
    let key = order::key(&report.pipeline);
    let row = read::<OrderRow>(&cloud.places[place].ledger, &key);
    let checked = row.and_then(|row| check_report(cloud, place, &report, row.as_ref()));
    witness.pair.see_report(cloud, &report);
    witness.see_end(cloud, place, &report);
    if report.state == ReportState::Healthy {
        witness.healthy.insert((place, report.pipeline.to_string(), report.revision.clone()));
    }
    if report.state == ReportState::RolledBack {
        let good = report.good.clone();
        witness.healthy.extend(good.map(|good| (place, report.pipeline.to_string(), good)));
        witness.failed_bakes += 1;
    }
    if let Err(broken) = checked {
        let what = format!("report on order {} of {place}/{}: {}", report.number, report.pipeline, broken.0);
        cloud.broken.borrow_mut().push(Broken(what));
    }
}

fn check_report(cloud: &Cloud, place: usize, report: &OrderReport, row: Option<&OrderRow>) -> Result<(), Broken> {
    let Some(row) = row.filter(|row| row.number == report.number) else { return Ok(()) };
    if row.kind == OrderKind::Rollback && row.awaits_alarms {
        return Err(Broken("a rollback waits for alarms".to_owned()));
    }
    let has_bake = row.ordered_bake.is_some_and(|bake| !bake.duration().is_zero());
    if report.state != ReportState::Healthy || row.kind == OrderKind::Rollback || !has_bake {
        return Ok(());
    }
    let window = row.bake.as_ref().and_then(|bake| bake.window.as_ref());
    let times = window.and_then(|window| Some((time(window.since)?, time(window.until)?)));
    let Some((since, until)) = times else { return Err(Broken("healthy without a bake".to_owned())) };
    if cloud.clock.now.get() + TOLERANCE < until {
        return Err(Broken("healthy before the end of the bake".to_owned()));
    }
    let name = alarm(report.pipeline.as_str());
    if !row.promoted && cloud.places[place].cloudwatch.rang(&name, since + TOLERANCE, until - TOLERANCE) {
        return Err(Broken(format!("healthy, and alarm {name} rang between {since} and {until}")));
    }
    Ok(())
}

fn time(millis: u64) -> Option<OffsetDateTime> {
    i64::try_from(millis).ok().and_then(from_epoch_millis)
}

/// Reads a row of a ledger in memory.
pub(crate) fn read<T: DeserializeOwned>(ledger: &Memory, key: &Key) -> Result<Option<T>, Broken> {
    Ok(at_once(ledger.read::<T>(key))?.map(|row: Row<T>| row.state))
}
