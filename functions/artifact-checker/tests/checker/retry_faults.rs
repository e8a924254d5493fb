//! Retries of stages for which CodePipeline has changed meanwhile.

use std::time::Duration;

use artifact_checker::Outcome;

use crate::objects::OBJECT;
use crate::retries::{check, checker, execution, objection, retried, world_with_failed_stage};
use crate::sweeps::SWEEP;
use crate::world::s3::Version;
use crate::world::{BUCKET, Response, handle, invocation, now, under};

/// A stage is retried only if its execution belongs to the newest order, also if CodePipeline throttles the first attempt.
#[tokio::test(start_paused = true)]
async fn a_throttled_retry_is_not_repeated_after_a_newer_order() {
    let world = world_with_failed_stage(under("other"));
    let checker = checker(&world);
    let mut calls = 0;
    world.script(move |request| {
        calls += u32::from(request.operation == "RetryStageExecution");
        let is_throttled = request.operation == "RetryStageExecution" && calls == 1;
        is_throttled.then(|| Response::json_error("ThrottlingException", "Rate exceeded"))
    });
    let newer = async {
        while !world.state().operations("codepipeline").contains(&"RetryStageExecution".to_owned()) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        world.state().executions.insert(0, execution("e2", "InProgress", "QUEUED"));
    };
    let (answer, ()) = tokio::join!(check(&checker), newer);
    assert!(objection(&answer).is_some_and(|why| why.contains("newest order")), "{:?}", answer.decisions);
    assert_eq!(retried(&world).len(), 0);
}

/// The first repair of the sweep finds no action. A minute later, an action reads the second object under its old key.
#[tokio::test(start_paused = true)]
async fn a_sweep_retries_a_stage_that_failed_after_its_first_repair() {
    let world = world_with_failed_stage(under("other"));
    for n in 0..20 {
        world.state().put(BUCKET, &format!("object-{n}"), Version::new("x", under("other")));
    }
    world.state().slow_operation = Some((OBJECT, Duration::from_secs(40)));
    let began = now();
    world.script(move |request| {
        let is_early = request.operation == "ListActionExecutions" && now() - began < Duration::from_mins(1);
        is_early.then(|| Response::new(200).body(r#"{"actionExecutionDetails":[]}"#))
    });
    let answer = handle(&checker(&world), "r", SWEEP).await.unwrap();
    assert!(now() - began > Duration::from_mins(2) && answer.sweeps[0].complete);
    assert_eq!((retried(&world).len(), world.state().bucket(BUCKET).writes), (1, 21));
    // One look at the first repair, one at that of the second object, and one before the retry.
    let operations = world.state().operations("codepipeline");
    assert_eq!(operations.iter().filter(|name| *name == "ListActionExecutions").count(), 3);
}

/// All repairs wait for the first look at the actions.
#[tokio::test(start_paused = true)]
async fn the_repairs_of_a_sweep_share_a_look_at_the_actions_however_long_it_takes() {
    let world = world_with_failed_stage(under("other"));
    for n in 0..20 {
        world.state().put(BUCKET, &format!("object-{n}"), Version::new("x", under("other")));
    }
    world.state().slow_operation = Some(("ListActionExecutions", Duration::from_secs(40)));
    let answer = handle(&checker(&world), "r", SWEEP).await.unwrap();
    assert!(answer.sweeps[0].complete);
    assert_eq!((retried(&world).len(), answer.sweeps[0].outcomes[&Outcome::Repaired]), (1, 21));
    // One look for all repairs, and one before the retry.
    let operations = world.state().operations("codepipeline");
    assert_eq!(operations.iter().filter(|name| *name == "ListActionExecutions").count(), 2);
}

/// The next invocation finds the object right, so nobody else would count the repair.
#[tokio::test(start_paused = true)]
async fn a_repair_counts_although_no_time_is_left_to_retry_the_stage() {
    let world = world_with_failed_stage(under("other"));
    world.state().slow_operation = Some(("ListActionExecutions", Duration::from_secs(50)));
    let lambda = invocation("r", Duration::from_mins(1));
    let answer = Box::pin(checker(&world).handle(SWEEP, &lambda)).await.unwrap();
    let report = &answer.sweeps[0];
    assert_eq!((report.complete, report.outcomes[&Outcome::Repaired], retried(&world).len()), (true, 1, 0));
}
