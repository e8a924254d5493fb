//! Events about an action that waits for an approval. The function sends one notice for each run of the action.

use pipeline_starter::Outcome::{Duplicate, Waiting};
use sekisho_domain::notice::Notice;
use sekisho_lambda::Failure;

use crate::function::{Function, file};

#[tokio::test(start_paused = true)]
async fn an_approval_sends_one_notice_with_pipeline_place_commit_and_link() {
    let function = Function::new();
    assert_eq!(function.decide(&file("approval-waits")).await.outcome, Waiting);
    assert_eq!(function.decide(&file("approval-waits")).await.outcome, Duplicate);
    let link = "https://ap-northeast-1.console.aws.amazon.com/codesuite/codepipeline/pipelines/shop/view\
                ?region=ap-northeast-1";
    let expected = Notice {
        title: "Pipeline shop waits for approval in 222222222222, ap-northeast-1".to_owned(),
        lines: ["Where: Deploy / Approval", "Commit: 1f0c2a9be4d5760f8c3b7a6e5d4c3b2a19080706"]
            .map(str::to_owned)
            .to_vec(),
        link: Some(("Review and answer".to_owned(), link.to_owned())),
        ..Notice::default()
    };
    assert_eq!(function.world().notices.take(), [expected]);
}

#[tokio::test(start_paused = true)]
async fn the_outcome_of_an_approval_is_recorded() {
    let function = Function::new();
    function.decide(&file("approval-waits")).await;
    assert_eq!(function.recorded_decisions()[0]["outcome"], "waiting");
}

/// If a person retries a stage, the execution keeps its id, but the action waits for a new approval.
#[tokio::test(start_paused = true)]
async fn a_retried_stage_sends_another_notice() {
    let function = Function::new();
    let event = file("approval-waits");
    assert_eq!(function.decide(&event).await.outcome, Waiting);
    let retried = event.replace("7d1f9c24-6f0e-4b8e-9f43-5b0a2c6d7e81", "1e5b8d07-3c9a-4f62-8a14-9d7c0b6f2e53");
    assert_eq!(function.decide(&retried).await.outcome, Waiting);
    assert_eq!(function.world().notices.borrow().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_event_without_the_id_of_the_run_sends_one_notice() {
    let function = Function::new();
    let event = file("approval-waits").replace("action-execution-id", "another-field");
    assert_eq!(function.decide(&event).await.outcome, Waiting);
    assert_eq!(function.decide(&event).await.outcome, Duplicate);
    let other = event.replace("\"Approval\",\n    \"another", "\"Review\",\n    \"another");
    assert_eq!(function.decide(&other).await.outcome, Waiting);
}

#[tokio::test(start_paused = true)]
async fn a_notice_that_could_not_be_sent_is_sent_by_the_retry() {
    let function = Function::new();
    function.world().topic_is_down.set(true);
    let error = function.handle(&file("approval-waits")).await.unwrap_err();
    assert_eq!(error.error_type().name(), "Throttled");
    function.world().topic_is_down.set(false);
    assert_eq!(function.decide(&file("approval-waits")).await.outcome, Waiting);
    assert_eq!(function.world().notices.borrow().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_approval_that_was_announced_is_explained_as_a_duplicate() {
    let function = Function::new();
    let explain = format!(r#"{{"action":"explain","event":{}}}"#, file("approval-waits"));
    assert_eq!(function.decide(&explain).await.outcome, Waiting);
    function.decide(&file("approval-waits")).await;
    assert_eq!(function.decide(&explain).await.outcome, Duplicate);
    assert_eq!(function.world().notices.borrow().len(), 1);
}
