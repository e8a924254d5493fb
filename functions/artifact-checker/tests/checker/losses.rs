//! Tests of what a repair must not lose: it carries a property over, or leaves the object as it is and gives the
//! reason.

use artifact_checker::Outcome;
use sekisho_domain::artifacts::Repair;

use crate::objects::{LARGE, LARGE_OBJECT, OBJECT, VERSION, decide, event, only, world_with, world_with_object};
use crate::world::s3::{Bucket, Sse, Version};
use crate::world::{ACCOUNT, BUCKET, Response, World, handle, key, under};

#[tokio::test(start_paused = true)]
async fn a_repair_keeps_the_setting_of_the_bucket_key_or_takes_it_from_the_bucket() {
    let cases = [
        (Sse::S3, false, true, true),
        (Sse::S3, false, false, false),
        (under("other"), true, false, true),
        (under("other"), false, true, false),
    ];
    for repair in [Repair::Update, Repair::Copy] {
        for (sse, of_object, of_bucket, expected) in cases.clone() {
            let world = world_with(Version { bucket_key: of_object, ..Version::new("hello", sse.clone()) });
            world.state().buckets.get_mut(BUCKET).unwrap().defaults_to_bucket_key = of_bucket;
            let decision = decide(&world, repair, "object-created").await;
            assert_eq!(decision.outcome, Outcome::Repaired, "{}", decision.reason);
            let is_enabled = world.state().bucket(BUCKET).latest(OBJECT).unwrap().bucket_key;
            assert_eq!(is_enabled, expected, "{repair:?} of {sse:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_has_the_checksum_of_the_object_whatever_its_algorithm() {
    for algorithm in ["CRC32", "CRC64NVME", "SHA1", "SHA512", "MD5", "XXHASH64", "XXHASH3", "XXHASH128"] {
        for (size, object, name) in [(5, OBJECT, "object-created"), (LARGE, LARGE_OBJECT, "object-created-large")] {
            let before = Version { size, checksum: Some(algorithm.to_owned()), ..Version::new("hello", Sse::S3) };
            let world = world_with_object(object, before);
            assert_eq!(decide(&world, Repair::Copy, name).await.outcome, Outcome::Repaired);
            let requests = world.state().requests.clone();
            let begins = |operation: &str| matches!(operation, "CopyObject" | "CreateMultipartUpload");
            let write = requests.iter().find(|request| begins(&request.operation)).unwrap();
            assert_eq!(write.header("x-amz-checksum-algorithm"), Some(algorithm));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_is_left_if_a_copy_in_parts_would_lose_something() {
    let large = || Version { size: LARGE, ..Version::new("hello", Sse::S3) };
    let metadata = |name: &str, value: &str| {
        let mut version = large();
        version.metadata.insert(name.to_owned(), value.to_owned());
        version
    };
    let cases = [
        (Version { has_annotations: true, ..large() }, "annotations"),
        (Version { missing_metadata: 1, ..large() }, "metadata"),
        (metadata("x-amz-meta-name", "=?UTF-8?B?6Zai?="), "metadata"),
        (metadata("expires", "never"), "Expires"),
    ];
    for (version, part) in cases {
        let world = world_with_object(LARGE_OBJECT, version.clone());
        let decision = decide(&world, Repair::Copy, "object-created-large").await;
        assert_eq!(decision.outcome, Outcome::Reported, "{}", decision.reason);
        assert!(decision.reason.contains(part), "{}", decision.reason);
        assert_eq!(world.state().bucket(BUCKET).writes, 0);
        // A copy with one request keeps all of this.
        let world = world_with(Version { size: 5, ..version });
        let decision = decide(&world, Repair::Copy, "object-created").await;
        assert_eq!(decision.outcome, Outcome::Repaired, "{}", decision.reason);
    }
    let world = world_with_object(LARGE_OBJECT, large());
    world.answer_operation("ListObjectAnnotations", || Response::error(403, "AccessDenied", "explicit deny"));
    let decision = decide(&world, Repair::Copy, "object-created-large").await;
    assert_eq!(decision.outcome, Outcome::Reported, "{}", decision.reason);
    assert!(decision.reason.contains("explicit deny"), "{}", decision.reason);
}

#[tokio::test(start_paused = true)]
async fn an_object_with_an_acl_is_updated_but_not_copied() {
    const OTHER_BUCKET: &str = "somebody-elses-bucket";
    for (repair, expected) in [(Repair::Update, Outcome::Repaired), (Repair::Copy, Outcome::Reported)] {
        let world = World::new();
        world.state().buckets.insert(OTHER_BUCKET.to_owned(), Bucket::new(ACCOUNT));
        let version = Version { id: VERSION.to_owned(), has_grants: true, ..Version::new("hello", Sse::S3) };
        world.state().put(OTHER_BUCKET, OBJECT, version);
        world.declare_pipelines(&[("shop", OTHER_BUCKET, Some(&key("other")))]);
        let checker = world.checker_of(repair, &[OTHER_BUCKET]);
        let payload = event("object-created-in-another-bucket");
        let decision = only(handle(&checker, "r", &payload).await.unwrap());
        assert_eq!(decision.outcome, expected, "{}", decision.reason);
        assert!(world.state().bucket(OTHER_BUCKET).latest(OBJECT).unwrap().has_grants);
    }
}
