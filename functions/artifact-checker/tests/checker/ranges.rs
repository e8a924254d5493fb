//! Sweeps that are too large for one invocation: their ranges, which several invocations check at the same time.

use std::collections::VecDeque;
use std::time::Duration;

use artifact_checker::{Answer, Checker, Outcome, Rates, SweepReport};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use sekisho_domain::artifacts::Repair;
use sekisho_ledger::Memory;
use tokio::time::Instant;

use crate::sweep_progress::{deliver, receive, to_the_end};
use crate::sweeps::{SWEEP, SWEEP_DRY_RUN, SWEEP_VERSIONS, filled};
use crate::world::ledger::Faulty;
use crate::world::s3::{Bucket, Sse, Version};
use crate::world::{ACCOUNT, BUCKET, World, created, foreign, handle, invocation, under};

pub(crate) const LONG: Duration = Duration::from_mins(5);

/// A checker whose first invocation leaves everything after the first pages to the ranges.
pub(crate) fn checker_of_ranges(world: &World) -> Checker<Memory> {
    let mut checker = world.checker(Repair::Update);
    checker.settings.alone = 100;
    checker
}

/// A bucket with this many objects in each of 20 prefixes, whose pages have 50 objects. Every 25th object is under S3's
/// own key, and every 90th under another account's key.
pub(crate) fn world_with_prefixes(objects: usize) -> World {
    let world = World::new();
    world.state().buckets.insert(BUCKET.to_owned(), Bucket::new(ACCOUNT).paged(50));
    for n in 0..20 * objects {
        let sse = match n {
            n if n % 25 == 3 => Sse::S3,
            n if n % 90 == 7 => foreign(),
            _ => under("right"),
        };
        // The keys of CodePipeline end with random characters.
        let key = format!("pipeline-{:02}/SourceArti/{:07x}", n % 20, n * 2_654_435_761 % 0x1000_0000);
        world.state().put(BUCKET, &key, Version::new("content", sse));
    }
    world.state().latency = Duration::from_millis(30);
    world
}

/// Handles a sweep and all messages of the queue, up to five at the same time. Returns all answers.
pub(crate) async fn at_once(world: &World, checker: &Checker<Memory>, payload: &str) -> Vec<Answer> {
    at_once_with(world, checker, payload, 5, LONG).await
}

/// Handles a sweep and all messages of the queue when they are due, up to so many at the same time. Lambda ends an
/// invocation of a range after `time`. Returns all answers.
pub(crate) async fn at_once_with(
    world: &World,
    checker: &Checker<Memory>,
    payload: &str,
    invocations: usize,
    time: Duration,
) -> Vec<Answer> {
    let first = async { (0, handle(checker, "first", payload).await.unwrap()) };
    let mut running = FuturesUnordered::from_iter([first.boxed_local()]);
    let (mut answers, mut is_first_running) = (Vec::new(), true);
    let mut waiting = VecDeque::new();
    let mut n = 0;
    // A queue is asked again and again, so that a new range does not wait for the end of another one.
    let mut poll = tokio::time::interval(Duration::from_millis(500));
    loop {
        let sent = std::mem::take(&mut world.state().queue);
        waiting.extend(sent.into_iter().map(|(message, delay)| (Instant::now() + Duration::from_secs(delay), message)));
        while running.len() < invocations + usize::from(is_first_running)
            && let Some(at) = waiting.iter().position(|(due, _)| *due <= Instant::now())
            && let Some((_, message)) = waiting.remove(at)
        {
            n += 1;
            let id = format!("worker-{n}");
            running.push(async move { (n, deliver(checker, &id, &message, time).await.unwrap()) }.boxed_local());
        }
        if running.is_empty() && waiting.is_empty() {
            return answers;
        }
        tokio::select! {
            Some((n, answer)) = running.next(), if !running.is_empty() => {
                is_first_running &= n > 0;
                answers.insert(if n == 0 { 0 } else { answers.len() }, answer);
            }
            _ = poll.tick() => {}
        }
    }
}

