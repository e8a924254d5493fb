//! Events about an execution: its end decides an order, a failure sends one notice, and a pipeline that has room gets
//! the order that waits for it.

use std::time::Duration;

use pipeline_starter::Outcome::{
    self, Duplicate, ExecutionFailed, Failed, Healthy, Ignored, Refused, Started, Unknown, Waiting,
};
use pipeline_starter::order;
use pipeline_starter::world::{ExecutionStatus, FailureDetails, StartAnswer, World};
use sekisho_domain::notice::Notice;
use sekisho_domain::report::{OrderReport, ReportState};
use sekisho_lambda::Failure;
use sekisho_ledger::Store;
use serde_json::{Value, json};

use crate::bakes::baking;
use crate::function::{
    EXECUTION, Function, NUMBER, PIPELINE_IS_FULL, REPORT, START, change, claimed, end_of, file, of_wave, order_event,
    ordered, shop,
};

/// The function after the order [`NUMBER`] has started the execution `e1`.
async fn running() -> Function {
    let function = Function::new();
    assert_eq!(function.decide(&file("order")).await.outcome, Started);
    assert_eq!(function.take_states(), [(NUMBER, ReportState::Running)]);
    function.take_calls();
    function
}

async fn outcomes(function: &Function, payload: &str) -> Vec<Outcome> {
    function.handle(payload).await.unwrap().decisions.into_iter().map(|decision| decision.outcome).collect()
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

#[tokio::test(start_paused = true)]
async fn a_success_makes_the_order_healthy_and_its_commit_good() {
    let function = running().await;
    let decision = function.decide(&end_of("pipeline-succeeded", "e1")).await;
    assert_eq!((decision.outcome, decision.concerns["order"].as_str()), (Healthy, "1795312345999"));
    assert_eq!(function.take_calls(), [REPORT]);
    let report = &function.take_reports()[0];
    assert_eq!((report.state, report.execution.as_deref()), (ReportState::Healthy, Some("e1")));
    assert_eq!(report.good, Some(change(0).revision));
    assert_eq!(function.decide(&end_of("pipeline-succeeded", "e1")).await.outcome, Ignored);
    function.decide(&order_event(1)).await;
    assert_eq!(function.take_reports()[0].good, Some(change(0).revision), "the next order keeps it");
}

#[tokio::test(start_paused = true)]
async fn each_end_has_its_state() {
    let cases = [
        ("pipeline-failed", ExecutionFailed, ReportState::Failed),
        ("pipeline-stopped", Unknown, ReportState::Unknown),
        ("pipeline-superseded", Unknown, ReportState::Unknown),
    ];
    for (name, outcome, state) in cases {
        let function = running().await;
        assert_eq!(outcomes(&function, &end_of(name, "e1")).await, [outcome], "{name}");
        assert_eq!(function.take_states(), [(NUMBER, state)], "{name}");
        assert_eq!(outcomes(&function, &end_of("pipeline-succeeded", "e1")).await, [Healthy], "a later success wins");
    }
}

#[tokio::test(start_paused = true)]
async fn an_execution_that_no_order_started_changes_no_order() {
    for name in ["pipeline-succeeded", "pipeline-failed", "pipeline-stopped", "pipeline-canceled", "pipeline-resumed"] {
        let function = running().await;
        let before = function.row("shop");
        function.handle(&file(name)).await.unwrap();
        assert_eq!(function.row("shop"), before, "{name}");
        assert!(!function.take_calls().contains(&REPORT.to_owned()), "{name}");
    }
}

/// Somebody has pressed the button. Another commit may run in the target, so the reports mention it.
#[tokio::test(start_paused = true)]
async fn an_execution_that_no_order_started_is_mentioned_if_it_ends_later() {
    const MENTION: &str =
        "; execution a6c6b8f2-0f0f-4f53-9c1e-1d2c3b4a5968, which no order is known to have started, ended later";
    // An execution that was superseded or canceled may have run nothing, and the mention does not say that it has.
    for (name, outcomes) in [
        ("pipeline-succeeded", vec![Ignored]),
        ("pipeline-failed", vec![Ignored, ExecutionFailed]),
        ("pipeline-superseded", vec![Ignored]),
        ("pipeline-canceled", vec![Ignored]),
    ] {
        let function = baking().await;
        let before = function.shop();
        assert_eq!(function.end(name, EXECUTION).await, outcomes, "{name}");
        let report = function.take_reports().pop().unwrap();
        let last = before.report.as_ref().unwrap().report.clone();
        assert!(report.at > last.at && report.reason.ends_with(MENTION), "{report:?}");
        assert_eq!(report.since, None, "another revision may run since then");
        assert!(report.foreign_execution.is_some() && last.foreign_execution.is_none());
        let (reason, since) = (last.reason.clone(), last.since);
        let same = OrderReport { at: last.at, reason, since, foreign_execution: None, ..report };
        assert_eq!(same, last, "nothing else changes");
        assert_eq!((function.shop().progress, function.shop().good), (before.progress, before.good));
        function.end(name, EXECUTION).await;
        assert_eq!(function.take_reports(), [], "the event arrives again");
        assert_eq!(function.after(31).await, [Healthy]);
        assert!(function.take_reports().pop().unwrap().reason.ends_with(MENTION), "the verdict counts all the same");
        assert_eq!(function.end("pipeline-stopped", "another").await, [Ignored]);
        let report = function.take_reports().pop().unwrap();
        assert_eq!((report.state, report.reason.matches("which no order").count()), (ReportState::Healthy, 1));
        assert_eq!(function.outcomes(&ordered(1, of_wave())).await, [Started]);
        assert!(!function.take_reports()[0].reason.contains("no order"), "the next order starts an execution later");
    }
}

/// A redriven event about an execution of an order that the row does not remember any more.
#[tokio::test(start_paused = true)]
async fn an_execution_that_ended_before_the_order_started_is_not_mentioned() {
    let function = baking().await;
    let before = function.row("shop");
    let mut event: Value = serde_json::from_str(&end_of("pipeline-succeeded", "old")).unwrap();
    event["time"] = json!("2026-11-21T12:01:00Z");
    assert_eq!(function.outcomes(&event.to_string()).await, [Ignored]);
    assert_eq!((function.take_reports(), function.row("shop")), (vec![], before));
}

#[tokio::test(start_paused = true)]
async fn a_retried_stage_reopens_a_failure_and_a_second_failure_sends_a_second_notice() {
    let function = running().await;
    assert_eq!(outcomes(&function, &end_of("pipeline-failed", "e1")).await, [ExecutionFailed]);
    assert_eq!(outcomes(&function, &end_of("pipeline-resumed", "e1")).await, [Started]);
    assert_eq!(outcomes(&function, &end_of("pipeline-failed", "e1")).await, [Duplicate], "the first failure, again");
    assert_eq!(outcomes(&function, &end_of("pipeline-failed-again", "e1")).await, [ExecutionFailed]);
    let states = [ReportState::Failed, ReportState::Running, ReportState::Failed];
    assert_eq!(function.take_states(), states.map(|state| (NUMBER, state)));
    assert_eq!(function.world().notices.borrow().len(), 2);
}

/// The event about the second failure is lost, and CodePipeline's status does not name the run.
#[tokio::test(start_paused = true)]
async fn a_second_failure_that_the_follow_up_finds_sends_a_second_notice() {
    let function = running().await;
    function.world().statuses.borrow_mut().insert("e1".to_owned(), ExecutionStatus::Failed);
    function.handle(&end_of("pipeline-failed", "e1")).await.unwrap();
    function.handle(&end_of("pipeline-resumed", "e1")).await.unwrap();
    assert_eq!(function.follow_up_after(Duration::from_mins(3)).await[0].outcome, ExecutionFailed);
    assert_eq!(function.world().notices.borrow().len(), 2);
    // The events of the second run come late.
    function.take_states();
    assert_eq!(outcomes(&function, &end_of("pipeline-failed-again", "e1")).await, [Duplicate]);
    assert_eq!(outcomes(&function, &end_of("pipeline-resumed", "e1")).await, [Ignored]);
    assert_eq!(function.take_states(), []);
}

#[tokio::test(start_paused = true)]
async fn a_canceled_execution_is_started_again_three_times() {
    let function = running().await;
    for execution in ["e1", "e2", "e3"] {
        let decided = outcomes(&function, &end_of("pipeline-canceled", execution)).await;
        assert_eq!(decided, [Waiting, Started], "{execution}");
        let states = [ReportState::Waiting, ReportState::Running];
        assert_eq!(function.take_states(), states.map(|state| (NUMBER, state)));
    }
    assert_eq!(outcomes(&function, &end_of("pipeline-canceled", "e4")).await, [Unknown]);
    assert_eq!(function.take_states(), [(NUMBER, ReportState::Unknown)]);
    let tokens: Vec<String> = function.world().starts.borrow().iter().map(|start| start.token.clone()).collect();
    assert!(tokens.len() == 4 && tokens.iter().all(|token| tokens.iter().filter(|t| *t == token).count() == 1));
}

#[tokio::test(start_paused = true)]
async fn a_failure_in_a_source_action_is_tried_again_for_two_hours() {
    let function = running().await;
    function.world().failure.borrow_mut().is_in_source = true;
    let mut decided = Vec::new();
    for starts in 1..20 {
        let execution = format!("e{starts}");
        decided = outcomes(&function, &end_of("pipeline-failed", &execution)).await;
        if function.take_states().last() == Some(&(NUMBER, ReportState::Failed)) {
            break;
        }
        assert!(decided.contains(&Waiting), "{decided:?}");
        assert_eq!(function.follow_up_after(Duration::from_secs(30)).await[0].outcome, Ignored);
        assert_eq!(function.follow_up_after(Duration::from_mins(30)).await[0].outcome, Started);
        function.take_states();
    }
    assert_eq!(decided, [ExecutionFailed]);
    let hours = (function.world().now() - START).as_seconds_f64() / 3600.0;
    assert!((2.0..2.6).contains(&hours), "{hours}");
    assert_eq!(function.world().notices.borrow().len(), 2, "one about the first failure, and one about the last");
    // EventBridge may deliver an event twice.
    for execution in ["e1", "e2", "e3"] {
        assert_eq!(outcomes(&function, &end_of("pipeline-failed", execution)).await, [Outcome::Duplicate]);
    }
    assert_eq!(function.world().notices.borrow().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_full_pipeline_gets_its_order_when_an_execution_ends() {
    let function = Function::new();
    function.answer_starts(|_| StartAnswer::Deferred(PIPELINE_IS_FULL.to_owned()));
    for later in [1, 2] {
        assert_eq!(function.decide(&order_event(later)).await.outcome, Waiting);
    }
    function.answer_starts(|_| StartAnswer::Started("e".to_owned()));
    function.take_calls();
    let decision = function.decide(&file("pipeline-succeeded")).await;
    assert_eq!((decision.outcome, decision.concerns["execution"].as_str()), (Started, "e"));
    assert_eq!(decision.concerns["commit"], change(2).revision.as_str());
    assert_eq!(function.take_calls(), ["StartPipelineExecution shop", REPORT]);
    assert_eq!(function.decide(&order_event(1)).await.outcome, Outcome::Stale);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_execution_takes_up_a_start_that_a_crash_left_behind() {
    let function = Function::new();
    function.write_row(&claimed(0, START));
    function.decide(&file("pipeline-succeeded")).await;
    assert_eq!((function.take_calls(), function.shop()), (vec![], claimed(0, START)), "the claim is live");
    tokio::time::advance(Duration::from_secs(181)).await;
    assert_eq!(function.decide(&file("pipeline-succeeded")).await.outcome, Started);
    assert_eq!(function.take_calls(), ["ListPipelineExecutions shop", "StartPipelineExecution shop", REPORT]);
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_order_does_not_keep_the_notice_from_being_sent() {
    let function = Function::new();
    let unreadable = json!({"number": "many"});
    function.world().ledger.write(&order::key(&shop()), &unreadable, None, "another request").await.unwrap();
    assert_eq!(outcomes(&function, &file("pipeline-failed")).await, [Failed, ExecutionFailed]);
}

/// No retry helps, so the invocation succeeds. event-relay knows that the order waits, and offers it again.
#[tokio::test(start_paused = true)]
async fn an_unreadable_order_is_decided_and_reported_and_recorded_once_an_hour() {
    let function = Function::new();
    let unreadable = json!({"number": "many"});
    function.world().ledger.write(&order::key(&shop()), &unreadable, None, "another request").await.unwrap();
    let decision = function.decide(&file("order")).await;
    assert_eq!((decision.outcome, decision.concerns["order"].as_str()), (Failed, "1795312345999"));
    assert!(decision.reason.contains("order / shop"), "{decision:?}");
    assert_eq!(function.take_states(), [(NUMBER, ReportState::Waiting)]);
    assert_eq!(outcomes(&function, &file("order-of-unknown-kind")).await, [Failed, Refused]);
    let recorded = function.recorded_decisions().len();
    for _ in 0..59 {
        let followed = function.follow_up_after(Duration::from_mins(1)).await;
        assert_eq!((followed.len(), followed[0].outcome), (1, Ignored));
        assert!(!followed[0].reason.contains("nothing"), "{followed:?}");
    }
    assert_eq!(function.recorded_decisions().len(), recorded);
    assert_eq!(function.follow_up_after(Duration::from_mins(1)).await[0].outcome, Failed);
    assert_eq!(function.recorded_decisions().len(), recorded + 1);
}
