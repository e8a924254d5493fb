//! Tests with several writers of one object, with lost answers, and with temporary errors.

use std::time::Duration;

use artifact_checker::Outcome;
use sekisho_domain::artifacts::Repair;
use sekisho_lambda::{ErrorType, Failure};

use crate::objects::{LARGE, LARGE_OBJECT, OBJECT, decide, event, only, world_with, world_with_object};
use crate::world::s3::{Sse, Version};
use crate::world::{BUCKET, Fault, Response, World, created, handle, key, under};

/// Breaks a service of the world.
type Break = fn(&World);

#[tokio::test(start_paused = true)]
async fn a_version_that_is_written_between_head_and_copy_stays_the_latest() {
    let world = world_with(Version::new("older", under("other")));
    // The copy is on its way to S3 for a second, after the last look at the object.
    world.state().slow_operation = Some(("CopyObject", Duration::from_secs(1)));
    let other = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(!world.state().operations("s3").is_empty());
        world.state().slow_operation = None;
        world.state().put(BUCKET, OBJECT, Version::new("newer", under("other")));
    };
    let (decision, ()) = tokio::join!(decide(&world, Repair::Copy, "object-created"), other);
    assert_eq!(decision.outcome, Outcome::Repaired, "{}", decision.reason);
    let state = world.state();
    let copies = state.operations("s3").iter().filter(|operation| *operation == "CopyObject").count();
    assert_eq!(copies, 2, "S3 refuses the first copy, because the object is another one");
    let versions = &state.bucket(BUCKET).objects[OBJECT];
    let contents: Vec<&str> = versions.iter().map(|version| version.content.as_str()).collect();
    assert_eq!(contents, ["older", "newer", "newer"]);
    assert_eq!(versions.last().unwrap().sse, under("right"));
}

#[tokio::test(start_paused = true)]
async fn an_object_that_somebody_else_changes_back_is_repaired_three_times_and_not_again() {
    for repair in [Repair::Update, Repair::Copy] {
        let world = world_with(Version::new("hello", Sse::S3));
        world.state().buckets.get_mut(BUCKET).unwrap().fought_over = true;
        let checker = world.checker(repair);
        let decision = only(handle(&checker, "r", &event("object-created")).await.unwrap());
        assert_eq!(decision.outcome, Outcome::NonConverging, "{}", decision.reason);
        // The function also gets an event for each of its own writes and for each write of the other writer.
        let versions = world.state().bucket(BUCKET).objects[OBJECT].clone();
        for version in versions {
            let event = created(BUCKET, OBJECT, Some(&version.id));
            let decision = only(handle(&checker, &version.id, &event).await.unwrap());
            assert_eq!(decision.outcome, Outcome::NonConverging, "{}", decision.reason);
        }
        assert_eq!(world.state().bucket(BUCKET).writes, 3);
    }
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_copy_does_not_count_as_a_repair() {
    let world = world_with(Version::new("hello", Sse::S3));
    let checker = world.checker(Repair::Copy);
    for n in 0..5 {
        world.answer_operation("CopyObject", Response::slow_down);
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
        let world = world_with(Version::new("hello", Sse::S3));
        world.state().latency = Duration::from_millis(20);
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
    // A first run finds out the number of the copy among the requests to S3.
    let probe = world_with(Version::new("hello", Sse::S3));
    decide(&probe, Repair::Copy, "object-created").await;
    let operations = probe.state().operations("s3");
    let copy = operations.iter().position(|operation| operation == "CopyObject").unwrap() + 1;
    let world = world_with(Version::new("hello", Sse::S3));
    world.state().faults.insert(copy, Fault::AnswerLost);
    let decision = decide(&world, Repair::Copy, "object-created").await;
    assert!(matches!(decision.outcome, Outcome::Compliant | Outcome::Repaired), "{}", decision.reason);
    assert_eq!(world.state().bucket(BUCKET).latest(OBJECT).unwrap().sse, under("right"));
    assert_eq!(world.state().bucket(BUCKET).writes, 1);
}

#[tokio::test(start_paused = true)]
async fn an_error_that_may_pass_fails_the_invocation() {
    let sns_is_down = |world: &World| {
        "Disabled".clone_into(&mut world.state().keys.get_mut(&key("right")).unwrap().state);
        world.answer_every("sns", || Response::new(503));
    };
    let cases: [(&str, Break, ErrorType); 4] = [
        ("throttled", |world| world.answer_every("s3", Response::slow_down), ErrorType::Throttled),
        (
            "broken",
            |world| world.answer_every("s3", || Response::error(500, "InternalError", "we")),
            ErrorType::Internal,
        ),
        (
            "kms",
            |world| world.answer_every("kms", || Response::json_error("ThrottlingException", "slow")),
            ErrorType::Throttled,
        ),
        ("sns", sns_is_down, ErrorType::Throttled),
    ];
    for (name, break_service, expected) in cases {
        let world = world_with(Version::new("hello", under("right")));
        break_service(&world);
        let error = handle(&world.checker(Repair::Copy), "r", &event("object-created")).await.unwrap_err();
        assert_eq!(error.error_type(), expected, "{name}: {error}");
    }
}

/// S3 answers a copy with 200 before the copy is done, so S3 reports an error during the copy in the body of the
/// answer.
#[tokio::test(start_paused = true)]
async fn an_internal_error_in_the_body_of_a_200_is_no_refusal() {
    for operation in ["CopyObject", "UploadPartCopy", "CompleteMultipartUpload"] {
        let size = if operation == "CopyObject" { 5 } else { LARGE };
        let world = world_with_object(LARGE_OBJECT, Version { size, ..Version::new("hello", Sse::S3) });
        let checker = world.checker(Repair::Copy);
        world.answer_operation(operation, || Response {
            status: 200,
            ..Response::error(500, "InternalError", "We encountered an error.")
        });
        let error = handle(&checker, "r", &event("object-created-large")).await.unwrap_err();
        assert_eq!(error.error_type(), ErrorType::Internal, "{operation}: {error}");
        world.state().script = None;
        let decision = only(handle(&checker, "r", &event("object-created-large")).await.unwrap());
        assert_eq!(decision.outcome, Outcome::Repaired, "{operation}: {}", decision.reason);
    }
}