/// The report of the whole sweep.
pub(crate) fn report_of(answers: &[Answer]) -> &SweepReport {
    let mut reports = answers.iter().flat_map(|answer| &answer.sweeps);
    reports.find(|report| report.range.is_none() && report.complete).expect("the sweep has ended")
}

/// How many requests for this operation were sent.
fn requests(world: &World, operation: &str) -> usize {
    world.state().operations("s3").iter().filter(|name| *name == operation).count()
}

#[tokio::test(start_paused = true)]
async fn several_invocations_check_every_object_once_and_the_totals_are_exact() {
    let world = world_with_prefixes(60);
    let mut checker = checker_of_ranges(&world);
    // Slowly enough that the first range is divided several times.
    checker.settings.rates.s3 = 30;
    let answers = at_once(&world, &checker, SWEEP).await;
    let report = report_of(&answers);
    let ranges: usize = answers.iter().flat_map(|answer| &answer.sweeps).filter(|one| one.range.is_some()).count();
    assert!(ranges >= 5, "{ranges}");
    for answer in answers.iter().filter(|answer| answer.sweeps.iter().any(|one| one.range.is_some())) {
        let has_finding = answer.sweeps[0].outcomes.contains_key(&Outcome::ForeignKey);
        let expected = if has_finding { Outcome::Reported } else { Outcome::Compliant };
        assert_eq!(answer.decisions[0].outcome, expected, "{}", answer.decisions[0].reason);
    }
    assert_eq!((report.objects, report.unchecked_ranges, report.sweep.as_str()), (1200, 0, "first"));
    assert_eq!(report.outcomes[&Outcome::Repaired], 48);
    let bad = (0..1200).filter(|n| n % 90 == 7 && n % 25 != 3).count() as u64;
    assert_eq!((report.outcomes[&Outcome::ForeignKey], report.findings["open"]), (bad, bad));
    assert_eq!(world.state().bucket(BUCKET).writes, 48);
    // A repair begins and ends with a further HEAD request.
    let heads = requests(&world, "HeadObject");
    assert!((1200..=1200 + 2 * 48 + 12).contains(&heads), "{heads}");
    assert_eq!(world.state().published.len(), 1, "{:?}", world.state().published);
    // The same sweep within one invocation has the same result, but for the repairs.
    let again = handle(&world.checker(Repair::Update), "again", SWEEP).await.unwrap();
    assert_eq!((again.sweeps[0].objects, again.sweeps[0].outcomes[&Outcome::ForeignKey]), (1200, bad));
}

#[tokio::test(start_paused = true)]
async fn every_mode_has_its_ranges() {
    for payload in [SWEEP_VERSIONS, SWEEP_DRY_RUN] {
        let world = world_with_prefixes(20);
        for n in 0..300 {
            world.state().put(BUCKET, "pipeline-10/many-versions", Version::new(&format!("content {n}"), Sse::S3));
        }
        let mut checker = checker_of_ranges(&world);
        checker.settings.rates.s3 = 60;
        let answers = at_once(&world, &checker, payload).await;
        let report = report_of(&answers);
        let (objects, repaired) = if report.dry_run { (401, 0) } else { (700, 316) };
        assert_eq!(report.objects, objects);
        assert_eq!(report.outcomes.get(&Outcome::Repaired).copied().unwrap_or(0), repaired, "{:?}", report.outcomes);
        assert_eq!(world.state().bucket(BUCKET).writes, repaired);
        assert_eq!(report.estimate.is_some(), report.dry_run);
    }
}

/// Lambda ends a chain of self-invocations after about 16 hops.
#[tokio::test(start_paused = true)]
async fn a_sweep_may_need_far_more_than_sixteen_invocations_in_a_row() {
    let world = filled(10, &[(2_000, under("right")), (10, Sse::S3)]);
    world.state().latency = Duration::from_millis(400);
    let mut checker = world.checker(Repair::Update);
    checker.settings.concurrency = 1;
    let (answer, invocations) = to_the_end(&world, &checker, SWEEP, Duration::from_secs(47)).await;
    assert!(invocations > 16, "{invocations}");
    let report = answer.sweeps.last().unwrap();
    assert_eq!((report.complete, report.objects, report.outcomes[&Outcome::Repaired]), (true, 2010, 10));
}

