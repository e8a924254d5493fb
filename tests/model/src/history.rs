//! One random history. It begins with an empty or an old ledger, and ends when every order has been carried out.

use std::collections::BTreeSet;
use std::rc::Rc;

use sekisho_domain::change::{RefKind, SourceRef};
use time::Duration;

use crate::bus::Message;
use crate::check::{self, Broken, Traffic};
use crate::cloud::{Cloud, PLACES, REPOSITORY_ACCOUNT, REPOSITORY_REGION};
use crate::codepipeline::CodePipeline;
use crate::configuration::{CONFIGURATIONS, Features, IMAGE_GLOB, IMAGES, RELEASE_GLOB, TOGGLED};
use crate::deployment::{Deployment, FUNCTIONS};
use crate::developer::{self, Deed};
use crate::event;
use crate::in_flight::InFlight;
use crate::lambda::{Event, Function, Lambda};
use crate::ledger;
use crate::operator::{self, Deeds, PAIR};
use crate::publisher;
use crate::report::Report;
use crate::repository::{IMAGES as IMAGE_TAGS, Reference, SHELF, SHOP};
use crate::settle;
use crate::upgrade::{self, Upgrade};

/// The number of steps in a history before the faults end.
const STEPS: usize = 260;

/// The most steps in which the running invocations finish before a long time passes.
const MAX_FINISHING_STEPS: usize = 200;

/// The features that add a glob, each with the references that the glob covers.
const GLOBS: [(u16, RefKind, &str, &[usize]); 2] =
    [(RELEASE_GLOB, RefKind::Branch, "release/", &[SHOP, SHELF]), (IMAGE_GLOB, RefKind::Image, "v", &[IMAGE_TAGS])];

/// The state of a history.
pub(crate) struct History {
    pub(crate) cloud: Rc<Cloud>,
    pub(crate) lambda: Lambda,
    pub(crate) deployment: Deployment,
    pub(crate) in_flight: InFlight,
    pub(crate) deeds: Deeds,
    pub(crate) report: Report,
    /// Whether a person sends the messages of the dead-letter queues again after the end of the faults. In the other
    /// histories, these messages are lost.
    pub(crate) has_redrive: bool,
    /// The rows of an earlier version with which the history began.
    pub(crate) upgrade: Upgrade,
    /// The branches that existed when event-relay first got a glob that covers them, and did not move since then.
    pub(crate) baselines: BTreeSet<Reference>,
    /// Functions that cannot run at the moment.
    pub(crate) dead: Vec<Function>,
    /// Whether event-relay's ledger may be lost. It is lost at most once.
    may_lose_ledger: bool,
    /// Whether time passes rarely, so that many things happen within one millisecond.
    is_crowded: bool,
    /// While this many invocations run, no push, event or end of an execution happens. The number is small in half of
    /// the histories. If a hundred invocations ran at once, the model would not find mistakes, because another
    /// invocation would always repair what one invocation missed.
    max_running: usize,
}

/// Runs the history of this seed.
///
/// # Errors
/// The history broke a promise. The error describes the promise.
pub fn run(seed: u64) -> Result<Report, Broken> {
    // The functions' pauses have a random part, which comes from the generator of the thread.
    fastrand::seed(seed);
    let mut history = History::new(seed);
    if seed % 4 == 1 {
        history.upgrade = upgrade::prepare(&history.cloud)?;
        settle::first_reconcile(&mut history)?;
    }
    for _ in 0..STEPS {
        history.step();
    }
    settle::settle(&mut history)?;
    if let Some(broken) = history.cloud.broken.borrow().first() {
        return Err(broken.clone());
    }
    let traffic = Traffic::read(&history.cloud)?;
    check::check(&history, &traffic)?;
    check::count(&history.cloud, &traffic, &mut history.report)?;
    Ok(history.into_report())
}

