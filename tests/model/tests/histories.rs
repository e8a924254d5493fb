//! Runs ten thousand histories of routes without waves and some hundred histories of a train, each with its own seed.
//! The variables `SEKISHO_HISTORIES` and `SEKISHO_TRAINS` set other numbers. A failure names the seed of its history,
//! and the variable `SEKISHO_SEED` runs only the history with that seed.

use std::ops::{AddAssign, Range};
use std::sync::atomic::{AtomicU64, Ordering};

use sekisho_model::{Broken, Report, TrainReport, run, run_train};

const HISTORIES: u64 = 10_000;
const TRAINS: u64 = 600;
const THREADS: u64 = 2;

#[test]
fn after_every_history_each_target_runs_its_last_order_and_nothing_started_twice_or_backwards() {
    let seeds = seeds("SEKISHO_HISTORIES", HISTORIES);
    let sum: Report = run_all(&seeds, run).unwrap_or_else(|(seed, broken)| panic!("seed {seed}: {}", broken.0));
    println!("{sum:?}");
    check_counts(&seeds, &sum.counts());
}

#[test]
fn after_every_history_of_a_train_a_good_change_reaches_every_target_or_train_says_what_keeps_it() {
    let seeds = seeds("SEKISHO_TRAINS", TRAINS);
    let sum: TrainReport =
        run_all(&seeds, run_train).unwrap_or_else(|(seed, broken)| panic!("train, seed {seed}: {}", broken.0));
    println!("{sum:?}");
    check_counts(&seeds, &sum.counts());
}

/// The seeds of a test. `variable` sets another number of them.
#[expect(clippy::disallowed_methods, reason = "variables of this test only")]
fn seeds(variable: &str, usual: u64) -> Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("SEKISHO_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number(variable).unwrap_or(usual),
    }
}

/// A model proves nothing if nothing happens in it, so everything must have happened often enough.
fn check_counts(seeds: &Range<u64>, counts: &[(&str, usize)]) {
    let histories = seeds.end - seeds.start;
    let least = usize::try_from(histories / 200).unwrap_or(usize::MAX);
    for (what, count) in counts.iter().filter(|_| histories > 1) {
        assert!(*count > least, "only {count} {what} in {histories} histories");
    }
}

/// Runs the histories in several threads. An error is that of the smallest seed whose history broke a promise.
fn run_all<R: Default + Send + for<'a> AddAssign<&'a R>>(
    seeds: &Range<u64>,
    run: fn(u64) -> Result<R, Broken>,
) -> Result<R, (u64, Broken)> {
    let smallest = AtomicU64::new(u64::MAX);
    let run_share = |share: u64| {
        let mut sum = R::default();
        for seed in seeds.clone().filter(|seed| seed % THREADS == share) {
            if seed > smallest.load(Ordering::Relaxed) {
                break;
            }
            match run(seed) {
                Ok(report) => sum += &report,
                Err(broken) => {
                    smallest.fetch_min(seed, Ordering::Relaxed);
                    return Err((seed, broken));
                }
            }
        }
        Ok(sum)
    };
    let shares: Vec<Result<R, (u64, Broken)>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..THREADS).map(|share| scope.spawn(move || run_share(share))).collect();
        handles
            .into_iter()
            .map(|handle| handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let mut sum = R::default();
    let mut first: Option<(u64, Broken)> = None;
    for share in shares {
        match share {
            Ok(report) => sum += &report,
            Err(error) if first.as_ref().is_none_or(|(seed, _)| error.0 < *seed) => first = Some(error),
            Err(_) => {}
        }
    }
    first.map_or(Ok(sum), Err)
}
