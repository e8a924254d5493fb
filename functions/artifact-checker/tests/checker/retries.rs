//! Tests of the retry of a stage that failed because of an artifact.

use std::time::Duration;

use artifact_checker::{Answer, Checker, Outcome};
use sekisho_domain::artifacts::Repair;
use sekisho_ledger::{Key, Memory, Store};
use serde_json::{Value, json};

use crate::objects::{OBJECT, VERSION, event};
use crate::sweeps::{SWEEP, SWEEP_VERSIONS};
use crate::world::ledger::Faulty;
use crate::world::s3::{Sse, Version};
use crate::world::{BUCKET, Response, World, handle, invocation, key, now, under};

const READER: &str = "arn:aws:iam::444444444444:role/deploy";

const NO_DECRYPTION: &str = "arn:aws:sts::444444444444:assumed-role/deploy/1 is not authorized to perform: kms:Decrypt on \
                             the resource associated with this ciphertext";

/// The run of an action in the form of `ListActionExecutions`.
pub(crate) fn run(stage: &str, action: &str, status: &str, input: &str) -> Value {
    json!({
        "pipelineExecutionId": "e1", "actionExecutionId": "a", "stageName": stage, "actionName": action,
        "status": status,
        "input": {"roleArn": READER, "inputArtifacts": [{"name": "in", "s3location": {"bucket": BUCKET, "key": input}}]},
        "output": {"executionResult": {"errorDetails": {"code": "PermissionError", "message": NO_DECRYPTION}}},
    })
}

pub(crate) fn execution(id: &str, status: &str, mode: &str) -> Value {
    json!({"pipelineName": "shop", "pipelineExecutionId": id, "status": status, "executionMode": mode})
}

/// A world in which the stage `Deploy` of the pipeline failed, because its action could not read the object of the
/// example event.
pub(crate) fn world_with_failed_stage(sse: Sse) -> World {
    let world = World::new();
    world.state().put(BUCKET, OBJECT, Version { id: VERSION.to_owned(), ..Version::new("x", sse) });
    world.declare_pipelines(&[("shop", BUCKET, Some(&key("right")))]);
    world.state().actions.insert("shop".to_owned(), vec![run("Deploy", "Stack", "Failed", OBJECT)]);
    world.state().executions = vec![execution("e1", "Failed", "QUEUED")];
    world
}

pub(crate) fn checker(world: &World) -> Checker<Memory> {
    let mut checker = world.checker(Repair::Update);
    checker.settings.artifacts.retry_stage = true;
    checker
}

pub(crate) async fn check(checker: &Checker<Memory>) -> Answer {
    handle(checker, "r", &event("object-created")).await.unwrap()
}

/// The reason why the stage was not retried.
pub(crate) fn objection(answer: &Answer) -> Option<&str> {
    answer.decisions.iter().find_map(|decision| decision.concerns.get("not_retried")).map(String::as_str)
}

pub(crate) fn retried(world: &World) -> Vec<Value> {
    std::mem::take(&mut world.state().retried)
}

#[tokio::test(start_paused = true)]
async fn after_a_repair_the_failed_stage_is_retried_and_the_notice_says_so() {
    let world = world_with_failed_stage(under("other"));
    let answer = check(&checker(&world)).await;
    let outcomes: Vec<Outcome> = answer.decisions.iter().map(|decision| decision.outcome).collect();
    assert_eq!(outcomes, [Outcome::Repaired, Outcome::Retried], "{:?}", answer.decisions);
    let expected = json!({"pipelineName": "shop", "stageName": "Deploy", "pipelineExecutionId": "e1",
                          "retryMode": "FAILED_ACTIONS"});
    assert_eq!(retried(&world), [expected]);
    let [notice] = world.state().published.clone().try_into().unwrap();
    assert!(notice.contains("retried: ") && notice.contains("stage Deploy of pipeline shop"), "{notice}");
}