impl History {
    fn new(seed: u64) -> Self {
        let cloud = Rc::new(Cloud::new(seed));
        if seed.is_multiple_of(5) {
            // pipeline-starter gives up its quick retries only if CodePipeline defers nearly every start.
            cloud.places.iter().for_each(|place| place.codepipeline.busy.set(80));
        }
        let features = cloud.chance.below(usize::from(CONFIGURATIONS));
        cloud.has_images.set(seed % 3 == 2);
        let features = if cloud.has_images.get() {
            publisher::begin(&cloud);
            let glob = usize::from(IMAGE_GLOB) * cloud.chance.below(2);
            Features::new(features + glob + usize::from(IMAGES))
        } else {
            Features::new(features)
        };
        let deployment = Deployment::new(&cloud, features, Features::routes);
        Self::begin(seed, cloud, deployment)
    }

    /// A history in which nothing has happened.
    pub(crate) fn begin(seed: u64, cloud: Rc<Cloud>, deployment: Deployment) -> Self {
        Self {
            lambda: Lambda::new(&cloud),
            deployment,
            in_flight: InFlight::default(),
            deeds: Deeds::default(),
            report: Report::default(),
            has_redrive: seed % 2 == 1,
            upgrade: Upgrade::default(),
            baselines: BTreeSet::new(),
            dead: Vec::new(),
            may_lose_ledger: matches!(seed % 8, 3 | 5),
            is_crowded: seed.is_multiple_of(4),
            max_running: if cloud.chance.percent(50) { usize::MAX } else { 2 },
            cloud,
        }
    }

    fn into_report(self) -> Report {
        let buses = self.cloud.places.iter().map(|place| &place.bus);
        let pipelines = || self.cloud.places.iter().map(|place| &place.codepipeline);
        Report {
            lost: self.in_flight.lost,
            crashes: self.lambda.crashes,
            retries: self.lambda.retries,
            not_accepted: buses.chain([&self.cloud.report_bus]).map(|bus| bus.not_accepted.get()).sum(),
            late_starts: pipelines().map(|codepipeline| codepipeline.late_count.get()).sum(),
            lost_starts: pipelines().map(|codepipeline| codepipeline.lost_answers.get()).sum(),
            executions: pipelines().map(CodePipeline::ordered_count).sum(),
            other_executions: self.deeds.by_others,
            canceled: self.deeds.canceled,
            stopped: self.deeds.stopped,
            retried_stages: self.deeds.retried,
            failed_sources: self.deeds.failed_in_source,
            baselines: self.baselines.len(),
            lost_ledgers: usize::from(self.cloud.is_ledger_lost.get()),
            lost_images: self.cloud.registry.gone_count(),
            pairs: self.cloud.places[1].codepipeline.executions(PAIR).iter().filter(|one| one.token.is_some()).count(),
            upgrades: usize::from(self.upgrade.is_upgrade()),
            ..self.report
        }
    }

    /// Makes one random thing happen.
    fn step(&mut self) {
        // Histories without images draw the same numbers as they did before the model had images.
        if self.cloud.has_images.get() && self.cloud.chance.percent(6) {
            return self.publish(publisher::act);
        }
        match self.cloud.chance.below(200) {
            0..=85 if self.lambda.running() >= self.max_running => drop(self.lambda.poll()),
            90..=115 if self.is_crowded && self.cloud.chance.below(20) > 0 => drop(self.lambda.poll()),
            0..=9 => self.develop(developer::push),
            10..=12 => self.develop(developer::force_push),
            13..=15 => self.develop(developer::tag),
            16..=17 => self.develop(developer::delete),
            18..=37 => self.deliver_in_flight(),
            38..=57 => self.deliver_order(),
            58..=69 => self.deliver_report(),
            70..=71 => self.invoke_relay_schedule(),
            72..=76 => operator::end_any(&self.cloud, &mut self.in_flight, &mut self.deeds),
            77..=78 => operator::edit_pipeline(&self.cloud, &mut self.in_flight, &mut self.deeds),
            79..=80 => operator::retry_stage(&self.cloud, &mut self.in_flight, &mut self.deeds),
            81 => operator::start_by_other(&self.cloud, &mut self.deeds),
            82 => operator::toggle_pipeline(&self.cloud),
            83 => operator::toggle_bus(&self.cloud),
            84 => {
                let count = TOGGLED[usize::from(self.cloud.has_images.get())];
                self.deployment.newest = self.deployment.newest.toggled(self.cloud.chance.below(count));
            }
            85 => self.deploy(FUNCTIONS[self.cloud.chance.below(FUNCTIONS.len())]),
            86..=89 => self.retry(),
            90..=101 => self.pass(Duration::milliseconds(1)),
            102..=111 => self.pass(Duration::seconds(1)),
            112 => self.pass(Duration::seconds(20)),
            // Without steps of one minute, no event would reach its third attempt before the end of the history.
            113..=116 => self.pass_long(Duration::minutes(1)),
            117..=118 => self.pass_long(Duration::minutes(10)),
            119..=121 => self.lambda.crash(),
            122 => self.resend(),
            123 if self.may_lose_ledger && !self.cloud.is_ledger_lost.get() => self.lose_ledger(),
            _ => drop(self.lambda.poll()),
        }
    }

