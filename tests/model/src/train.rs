//! One random history of a train: three waves over six targets in two accounts.
//!
//! Some commits are bad: some time after their deployment, an alarm rings until the pipeline has deployed another
//! commit. Other alarms ring for no such reason, are edited or deleted, or have no data. Functions are dead for hours,
//! and people send requests at any time.

mod answer;
pub(crate) mod configuration;
mod entry;
pub(crate) mod pair;
pub(crate) mod people;
pub(crate) mod settle;
pub(crate) mod witness;

use std::rc::Rc;

use pipeline_starter::world::{AlarmState, ExecutionStatus};
use sekisho_domain::change::Revision;
use time::Duration;

use self::configuration::{CONFIGURATIONS, EDITS, PAIR as PAIR_ROUTES, TARGETS, alarm, routes, waves};
use self::pair::PairWitness;
use self::witness::Witness;
use crate::check::{Broken, decisions};
use crate::cloud::{Cloud, PLACES};
use crate::codepipeline::at_commit;
use crate::configuration::Features;
use crate::deployment::{Deployment, FUNCTIONS};
use crate::history::History;
use crate::operator::{self, PAIR};
use crate::publisher;
use crate::report::TrainReport;
use crate::settle::run_minute;

/// The number of steps in a history before the faults end.
const STEPS: usize = 400;

/// The state of a history.
pub(crate) struct TrainHistory {
    pub(crate) history: History,
    seed: u64,
    /// Commits with this number and later ones are good.
    good_from: u64,
    /// Images with this number and later ones are good.
    good_images_from: u64,
    /// Whether the configuration changes.
    is_edited: bool,
    pub(crate) report: TrainReport,
}

/// Runs the history of this seed.
///
/// # Errors
/// The history broke a promise. The error describes the promise.
pub fn run(seed: u64) -> Result<TrainReport, Broken> {
    fastrand::seed(seed);
    let mut train = TrainHistory::new(seed);
    for _ in 0..STEPS {
        train.step()?;
        train.watch()?;
    }
    settle::settle(&mut train)?;
    train.watch()?;
    decisions::are_recorded(&train.history)?;
    settle::check_numbers(&train.history)?;
    Ok(train.into_report())
}

impl TrainHistory {
    fn new(seed: u64) -> Self {
        let cloud = Rc::new(Cloud::new(seed));
        cloud.has_images.set(seed % 3 == 1);
        let images = if cloud.has_images.get() { PAIR_ROUTES } else { 0 };
        let features = Features::new(cloud.chance.below(CONFIGURATIONS) + images);
        let is_edited = cloud.chance.percent(50);
        for place in &cloud.places {
            place.cloudwatch.skew.set(cloud.chance.skew() / 10);
            place.cloudwatch.lag.set(Duration::seconds(if cloud.chance.percent(50) { 5 } else { 0 }));
        }
        for (place, pipeline) in TARGETS {
            cloud.places[place].cloudwatch.create(&alarm(pipeline), cloud.clock.now.get() - Duration::days(1));
        }
        if cloud.has_images.get() {
            publisher::begin(&cloud);
            let created = cloud.clock.now.get() - Duration::days(1);
            cloud.places[pair::PLACE].cloudwatch.create(&alarm(PAIR), created);
        }
        let waves = (!is_edited).then(|| waves(features));
        let pair = PairWitness::new(&cloud);
        *cloud.train.borrow_mut() = Some(Witness { waves, features, pair, ..Witness::default() });
        let deployment = Deployment::new(&cloud, features, routes);
        Self {
            history: History::begin(seed, cloud, deployment),
            seed,
            good_from: u64::MAX,
            good_images_from: u64::MAX,
            is_edited,
            report: TrainReport::default(),
        }
    }

    fn into_report(self) -> TrainReport {
        let train = self.history.cloud.train.borrow();
        let witness = train.as_ref();
        TrainReport {
            crashes: self.history.lambda.crashes,
            orders: self.history.cloud.placed.borrow().len(),
            rollbacks: witness.map_or(0, |witness| witness.rollbacks),
            whole_sets: witness.map_or(0, |witness| witness.pair.rollbacks),
            failed_bakes: witness.map_or(0, |witness| witness.failed_bakes),
            ..self.report.clone()
        }
    }

    /// Ends the history if something went wrong.
    fn watch(&self) -> Result<(), Broken> {
        self.history.cloud.broken.borrow().first().map_or(Ok(()), |broken| Err(broken.clone()))
    }

