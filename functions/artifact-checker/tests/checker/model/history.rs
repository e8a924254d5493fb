//! One history: the queue, the schedule, the invocations and the time.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use artifact_checker::{Answer, Cache, Error, Outcome};
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use sekisho_domain::decision::Decision;
use sekisho_lambda::Invocation;
use sekisho_ledger::Memory;
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use super::cloud::Cloud;
use super::others::{self, Deed, EVENTS};
use super::process::Process;
use super::scene::{Kind, Scene};
use super::{Broken, Counts, jobs, rest};
use crate::sweeps::{SCHEDULE, SWEEP};
use crate::world::{FUNCTION, invocation};

/// The time for which SQS hides a message that was received.
const HIDDEN: Duration = Duration::from_mins(30);
/// The most deliveries of a message.
const MOST_RECEIVES: u32 = 10;
/// The attempts of Lambda at an asynchronous invocation.
const MOST_ATTEMPTS: u32 = 3;
/// The time limit of artifact-checker, which handles everything but ranges.
const TIME_OF_CHECKER: Duration = Duration::from_mins(15);
/// In this time, everything ends that can end.
const LONGEST: Duration = Duration::from_hours(24 * 20);
/// A history that needs more invocations goes round in circles.
const MOST_INVOCATIONS: u32 = 3_000;
/// The queue is asked so often.
const POLL: Duration = Duration::from_secs(1);

/// A message in the queue of ranges.
#[derive(Debug, Clone)]
struct Message {
    body: String,
    /// When it can be received.
    due: Instant,
    receives: u32,
    hops: u32,
}

/// What an invocation works on.
enum Work {
    Message(Message),
    /// A request to artifact-checker. Lambda repeats it with the same id.
    Request {
        payload: String,
        id: String,
        attempt: u32,
    },
}

enum End {
    Answered(Box<Result<Answer, Error>>),
    Died,
    /// Lambda ended it at its time limit.
    TimedOut,
}

struct Ended {
    work: Work,
    process: Rc<Process>,
    end: End,
}

pub(super) struct History {
    cloud: Cloud,
    scene: Scene,
    memory: Rc<Memory>,
    idle: Vec<Rc<Process>>,
    queue: Vec<Message>,
    deeds: Vec<(Instant, Deed)>,
    retries: Vec<(Instant, Work)>,
    running: FuturesUnordered<LocalBoxFuture<'static, Ended>>,
    running_ranges: usize,
    invocations: u32,
    /// Whether a message or request was repeated too often, or a sweep was left to the next day.
    has_given_up: bool,
}

impl History {
    pub(super) fn new(seed: u64) -> Self {
        let cloud = Cloud::new(seed);
        let scene = Scene::new(&cloud, seed);
        let start = Instant::now();
        let deeds = others::deeds(&cloud, &scene).into_iter().map(|(at, deed)| (start + at, deed)).collect();
        Self {
            cloud,
            scene,
            memory: Rc::default(),
            idle: Vec::new(),
            queue: Vec::new(),
            deeds,
            retries: Vec::new(),
            running: FuturesUnordered::new(),
            running_ranges: 0,
            invocations: 0,
            has_given_up: false,
        }
    }

    /// Runs the history. Returns what happened in it.
    pub(super) async fn run(mut self) -> Result<(Counts, Vec<String>), Broken> {
        let result = self.until_the_end().await;
        let mut state = self.cloud.state();
        let log = state.take_log();
        match result {
            Ok(()) => Ok((std::mem::take(&mut state.counts), log)),
            Err(promise) => Err(Broken { promise, log }),
        }
    }

    async fn until_the_end(&mut self) -> Result<(), String> {
        self.until_idle().await?;
        // If something was given up, the next sweep of the schedule takes it up.
        match (self.has_given_up, self.scene.kind) {
            (false, _) => self.check_ends(Duration::ZERO)?,
            (true, Kind::Poison) => self.check_ends(Duration::from_hours(47))?,
            (true, _) => {}
        }
        self.cloud.end_faults();
        // The sweeps of the schedule do not see keys that were changed in place, and that of a person does.
        for payload in [SCHEDULE, SWEEP] {
            tokio::time::sleep(others::DAY).await;
            self.cloud.log("a day later");
            let what = if payload == SWEEP { "sweeps of a person" } else { "sweeps of the schedule" };
            self.deeds.push((Instant::now(), Deed::Invoke { payload: payload.to_owned(), what }));
            self.until_idle().await?;
            if let Some(code) = rest::open_repair(&self.memory).await? {
                self.deeds.push((Instant::now(), jobs::confirmation(&code)));
                self.until_idle().await?;
            }
        }
        self.check_ends(Duration::ZERO)?;
        if self.scene.kind == Kind::Calm {
            self.cloud.state().witness.check_counted_repairs()?;
        }
        rest::check(&self.cloud, &self.memory).await
    }

