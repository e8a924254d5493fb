//! Random histories of a train. The promises of the contract hold after each step.

use std::collections::{BTreeMap, BTreeSet};

use sekisho_domain::order::OrderKind;
use sekisho_domain::report::ReportState;

use super::super::*;
use super::world::{CONFIG, World, id, number, with};
use crate::target::Progress;
use crate::target::is_same_revision;
use crate::train::{Passage, Verdict};
use crate::wave::Standing;

/// `SEKISHO_HISTORIES` sets another number.
const HISTORIES: u64 = 60;
const STEPS: usize = 120;
const PIPELINES: [&str; 6] = ["a1", "a2", "b1", "b2", "c1", "c2"];
const WAVES: [&str; 3] = ["a", "b", "c"];
const FINAL: [ReportState; 4] =
    [ReportState::Healthy, ReportState::Failed, ReportState::RolledBack, ReportState::Unknown];

/// A generator of numbers whose seed repeats a history.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let sides = u64::try_from(from.len()).unwrap();
        from[usize::try_from(self.roll(sides)).unwrap()]
    }
}

fn configuration(dice: &mut Dice) -> String {
    let mut config = CONFIG.to_owned();
    for wave in WAVES {
        for keys in ["at_once = 1", "tolerate = 1", r#"retreat = "target""#, r#"retreat = "train""#] {
            let has_retreat = keys.starts_with("retreat");
            let marker = format!("#{wave}\n");
            if dice.roll(3) == 0 && !(has_retreat && config.split(&marker).next().unwrap().ends_with("\"\n")) {
                config = config.replace(&marker, &format!("{keys}\n{marker}"));
            }
        }
    }
    config
}

