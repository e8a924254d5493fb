//! What all processes of a history share: chance, the faults, and the record of what happened.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use time::OffsetDateTime;

use super::Counts;
use super::witness::Witness;
use crate::world::jobs::JobRules;
use crate::world::{BUCKET, World, now};

/// What must happen in the histories, so that they show something.
pub(super) const KINDS: [&str; 29] = [
    "sweeps of the schedule",
    "sweeps of a person",
    "passes that ended",
    "passes over all versions",
    "dry runs",
    "passes beside another pass",
    "incremental passes that left something out",
    "incomplete passes",
    "refused listings",
    "divided ranges",
    "divisions after more than 16 hops",
    "deaths of processes",
    "deaths while a repair was claimed",
    "late messages",
    "doubled messages",
    "messages that nobody delivers any more",
    "events of objects",
    "repairs",
    "confirmations",
    "jobs with the S3 Bucket Key",
    "jobs without the S3 Bucket Key",
    "jobs that failed halfway",
    "repairs that left objects behind",
    "objects written",
    "objects deleted",
    "objects re-keyed",
    "throttled requests",
    "answers that were lost",
    "lost answers of the ledger",
];

/// The faults of a history. They end before its last days.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Of a thousand requests, this many are throttled.
    pub(super) throttled: u32,
    /// Of a thousand requests, this many fail without effect.
    pub(super) failed: u32,
    /// Of a thousand requests, this many take effect without an answer.
    pub(super) lost: u32,
    /// Of a thousand calls of the ledger, this many fail without effect, and as many take effect without an answer.
    pub(super) ledger: u32,
    /// Of a hundred invocations, this many die.
    pub(super) deaths: u32,
    /// S3 does not list what comes after this key.
    pub(super) unlisted_after: Option<String>,
    /// A process that looks at this object dies.
    pub(super) killer: Option<String>,
    /// S3 takes this long to answer about this object.
    pub(super) slow: Option<(String, Duration)>,
    /// The ledger takes this long to answer that it has written several rows.
    pub(super) late_transactions: Duration,
}

/// A message that the function has sent to its queue.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) body: String,
    pub(super) delay: Duration,
    /// The number of invocations in the chain that has led to the message.
    pub(super) hops: u32,
}

pub(super) struct State {
    pub(super) random: fastrand::Rng,
    pub(super) faults: Faults,
    /// The longest time before a call takes effect, and the longest time after it, in milliseconds.
    pub(super) latency: u64,
    /// The messages that are not in the queue yet.
    pub(super) sent: Vec<Sent>,
    /// The keys of objects that the function has copied, of which S3 sends events.
    pub(super) copied: Vec<String>,
    pub(super) witness: Witness,
    pub(super) counts: Counts,
    log: Vec<String>,
    start: OffsetDateTime,
}

impl State {
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.random.u64(0..limit.max(1))
    }

    pub(super) fn one_of<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.random.usize(0..of.len())].clone()
    }

    /// Whether something happens that happens this many times in a thousand.
    pub(super) fn per_mille(&mut self, times: u32) -> bool {
        times > 0 && self.random.u32(0..1_000) < times
    }

    pub(super) fn pause(&mut self) -> Duration {
        let latency = self.latency;
        Duration::from_millis(self.below(latency + 1))
    }

    pub(super) fn count(&mut self, what: &'static str) {
        debug_assert!(KINDS.contains(&what), "{what}");
        *self.counts.entry(what).or_default() += 1;
    }

    pub(super) fn log(&mut self, what: &str) {
        let at = now() - self.start;
        self.log.push(format!("{:>10.3} {what}", at.as_seconds_f64()));
    }

    pub(super) fn take_log(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }
}

#[derive(Clone)]
pub(super) struct Cloud {
    state: Arc<Mutex<State>>,
    pub(super) world: World,
}

impl Cloud {
    pub(super) fn new(seed: u64) -> Self {
        let state = State {
            random: fastrand::Rng::with_seed(seed),
            faults: Faults::default(),
            latency: 0,
            sent: Vec::new(),
            copied: Vec::new(),
            witness: Witness::default(),
            counts: Counts::new(),
            log: Vec::new(),
            start: now(),
        };
        Self { state: Arc::new(Mutex::new(state)), world: World::new() }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn log(&self, what: &str) {
        self.state().log(what);
    }

    /// Ends all faults. A page of the listing now has all objects, so that the last days need fewer requests.
    pub(super) fn end_faults(&self) {
        let mut state = self.state();
        state.log("the faults end");
        state.faults = Faults::default();
        state.witness.page = 1_000;
        let mut world = self.world.state();
        world.job_rules = JobRules::default();
        world.buckets.get_mut(BUCKET).unwrap().page = 1_000;
    }
}
