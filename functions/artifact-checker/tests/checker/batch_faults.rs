//! Repairs that are left to S3 Batch Operations, with crashes, jobs that fail, and reports that lack something.

use std::ops::Range;
use std::time::Duration;

use artifact_checker::{Answer, Checker, Outcome};
use sekisho_ledger::{Memory, Store};
use serde_json::json;
use tokio::time::timeout;

use crate::batch::{
    LONG, checker_with_jobs, code, confirm, follow, jobs, operations, receive_when_due, right, states,
    world_with_much_to_repair, writes,
};
use crate::ranges::{at_once, report_of};
use crate::sweep_progress::{deliver, receive};
use crate::sweeps::{SCHEDULE, SWEEP, filled, object_key};
use crate::world::jobs::{JobRules, ReportFault};
use crate::world::s3::Version;
use crate::world::{BUCKET, Response, World, handle, under};

/// How long each service takes to answer. A crash after a multiple of it comes between two calls.
const LATENCY: Duration = Duration::from_millis(20);

/// Runs a sweep and the confirmed job. Returns the answer about the end.
async fn run(world: &World, checker: &Checker<Memory>) -> Answer {
    let code = code(&handle(checker, "r", SWEEP).await.unwrap());
    confirm(checker, &code).await.unwrap();
    follow(world, checker).await
}

/// Delivers the messages of the queue. The invocation number `crashed` dies after a number of calls, and its message is
/// delivered again when the lease has ended. Returns whether an invocation died.
async fn follow_with_crash(world: &World, checker: &Checker<Memory>, crashed: usize, calls: u32) -> bool {
    let mut has_crashed = false;
    for n in 0..100 {
        let Some(message) = receive_when_due(world).await else { return has_crashed };
        let id = format!("follow-{n}");
        let delivery = deliver(checker, &id, &message, LONG);
        if n != crashed {
            delivery.await.unwrap();
        } else if timeout(LATENCY * calls + LATENCY / 2, delivery).await.is_err() {
            has_crashed = true;
            tokio::time::sleep(Duration::from_mins(30)).await;
            world.state().queue.push((message, 0));
        }
    }
    panic!("the repair never ends")
}

/// A world with ten objects to repair. With the S3 Bucket Key, which is the default of the deployed bucket, there are two
/// manifests, because objects under a KMS key keep their own setting.
fn world_with_default(has_bucket_key: bool) -> World {
    let world = world_with_much_to_repair();
    world.state().buckets.get_mut(BUCKET).unwrap().defaults_to_bucket_key = has_bucket_key;
    world
}

/// The settings of the S3 Bucket Key of the objects that were under S3's own key, and of those under another key.
fn bucket_keys(world: &World) -> (Vec<bool>, Vec<bool>) {
    let state = world.state();
    let right = |n: &usize| state.bucket(BUCKET).latest(&object_key(*n)).filter(|latest| latest.sse == under("right"));
    let of = |numbers: Range<usize>| numbers.filter_map(|n| right(&n)).map(|latest| latest.bucket_key).collect();
    (of(4..10), of(10..14))
}

