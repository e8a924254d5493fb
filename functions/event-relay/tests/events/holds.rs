//! A person holds a route without waves.

use std::time::Duration;

use event_relay::Outcome::{Held, Relayed};
use event_relay::target::TargetRow;
use sekisho_lambda::Failure;
use sekisho_ledger::{Memory, Store};
use serde_json::{Value, json};

use crate::function::{Function, MAIN, commit, file, only_main, only_tags, relayed, routes};
use crate::targets::{SHOP_2, SHOP_3, target_row, write_target};

const HOLD: &str = r#"{"action":"hold","route":"shop","reason":"incident 7"}"#;
const RESUME: &str = r#"{"action":"resume","route":"shop"}"#;

/// A second route of the branch `main`, with a target of its own.
const DOCS: &str = "[[route]]\nname = \"docs\"\nrepository = \"shop\"\nbranches = [\"main\"]\n[[route.target]]\n\
                    account = \"444444444444\"\nregion = \"ap-northeast-1\"\npipeline = \"docs\"\n\
                    action = \"Source\"\n";

fn with_docs() -> String {
    only_main().replacen("[access]", &format!("{DOCS}[access]"), 1)
}

async fn push(function: &Function, n: u64) -> Vec<event_relay::Outcome> {
    tokio::time::advance(Duration::from_secs(1)).await;
    function.point("main", Some(commit(n)));
    crate::function::outcomes(&function.file("branch-updated").await.unwrap().decisions)
}

async fn reconcile(function: &Function) {
    tokio::time::advance(Duration::from_secs(1)).await;
    function.file("schedule").await.unwrap();
}

/// The accounts whose buses accepted an order, each with the number of the commit.
fn accepted(function: &Function) -> Vec<(String, u64)> {
    let number = |commit: &str| u64::from_str_radix(commit, 16).unwrap();
    let accepted = function.accepted();
    accepted.iter().map(|(account, event)| (account.clone(), number(event.change.commit.as_str()))).collect()
}

fn both(n: u64) -> Vec<(String, u64)> {
    vec![("222222222222".to_owned(), n), ("333333333333".to_owned(), n)]
}

