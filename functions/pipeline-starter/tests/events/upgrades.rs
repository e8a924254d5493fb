//! Rows and events of versions without orders.

use std::time::Duration;

use pipeline_starter::Outcome::{Duplicate, Failed, Filtered, Healthy, Ignored, Stale, Started, Waiting};
use pipeline_starter::claim::{self, Progress};
use pipeline_starter::world::{ExecutionStatus, ListedExecution, StartAnswer};
use sekisho_domain::change::Change;
use sekisho_domain::report::ReportState;
use sekisho_ledger::{Key, Lease, Store};
use serde_json::json;

use crate::function::{
    COMMIT, Function, NO_CALLS, NUMBER, PIPELINE_IS_FULL, REPORT, SEQUENCE, START, change, end_of, event, file, listed,
    order_event, shop,
};

const LIST: &str = "ListPipelineExecutions shop";

fn started(execution: &str) -> Progress {
    Progress::Started(execution.to_owned())
}

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
        assert_eq!(function.take_calls(), [LIST, REPORT]);
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
    let release = Change { source_ref: "refs/heads/release/1.2".parse().unwrap(), ..change(3) };
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

/// CloudFormation may bring an earlier version back, which reads only the claims.
#[tokio::test(start_paused = true)]
async fn the_claims_tell_an_earlier_version_what_the_orders_have_started() {
    let function = Function::new();
    let release = Change { source_ref: "refs/heads/release/1.2".parse().unwrap(), ..change(0) };
    function.write_claim(&release, waiting());
    function.write_claim(&change(0), waiting());
    assert_eq!(function.decide(&order_event(1)).await.outcome, Started);
    assert!(matches!(function.claim(&release).unwrap().progress, Progress::Failed(_)));
    let claim = function.claim(&change(1)).unwrap();
    assert_eq!((claim.sequence, claim.commit, claim.progress), (SEQUENCE + 1, change(1).revision, started("e1")));
    // Every later start is in the claim too: of another order, after a cancellation, and from the follow-up.
    assert_eq!(function.decide(&order_event(2)).await.outcome, Started);
    assert_eq!(function.claim(&change(2)).unwrap().progress, started("e2"));
    function.handle(&end_of("pipeline-canceled", "e2")).await.unwrap();
    assert_eq!(function.claim(&change(2)).unwrap().progress, started("e3"));
    function.answer_starts(|_| StartAnswer::Deferred(PIPELINE_IS_FULL.to_owned()));
    assert_eq!(function.decide(&order_event(3)).await.outcome, Waiting);
    assert_eq!(function.claim(&change(2)).unwrap().progress, started("e3"));
    function.answer_starts(|_| StartAnswer::Started("e4".to_owned()));
    assert_eq!(function.follow_up_after(Duration::from_mins(1)).await[0].outcome, Started);
    assert_eq!((function.claim(&change(3)).unwrap().progress, function.shop().number), (started("e4"), NUMBER + 3));
}

/// An earlier version, which CloudFormation brought back for some time, has started the change of the order.
#[tokio::test(start_paused = true)]
async fn an_order_adopts_what_an_earlier_version_started_after_orders() {
    let function = Function::new();
    assert_eq!(function.decide(&order_event(0)).await.outcome, Started);
    function.write_claim(&change(1), started("theirs"));
    function.take_calls();
    let decision = function.decide(&order_event(1)).await;
    assert_eq!((decision.outcome, decision.concerns["execution"].as_str()), (Duplicate, "theirs"));
    assert_eq!(function.take_calls(), [LIST, REPORT]);
    assert_eq!(function.shop().number, NUMBER + 1);
}

/// A person sends the change of `main` again, which an earlier version started before that of another branch.
#[tokio::test(start_paused = true)]
async fn an_order_starts_anew_if_something_else_has_run_since_an_earlier_version_started_its_change() {
    use ExecutionStatus::{Failed, Running, Succeeded, Superseded};
    for (later, is_adopted) in [(Succeeded, false), (Running, false), (Failed, true), (Superseded, true)] {
        for has_row in [false, true] {
            let function = Function::new();
            if has_row {
                assert_eq!(function.decide(&order_event(0)).await.outcome, Started);
            }
            function.write_claim(&change(1), started("theirs"));
            let theirs = ListedExecution { status: Succeeded, ..listed("theirs", START, Some(COMMIT)) };
            let other = listed("other", START, Some(change(9).revision.as_str()));
            let other = ListedExecution { status: later, ..other };
            function.world().listed.replace(vec![other, theirs]);
            let decision = function.decide(&order_event(1)).await;
            let expected = if is_adopted { Duplicate } else { Started };
            assert_eq!(decision.outcome, expected, "{later:?}, {has_row}");
            let row = function.shop();
            assert_eq!(row.execution.as_deref() == Some("theirs"), is_adopted);
            assert_eq!(row.executions.iter().any(|known| known == "theirs"), !is_adopted);
        }
    }
    // Somebody ran the same commit again.
    let function = Function::new();
    function.write_claim(&change(1), started("theirs"));
    function.world().listed.replace(vec![listed("again", START, Some(change(1).revision.as_str()))]);
    assert_eq!(function.decide(&order_event(1)).await.outcome, Duplicate);
}

