//! Tests of sweeps that meet a bucket or an object that cannot be finished, and of what they do with everything else.

use std::time::Duration;

use artifact_checker::{Outcome, Rates};
use sekisho_domain::artifacts::Repair;

use crate::objects::{LARGE, LARGE_OBJECT, event, only, world_with_object};
use crate::ranges::{LONG, at_once, report_of};
use crate::sweep_progress::{receive, to_the_end};
use crate::sweeps::{SCHEDULE, SWEEP, SWEEP_VERSIONS, count, filled};
use crate::world::s3::{Bucket, Sse, Version};
use crate::world::{ACCOUNT, BUCKET, Response, World, handle, invocation, key, under};

#[tokio::test(start_paused = true)]
async fn an_empty_page_that_is_not_the_last_does_not_end_a_sweep() {
    for payload in [SWEEP, SWEEP_VERSIONS] {
        let world = filled(10, &[(30, under("right")), (5, Sse::S3)]);
        let mut pages = 0;
        world.script(move |request| {
            pages += usize::from(request.operation.starts_with("ListObject"));
            let body = match request.operation.as_str() {
                "ListObjectsV2" if pages == 2 => {
                    let start = request.query.get("start-after").cloned().unwrap_or_default();
                    let start = crate::world::s3::encoded(&start);
                    format!(
                        "<ListBucketResult><IsTruncated>true</IsTruncated><StartAfter>{start}</StartAfter>\
                         <NextContinuationToken>next</NextContinuationToken></ListBucketResult>"
                    )
                }
                "ListObjectVersions" if pages == 2 => {
                    let marker = crate::world::s3::encoded(&request.query["key-marker"]);
                    let version = &request.query["version-id-marker"];
                    format!(
                        "<ListVersionsResult><IsTruncated>true</IsTruncated><NextKeyMarker>{marker}</NextKeyMarker>\
                         <NextVersionIdMarker>{version}</NextVersionIdMarker></ListVersionsResult>"
                    )
                }
                _ => return None,
            };
            Some(Response::new(200).body(body))
        });
        let answer = handle(&world.checker(Repair::Update), "r", payload).await.unwrap();
        assert!(answer.sweeps[0].complete);
        assert_eq!((answer.sweeps[0].objects, count(&answer, Outcome::Repaired)), (35, 5));
    }
}

#[tokio::test(start_paused = true)]
async fn the_versions_of_one_key_are_repaired_one_after_the_other() {
    let world = filled(1000, &[]);
    for n in 0..300 {
        world.state().put(BUCKET, "object", Version::new(&format!("content {n}"), Sse::S3));
    }
    world.state().latency = Duration::from_millis(20);
    let answer = handle(&world.checker(Repair::Update), "r", SWEEP_VERSIONS).await.unwrap();
    assert_eq!(count(&answer, Outcome::Repaired), 300, "{:?}", answer.sweeps[0].outcomes);
    assert_eq!(world.state().bucket(BUCKET).writes, 300);
}