    /// Goes on until nothing is left to do.
    async fn until_idle(&mut self) -> Result<(), String> {
        let end = Instant::now() + LONGEST;
        loop {
            self.collect();
            self.begin_due();
            if let Some(broken) = self.cloud.state().witness.broken.take() {
                return Err(broken);
            }
            let next = self.next_due();
            if self.running.is_empty() && next.is_none() {
                return Ok(());
            }
            if Instant::now() > end || self.invocations > MOST_INVOCATIONS {
                return Err(format!(
                    "it does not end: {} messages, {} invocations",
                    self.queue.len(),
                    self.invocations
                ));
            }
            let poll = Instant::now() + POLL;
            let next = next.map_or(poll, |next| if self.running.is_empty() { next } else { next.min(poll) });
            tokio::select! {
                biased;
                Some(ended) = self.running.next(), if !self.running.is_empty() => self.ended(ended)?,
                () = sleep_until(next) => {}
            }
        }
    }

    /// Puts what the function has sent into the queue, and the events of its copies into the future.
    fn collect(&mut self) {
        let mut state = self.cloud.state();
        let now = Instant::now();
        for sent in std::mem::take(&mut state.sent) {
            let copies = if self.scene.kind != Kind::Calm && state.below(12) == 0 { 2 } else { 1 };
            for copy in 0..copies {
                let late = if state.below(6) == 0 { state.below(60_000) } else { 0 };
                if copy > 0 {
                    state.count("doubled messages");
                }
                let due = now + sent.delay + Duration::from_millis(late);
                self.queue.push(Message { body: sent.body.clone(), due, receives: 0, hops: sent.hops });
            }
        }
        let copied = std::mem::take(&mut state.copied);
        drop(state);
        for key in copied {
            self.deeds.push((now + Duration::from_secs(1), others::event(&self.cloud, &key)));
        }
    }

    fn begin_due(&mut self) {
        let now = Instant::now();
        let (due, later) = std::mem::take(&mut self.deeds).into_iter().partition(|(at, _)| *at <= now);
        self.deeds = later;
        for (_, deed) in due {
            self.act(deed);
        }
        let (due, later) = std::mem::take(&mut self.retries).into_iter().partition::<Vec<_>, _>(|(at, _)| *at <= now);
        self.retries = later;
        for (_, work) in due {
            self.begin(work);
        }
        while self.has_room() {
            let due: Vec<usize> = (0..self.queue.len()).filter(|at| self.queue[*at].due <= now).collect();
            if due.is_empty() {
                return;
            }
            // A queue has no order.
            let chosen = self.cloud.state().one_of(&due);
            let mut message = self.queue.swap_remove(chosen);
            message.receives += 1;
            if message.receives > 1 {
                self.cloud.state().count("late messages");
            }
            self.begin(Work::Message(message));
        }
    }

    fn has_room(&self) -> bool {
        self.running_ranges < usize::try_from(self.scene.settings.concurrency).unwrap_or(usize::MAX)
    }

    /// When the next thing happens that does not wait for the end of an invocation.
    fn next_due(&self) -> Option<Instant> {
        let messages = self.queue.iter().filter(|_| self.has_room()).map(|message| message.due);
        let deeds = self.deeds.iter().map(|(at, _)| *at);
        messages.chain(deeds).chain(self.retries.iter().map(|(at, _)| *at)).min()
    }

    fn act(&mut self, deed: Deed) {
        let now = Instant::now();
        match deed {
            Deed::Put(key) => {
                let events = others::put(&self.cloud, &key);
                self.deeds.extend(events.into_iter().map(|(late, event)| (now + late, event)));
            }
            Deed::Delete(key) => others::delete(&self.cloud, &key),
            Deed::Rekey(key) => others::rekey(&self.cloud, &key),
            Deed::Invoke { payload, what } => {
                self.cloud.state().count(what);
                let kind = if what == EVENTS { "event" } else { "request" };
                let id = format!("{kind}-{}", self.invocations);
                self.begin(Work::Request { payload, id, attempt: 1 });
            }
        }
    }

    fn begin(&mut self, work: Work) {
        self.invocations += 1;
        let process =
            self.idle.pop().unwrap_or_else(|| Rc::new(Process::new(&self.cloud, &self.scene.settings, &self.memory)));
        let (id, payload, time, hops) = match &work {
            Work::Message(message) => {
                self.running_ranges += 1;
                let record = json!({"messageId": "m", "eventSource": "aws:sqs", "body": message.body});
                let payload = json!({"Records": [record]}).to_string();
                (format!("range-{}", self.invocations), payload, self.scene.time_of_ranges, message.hops)
            }
            Work::Request { payload, id, .. } => (id.clone(), payload.clone(), TIME_OF_CHECKER, 0),
        };
        {
            let mut state = self.cloud.state();
            let deaths = state.faults.deaths;
            let dies = state.per_mille(deaths * 10);
            let life = dies.then(|| state.below(120));
            let short = payload.chars().filter(|c| *c != '\\').collect::<String>();
            let short = short.split_once("\"body\":").map_or(short.as_str(), |(_, rest)| rest);
            state.witness.begins(&id);
            state.log(&format!("{id} begins: {}", short.chars().take(160).collect::<String>()));
            let mut current = process.life.current();
            current.request_id.clone_from(&id);
            (current.hops, current.life) = (hops, life);
            current.ahead.clear();
            current.claims.clear();
        }
        let function = if matches!(work, Work::Message(_)) { "sekisho-artifact-sweeper" } else { FUNCTION };
        let invocation = Invocation { function: function.to_owned(), ..invocation(&id, time) };
        self.running.push(Box::pin(invoke(process, work, payload, invocation, time)));
    }

