use aws_sdk_codepipeline::Client;
use pipeline_starter::notice::Failed;
use pipeline_starter::pipelines::{find, start, tell, why_failed};
use pipeline_starter::world::{Start, Started};
use sekisho_domain::notice::Notice;
use serde_json::{Value, json};
use time::macros::datetime;

use crate::wire::{Answer, Wire, ok, refused};

const COMMIT: &str = "1f0c2a9be4d5760f8c3b7a6e5d4c3b2a19080706";
const OTHER: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567";
const TOPIC: &str = "arn:aws:sns:ap-northeast-1:222222222222:sekisho-notices";

fn shop() -> Start {
    Start {
        pipeline: "shop".parse().unwrap(),
        actions: vec!["Source".parse().unwrap(), "Templates".parse().unwrap()],
        commit: COMMIT.parse().unwrap(),
        token: "0f".repeat(32),
    }
}

/// A request and its answer as CodePipeline has them, to the byte.
#[tokio::test]
async fn a_start_on_the_wire() {
    let answer = r#"{"pipelineExecutionId":"a6c6b8f2-0f0f-4f53-9c1e-1d2c3b4a5968"}"#;
    let wire = Wire::answering([Answer::Http(200, answer.to_owned())]);
    let started = start(&Client::new(&wire.config()), &shop()).await;
    assert_eq!(started, Started::Execution("a6c6b8f2-0f0f-4f53-9c1e-1d2c3b4a5968".to_owned()));
    let requests = wire.requests();
    assert_eq!(requests[0].operation, "StartPipelineExecution");
    assert_eq!(
        requests[0].body,
        format!(
            r#"{{"name":"shop","clientRequestToken":"{}","sourceRevisions":[{{"actionName":"Source","revisionType":"COMMIT_ID","revisionValue":"{COMMIT}"}},{{"actionName":"Templates","revisionType":"COMMIT_ID","revisionValue":"{COMMIT}"}}]}}"#,
            "0f".repeat(32)
        )
    );
}

#[tokio::test]
async fn a_start_that_may_go_better_later_is_told_from_one_that_never_will() {
    let cases = [
        (refused("ConflictException"), true, "ConflictException: as it is"),
        (refused("ConcurrentPipelineExecutionsLimitExceededException"), true, "ConcurrentPipelineExecutionsLimit"),
        (refused("ThrottlingException"), true, "ThrottlingException"),
        (refused("TooManyRequestsException"), true, "TooManyRequests"),
        (Answer::Http(500, String::new()), true, ""),
        (Answer::Http(503, String::new()), true, ""),
        (Answer::TimedOut, true, "no answer in time"),
        (
            refused("PipelineNotFoundException"),
            false,
            "no such pipeline here: create it, or correct the route's target",
        ),
        (refused("ValidationException"), false, "ValidationException: as it is"),
        (refused("AccessDeniedException"), false, "AccessDeniedException"),
    ];
    for (answer, passes, words) in cases {
        let wire = Wire::answering([answer.clone()]);
        match start(&Client::new(&wire.config()), &shop()).await {
            Started::Later(said) if passes => assert!(said.contains(words), "{said}"),
            Started::Never(said) if !passes => assert!(said.contains(words), "{said}"),
            other => panic!("{answer:?}: {other:?}"),
        }
    }
}

fn execution(id: &str, started: f64, commit: &str) -> Value {
    json!({"pipelineExecutionId": id, "status": "InProgress", "startTime": started,
           "sourceRevisions": [{"actionName": "Source", "revisionId": commit}]})
}

