//! A model of sweeps: many short random histories, each with its own seed. The real function runs in the simulated
//! world, in processes that may die before and after each of their calls. Messages are repeated and reordered, S3
//! throttles, refuses and fails, the ledger's answers are lost, other people write, delete and re-key objects while
//! sweeps of several modes and events of single objects run side by side.
//!
//! | module | content |
//! | --- | --- |
//! | `cloud` | chance, the faults, and the record of what happened |
//! | `process`, `network`, `ledger` | one process of Lambda, and how its calls reach the world and the ledger |
//! | `scene` | the bucket and the faults with which a history begins |
//! | `others`, `jobs` | what changes objects besides the function, and the jobs that it orders |
//! | `history` | the queue, the schedule, the invocations and the time |
//! | `witness`, `rows` | the promises, which are checked whenever something happens |
//! | `said` | what a pass says about itself |
//! | `rest` | what must hold at the end |

mod cloud;
mod history;
mod jobs;
mod ledger;
mod network;
mod others;
mod process;
mod rest;
mod rows;
mod said;
mod scene;
mod witness;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use history::History;

const HISTORIES: u64 = 80;
const THREADS: u64 = 2;
/// Each kind of thing must happen in the histories at least once for this many of them.
const RAREST: u64 = 20;

/// What happened in a history: each kind of thing with its number.
type Counts = BTreeMap<&'static str, u64>;

/// A history that broke a promise: which promise, and what happened.
struct Broken {
    promise: String,
    log: Vec<String>,
}

#[test]
fn after_every_history_of_sweeps_each_object_was_checked_and_repaired_once_or_the_sweep_says_what_is_missing() {
    let histories = number("SEKISHO_SWEEPS").unwrap_or(HISTORIES);
    let seeds = number("SEKISHO_SEED").map_or(0..histories, |seed| seed..seed + 1);
    match run_all(&seeds) {
        Ok(counts) => {
            println!("{counts:?}");
            check_counts(&seeds, &counts);
        }
        Err((seed, broken)) => {
            println!("{}", broken.log.join("\n"));
            panic!("sweeps, seed {seed}: {}", broken.promise);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "variables of this test only")]
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// A model proves nothing if nothing happens in it, so everything must have happened often enough.
fn check_counts(seeds: &Range<u64>, counts: &Counts) {
    let histories = seeds.end - seeds.start;
    for what in cloud::KINDS.iter().filter(|_| histories >= HISTORIES) {
        let count = counts.get(what).copied().unwrap_or(0);
        assert!(count >= histories / RAREST, "only {count} {what} in {histories} histories");
    }
}

/// Runs the histories in several threads. An error is that of the smallest seed whose history broke a promise.
fn run_all(seeds: &Range<u64>) -> Result<Counts, (u64, Broken)> {
    let smallest = AtomicU64::new(u64::MAX);
    let shows = seeds.end - seeds.start == 1;
    let run_share = |share: u64| {
        let mut sum = Counts::new();
        for seed in seeds.clone().filter(|seed| seed % THREADS == share) {
            if seed > smallest.load(Ordering::Relaxed) {
                break;
            }
            let (counts, log) = run(seed).map_err(|broken| {
                smallest.fetch_min(seed, Ordering::Relaxed);
                (seed, broken)
            })?;
            if shows {
                println!("{}", log.join("\n"));
            }
            for (what, count) in counts {
                *sum.entry(what).or_default() += count;
            }
        }
        Ok(sum)
    };
    let shares: Vec<Result<Counts, (u64, Broken)>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..THREADS).map(|share| scope.spawn(move || run_share(share))).collect();
        handles.into_iter().map(|handle| handle.join().unwrap_or_else(|p| std::panic::resume_unwind(p))).collect()
    });
    let mut sum = Counts::new();
    let mut first: Option<(u64, Broken)> = None;
    for share in shares {
        match share {
            Ok(counts) => counts.into_iter().for_each(|(what, count)| *sum.entry(what).or_default() += count),
            Err(error) if first.as_ref().is_none_or(|(seed, _)| error.0 < *seed) => first = Some(error),
            Err(_) => {}
        }
    }
    first.map_or(Ok(sum), Err)
}

/// Runs the history of this seed in a thread of its own, because the clock of a thread begins with its first history.
fn run(seed: u64) -> Result<(Counts, Vec<String>), Broken> {
    let history = move || {
        // The pauses of the SDK have a random part, which comes from the generator of the thread.
        fastrand::seed(seed);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async { History::new(seed).run().await })
    };
    std::thread::spawn(history).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
