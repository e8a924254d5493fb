//! Tests of sweeps that meet a bucket or an object that cannot be finished, and of what they do with everything else.

use std::time::Duration;

use artifact_checker::Outcome;
use sekisho_domain::artifacts::Repair;

use crate::sweeps::{SCHEDULE, SWEEP, SWEEP_VERSIONS, count, filled};
use crate::world::s3::{Bucket, Sse, Version};
use crate::world::{ACCOUNT, BUCKET, Response, World, handle, key, under};

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