    /// Makes one random thing happen.
    fn step(&mut self) -> Result<(), Broken> {
        let cloud = self.history.cloud.clone();
        // Histories without images draw the same numbers as they did before the model had images.
        if cloud.has_images.get() && cloud.chance.percent(3) {
            self.act_on_pair();
            return Ok(());
        }
        let History { in_flight, deeds, .. } = &mut self.history;
        match cloud.chance.below(200) {
            0..=5 => self.push(),
            6..=20 => self.history.deliver_in_flight(),
            21..=35 => self.history.deliver_order(),
            36..=50 => self.history.deliver_report(),
            51 => self.history.invoke_relay_schedule(),
            52..=59 => self.work(),
            60 => operator::edit_pipeline(&cloud, in_flight, deeds),
            61..=63 => operator::retry_stage(&cloud, in_flight, deeds),
            64 => self.start_by_other(),
            65 => self.toggle_pipeline(),
            66 => operator::toggle_bus(&cloud),
            67 => self.mute(),
            68..=69 if self.is_edited => self.edit_configuration(),
            70..=75 => self.disturb(),
            76..=79 => self.ask(),
            80 => self.die()?,
            81..=84 => self.history.retry(),
            85..=92 => self.history.pass(Duration::seconds(1)),
            93..=96 => self.history.pass(Duration::seconds(20)),
            97..=110 => self.minutes(1)?,
            111..=113 => self.minutes(10)?,
            114..=116 => self.history.lambda.crash(),
            _ => drop(self.history.lambda.poll()),
        }
        Ok(())
    }

    fn push(&mut self) {
        self.report.pushes += 1;
        people::push(&self.history.cloud, &mut self.history.in_flight);
    }

    /// Pushes, tags or deletes an image, or lets a person send a request about the pipeline with two sources.
    fn act_on_pair(&mut self) {
        let History { cloud, in_flight, .. } = &mut self.history;
        if cloud.chance.percent(80) {
            publisher::act(cloud, in_flight);
        } else if !self.seed.is_multiple_of(4) {
            self.report.requests += 1;
            let request = pair::request(cloud);
            self.history.request(request);
        }
    }

    /// Lets minutes pass, in which executions go on.
    fn minutes(&mut self, count: usize) -> Result<(), Broken> {
        for _ in 0..count {
            self.work();
            if self.history.cloud.chance.percent(70) {
                run_minute(&mut self.history)?;
            } else {
                self.history.pass_long(Duration::minutes(1));
            }
        }
        Ok(())
    }

    /// Lets each execution that runs go on with some probability.
    fn work(&mut self) {
        for place in 0..PLACES.len() {
            let running = self.history.cloud.places[place].codepipeline.with_status(ExecutionStatus::Running);
            for (pipeline, id) in running {
                match self.history.cloud.chance.below(12) {
                    0..=1 => self.deploy(place, &pipeline, &id),
                    2..=3 => self.end(place, &pipeline, &id),
                    4 if self.history.cloud.chance.percent(20) => {
                        let now = self.history.cloud.clock.now.get();
                        self.history.cloud.places[place].codepipeline.advance(&pipeline, &id, true, now);
                    }
                    _ => {}
                }
            }
        }
    }

    /// Lets an execution begin its deploy action, so that its commit is live.
    fn deploy(&mut self, place: usize, pipeline: &str, id: &str) {
        let cloud = &self.history.cloud;
        let now = cloud.clock.now.get();
        let state = &cloud.places[place];
        if !state.codepipeline.advance(pipeline, id, false, now) {
            return;
        }
        let Some(execution) = state.codepipeline.execution(pipeline, id) else { return };
        let rest = Duration::seconds(i64::try_from(cloud.chance.below(120)).unwrap_or_default());
        let rings = execution.pins.values().filter_map(|pin| self.fault(pin, pipeline)).min();
        self.report.bad_deployments += usize::from(rings.is_some());
        state.cloudwatch.deployed(&alarm(pipeline), now, rest, rings);
    }

    /// Ends an execution. One that succeeds has deployed.
    fn end(&mut self, place: usize, pipeline: &str, id: &str) {
        let cloud = self.history.cloud.clone();
        let chance = &cloud.chance;
        let execution = cloud.places[place].codepipeline.execution(pipeline, id);
        let lacks_source = execution.is_some_and(|execution| execution.lacks_source());
        let status = match chance.below(100) {
            _ if lacks_source => ExecutionStatus::Failed,
            _ if !chance.faults.get() => ExecutionStatus::Succeeded,
            0..=79 => ExecutionStatus::Succeeded,
            80..=93 => ExecutionStatus::Failed,
            94..=96 => ExecutionStatus::Stopped,
            _ => ExecutionStatus::Superseded,
        };
        if status == ExecutionStatus::Succeeded {
            self.deploy(place, pipeline, id);
            let execution = cloud.places[place].codepipeline.execution(pipeline, id);
            if !execution.is_some_and(|execution| execution.has_deployed) {
                return;
            }
        }
        let History { cloud, in_flight, .. } = &mut self.history;
        operator::set_status(cloud, in_flight, place, (pipeline, id), status);
    }

