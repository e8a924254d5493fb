//! Events about the end of an execution. The function sends one notice about a failure, and starts changes that wait
//! for the pipeline.

use std::time::Duration;

use pipeline_starter::Outcome::{Duplicate, ExecutionFailed, Failed, Filtered, Ignored, Started};
use pipeline_starter::claim::{self, Progress};
use pipeline_starter::world::{FailureDetails, StartAnswer};
use sekisho_domain::change::Change;
use sekisho_domain::notice::Notice;
use sekisho_lambda::Failure;
use sekisho_ledger::{Key, Store};
use serde_json::json;

use crate::function::{Function, NO_CALLS, PIPELINE_IS_FULL, START, change, claimed, event, file, shop};

fn waiting() -> Progress {
    Progress::Waiting(PIPELINE_IS_FULL.to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_failure_sends_one_notice_with_pipeline_stage_reason_commit_and_link() {
    let function = Function::new();
    assert_eq!(function.decide(&file("pipeline-failed")).await.outcome, ExecutionFailed);
    assert_eq!(function.decide(&file("pipeline-failed")).await.outcome, Duplicate);
    let link = "https://ap-northeast-1.console.aws.amazon.com/codesuite/codepipeline/pipelines/shop/executions/\
                a6c6b8f2-0f0f-4f53-9c1e-1d2c3b4a5968/timeline?region=ap-northeast-1";
    let expected = Notice {
        title: "Pipeline shop failed in 222222222222, ap-northeast-1".to_owned(),
        lines: ["Where: Build / Build", "Why: exit status 1", "Commit: 1f0c2a9be4d5760f8c3b7a6e5d4c3b2a19080706"]
            .map(str::to_owned)
            .to_vec(),
        link: Some(("Execution".to_owned(), link.to_owned())),
        ..Notice::default()
    };
    assert_eq!(function.world().notices.take(), [expected]);
}

#[tokio::test(start_paused = true)]
async fn the_outcome_of_a_failed_execution_is_recorded_in_kebab_case() {
    let function = Function::new();
    function.decide(&file("pipeline-failed")).await;
    assert_eq!(function.recorded_decisions()[0]["outcome"], "execution-failed");
}

#[tokio::test(start_paused = true)]
async fn a_failure_without_details_sends_a_notice_too() {
    let function = Function::new();
    function.world().failure.replace(FailureDetails::default());
    assert_eq!(function.decide(&file("pipeline-failed")).await.outcome, ExecutionFailed);
    let lines = function.world().notices.borrow()[0].lines.clone();
    assert_eq!(lines, ["Where: not known", "Why: not known", "Commit: not known"]);
}

#[tokio::test(start_paused = true)]
async fn a_notice_that_could_not_be_sent_is_sent_by_the_retry() {
    let function = Function::new();
    function.world().topic_is_down.set(true);
    let error = function.handle(&file("pipeline-failed")).await.unwrap_err();
    assert_eq!(error.error_type().name(), "Throttled");
    function.world().topic_is_down.set(false);
    assert_eq!(function.decide(&file("pipeline-failed")).await.outcome, ExecutionFailed);
    assert_eq!(function.world().notices.borrow().len(), 1);
}

/// A pipeline that was full gets the newest change when it has room. The older change is stale.
#[tokio::test(start_paused = true)]
async fn a_full_pipeline_gets_the_newest_change_when_an_execution_ends() {
    let function = Function::new();
    function.answer_starts(|_| StartAnswer::Deferred(PIPELINE_IS_FULL.to_owned()));
    for later in [1, 2] {
        assert!(function.handle(&event(change(later), &["shop"])).await.is_err());
    }
    function.answer_starts(|_| StartAnswer::Started("e".to_owned()));
    function.take_calls();
    let decision = function.decide(&file("pipeline-succeeded")).await;
    assert_eq!((decision.outcome, decision.concerns["execution"].as_str()), (Started, "e"));
    assert_eq!(decision.concerns["commit"], change(2).commit.as_str());
    assert_eq!(function.take_calls(), ["ListPipelineExecutions shop", "StartPipelineExecution shop"]);
    let retried = function.decide(&event(change(1), &["shop"])).await;
    assert_eq!(retried.outcome, pipeline_starter::Outcome::Stale);
}

/// If the start for one reference fails, the decision about the start for another reference must not be lost.
#[tokio::test(start_paused = true)]
async fn a_start_is_recorded_even_if_another_reference_must_still_wait() {
    let function = Function::new();
    function.answer_starts(|_| StartAnswer::Deferred(PIPELINE_IS_FULL.to_owned()));
    let release = Change { git_ref: "refs/heads/release/1.2".parse().unwrap(), ..change(1) };
    assert!(function.handle(&event(change(2), &["shop"])).await.is_err());
    assert!(function.handle(&event(release.clone(), &["shop"])).await.is_err());
    let commit = release.commit.clone();
    function.answer_starts(move |start| {
        if start.commit == commit {
            StartAnswer::Deferred(PIPELINE_IS_FULL.to_owned())
        } else {
            StartAnswer::Started("e".to_owned())
        }
    });
    assert_eq!(function.handle(&file("pipeline-succeeded")).await.unwrap_err().error_type().name(), "Throttled");
    let recorded = function.recorded_decisions();
    assert_eq!(
        (recorded.len(), &recorded[0]["outcome"], &recorded[0]["execution"]),
        (1, &"started".into(), &"e".into())
    );
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_execution_takes_up_a_start_that_a_crash_left_behind() {
    let function = Function::new();
    function.write_row("shop", &claimed(0, START));
    tokio::time::advance(Duration::from_secs(56)).await;
    assert_eq!(function.decide(&file("pipeline-succeeded")).await.outcome, Started);
    assert_eq!(function.take_calls(), ["ListPipelineExecutions shop", "StartPipelineExecution shop"]);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_change_that_is_no_longer_routed_is_closed() {
    let function = Function::new();
    let gone = Change { git_ref: "refs/heads/routed-before".parse().unwrap(), ..change(0) };
    function.write_row_of(&gone, &claimed(0, START).with(waiting()));
    let decision = function.decide(&file("pipeline-succeeded")).await;
    assert_eq!((decision.outcome, decision.concerns["commit"].as_str()), (Filtered, gone.commit.as_str()));
    // The row is no longer in the state `Waiting`. If the route comes back later, the old commit is therefore not
    // started.
    assert_eq!(function.decide(&file("pipeline-succeeded")).await.outcome, Ignored);
    assert_eq!(function.take_calls(), NO_CALLS);
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_row_does_not_keep_other_rows_from_starting() {
    let function = Function::new();
    let unreadable = Key { pk: claim::partition(&shop()), sk: "broken".to_owned() };
    function.world().ledger.write(&unreadable, &json!({"sequence": "many"}), None, "another request").await.unwrap();
    function.write_row("shop", &claimed(0, START).with(waiting()));
    let decisions = function.handle(&file("pipeline-succeeded")).await.unwrap().decisions;
    assert_eq!(decisions.iter().map(|d| d.outcome).collect::<Vec<_>>(), [Failed, Started]);
    assert!(decisions[0].reason.contains("pipeline#shop / broken"), "{decisions:?}");
}

#[tokio::test(start_paused = true)]
async fn the_change_that_has_waited_longest_is_started_first() {
    let function = Function::new();
    for (branch, seconds) in [("refs/heads/main", 2), ("refs/heads/release/1", 1)] {
        let change = Change { git_ref: branch.parse().unwrap(), ..change(seconds) };
        let row = claimed(seconds, START + Duration::from_secs(seconds)).with(waiting());
        function.write_row_of(&change, &row);
    }
    function.handle(&file("pipeline-succeeded")).await.unwrap();
    let commits: Vec<_> = function.world().starts.borrow().iter().map(|start| start.commit.clone()).collect();
    assert_eq!(commits, [change(1).commit, change(2).commit]);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_execution_leaves_a_row_alone_that_another_invocation_has_claimed_or_started() {
    let function = Function::new();
    let row = claimed(0, START);
    function.write_row("shop", &row);
    function.decide(&file("pipeline-succeeded")).await;
    assert_eq!((function.take_calls(), function.row("shop").unwrap().state), (vec![], row.clone()));
    function.write_row("shop", &row.with(Progress::Started("e".to_owned())));
    function.decide(&file("pipeline-succeeded")).await;
    assert_eq!(function.take_calls(), NO_CALLS);
}