/// A later change of the same reference, which an earlier version has started, stays in the claim.
#[tokio::test(start_paused = true)]
async fn a_newer_claim_stays_as_it_is() {
    let function = Function::new();
    function.write_claim(&change(9), started("newer"));
    assert_eq!(function.decide(&order_event(1)).await.outcome, Started);
    assert_eq!(function.claim(&change(9)).unwrap().progress, started("newer"));
    assert_eq!(function.shop().execution.as_deref(), Some("e1"));
}

/// An earlier version writes the claim while this version starts the order.
#[tokio::test(start_paused = true)]
async fn a_claim_that_changes_during_a_start_does_not_lose_the_result() {
    let function = Function::new();
    function.decide(&order_event(0)).await;
    function.world().start_takes.set(Duration::from_secs(2));
    let earlier_version = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        function.write_claim(&change(9), started("theirs"));
    };
    let payload = order_event(1);
    let (decision, ()) = futures_util::join!(function.decide(&payload), earlier_version);
    assert_eq!((decision.outcome, function.shop().execution.as_deref()), (Started, Some("e2")));
    assert_eq!(function.claim(&change(9)).unwrap().progress, started("theirs"));
}

#[tokio::test(start_paused = true)]
async fn an_order_does_not_start_while_a_claim_is_unreadable() {
    let function = Function::new();
    let own = claim::key(&shop(), &change(0).repository, &change(0).source_ref);
    let other = Key { pk: claim::partition(&shop()), sk: "broken".to_owned() };
    for key in [own, other] {
        let function = Function::new();
        function.world().ledger.write(&key, &json!({"sequence": "many"}), None, "another request").await.unwrap();
        let decision = function.decide(&file("order")).await;
        assert_eq!((decision.outcome, decision.reason.contains("pipeline#shop / ")), (Failed, true));
        assert_eq!(function.take_calls(), [REPORT]);
        assert_eq!(function.take_states(), [(NUMBER, ReportState::Waiting)]);
    }
    assert!(function.row("shop").is_none());
}

/// Only the newest change starts, because the pipeline must not go backward.
#[tokio::test(start_paused = true)]
async fn the_end_of_an_execution_starts_the_newest_waiting_change() {
    let function = Function::new();
    for (branch, later) in [("refs/heads/main", 2), ("refs/heads/release/1", 1)] {
        function.write_claim(&Change { source_ref: branch.parse().unwrap(), ..change(later) }, waiting());
    }
    let decision = function.decide(&file("pipeline-succeeded")).await;
    assert_eq!((decision.outcome, decision.concerns["commit"].as_str()), (Started, change(2).revision.as_str()));
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
    let gone = Change { source_ref: "refs/heads/routed-before".parse().unwrap(), ..change(0) };
    function.write_claim(&gone, waiting());
    let decision = function.decide(&file("pipeline-succeeded")).await;
    assert_eq!((decision.outcome, decision.concerns["commit"].as_str()), (Filtered, gone.revision.as_str()));
    // If the route comes back later, the old commit is not started.
    assert_eq!(function.decide(&file("pipeline-succeeded")).await.outcome, Ignored);
    assert!(function.world().starts.borrow().is_empty());
}

#[tokio::test(start_paused = true)]
async fn nothing_starts_while_a_claim_that_may_be_newer_is_unreadable() {
    let function = Function::new();
    let unreadable = Key { pk: claim::partition(&shop()), sk: "broken".to_owned() };
    function.world().ledger.write(&unreadable, &json!({"sequence": "many"}), None, "another request").await.unwrap();
    function.write_claim(&change(0), waiting());
    let decisions = function.handle(&file("pipeline-succeeded")).await.unwrap().decisions;
    assert_eq!(decisions.iter().map(|d| d.outcome).collect::<Vec<_>>(), [Failed]);
    assert!(decisions[0].reason.contains("pipeline#shop / broken"), "{decisions:?}");
}
