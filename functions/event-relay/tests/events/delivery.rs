//! Buses that refuse, throttle or accept a change.

use std::cell::Cell;
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;

use event_relay::Outcome::{Duplicate, Relayed};
use event_relay::world::{EntryResult, World};

use crate::function::{Function, MAIN, START, commit, relayed};
use crate::targets::{SHOP_2, SHOP_3, target_row};

const NO_BUS: &str = "ResourceNotFoundException: Event bus sekisho does not exist.";

/// The account 333333333333 gets this result, and every other account accepts.
fn answer_for_one(function: &Function, result: EntryResult) {
    function.set_bus(move |entry| match entry.account.as_str() {
        "333333333333" => result.clone(),
        _ => EntryResult::Accepted,
    });
}

/// The calls: read the row of the branch and its head; read the rows of the targets and, at the same time, the row that
/// says whether the route is held; write all rows in one transaction; put the events in one call; record the decision.
#[tokio::test(start_paused = true)]
async fn a_change_to_two_targets_takes_seven_calls() {
    let function = relayed().await;
    function.point("main", Some(commit(2)));
    function.account().changed_paths.replace(Some(vec![]));
    // The route of the configuration file looks at paths, which takes one more call.
    assert_eq!(function.decide("branch-updated").await.outcome, Relayed);
    let calls = function.calls();
    let differences = calls.iter().filter(|call| call.starts_with("GetDifferences")).count();
    assert_eq!(function.ledger_calls(), ["GetItem", "BatchGetItem", "GetItem", "TransactWriteItems", "PutItem"]);
    assert_eq!((calls.len() - differences, differences), (2, 1), "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn a_new_branch_takes_one_more_call() {
    let function = Function::new();
    assert_eq!(function.decide("branch-created").await.outcome, Relayed);
    assert_eq!(function.calls().len() + function.ledger_calls().len(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_does_not_exist_neither_fails_the_invocation_nor_keeps_the_change_from_others() {
    let function = Function::new();
    answer_for_one(&function, EntryResult::Refused(NO_BUS.to_owned()));
    let decision = function.decide("branch-updated").await;
    assert_eq!((decision.outcome, decision.concerns["targets"].as_str()), (Relayed, "1"));
    assert!(decision.reason.contains("1 of 2 buses") && decision.reason.contains(NO_BUS), "{decision:?}");
    assert_eq!(function.accepted().len(), 1);
    // The order is in the ledger all the same, and later heads go to both targets.
    assert!(target_row(function.account(), SHOP_3).unwrap().order.is_some());
    assert_eq!(function.row(MAIN).unwrap().state.pending, None);
    assert_eq!(function.decide("branch-updated").await.outcome, Duplicate);
    function.point("main", Some(commit(77)));
    assert_eq!(function.decide("branch-updated").await.outcome, Relayed);
    let accepted = function.accepted();
    assert_eq!((accepted[0].0.as_str(), accepted[0].1.change.revision.clone()), ("222222222222", commit(77)));
}

#[tokio::test(start_paused = true)]
async fn only_the_entry_that_was_throttled_is_sent_again() {
    let function = Function::new();
    let offers = Rc::new(Cell::new(0));
    let counted = offers.clone();
    function.set_bus(move |entry| {
        if entry.account.as_str() == "333333333333" && counted.replace(counted.get() + 1) < 2 {
            return EntryResult::Retryable("ThrottlingException: slow down".to_owned());
        }
        EntryResult::Accepted
    });
    assert_eq!(function.decide("branch-updated").await.outcome, Relayed);
    let puts: Vec<String> = function.calls().into_iter().filter(|call| call.starts_with("PutEvents")).collect();
    assert_eq!(puts, ["PutEvents ap-northeast-1 2", "PutEvents ap-northeast-1 1", "PutEvents ap-northeast-1 1"]);
    let accepted = function.accepted();
    assert_eq!(
        accepted.iter().map(|(account, _)| account.as_str()).collect::<Vec<_>>(),
        ["222222222222", "333333333333"]
    );
    assert!(function.account().now() > START + Duration::from_millis(400), "the function waits before it sends again");
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_stays_throttled_does_not_hold_the_invocation_up() {
    let function = Function::new();
    answer_for_one(&function, EntryResult::Retryable("InternalFailure: try again".to_owned()));
    let decision = function.decide("branch-updated").await;
    assert_eq!((decision.outcome, decision.concerns["targets"].as_str()), (Relayed, "1"));
    assert!(decision.reason.contains("InternalFailure"), "{decision:?}");
    assert!(function.account().now() - START < Duration::from_secs(5));
}

/// One transaction writes the rows of both targets and of the branch, so that a crash leaves nothing half done.
#[tokio::test(start_paused = true)]
async fn each_target_has_its_own_order_number() {
    let function = relayed().await;
    let first: Vec<u64> =
        [SHOP_2, SHOP_3].map(|target| target_row(function.account(), target).unwrap().number).to_vec();
    function.point("main", Some(commit(2)));
    assert_eq!(function.decide("branch-updated").await.outcome, Relayed);
    for ((account, event), target) in function.accepted().iter().zip([SHOP_2, SHOP_3]) {
        let row = target_row(function.account(), target).unwrap();
        let order = event.order(&"shop".parse().unwrap()).unwrap();
        assert!(target.starts_with(account.as_str()));
        assert_eq!((order.number, event.change.revision.clone()), (row.number, commit(2)));
        assert!(order.number > first[0] && order.number > first[1]);
        assert_eq!(event.pipelines, ["shop"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_has_up_to_ten_entries_of_one_region() {
    let mut config = "[[route]]\nrepository = \"shop\"\nbranches = [\"main\"]\n".to_owned();
    for n in 0..25 {
        let region = if n % 5 == 0 { "us-east-1" } else { "ap-northeast-1" };
        writeln!(
            config,
            "[[route.target]]\naccount = \"{n:012}\"\nregion = \"{region}\"\npipeline = \"shop\"\naction = \"Source\""
        )
        .unwrap();
    }
    let function = Function::with(&config);
    function.account().read_time.set(Duration::from_millis(30));
    function.account().send_time.set(Duration::from_millis(30));
    assert_eq!(function.decide("branch-updated").await.outcome, Relayed);
    let mut puts: Vec<String> = function.calls().into_iter().filter(|call| call.starts_with("PutEvents")).collect();
    puts.sort();
    assert_eq!(puts, ["PutEvents ap-northeast-1 10", "PutEvents ap-northeast-1 10", "PutEvents us-east-1 5"]);
    // The test takes the time of one GetBranch call and one PutEvents call, because all PutEvents calls run at once.
    assert_eq!(function.account().now() - START, Duration::from_millis(60));
    let accepted = function.account().accepted.take();
    assert!(accepted.iter().all(|entry| entry.bus.ends_with(&format!(":{}:event-bus/sekisho", entry.account))));
    assert_eq!(accepted.len(), 25);
    assert_eq!(function.row(MAIN).unwrap().state.commit, Some(commit(1)));
}
