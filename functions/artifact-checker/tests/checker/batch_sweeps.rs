//! Sweeps beside a repair that is left to S3 Batch Operations.

use std::time::Duration;

use artifact_checker::{Checker, Outcome};
use sekisho_domain::artifacts::Repair;
use sekisho_ledger::{Memory, Store};
use serde_json::Value;

use crate::batch::{
    LONG, checker_with_jobs, code, confirm, follow, jobs, right, states, world_with_much_to_repair, writes,
};
use crate::ranges::{at_once, report_of};
use crate::sweep_progress::{deliver, receive};
use crate::sweeps::{SCHEDULE, SWEEP, SWEEP_VERSIONS, filled, object_key};
use crate::world::jobs::JobRules;
use crate::world::ledger::Faulty;
use crate::world::s3::Sse;
use crate::world::{BUCKET, Response, World, handle, invocation, key, now};

const DAY: Duration = Duration::from_hours(24);

/// A world in which a confirmed repair of seven objects waits for its message, a day after the sweep. All objects are so
/// old that an incremental sweep leaves them out. Also returns the message.
async fn world_with_confirmed_repair() -> (World, Checker<Memory>, String) {
    let world = world_with_much_to_repair();
    for versions in world.state().buckets.get_mut(BUCKET).unwrap().objects.values_mut() {
        versions[0].written = Some(now() - 30 * DAY);
    }
    let checker = checker_with_jobs(&world);
    let code = code(&handle(&checker, "r", SWEEP).await.unwrap());
    tokio::time::sleep(DAY).await;
    confirm(&checker, &code).await.unwrap();
    let message = receive(&world).unwrap();
    (world, checker, message)
}

/// Begins the daily sweep, whose first invocation leaves most objects to a range, and lets the job end halfway. Returns
/// the message of the range.
async fn end_job_halfway(world: &World, checker: &mut Checker<Memory>, message: &str) -> String {
    world.state().job_rules = JobRules { status: "Failed", tries: 4, ..JobRules::default() };
    checker.settings.alone = 1;
    let daily = handle(checker, "daily", SCHEDULE).await.unwrap();
    assert!(daily.sweeps[0].incremental && !daily.sweeps[0].complete, "{daily:?}");
    checker.settings.alone = 20_000;
    let messages = std::mem::take(&mut world.state().queue);
    let range = messages.into_iter().find(|(message, _)| message.contains("range")).unwrap().0;
    world.state().queue.push((message.to_owned(), 0));
    let end = follow(world, checker).await;
    assert_eq!(end.decisions[0].outcome, Outcome::Unknown, "{:?}", end.decisions);
    range
}

/// How many findings about the bucket are open.
async fn open_of_bucket(checker: &Checker<Memory>) -> usize {
    states(checker).await.iter().filter(|(key, state)| key.is_empty() && state == "open").count()
}

/// The incremental sweep leaves out old objects, also those that the job did not come to.
#[tokio::test(start_paused = true)]
async fn an_incremental_sweep_beside_a_job_that_ends_halfway_does_not_count_as_complete() {
    let (world, mut checker, message) = world_with_confirmed_repair().await;
    let range = end_job_halfway(&world, &mut checker, &message).await;
    assert_eq!(open_of_bucket(&checker).await, 1);
    let ended = deliver(&checker, "worker", &range, LONG).await.unwrap();
    assert!(ended.sweeps.last().unwrap().incremental && ended.sweeps.last().unwrap().complete, "{ended:?}");
    assert_eq!(open_of_bucket(&checker).await, 1, "the repair is incomplete");
    // The first object of a page is checked in any case.
    assert!(right(&world) < 14, "{}", right(&world));
    let next = handle(&checker, "next", SCHEDULE).await.unwrap();
    assert!(!next.sweeps[0].incremental, "{next:?}");
    assert_eq!((right(&world), writes(&world), open_of_bucket(&checker).await), (14, 10, 0));
    tokio::time::sleep(DAY).await;
    assert!(handle(&checker, "later", SCHEDULE).await.unwrap().sweeps[0].incremental);
}

#[tokio::test(start_paused = true)]
async fn an_incremental_sweep_is_not_continued_after_a_job_that_ended_halfway() {
    let (world, mut checker, message) = world_with_confirmed_repair().await;
    end_job_halfway(&world, &mut checker, &message).await;
    tokio::time::sleep(DAY).await;
    let next = handle(&checker, "next", SCHEDULE).await.unwrap();
    assert_eq!((next.sweeps[0].sweep.as_str(), next.sweeps[0].incremental), ("next", false));
    assert_eq!(right(&world), 14);
}

/// What a sweep finds wrong while a job runs is in no manifest, and an incremental sweep would leave it out.
#[tokio::test(start_paused = true)]
async fn what_a_complete_sweep_leaves_beside_a_job_is_repaired_by_the_next_scheduled_one() {
    for payload in [SWEEP, SWEEP_VERSIONS] {
        let (world, checker, message) = world_with_confirmed_repair().await;
        // Somebody changes the key of an old object in place.
        world.state().buckets.get_mut(BUCKET).unwrap().objects.get_mut(&object_key(0)).unwrap()[0].sse = Sse::S3;
        let answer = handle(&checker, "person", payload).await.unwrap();
        let report = &answer.sweeps[0];
        assert_eq!((report.left, report.is_left_to_nobody), (8, true));
        assert!(
            answer.decisions[0].reason.contains("because another repair was open"),
            "{}",
            answer.decisions[0].reason
        );
        world.state().queue.push((message, 0));
        follow(&world, &checker).await;
        assert_eq!(right(&world), 13);
        let next = handle(&checker, "next", SCHEDULE).await.unwrap();
        assert!(!next.sweeps[0].incremental, "{next:?}");
        assert_eq!((right(&world), writes(&world)), (14, 11));
    }
}

