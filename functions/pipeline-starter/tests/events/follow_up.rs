//! The follow-up of the schedule.

use std::time::Duration;

use pipeline_starter::Outcome::{ExecutionFailed, Filtered, Healthy, Ignored, Started, Unknown, Waiting};
use pipeline_starter::order::OrderRow;
use pipeline_starter::world::{ExecutionStatus, StartAnswer};
use sekisho_domain::change::Change;
use sekisho_domain::report::ReportState;
use sekisho_lambda::Failure;

use crate::function::{Function, NO_CALLS, NUMBER, PIPELINE_IS_FULL, REPORT, START, change, claimed, end_of, file};

/// An idle account costs one query of the ledger each minute.
#[tokio::test(start_paused = true)]
async fn an_idle_follow_up_writes_nothing() {
    let function = Function::new();
    function.decide(&file("order")).await;
    function.decide(&end_of("pipeline-succeeded", "e1")).await;
    function.take_calls();
    let before = function.world().ledger.rows();
    assert_eq!(function.follow_up_after(Duration::from_hours(100)).await[0].outcome, Ignored);
    assert_eq!((function.take_calls(), function.world().ledger.rows()), (vec![], before));
}

#[tokio::test(start_paused = true)]
async fn an_execution_whose_end_was_missed_is_found() {
    let cases = [
        (Some(ExecutionStatus::Succeeded), Healthy, ReportState::Healthy),
        (Some(ExecutionStatus::Failed), ExecutionFailed, ReportState::Failed),
        (Some(ExecutionStatus::Stopped), Unknown, ReportState::Unknown),
        (Some(ExecutionStatus::Superseded), Unknown, ReportState::Unknown),
        (None, Unknown, ReportState::Unknown),
    ];
    for (status, outcome, state) in cases {
        let function = Function::new();
        function.decide(&file("order")).await;
        function.take_reports();
        match status {
            Some(status) => drop(function.world().statuses.borrow_mut().insert("e1".to_owned(), status)),
            None => function.world().removed.borrow_mut().push("e1".to_owned()),
        }
        let decision = &function.follow_up_after(Duration::from_mins(3)).await[0];
        assert_eq!((decision.outcome, decision.concerns["execution"].as_str()), (outcome, "e1"));
        assert_eq!(function.take_states(), [(NUMBER, state)]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_execution_that_runs_is_looked_at_less_and_less_often() {
    let function = Function::new();
    function.decide(&file("order")).await;
    function.take_calls();
    let mut looks = 0;
    for _ in 0..240 {
        assert_eq!(function.follow_up_after(Duration::from_mins(1)).await[0].outcome, Ignored);
        looks += function.take_calls().len();
    }
    assert!((15..25).contains(&looks), "{looks} looks in four hours");
}

#[tokio::test(start_paused = true)]
async fn a_busy_pipeline_is_tried_every_minute_and_reported_once() {
    let function = Function::new();
    function.answer_starts(|_| StartAnswer::Deferred(PIPELINE_IS_FULL.to_owned()));
    assert_eq!(function.decide(&file("order")).await.outcome, Waiting);
    let recorded = function.recorded_decisions().len();
    for _ in 0..10 {
        assert_eq!(function.follow_up_after(Duration::from_mins(1)).await[0].outcome, Ignored);
    }
    assert_eq!(function.recorded_decisions().len(), recorded, "nothing has happened");
    assert_eq!(function.take_states(), [(NUMBER, ReportState::Waiting)]);
    function.answer_starts(|_| StartAnswer::Started("e".to_owned()));
    assert_eq!(function.follow_up_after(Duration::from_mins(1)).await[0].outcome, Started);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_order_that_is_no_longer_routed_is_closed() {
    let function = Function::new();
    function.answer_starts(|_| StartAnswer::Deferred(PIPELINE_IS_FULL.to_owned()));
    function.decide(&file("order")).await;
    let gone = Change { git_ref: "refs/heads/routed-before".parse().unwrap(), ..change(0) };
    function.write_row(&OrderRow { change: gone, ..function.shop() });
    function.take_reports();
    assert_eq!(function.follow_up_after(Duration::from_mins(1)).await[0].outcome, Filtered);
    assert_eq!(function.take_states(), [(NUMBER, ReportState::Refused)]);
    assert_eq!(function.follow_up_after(Duration::from_mins(1)).await[0].outcome, Ignored);
    // event-relay offers the order again after the route has come back.
    function.write_row(&OrderRow { change: change(0), ..function.shop() });
    function.answer_starts(|_| StartAnswer::Started("e".to_owned()));
    assert_eq!(function.decide(&file("order")).await.outcome, Started);
}

#[tokio::test(start_paused = true)]
async fn two_follow_ups_at_once_start_an_order_once() {
    let function = Function::new();
    function.write_row(&claimed(0, START));
    tokio::time::advance(Duration::from_mins(3)).await;
    let schedule = file("schedule");
    let (one, other) = futures_util::join!(function.handle(&schedule), function.handle(&schedule));
    assert!(one.is_ok() && other.is_ok());
    assert_eq!(function.world().starts.borrow().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_the_ledger_the_follow_up_fails() {
    let function = Function::new();
    function.world().ledger.set_out_of_reach(true);
    assert_eq!(function.handle(&file("schedule")).await.unwrap_err().error_type().name(), "Internal");
    assert_eq!(function.take_calls(), NO_CALLS);
    assert!(!function.take_calls().contains(&REPORT.to_owned()));
}
