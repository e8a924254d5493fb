//! Rows and events of versions without orders.

use std::time::Duration;

use pipeline_starter::Outcome::{Duplicate, Failed, Filtered, Healthy, Ignored, Stale, Started, Waiting};
use pipeline_starter::claim::{self, Progress};
use pipeline_starter::world::ExecutionStatus;
use sekisho_domain::change::Change;
use sekisho_domain::report::ReportState;
use sekisho_ledger::{Key, Lease, Store};
use serde_json::json;

use crate::function::{
    COMMIT, Function, NO_CALLS, NUMBER, PIPELINE_IS_FULL, REPORT, START, change, event, file, listed, shop,
};

fn waiting() -> Progress {
    Progress::Waiting(PIPELINE_IS_FULL.to_owned())
}

#[tokio::test(start_paused = true)]
async fn an_order_adopts_the_execution_that_an_earlier_version_started() {
    for payload in [file("order"), file("change")] {
        let function = Function::new();
        function.write_claim(&change(0), Progress::Started("theirs".to_owned()));
        let decision = function.decide(&payload).await;
        assert_eq!((decision.outcome, decision.concerns["execution"].as_str()), (Duplicate, "theirs"));
        assert_eq!(function.take_calls(), [REPORT]);
        let report = &function.take_reports()[0];
        assert_eq!((report.state, report.execution.as_deref()), (ReportState::Running, Some("theirs")));
        // The end may have been before the upgrade.
        function.world().statuses.borrow_mut().insert("theirs".to_owned(), ExecutionStatus::Succeeded);
        assert_eq!(function.follow_up_after(Duration::from_mins(1)).await[0].outcome, Healthy);
        assert_eq!(function.take_reports()[0].state, ReportState::Healthy);
    }
}

/// An account may get an order for a change that event-relay sent without an order to this very version.
#[tokio::test(start_paused = true)]
async fn an_order_continues_with_the_execution_of_an_event_without_an_order() {
    let function = Function::new();
    assert_eq!(function.decide(&file("change")).await.outcome, Started);
    function.take_calls();
    let decision = function.decide(&file("order")).await;
    assert_eq!((decision.outcome, decision.concerns["execution"].as_str()), (Duplicate, "e1"));
    assert_eq!(function.take_calls(), [REPORT]);
    assert_eq!(function.take_states(), [(change(0).sequence, ReportState::Running), (NUMBER, ReportState::Running)]);
}

#[tokio::test(start_paused = true)]
async fn a_change_that_is_older_than_the_newest_claim_is_stale() {
    let function = Function::new();
    let release = Change { git_ref: "refs/heads/release/1.2".parse().unwrap(), ..change(3) };
    function.write_claim(&release, Progress::Started("e".to_owned()));
    assert_eq!(function.decide(&file("change")).await.outcome, Stale);
    assert_eq!(function.take_calls(), NO_CALLS);
    assert_eq!(function.decide(&event(change(4), &["shop"])).await.outcome, Started);
}

#[tokio::test(start_paused = true)]
async fn the_retry_of_a_waiting_change_searches_and_starts_with_the_same_token() {
    for is_listed in [true, false] {
        let function = Function::new();
        function.write_claim(&change(0), waiting());
        if is_listed {
            function.world().listed.replace(vec![listed("theirs", START, Some(COMMIT))]);
        }
        let decision = function.decide(&file("change")).await;
        let execution = if is_listed { "theirs" } else { "e1" };
        assert_eq!((decision.outcome, decision.concerns["execution"].as_str()), (Started, execution));
        let tokens: Vec<String> = function.world().starts.take().into_iter().map(|start| start.token).collect();
        assert_eq!(tokens, if is_listed { vec![] } else { vec!["0f".repeat(32)] });
    }
}

#[tokio::test(start_paused = true)]
async fn the_follow_up_never_starts_a_change_that_an_earlier_version_left_waiting() {
    let function = Function::new();
    function.write_claim(&change(0), waiting());
    assert_eq!(function.follow_up_after(Duration::from_hours(1)).await[0].outcome, Ignored);
    assert_eq!(function.take_calls(), NO_CALLS);
}

#[tokio::test(start_paused = true)]
async fn an_order_waits_while_an_invocation_of_an_earlier_version_may_start_a_change() {
    let function = Function::new();
    function.write_claim(&change(0), Progress::Claimed(Lease::new(START, Duration::from_secs(55))));
    assert_eq!(function.decide(&event(change(1), &["shop"])).await.outcome, Waiting);
    assert_eq!(function.take_calls(), [REPORT]);
    assert_eq!(function.follow_up_after(Duration::from_mins(1)).await[0].outcome, Started);
}

/// Only the newest change starts, because the pipeline must not go backward.
#[tokio::test(start_paused = true)]
async fn the_end_of_an_execution_starts_the_newest_waiting_change() {
    let function = Function::new();
    for (branch, later) in [("refs/heads/main", 2), ("refs/heads/release/1", 1)] {
        function.write_claim(&Change { git_ref: branch.parse().unwrap(), ..change(later) }, waiting());
    }
    let decision = function.decide(&file("pipeline-succeeded")).await;
    assert_eq!((decision.outcome, decision.concerns["commit"].as_str()), (Started, change(2).commit.as_str()));
    let calls = ["ListPipelineExecutions shop", "StartPipelineExecution shop", REPORT];
    assert_eq!(function.take_calls(), calls);
    assert_eq!(function.decide(&file("pipeline-succeeded")).await.outcome, Ignored);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_execution_takes_up_a_start_that_a_crash_left_behind() {
    let function = Function::new();
    function.write_claim(&change(0), Progress::Claimed(Lease::new(START, Duration::from_secs(55))));
    assert_eq!(function.decide(&file("pipeline-succeeded")).await.outcome, Ignored);
    tokio::time::advance(Duration::from_secs(56)).await;
    assert_eq!(function.decide(&file("pipeline-succeeded")).await.outcome, Started);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_change_that_is_no_longer_routed_is_closed() {
    let function = Function::new();
    let gone = Change { git_ref: "refs/heads/routed-before".parse().unwrap(), ..change(0) };
    function.write_claim(&gone, waiting());
    let decision = function.decide(&file("pipeline-succeeded")).await;
    assert_eq!((decision.outcome, decision.concerns["commit"].as_str()), (Filtered, gone.commit.as_str()));
    // If the route comes back later, the old commit is not started.
    assert_eq!(function.decide(&file("pipeline-succeeded")).await.outcome, Ignored);
    assert!(function.world().starts.borrow().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_claim_does_not_keep_another_from_starting() {
    let function = Function::new();
    let unreadable = Key { pk: claim::partition(&shop()), sk: "broken".to_owned() };
    function.world().ledger.write(&unreadable, &json!({"sequence": "many"}), None, "another request").await.unwrap();
    function.write_claim(&change(0), waiting());
    let decisions = function.handle(&file("pipeline-succeeded")).await.unwrap().decisions;
    assert_eq!(decisions.iter().map(|d| d.outcome).collect::<Vec<_>>(), [Failed, Started]);
    assert!(decisions[0].reason.contains("pipeline#shop / broken"), "{decisions:?}");
}