struct History {
    world: World,
    dice: Dice,
    commits: u64,
    /// The orders that ended, or that a person took for healthy. They may come to life again at any time.
    ended: BTreeSet<(TargetId, u64)>,
    log: Vec<String>,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let world = World::new(&configuration(&mut dice));
        Self { world, dice, commits: 0, ended: BTreeSet::new(), log: vec![] }
    }

    fn step(&mut self) {
        let wave = self.dice.pick(&WAVES);
        let index = WAVES.iter().position(|one| *one == wave).unwrap();
        match self.dice.roll(25) {
            24 => {
                let commit = self.dice.roll(self.commits.max(1)) + 1;
                self.log.push(format!("delete {commit}"));
                self.world.deleted.insert(commit);
            }
            0..=2 => self.push(),
            3..=15 => self.report(),
            16 => {
                let minutes = self.dice.pick(&[1, 30, 130]);
                self.log.push(format!("wait {minutes}"));
                self.world.wait(minutes);
            }
            17 => {
                let wave = if self.dice.roll(2) == 0 { Some(wave) } else { None };
                self.log.push(format!("hold {wave:?}"));
                self.world.hold(wave);
            }
            18 | 19 => {
                self.log.push("resume".to_owned());
                self.resume();
            }
            20 => self.accept(index),
            21 => self.promote(wave),
            22 => {
                let commit = self.dice.roll(self.commits.max(1)) + 1;
                self.log.push(format!("pardon {commit}"));
                self.world.pardon(commit);
            }
            _ => {
                self.log.push(format!("recall {wave}"));
                self.world.recall(wave);
            }
        }
    }

    fn resume(&mut self) {
        for wave in WAVES {
            self.world.resume(Some(wave));
        }
        self.world.resume(None);
    }

    fn push(&mut self) {
        let old = self.dice.roll(4) == 0 && self.commits > 0;
        let commit = if old { self.dice.roll(self.commits) + 1 } else { self.commits + 1 };
        self.commits = self.commits.max(commit);
        let branch = self.dice.pick(&["main", "hotfix"]);
        self.log.push(format!("push {commit} to {branch}"));
        self.world.push_to(branch, commit);
    }

    fn report(&mut self) {
        let pipeline = self.dice.pick(&PIPELINES);
        let Some(row) = self.world.targets.get(&id(pipeline)).filter(|row| row.order.is_some()) else { return };
        let order = row.order.clone().unwrap();
        let last = row.current_report().map(|report| report.state);
        let state = match (order.kind, last) {
            (OrderKind::Rollback, _) => self.dice.pick(&[
                ReportState::RollingBack,
                ReportState::RolledBack,
                ReportState::RolledBack,
                ReportState::Failed,
            ]),
            // A stage is retried.
            (_, Some(ReportState::Failed)) => ReportState::Running,
            (_, Some(ReportState::Healthy | ReportState::RolledBack)) => return,
            (_, Some(ReportState::RollingBack)) => self.dice.pick(&[ReportState::RolledBack, ReportState::Failed]),
            (_, Some(ReportState::Running | ReportState::Baking)) => self.dice.pick(&[
                ReportState::Healthy,
                ReportState::Healthy,
                ReportState::Healthy,
                ReportState::Failed,
                ReportState::RollingBack,
                ReportState::Unknown,
            ]),
            _ => self.dice.pick(&[
                ReportState::Refused,
                ReportState::Waiting,
                ReportState::Running,
                ReportState::Running,
            ]),
        };
        if FINAL.contains(&state) {
            self.ended.insert((id(pipeline), order.number));
        }
        self.log.push(format!("{pipeline} reports {} on {}", state.as_str(), number(&order.change)));
        self.world.report(pipeline, state);
    }

    fn accept(&mut self, wave: usize) {
        let rows = self.world.targets.iter();
        let orders = rows.filter_map(|(target, row)| Some((target.clone(), row.order.as_ref()?.number)));
        self.ended.extend(orders.filter(|(target, _)| target.pipeline.as_str().starts_with(WAVES[wave])));
        self.log.push(format!("accept {wave}"));
        self.world.accept(wave);
    }

    fn promote(&mut self, wave: &str) {
        let changes: Vec<u64> = self.world.row.changes.iter().map(|one| number(&one.change)).collect();
        let allowed: Vec<u64> = changes.into_iter().filter(|commit| !self.world.is_condemned(*commit)).collect();
        if !allowed.is_empty() {
            let commit = self.dice.pick(&allowed);
            self.log.push(format!("promote {commit} into {wave}"));
            self.world.promote(wave, commit);
        }
    }

    /// Checks what must hold after each step. `before` is the train before the step.
    fn check(&self, before: &World) {
        self.check_orders(before);
        self.check_entries(before);
        for index in 0..WAVES.len() {
            self.check_one_change(index);
            self.check_waits(index);
            self.check_rollbacks(index);
        }
        let next = self.world.decide(&Scope::All);
        assert_eq!(next, self.world.decide(&Scope::All), "the same facts give the same decisions");
    }

    /// The numbers of a target's orders rise, and nobody gets a condemned change.
    fn check_orders(&self, before: &World) {
        let mut numbers: BTreeMap<&TargetId, u64> = BTreeMap::new();
        for (target, order) in &self.world.placed {
            let last = numbers.insert(target, order.number).unwrap_or(0);
            assert!(order.number > last, "{target}: {} after {last}", order.number);
        }
        for (target, order) in &self.world.placed[before.placed.len()..] {
            let is_condemned = self.world.row.condemnation(&order.change).is_some();
            assert!(order.kind == OrderKind::Rollback || !is_condemned, "{target} gets a condemned change");
            let is_deleted = self.world.deleted.contains(&number(&order.change));
            assert!(!is_deleted, "{target} gets an image that was deleted");
        }
    }

    /// A change enters a wave after it was healthy in the wave before, and a wave takes only newer changes, unless a
    /// person promoted or pardoned the change.
    fn check_entries(&self, before: &World) {
        for (index, (old, wave)) in before.row.waves.iter().zip(&self.world.row.waves).enumerate() {
            let Some(passage) = wave.passage.as_ref().filter(|passage| !is_same_entry(old.passage.as_ref(), passage))
            else {
                continue;
            };
            if passage.promoted {
                continue;
            }
            let was_healthy = index == 0 || self.world.row.waves[index - 1].healthy.contains(&passage.seen);
            assert!(was_healthy, "the change was not healthy before it entered the wave {index}");
            let is_again = self.world.row.change(passage.seen).unwrap().again;
            assert!(passage.seen > old.newest || is_again, "the wave {index} goes back by itself");
        }
    }

    /// The targets of a wave work on one change at a time.
    fn check_one_change(&self, index: usize) {
        let mut works = BTreeSet::new();
        for pipeline in &PIPELINES[index * 2..index * 2 + 2] {
            let Some(row) = self.world.targets.get(&id(pipeline)) else { continue };
            let Some(order) = row.order.as_ref().filter(|order| order.kind == OrderKind::Deploy) else { continue };
            let is_working = matches!(row.progress(self.world.now), Some(Progress::Running | Progress::GoingBack));
            if is_working && !self.ended.contains(&(id(pipeline), order.number)) {
                works.insert(order.train.as_ref().unwrap().seen);
            }
        }
        assert!(works.len() <= 1, "the wave {index} works on {works:?}");
    }

    /// A wave that is not free, or that a change could enter, waits for something that can come.
    fn check_waits(&self, index: usize) {
        let Some(wave) = self.world.row.waves.get(index) else { return };
        let at = &self.world.route().waves()[index];
        let standings = self.world.standings(index);
        let is_busy = standings.iter().any(|one| one.is_in_flight() || *one == Standing::Unknown);
        let is_gated = |seen: u64| {
            gate(&self.world.row, at, &self.world.row.change(seen).unwrap().change, self.world.now).is_some()
        };
        if let Some(passage) = wave.open() {
            let has_rest = standings.contains(&Standing::Todo);
            assert!(is_busy || has_rest && is_gated(passage.seen), "the wave {index} waits for nothing: {standings:?}");
        } else if wave.promotion.is_some() {
            assert!(is_busy, "the promotion waits for nothing: {standings:?}");
        }
    }

    /// No target of a failed wave keeps the change, if it can go back.
    fn check_rollbacks(&self, index: usize) {
        let Some(passage) = self.world.row.waves.get(index).and_then(|wave| wave.passage.as_ref()) else { return };
        let is_target_only = self.world.route().waves()[index].retreat == sekisho_domain::route::Retreat::Target;
        let change = &self.world.row.change(passage.seen).unwrap().change;
        let fails = passage.verdict == Verdict::Failed && !passage.failed.is_empty() && !is_target_only;
        if !(fails || passage.recalled) || self.world.row.condemnation(change).is_none() {
            return;
        }
        for pipeline in &PIPELINES[index * 2..index * 2 + 2] {
            let Some(row) = self.world.targets.get(&id(pipeline)) else { continue };
            let Some(order) = row.order.as_ref().filter(|order| order.kind == OrderKind::Deploy) else { continue };
            let has_change = order.train.as_ref().unwrap().seen == passage.seen;
            let may_go = |before: &Change| !is_same_revision(before, change) && !self.world.row.is_gone(before);
            let can_go = order.before.as_ref().is_some_and(may_go);
            let is_there = row.progress(self.world.now) == Some(Progress::Healthy);
            assert!(!(has_change && can_go && is_there), "{pipeline} keeps a change that failed");
        }
    }

    /// Every target answers and nobody holds anything. Then the newest change gets everywhere.
    fn finish(&mut self) {
        self.log.push("finish".to_owned());
        self.resume();
        self.settle();
        for wave in &self.world.row.waves {
            assert!(wave.open().is_none(), "a change stays in the wave {}", wave.name);
            assert_eq!(wave.promotion, None);
        }
        self.commits += 1;
        self.world.push(self.commits);
        self.settle();
        let newest = self.commits.to_string();
        assert_eq!(self.world.orders(), [newest.as_str(); 6].join(" "));
    }

    fn settle(&mut self) {
        for _ in 0..60 {
            (0..WAVES.len()).for_each(|wave| self.world.accept(wave));
            let open: Vec<&str> = PIPELINES.into_iter().filter(|pipeline| self.is_open(pipeline)).collect();
            if open.is_empty() {
                return;
            }
            for pipeline in open.into_iter().filter(|pipeline| self.is_open(pipeline)).collect::<Vec<_>>() {
                let kind = self.world.targets[&id(pipeline)].order.as_ref().unwrap().kind;
                let state = if kind == OrderKind::Deploy { ReportState::Healthy } else { ReportState::RolledBack };
                self.world.report(pipeline, state);
            }
        }
        panic!("the targets never rest");
    }

    fn is_open(&self, pipeline: &str) -> bool {
        let row = self.world.targets.get(&id(pipeline));
        row.and_then(|row| row.progress(self.world.now)).is_some_and(|progress| !progress.is_settled())
    }
}