    fn ended(&mut self, ended: Ended) -> Result<(), String> {
        let Ended { work, mut process, end } = ended;
        if matches!(end, End::Died) {
            // Its clients take long to make, and have no memory. The cache of another process is empty.
            Rc::get_mut(&mut process).expect("nobody else has the process").checker.cache = Cache::default();
        }
        let id = process.life.current().request_id.clone();
        let is_range = matches!(work, Work::Message(_));
        self.running_ranges -= usize::from(is_range);
        let has_failed = match &end {
            End::Answered(answer) => {
                match &**answer {
                    Ok(answer) => self.read(&id, answer)?,
                    Err(error) => self.cloud.log(&format!("{id} fails: {error}")),
                }
                answer.is_err()
            }
            End::Died => {
                let was_claimed = !process.life.current().claims.is_empty();
                let mut state = self.cloud.state();
                state.log(&format!("{id} dies"));
                state.count("deaths of processes");
                if was_claimed {
                    state.count("deaths while a repair was claimed");
                }
                true
            }
            End::TimedOut => return Err(format!("{id} did not end in time")),
        };
        self.idle.push(process);
        if has_failed {
            self.repeat(work);
        }
        Ok(())
    }

    fn read(&mut self, id: &str, answer: &Answer) -> Result<(), String> {
        let first = answer.decisions.first();
        let text = first.map_or_else(String::new, |first| format!("{:?}: {}", first.outcome, first.reason));
        let mut state = self.cloud.state();
        state.log(&format!("{id} ends: {}", text.chars().take(240).collect::<String>()));
        let now = Instant::now();
        let confirmations = jobs::confirmations(&mut state, self.scene.special, answer);
        self.deeds.extend(confirmations.into_iter().map(|(late, deed)| (now + late, deed)));
        let is_left = |one: &Decision<Outcome>| one.concerns.get("problem").is_some_and(|it| it == "not-swept");
        self.has_given_up |= answer.decisions.iter().any(is_left);
        for report in answer.sweeps.iter().filter(|report| report.complete && report.range.is_none()) {
            let says = |decision: &&Decision<Outcome>| {
                decision.concerns.get("sweep").is_some_and(|sweep| *sweep == report.sweep)
                    && !decision.reason.starts_with("range ")
            };
            let summary = answer.decisions.iter().find(says).ok_or("a pass ends without a summary")?;
            let is_incomplete = report.unchecked_ranges > 0 || report.listing_refused;
            if is_incomplete && (summary.outcome == Outcome::Compliant || !summary.reason.starts_with("incomplete")) {
                return Err(format!("{id} ends an incomplete pass with {:?}: {}", summary.outcome, summary.reason));
            }
        }
        Ok(())
    }

    /// Lets SQS or Lambda repeat what has failed, unless it was repeated too often.
    fn repeat(&mut self, work: Work) {
        let now = Instant::now();
        match work {
            Work::Message(message) if message.receives < MOST_RECEIVES => {
                self.queue.push(Message { due: now + HIDDEN, ..message });
            }
            Work::Message(message) if self.scene.has_redrive => {
                let due = now + Duration::from_hours(12);
                self.queue.push(Message { due, receives: 0, ..message });
            }
            // A person repeats it, or does not.
            Work::Request { payload, .. } if payload.starts_with(r#"{"repair""#) => {}
            Work::Request { payload, id, attempt } if attempt < MOST_ATTEMPTS => {
                let due = now + Duration::from_mins(u64::from(attempt));
                self.retries.push((due, Work::Request { payload, id, attempt: attempt + 1 }));
            }
            Work::Message(_) | Work::Request { .. } => {
                self.has_given_up = true;
                self.cloud.state().count("messages that nobody delivers any more");
            }
        }
    }

    /// Checks that every pass has ended that began so long ago.
    fn check_ends(&self, age: Duration) -> Result<(), String> {
        let state = self.cloud.state();
        let open = state.witness.open_passes(age);
        if open.is_empty() { Ok(()) } else { Err(format!("nobody ends the passes {open:?}")) }
    }
}

/// Handles an invocation, until it ends, its process dies, or its time is up.
async fn invoke(process: Rc<Process>, work: Work, payload: String, invocation: Invocation, time: Duration) -> Ended {
    let life = Arc::clone(&process.life);
    let end = tokio::select! {
        biased;
        () = life.died.notified() => End::Died,
        answer = process.checker.handle(&payload, &invocation) => End::Answered(Box::new(answer)),
        () = tokio::time::sleep(time) => End::TimedOut,
    };
    Ended { work, process, end }
}