/// Each invocation has a small part of the rates, for which many checks wait at the same time.
#[tokio::test(start_paused = true)]
async fn waiting_for_a_small_part_of_the_rates_makes_no_check_slow() {
    for (concurrency, rate, page, wrong) in [(100, 2_667, 1_000, 1_000), (5, 5, 100, 0)] {
        let objects = 6 * page;
        let world = filled(page, &[(objects - wrong, under("right")), (wrong, Sse::S3)]);
        world.state().latency = Duration::from_millis(30);
        let mut checker = checker_of_ranges(&world);
        checker.settings.concurrency = concurrency;
        checker.settings.rates = Rates { s3: rate, kms: rate };
        let (answer, invocations) = to_the_end(&world, &checker, SWEEP, LONG).await;
        assert!(invocations < 20, "{concurrency}: {invocations}");
        let report = answer.sweeps.last().unwrap();
        assert_eq!((report.complete, report.objects, report.unchecked_ranges), (true, objects as u64, 0));
        let repaired = report.outcomes.get(&Outcome::Repaired).copied().unwrap_or(0);
        assert_eq!((repaired, world.state().bucket(BUCKET).writes), (wrong as u64, wrong as u64));
        // Nobody hears that a check takes longer than an invocation.
        assert_eq!(world.state().published, Vec::<String>::new());
    }
}

/// Each invocation has the rates for 20 checks or 5 repairs a second, so a page takes longer than what is left at the end.
#[tokio::test(start_paused = true)]
async fn an_invocation_whose_time_ends_keeps_all_that_it_has_checked_and_repaired() {
    for (right, wrong) in [(12_000, 0), (0, 3_000)] {
        let world = filled(1_000, &[(right, under("right")), (wrong, Sse::S3)]);
        let (right, wrong) = (right as u64, wrong as u64);
        world.state().latency = Duration::from_millis(30);
        let mut checker = world.checker(Repair::Update);
        (checker.settings.alone, checker.settings.concurrency) = (0, 20);
        checker.settings.rates = Rates { s3: 400, kms: 400 };
        let (answer, invocations) = to_the_end(&world, &checker, SWEEP, LONG).await;
        let report = answer.sweeps.last().unwrap();
        assert_eq!((report.complete, invocations > 3, report.objects), (true, true, right + wrong));
        let repaired = report.outcomes.get(&Outcome::Repaired).copied().unwrap_or(0);
        assert_eq!((repaired, world.state().bucket(BUCKET).writes), (wrong, wrong));
        let operations = world.state().operations("s3");
        let heads = operations.iter().filter(|name| *name == "HeadObject").count() as u64;
        assert!(wrong > 0 || heads <= right * 101 / 100, "{heads} HEAD requests for {right} objects");
    }
}

#[tokio::test(start_paused = true)]
async fn a_doubled_message_counts_nothing() {
    let world = world_with_prefixes(20);
    let checker = checker_of_ranges(&world);
    let mut answers = vec![handle(&checker, "first", SWEEP).await.unwrap()];
    let mut n = 0;
    while let Some(message) = receive(&world) {
        n += 1;
        let (one, other) = (format!("one-{n}"), format!("other-{n}"));
        let (one, other) =
            tokio::join!(deliver(&checker, &one, &message, LONG), deliver(&checker, &other, &message, LONG));
        let late = deliver(&checker, &format!("late-{n}"), &message, LONG).await.unwrap();
        assert_eq!(late.decisions[0].outcome, Outcome::Ignored, "{late:?}");
        answers.extend([one.unwrap(), other.unwrap(), late]);
    }
    let report = report_of(&answers);
    assert_eq!((report.objects, report.outcomes[&Outcome::Repaired]), (400, 16));
    assert_eq!(answers.iter().flat_map(|answer| &answer.sweeps).filter(|one| one.range.is_none()).count(), 2);
    assert_eq!(world.state().published.len(), 1);
}

