//! Runs ten thousand histories, each with its own seed. The variable `SEKISHO_HISTORIES` sets another number of
//! histories. A failure names the seed of its history, and the variable `SEKISHO_SEED` runs only the history with that
//! seed.

use sekisho_model::{Report, run};

const HISTORIES: u64 = 10_000;

#[test]
#[expect(clippy::disallowed_methods, reason = "variables of this test only")]
fn after_every_history_each_pipeline_is_at_its_head_and_nothing_was_started_twice_or_backwards() {
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
                Ok(report) => add(&mut sum, &report),
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
        add(&mut sum, report);
    }
    println!("{sum:?}");
    // A model proves nothing if nothing happens in it, so everything must have happened often enough.
    if histories > 1 {
        for (what, count) in [
            ("pushes", sum.pushes),
            ("lost", sum.lost),
            ("crashes", sum.crashes),
            ("retries", sum.retries),
            ("redriven", sum.redriven),
            ("executions", sum.executions),
            ("changes that pipeline-starter gave up", sum.starter_dead),
            ("events that event-relay gave up", sum.relay_dead),
            ("deliveries in the queue", sum.undelivered),
        ] {
            let least = usize::try_from(histories / 200).unwrap_or(usize::MAX);
            assert!(count > least, "only {count} {what} in {histories} histories");
        }
    }
}

fn add(sum: &mut Report, report: &Report) {
    sum.pushes += report.pushes;
    sum.lost += report.lost;
    sum.crashes += report.crashes;
    sum.retries += report.retries;
    sum.redriven += report.redriven;
    sum.executions += report.executions;
    sum.starter_dead += report.starter_dead;
    sum.relay_dead += report.relay_dead;
    sum.undelivered += report.undelivered;
}
