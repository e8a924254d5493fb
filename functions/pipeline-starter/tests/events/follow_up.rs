//! The follow-up of the schedule.

use std::collections::BTreeSet;
use std::time::Duration;

use pipeline_starter::Outcome::{ExecutionFailed, Failed, Filtered, Healthy, Ignored, Started, Unknown, Waiting};
use pipeline_starter::order::OrderRow;
use pipeline_starter::world::{ExecutionStatus, StartAnswer};
use sekisho_domain::change::Change;
use sekisho_domain::order::Order;
use sekisho_domain::report::ReportState;
use sekisho_domain::route::PipelineName;

use crate::function::{
    COMMIT, Function, NO_CALLS, NUMBER, PIPELINE_IS_FULL, START, change, claimed, end_of, file, listed,
};

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
    let gone = Change { source_ref: "refs/heads/routed-before".parse().unwrap(), ..change(0) };
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

/// The schedule sends its event again after a minute, so the event must not end in the dead-letter queue.
#[tokio::test(start_paused = true)]
async fn without_the_ledger_the_follow_up_decides_that_it_failed() {
    let function = Function::new();
    function.world().ledger.set_out_of_reach(true);
    assert_eq!(function.decide(&file("schedule")).await.outcome, Failed);
    assert_eq!(function.take_calls(), NO_CALLS);
}

#[tokio::test(start_paused = true)]
async fn a_refused_look_at_an_execution_is_decided_once_for_each_order() {
    let function = Function::new();
    function.decide(&file("order")).await;
    function.world().reads_are_refused.set(true);
    let decisions = function.follow_up_after(Duration::from_mins(3)).await;
    assert_eq!((decisions[0].outcome, decisions[0].concerns["order"].as_str()), (Failed, "1795312345999"));
    assert!(decisions[0].reason.contains("AccessDeniedException"), "{decisions:?}");
    for _ in 0..5 {
        assert_eq!(function.follow_up_after(Duration::from_mins(10)).await[0].outcome, Ignored);
    }
    function.world().reads_are_refused.set(false);
    function.world().statuses.borrow_mut().insert("e1".to_owned(), ExecutionStatus::Succeeded);
    assert_eq!(function.follow_up_after(Duration::from_mins(20)).await[0].outcome, Healthy);
}

/// Nothing may start without the search, and people must correct the cause.
#[tokio::test(start_paused = true)]
async fn a_refused_search_sends_one_notice_and_starts_nothing() {
    let function = Function::new();
    function.write_row(&claimed(0, START));
    function.world().reads_are_refused.set(true);
    assert_eq!(function.follow_up_after(Duration::from_mins(3)).await[0].outcome, Waiting);
    for minutes in [1, 2, 4] {
        assert_eq!(function.follow_up_after(Duration::from_mins(minutes)).await[0].outcome, Ignored);
    }
    assert_eq!((function.world().notices.borrow().len(), function.world().starts.borrow().len()), (1, 0));
    function.world().reads_are_refused.set(false);
    function.world().listed.replace(vec![listed("ours", START, Some(COMMIT))]);
    let decision = &function.follow_up_after(Duration::from_mins(8)).await[0];
    assert_eq!((decision.outcome, decision.concerns["execution"].as_str()), (Started, "ours"));
}

/// Each call takes a second, so the time suffices for only some of the orders.
#[tokio::test(start_paused = true)]
async fn every_order_gets_its_turn_although_the_time_does_not_suffice_for_all() {
    const ORDERS: u64 = 60;
    let function = Function::new();
    function.answer_starts(|_| StartAnswer::Deferred(PIPELINE_IS_FULL.to_owned()));
    function.world().start_takes.set(Duration::from_secs(5));
    for index in 0..ORDERS {
        let pipeline: PipelineName = format!("shop-{index:02}").parse().unwrap();
        let row = OrderRow::new(Order::deploy(NUMBER), &change(0), &pipeline, None, START);
        function.write_row_of(&pipeline, &OrderRow { may_run: true, ..row });
    }
    for _ in 0..3 {
        function.follow_up_after(Duration::from_mins(1)).await;
    }
    let searched: BTreeSet<String> =
        function.take_calls().into_iter().filter(|call| call.starts_with("List")).collect();
    assert_eq!(u64::try_from(searched.len()).unwrap(), ORDERS);
}
