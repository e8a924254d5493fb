use aws_sdk_codepipeline::Client;
use pipeline_starter::aws::codepipeline::{execution_commit, failure_details, find_execution, start};
use pipeline_starter::world::{FailureDetails, PipelineStart, StartAnswer};
use sekisho_domain::route::PipelineName;
use sekisho_testing::wire::{Answer, Wire, ok, refused};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::datetime;

const COMMIT: &str = "1f0c2a9be4d5760f8c3b7a6e5d4c3b2a19080706";
const OTHER_COMMIT: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567";
const SINCE: OffsetDateTime = datetime!(2026-11-21 12:00 UTC);

fn shop() -> PipelineName {
    "shop".parse().unwrap()
}

fn start_of_shop() -> PipelineStart {
    PipelineStart {
        pipeline: shop(),
        actions: vec!["Source".parse().unwrap(), "Templates".parse().unwrap()],
        commit: COMMIT.parse().unwrap(),
        token: "0f".repeat(32),
    }
}

#[tokio::test]
async fn a_start_and_its_answer_byte_for_byte() {
    let answer = r#"{"pipelineExecutionId":"a6c6b8f2-0f0f-4f53-9c1e-1d2c3b4a5968"}"#;
    let wire = Wire::answering([Answer::Http(200, answer.to_owned())]);
    let answer = start(&Client::new(&wire.config()), &start_of_shop()).await;
    assert_eq!(answer, StartAnswer::Started("a6c6b8f2-0f0f-4f53-9c1e-1d2c3b4a5968".to_owned()));
    let requests = wire.requests();
    assert_eq!(requests[0].operation, "StartPipelineExecution");
    let revision =
        |action: &str| format!(r#"{{"actionName":"{action}","revisionType":"COMMIT_ID","revisionValue":"{COMMIT}"}}"#);
    assert_eq!(
        requests[0].body,
        format!(
            r#"{{"name":"shop","clientRequestToken":"{}","sourceRevisions":[{},{}]}}"#,
            "0f".repeat(32),
            revision("Source"),
            revision("Templates")
        )
    );
}

#[tokio::test]
async fn errors_that_pass_defer_a_start_and_other_errors_reject_it() {
    let cases = [
        (refused("ConflictException"), true, "ConflictException: as it is"),
        (refused("ConcurrentPipelineExecutionsLimitExceededException"), true, "ConcurrentPipelineExecutionsLimit"),
        (refused("ThrottlingException"), true, "ThrottlingException"),
        (refused("TooManyRequestsException"), true, "TooManyRequests"),
        (Answer::Http(500, String::new()), true, ""),
        (Answer::Http(503, String::new()), true, ""),
        (Answer::TimedOut, true, "no answer in time"),
        (refused("PipelineNotFoundException"), false, "PipelineNotFoundException"),
        (refused("ValidationException"), false, "ValidationException: as it is"),
        (refused("AccessDeniedException"), false, "AccessDeniedException"),
    ];
    for (answer, passes, text) in cases {
        let wire = Wire::answering([answer.clone()]);
        match start(&Client::new(&wire.config()), &start_of_shop()).await {
            StartAnswer::Deferred(reason) if passes => assert!(reason.contains(text), "{reason}"),
            StartAnswer::Rejected(reason) if !passes => assert!(reason.contains(text), "{reason}"),
            other => panic!("{answer:?}: {other:?}"),
        }
    }
}

/// An execution as `ListPipelineExecutions` lists it, started this many `seconds` after [`SINCE`].
fn execution(id: &str, seconds: f64, commit: &str) -> Value {
    #[expect(clippy::cast_precision_loss, reason = "the seconds of this century fit")]
    let start_time = SINCE.unix_timestamp() as f64 + seconds;
    json!({"pipelineExecutionId": id, "status": "InProgress", "startTime": start_time,
           "sourceRevisions": [{"actionName": "Source", "revisionId": commit}]})
}

#[tokio::test]
async fn a_lost_start_is_found_by_its_commit_and_only_after_the_claim() {
    let cases = [
        (vec![execution("other", 9.0, OTHER_COMMIT), execution("ours", 2.5, COMMIT)], Some("ours")),
        (vec![execution("latest", 9.0, COMMIT), execution("earlier", 1.0, COMMIT)], Some("latest")),
        (vec![execution("before-the-claim", -1.0, COMMIT)], None),
        (vec![execution("other", 1.0, OTHER_COMMIT)], None),
        (vec![], None),
    ];
    for (summaries, expected) in cases {
        let wire = Wire::answering([ok(&json!({"pipelineExecutionSummaries": summaries}))]);
        let client = Client::new(&wire.config());
        let found = find_execution(&client, &shop(), &COMMIT.parse().unwrap(), SINCE).await.unwrap();
        assert_eq!(found.as_deref(), expected);
        assert_eq!(wire.requests()[0].json(), json!({"pipelineName": "shop", "maxResults": 100}));
    }
}

#[tokio::test]
async fn an_execution_that_another_trigger_started_is_not_the_lost_start() {
    for (trigger, expected) in [("StartPipelineExecution", Some("e")), ("Webhook", None), ("CloudWatchEvent", None)] {
        let mut summary = execution("e", 1.0, COMMIT);
        summary["trigger"] = json!({"triggerType": trigger});
        let wire = Wire::answering([ok(&json!({"pipelineExecutionSummaries": [summary]}))]);
        let client = Client::new(&wire.config());
        let found = find_execution(&client, &shop(), &COMMIT.parse().unwrap(), SINCE).await.unwrap();
        assert_eq!(found.as_deref(), expected, "{trigger}");
    }
}

#[tokio::test]
async fn a_search_finds_nothing_in_a_missing_pipeline_and_fails_without_an_answer() {
    let wire =
        Wire::answering([refused("PipelineNotFoundException"), refused("ThrottlingException"), Answer::TimedOut]);
    let client = Client::new(&wire.config());
    let commit = COMMIT.parse().unwrap();
    assert_eq!(find_execution(&client, &shop(), &commit, SINCE).await.unwrap(), None);
    for throttled in [true, false] {
        let error = find_execution(&client, &shop(), &commit, SINCE).await.unwrap_err();
        assert_eq!(error.is_throttled(), throttled);
    }
}

/// An action as `ListActionExecutions` lists it.
fn action(status: &str, result: &Value) -> Value {
    json!({"pipelineExecutionId": "e", "actionExecutionId": "a", "stageName": "Build", "actionName": "Compile",
           "status": status, "output": {"executionResult": result}})
}

/// An execution as `GetPipelineExecution` describes it, with these source revisions.
fn revisions(revisions: &[(&str, &str)]) -> Answer {
    let revisions = revisions.iter().map(|(name, id)| json!({"name": name, "revisionId": id}));
    ok(&json!({"pipelineExecution": {"pipelineName": "shop", "artifactRevisions": revisions.collect::<Vec<_>>()}}))
}

#[tokio::test]
async fn the_details_of_a_failure_are_the_failed_actions() {
    let place = Some("Build / Compile".to_owned());
    let commit = Some(COMMIT.to_owned());
    let error = json!({"errorDetails": {"code": "JobFailed", "message": "exit status 1"},
                       "externalExecutionSummary": "summary"});
    let cases = [
        (json!([action("Succeeded", &json!({})), action("Failed", &error)]), place.clone(), Some("exit status 1")),
        (json!([action("Failed", &json!({"externalExecutionSummary": "summary"}))]), place.clone(), Some("summary")),
        (json!([action("Failed", &json!({}))]), place, None),
        (json!([]), None, None),
    ];
    for (actions, place, reason) in cases {
        // The function makes the two calls at the same time, and the requests arrive in this order.
        let wire = Wire::answering([ok(&json!({"actionExecutionDetails": actions})), revisions(&[("Source", COMMIT)])]);
        let details = failure_details(&Client::new(&wire.config()), "shop", "e").await.unwrap();
        assert_eq!(details, FailureDetails { place, reason: reason.map(ToOwned::to_owned), commit: commit.clone() });
        let requests = wire.requests();
        assert_eq!(requests[0].json(), json!({"pipelineName": "shop", "filter": {"pipelineExecutionId": "e"}}));
        assert_eq!(requests[1].json(), json!({"pipelineName": "shop", "pipelineExecutionId": "e"}));
    }
}

#[tokio::test]
async fn the_details_of_a_failure_are_read_again_after_throttling() {
    let wire = Wire::answering([refused("ThrottlingException"), ok(&json!({}))]);
    let error = failure_details(&Client::new(&wire.config()), "shop", "e").await.unwrap_err();
    assert!(error.is_throttled());
}

/// If a refused call were an error, every retry would be refused too, and no notice would ever be sent.
#[tokio::test]
async fn a_refused_call_leaves_its_details_out() {
    let both = [("Templates", "an-object-version"), ("Source", COMMIT)];
    let wire = Wire::answering([refused("AccessDeniedException"), revisions(&both)]);
    let details = failure_details(&Client::new(&wire.config()), "shop", "e").await.unwrap();
    assert_eq!((details.place, details.commit.as_deref()), (None, Some(COMMIT)));
    assert!(details.reason.unwrap().contains("AccessDeniedException"));
    let wire = Wire::answering([
        ok(&json!({"actionExecutionDetails": [action("Failed", &json!({}))]})),
        refused("AccessDeniedException"),
    ]);
    let details = failure_details(&Client::new(&wire.config()), "shop", "e").await.unwrap();
    assert_eq!((details.place.as_deref(), details.commit), (Some("Build / Compile"), None));
}

#[tokio::test]
async fn the_commit_of_a_codecommit_source_comes_before_other_revisions() {
    let source = json!({"pipelineExecutionId": "e", "actionExecutionId": "s", "stageName": "Source",
        "actionName": "Source", "status": "Succeeded", "output": {"executionResult": {"externalExecutionId": COMMIT}},
        "input": {"actionTypeId": {"category": "Source", "owner": "AWS", "provider": "CodeCommit", "version": "1"}}});
    let actions = ok(&json!({"actionExecutionDetails": [action("Failed", &json!({})), source]}));
    let wire = Wire::answering([actions, revisions(&[("Other", OTHER_COMMIT)])]);
    let details = failure_details(&Client::new(&wire.config()), "shop", "e").await.unwrap();
    assert_eq!(details.commit.as_deref(), Some(COMMIT));
}

#[tokio::test]
async fn the_commit_of_an_execution_is_the_first_revision_that_is_one() {
    let cases = [
        (revisions(&[("Templates", "an-object-version"), ("Source", COMMIT)]), Some(COMMIT)),
        (revisions(&[]), None),
        (refused("AccessDeniedException"), None),
    ];
    for (answer, commit) in cases {
        let wire = Wire::answering([answer]);
        let found = execution_commit(&Client::new(&wire.config()), "shop", "e").await.unwrap();
        assert_eq!(found.as_deref(), commit);
        assert_eq!(wire.requests()[0].json(), json!({"pipelineName": "shop", "pipelineExecutionId": "e"}));
    }
    let wire = Wire::answering([refused("ThrottlingException")]);
    assert!(execution_commit(&Client::new(&wire.config()), "shop", "e").await.unwrap_err().is_throttled());
}