fn is_same_entry(old: Option<&Passage>, new: &Passage) -> bool {
    old.is_some_and(|old| (old.seen, old.sequence) == (new.seen, new.sequence))
}

fn run(seed: u64) {
    let mut history = History::new(seed);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for _ in 0..STEPS {
            let before = history.world.clone();
            history.step();
            history.check(&before);
        }
        history.finish();
    }));
    if let Err(panic) = result {
        let start = history.log.len().saturating_sub(40);
        eprintln!("seed {seed}:\n{}", history.log[start..].join("\n"));
        std::panic::resume_unwind(panic);
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a person sets the number of histories")]
fn random_histories_keep_the_promises() {
    let count = std::env::var("SEKISHO_HISTORIES").ok().and_then(|count| count.parse().ok());
    (1..=count.unwrap_or(HISTORIES)).for_each(run);
}

/// The configuration really has the keys that it should have.
#[test]
fn the_histories_run_with_different_configurations() {
    let config = with("a", "at_once = 1");
    assert_eq!(World::new(&config).route().waves()[0].at_once.map(std::num::NonZeroU32::get), Some(1));
    let configs: BTreeSet<String> = (1..20).map(|seed| configuration(&mut Dice(seed * 977))).collect();
    assert!(configs.len() > 10);
}