/// A world with three buckets beside the function's own: `a`, `b` and `c`.
fn world_with_other_buckets() -> World {
    let world = filled(10, &[(3, under("right"))]);
    for name in ["a", "b", "c"] {
        world.state().buckets.insert(name.to_owned(), Bucket::new(ACCOUNT));
        world.state().put(name, "object", Version::new("hello", under("other")));
    }
    let other = key("other");
    world.declare_pipelines(&[("one", "a", Some(&other)), ("two", "b", Some(&other)), ("three", "c", Some(&other))]);
    world
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_cannot_be_swept_does_not_keep_the_others_from_being_swept() {
    for operation in ["ListObjectsV2", "GetBucketEncryption"] {
        for broken in [BUCKET, "b"] {
            let world = world_with_other_buckets();
            world.script(move |request| {
                let is_broken = request.operation == operation && request.path.trim_end_matches('/') == broken;
                is_broken.then(|| Response::error(500, "InternalError", "We encountered an error."))
            });
            let answer = handle(&world.checker(Repair::Update), "r", SCHEDULE).await.unwrap();
            let swept: Vec<&str> = answer.sweeps.iter().map(|sweep| sweep.bucket.as_str()).collect();
            let expected: Vec<&str> = [BUCKET, "a", "b", "c"].into_iter().filter(|name| *name != broken).collect();
            assert_eq!(swept, expected, "{operation}");
            let finding = answer.decisions.iter().find(|one| one.outcome == Outcome::Unknown).unwrap();
            assert_eq!(finding.concerns["bucket"], broken);
            assert!(finding.reason.contains("InternalError"), "{}", finding.reason);
            assert_eq!(world.state().published.len(), 1);
        }
    }
}

/// How many requests for this operation were answered.
fn answered(world: &World, operation: &str) -> usize {
    world.state().operations("s3").iter().filter(|name| *name == operation).count()
}

#[tokio::test(start_paused = true)]
async fn an_object_that_takes_longer_than_an_invocation_is_continued_and_keeps_nothing_unchecked() {
    let world = filled(10, &[(400, under("right"))]);
    world.state().put(BUCKET, "a-large-object", Version { size: LARGE, ..Version::new("large", Sse::S3) });
    // Two rounds of parts take longer than an invocation.
    world.state().slow_operation = Some(("UploadPartCopy", Duration::from_secs(100)));
    let checker = world.checker(Repair::Copy);
    let time = Duration::from_mins(3);
    let answer = Box::pin(checker.handle(SWEEP, &invocation("r0", time))).await.unwrap();
    let report = &answer.sweeps[0];
    assert!(!report.complete);
    assert_eq!((report.objects, count(&answer, Outcome::Compliant)), (400, 400));
    assert_eq!(world.state().published.len(), 1);
    assert!(world.state().published[0].contains("a-large-object"), "{}", world.state().published[0]);
    let next = receive(&world).unwrap();
    let (answer, invocations) = to_the_end(&world, &checker, &next, time).await;
    let report = answer.sweeps.last().unwrap();
    assert!(report.complete);
    assert_eq!((invocations, report.objects, report.outcomes[&Outcome::Repaired]), (1, 401, 1));
    assert_eq!((answered(&world, "CreateMultipartUpload"), answered(&world, "UploadPartCopy")), (1, 12));
    let bucket = world.state().bucket(BUCKET).clone();
    assert_eq!((bucket.writes, bucket.open_uploads()), (1, 0));
    assert_eq!(world.state().published.len(), 1);
}

/// The page of the object ends without it.
#[tokio::test(start_paused = true)]
async fn the_finding_about_an_object_whose_check_takes_long_is_resolved_by_the_same_sweep() {
    let world = filled(10, &[(40, under("right"))]);
    world.state().put(BUCKET, "a-large-object", Version { size: LARGE, ..Version::new("large", Sse::S3) });
    let mut checker = world.checker(Repair::Report);
    assert_eq!(handle(&checker, "r0", SWEEP).await.unwrap().sweeps[0].findings["open"], 1);
    world.state().slow_operation = Some(("UploadPartCopy", Duration::from_secs(100)));
    checker.settings.artifacts.repair = Repair::Copy;
    let (answer, _) = to_the_end(&world, &checker, SWEEP, Duration::from_mins(3)).await;
    let report = answer.sweeps.last().unwrap();
    assert_eq!((report.complete, report.outcomes[&Outcome::Repaired], report.findings["resolved"]), (true, 1, 1));
}

/// An invocation ends, or dies, while the page of two slow objects is open. One of the two checks has ended before. The
/// next invocation lists the page again, and checks all its objects.
#[tokio::test(start_paused = true)]
async fn a_slow_object_of_a_page_that_is_not_finished_counts_once() {
    for life in [Duration::from_secs(250), LONG] {
        let world = filled(1_000, &[(400, under("right"))]);
        for (key, size) in [("a-large-object", LARGE), ("a-larger-object", 3 * LARGE)] {
            world.state().put(BUCKET, key, Version { size, ..Version::new("large", Sse::S3) });
        }
        world.state().slow_operation = Some(("UploadPartCopy", Duration::from_secs(100)));
        let mut checker = world.checker(Repair::Copy);
        checker.settings.rates.s3 = 1;
        let lambda = invocation("killed", LONG);
        let ended = tokio::time::timeout(life, Box::pin(checker.handle(SWEEP, &lambda))).await;
        assert_eq!((ended.is_err(), world.state().bucket(BUCKET).writes), (life < LONG, 1));
        tokio::time::sleep(Duration::from_mins(2)).await;
        world.state().queue.clear();
        checker.settings.rates = Rates::HALF;
        let answers = at_once(&world, &checker, SWEEP).await;
        let report = report_of(&answers);
        assert_eq!((report.sweep.as_str(), report.objects), ("killed", 402), "{life:?}");
        // After a death, the object that was repaired before counts as compliant.
        let repaired = if life < LONG { 1 } else { 2 };
        assert_eq!((report.outcomes[&Outcome::Repaired], world.state().bucket(BUCKET).writes), (repaired, 2));
        assert_eq!(report.outcomes.values().sum::<u64>(), 402);
    }
}

/// The next sweep checks the object again only because of this finding.
#[tokio::test(start_paused = true)]
async fn an_object_whose_check_never_ends_is_given_up_with_a_finding() {
    let world = filled(10, &[(400, under("right"))]);
    world.state().put(BUCKET, "a-large-object", Version { size: LARGE, ..Version::new("large", Sse::S3) });
    world.state().slow_operation = Some(("UploadPartCopy", Duration::from_secs(1000)));
    let (answer, _) = to_the_end(&world, &world.checker(Repair::Copy), SWEEP, Duration::from_mins(3)).await;
    let report = answer.sweeps.last().unwrap();
    assert_eq!((report.complete, report.objects, report.outcomes[&Outcome::Unknown]), (true, 401, 1));
    assert_eq!(report.findings["open"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_retry_continues_the_upload_of_its_dead_attempt() {
    let world = world_with_object(LARGE_OBJECT, Version { size: LARGE, ..Version::new("hello", Sse::S3) });
    world.state().slow_operation = Some(("UploadPartCopy", Duration::from_secs(100)));
    let checker = world.checker(Repair::Copy);
    let payload = event("object-created-large");
    let killed = tokio::time::timeout(Duration::from_secs(150), handle(&checker, "r", &payload)).await;
    assert!(killed.is_err());
    let decision = only(handle(&checker, "r", &payload).await.unwrap());
    assert_eq!(decision.outcome, Outcome::Repaired, "{}", decision.reason);
    assert_eq!((answered(&world, "CreateMultipartUpload"), answered(&world, "UploadPartCopy")), (1, 12));
    // The upload of an object that has changed meanwhile is aborted.
    world.state().put(BUCKET, LARGE_OBJECT, Version { size: LARGE, ..Version::new("second", under("other")) });
    let event = crate::world::created(BUCKET, LARGE_OBJECT, None);
    let killed = tokio::time::timeout(Duration::from_secs(150), handle(&checker, "r2", &event)).await;
    assert!(killed.is_err());
    world.state().put(BUCKET, LARGE_OBJECT, Version { size: LARGE, ..Version::new("third", under("other")) });
    let decision = only(handle(&checker, "r2", &event).await.unwrap());
    assert_eq!(decision.outcome, Outcome::Repaired, "{}", decision.reason);
    assert_eq!(world.state().bucket(BUCKET).latest(LARGE_OBJECT).unwrap().content, "third");
    assert_eq!(world.state().bucket(BUCKET).open_uploads(), 0);
}