#[tokio::test]
async fn a_lost_start_is_found_by_its_commit_and_no_older_one() {
    let since = datetime!(2026-11-21 12:00 UTC);
    #[expect(clippy::cast_precision_loss, reason = "seconds of this century fit")]
    let at = since.unix_timestamp() as f64;
    let cases = [
        (vec![execution("other", at + 9.0, OTHER), execution("mine", at + 2.5, COMMIT)], Some("mine")),
        (vec![execution("latest", at + 9.0, COMMIT), execution("before", at + 1.0, COMMIT)], Some("latest")),
        (vec![execution("old", at - 1.0, COMMIT)], None),
        (vec![execution("other", at + 1.0, OTHER)], None),
        (vec![], None),
    ];
    for (summaries, expected) in cases {
        let wire = Wire::answering([ok(&json!({"pipelineExecutionSummaries": summaries}))]);
        let found = find(&Client::new(&wire.config()), "shop", &COMMIT.parse().unwrap(), since).await.unwrap();
        assert_eq!(found.as_deref(), expected);
        assert_eq!(wire.requests()[0].json(), json!({"pipelineName": "shop", "maxResults": 100}));
    }
}

#[tokio::test]
async fn a_search_that_is_not_answered_is_told_from_one_that_finds_nothing() {
    let wire =
        Wire::answering([refused("PipelineNotFoundException"), refused("ThrottlingException"), Answer::TimedOut]);
    let client = Client::new(&wire.config());
    let (commit, since) = (COMMIT.parse().unwrap(), datetime!(2026-11-21 12:00 UTC));
    assert_eq!(find(&client, "shop", &commit, since).await.unwrap(), None);
    for throttled in [true, false] {
        let error = find(&client, "shop", &commit, since).await.unwrap_err();
        assert_eq!(error.throttled, throttled);
        assert_eq!(error.to_string(), "CodePipeline did not list the executions of shop");
    }
}

fn action(status: &str, result: &Value) -> Value {
    json!({"pipelineExecutionId": "e", "actionExecutionId": "a", "stageName": "Build", "actionName": "Compile",
           "status": status, "output": {"executionResult": result}})
}

#[tokio::test]
async fn why_an_execution_failed() {
    let details = json!({"pipelineExecution": {"pipelineName": "shop", "artifactRevisions": [{"name": "Source", "revisionId": COMMIT}]}});
    let place = Some("Build / Compile".to_owned());
    let commit = Some(COMMIT.to_owned());
    let error = json!({"errorDetails": {"code": "JobFailed", "message": "exit status 1"}, "externalExecutionSummary": "summary"});
    let cases = [
        (json!([action("Succeeded", &json!({})), action("Failed", &error)]), place.clone(), Some("exit status 1")),
        (json!([action("Failed", &json!({"externalExecutionSummary": "summary"}))]), place.clone(), Some("summary")),
        (json!([action("Failed", &json!({}))]), place, None),
        (json!([]), None, None),
    ];
    for (actions, place, reason) in cases {
        // The two calls go out together, in this order.
        let wire = Wire::answering([ok(&json!({"actionExecutionDetails": actions})), ok(&details)]);
        let failed = why_failed(&Client::new(&wire.config()), "shop", "e").await.unwrap();
        assert_eq!(failed, Failed { place, reason: reason.map(ToOwned::to_owned), commit: commit.clone() });
        let requests = wire.requests();
        assert_eq!(requests[0].json(), json!({"pipelineName": "shop", "filter": {"pipelineExecutionId": "e"}}));
        assert_eq!(requests[1].json(), json!({"pipelineName": "shop", "pipelineExecutionId": "e"}));
    }
}

#[tokio::test]
async fn where_codepipeline_does_not_say_why_it_is_asked_again() {
    let wire = Wire::answering([refused("ThrottlingException"), ok(&json!({}))]);
    let error = why_failed(&Client::new(&wire.config()), "shop", "e").await.unwrap_err();
    assert!(error.throttled);
    assert_eq!(error.to_string(), "CodePipeline did not say why execution e of shop failed");
}