#[tokio::test(start_paused = true)]
async fn a_held_route_orders_nothing_and_the_reconcile_after_resume_orders_the_newest_head() {
    let function = relayed().await;
    let answer = function.ask(HOLD).await.unwrap();
    assert!(answer.starts_with("Until `resume`, no change is ordered to the targets of shop."), "{answer}");
    assert_eq!(push(&function, 2).await, [Held]);
    assert_eq!(push(&function, 3).await, [Held]);
    reconcile(&function).await;
    assert_eq!(accepted(&function), []);
    let row = function.row(MAIN).unwrap().state;
    assert_eq!((row.commit, row.targets), (Some(commit(3)), Some(vec![])), "the head is known, and decided for nobody");
    let shown = function.ask(r#"{"train":"shop"}"#).await.unwrap();
    assert!(shown.contains("\nThe route is held until `resume`: incident 7\n"), "{shown}");
    let answer = function.ask(RESUME).await.unwrap();
    assert_eq!(
        answer,
        "shop is no longer held: incident 7.\nThe next reconcile orders what was kept, within five minutes."
    );
    reconcile(&function).await;
    assert_eq!(accepted(&function), both(3));
    reconcile(&function).await;
    assert_eq!((accepted(&function), push(&function, 4).await), (vec![], vec![Relayed]));
    assert!(target_row(function.account(), SHOP_2).unwrap().holds.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_hold_and_its_end_are_decisions_and_the_hold_has_a_notice_with_a_button() {
    let function = relayed().await;
    function.ask(HOLD).await.unwrap();
    let notices = function.account().notices.borrow().clone();
    assert_eq!((notices.len(), notices[0].title.as_str()), (1, "shop is held"));
    assert_eq!(notices[0].lines[0], "Until `resume`, no change is ordered to its targets.");
    let answer = function.ask(&json!({"resume": notices[0].context["code"]}).to_string()).await.unwrap();
    assert!(answer.starts_with("shop is no longer held: incident 7."), "{answer}");
    let outcomes: Vec<Value> =
        function.stored_decisions().into_iter().map(|decision| decision["outcome"].clone()).collect();
    assert_eq!(outcomes[outcomes.len() - 2..], ["held", "resumed"]);
    let answer = function.ask(RESUME).await.unwrap();
    assert_eq!(answer, "No hold of shop was found.");
}

/// The hold concerns the targets of its route only, also where the branch feeds another route.
#[tokio::test(start_paused = true)]
async fn the_other_route_of_a_branch_goes_on() {
    let function = Function::with(&with_docs());
    push(&function, 1).await;
    accepted(&function);
    function.ask(HOLD).await.unwrap();
    assert_eq!(push(&function, 2).await, [Relayed]);
    assert_eq!(accepted(&function), [("444444444444".to_owned(), 2)]);
    let decision = function.stored_decisions().pop().unwrap();
    assert_eq!((&decision["held"], &decision["targets"]), (&json!("2"), &json!("1")));
    function.ask(r#"{"action":"hold","route":"docs","reason":"too"}"#).await.unwrap();
    function.ask(RESUME).await.unwrap();
    reconcile(&function).await;
    assert_eq!(accepted(&function), both(2));
}

/// The row of the new target does not have the hold.
#[tokio::test(start_paused = true)]
async fn a_target_that_joins_a_held_route_gets_its_head_after_the_hold() {
    let mut function = relayed().await;
    reconcile(&function).await;
    function.ask(HOLD).await.unwrap();
    let third = "[[route.target]]\naccount = \"555555555555\"\nregion = \"us-east-1\"\npipeline = \"shop\"\naction = \
                 \"Source\"\n[access]";
    function.relay.routes = routes(&crate::function::CONFIG.replacen("[access]", third, 1));
    reconcile(&function).await;
    assert_eq!(accepted(&function), [], "the branch did not move since the hold began");
    assert_eq!(push(&function, 2).await, [Held]);
    reconcile(&function).await;
    assert_eq!(accepted(&function), []);
    function.ask(RESUME).await.unwrap();
    reconcile(&function).await;
    assert_eq!(accepted(&function).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_hold_with_minutes_ends_by_itself() {
    let function = relayed().await;
    function.ask(r#"{"action":"hold","route":"shop","reason":"sale","minutes":30}"#).await.unwrap();
    push(&function, 2).await;
    tokio::time::advance(Duration::from_mins(29)).await;
    reconcile(&function).await;
    assert!(!accepted(&function).contains(&("222222222222".to_owned(), 2)));
    tokio::time::advance(Duration::from_mins(2)).await;
    reconcile(&function).await;
    assert_eq!(accepted(&function), both(2));
}

#[tokio::test(start_paused = true)]
async fn a_hold_of_a_branch_lets_the_others_pass() {
    let function = relayed().await;
    function.ask(r#"{"action":"hold","route":"shop","ref":"main","reason":"broken"}"#).await.unwrap();
    function.point("release/1.2", Some(commit(9)));
    let decisions = function.file("branch-created-release").await.unwrap().decisions;
    assert_eq!(decisions[0].outcome, Relayed);
    assert_eq!((push(&function, 2).await, accepted(&function)), (vec![Held], both(9)));
    function.ask(RESUME).await.unwrap();
    reconcile(&function).await;
    assert_eq!(accepted(&function), both(2), "the head of main was seen last");
}

/// CodeCommit does not list tags, so the ledger's row is all that the reconcile knows about the tag.
#[tokio::test(start_paused = true)]
async fn a_held_tag_is_ordered_after_the_hold() {
    let function = Function::with(&only_tags());
    function.ask(HOLD).await.unwrap();
    function.point_tag("v1.0.0", Some(commit(2)));
    assert_eq!(function.decide("tag-created").await.outcome, Held);
    reconcile(&function).await;
    assert_eq!(accepted(&function), []);
    tokio::time::advance(Duration::from_hours(24 * 30)).await;
    function.ask(RESUME).await.unwrap();
    reconcile(&function).await;
    assert_eq!(accepted(&function), both(2));
}

/// A version that knows no holds writes rows without them.
#[tokio::test(start_paused = true)]
async fn one_row_with_the_hold_is_enough() {
    let function = relayed().await;
    function.ask(HOLD).await.unwrap();
    let row = target_row(function.account(), SHOP_2).unwrap();
    write_target(function.account(), SHOP_2, &TargetRow { holds: [].into(), ..row });
    assert_eq!(push(&function, 2).await, [Held]);
    assert!(function.ask(r#"{"train":"shop"}"#).await.unwrap().contains("The route is held"));
    function.ask(RESUME).await.unwrap();
    reconcile(&function).await;
    assert_eq!(accepted(&function), both(2));
}

#[tokio::test(start_paused = true)]
async fn a_lost_ledger_has_lost_the_hold_and_orders_nothing_twice() {
    let function = relayed().await;
    function.ask(HOLD).await.unwrap();
    push(&function, 2).await;
    let memory: &Memory = &function.account().ledger;
    for (key, _) in memory.rows() {
        let revision = memory.read::<Value>(&key).await.unwrap().unwrap().revision;
        memory.delete(&key, revision).await.unwrap();
    }
    reconcile(&function).await;
    assert_eq!(accepted(&function), both(2));
    assert!(!function.ask(r#"{"train":"shop"}"#).await.unwrap().contains("held"));
}

#[tokio::test(start_paused = true)]
async fn a_hold_of_many_targets_is_written_in_several_transactions() {
    let accounts: Vec<String> = (0..250).map(|n| format!("\"{:012}\"", 500_000_000_000_u64 + n)).collect();
    let config = format!(
        "[[route]]\nrepository = \"shop\"\nbranches = [\"main\"]\n[[route.target]]\naccounts = [{}]\n\
         region = \"ap-northeast-1\"\npipeline = \"shop\"\naction = \"Source\"\n",
        accounts.join(", ")
    );
    let function = Function::with(&config);
    function.ledger_calls();
    function.ask(HOLD).await.unwrap();
    let transactions = function.ledger_calls().into_iter().filter(|call| *call == "TransactWriteItems").count();
    assert_eq!((transactions, push(&function, 1).await), (3, vec![Held]));
    function.ask(RESUME).await.unwrap();
    reconcile(&function).await;
    assert_eq!(accepted(&function).len(), 250);
}

#[tokio::test(start_paused = true)]
async fn a_hold_costs_a_push_no_call() {
    let function = relayed().await;
    push(&function, 2).await;
    let free = function.ledger_calls();
    function.ask(HOLD).await.unwrap();
    function.ledger_calls();
    push(&function, 3).await;
    assert_eq!(function.ledger_calls(), ["GetItem", "BatchGetItem", "TransactWriteItems", "PutItem"]);
    assert_eq!(free.len(), 4, "{free:?}");
}

#[tokio::test(start_paused = true)]
async fn resend_offers_the_latest_order_and_never_orders_what_is_held() {
    let resend = r#"{"action":"resend","route":"shop","account":"333333333333"}"#;
    let function = Function::new();
    function.file("schedule").await.unwrap();
    accepted(&function);
    function.ask(HOLD).await.unwrap();
    push(&function, 2).await;
    function.ask(resend).await.unwrap();
    assert_eq!(accepted(&function), [("333333333333".to_owned(), 1)], "the order was placed before the hold");
    let row = target_row(function.account(), SHOP_3).unwrap();
    write_target(function.account(), SHOP_3, &TargetRow { order: None, ..row });
    let error = function.ask(resend).await.unwrap_err();
    assert_eq!(error.error_type().name(), "NotFound");
    assert!(error.to_string().contains("is held: send `resume` first"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_of_a_hold_changes_nothing() {
    let function = relayed().await;
    let before = function.account().ledger.rows();
    let request = r#"{"action":"hold","route":"shop","reason":"r","dry_run":true}"#;
    let answer = function.ask(request).await.unwrap();
    assert!(answer.contains("no change is ordered to the targets of shop"), "{answer}");
    assert_eq!(function.account().ledger.rows(), before);
    let explained =
        json!({"action": "explain", "event": serde_json::from_str::<Value>(&file("branch-updated")).unwrap()});
    function.ask(HOLD).await.unwrap();
    function.point("main", Some(commit(2)));
    let decisions = function.handle(&explained.to_string()).await.unwrap().decisions;
    assert_eq!(decisions[0].outcome, Held);
}
