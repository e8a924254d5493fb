//! Random histories of a train. The promises of the contract hold after each step.

use std::collections::BTreeSet;

use sekisho_domain::order::OrderKind;
use sekisho_domain::report::ReportState;
use time::Duration;

use super::super::*;
use super::promises::{Promises, check_scope};
use super::record::{PIPELINES, Record, WAVES};
use super::world::{CONFIG, Details, World, id, number, with};
use crate::train::Arrival;

/// `SEKISHO_HISTORIES` sets another number, and `SEKISHO_SEED` runs only the history with that seed.
const HISTORIES: u64 = 60;
const STEPS: usize = 120;
/// The key of a wave that is open for a while after the start, and opens and closes again within some hours.
const WINDOWS: &str = r#"windows = ["Mon-Sun 12:00-13:00 UTC", "Mon-Sun 14:30-17:00 UTC"]"#;

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
        let keys = ["at_once = 1", "tolerate = 1", WINDOWS].into_iter().filter(|_| dice.roll(3) == 0);
        let mut keys: Vec<&str> = keys.collect();
        keys.extend(dice.pick(&[None, None, Some(r#"retreat = "target""#), Some(r#"retreat = "train""#)]));
        let marker = format!("#{wave}\n");
        for key in keys {
            config = config.replace(&marker, &format!("{key}\n{marker}"));
        }
    }
    config
}

struct History {
    world: World,
    dice: Dice,
    commits: u64,
    record: Record,
    log: Vec<String>,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let world = World::new(&configuration(&mut dice));
        Self { world, dice, commits: 0, record: Record::default(), log: vec![] }
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
        if self.world.clone().arrive(branch, commit) == Arrival::Joined {
            check_scope(&self.world, &Scope::Arrival, |world| {
                world.arrive(branch, commit);
            });
        }
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
        self.log.push(format!("{pipeline} reports {} on {}", state.as_str(), number(&order.change)));
        let receive = |world: &mut World| world.receive(pipeline, state, Details::default());
        check_scope(&self.world, &Scope::Target(id(pipeline)), receive);
        self.record.note_report(&self.world, &id(pipeline), state, self.world.now + Duration::seconds(1));
        self.world.report(pipeline, state);
    }

    fn accept(&mut self, wave: usize) {
        self.record.note_acceptance(&self.world, wave);
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
    fn check(&mut self, before: &World) {
        let newest = self.record.newest();
        self.record.note(&self.world);
        Promises { before, after: &self.world, record: &self.record, newest }.check();
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

    /// Lets every target answer until all of them rest while the windows are open.
    fn settle(&mut self) {
        for _ in 0..60 {
            self.await_windows();
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

    fn await_windows(&mut self) {
        for _ in 0..48 {
            let now = self.world.now;
            if self.world.route().waves().iter().all(|wave| wave.windows.is_open(now)) {
                return;
            }
            self.world.wait(30);
        }
        panic!("the windows never open");
    }

    fn is_open(&self, pipeline: &str) -> bool {
        let row = self.world.targets.get(&id(pipeline));
        row.and_then(|row| row.progress(self.world.now)).is_some_and(|progress| !progress.is_settled())
    }
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
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match number("SEKISHO_SEED") {
        Some(seed) => run(seed),
        None => (1..=number("SEKISHO_HISTORIES").unwrap_or(HISTORIES)).for_each(run),
    }
}

/// The configuration really has the keys that it should have.
#[test]
fn the_histories_run_with_different_configurations() {
    let config = with("a", "at_once = 1");
    assert_eq!(World::new(&config).route().waves()[0].at_once.map(std::num::NonZeroU32::get), Some(1));
    let configs: BTreeSet<String> = (1..20).map(|seed| configuration(&mut Dice(seed * 977))).collect();
    assert!(configs.len() > 10);
    for key in ["at_once = 1", "tolerate = 1", WINDOWS, r#"retreat = "target""#, r#"retreat = "train""#] {
        let having = configs.iter().filter(|config| config.contains(key)).count();
        assert!(having > 4, "only {having} configurations have `{key}`");
    }
}