#[tokio::test]
async fn a_notice_on_the_wire() {
    let answer = "<PublishResponse><PublishResult><MessageId>1</MessageId></PublishResult></PublishResponse>";
    let wire = Wire::answering([Answer::Http(200, answer.to_owned()), Answer::Http(500, String::new())]);
    let client = aws_sdk_sns::Client::new(&wire.config());
    let notice =
        Notice { title: "Pipeline shop failed".to_owned(), lines: vec!["Why: x & y".to_owned()], ..Notice::default() };
    tell(&client, TOPIC, &notice).await.unwrap();
    let error = tell(&client, TOPIC, &notice).await.unwrap_err();
    assert_eq!((error.to_string().as_str(), error.throttled), ("SNS did not take a notice", false));
    let body = &wire.requests()[0].body;
    assert!(body.starts_with("Action=Publish&Version=2010-03-31&TopicArn=arn%3Aaws%3Asns%3Aap-northeast-1%3A222222222222%3Asekisho-notices&Message="));
    assert!(body.ends_with("&Subject=Pipeline%20shop%20failed&MessageStructure=json"), "{body}");
    assert!(body.contains("Why%3A%20x%20%26%20y"), "for mail, as it is: {body}");
}

/// Who is refused for good would ask for ever, and nobody would be told.
#[tokio::test]
async fn a_failure_is_told_also_where_codepipeline_refuses_to_say_why() {
    let details = json!({"pipelineExecution": {"pipelineName": "shop", "artifactRevisions": [
        {"name": "Templates", "revisionId": "an-object-version"}, {"name": "Source", "revisionId": COMMIT}]}});
    let wire = Wire::answering([refused("AccessDeniedException"), ok(&details)]);
    let failed = why_failed(&Client::new(&wire.config()), "shop", "e").await.unwrap();
    assert_eq!((failed.place, failed.commit.as_deref()), (None, Some(COMMIT)));
    assert!(failed.reason.unwrap().starts_with("not known (AccessDeniedException"));
    let wire = Wire::answering([
        ok(&json!({"actionExecutionDetails": [action("Failed", &json!({}))]})),
        refused("AccessDeniedException"),
    ]);
    let failed = why_failed(&Client::new(&wire.config()), "shop", "e").await.unwrap();
    assert_eq!((failed.place.as_deref(), failed.commit), (Some("Build / Compile"), None));
}

#[tokio::test]
async fn the_commit_told_is_the_codecommit_sources() {
    let source = json!({"pipelineExecutionId": "e", "actionExecutionId": "s", "stageName": "Source", "actionName": "Source",
        "status": "Succeeded", "output": {"executionResult": {"externalExecutionId": COMMIT}},
        "input": {"actionTypeId": {"category": "Source", "owner": "AWS", "provider": "CodeCommit", "version": "1"}}});
    let details = json!({"pipelineExecution": {"artifactRevisions": [{"name": "Other", "revisionId": OTHER}]}});
    let wire =
        Wire::answering([ok(&json!({"actionExecutionDetails": [action("Failed", &json!({})), source]})), ok(&details)]);
    let failed = why_failed(&Client::new(&wire.config()), "shop", "e").await.unwrap();
    assert_eq!(failed.commit.as_deref(), Some(COMMIT));
}

#[tokio::test]
async fn an_execution_that_was_not_started_by_a_call_is_not_the_lost_start() {
    let since = datetime!(2026-11-21 12:00 UTC);
    #[expect(clippy::cast_precision_loss, reason = "seconds of this century fit")]
    let at = since.unix_timestamp() as f64;
    for (kind, expected) in [("StartPipelineExecution", Some("mine")), ("Webhook", None), ("CloudWatchEvent", None)] {
        let mut summary = execution("mine", at + 1.0, COMMIT);
        summary["trigger"] = json!({"triggerType": kind});
        let wire = Wire::answering([ok(&json!({"pipelineExecutionSummaries": [summary]}))]);
        let found = find(&Client::new(&wire.config()), "shop", &COMMIT.parse().unwrap(), since).await.unwrap();
        assert_eq!(found.as_deref(), expected, "{kind}");
    }
}
