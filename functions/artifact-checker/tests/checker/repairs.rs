//! Tests of what a repair writes, and of what it leaves unchanged.

use std::collections::BTreeMap;

use artifact_checker::Outcome;
use sekisho_domain::artifacts::Repair;

use crate::objects::{LARGE, LARGE_OBJECT, OBJECT, VERSION, decide, event, only, world_with, world_with_object};
use crate::world::s3::{Sse, Version};
use crate::world::{BUCKET, Response, World, created, handle, key, under};

#[tokio::test(start_paused = true)]
async fn a_copy_keeps_what_s3_would_drop_and_its_own_event_is_compliant() {
    let before = Version {
        metadata: BTreeMap::from([
            ("content-type".to_owned(), "application/zip".to_owned()),
            ("x-amz-meta-commit".to_owned(), "abc".to_owned()),
        ]),
        tags: BTreeMap::from([("team".to_owned(), "shop".to_owned())]),
        storage_class: Some("STANDARD_IA".to_owned()),
        redirect: Some("/elsewhere".to_owned()),
        checksum: Some("SHA256".to_owned()),
        bucket_key: true,
        ..Version::new("hello", under("other"))
    };
    let world = world_with(before.clone());
    let checker = world.checker(Repair::Copy);
    let decision = only(handle(&checker, "r1", &event("object-created")).await.unwrap());
    assert_eq!(decision.outcome, Outcome::Repaired, "{}", decision.reason);
    assert!(decision.reason.contains("encryption context, which S3 does not show, is not kept"), "{}", decision.reason);
    let after = world.state().bucket(BUCKET).latest(OBJECT).unwrap().clone();
    let expected = Version { id: after.id.clone(), etag: after.etag.clone(), sse: under("right"), ..before };
    assert_eq!(after, expected);
    assert_eq!(decision.concerns["version"], after.id);
    // The function gets the event of its copy, then the first event for the second time, and then the event of its copy
    // for the second time. The function must not write anything more.
    let own_event = event("object-created-by-the-checker").replace("fdGhYn3.mJ1kQ0nBz8PR2mVfUe7Xb9vY", &after.id);
    for payload in [created(BUCKET, OBJECT, Some(&after.id)), event("object-created"), own_event] {
        let decision = only(handle(&checker, "r2", &payload).await.unwrap());
        assert_eq!(decision.outcome, Outcome::Compliant, "{}", decision.reason);
    }
    assert_eq!(world.state().bucket(BUCKET).writes, 1);
    let copy = world.state().requests.iter().find(|request| request.operation == "CopyObject").cloned().unwrap();
    assert_eq!(copy.header("x-amz-checksum-algorithm"), Some("SHA256"));
    assert_eq!(copy.header("x-amz-server-side-encryption-aws-kms-key-id"), Some(key("right").as_str()));
    assert!(copy.header("if-match").is_some() && copy.header("x-amz-copy-source-if-match").is_some());
}

#[tokio::test(start_paused = true)]
async fn an_update_names_the_version_and_changes_only_the_key() {
    let before = Version { bucket_key: true, ..Version::new("hello", under("other")) };
    let world = world_with(before.clone());
    // A newer version is compliant and stays as it is.
    let newer = world.state().put(BUCKET, OBJECT, Version::new("newer", under("right")));
    let decision = decide(&world, Repair::Update, "object-created").await;
    assert_eq!(decision.outcome, Outcome::Repaired, "{}", decision.reason);
    let state = world.state();
    let after = state.bucket(BUCKET).find(OBJECT, Some(VERSION)).unwrap();
    assert_eq!((&after.content, &after.sse, after.bucket_key), (&before.content, &under("right"), true));
    assert_eq!(state.bucket(BUCKET).latest(OBJECT).unwrap().id, newer);
    assert_eq!(state.bucket(BUCKET).writes, 1);
}

