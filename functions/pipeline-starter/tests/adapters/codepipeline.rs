use aws_sdk_codepipeline::Client;
use aws_sdk_codepipeline::config::retry::RetryConfig;
use pipeline_starter::aws::codepipeline::{
    begun_actions, categories, execution_revisions, execution_status, executions, failure_details, start, stop,
};
use pipeline_starter::world::{
    ActionCategory, ExecutionPage, ExecutionStatus, FailureDetails, ListedExecution, ListedRevision, PipelineStart,
    StartAnswer, Stop,
};
use sekisho_domain::change::Revision;
use sekisho_domain::route::PipelineName;
use sekisho_testing::wire::{Answer, Wire, ok, refused};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::datetime;

const COMMIT: &str = "1f0c2a9be4d5760f8c3b7a6e5d4c3b2a19080706";
const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const OTHER_COMMIT: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567";
const SINCE: OffsetDateTime = datetime!(2026-11-21 12:00 UTC);

fn shop() -> PipelineName {
    "shop".parse().unwrap()
}

fn start_of_shop() -> PipelineStart {
    PipelineStart {
        pipeline: shop(),
        pins: [("Image", DIGEST), ("Source", COMMIT)]
            .map(|(action, revision)| (action.parse().unwrap(), revision.parse().unwrap()))
            .into(),
        variables: [("BRANCH", "main"), ("TAG", "none")].map(|(name, value)| (name.into(), value.into())).into(),
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
    let revision = |action: &str, kind: &str, value: &str| {
        format!(r#"{{"actionName":"{action}","revisionType":"{kind}","revisionValue":"{value}"}}"#)
    };
    assert_eq!(
        requests[0].body,
        format!(
            r#"{{"name":"shop","variables":[{},{}],"clientRequestToken":"{}","sourceRevisions":[{},{}]}}"#,
            r#"{"name":"BRANCH","value":"main"}"#,
            r#"{"name":"TAG","value":"none"}"#,
            "0f".repeat(32),
            revision("Image", "IMAGE_DIGEST", DIGEST),
            revision("Source", "COMMIT_ID", COMMIT)
        )
    );
}

#[tokio::test]
async fn each_error_of_a_start_has_its_meaning() {
    let deferred = |text: &str| StartAnswer::Deferred(format!("{text}: as it is"));
    let cases = [
        (refused("ConflictException"), deferred("ConflictException")),
        (
            refused("ConcurrentPipelineExecutionsLimitExceededException"),
            deferred("ConcurrentPipelineExecutionsLimitExceededException"),
        ),
        (refused("ThrottlingException"), deferred("ThrottlingException")),
        (refused("TooManyRequestsException"), deferred("TooManyRequestsException")),
        (Answer::Http(500, String::new()), StartAnswer::Unanswered(String::new())),
        (Answer::Http(503, String::new()), StartAnswer::Unanswered(String::new())),
        (
            Answer::Http(503, r#"{"__type":"ThrottlingException","message":"as it is"}"#.to_owned()),
            StartAnswer::Unanswered("ThrottlingException".to_owned()),
        ),
        (Answer::TimedOut, StartAnswer::Unanswered("no answer in time".to_owned())),
        (Answer::Http(200, "{}".to_owned()), StartAnswer::Unanswered("no execution id".to_owned())),
        (refused("PipelineNotFoundException"), StartAnswer::Rejected("PipelineNotFoundException".to_owned())),
        (refused("ValidationException"), StartAnswer::Rejected("ValidationException: as it is".to_owned())),
        (refused("AccessDeniedException"), StartAnswer::Rejected("AccessDeniedException".to_owned())),
    ];
    for (answer, expected) in cases {
        let wire = Wire::answering([answer.clone()]);
        match (start(&Client::new(&wire.config()), &start_of_shop()).await, expected) {
            (StartAnswer::Deferred(reason), StartAnswer::Deferred(text))
            | (StartAnswer::Unanswered(reason), StartAnswer::Unanswered(text))
            | (StartAnswer::Rejected(reason), StartAnswer::Rejected(text)) => {
                assert!(reason.contains(&text), "{answer:?}: {reason}");
            }
            (found, expected) => panic!("{answer:?}: {found:?} instead of {expected:?}"),
        }
    }
}

/// After an attempt without an answer, the answer to a repetition would say nothing about the first attempt.
#[tokio::test]
async fn the_sdk_never_repeats_a_start() {
    let wire = Wire::answering([Answer::TimedOut]);
    let retrying = wire.config().into_builder().retry_config(RetryConfig::standard().with_max_attempts(3)).build();
    let answer = start(&Client::new(&retrying), &start_of_shop()).await;
    assert!(matches!(answer, StartAnswer::Unanswered(_)), "{answer:?}");
    assert_eq!(wire.requests().len(), 1);
}

#[tokio::test]
async fn executions_are_listed_page_by_page() {
    let start_time = SINCE.unix_timestamp();
    let summaries = json!([
        {"pipelineExecutionId": "new", "status": "InProgress", "startTime": start_time},
        {"pipelineExecutionId": "old", "status": "Cancelled", "startTime": start_time,
         "lastUpdateTime": start_time + 540,
         "sourceRevisions": [{"actionName": "Source", "revisionId": COMMIT}],
         "trigger": {"triggerType": "Webhook"}},
    ]);
    let wire = Wire::answering([
        ok(&json!({"pipelineExecutionSummaries": summaries, "nextToken": "more"})),
        ok(&json!({"pipelineExecutionSummaries": []})),
    ]);
    let client = Client::new(&wire.config());
    let listed = |id: &str, status, revisions: &[&str], is_by_call| ListedExecution {
        id: id.to_owned(),
        status,
        started: Some(SINCE),
        updated: (id == "old").then_some(SINCE + time::Duration::minutes(9)),
        revisions: revisions
            .iter()
            .map(|revision| ListedRevision { action: "Source".to_owned(), revision: (*revision).to_owned() })
            .collect(),
        is_by_call,
    };
    let first = executions(&client, &shop(), None).await.unwrap();
    let expected = ExecutionPage {
        executions: vec![
            listed("new", ExecutionStatus::Running, &[], true),
            listed("old", ExecutionStatus::Canceled, &[COMMIT], false),
        ],
        next: Some("more".to_owned()),
    };
    assert_eq!(first, expected);
    assert_eq!(executions(&client, &shop(), first.next).await.unwrap(), ExecutionPage::default());
    let requests = wire.requests();
    assert_eq!(requests[0].json(), json!({"pipelineName": "shop", "maxResults": 100}));
    assert_eq!(requests[1].json(), json!({"pipelineName": "shop", "maxResults": 100, "nextToken": "more"}));
}

#[tokio::test]
async fn a_missing_pipeline_has_no_executions_and_a_list_without_an_answer_is_an_error() {
    let wire =
        Wire::answering([refused("PipelineNotFoundException"), refused("ThrottlingException"), Answer::TimedOut]);
    let client = Client::new(&wire.config());
    assert_eq!(executions(&client, &shop(), None).await.unwrap(), ExecutionPage::default());
    for throttled in [true, false] {
        assert_eq!(executions(&client, &shop(), None).await.unwrap_err().is_throttled(), throttled);
    }
}

#[tokio::test]
async fn each_status_of_an_execution_has_its_meaning() {
    let cases = [
        ("InProgress", ExecutionStatus::Running),
        ("Stopping", ExecutionStatus::Running),
        ("Succeeded", ExecutionStatus::Succeeded),
        ("Failed", ExecutionStatus::Failed),
        ("Stopped", ExecutionStatus::Stopped),
        ("Superseded", ExecutionStatus::Superseded),
        ("Cancelled", ExecutionStatus::Canceled),
        ("ANewStatus", ExecutionStatus::Running),
    ];
    for (name, expected) in cases {
        let wire = Wire::answering([ok(&json!({"pipelineExecution": {"pipelineName": "shop", "status": name}}))]);
        let found = execution_status(&Client::new(&wire.config()), &shop(), "e").await.unwrap();
        assert_eq!(found, Some(expected), "{name}");
        assert_eq!(wire.requests()[0].json(), json!({"pipelineName": "shop", "pipelineExecutionId": "e"}));
    }
    for code in ["PipelineExecutionNotFoundException", "PipelineNotFoundException"] {
        let wire = Wire::answering([refused(code)]);
        assert_eq!(execution_status(&Client::new(&wire.config()), &shop(), "e").await.unwrap(), None);
    }
    let wire = Wire::answering([refused("AccessDeniedException")]);
    assert!(execution_status(&Client::new(&wire.config()), &shop(), "e").await.is_err());
}

/// An action as `ListActionExecutions` lists it.
fn action(status: &str, result: &Value) -> Value {
    json!({"pipelineExecutionId": "e", "actionExecutionId": "a", "stageName": "Build", "actionName": "Compile",
           "status": status, "output": {"executionResult": result}})
}

fn texts(revisions: &[Revision]) -> Vec<&str> {
    revisions.iter().map(Revision::as_str).collect()
}

/// An execution as `GetPipelineExecution` describes it, with these source revisions.
fn revisions(revisions: &[(&str, &str)]) -> Answer {
    let revisions = revisions.iter().map(|(name, id)| json!({"name": name, "revisionId": id}));
    ok(&json!({"pipelineExecution": {"pipelineName": "shop", "artifactRevisions": revisions.collect::<Vec<_>>()}}))
}

#[tokio::test]
async fn the_details_of_a_failure_are_the_failed_actions() {
    let place = Some("Build / Compile".to_owned());
    let commits = vec![COMMIT.parse().unwrap()];
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
        let reason = reason.map(ToOwned::to_owned);
        assert_eq!(details, FailureDetails { place, reason, revisions: commits.clone(), is_in_source: false });
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
    assert_eq!((details.place, texts(&details.revisions)), (None, vec![COMMIT]));
    assert!(details.reason.unwrap().contains("AccessDeniedException"));
    let wire = Wire::answering([
        ok(&json!({"actionExecutionDetails": [action("Failed", &json!({}))]})),
        refused("AccessDeniedException"),
    ]);
    let details = failure_details(&Client::new(&wire.config()), "shop", "e").await.unwrap();
    assert_eq!((details.place.as_deref(), texts(&details.revisions)), (Some("Build / Compile"), vec![]));
}

#[tokio::test]
async fn a_failure_of_a_source_action_is_told_apart() {
    for (category, provider, is_in_source) in
        [("Source", "CodeCommit", true), ("Source", "ECR", true), ("Build", "CodeBuild", false)]
    {
        let mut failed = action("Failed", &json!({}));
        let kind = json!({"category": category, "owner": "AWS", "provider": provider, "version": "1"});
        failed["input"] = json!({"actionTypeId": kind});
        let wire = Wire::answering([ok(&json!({"actionExecutionDetails": [failed]})), revisions(&[])]);
        let details = failure_details(&Client::new(&wire.config()), "shop", "e").await.unwrap();
        assert_eq!(details.is_in_source, is_in_source, "{category}");
    }
}

#[tokio::test]
async fn the_commit_of_a_codecommit_source_comes_before_other_revisions() {
    let source = json!({"pipelineExecutionId": "e", "actionExecutionId": "s", "stageName": "Source",
        "actionName": "Source", "status": "Succeeded", "output": {"executionResult": {"externalExecutionId": COMMIT}},
        "input": {"actionTypeId": {"category": "Source", "owner": "AWS", "provider": "CodeCommit", "version": "1"}}});
    let actions = ok(&json!({"actionExecutionDetails": [action("Failed", &json!({})), source]}));
    let wire = Wire::answering([actions, revisions(&[("Other", OTHER_COMMIT)])]);
    let details = failure_details(&Client::new(&wire.config()), "shop", "e").await.unwrap();
    assert_eq!(texts(&details.revisions), [COMMIT, OTHER_COMMIT]);
}

#[tokio::test]
async fn the_revisions_of_an_execution_are_its_commits_and_images() {
    let cases = [
        (revisions(&[("Files", "an-object-version"), ("Source", COMMIT), ("Image", DIGEST)]), vec![COMMIT, DIGEST]),
        (revisions(&[]), vec![]),
        (refused("AccessDeniedException"), vec![]),
    ];
    for (answer, expected) in cases {
        let wire = Wire::answering([answer]);
        let found = execution_revisions(&Client::new(&wire.config()), "shop", "e").await.unwrap();
        assert_eq!(texts(&found), expected);
        assert_eq!(wire.requests()[0].json(), json!({"pipelineName": "shop", "pipelineExecutionId": "e"}));
    }
    let wire = Wire::answering([refused("ThrottlingException")]);
    assert!(execution_revisions(&Client::new(&wire.config()), "shop", "e").await.unwrap_err().is_throttled());
}

/// An action of an execution with a category, as `ListActionExecutions` lists it.
fn begun(category: &str, status: &str) -> Value {
    let kind = json!({"category": category, "owner": "AWS", "provider": "P", "version": "1"});
    json!({"pipelineExecutionId": "e", "actionExecutionId": "a", "status": status, "input": {"actionTypeId": kind}})
}

#[tokio::test]
async fn the_actions_of_an_execution_are_read_page_by_page_with_their_categories() {
    let wire = Wire::answering([
        ok(&json!({"actionExecutionDetails": [begun("Approval", "InProgress"), begun("Compute", "Succeeded")],
                   "nextToken": "more"})),
        ok(&json!({"actionExecutionDetails": [begun("Deploy", "Failed"), begun("Test", "Abandoned")]})),
    ]);
    let actions = begun_actions(&Client::new(&wire.config()), &shop(), "e").await.unwrap();
    let found: Vec<_> = actions.iter().map(|action| (action.category, action.is_in_progress)).collect();
    let expected = [
        (ActionCategory::Approval, true),
        (ActionCategory::Build, false),
        (ActionCategory::Deploy, false),
        (ActionCategory::Other, false),
    ];
    assert_eq!(found, expected);
    let filter = json!({"pipelineExecutionId": "e"});
    let requests = wire.requests();
    assert_eq!(requests[0].json(), json!({"pipelineName": "shop", "filter": filter}));
    assert_eq!(requests[1].json(), json!({"pipelineName": "shop", "filter": filter, "nextToken": "more"}));
}

#[tokio::test]
async fn the_categories_of_a_pipeline_are_those_of_all_its_stages() {
    let action = |name: &str, category: &str| {
        let kind = json!({"category": category, "owner": "AWS", "provider": "P", "version": "1"});
        json!({"name": name, "actionTypeId": kind})
    };
    let stages = json!([
        {"name": "Source", "actions": [action("Source", "Source")]},
        {"name": "Run", "actions": [action("Build", "Build"), action("Call", "Invoke"), action("Ask", "Approval")]},
    ]);
    let wire = Wire::answering([ok(&json!({"pipeline": {"name": "shop", "roleArn": "r", "stages": stages}}))]);
    let found = categories(&Client::new(&wire.config()), &shop()).await.unwrap();
    let expected = [ActionCategory::Source, ActionCategory::Build, ActionCategory::Invoke, ActionCategory::Approval];
    assert_eq!(found, expected);
    assert_eq!(wire.requests()[0].json(), json!({"name": "shop"}));
}

#[tokio::test]
async fn a_stop_abandons_only_an_approval_and_an_execution_that_has_ended_is_no_error() {
    for (how, abandon) in [(Stop::AbandonApproval, true), (Stop::BeforeNextAction, false)] {
        let wire = Wire::answering([ok(&json!({"pipelineExecutionId": "e"}))]);
        stop(&Client::new(&wire.config()), &shop(), "e", how).await.unwrap();
        let request = &wire.requests()[0];
        assert_eq!(request.operation, "StopPipelineExecution");
        let expected = json!({"pipelineName": "shop", "pipelineExecutionId": "e", "abandon": abandon,
                              "reason": "Sekisho takes the change back"});
        assert_eq!(request.json(), expected);
    }
    for code in ["PipelineExecutionNotStoppableException", "DuplicatedStopRequestException"] {
        let wire = Wire::answering([refused(code)]);
        assert!(stop(&Client::new(&wire.config()), &shop(), "e", Stop::BeforeNextAction).await.is_ok(), "{code}");
    }
    let wire = Wire::answering([refused("AccessDeniedException")]);
    assert!(stop(&Client::new(&wire.config()), &shop(), "e", Stop::BeforeNextAction).await.unwrap_err().is_refused());
}

#[tokio::test]
async fn what_does_not_exist_has_no_actions_and_a_call_without_an_answer_is_an_error() {
    let wire = Wire::answering([
        refused("PipelineExecutionNotFoundException"),
        refused("PipelineNotFoundException"),
        Answer::TimedOut,
        Answer::TimedOut,
    ]);
    let client = Client::new(&wire.config());
    assert_eq!(begun_actions(&client, &shop(), "e").await.unwrap(), []);
    assert_eq!(categories(&client, &shop()).await.unwrap(), []);
    assert!(begun_actions(&client, &shop(), "e").await.is_err() && categories(&client, &shop()).await.is_err());
}