/// While the invocation of a doubled message begins, another invocation divides the range and stops.
#[tokio::test(start_paused = true)]
async fn a_doubled_message_does_not_check_what_was_divided_off() {
    let world = world_with_prefixes(60);
    let mut checker = checker_of_ranges(&world);
    checker.settings.rates.s3 = 30;
    handle(&checker, "first", SWEEP).await.unwrap();
    let message = receive(&world).unwrap();
    let late_read = (2, Duration::from_secs(90));
    let late = world.with_ledger(&checker, Faulty { late_read, ..Faulty::new(&checker.ledger) });
    let other = invocation("late", LONG);
    let (one, late) =
        tokio::join!(deliver(&checker, "one", &message, Duration::from_secs(70)), late.handle(&message, &other));
    assert!(!one.unwrap().sweeps[0].complete);
    assert_eq!(late.unwrap().decisions[0].outcome, Outcome::Ignored);
    let message = receive(&world).unwrap();
    assert_eq!(report_of(&at_once(&world, &checker, &message).await).objects, 1200);
}

#[tokio::test(start_paused = true)]
async fn two_sweeps_and_events_at_the_same_time_repair_each_object_once() {
    let world = world_with_prefixes(30);
    let mut checker = checker_of_ranges(&world);
    checker.settings.rates.s3 = 200;
    let wrong: Vec<String> = {
        let state = world.state();
        let objects = &state.bucket(BUCKET).objects;
        objects.iter().filter(|(_, versions)| versions[0].sse == Sse::S3).map(|(key, _)| key.clone()).collect()
    };
    let events = async {
        let mut repaired = 0;
        for (n, key) in wrong.iter().enumerate() {
            let answer = handle(&checker, &format!("event-{n}"), &created(BUCKET, key, None)).await.unwrap();
            repaired += u64::from(answer.decisions[0].outcome == Outcome::Repaired);
        }
        repaired
    };
    let (one, other, by_events) =
        tokio::join!(at_once(&world, &checker, SWEEP), at_once(&world, &checker, SWEEP_VERSIONS), events);
    let all: Vec<Answer> = one.into_iter().chain(other).collect();
    let reports: Vec<&SweepReport> =
        all.iter().flat_map(|answer| &answer.sweeps).filter(|one| one.range.is_none() && one.complete).collect();
    assert_eq!(
        reports.iter().map(|report| (report.objects, report.unchecked_ranges)).collect::<Vec<_>>(),
        [(600, 0), (600, 0)]
    );
    let by_sweeps: u64 = reports.iter().filter_map(|report| report.outcomes.get(&Outcome::Repaired)).sum();
    assert_eq!(by_events + by_sweeps, wrong.len() as u64);
    assert_eq!(world.state().bucket(BUCKET).writes, wrong.len() as u64);
}

/// A row of the ledger has up to 400 KB, and a key up to 1,024 bytes.
#[tokio::test(start_paused = true)]
async fn a_sweep_with_long_keys_fits_into_its_row() {
    let world = World::new();
    world.state().buckets.insert(BUCKET.to_owned(), Bucket::new(ACCOUNT).paged(50));
    for n in 0..400 {
        let key = format!("{n:04}/{}", "k".repeat(1000));
        world.state().put(
            BUCKET,
            &key,
            Version::new("content", Sse::Kms(format!("{}{}", crate::world::key("other"), "k".repeat(1500)))),
        );
    }
    let checker = checker_of_ranges(&world);
    let answers = at_once(&world, &checker, SWEEP).await;
    let report = report_of(&answers);
    let named = answers.last().unwrap().decisions.iter().filter(|one| one.concerns.contains_key("object")).count();
    assert_eq!((report.objects, report.more_findings + named as u64), (400, 400));
    assert!((20..100).contains(&named), "{named}");
}
