//! Runs ten thousand histories, each with its own seed. The variable `SEKISHO_HISTORIES` sets another number of
//! histories. A failure names the seed of its history, and the variable `SEKISHO_SEED` runs only the history with that
//! seed.

use sekisho_model::{Report, run};

const HISTORIES: u64 = 10_000;

#[test]
#[expect(clippy::disallowed_methods, reason = "variables of this test only")]
fn after_every_history_each_target_runs_its_last_order_and_nothing_started_twice_or_backwards() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("SEKISHO_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEKISHO_HISTORIES").unwrap_or(HISTORIES),
    };
    let histories = seeds.end - seeds.start;
    let threads = 2;
    let run_share = |share: u64| {
        let mut sum = Report::default();
        for seed in seeds.clone().filter(|seed| seed % threads == share) {
            match run(seed) {
                Ok(report) => sum += &report,
                Err(broken) => panic!("seed {seed}: {}", broken.0),
            }
        }
        sum
    };
    let sums: Vec<Report> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|share| scope.spawn(move || run_share(share))).collect();
        handles
            .into_iter()
            .map(|handle| handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let mut sum = Report::default();
    for report in &sums {
        sum += report;
    }
    println!("{sum:?}");
    // A model proves nothing if nothing happens in it, so everything must have happened often enough.
    if histories > 1 {
        let least = usize::try_from(histories / 200).unwrap_or(usize::MAX);
        for (what, count) in sum.counts() {
            assert!(count > least, "only {count} {what} in {histories} histories");
        }
    }
}