    /// Lets a developer act.
    pub(crate) fn develop(&mut self, act: fn(&Cloud, &mut InFlight) -> Deed) {
        match act(&self.cloud, &mut self.in_flight) {
            Deed::Nothing => {}
            Deed::Moved(reference) => {
                self.report.moves += 1;
                self.baselines.remove(&reference);
            }
            Deed::Deleted(reference) => {
                self.report.deletions += 1;
                self.baselines.remove(&reference);
            }
        }
    }

    /// Lets somebody push, tag or delete an image.
    pub(crate) fn publish(&mut self, act: impl FnOnce(&Cloud, &mut InFlight) -> Vec<Deed>) {
        for deed in act(&self.cloud, &mut self.in_flight) {
            match deed {
                Deed::Nothing => {}
                Deed::Moved(reference) => {
                    self.report.image_moves += 1;
                    self.baselines.remove(&reference);
                }
                Deed::Deleted(reference) => drop(self.baselines.remove(&reference)),
            }
        }
    }

    /// Deploys the newest configuration to the account of one function.
    pub(crate) fn deploy(&mut self, function: Function) {
        self.report.deployments += 1;
        let had = GLOBS.map(|(glob, ..)| self.deployment.relay_has_had(glob));
        self.deployment.deploy(function);
        for ((glob, ..), had) in GLOBS.iter().zip(had) {
            if !had && self.deployment.relay_has_had(*glob) {
                // A branch that an earlier version relayed is no baseline.
                let is_new = |one: &Reference| self.cloud.is_ledger_lost.get() || self.upgrade.commit(one).is_none();
                let new: Vec<Reference> = self.quiet(*glob).filter(is_new).collect();
                self.baselines.extend(new);
            }
        }
    }

    /// The references that the first reconcile with a glob must record. An event about a reference that is still on its
    /// way would make the reference look as if it had moved later.
    fn quiet(&self, glob: u16) -> impl Iterator<Item = Reference> {
        let of_glob = GLOBS.iter().filter(move |(feature, ..)| *feature == glob);
        let references = of_glob.flat_map(|(_, kind, prefix, repositories)| {
            let all = repositories.iter().flat_map(|repository| {
                let names = self.cloud.repositories[*repository].names(*kind);
                names.into_iter().map(|name| (*repository, *kind, name))
            });
            all.filter(move |(.., name)| name.starts_with(prefix))
        });
        references.filter(|(.., name)| !self.in_flight.mentions(name) && !self.lambda.mentions(name)).filter_map(
            |(repository, kind, name)| Some(Reference { repository, source_ref: SourceRef::new(kind, &name).ok()? }),
        )
    }

    /// Loses event-relay's ledger. Invocations that read it before do not survive, because what they write afterwards
    /// would not be lost.
    fn lose_ledger(&mut self) {
        self.lambda.crash_all(Function::Relay);
        ledger::lose(&self.cloud.relay_ledger).unwrap_or_else(|broken| unreachable!("{}", broken.0));
        self.cloud.is_ledger_lost.set(true);
        self.deployment.forget();
        let globs = GLOBS.iter().map(|(glob, ..)| *glob).filter(|glob| self.deployment.relay_has_had(*glob));
        self.baselines = globs.flat_map(|glob| self.quiet(glob)).collect();
    }

