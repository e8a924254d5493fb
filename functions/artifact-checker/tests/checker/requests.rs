//! Tests that each payload reaches the right use case.

use artifact_checker::{Error, Outcome};
use sekisho_domain::artifacts::Repair;
use sekisho_lambda::{ErrorType, Failure};
use serde_json::json;

use crate::objects::{OBJECT, VERSION, decide, event, only, world_with};
use crate::world::s3::{Bucket, Sse, Version};
use crate::world::{ACCOUNT, BUCKET, FUNCTION, World, handle, key, under};

/// Example events that are ignored without a call to S3.
const IGNORED: [&str; 3] = ["object-created-in-another-account", "object-created-in-another-bucket", "object-deleted"];
/// Example events and requests that other tests handle.
const HANDLED: [&str; 9] = [
    "object-created",
    "object-created-by-the-checker",
    "object-created-large",
    "object-created-odd-key",
    "object-created-without-versions",
    "schedule",
    "sweep",
    "sweep-dry-run",
    "sweep-versions",
];

#[test]
fn every_example_event_has_a_case() {
    sekisho_testing::cases::assert_complete(FUNCTION, IGNORED.into_iter().chain(HANDLED));
}

#[tokio::test(start_paused = true)]
async fn an_event_that_concerns_no_artifact_is_ignored_without_a_call_to_s3() {
    for name in IGNORED {
        let world = world_with(Version::new("hello", Sse::S3));
        let decision = decide(&world, Repair::Copy, name).await;
        assert_eq!(decision.outcome, Outcome::Ignored, "{name}: {}", decision.reason);
        assert_eq!(world.state().operations("s3"), Vec::<String>::new(), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_malformed_event_is_a_finding_that_names_the_field() {
    let malformed = event("object-created").replace("\"object\"", "\"objekt\"");
    let decision = only(handle(&World::new().checker(Repair::Copy), "r", &malformed).await.unwrap());
    assert_eq!(decision.outcome, Outcome::Unknown);
    assert!(decision.reason.contains("`object`"), "{}", decision.reason);
}

#[tokio::test(start_paused = true)]
async fn the_bucket_of_a_pipeline_is_checked_too() {
    const OTHER_BUCKET: &str = "somebody-elses-bucket";
    let world = World::new();
    world.state().buckets.insert(OTHER_BUCKET.to_owned(), Bucket::new(ACCOUNT));
    let version = Version { id: VERSION.to_owned(), ..Version::new("hello", Sse::S3) };
    world.state().put(OTHER_BUCKET, OBJECT, version);
    world.declare_pipelines(&[("shop", OTHER_BUCKET, Some(&key("other")))]);
    let event = event("object-created-in-another-bucket");
    let checker = world.checker_of(Repair::Copy, &[OTHER_BUCKET]);
    let decision = only(handle(&checker, "r", &event).await.unwrap());
    assert_eq!(decision.outcome, Outcome::Repaired, "{}", decision.reason);
    assert_eq!(world.state().bucket(OTHER_BUCKET).latest(OBJECT).unwrap().sse, under("other"));
    // If CodePipeline does not show the pipelines, the event may concern one of them and is not ignored.
    world.state().pipelines = None;
    let error = handle(&world.checker(Repair::Copy), "r", &event).await.unwrap_err();
    let Error::Service(error) = error else { panic!("{error}") };
    assert_eq!(error.operation, "codepipeline:ListPipelines");
}

#[tokio::test(start_paused = true)]
async fn a_payload_that_is_no_request_is_answered_with_what_to_write() {
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
    assert_eq!(world.state().operations("s3"), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_sweep_of_a_bucket_that_holds_no_artifacts_is_refused() {
    let world = World::new();
    let request = r#"{"action":"sweep","bucket":"theirs"}"#;
    let error = handle(&world.checker(Repair::Copy), "r", request).await.unwrap_err();
    assert_eq!(error.error_type(), ErrorType::Refused);
    assert_eq!(world.state().operations("s3"), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_delivery_of_the_queue_has_one_message_which_is_a_request() {
    let sweep = r#"{"action":"sweep","bucket":"nobodys"}"#;
    let deliveries = [
        (json!({"Records": [{"body": sweep}]}), ErrorType::Refused),
        (json!({"Records": [{"body": sweep}, {"body": sweep}]}), ErrorType::InvalidRequest),
        (json!({"Records": []}), ErrorType::InvalidRequest),
        (json!({"Records": [{"body": "sweep"}]}), ErrorType::InvalidRequest),
        (json!({"Records": [{"messageId": "m"}]}), ErrorType::InvalidRequest),
    ];
    for (delivery, expected) in deliveries {
        let error = handle(&World::new().checker(Repair::Copy), "r", &delivery.to_string()).await.unwrap_err();
        assert_eq!(error.error_type(), expected, "{delivery}: {error}");
    }
    // A message that was sent to the function by hand, for a sweep that nobody knows.
    let range = format!(r#"{{"action":"sweep","bucket":"{BUCKET}","sweep":"s","range":3}}"#);
    let decision = only(handle(&World::new().checker(Repair::Copy), "r", &range).await.unwrap());
    assert_eq!(decision.outcome, Outcome::Ignored, "{}", decision.reason);
}