#[tokio::test(start_paused = true)]
async fn a_stage_is_retried_once() {
    let world = world_with_failed_stage(under("other"));
    let checker = checker(&world);
    check(&checker).await;
    world.state().buckets.get_mut(BUCKET).unwrap().objects.get_mut(OBJECT).unwrap()[0].sse = under("other");
    let answer = check(&checker).await;
    assert!(objection(&answer).unwrap().contains("only once"), "{:?}", answer.decisions);
    assert_eq!(retried(&world).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_the_setting_or_a_repair_nothing_is_retried() {
    let world = world_with_failed_stage(under("other"));
    let answer = check(&world.checker(Repair::Update)).await;
    assert_eq!(answer.decisions[0].outcome, Outcome::Repaired);
    let compliant = world_with_failed_stage(under("right"));
    check(&checker(&compliant)).await;
    for world in [world, compliant] {
        assert_eq!(
            (retried(&world).len(), world.state().operations("codepipeline").contains(&"RetryStageExecution".into())),
            (0, false)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn each_condition_prevents_the_retry() {
    type Change = fn(&World);
    let cases: [(Sse, Change, &str); 8] = [
        (Sse::S3, |_| {}, "can use the old key"),
        (under("other"), |world| world.state().executions[0] = execution("e1", "Failed", "PARALLEL"), "PARALLEL"),
        (under("other"), |world| world.state().executions[0] = execution("e1", "Stopped", "QUEUED"), "Stopped"),
        (
            under("other"),
            |world| world.state().executions.insert(0, execution("e2", "InProgress", "QUEUED")),
            "newest order",
        ),
        (
            under("other"),
            |world| world.state().actions.get_mut("shop").unwrap().push(run("Deploy", "Other", "Failed", "another")),
            "had not read the artifact",
        ),
        (
            under("other"),
            |world| world.state().actions.get_mut("shop").unwrap()[0]["output"] = json!({}),
            "no error code",
        ),
        // The repair of the object gives the role no permission for the stack.
        (
            under("other"),
            |world| {
                let message = "arn:aws:sts::444444444444:assumed-role/kms-user/1 is not authorized to perform: \
                               cloudformation:UpdateStack";
                let details = json!({"code": "PermissionError", "message": message});
                let result = json!({"executionResult": {"errorDetails": details}});
                world.state().actions.get_mut("shop").unwrap()[0]["output"] = result;
            },
            "PermissionError",
        ),
        (
            under("other"),
            |world| {
                world.answer_operation("RetryStageExecution", || {
                    Response::json_error("StageNotRetryableException", "no")
                });
            },
            "StageNotRetryableException",
        ),
    ];
    for (sse, change, part) in cases {
        let world = world_with_failed_stage(sse);
        change(&world);
        let answer = check(&checker(&world)).await;
        assert_eq!(answer.decisions[0].outcome, Outcome::Repaired, "{part}");
        assert!(objection(&answer).is_some_and(|why| why.contains(part)), "{part}: {:?}", answer.decisions);
        assert_eq!((retried(&world).len(), answer.decisions.len()), (0, 1), "{part}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_action_that_did_not_read_the_object_or_succeeded_in_the_end_is_no_reason_for_a_retry() {
    let actions = [
        vec![run("Deploy", "Stack", "Failed", "another")],
        // The latest run of an action counts.
        vec![run("Deploy", "Stack", "Succeeded", OBJECT), run("Deploy", "Stack", "Failed", OBJECT)],
        vec![],
    ];
    for actions in actions {
        let world = world_with_failed_stage(under("other"));
        world.state().actions.insert("shop".to_owned(), actions);
        let answer = check(&checker(&world)).await;
        assert_eq!((objection(&answer), answer.decisions.len(), retried(&world).len()), (None, 1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_build_that_could_not_read_its_source_is_retried() {
    for (phase, expected) in [("DOWNLOAD_SOURCE", 1), ("BUILD", 0)] {
        let world = world_with_failed_stage(under("other"));
        let mut build = run("Build", "Build", "Failed", OBJECT);
        build["input"]["actionTypeId"] =
            json!({"category": "Build", "owner": "AWS", "provider": "CodeBuild", "version": "1"});
        let result = json!({"externalExecutionId": "shop:1", "errorDetails": {"code": "JobFailed", "message": "m"}});
        build["output"]["executionResult"] = result;
        world.state().actions.insert("shop".to_owned(), vec![build]);
        let phases = json!([{"phaseType": "SUBMITTED", "phaseStatus": "SUCCEEDED"},
                            {"phaseType": phase, "phaseStatus": "FAILED"}, {"phaseType": "COMPLETED"}]);
        world.state().builds = json!({"builds": [{"id": "shop:1", "phases": phases}]});
        let answer = check(&checker(&world)).await;
        assert_eq!(retried(&world).len(), expected, "{phase}: {:?}", answer.decisions);
        assert_eq!(objection(&answer).is_some_and(|why| why.contains("JobFailed")), expected == 0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_check_waits_for_the_end_of_the_action_and_of_its_execution() {
    let world = world_with_failed_stage(under("other"));
    let mut looks = 0;
    world.script(move |request| {
        let is_looking = request.operation == "ListActionExecutions";
        looks += u32::from(is_looking);
        let running = json!({"actionExecutionDetails": [run("Deploy", "Stack", "InProgress", OBJECT)]});
        let is_over = looks > 3;
        match request.operation.as_str() {
            "ListActionExecutions" if !is_over => Some(Response::new(200).body(running.to_string())),
            "GetPipelineExecution" if looks == 4 => {
                let answer = json!({"pipelineExecution": execution("e1", "InProgress", "QUEUED")});
                Some(Response::new(200).body(answer.to_string()))
            }
            _ => None,
        }
    });
    check(&checker(&world)).await;
    assert_eq!(retried(&world).len(), 1);
}

/// An action that began before the repair may still fail. One that began later reads the repaired object, and the
/// invocation must not wait for it.
#[tokio::test(start_paused = true)]
async fn the_check_waits_only_for_an_action_that_began_before_the_repair() {
    for (seconds, expected) in [(None, true), (Some(-30), true), (Some(5), false)] {
        let world = world_with_failed_stage(under("other"));
        let began = now();
        let mut action = run("Build", "Build", "InProgress", OBJECT);
        if let Some(seconds) = seconds {
            action["startTime"] = json!(began.unix_timestamp() + seconds);
        }
        world.state().actions.insert("shop".to_owned(), vec![action]);
        let answer = check(&checker(&world)).await;
        assert_eq!(answer.decisions[0].outcome, Outcome::Repaired);
        let is_running = objection(&answer).is_some_and(|why| why.contains("still running"));
        assert_eq!(is_running, expected, "{seconds:?}: {:?}", answer.decisions);
        let waited = now() - began;
        assert_eq!(waited >= Duration::from_mins(2), expected, "{seconds:?}: {waited}");
        assert!(waited < Duration::from_secs(126), "{seconds:?}: {waited}");
    }
}

/// The first attempt at the check writes, and the second one finds the object under the right key.
#[tokio::test(start_paused = true)]
async fn a_sweep_retries_the_stage_although_the_first_proof_fails() {
    let world = world_with_failed_stage(under("other"));
    let mut reads = 0;
    world.script(move |request| {
        reads += u32::from(request.operation == "GetObject");
        // The SDK makes three attempts at a read.
        (request.operation == "GetObject" && reads <= 3).then(|| Response::error(500, "InternalError", "We"))
    });
    handle(&checker(&world), "r", SWEEP).await.unwrap();
    assert_eq!((retried(&world).len(), world.state().bucket(BUCKET).writes), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_execution_has_to_belong_to_the_newest_order() {
    let order = |execution: &str| json!({"number": 7, "execution": execution, "may_run": false, "progress": {"ended": "failed"}});
    for (execution, expected) in [("e1", 1), ("e0", 0)] {
        let world = world_with_failed_stage(under("other"));
        let checker = checker(&world);
        let row = Key { pk: "order".to_owned(), sk: "shop".to_owned() };
        checker.ledger.write(&row, &order(execution), None, "starter").await.unwrap();
        check(&checker).await;
        assert_eq!(retried(&world).len(), expected, "{execution}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_sweep_retries_the_stage_without_waiting() {
    let world = world_with_failed_stage(under("other"));
    let answer = handle(&checker(&world), "r", SWEEP).await.unwrap();
    assert!(answer.sweeps[0].complete);
    assert_eq!(retried(&world).len(), 1);
    assert!(world.state().published.concat().contains("stage Deploy of pipeline shop"));
    let world = world_with_failed_stage(under("other"));
    world.state().actions.insert("shop".to_owned(), vec![run("Build", "Build", "InProgress", OBJECT)]);
    let began = crate::world::now();
    handle(&checker(&world), "r", SWEEP).await.unwrap();
    assert_eq!((retried(&world).len(), crate::world::now() - began < Duration::from_secs(5)), (0, true));
}

#[tokio::test(start_paused = true)]
async fn an_error_of_codepipeline_does_not_fail_the_repair() {
    let world = world_with_failed_stage(under("other"));
    world.answer_operation("GetPipelineExecution", || Response::json_error("ThrottlingException", "Rate exceeded"));
    let answer = check(&checker(&world)).await;
    assert_eq!(answer.decisions[0].outcome, Outcome::Repaired);
    assert!(objection(&answer).is_some_and(|why| why.contains("ThrottlingException")), "{:?}", answer.decisions);
}

/// A world in which the failed action read two artifacts under the wrong key.
fn world_with_two_inputs() -> World {
    let world = world_with_failed_stage(under("other"));
    world.state().put(BUCKET, "second", Version::new("y", under("other")));
    let mut action = run("Deploy", "Stack", "Failed", OBJECT);
    let second = json!({"name": "in2", "s3location": {"bucket": BUCKET, "key": "second"}});
    action["input"]["inputArtifacts"].as_array_mut().unwrap().push(second);
    world.state().actions.insert("shop".to_owned(), vec![action]);
    world
}

#[tokio::test(start_paused = true)]
async fn the_retry_waits_for_the_repair_of_the_last_input() {
    let world = world_with_two_inputs();
    let checker = checker(&world);
    let answer = check(&checker).await;
    assert!(objection(&answer).unwrap().contains("another input is not repaired yet: second"), "{answer:?}");
    assert_eq!(retried(&world).len(), 0);
    handle(&checker, "r2", &crate::world::created(BUCKET, "second", None)).await.unwrap();
    assert_eq!(retried(&world).len(), 1);
}

/// The sweep repairs both inputs at the same time, and after both repairs, the ledger has no row about the stage.
#[tokio::test(start_paused = true)]
async fn two_repairs_of_one_invocation_retry_a_stage_once() {
    let world = world_with_two_inputs();
    world.state().latency = Duration::from_millis(20);
    let checker = checker(&world);
    let slow_rows = ("stage-retry#", Duration::from_secs(1));
    let slow = world.with_ledger(&checker, Faulty { slow_rows, ..Faulty::new(&checker.ledger) });
    Box::pin(slow.handle(SWEEP, &invocation("r", Duration::from_mins(15)))).await.unwrap();
    assert_eq!((slow.ledger.slow_reads.get(), retried(&world).len()), (2, 1));
}

/// An artifact is repaired, comes under the wrong key again, and is repaired by another invocation, while the first one
/// is about to retry the stage.
#[tokio::test(start_paused = true)]
async fn two_invocations_that_repair_one_artifact_retry_a_stage_once() {
    let world = world_with_failed_stage(under("other"));
    let checker = checker(&world);
    let slow_rows = ("stage-retry#", Duration::from_secs(5));
    let slow = world.with_ledger(&checker, Faulty { slow_rows, ..Faulty::new(&checker.ledger) });
    let (created, context) = (event("object-created"), invocation("r1", Duration::from_mins(15)));
    let other = async {
        while slow.ledger.slow_reads.get() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        world.state().buckets.get_mut(BUCKET).unwrap().objects.get_mut(OBJECT).unwrap()[0].sse = under("other");
        handle(&checker, "r2", &created).await.unwrap()
    };
    let (first, other) = tokio::join!(slow.handle(&created, &context), other);
    assert_eq!((first.unwrap().decisions.len(), other.decisions.len(), retried(&world).len()), (1, 2, 1));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_codepipeline_throttles_or_refuses_is_not_the_only_retry() {
    for code in ["ThrottlingException", "StageNotRetryableException"] {
        let world = world_with_failed_stage(under("other"));
        let checker = checker(&world);
        world.script(move |request| {
            (request.operation == "RetryStageExecution").then(|| Response::json_error(code, "no"))
        });
        assert!(objection(&check(&checker).await).unwrap().contains(code));
        world.state().script = None;
        for (request, expected) in [("r2", 1), ("r3", 0)] {
            world.state().buckets.get_mut(BUCKET).unwrap().objects.get_mut(OBJECT).unwrap()[0].sse = under("other");
            handle(&checker, request, &event("object-created")).await.unwrap();
            assert_eq!(retried(&world).len(), expected, "{code}, {request}");
        }
    }
}

/// After the repair, the object is compliant, so no later check of it would retry the stage.
#[tokio::test(start_paused = true)]
async fn the_check_of_one_event_repeats_what_codepipeline_throttles() {
    // The SDK makes three attempts at a read.
    for operation in ["RetryStageExecution", "ListActionExecutions", "GetPipelineExecution"] {
        let world = world_with_failed_stage(under("other"));
        let mut calls = 0;
        world.script(move |request| {
            calls += u32::from(request.operation == operation);
            let is_throttled = request.operation == operation && calls <= 4;
            is_throttled.then(|| Response::json_error("ThrottlingException", "Rate exceeded"))
        });
        let answer = check(&checker(&world)).await;
        assert_eq!(retried(&world).len(), 1, "{operation}: {:?}", answer.decisions);
        assert_eq!(answer.decisions[1].outcome, Outcome::Retried);
    }
    // A sweep does not wait, but tries as often as the SDK would.
    let world = world_with_failed_stage(under("other"));
    let mut calls = 0;
    world.script(move |request| {
        calls += u32::from(request.operation == "RetryStageExecution");
        let is_throttled = request.operation == "RetryStageExecution" && calls <= 2;
        is_throttled.then(|| Response::json_error("ThrottlingException", "Rate exceeded"))
    });
    handle(&checker(&world), "r", SWEEP).await.unwrap();
    assert_eq!(retried(&world).len(), 1);
}

/// CodePipeline may have retried the stage.
#[tokio::test(start_paused = true)]
async fn a_retry_whose_answer_is_lost_is_not_repeated() {
    for answer in [|| Response::new(500).body("{}"), || Response::new(503).body("")] {
        let world = world_with_failed_stage(under("other"));
        let checker = checker(&world);
        world.answer_operation("RetryStageExecution", answer);
        assert!(objection(&check(&checker).await).unwrap().contains("unknown whether"));
        world.state().buckets.get_mut(BUCKET).unwrap().objects.get_mut(OBJECT).unwrap()[0].sse = under("other");
        world.state().script = None;
        let again = handle(&checker, "r2", &event("object-created")).await.unwrap();
        assert!(objection(&again).unwrap().contains("only once"), "{:?}", again.decisions);
        let calls = world.state().operations("codepipeline");
        assert_eq!(calls.iter().filter(|name| *name == "RetryStageExecution").count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_sweep_asks_a_throttling_codepipeline_once() {
    let world = world_with_failed_stage(under("other"));
    for n in 0..20 {
        world.state().put(BUCKET, &format!("object-{n}"), Version::new("x", under("other")));
    }
    world.answer_operation("ListActionExecutions", || Response::json_error("ThrottlingException", "Rate exceeded"));
    handle(&checker(&world), "r", SWEEP).await.unwrap();
    let operations = world.state().operations("codepipeline");
    let asked = operations.iter().filter(|name| *name == "ListActionExecutions").count();
    // The SDK makes three attempts.
    assert_eq!((asked, world.state().bucket(BUCKET).writes), (3, 21));
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_somebody_else_has_retried_meanwhile_is_left() {
    let world = world_with_failed_stage(under("other"));
    let mut looks = 0;
    world.script(move |request| {
        looks += u32::from(request.operation == "ListActionExecutions");
        let succeeded = json!({"actionExecutionDetails": [run("Deploy", "Stack", "Succeeded", OBJECT)]});
        let is_second = request.operation == "ListActionExecutions" && looks == 2;
        is_second.then(|| Response::new(200).body(succeeded.to_string()))
    });
    let answer = check(&checker(&world)).await;
    assert!(objection(&answer).unwrap().contains("meanwhile"), "{answer:?}");
    assert_eq!(retried(&world).len(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_repair_of_an_older_version_retries_no_stage() {
    let world = world_with_failed_stage(under("other"));
    world.state().put(BUCKET, OBJECT, Version::new("newer", under("right")));
    handle(&checker(&world), "r", SWEEP_VERSIONS).await.unwrap();
    assert_eq!((retried(&world).len(), world.state().bucket(BUCKET).writes), (0, 1));
}