/// The job repairs the objects that the first invocation of the sweep has found wrong, so a second job with them would
/// repair them again.
#[tokio::test(start_paused = true)]
async fn a_sweep_during_which_a_job_ends_leaves_no_repair_and_the_next_scheduled_one_is_complete() {
    let (world, mut checker, message) = world_with_confirmed_repair().await;
    checker.settings.alone = 60;
    let first = handle(&checker, "person", SWEEP).await.unwrap();
    assert!(first.sweeps[0].left > 0 && !first.sweeps[0].complete, "{first:?}");
    checker.settings.alone = 20_000;
    let range = receive(&world).unwrap();
    world.state().queue.push((message, 0));
    assert_eq!(follow(&world, &checker).await.decisions[0].outcome, Outcome::Repaired);
    // What the rest of the sweep finds wrong is in no job, either.
    world.state().buckets.get_mut(BUCKET).unwrap().objects.get_mut(&object_key(13)).unwrap()[0].sse = Sse::S3;
    checker.settings.artifacts.confirm_above = 0;
    let ended = deliver(&checker, "worker", &range, LONG).await.unwrap();
    let report = ended.sweeps.last().unwrap();
    assert!(report.complete && report.left > first.sweeps[0].left && report.is_left_to_nobody, "{report:?}");
    assert_eq!((jobs(&world), right(&world), writes(&world)), (1, 13, 10));
    // The next sweep must not look like one that began before the end of the job.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let next = handle(&checker, "next", SCHEDULE).await.unwrap();
    assert!(!next.sweeps[0].incremental && next.sweeps[0].left == 1, "{next:?}");
    confirm(&checker, &code(&next)).await.unwrap();
    follow(&world, &checker).await;
    assert_eq!((jobs(&world), right(&world), writes(&world)), (2, 14, 11));
}

/// Such a sweep leaves nothing, but does not know whether the objects of the repair are under the right key.
#[tokio::test(start_paused = true)]
async fn a_sweep_that_cannot_judge_ends_no_repair_that_waits() {
    type Change = fn(&World, &mut Checker<Memory>);
    let cases: [(&str, Change); 3] = [
        ("the right key is disabled", |world, _| {
            "Disabled".clone_into(&mut world.state().keys.get_mut(&key("right")).unwrap().state);
        }),
        ("S3 takes no manifest", |world, _| {
            world.script(|request| {
                let is_report = request.method == "PUT" && request.path.contains("sekisho-reports/");
                is_report.then(|| Response::error(403, "AccessDenied", "Access Denied"))
            });
        }),
        ("sweeps only report", |_, checker| checker.settings.artifacts.repair = Repair::Report),
    ];
    for (what, change) in cases {
        let world = world_with_much_to_repair();
        let mut checker = checker_with_jobs(&world);
        let code = code(&handle(&checker, "r", SWEEP).await.unwrap());
        change(&world, &mut checker);
        let again = handle(&checker, "again", SWEEP).await.unwrap();
        assert_eq!((again.sweeps[0].complete, again.sweeps[0].left), (true, 0), "{what}");
        let rows = checker.ledger.list::<Value>("artifact-finding", "").await.unwrap();
        let waiting = rows.iter().find(|row| row.state["reason"].as_str().unwrap().contains(&code)).unwrap();
        assert_eq!(waiting.state["state"], "open", "{what}");
        confirm(&checker, &code).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    }
}

/// Otherwise, the job would repair the same objects again.
#[tokio::test(start_paused = true)]
async fn a_sweep_that_is_under_way_stops_its_repairs_in_place_when_another_one_leaves_a_repair() {
    let world = filled(50, &[(2_000, Sse::S3)]);
    world.state().latency = Duration::from_millis(30);
    let mut checker = world.checker(Repair::Update);
    checker.settings.artifacts.confirm_above = 0;
    let mut slow = world.with_ledger(&checker, Faulty::new(&checker.ledger));
    slow.settings.artifacts.confirm_above = 100_000;
    slow.settings.rates.s3 = 200;
    let lambda = invocation("versions", Duration::from_mins(10));
    let other = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        at_once(&world, &checker, SWEEP).await;
        writes(&world)
    };
    let (answer, before) = tokio::join!(slow.handle(SWEEP_VERSIONS, &lambda), other);
    // Beside the other sweep, the first invocation leaves the rest to a range.
    assert!(!answer.unwrap().sweeps[0].complete);
    checker.settings.artifacts.confirm_above = 100_000;
    let rest = receive(&world).unwrap();
    let answers = at_once(&world, &checker, &rest).await;
    let report = report_of(&answers);
    // Until the next checkpoint, and for the checks that are in flight, repairs go on.
    let late = writes(&world) - before;
    assert!(before < 600 && late < 600, "{before} repairs before the other sweep left one, and {late} after it");
    assert_eq!(report.left + writes(&world), 2_000);
}