#[tokio::test(start_paused = true)]
async fn a_crash_after_any_step_creates_no_job_twice_and_repairs_nothing_twice() {
    for has_bucket_key in [false, true] {
        let mut crashes = 0;
        for (crashed, calls) in (0..4).flat_map(|crashed| (0..8).map(move |calls| (crashed, calls))) {
            let world = world_with_default(has_bucket_key);
            world.state().latency = LATENCY;
            world.state().job_rules.denied.insert(object_key(9));
            let checker = checker_with_jobs(&world);
            let code = code(&handle(&checker, "r", SWEEP).await.unwrap());
            confirm(&checker, &code).await.unwrap();
            crashes += u32::from(follow_with_crash(&world, &checker, crashed, calls).await);
            let what = format!("{has_bucket_key}, crash of invocation {crashed} after {calls} calls");
            assert_eq!(
                (jobs(&world), right(&world), writes(&world)),
                (1 + usize::from(has_bucket_key), 13, 9),
                "{what}"
            );
            assert_eq!(bucket_keys(&world), (vec![has_bucket_key; 5], vec![false; 4]), "{what}");
            let open: Vec<_> = states(&checker).await.into_iter().filter(|(_, state)| state == "open").collect();
            assert_eq!(open.iter().filter(|(key, _)| *key == object_key(9)).count(), 1, "{what}: {open:?}");
            assert_eq!(open.len(), 2 + 1, "{what}: {open:?}");
            let notices = world.state().published.clone();
            assert!(notices.last().unwrap().contains("6 of 7 objects repaired"), "{what}: {notices:?}");
        }
        assert!(crashes >= 8, "{has_bucket_key}: {crashes}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_the_end_of_a_sweep_leads_to_one_repair() {
    for has_bucket_key in [false, true] {
        let (mut crashes, mut most_jobs) = (0, 0);
        for calls in 1..24 {
            let world = world_with_default(has_bucket_key);
            world.state().latency = LATENCY;
            let checker = checker_with_jobs(&world);
            let died = timeout(LATENCY * calls + LATENCY / 2, handle(&checker, "r", SWEEP)).await.is_err();
            crashes += u32::from(died);
            tokio::time::sleep(Duration::from_mins(30)).await;
            let answer = handle(&checker, "again", SWEEP).await.unwrap();
            follow(&world, &checker).await;
            confirm(&checker, &code(&answer)).await.unwrap();
            follow(&world, &checker).await;
            // The repairs of the last seconds before a crash are not counted, so the next attempt may repair all objects of
            // one of the manifests in place.
            most_jobs = most_jobs.max(jobs(&world));
            assert!(jobs(&world) > 0, "after {calls} calls");
            assert_eq!((right(&world), writes(&world)), (14, 10), "after {calls} calls");
        }
        assert!(crashes >= 8, "{has_bucket_key}: {crashes}");
        assert_eq!(most_jobs, 1 + usize::from(has_bucket_key));
    }
}

/// An attempt dies after it has written a part of a manifest, and before it saves its position. The next attempt checks
/// more slowly, so its part of the same name ends before the object that has the S3 Bucket Key.
#[tokio::test(start_paused = true)]
async fn a_dead_attempt_leaves_no_object_twice_in_the_manifests() {
    let world = filled(10, &[(300, under("other"))]);
    world.state().put(BUCKET, "z", Version { bucket_key: true, ..Version::new("x", under("other")) });
    let mut checker = checker_with_jobs(&world);
    checker.settings.artifacts.confirm_above = 0;
    world.state().slow_operation = Some((".jsonl", Duration::from_hours(1)));
    assert!(timeout(Duration::from_secs(20), handle(&checker, "killed", SWEEP)).await.is_err());
    let has_part =
        |kind: &str| world.state().bucket(BUCKET).objects.keys().any(|key| key.contains(&format!("/left/{kind}/")));
    assert!(has_part("bucket-key") && has_part("no-bucket-key"));
    world.state().slow_operation = None;
    world.state().latency = Duration::from_secs(1);
    tokio::time::sleep(Duration::from_mins(30)).await;
    let answer = handle(&checker, "next", SWEEP).await.unwrap();
    assert_eq!((answer.sweeps[0].sweep.as_str(), answer.sweeps[0].left), ("killed", 301));
    world.state().latency = Duration::ZERO;
    confirm(&checker, &code(&answer)).await.unwrap();
    follow(&world, &checker).await;
    let lines: Vec<usize> = world.state().jobs.iter().map(|job| job.manifest.lines().count()).collect();
    assert_eq!((lines, right(&world), writes(&world)), (vec![1, 300], 301, 301));
}

/// The next attempt finds nothing wrong in its part of the bucket, so it has no findings that take the place of those of
/// the dead one.
#[tokio::test(start_paused = true)]
async fn what_only_a_dead_attempt_has_found_wrong_is_in_no_manifest() {
    let world = filled(10, &[(300, under("other"))]);
    let mut checker = checker_with_jobs(&world);
    checker.settings.artifacts.confirm_above = 0;
    world.state().slow_operation = Some((".jsonl", Duration::from_hours(1)));
    assert!(timeout(Duration::from_secs(20), handle(&checker, "killed", SWEEP)).await.is_err());
    world.state().slow_operation = None;
    tokio::time::sleep(Duration::from_mins(30)).await;
    for n in 0..150 {
        world.state().buckets.get_mut(BUCKET).unwrap().objects.get_mut(&object_key(n)).unwrap()[0].sse = under("right");
    }
    checker.settings.alone = 100;
    let answers = at_once(&world, &checker, SWEEP).await;
    assert_eq!((answers[0].sweeps[0].left, report_of(&answers).left), (0, 150));
    assert_eq!(answers[0].sweeps[0].list, None);
    let code = answers.iter().find(|answer| answer.sweeps.iter().any(|one| one.left == 150)).map(code).unwrap();
    confirm(&checker, &code).await.unwrap();
    follow(&world, &checker).await;
    let lines: usize = world.state().jobs.iter().map(|job| job.manifest.lines().count()).sum();
    assert_eq!((lines, right(&world), writes(&world)), (150, 300, 150));
}

/// The answer about the created job is lost, as often as the SDK tries.
#[tokio::test(start_paused = true)]
async fn a_lost_answer_creates_no_second_job() {
    let world = world_with_much_to_repair();
    let checker = checker_with_jobs(&world);
    let code = code(&handle(&checker, "r", SWEEP).await.unwrap());
    confirm(&checker, &code).await.unwrap();
    let message = receive(&world).unwrap();
    world.state().job_rules.lost = 3;
    assert!(deliver(&checker, "lost", &message, LONG).await.is_err());
    assert_eq!((jobs(&world), world.state().job_rules.lost), (1, 0));
    deliver(&checker, "again", &message, LONG).await.unwrap();
    follow(&world, &checker).await;
    assert_eq!((jobs(&world), right(&world), writes(&world)), (1, 14, 10));
}

/// For some time after a job was created, S3 may answer that there is no such job.
#[tokio::test(start_paused = true)]
async fn a_job_that_s3_does_not_show_yet_is_awaited() {
    let world = world_with_much_to_repair();
    let checker = checker_with_jobs(&world);
    let code = code(&handle(&checker, "r", SWEEP).await.unwrap());
    confirm(&checker, &code).await.unwrap();
    world.state().job_rules.forgets = true;
    for n in 0..5 {
        let message = receive_when_due(&world).await.unwrap();
        deliver(&checker, &format!("look-{n}"), &message, LONG).await.unwrap();
        assert_eq!(operations(&world, "DescribeJob"), n, "the invocation that creates a job does not look at it");
    }
    world.state().job_rules.forgets = false;
    assert_eq!(follow(&world, &checker).await.decisions[0].outcome, Outcome::Repaired);
    assert_eq!((jobs(&world), right(&world), writes(&world)), (1, 14, 10));
}

#[tokio::test(start_paused = true)]
async fn a_creation_that_begins_late_is_tried() {
    let world = world_with_much_to_repair();
    let checker = checker_with_jobs(&world);
    let code = code(&handle(&checker, "r", SWEEP).await.unwrap());
    confirm(&checker, &code).await.unwrap();
    tokio::time::sleep(Duration::from_hours(13)).await;
    assert_eq!(follow(&world, &checker).await.decisions[0].outcome, Outcome::Repaired);
    assert_eq!((jobs(&world), right(&world)), (1, 14));
}

#[tokio::test(start_paused = true)]
async fn a_creation_is_repeated_after_an_error_that_may_pass() {
    let world = world_with_much_to_repair();
    let checker = checker_with_jobs(&world);
    let code = code(&handle(&checker, "r", SWEEP).await.unwrap());
    confirm(&checker, &code).await.unwrap();
    let message = receive(&world).unwrap();
    world.answer_operation("CreateJob", || Response::error(400, "ExpiredToken", "The provided token has expired."));
    assert!(deliver(&checker, "expired", &message, LONG).await.is_err());
    world.state().script = None;
    deliver(&checker, "again", &message, LONG).await.unwrap();
    assert_eq!(follow(&world, &checker).await.decisions[0].outcome, Outcome::Repaired);
}

/// An invocation that died may have completed the upload.
#[tokio::test(start_paused = true)]
async fn a_manifest_whose_upload_is_gone_is_written_again() {
    for (operation, has_bucket_key) in
        ["UploadPart", "CompleteMultipartUpload"].into_iter().flat_map(|one| [(one, false), (one, true)])
    {
        let world = world_with_default(has_bucket_key);
        let mut checker = checker_with_jobs(&world);
        checker.settings.manifest_part = 100;
        let mut refusals = 0;
        world.script(move |request| {
            refusals += u32::from(request.operation == operation);
            let is_gone = request.operation == operation && refusals == 1;
            is_gone.then(|| Response::error(404, "NoSuchUpload", "The specified upload does not exist."))
        });
        handle(&checker, "r", SWEEP).await.unwrap();
        assert_eq!(world.state().queue.len(), 1, "{operation}");
        follow(&world, &checker).await;
        let row = checker.ledger.list::<serde_json::Value>("artifact-repair", "").await.unwrap();
        confirm(&checker, row[0].state["code"].as_str().unwrap()).await.unwrap();
        follow(&world, &checker).await;
        assert_eq!(
            (jobs(&world), right(&world), writes(&world)),
            (1 + usize::from(has_bucket_key), 14, 10),
            "{operation}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_schedule_continues_a_repair_whose_message_is_lost() {
    let world = world_with_much_to_repair();
    let checker = checker_with_jobs(&world);
    let code = code(&handle(&checker, "r", SWEEP).await.unwrap());
    confirm(&checker, &code).await.unwrap();
    world.state().queue.clear();
    handle(&checker, "daily", SCHEDULE).await.unwrap();
    follow(&world, &checker).await;
    assert_eq!((jobs(&world), right(&world), writes(&world)), (1, 14, 10));
}

#[tokio::test(start_paused = true)]
async fn a_failed_task_is_a_finding_with_s3s_reason() {
    let world = world_with_much_to_repair();
    world.state().job_rules.denied.insert(object_key(9));
    let checker = checker_with_jobs(&world);
    let end = run(&world, &checker).await;
    assert_eq!(end.decisions[0].outcome, Outcome::Reported, "{:?}", end.decisions);
    let notice = world.state().published.last().unwrap().clone();
    assert!(notice.contains("6 of 7 objects repaired") && notice.contains("AccessDenied (403)"), "{notice}");
    assert!(states(&checker).await.contains(&(object_key(9), "open".to_owned())));
    // The next sweep repairs it by itself, because it is below the limit.
    world.state().job_rules.denied.clear();
    handle(&checker, "next", SWEEP).await.unwrap();
    assert!(states(&checker).await.contains(&(object_key(9), "resolved".to_owned())));
    assert_eq!((right(&world), writes(&world)), (14, 10));
}

#[tokio::test(start_paused = true)]
async fn a_finding_about_an_object_is_resolved_by_the_job() {
    let world = world_with_much_to_repair();
    let mut checker = checker_with_jobs(&world);
    // A sweep that only reports has made findings with rows of their own.
    checker.settings.artifacts.repair = sekisho_domain::artifacts::Repair::Report;
    handle(&checker, "report", SWEEP).await.unwrap();
    assert!(states(&checker).await.contains(&(object_key(12), "open".to_owned())));
    checker.settings.artifacts.repair = sekisho_domain::artifacts::Repair::Update;
    tokio::time::sleep(Duration::from_secs(10)).await;
    run(&world, &checker).await;
    let open: Vec<_> = states(&checker).await.into_iter().filter(|(_, state)| state == "open").collect();
    assert_eq!((open.len(), right(&world)), (2, 14), "{open:?}");
    assert!(world.state().events.iter().any(|event| event["key"] == object_key(12) && event["state"] == "resolved"));
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_gone_is_no_finding() {
    let world = world_with_much_to_repair();
    let checker = checker_with_jobs(&world);
    let code = code(&handle(&checker, "r", SWEEP).await.unwrap());
    world.state().buckets.get_mut(BUCKET).unwrap().objects.remove(&object_key(9));
    confirm(&checker, &code).await.unwrap();
    follow(&world, &checker).await;
    assert!(states(&checker).await.iter().all(|(key, _)| *key != object_key(9)));
    assert!(world.state().published.last().unwrap().contains("6 of 7 objects repaired"));
}

/// Whatever goes wrong, the repair is incomplete, people hear why, and the next sweep repairs what is left.
#[tokio::test(start_paused = true)]
async fn a_job_that_does_not_complete_makes_the_repair_incomplete() {
    type Change = fn(&World);
    let cases: [(Change, &str); 7] = [
        (
            |world| world.state().job_rules = JobRules { status: "Failed", tries: 4, ..JobRules::default() },
            "too many <failures>",
        ),
        (
            |world| world.state().job_rules = JobRules { status: "Cancelled", tries: 4, ..JobRules::default() },
            "Cancelled",
        ),
        (|world| world.state().job_rules.tries = 4, "did not come to 3 of its 7 objects"),
        (|world| world.state().job_rules.fault = Some(ReportFault::Missing), "left no report"),
        (|world| world.state().job_rules.fault = Some(ReportFault::Short), "only 6 of 7 results"),
        (|world| world.state().job_rules.fault = Some(ReportFault::Garbled), "only 6 of 7 results"),
        (|world| world.state().job_rules.forgets = true, "does not have the job"),
    ];
    for (change, part) in cases {
        let world = world_with_much_to_repair();
        change(&world);
        let checker = checker_with_jobs(&world);
        let end = run(&world, &checker).await;
        let [decision] = end.decisions.as_slice() else { panic!("{part}: {:?}", end.decisions) };
        assert_eq!(decision.outcome, Outcome::Unknown, "{part}: {}", decision.reason);
        assert!(decision.reason.contains("incomplete") && decision.reason.contains(part), "{}", decision.reason);
        let notice = world.state().published.last().unwrap().clone();
        assert!(notice.contains("incomplete"), "{part}: {notice}");
        let before = writes(&world);
        // What is left is at most three or seven objects: the next sweep repairs them, or leaves them once more.
        // A sweep that began at the time of the end would leave nothing to another job.
        tokio::time::sleep(Duration::from_secs(6)).await;
        let next = handle(&checker, "next", SWEEP).await.unwrap();
        let left = next.sweeps[0].left;
        if left > 0 {
            world.state().job_rules = JobRules::default();
            confirm(&checker, &code(&next)).await.unwrap();
            follow(&world, &checker).await;
        }
        assert_eq!((right(&world), writes(&world)), (14, 10), "{part}: {before} before, {left} left");
    }
}

#[tokio::test(start_paused = true)]
async fn a_doubled_report_counts_every_object_once() {
    let world = world_with_much_to_repair();
    world.state().job_rules.denied.insert(object_key(9));
    world.state().job_rules.fault = Some(ReportFault::Doubled);
    let checker = checker_with_jobs(&world);
    run(&world, &checker).await;
    let notice = world.state().published.last().unwrap().clone();
    assert!(notice.contains("6 of 7 objects repaired"), "{notice}");
    let found: Vec<_> = world.state().events.iter().filter(|event| event["key"] == object_key(9)).cloned().collect();
    assert_eq!(found.iter().map(|event| event["state"].clone()).collect::<Vec<_>>(), [json!("new")]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_creation_makes_the_repair_incomplete() {
    let world = world_with_much_to_repair();
    let checker = checker_with_jobs(&world);
    let code = code(&handle(&checker, "r", SWEEP).await.unwrap());
    confirm(&checker, &code).await.unwrap();
    world.answer_operation("CreateJob", || {
        Response::error(403, "AccessDenied", "not authorized to perform: iam:PassRole")
    });
    let end = follow(&world, &checker).await;
    let [decision] = end.decisions.as_slice() else { panic!("{:?}", end.decisions) };
    assert!(decision.reason.contains("iam:PassRole"), "{}", decision.reason);
    assert_eq!((decision.outcome, writes(&world)), (Outcome::Unknown, 3));
}