#[tokio::test(start_paused = true)]
async fn in_a_bucket_without_versions_the_null_version_is_repaired() {
    for repair in [Repair::Update, Repair::Copy] {
        let world = World::new();
        world.state().buckets.get_mut(BUCKET).unwrap().versioned = false;
        world.state().put(BUCKET, OBJECT, Version::new("hello", Sse::S3));
        let decision = decide(&world, repair, "object-created-without-versions").await;
        assert_eq!(decision.outcome, Outcome::Repaired, "{}", decision.reason);
        let state = world.state();
        let latest = state.bucket(BUCKET).latest(OBJECT).unwrap();
        assert_eq!((latest.content.as_str(), &latest.sse), ("hello", &under("right")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_may_contain_any_character() {
    let object = "shop/a b+c?versionId=d&é関\u{1}%2F.zip";
    for repair in [Repair::Update, Repair::Copy] {
        let world = world_with_object(object, Version::new("hello", Sse::S3));
        let decision = decide(&world, repair, "object-created-odd-key").await;
        assert_eq!(decision.outcome, Outcome::Repaired, "{}", decision.reason);
        assert_eq!(decision.concerns["object"], object);
        assert_eq!(world.state().bucket(BUCKET).latest(object).unwrap().sse, under("right"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_too_large_for_one_copy_is_copied_in_parts_and_loses_nothing() {
    let before = Version {
        size: LARGE,
        metadata: BTreeMap::from([
            ("cache-control".to_owned(), "no-store".to_owned()),
            ("content-encoding".to_owned(), "gzip".to_owned()),
            ("content-type".to_owned(), "application/zip".to_owned()),
            ("x-amz-meta-commit".to_owned(), "abc".to_owned()),
        ]),
        tags: BTreeMap::from([("a b".to_owned(), "c=d&é".to_owned()), ("team".to_owned(), "shop".to_owned())]),
        storage_class: Some("STANDARD_IA".to_owned()),
        checksum: Some("SHA256".to_owned()),
        ..Version::new("hello", under("other"))
    };
    let world = world_with_object(LARGE_OBJECT, before.clone());
    let decision = decide(&world, Repair::Copy, "object-created-large").await;
    assert_eq!(decision.outcome, Outcome::Repaired, "{}", decision.reason);
    let after = world.state().bucket(BUCKET).latest(LARGE_OBJECT).unwrap().clone();
    assert_eq!(after, Version { id: after.id.clone(), etag: after.etag.clone(), sse: under("right"), ..before });
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_fails_is_aborted() {
    let world = world_with_object(LARGE_OBJECT, Version { size: LARGE, ..Version::new("hello", Sse::S3) });
    world.answer_operation("CompleteMultipartUpload", || Response::error(403, "AccessDenied", "explicit deny"));
    let decision = decide(&world, Repair::Copy, "object-created-large").await;
    assert_eq!(decision.outcome, Outcome::Reported, "{}", decision.reason);
    let mut uploads = world.state().operations("s3").into_iter().filter(|operation| operation.ends_with("Upload"));
    assert_eq!(uploads.next_back().as_deref(), Some("AbortMultipartUpload"));
}

#[tokio::test(start_paused = true)]
async fn an_older_version_is_never_copied() {
    let world = world_with(Version::new("older", Sse::S3));
    let newer = world.state().put(BUCKET, OBJECT, Version::new("newer", under("right")));
    let decision = decide(&world, Repair::Copy, "object-created").await;
    // The decision is about the latest version. Only a sweep of all versions checks the older version.
    assert_eq!((decision.outcome, decision.concerns.get("version")), (Outcome::Compliant, None));
    assert_eq!(world.state().bucket(BUCKET).latest(OBJECT).unwrap().id, newer);
    assert_eq!(world.state().bucket(BUCKET).writes, 0);
}

#[tokio::test(start_paused = true)]
async fn two_layers_of_encryption_stay_two_layers() {
    for (size, object, event) in [(5, OBJECT, "object-created"), (LARGE, LARGE_OBJECT, "object-created-large")] {
        for repair in [Repair::Update, Repair::Copy] {
            let version = Version { size, ..Version::new("hello", Sse::Dsse(key("other"))) };
            let world = world_with_object(object, version);
            let decision = decide(&world, repair, event).await;
            assert_eq!(decision.outcome, Outcome::Repaired, "{}", decision.reason);
            assert_eq!(world.state().bucket(BUCKET).latest(object).unwrap().sse, Sse::Dsse(key("right")));
        }
    }
}
