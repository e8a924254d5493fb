//! `explain` shows the plan for an event, and writes and sends nothing.

use event_relay::Outcome::{Duplicate, Ordered, Relayed};
use serde_json::{Value, json};

use crate::function::{MAIN, SHOP, START, change_to_second_commit, commit, file, relayed, write};

fn explain(event: &str) -> String {
    let event: Value = serde_json::from_str(event).unwrap();
    json!({"action": "explain", "event": event}).to_string()
}

#[tokio::test(start_paused = true)]
async fn explain_reports_a_pending_change_and_a_duplicate() {
    let function = relayed().await;
    let explained = function.handle(&explain(&file("branch-updated"))).await.unwrap().decisions;
    assert_eq!((explained.len(), explained[0].outcome), (1, Duplicate));

    let row = function.row(MAIN).unwrap().state;
    let deliveries = json!([{"account": "222222222222", "region": "ap-northeast-1", "pipelines": ["shop"]}]);
    let deliveries = serde_json::from_value(deliveries).unwrap();
    let change = change_to_second_commit(&row);
    write(function.account(), MAIN, &row.with_pending(change, deliveries, vec![], START));
    function.point("main", Some(commit(2)));
    let rows = function.account().ledger.rows();
    let explained = function.handle(&explain(&file("branch-updated"))).await.unwrap().decisions.remove(0);
    assert_eq!((explained.outcome, &explained.concerns["pending"]), (Relayed, &(row.sequence + 1).to_string()));
    assert_eq!(function.account().ledger.rows(), rows);
    assert_eq!(function.accepted(), []);
}

/// The explanation names the targets that would get the head, and no target that should already run it.
#[tokio::test(start_paused = true)]
async fn explain_shows_which_targets_would_be_ordered() {
    let function = relayed().await;
    function.point("release/1.2", Some(commit(1)));
    let event = file("branch-created-release");
    let explained = function.handle(&explain(&event)).await.unwrap().decisions.remove(0);
    assert_eq!(explained.outcome, Duplicate, "both targets should already run the commit");
    function.point("release/1.2", Some(commit(2)));
    let explained = function.handle(&explain(&event)).await.unwrap().decisions.remove(0);
    let targets = "222222222222/ap-northeast-1: shop; 333333333333/ap-northeast-1: shop";
    assert_eq!((explained.outcome, explained.concerns["targets"].as_str()), (Relayed, targets));
}

#[tokio::test(start_paused = true)]
async fn explain_shows_what_a_message_of_an_earlier_version_leads_to() {
    let function = relayed().await;
    let change = function.row(MAIN).unwrap().state.change(&SHOP.parse().unwrap(), &MAIN.parse().unwrap()).unwrap();
    let delivery = json!({"account": "333333333333", "region": "ap-northeast-1", "pipelines": ["shop"]});
    let message = json!({"action": "redeliver", "reason": "no bus", "change": change, "delivery": delivery});
    let explained = function.handle(&explain(&message.to_string())).await.unwrap().decisions;
    assert_eq!((explained[0].outcome, function.accepted()), (Ordered, vec![]));
}
