//! Ranges of sweeps whose invocations die or fail, whose messages are lost, or that cannot be checked.

use std::time::Duration;

use artifact_checker::{Checker, Outcome};
use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use sekisho_domain::artifacts::Repair;
use sekisho_ledger::{Key, Memory, Store};

use crate::objects::LARGE;
use crate::ranges::{LONG, at_once, checker_of_ranges, report_of, world_with_prefixes};
use crate::sweep_progress::{deliver, receive};
use crate::sweeps::{SCHEDULE, SWEEP, SWEEP_DRY_RUN, SWEEP_VERSIONS, filled, object_key};
use crate::world::ledger::Faulty;
use crate::world::s3::{Sse, Version};
use crate::world::{BUCKET, Response, World, foreign, handle, invocation, under};

/// Random numbers that are the same in each run.
fn random(seed: u8) -> impl FnMut(u64) -> u64 {
    let mut source = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    move |below| source.next_u64() % below
}

/// An invocation may die at any time, also between the claim of an object and its repair. The queue then delivers the
/// message again.
#[tokio::test(start_paused = true)]
async fn a_sweep_whose_invocations_die_checks_everything_and_repairs_each_object_once() {
    for seed in 0..4 {
        let world = world_with_prefixes(20);
        let mut checker = checker_of_ranges(&world);
        checker.settings.rates.s3 = 100;
        let mut random = random(seed);
        handle(&checker, "first", SWEEP).await.unwrap();
        let mut reports = Vec::new();
        let mut deaths = 0;
        for n in 0..200 {
            let Some(message) = receive(&world) else { break };
            let id = format!("r{n}");
            // An invocation that always dies before it makes progress would set its range aside.
            let life = Duration::from_millis(if n % 3 == 0 { random(12_000) } else { 600_000 });
            if let Ok(answer) = tokio::time::timeout(life, deliver(&checker, &id, &message, LONG)).await {
                reports.extend(answer.unwrap().sweeps);
            } else {
                deaths += 1;
                world.state().queue.push((message, 0));
                tokio::time::sleep(Duration::from_mins(30)).await;
            }
        }
        assert!(deaths > 0);
        let report = reports.iter().find(|report| report.range.is_none()).expect("the sweep has ended");
        assert_eq!((report.objects, report.unchecked_ranges, report.complete), (400, 0, true), "seed {seed}");
        assert_eq!(world.state().bucket(BUCKET).writes, 16, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_range_that_cannot_be_listed_is_set_aside_and_makes_the_sweep_incomplete() {
    for answer in [|| Response::error(500, "InternalError", "We"), || Response::error(403, "AccessDenied", "no")] {
        let world = world_with_prefixes(20);
        let checker = checker_of_ranges(&world);
        world.script(move |request| {
            let after = request.query.get("start-after")?;
            // The first page of the range, and not the requests that look for its middle.
            let is_broken = after.starts_with("pipeline-1") && !request.query.contains_key("max-keys");
            (request.operation == "ListObjectsV2" && is_broken).then(answer)
        });
        let answers = at_once(&world, &checker, SWEEP).await;
        let report = report_of(&answers);
        assert_eq!(report.unchecked_ranges, 1);
        assert!(report.objects > 100 && report.objects < 400, "{}", report.objects);
        let decisions: Vec<_> = answers.iter().flat_map(|answer| &answer.decisions).collect();
        let finding = decisions.iter().find(|one| one.concerns.get("problem").is_some_and(|it| it == "not-checked"));
        let finding = finding.unwrap();
        assert_eq!(finding.outcome, Outcome::Unknown);
        assert!(finding.reason.contains("the objects after \"pipeline-"), "{}", finding.reason);
        let summary = decisions.iter().find(|one| one.reason.starts_with("incomplete")).unwrap();
        assert_eq!(summary.outcome, Outcome::Reported);
        assert_eq!(world.state().published.len(), 1);
        // The next sweep checks everything, and resolves the finding.
        world.state().script = None;
        let answers = at_once(&world, &checker, SCHEDULE).await;
        let report = report_of(&answers);
        assert_eq!((report.objects, report.unchecked_ranges, report.incremental), (400, 0, false));
        assert!(world.state().published[1].contains("Not found any more"), "{}", world.state().published[1]);
    }
}

/// An invocation that always dies at the same object, for example because it needs too much memory.
#[tokio::test(start_paused = true)]
async fn of_a_range_whose_invocations_always_die_one_page_is_set_aside() {
    for payload in [SWEEP, SWEEP_DRY_RUN, SWEEP_VERSIONS] {
        let world = world_with_prefixes(20);
        let mut checker = checker_of_ranges(&world);
        checker.settings.concurrency = 1;
        handle(&checker, "first", payload).await.unwrap();
        let message = receive(&world).unwrap();
        for n in 0..3 {
            let id = format!("r{n}");
            let killed = tokio::time::timeout(Duration::from_millis(200), deliver(&checker, &id, &message, LONG));
            assert!(killed.await.is_err());
            tokio::time::sleep(Duration::from_mins(30)).await;
        }
        let answers = at_once(&world, &checker, &message).await;
        assert!(answers[0].decisions[0].reason.contains("is set aside: the objects after"), "{answers:?}");
        let report = report_of(&answers);
        assert_eq!((report.objects, report.unchecked_ranges), (350, 1));
    }
}

/// Delivers a message until the row of the range has a slow object and `is_reached`, and then three times for a moment.
/// Each invocation dies, and the last three make no progress.
async fn kill_until_poisoned(
    checker: &Checker<Memory>,
    message: &str,
    is_reached: impl Fn(&serde_json::Value) -> bool,
) {
    let key = Key { sk: "range#00000".to_owned(), ..Key::state(format!("sweep#{BUCKET}")) };
    let reached = async {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let row = checker.ledger.read::<serde_json::Value>(&key).await.unwrap().unwrap().state;
            if !row["slow"].as_array().unwrap().is_empty() && is_reached(&row) {
                return;
            }
        }
    };
    tokio::select! {
        ended = deliver(checker, "slow", message, LONG) => panic!("{ended:?}"),
        () = reached => {}
    }
    for n in 0..3 {
        tokio::time::sleep(Duration::from_mins(30)).await;
        let id = format!("killed-{n}");
        let killed = tokio::time::timeout(Duration::from_millis(200), deliver(checker, &id, message, LONG));
        assert!(killed.await.is_err());
    }
    tokio::time::sleep(Duration::from_mins(30)).await;
}

/// The copy of a large object takes longer than all other checks. Then invocations die.
async fn world_with_slow_object(objects: usize) -> (World, Checker<Memory>, String) {
    let world = world_with_prefixes(objects);
    world.state().latency = Duration::from_secs(1);
    world.state().put(BUCKET, SLOW_OBJECT, Version { size: LARGE, ..Version::new("large", Sse::S3) });
    world.state().slow_operation = Some(("UploadPartCopy", Duration::from_secs(100)));
    let mut checker = world.checker(Repair::Copy);
    (checker.settings.alone, checker.settings.concurrency) = (100, 1);
    handle(&checker, "first", SWEEP).await.unwrap();
    let message = receive(&world).unwrap();
    (world, checker, message)
}

const SLOW_OBJECT: &str = "pipeline-10/a-large-object";

#[tokio::test(start_paused = true)]
async fn the_slow_objects_of_a_range_that_is_set_aside_are_checked_with_its_rest() {
    let (world, checker, message) = world_with_slow_object(60).await;
    kill_until_poisoned(&checker, &message, |row| row["listed"] == false).await;
    world.state().latency = Duration::ZERO;
    let answers = at_once(&world, &checker, &message).await;
    assert!(answers[0].decisions[0].reason.contains("is set aside: the objects after"), "{answers:?}");
    let report = report_of(&answers);
    assert_eq!((report.objects, report.unchecked_ranges), (1201 - 50, 1));
    assert_eq!(world.state().bucket(BUCKET).latest(SLOW_OBJECT).unwrap().sse, under("right"));
}

/// Nothing of such a range may be listed again, because everything else is counted.
#[tokio::test(start_paused = true)]
async fn of_a_listed_range_whose_invocations_always_die_the_slow_objects_are_named() {
    let (world, checker, message) = world_with_slow_object(20).await;
    kill_until_poisoned(&checker, &message, |row| row["listed"] == true).await;
    let answers = at_once(&world, &checker, &message).await;
    let report = report_of(&answers);
    assert_eq!((report.objects, report.unchecked_ranges), (400, 1));
    let mut decisions = answers.iter().flat_map(|answer| &answer.decisions);
    assert!(decisions.any(|one| one.reason.contains(&format!("the object {SLOW_OBJECT:?}"))), "{answers:?}");
}

/// A range can't be divided while many invocations are changing the sweep's row. Its own message must come again.
#[tokio::test(start_paused = true)]
async fn a_range_whose_division_failed_keeps_a_message() {
    let world = world_with_prefixes(60);
    let mut checker = checker_of_ranges(&world);
    checker.settings.rates.s3 = 30;
    handle(&checker, "first", SWEEP).await.unwrap();
    let message = receive(&world).unwrap();
    let busy = world.with_ledger(&checker, Faulty { is_busy: true, ..Faulty::new(&checker.ledger) });
    let answer = Box::pin(busy.handle(&message, &invocation("busy", LONG))).await.unwrap();
    assert_eq!(answer.decisions[0].outcome, Outcome::Ignored, "{:?}", answer.decisions);
    let (message, delay) = world.state().queue.pop().expect("the range has a message");
    assert_eq!((delay, world.state().queue.len()), (60, 0));
    tokio::time::sleep(Duration::from_secs(delay)).await;
    assert_eq!(report_of(&at_once(&world, &checker, &message).await).objects, 1200);
}

/// Events are sent ten at a time, so an invocation may die after it has written the row of a finding.
#[tokio::test(start_paused = true)]
async fn the_event_of_a_finding_is_sent_by_the_next_invocation_if_the_first_one_dies() {
    let world = filled(50, &[(1, foreign()), (300, under("right"))]);
    world.state().latency = Duration::from_secs(1);
    let checker = world.checker(Repair::Update);
    let row_is_written = async {
        while checker.ledger.list::<serde_json::Value>("artifact-finding", "").await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        ended = handle(&checker, "killed", SWEEP) => panic!("{ended:?}"),
        () = row_is_written => {}
    }
    assert_eq!(world.state().events.len(), 0);
    tokio::time::sleep(Duration::from_mins(30)).await;
    let answer = handle(&checker, "next", SWEEP).await.unwrap();
    assert_eq!((answer.sweeps[0].sweep.as_str(), answer.sweeps[0].complete), ("killed", true));
    let keys: Vec<_> = world.state().events.iter().map(|event| event["key"].clone()).collect();
    assert_eq!(keys, [object_key(0)]);
}

/// If every page fails, the fault does not lie in single objects, and the sweep ends soon.
#[tokio::test(start_paused = true)]
async fn if_many_pages_fail_the_rest_is_set_aside_as_a_whole() {
    let world = world_with_prefixes(60);
    let mut checker = checker_of_ranges(&world);
    checker.settings.concurrency = 1;
    handle(&checker, "first", SWEEP).await.unwrap();
    let mut answer = None;
    for n in 0..60 {
        let Some(message) = receive(&world) else { break };
        for m in 0..3 {
            let id = format!("r{n}-{m}");
            let killed = tokio::time::timeout(Duration::from_millis(300), deliver(&checker, &id, &message, LONG));
            assert!(killed.await.is_err());
            tokio::time::sleep(Duration::from_mins(30)).await;
        }
        answer = Some(deliver(&checker, &format!("r{n}"), &message, LONG).await.unwrap());
    }
    let report = answer.unwrap().sweeps.pop().unwrap();
    assert_eq!((report.complete, report.range, report.unchecked_ranges), (true, None, 11));
}

#[tokio::test(start_paused = true)]
async fn the_daily_sweep_resumes_ranges_whose_messages_are_lost() {
    let world = world_with_prefixes(20);
    let checker = checker_of_ranges(&world);
    handle(&checker, "first", SWEEP).await.unwrap();
    world.state().queue.clear();
    tokio::time::sleep(Duration::from_hours(24)).await;
    let answers = at_once(&world, &checker, SCHEDULE).await;
    assert_eq!(answers[0].decisions[0].outcome, Outcome::Ignored, "{:?}", answers[0].decisions);
    let report = report_of(&answers);
    assert_eq!((report.sweep.as_str(), report.objects), ("first", 400));
}

/// On the second day, people know of the finding about the range, but the answer must not say that all is well.
#[tokio::test(start_paused = true)]
async fn an_incomplete_sweep_without_news_is_not_compliant() {
    let world = filled(50, &[(400, under("right"))]);
    let checker = checker_of_ranges(&world);
    world.script(move |request| {
        let after = request.query.get("start-after")?;
        let is_broken = *after >= object_key(200) && !request.query.contains_key("max-keys");
        (request.operation == "ListObjectsV2" && is_broken).then(|| Response::error(403, "AccessDenied", "no"))
    });
    for (day, expected) in [Outcome::Reported, Outcome::Unknown].into_iter().enumerate() {
        let id = format!("day-{day}");
        let mut answers = vec![handle(&checker, &id, SWEEP).await.unwrap()];
        while let Some(message) = receive(&world) {
            answers.push(deliver(&checker, &id, &message, LONG).await.unwrap());
        }
        assert!(report_of(&answers).unchecked_ranges > 0);
        let mut decisions = answers.iter().flat_map(|answer| &answer.decisions);
        let summary = decisions.find(|one| one.reason.starts_with("incomplete")).unwrap();
        assert_eq!(summary.outcome, expected, "day {day}: {}", summary.reason);
        assert_eq!(world.state().published.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn the_schedule_resumes_the_ranges_of_every_mode() {
    for payload in [SWEEP_VERSIONS, SWEEP_DRY_RUN] {
        let world = world_with_prefixes(20);
        let checker = checker_of_ranges(&world);
        handle(&checker, "person", payload).await.unwrap();
        world.state().queue.clear();
        tokio::time::sleep(Duration::from_hours(24)).await;
        let answers = at_once(&world, &checker, SCHEDULE).await;
        let mut reports = answers.iter().flat_map(|answer| &answer.sweeps);
        let report = reports.find(|one| one.sweep == "person" && one.range.is_none()).expect("the sweep has ended");
        assert_eq!((report.complete, report.objects), (true, 400));
    }
}

/// An invocation dies after it has divided its range and saved its position, and before it sends the message of the new
/// range.
#[tokio::test(start_paused = true)]
async fn a_new_range_whose_message_was_never_sent_is_resumed() {
    for payload in [SWEEP, SWEEP_VERSIONS, SWEEP_DRY_RUN] {
        let world = world_with_prefixes(60);
        let mut checker = checker_of_ranges(&world);
        checker.settings.rates.s3 = 30;
        handle(&checker, "person", payload).await.unwrap();
        let message = receive(&world).unwrap();
        world.state().slow_operation = Some(("SendMessage", Duration::from_hours(1)));
        let killed = tokio::time::timeout(Duration::from_secs(40), deliver(&checker, "killed", &message, LONG));
        assert!(killed.await.is_err());
        world.state().slow_operation = None;
        assert_eq!(world.state().queue, []);
        tokio::time::sleep(Duration::from_mins(30)).await;
        let answers = at_once(&world, &checker, &message).await;
        assert_eq!(report_of(&answers).objects, 1200);
        // No storm: a message of each part of each range, and few others.
        let useless = answers.iter().filter(|answer| answer.decisions[0].outcome == Outcome::Ignored).count();
        assert!(useless <= 5, "{useless}");
    }
}
