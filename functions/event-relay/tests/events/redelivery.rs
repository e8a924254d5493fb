//! Messages that an earlier version put into the dead-letter queue, which are sent to the function.

use event_relay::Outcome::{Filtered, Ignored, Ordered, Refused};
use event_relay::branch::BranchRow;
use event_relay::target::TargetRow;
use event_relay::world::{EntryResult, World};
use sekisho_lambda::Failure;
use serde_json::{Value, json};

use crate::function::{Function, MAIN, SHOP, commit, relayed, write};
use crate::targets::{SHOP_3, target_row, write_target};

/// Returns a function that has relayed the first commit, and the message of an earlier version about that change.
async fn with_message() -> (Function, String) {
    let function = relayed().await;
    let row = function.row(MAIN).unwrap().state;
    let change = row.change(&SHOP.parse().unwrap(), &MAIN.parse().unwrap()).unwrap();
    let delivery = json!({"account": "333333333333", "region": "ap-northeast-1", "pipelines": ["shop"]});
    let message = json!({"action": "redeliver", "reason": "no bus", "change": change, "delivery": delivery});
    (function, message.to_string())
}

#[tokio::test(start_paused = true)]
async fn a_target_with_an_order_is_offered_that_order() {
    let (function, message) = with_message().await;
    function.point("main", Some(commit(2)));
    function.file("branch-updated").await.unwrap();
    function.accepted();
    let decisions = function.handle(&message).await.unwrap().decisions;
    assert_eq!((decisions.len(), decisions[0].outcome), (1, Ordered));
    let accepted = function.accepted();
    assert_eq!((accepted.len(), accepted[0].0.as_str()), (1, "333333333333"));
    assert_eq!(accepted[0].1.change.revision, commit(2), "the current order, and not the change of the message");
    assert_eq!(target_row(function.account(), SHOP_3).unwrap().order.unwrap().offers, 2);
}

#[tokio::test(start_paused = true)]
async fn a_target_without_an_order_is_ordered_to_run_the_change() {
    let (function, message) = with_message().await;
    write_target(function.account(), SHOP_3, &TargetRow::default());
    assert_eq!(function.handle(&message).await.unwrap().decisions[0].outcome, Ordered);
    let accepted = function.accepted();
    assert_eq!((accepted.len(), accepted[0].1.change.revision.clone()), (1, commit(1)));
}

/// Before the upgrade, the earlier version put the first commit into the queue and relayed the second one. The starter
/// knows that change by its id, so it starts nothing again.
#[tokio::test(start_paused = true)]
async fn a_redrive_after_the_upgrade_does_not_go_back_to_an_older_commit() {
    let (function, message) = with_message().await;
    let row = function.row(MAIN).unwrap().state;
    let earlier = BranchRow { commit: Some(commit(2)), sequence: row.sequence + 4, targets: None, ..row };
    write(function.account(), MAIN, &earlier);
    write_target(function.account(), SHOP_3, &TargetRow::default());
    assert_eq!(function.handle(&message).await.unwrap().decisions[0].outcome, Ordered);
    let accepted = function.accepted();
    let relayed = earlier.change(&SHOP.parse().unwrap(), &MAIN.parse().unwrap()).unwrap();
    assert_eq!((accepted.len(), &accepted[0].1.change.revision, &accepted[0].1.id), (1, &commit(2), &relayed.id()));
}

/// Nothing is known that the target should run, because the branch is gone.
#[tokio::test(start_paused = true)]
async fn a_redelivery_of_a_branch_that_is_gone_sends_nothing() {
    let (function, message) = with_message().await;
    let row = function.row(MAIN).unwrap().state.expiring(function.account().now());
    write(function.account(), MAIN, &row);
    write_target(function.account(), SHOP_3, &TargetRow::default());
    let decisions = function.handle(&message).await.unwrap().decisions;
    assert_eq!((decisions.len(), decisions[0].outcome), (1, Ignored), "{decisions:?}");
    assert_eq!(function.accepted(), []);
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_does_not_accept_is_left_to_the_reconcile() {
    let (function, message) = with_message().await;
    function.set_bus(|_| EntryResult::Refused("ResourceNotFoundException: no bus".to_owned()));
    let decisions = function.handle(&message).await.unwrap().decisions;
    assert_eq!(decisions[0].outcome, Ordered);
    assert!(decisions[0].reason.contains("no bus"), "{decisions:?}");
}

#[tokio::test(start_paused = true)]
async fn a_redelivery_to_a_region_without_a_route_is_filtered() {
    let (function, message) = with_message().await;
    let message = message.replace(r#""region":"ap-northeast-1""#, r#""region":"us-east-1""#);
    assert_eq!(function.handle(&message).await.unwrap().decisions[0].outcome, Filtered);
    assert_eq!(function.calls(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_redelivery_with_a_sequence_that_no_change_has_is_refused() {
    let (function, message) = with_message().await;
    let mut forged: Value = serde_json::from_str(&message).unwrap();
    forged["change"]["sequence"] = u64::MAX.into();
    assert_eq!(function.handle(&forged.to_string()).await.unwrap().decisions[0].outcome, Refused);
    assert_eq!(function.calls(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_kind_contradicts_its_reference_is_invalid() {
    let (function, message) = with_message().await;
    let error = function.handle(&message.replace(r#""kind":"branch""#, r#""kind":"tag""#)).await.unwrap_err();
    assert_eq!(error.error_type().name(), "InvalidRequest");
    assert!(error.to_string().contains("`kind` contradicts `ref`"), "{error}");
}