    /// How long after its deployment a commit or image makes the alarm of a pipeline ring.
    fn fault(&self, revision: &Revision, pipeline: &str) -> Option<Duration> {
        // The digits of a commit begin with the index of its repository and a copy of its number.
        let number = u64::from_str_radix(&revision.digits()[8..], 16).unwrap_or_default();
        let (good_from, salt) =
            if revision.is_digest() { (self.good_images_from, 1 << 32) } else { (self.good_from, 0) };
        let mut dice = fastrand::Rng::with_seed(self.seed.wrapping_mul(0x9E37_79B9).wrapping_add(number + salt));
        let is_bad = dice.u32(0..100) < 35 && number < good_from;
        let index = TARGETS.iter().position(|(_, name)| *name == pipeline).unwrap_or_default();
        let rings = (0..=index).map(|_| dice.u32(0..100) < 70).last().unwrap_or_default();
        (is_bad && rings).then(|| Duration::seconds(dice.i64(0..420)))
    }

    fn start_by_other(&mut self) {
        let cloud = &self.history.cloud;
        let (place, pipeline) = TARGETS[cloud.chance.below(TARGETS.len())];
        let commits = cloud.repositories[0].commits();
        if let Some(commit) = commits.get(cloud.chance.below(commits.len())) {
            let now = cloud.clock.now.get();
            cloud.places[place].codepipeline.start_by_other(pipeline, at_commit(commit), now, &cloud.chance);
        }
    }

    fn toggle_pipeline(&mut self) {
        let cloud = &self.history.cloud;
        let (place, pipeline) = TARGETS[cloud.chance.below(TARGETS.len())];
        cloud.places[place].codepipeline.toggle(pipeline);
    }

    /// Keeps the reports of an account from the repository account, or lets them through again.
    fn mute(&mut self) {
        let cloud = &self.history.cloud;
        let sender = cloud.places[cloud.chance.below(PLACES.len())].account;
        let muted = &cloud.report_bus.refused_sender;
        muted.set(if muted.get().is_some() { None } else { Some(sender) });
    }

    fn edit_configuration(&mut self) {
        let History { cloud, deployment, .. } = &mut self.history;
        if cloud.chance.percent(40) {
            self.report.edits += 1;
            deployment.newest = deployment.newest.toggled(cloud.chance.below(EDITS));
        }
        deployment.deploy(FUNCTIONS[cloud.chance.below(FUNCTIONS.len())]);
    }

    /// Lets an alarm ring or lose its data, or lets somebody edit or delete it.
    fn disturb(&mut self) {
        self.report.disturbed_alarms += 1;
        let cloud = &self.history.cloud;
        let (place, pipeline) = TARGETS[cloud.chance.below(TARGETS.len())];
        let (cloudwatch, name, now) = (&cloud.places[place].cloudwatch, alarm(pipeline), cloud.clock.now.get());
        let seconds = [5, 60, 600][cloud.chance.below(3)];
        match cloud.chance.below(10) {
            0..=5 => cloudwatch.disturb(&name, AlarmState::Ringing, now, Duration::seconds(seconds)),
            6..=7 => cloudwatch.disturb(&name, AlarmState::NoData, now, Duration::seconds(seconds)),
            8 => cloudwatch.edit(&name, now),
            _ => cloudwatch.toggle(&name, now),
        }
    }

    /// Lets a person send a request. In a third of the histories, nobody does.
    fn ask(&mut self) {
        if self.seed.is_multiple_of(3) {
            return;
        }
        let request = people::request(&self.history.cloud, self.history.deployment.newest);
        self.send(&request);
    }

    /// Sends a request to event-relay.
    fn send(&mut self, request: &people::Request) {
        self.report.requests += 1;
        self.history.request(request.payload());
    }

    /// Keeps a function from running for a while, such as over the end of a bake.
    fn die(&mut self) -> Result<(), Broken> {
        self.report.outages += 1;
        let function = FUNCTIONS[self.history.cloud.chance.below(FUNCTIONS.len())];
        self.history.lambda.crash_all(function);
        self.history.dead.push(function);
        let minutes = [5, 20, 150][self.history.cloud.chance.below(3)];
        self.minutes(minutes)?;
        self.history.dead.clear();
        Ok(())
    }
}
