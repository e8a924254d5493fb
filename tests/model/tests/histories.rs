//! Runs ten thousand histories, each with its own seed. The variable `SEKISHO_HISTORIES` sets another number of
//! histories. A failure names the seed of its history, and the variable `SEKISHO_SEED` runs only the history with that
//! seed.

use std::sync::atomic::{AtomicU64, Ordering};

use sekisho_model::{Broken, Report, run};

const HISTORIES: u64 = 10_000;
const THREADS: u64 = 2;

#[test]
#[expect(clippy::disallowed_methods, reason = "variables of this test only")]
fn after_every_history_each_target_runs_its_last_order_and_nothing_started_twice_or_backwards() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("SEKISHO_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEKISHO_HISTORIES").unwrap_or(HISTORIES),
    };
    let histories = seeds.end - seeds.start;
    let sum = run_all(&seeds).unwrap_or_else(|(seed, broken)| panic!("seed {seed}: {}", broken.0));
    println!("{sum:?}");
    // A model proves nothing if nothing happens in it, so everything must have happened often enough.
    if histories > 1 {
        let least = usize::try_from(histories / 200).unwrap_or(usize::MAX);
        for (what, count) in sum.counts() {
            assert!(count > least, "only {count} {what} in {histories} histories");
        }
    }
}

/// Runs the histories in several threads. An error is that of the smallest seed whose history broke a promise.
fn run_all(seeds: &std::ops::Range<u64>) -> Result<Report, (u64, Broken)> {
    let smallest = AtomicU64::new(u64::MAX);
    let run_share = |share: u64| {
        let mut sum = Report::default();
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
    let shares: Vec<Result<Report, (u64, Broken)>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..THREADS).map(|share| scope.spawn(move || run_share(share))).collect();
        handles
            .into_iter()
            .map(|handle| handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let mut sum = Report::default();
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
