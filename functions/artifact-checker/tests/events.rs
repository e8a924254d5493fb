//! Each verdict, on events as S3 sends them and answers as S3 and KMS give them.

#![allow(
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::format_push_string,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::struct_excessive_bools,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "a test may fail that way"
)]

mod world;

use std::collections::BTreeMap;

use artifact_checker::handler::{Answer, Error};
use artifact_checker::verdict::Outcome;
use sekisho_domain::artifacts::Repair;
use sekisho_domain::decision::Decision;
use sekisho_lambda::{ErrorType, Failure};
use world::s3::{Sse, Version};
use world::{BUCKET, Response, World, handle, key, pipeline};

const OBJECT: &str = "shop/SourceArti/8a1Xc0p.zip";
const VERSION: &str = "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e";

type Spoil = fn(&World);
/// Spoils a world, and knows how.
type Change = Box<dyn Fn(&World)>;

/// The event of this name in `events/`, which people give to `sam local invoke`.
fn event(name: &str) -> String {
    let path = format!("{}/../../events/artifact-checker/{name}.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

/// A world in which the event's object is as given.
fn with(version: Version) -> World {
    let world = World::new();
    world.state().put(BUCKET, OBJECT, Version { id: VERSION.to_owned(), ..version });
    world
}

fn only(answer: Answer) -> Decision<Outcome> {
    assert_eq!(answer.decisions.len(), 1, "{:?}", answer.decisions);
    answer.decisions.into_iter().next().unwrap()
}

fn under(id: &str) -> Sse {
    Sse::Kms(key(id))
}

fn foreign() -> Sse {
    Sse::Kms(format!("arn:aws:kms:{}:{}:key/theirs", world::REGION, world::OTHER_ACCOUNT))
}

#[tokio::test(start_paused = true)]
async fn an_object_becomes_its_verdict() {
    let state = |id: &'static str, state: &'static str| {
        move |world: &World| world.state().keys.get_mut(&key(id)).unwrap().state = state.to_owned()
    };
    let nothing = || -> Change { Box::new(|_| {}) };
    let archived = |sse| Version { storage_class: Some("GLACIER".into()), ..Version::new("hello", sse) };
    let locked = |sse| Version { locked: true, ..Version::new("hello", sse) };
    let hello = |sse| Version::new("hello", sse);
    let cases: Vec<(&str, Version, Change, Repair, Outcome, &str)> = vec![
        ("right", hello(under("right")), nothing(), Repair::Update, Outcome::Compliant, "can be read"),
        ("empty", Version::new("", under("right")), nothing(), Repair::Update, Outcome::Compliant, "can be read"),
        ("dsse", hello(Sse::Dsse(key("right"))), nothing(), Repair::Update, Outcome::Compliant, ""),
        ("s3, update", hello(Sse::S3), nothing(), Repair::Update, Outcome::Repaired, "S3's own key"),
        ("s3, copy", hello(Sse::S3), nothing(), Repair::Copy, Outcome::Repaired, "S3's own key"),
        ("s3, report", hello(Sse::S3), nothing(), Repair::Report, Outcome::Reported, "repair = \"report\""),
        ("other, update", hello(under("other")), nothing(), Repair::Update, Outcome::Repaired, "key/other"),
        ("other, copy", hello(under("other")), nothing(), Repair::Copy, Outcome::Repaired, "key/other"),
        ("dsse, other", hello(Sse::Dsse(key("other"))), nothing(), Repair::Update, Outcome::Repaired, "DSSE"),
        ("foreign", hello(foreign()), nothing(), Repair::Update, Outcome::ForeignKey, "account 111111111111"),
        (
            "disabled",
            hello(under("right")),
            Box::new(state("right", "Disabled")),
            Repair::Update,
            Outcome::KeyUnusable,
            "Disabled",
        ),
        (
            "being deleted",
            hello(under("other")),
            Box::new(state("other", "PendingDeletion")),
            Repair::Update,
            Outcome::KeyUnusable,
            "PendingDeletion",
        ),
        (
            "deleted",
            hello(under("other")),
            Box::new(|world| drop(world.state().keys.remove(&key("other")))),
            Repair::Update,
            Outcome::KeyUnusable,
            "does not exist",
        ),
        (
            "right key not shown",
            hello(under("right")),
            Box::new(|world| world.state().keys.get_mut(&key("right")).unwrap().shown = false),
            Repair::Update,
            Outcome::Unverifiable,
            "kms:DescribeKey",
        ),
        (
            "not readable",
            hello(under("right")),
            Box::new(|world| world.state().buckets.get_mut(BUCKET).unwrap().reads_denied = true),
            Repair::Update,
            Outcome::Unverifiable,
            "can't read it",
        ),
        ("sse-c", hello(Sse::Customer), nothing(), Repair::Update, Outcome::Unverifiable, "SSE-C"),
        ("archived", archived(under("right")), nothing(), Repair::Update, Outcome::NeedsRestore, "restore"),
        ("archived, wrong, update", archived(Sse::S3), nothing(), Repair::Update, Outcome::NeedsRestore, "right key"),
        ("archived, wrong, copy", archived(Sse::S3), nothing(), Repair::Copy, Outcome::NeedsRestore, "copied"),
        ("locked, update", locked(Sse::S3), nothing(), Repair::Update, Outcome::Reported, "object lock"),
        ("locked, copy", locked(Sse::S3), nothing(), Repair::Copy, Outcome::Reported, "object lock"),
        (
            "update refused",
            hello(Sse::S3),
            Box::new(|world| world.state().buckets.get_mut(BUCKET).unwrap().updates_denied = true),
            Repair::Update,
            Outcome::Repaired,
            "",
        ),
        (
            "not to be mended",
            hello(Sse::S3),
            Box::new(|world| {
                world.state().script = Some(Box::new(|request| {
                    let denied = || Response::error(403, "AccessDenied", "explicit deny");
                    (request.operation == "CopyObject").then(denied)
                }));
            }),
            Repair::Copy,
            Outcome::Reported,
            "S3 refuses to mend it: AccessDenied: explicit deny",
        ),
        (
            "gone",
            hello(under("right")),
            Box::new(|world| world.state().buckets.get_mut(BUCKET).unwrap().objects.clear()),
            Repair::Update,
            Outcome::Gone,
            "",
        ),
        (
            "a delete marker",
            Version { delete_marker: true, ..hello(Sse::S3) },
            nothing(),
            Repair::Update,
            Outcome::Gone,
            "delete marker",
        ),
        (
            "not shown",
            hello(under("right")),
            Box::new(|world| world.state().buckets.get_mut(BUCKET).unwrap().owner = "999999999999".to_owned()),
            Repair::Update,
            Outcome::Unverifiable,
            "403",
        ),
        (
            "encrypted in a new way",
            hello(under("right")),
            Box::new(|world| {
                world.state().script = Some(Box::new(|request| {
                    let fsx =
                        || Response::new(200).with("etag", "\"e\"").with("x-amz-server-side-encryption", "aws:fsx");
                    matches!(request.operation.as_str(), "HeadObject" | "GetObject").then(fsx)
                }));
            }),
            Repair::Update,
            Outcome::Unknown,
            "aws:fsx",
        ),
        (
            "elsewhere",
            hello(under("right")),
            Box::new(|world| {
                world.state().script = Some(Box::new(|request| (request.service == "s3").then(|| Response::new(301))));
            }),
            Repair::Update,
            Outcome::Unknown,
            "301",
        ),
    ];
    for (name, version, change, repair, outcome, says) in cases {
        let world = with(version);
        change(&world);
        let checker = world.checker(repair);
        let answer = handle(&checker, "r", &event("object-created")).await.unwrap();
        let decisions: Vec<_> = answer.decisions.iter().filter(|one| one.concerns.contains_key("object")).collect();
        let [decision] = decisions.as_slice() else { panic!("{name}: {:?}", answer.decisions) };
        assert_eq!(decision.outcome, outcome, "{name}: {}", decision.reason);
        assert!(decision.reason.contains(says), "{name}: {}", decision.reason);
        assert_eq!(decision.concerns["object"], OBJECT);
        assert_eq!(decision.concerns["event"], "17793124-05d4-b198-2fde-7ededc63b103");
        assert_eq!(decision.concerns["writer"], "111111111111");
        // Findings are told, everything is kept.
        let findings = answer.decisions.iter().filter(|one| one.outcome.is_finding()).count();
        assert_eq!(world.state().published.len(), usize::from(findings > 0), "{name}");
        let kept =
            checker.ledger.rows().into_iter().filter(|(key, _)| key.pk.starts_with("decision#artifact-checker#"));
        assert_eq!(kept.count(), 1, "{name}");
        let writes = world.state().bucket(BUCKET).writes;
        let mended = outcome == Outcome::Repaired || name == "archived, wrong, update";
        assert_eq!(writes, u64::from(mended), "{name}");
        // Nothing is deleted, and the content is what it was.
        let operations = world.state().operations("s3");
        assert!(!operations.iter().any(|operation| operation.starts_with("Delete")), "{name}");
    }
}

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
    let world = with(before.clone());
    let checker = world.checker(Repair::Copy);
    let decision = only(handle(&checker, "r1", &event("object-created")).await.unwrap());
    assert_eq!(decision.outcome, Outcome::Repaired, "{}", decision.reason);
    let after = world.state().bucket(BUCKET).latest(OBJECT).unwrap().clone();
    let expected = Version { id: after.id.clone(), etag: after.etag.clone(), sse: under("right"), ..before };
    assert_eq!(after, expected);
    assert_eq!(decision.concerns["version"], after.id);
    // The copy's own event, the first once more, and a duplicate of the copy's: nothing more is written.
    for payload in [
        world::created(BUCKET, OBJECT, Some(&after.id)),
        event("object-created"),
        event("object-created-by-the-checker"),
    ] {
        let payload = payload.replace("fdGhYn3.mJ1kQ0nBz8PR2mVfUe7Xb9vY", &after.id);
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
async fn an_update_names_the_version_and_changes_the_key_alone() {
    let before = Version { bucket_key: true, ..Version::new("hello", under("other")) };
    let world = with(before.clone());
    // A newer version, which is fine, and not to be touched.
    let newer = world.state().put(BUCKET, OBJECT, Version::new("newer", under("right")));
    let decision = only(handle(&world.checker(Repair::Update), "r", &event("object-created")).await.unwrap());
    assert_eq!(decision.outcome, Outcome::Repaired, "{}", decision.reason);
    let state = world.state();
    let after = state.bucket(BUCKET).find(OBJECT, Some(VERSION)).unwrap();
    assert_eq!((&after.content, &after.sse, after.bucket_key), (&before.content, &under("right"), true));
    assert_eq!(state.bucket(BUCKET).latest(OBJECT).unwrap().id, newer);
    assert_eq!(state.bucket(BUCKET).writes, 1);
}

#[tokio::test(start_paused = true)]
async fn in_a_bucket_without_versions_the_null_version_is_mended() {
    for repair in [Repair::Update, Repair::Copy] {
        let world = World::new();
        world.state().buckets.get_mut(BUCKET).unwrap().versioned = false;
        world.state().put(BUCKET, OBJECT, Version::new("hello", Sse::S3));
        let event = event("object-created-without-versions");
        let decision = only(handle(&world.checker(repair), "r", &event).await.unwrap());
        assert_eq!(decision.outcome, Outcome::Repaired, "{}", decision.reason);
        let state = world.state();
        let latest = state.bucket(BUCKET).latest(OBJECT).unwrap();
        assert_eq!((latest.content.as_str(), &latest.sse), ("hello", &under("right")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_may_have_any_character() {
    let object = "shop/a b+c?versionId=d&é関\u{1}%2F.zip";
    for repair in [Repair::Update, Repair::Copy] {
        let world = World::new();
        world.state().put(BUCKET, object, Version { id: VERSION.to_owned(), ..Version::new("hello", Sse::S3) });
        let decision = only(handle(&world.checker(repair), "r", &event("object-created-odd-key")).await.unwrap());
        assert_eq!(decision.outcome, Outcome::Repaired, "{}", decision.reason);
        assert_eq!(decision.concerns["object"], object);
        assert_eq!(world.state().bucket(BUCKET).latest(object).unwrap().sse, under("right"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_the_sdk_cannot_send_is_unknown() {
    let event = world::created(BUCKET, " ", None);
    let decision = only(handle(&World::new().checker(Repair::Copy), "r", &event).await.unwrap());
    assert_eq!(decision.outcome, Outcome::Unknown, "{}", decision.reason);
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_for_a_copy_goes_in_parts_and_loses_nothing() {
    let object = "shop/BuildArtif/large.zip";
    let before = Version {
        size: 6_000_000_000,
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
    let world = World::new();
    world.state().put(BUCKET, object, Version { id: VERSION.to_owned(), ..before.clone() });
    let decision = only(handle(&world.checker(Repair::Copy), "r", &event("object-created-large")).await.unwrap());
    assert_eq!(decision.outcome, Outcome::Repaired, "{}", decision.reason);
    let after = world.state().bucket(BUCKET).latest(object).unwrap().clone();
    assert_eq!(after, Version { id: after.id.clone(), etag: after.etag.clone(), sse: under("right"), ..before });
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_fails_is_aborted() {
    let world = World::new();
    let large = Version { id: VERSION.to_owned(), size: 6_000_000_000, ..Version::new("hello", Sse::S3) };
    world.state().put(BUCKET, "shop/BuildArtif/large.zip", large);
    world.state().script = Some(Box::new(|request| {
        let denied = || Response::error(403, "AccessDenied", "explicit deny");
        (request.operation == "CompleteMultipartUpload").then(denied)
    }));
    let decision = only(handle(&world.checker(Repair::Copy), "r", &event("object-created-large")).await.unwrap());
    assert_eq!(decision.outcome, Outcome::Reported, "{}", decision.reason);
    let mut uploads = world.state().operations("s3").into_iter().filter(|operation| operation.ends_with("Upload"));
    assert_eq!(uploads.next_back().as_deref(), Some("AbortMultipartUpload"));
}

#[tokio::test(start_paused = true)]
async fn an_older_version_is_never_copied() {
    let world = with(Version::new("older", Sse::S3));
    let newer = world.state().put(BUCKET, OBJECT, Version::new("newer", under("right")));
    let checker = world.checker(Repair::Copy);
    let decision = only(handle(&checker, "r", &event("object-created")).await.unwrap());
    // What is the latest counts; the version that was passed over is a sweep's of all versions.
    assert_eq!((decision.outcome, decision.concerns.get("version")), (Outcome::Compliant, None));
    assert_eq!(world.state().bucket(BUCKET).latest(OBJECT).unwrap().id, newer);
    assert_eq!(world.state().bucket(BUCKET).writes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_version_that_comes_between_look_and_copy_stays_the_latest() {
    let world = with(Version::new("older", under("other")));
    let meddler = world.clone();
    let mut done = false;
    world.state().script = Some(Box::new(move |request| {
        if request.operation == "CopyObject" && !done {
            done = true;
            // The lock of the world is held by the request: write after it.
            let meddler = meddler.clone();
            std::thread::spawn(move || meddler.state().put(BUCKET, OBJECT, Version::new("newer", under("other"))));
        }
        None
    }));
    // The write lands after the copy or before it: both times the newer content must win in the end.
    let decision = only(handle(&world.checker(Repair::Copy), "r", &event("object-created")).await.unwrap());
    assert_eq!(decision.outcome, Outcome::Repaired, "{}", decision.reason);
    let contents: Vec<String> =
        world.state().bucket(BUCKET).objects[OBJECT].iter().map(|version| version.content.clone()).collect();
    let newer = contents.iter().position(|content| content == "newer");
    if let Some(newer) = newer {
        assert!(contents[newer..].iter().all(|content| content == "newer"), "{contents:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_converge_is_tried_three_times_and_not_again() {
    for repair in [Repair::Update, Repair::Copy] {
        let world = with(Version::new("hello", Sse::S3));
        world.state().buckets.get_mut(BUCKET).unwrap().fought_over = true;
        let checker = world.checker(repair);
        let decision = only(handle(&checker, "r", &event("object-created")).await.unwrap());
        assert_eq!(decision.outcome, Outcome::NonConverging, "{}", decision.reason);
        // The events of its own writes, and those of whoever fights it.
        let versions = world.state().bucket(BUCKET).objects[OBJECT].clone();
        for version in versions {
            let event = world::created(BUCKET, OBJECT, Some(&version.id));
            let decision = only(handle(&checker, &version.id, &event).await.unwrap());
            assert_eq!(decision.outcome, Outcome::NonConverging, "{}", decision.reason);
        }
        assert_eq!(world.state().bucket(BUCKET).writes, 3);
    }
}

#[tokio::test(start_paused = true)]
async fn what_s3_does_not_answer_is_not_taken_for_a_repair_that_did_not_last() {
    let world = with(Version::new("hello", Sse::S3));
    let checker = world.checker(Repair::Copy);
    for n in 0..5 {
        world.state().script = Some(Box::new(|request| {
            (request.operation == "CopyObject")
                .then(|| Response::error(503, "SlowDown", "Please reduce your request rate."))
        }));
        let error = handle(&checker, &format!("r{n}"), &event("object-created")).await.unwrap_err();
        assert_eq!(error.error_type(), ErrorType::Throttled, "{error}");
    }
    world.state().script = None;
    let decision = only(handle(&checker, "r", &event("object-created")).await.unwrap());
    assert_eq!(decision.outcome, Outcome::Repaired, "{}", decision.reason);
}

#[tokio::test(start_paused = true)]
async fn two_invocations_for_one_event_write_once() {
    for repair in [Repair::Update, Repair::Copy] {
        let world = with(Version::new("hello", Sse::S3));
        world.state().latency = std::time::Duration::from_millis(20);
        let checker = world.checker(repair);
        let payload = event("object-created");
        let (one, two) = tokio::join!(handle(&checker, "r1", &payload), handle(&checker, "r2", &payload));
        let mut outcomes = [only(one.unwrap()).outcome, only(two.unwrap()).outcome];
        outcomes.sort();
        assert_eq!(outcomes, [Outcome::Compliant, Outcome::Repaired]);
        assert_eq!(world.state().bucket(BUCKET).writes, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_whose_answer_is_lost_is_not_made_twice() {
    let world = with(Version::new("hello", Sse::S3));
    let mut count = 0;
    let lost = world.clone();
    // Find the copy's place among the requests of S3 first.
    let probe = with(Version::new("hello", Sse::S3));
    only(handle(&probe.checker(Repair::Copy), "r", &event("object-created")).await.unwrap());
    for operation in probe.state().operations("s3") {
        count += 1;
        if operation == "CopyObject" {
            break;
        }
    }
    lost.state().faults.insert(count, world::Fault::AnswerLost);
    let decision = only(handle(&world.checker(Repair::Copy), "r", &event("object-created")).await.unwrap());
    assert!(matches!(decision.outcome, Outcome::Compliant | Outcome::Repaired), "{}", decision.reason);
    assert_eq!(world.state().bucket(BUCKET).latest(OBJECT).unwrap().sse, under("right"));
    assert_eq!(world.state().bucket(BUCKET).writes, 1);
}

#[tokio::test(start_paused = true)]
async fn what_may_go_better_later_fails_the_invocation() {
    let cases: [(&str, Spoil, ErrorType); 4] = [
        ("throttled", |world| every(world, "s3", || Response::error(503, "SlowDown", "slow")), ErrorType::Throttled),
        ("broken", |world| every(world, "s3", || Response::error(500, "InternalError", "we")), ErrorType::Internal),
        (
            "kms",
            |world| every(world, "kms", || Response::json_error("ThrottlingException", "slow")),
            ErrorType::Throttled,
        ),
        (
            "sns",
            |world| {
                world.state().keys.get_mut(&key("right")).unwrap().state = "Disabled".to_owned();
                every(world, "sns", || Response::new(503));
            },
            ErrorType::Throttled,
        ),
    ];
    for (name, broken, expected) in cases {
        let world = with(Version::new("hello", under("right")));
        broken(&world);
        let error = handle(&world.checker(Repair::Copy), "r", &event("object-created")).await.unwrap_err();
        assert_eq!(error.error_type(), expected, "{name}: {error}");
    }
}

fn every(world: &World, service: &'static str, answer: fn() -> Response) {
    world.state().script = Some(Box::new(move |request| (request.service == service).then(answer)));
}

#[tokio::test(start_paused = true)]
async fn an_event_of_no_concern_is_ignored_without_a_call_to_s3() {
    for name in ["object-created-in-another-bucket", "object-created-in-another-account", "object-deleted"] {
        let world = with(Version::new("hello", Sse::S3));
        let decision = only(handle(&world.checker(Repair::Copy), "r", &event(name)).await.unwrap());
        assert_eq!(decision.outcome, Outcome::Ignored, "{name}: {}", decision.reason);
        assert_eq!(world.state().operations("s3"), Vec::<String>::new(), "{name}");
    }
    let world = World::new();
    let unreadable = event("object-created").replace("\"object\"", "\"objekt\"");
    let decision = only(handle(&world.checker(Repair::Copy), "r", &unreadable).await.unwrap());
    assert_eq!(decision.outcome, Outcome::Unknown);
    assert!(decision.reason.contains("`object`"), "{}", decision.reason);
}

#[tokio::test(start_paused = true)]
async fn the_bucket_of_a_pipeline_is_looked_after_too() {
    let world = World::new();
    world.state().buckets.insert("somebody-elses-bucket".to_owned(), world::s3::Bucket::new(world::ACCOUNT));
    world.state().put(
        "somebody-elses-bucket",
        OBJECT,
        Version { id: VERSION.to_owned(), ..Version::new("hello", Sse::S3) },
    );
    let shop = pipeline("shop", "somebody-elses-bucket", Some(&key("other")));
    world.state().pipelines = Some(BTreeMap::from([("shop".to_owned(), shop)]));
    let event = event("object-created-in-another-bucket");
    let decision = only(handle(&world.checker(Repair::Copy), "r", &event).await.unwrap());
    assert_eq!(decision.outcome, Outcome::Repaired, "{}", decision.reason);
    assert_eq!(world.state().bucket("somebody-elses-bucket").latest(OBJECT).unwrap().sse, under("other"));
    // Whose bucket it is can't be told where the pipelines are not shown: that is no reason to ignore it.
    world.state().pipelines = None;
    let error = handle(&world.checker(Repair::Copy), "r", &event).await.unwrap_err();
    assert!(error.to_string().contains("codepipeline:ListPipelines"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_pipelines_say_wrong_is_a_finding_of_its_own_and_told_once() {
    let world = with(Version::new("hello", under("other")));
    let shop = pipeline("shop", BUCKET, Some("alias/artifacts"));
    world.state().pipelines = Some(BTreeMap::from([("shop".to_owned(), shop)]));
    world.state().buckets.get_mut(BUCKET).unwrap().default_key = Some(key("other"));
    let checker = world.checker(Repair::Copy);
    let answer = handle(&checker, "r", &event("object-created")).await.unwrap();
    let outcomes: Vec<Outcome> = answer.decisions.iter().map(|decision| decision.outcome).collect();
    assert_eq!(outcomes, [Outcome::Reported, Outcome::Reported, Outcome::Repaired]);
    assert_eq!(answer.decisions[0].concerns["pipeline"], "shop");
    assert!(answer.decisions[1].reason.contains("default encryption"), "{}", answer.decisions[1].reason);
    assert_eq!(world.state().published.len(), 1);
    only(handle(&checker, "r2", &event("object-created")).await.unwrap());
    assert_eq!(world.state().published.len(), 1);
}

/// Every cold start told it once more, and what SNS did not take was lost.
#[tokio::test(start_paused = true)]
async fn what_pipelines_say_wrong_is_told_daily_over_cold_starts_and_not_before_it_was_sent() {
    let world = World::new();
    let shop = pipeline("shop", BUCKET, Some("alias/artifacts"));
    world.state().pipelines = Some(BTreeMap::from([("shop".to_owned(), shop)]));
    let mut checker = world.checker(Repair::Copy);
    let mut n = 0;
    let mut next = |checker: &mut artifact_checker::handler::Checker<sekisho_ledger::Memory>| {
        n += 1;
        checker.known = artifact_checker::handler::Known::default();
        let id = world.state().put(BUCKET, OBJECT, Version::new("hello", Sse::S3));
        (format!("r{n}"), world::created(BUCKET, OBJECT, Some(&id)))
    };
    let refused = || Response::new(400).body("<ErrorResponse><Error><Code>NotFound</Code></Error></ErrorResponse>");
    every(&world, "sns", refused);
    let (id, payload) = next(&mut checker);
    handle(&checker, &id, &payload).await.unwrap_err();
    world.state().script = None;
    for (wait, published) in [(0, 1), (1, 1), (22, 1), (2, 2), (1, 2)] {
        tokio::time::sleep(std::time::Duration::from_hours(wait)).await;
        let (id, payload) = next(&mut checker);
        handle(&checker, &id, &payload).await.unwrap();
        assert_eq!(world.state().published.len(), published, "after {wait} h");
    }
}

/// S3 begins to answer a copy before it is done, with 200; what goes wrong then stands in the body.
#[tokio::test(start_paused = true)]
async fn an_internal_error_behind_a_200_passes_and_is_no_refusal() {
    for operation in ["CopyObject", "UploadPartCopy", "CompleteMultipartUpload"] {
        let world = World::new();
        let size = if operation == "CopyObject" { 5 } else { 6_000_000_000 };
        let version = Version { id: VERSION.to_owned(), size, ..Version::new("hello", Sse::S3) };
        world.state().put(BUCKET, "shop/BuildArtif/large.zip", version);
        let checker = world.checker(Repair::Copy);
        world.state().script = Some(Box::new(move |request| {
            let late = || Response { status: 200, ..Response::error(500, "InternalError", "We encountered an error.") };
            (request.operation == operation).then(late)
        }));
        let error = handle(&checker, "r", &event("object-created-large")).await.unwrap_err();
        assert_eq!(error.error_type(), ErrorType::Internal, "{operation}: {error}");
        world.state().script = None;
        let decision = only(handle(&checker, "r", &event("object-created-large")).await.unwrap());
        assert_eq!(decision.outcome, Outcome::Repaired, "{operation}: {}", decision.reason);
    }
}

#[tokio::test(start_paused = true)]
async fn two_layers_of_encryption_stay_two() {
    for (size, object) in [(5, "object-created"), (6_000_000_000, "object-created-large")] {
        for repair in [Repair::Update, Repair::Copy] {
            let world = World::new();
            let key_of = if size == 5 { OBJECT } else { "shop/BuildArtif/large.zip" };
            let version = Version { id: VERSION.to_owned(), size, ..Version::new("hello", Sse::Dsse(key("other"))) };
            world.state().put(BUCKET, key_of, version);
            let decision = only(handle(&world.checker(repair), "r", &event(object)).await.unwrap());
            assert_eq!(decision.outcome, Outcome::Repaired, "{}", decision.reason);
            assert_eq!(world.state().bucket(BUCKET).latest(key_of).unwrap().sse, Sse::Dsse(key("right")));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_400_is_not_called_sse_c_without_having_asked() {
    let world = with(Version::new("hello", under("other")));
    world.state().script = Some(Box::new(|request| {
        let expired = || Response::error(400, "ExpiredToken", "The provided token has expired.");
        matches!(request.operation.as_str(), "HeadObject" | "GetObject").then(expired)
    }));
    let decision = only(handle(&world.checker(Repair::Copy), "r", &event("object-created")).await.unwrap());
    assert!(decision.reason.contains("ExpiredToken") && !decision.reason.contains("SSE-C"), "{}", decision.reason);
}

#[tokio::test(start_paused = true)]
async fn an_object_as_it_should_be_takes_two_calls_beside_its_record() {
    let world = with(Version::new("hello", under("right")));
    let shop = pipeline("shop", BUCKET, Some("alias/artifacts"));
    world.state().pipelines = Some(BTreeMap::from([("shop".to_owned(), shop)]));
    let decision = only(handle(&world.checker(Repair::Copy), "r", &event("object-created")).await.unwrap());
    assert_eq!(decision.outcome, Outcome::Compliant);
    let mut asked: Vec<String> = world.state().requests.iter().map(|request| request.operation.clone()).collect();
    asked.sort();
    assert_eq!(asked, ["DescribeKey", "GetObject"]);
}

#[tokio::test(start_paused = true)]
async fn a_foreign_key_is_explained() {
    let world = with(Version::new("hello", foreign()));
    let shop = pipeline("shop", BUCKET, None);
    world.state().pipelines = Some(BTreeMap::from([("shop".to_owned(), shop)]));
    let action = serde_json::json!({
        "pipelineExecutionId": "3137f7cb-7cf7-4abc-bb4b-d7e6a5f4a3b2", "actionName": "Source",
        "output": {"outputArtifacts": [{"name": "SourceArtifact", "s3location": {"bucket": BUCKET, "key": OBJECT}}]},
    });
    world.state().actions.insert("shop".to_owned(), vec![action]);
    let answer = handle(&world.checker(Repair::Copy), "r", &event("object-created")).await.unwrap();
    let finding = answer.decisions.last().unwrap();
    assert_eq!(finding.outcome, Outcome::ForeignKey);
    let about = |what: &str| finding.concerns[what].as_str();
    assert_eq!(about("writer"), "111111111111");
    assert_eq!((about("pipeline"), about("action")), ("shop", "Source"));
    assert_eq!(about("execution"), "3137f7cb-7cf7-4abc-bb4b-d7e6a5f4a3b2");
    assert!(about("encryption").contains(":111111111111:key/theirs"));
    assert!(about("likely_cause").contains("names no key") && about("likely_cause").contains(&key("right")));
    let told = world.state().published.join("\n");
    for part in ["foreign-key", OBJECT, "3137f7cb", "likely cause"] {
        assert!(told.contains(part), "{told}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_consumers_role_proves_that_it_can_be_read() {
    let world = with(Version::new("hello", under("right")));
    let mut checker = world.checker(Repair::Copy);
    checker.config.consumer_role = Some("arn:aws:iam::222222222222:role/build".to_owned());
    assert_eq!(only(handle(&checker, "r", &event("object-created")).await.unwrap()).outcome, Outcome::Compliant);
    world.state().not_for_consumer.insert(key("right"));
    let decision = only(handle(&checker, "r", &event("object-created")).await.unwrap());
    assert_eq!(decision.outcome, Outcome::Unverifiable);
    assert!(decision.reason.contains("role/build"), "{}", decision.reason);
    world.state().consumer_may_be_taken = false;
    let decision = only(handle(&checker, "r", &event("object-created")).await.unwrap());
    assert!(decision.reason.contains("can't be taken"), "{}", decision.reason);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_request_says_what_to_write() {
    let world = World::new();
    let checker = world.checker(Repair::Copy);
    for payload in [
        "null",
        "[]",
        "{}",
        r#"{"action":"sweep"}"#,
        r#"{"action":"swoop","bucket":"b"}"#,
        r#"{"action":"sweep","bucket":"b","version":true}"#,
        r#"{"action":"sweep","bucket":"b","versions":"yes"}"#,
    ] {
        let error = handle(&checker, "r", payload).await.unwrap_err();
        assert!(matches!(error, Error::InvalidRequest(_)), "{payload}");
        assert!(error.to_string().contains(r#"{"action":"sweep","bucket":"<bucket>"}"#), "{error}");
    }
    let error = handle(&checker, "r", r#"{"action":"sweep","bucket":"theirs"}"#).await.unwrap_err();
    assert_eq!(error.error_type(), ErrorType::Refused);
    assert_eq!(world.state().operations("s3"), Vec::<String>::new());
}