    /// Lets a person send orders again.
    fn resend(&mut self) {
        self.report.resends += 1;
        self.request(operator::resend(&self.cloud));
    }

    fn invoke(&mut self, function: Function, payload: String) {
        let event = self.lambda.event(function, payload);
        self.start(event);
    }

    fn start(&mut self, event: Event) {
        if self.dead.contains(&event.function) {
            return self.lambda.fail(event);
        }
        self.lambda.start(event, |event, invocation| self.deployment.handle(event, invocation));
    }

    /// Sends the request of a person to event-relay.
    pub(crate) fn request(&mut self, payload: String) {
        let event = self.lambda.request(Function::Relay, payload);
        self.start(event);
    }

    pub(crate) fn retry(&mut self) {
        if let Some(event) = self.lambda.due_retry() {
            self.start(event);
        }
    }

    /// Sends the messages of all dead-letter queues again.
    pub(crate) fn redrive(&mut self) {
        for event in std::mem::take(&mut self.lambda.dead) {
            self.report.redriven += 1;
            self.invoke(event.function, event.payload);
        }
    }

    pub(crate) fn invoke_relay_schedule(&mut self) {
        let number = self.in_flight.number();
        self.invoke(Function::Relay, event::schedule(number, (REPOSITORY_ACCOUNT, REPOSITORY_REGION)));
    }

    fn invoke_starter_schedules(&mut self) {
        for (place, sender) in PLACES.into_iter().enumerate() {
            let number = self.in_flight.number();
            self.invoke(Function::Starter(place), event::schedule(number, sender));
        }
    }

    /// Delivers a random event of CodeCommit or CodePipeline.
    pub(crate) fn deliver_in_flight(&mut self) {
        if let Some((function, payload)) = self.in_flight.take(&self.cloud.chance) {
            self.invoke(function, payload);
        }
    }

    /// Delivers a random event from a random bus of a place.
    pub(crate) fn deliver_order(&mut self) {
        let place = self.cloud.chance.below(PLACES.len());
        if let Some(message) = self.cloud.places[place].bus.take(&self.cloud.chance) {
            self.deliver(Function::Starter(place), &message, PLACES[place].1);
        }
    }

    /// Delivers a random event from the bus of the repository account.
    pub(crate) fn deliver_report(&mut self) {
        if let Some(message) = self.cloud.report_bus.take(&self.cloud.chance) {
            self.deliver(Function::Relay, &message, REPOSITORY_REGION);
        }
    }

    fn deliver(&mut self, function: Function, message: &Message, region: &str) {
        let number = self.in_flight.number();
        self.invoke(function, event::from_bus(number, message, region));
    }

    /// Lets a long time pass. The invocations that still run exceed their time limit, so most of the times they finish
    /// before.
    pub(crate) fn pass_long(&mut self, time: Duration) {
        if self.cloud.chance.percent(75) {
            for _ in 0..MAX_FINISHING_STEPS {
                self.lambda.poll();
            }
        }
        self.pass(time);
    }

    /// Lets time pass. The schedules fire when a minute, or five minutes, have begun.
    pub(crate) fn pass(&mut self, time: Duration) {
        let minute = |history: &Self| history.cloud.clock.now.get().unix_timestamp() / 60;
        let before = minute(self);
        self.cloud.clock.now.set(self.cloud.clock.now.get() + time);
        self.lambda.end_late_invocations();
        for (index, place) in self.cloud.places.iter().enumerate() {
            let now = self.cloud.clock.now.get();
            place.codepipeline.run_late_starts(now, &self.cloud.chance);
            for alarm in place.cloudwatch.advance(now) {
                let payload = event::alarm_changed(self.in_flight.number(), index, &alarm);
                self.in_flight.send(Function::Starter(index), payload, &self.cloud.chance);
            }
        }
        if minute(self) > before {
            self.invoke_starter_schedules();
        }
        if minute(self) / 5 > before / 5 {
            self.invoke_relay_schedule();
        }
    }
}
