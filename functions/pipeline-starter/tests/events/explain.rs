//! `explain` returns the plan of the real path. It writes no row and makes no call to CodePipeline, EventBridge or SNS.

use std::time::Duration;

use pipeline_starter::Outcome::{
    self, Duplicate, ExecutionFailed, Failed, Filtered, Healthy, Ignored, Refused, Stale, Started, Waiting,
};
use pipeline_starter::claim;
use pipeline_starter::claim::Progress as ClaimProgress;
use pipeline_starter::order::{Cause, OrderRow, Progress, Wait};
use sekisho_domain::change::Change;
use sekisho_domain::decision::Decision;
use sekisho_domain::timestamp::epoch_millis;
use sekisho_ledger::{Key, Store};
use serde_json::json;

use crate::function::{
    Function, NO_CALLS, NUMBER, PIPELINE_IS_FULL, START, change, claimed, end_of, file, order_event, shop,
};

/// Explains an event, and checks that nothing was written or called.
async fn explain(function: &Function, event: &str) -> Vec<Decision<Outcome>> {
    let before = function.world().ledger.rows();
    let payload = format!(r#"{{"action":"explain","event":{event}}}"#);
    let decisions = function.handle(&payload).await.unwrap().decisions;
    assert_eq!(function.world().ledger.rows(), before);
    assert_eq!(function.take_calls(), NO_CALLS);
    decisions
}

fn outcomes(decisions: &[Decision<Outcome>]) -> Vec<Outcome> {
    decisions.iter().map(|decision| decision.outcome).collect()
}

fn running(later: u64) -> OrderRow {
    let check = epoch_millis(START + Duration::from_mins(2));
    OrderRow { progress: Progress::Running { check }, execution: Some("e".to_owned()), ..claimed(later, START) }
}

fn waiting(later: u64) -> OrderRow {
    let wait = Wait { cause: Cause::Busy, next: epoch_millis(START) };
    OrderRow { progress: Progress::Waiting(wait), ..claimed(later, START) }
}

#[tokio::test(start_paused = true)]
async fn each_plan_for_an_order_is_explained() {
    let newer = (NUMBER + 3).to_string();
    let cases = [
        (order_event(1), claimed(0, START), Waiting, "older order"),
        (order_event(1), waiting(0), Started, "at this commit"),
        (order_event(0), running(0), Duplicate, "execution e"),
        (order_event(0), running(3), Stale, newer.as_str()),
        (file("order-of-unknown-kind"), running(0), Refused, "kind"),
        (file("order-for-an-unrouted-pipeline"), running(0), Filtered, "configuration"),
    ];
    for (payload, row, outcome, detail) in cases {
        let function = Function::new();
        function.write_row(&row);
        let decisions = explain(&function, &payload).await;
        assert_eq!(outcomes(&decisions), [outcome], "{row:?}");
        assert!(decisions[0].reason.contains(detail), "{decisions:?}");
        assert!(decisions[0].concerns.contains_key("order"), "{decisions:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_notice_that_was_sent_is_a_duplicate() {
    let function = Function::new();
    assert_eq!(outcomes(&explain(&function, &file("pipeline-failed")).await), [ExecutionFailed]);
    function.handle(&file("pipeline-failed")).await.unwrap();
    function.take_calls();
    assert_eq!(outcomes(&explain(&function, &file("pipeline-failed")).await), [Duplicate]);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_execution_has_the_same_outcomes_when_it_is_explained() {
    let cases = [
        ("pipeline-succeeded", running(0), vec![Healthy]),
        ("pipeline-canceled", running(0), vec![Waiting, Started]),
        ("pipeline-succeeded", waiting(0), vec![Started]),
        ("pipeline-failed", waiting(0), vec![ExecutionFailed, Started]),
        ("pipeline-succeeded", claimed(0, START), vec![Ignored]),
    ];
    for (name, row, expected) in cases {
        let function = Function::new();
        function.write_row(&row);
        let explained = explain(&function, &end_of(name, "e")).await;
        assert_eq!(outcomes(&explained), expected, "{name} {row:?}");
        let decided = function.handle(&end_of(name, "e")).await.unwrap().decisions;
        assert_eq!(outcomes(&decided), expected, "{name} {row:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_claims_of_an_earlier_version_are_explained() {
    let function = Function::new();
    assert_eq!(outcomes(&explain(&function, &file("pipeline-succeeded")).await), [Ignored]);
    let unreadable = Key { pk: claim::partition(&shop()), sk: "unreadable".to_owned() };
    function.world().ledger.write(&unreadable, &json!({"sequence": "many"}), None, "another request").await.unwrap();
    for (branch, later) in [("refs/heads/main", 2), ("refs/heads/release/1", 1)] {
        let change = Change { source_ref: branch.parse().unwrap(), ..change(later) };
        function.write_claim(&change, ClaimProgress::Waiting(PIPELINE_IS_FULL.to_owned()));
    }
    let explained = explain(&function, &file("pipeline-failed")).await;
    assert_eq!(outcomes(&explained), [ExecutionFailed, Failed]);
    let decided = function.handle(&file("pipeline-failed")).await.unwrap().decisions;
    assert_eq!(outcomes(&decided), outcomes(&explained));
}

#[tokio::test(start_paused = true)]
async fn the_follow_up_is_explained() {
    let gone = Change { source_ref: "refs/heads/routed-before".parse().unwrap(), ..change(0) };
    let cases = [
        (running(0), Duration::ZERO, Ignored, "nothing is due"),
        (running(0), Duration::from_mins(3), Ignored, "execution e"),
        (waiting(0), Duration::ZERO, Started, "would be started"),
        (claimed(0, START), Duration::from_mins(3), Started, "would be started"),
        (OrderRow { change: gone.clone(), ..waiting(0) }, Duration::ZERO, Filtered, "any more"),
        (OrderRow { change: gone, may_run: true, ..waiting(0) }, Duration::ZERO, Ignored, "would look for"),
    ];
    for (row, time, outcome, detail) in cases {
        let function = Function::new();
        function.write_row(&row);
        tokio::time::advance(time).await;
        let decisions = explain(&function, &file("schedule")).await;
        assert_eq!(outcomes(&decisions), [outcome], "{row:?}");
        assert!(decisions[0].reason.contains(detail), "{decisions:?}");
    }
}
