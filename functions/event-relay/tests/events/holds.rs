//! A person holds a route without waves.

use std::collections::BTreeSet;
use std::time::Duration;

use event_relay::Outcome::{Failed, Held, Relayed};
use event_relay::target::{self, TargetRow};
use event_relay::train;
use futures_util::future::join;
use sekisho_lambda::Failure;
use sekisho_ledger::{Memory, Store};
use serde_json::{Value, json};

use crate::function::{CONFIG, Function, MAIN, commit, file, only_main, only_tags, relayed, routes};
use crate::targets::{SHOP_2, SHOP_3, ordered, report, target_row, write_target, write_unreadable};

const HOLD: &str = r#"{"action":"hold","route":"shop","reason":"incident 7"}"#;
const RESUME: &str = r#"{"action":"resume","route":"shop"}"#;

/// A second route of the branch `main`, with a target of its own.
const DOCS: &str = "[[route]]\nname = \"docs\"\nrepository = \"shop\"\nbranches = [\"main\"]\n[[route.target]]\n\
                    account = \"444444444444\"\nregion = \"ap-northeast-1\"\npipeline = \"docs\"\n\
                    action = \"Source\"\n";

/// A third target of the route `shop`.
const THIRD: &str = "[[route.target]]\naccount = \"555555555555\"\nregion = \"us-east-1\"\npipeline = \"shop\"\n\
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
    accepted.iter().map(|(account, event)| (account.clone(), number(event.change.revision.as_str()))).collect()
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

#[tokio::test(start_paused = true)]
async fn a_target_that_joins_a_held_route_gets_its_head_after_the_hold() {
    let mut function = relayed().await;
    reconcile(&function).await;
    function.ask(HOLD).await.unwrap();
    function.relay.routes = routes(&CONFIG.replacen("[access]", &format!("{THIRD}[access]"), 1));
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
    reconcile(&function).await;
    assert_eq!(accepted(&function), []);
    assert!(!function.ask(r#"{"train":"shop"}"#).await.unwrap().contains("held"));
}

#[tokio::test(start_paused = true)]
async fn a_hold_of_many_targets_is_one_row() {
    let accounts: Vec<String> = (0..250).map(|n| format!("\"{:012}\"", 500_000_000_000_u64 + n)).collect();
    let config = format!(
        "[[route]]\nrepository = \"shop\"\nbranches = [\"main\"]\n[[route.target]]\naccounts = [{}]\n\
         region = \"ap-northeast-1\"\npipeline = \"shop\"\naction = \"Source\"\n",
        accounts.join(", ")
    );
    let function = Function::with(&config);
    function.ledger_calls();
    function.ask(HOLD).await.unwrap();
    let calls = function.ledger_calls();
    assert_eq!(
        (calls.iter().filter(|call| **call == "TransactWriteItems").count(), calls.contains(&"BatchGetItem")),
        (1, false)
    );
    assert_eq!(push(&function, 1).await, [Held]);
    function.ask(RESUME).await.unwrap();
    reconcile(&function).await;
    assert_eq!(accepted(&function).len(), 250);
}

#[tokio::test(start_paused = true)]
async fn a_push_reads_the_row_of_its_route_and_a_held_target_is_not_read_by_the_reconcile() {
    let function = relayed().await;
    function.ask(HOLD).await.unwrap();
    function.ledger_calls();
    push(&function, 3).await;
    assert_eq!(function.ledger_calls(), ["GetItem", "BatchGetItem", "GetItem", "TransactWriteItems", "PutItem"]);
    reconcile(&function).await;
    function.ledger_calls();
    reconcile(&function).await;
    let held = function.ledger_calls();
    function.ask(RESUME).await.unwrap();
    reconcile(&function).await;
    function.ledger_calls();
    reconcile(&function).await;
    let free = function.ledger_calls();
    let count = |calls: &[&str], operation| calls.iter().filter(|call| **call == operation).count();
    assert_eq!(count(&held, "GetItem"), count(&free, "GetItem") + 1, "{held:?}");
    assert_eq!(count(&held, "BatchGetItem"), count(&free, "BatchGetItem"), "{held:?}");
}

/// The row of the target is lost. What the target may get is then the newest head, which is held.
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
    write_target(function.account(), SHOP_3, &TargetRow::default());
    let error = function.ask(resend).await.unwrap_err();
    assert_eq!(error.error_type().name(), "NotFound");
    assert!(error.to_string().contains("is held: send `resume` first"), "{error}");
    function.ask(RESUME).await.unwrap();
    function.ask(resend).await.unwrap();
    assert_eq!(accepted(&function), [("333333333333".to_owned(), 2)]);
}

/// The ledger has lost the target's order. The target reports on it, and the reconcile compares that with the heads.
#[tokio::test(start_paused = true)]
async fn a_report_on_a_lost_order_never_leads_to_an_order_while_the_route_is_held() {
    let function = Function::with(&only_main());
    push(&function, 1).await;
    accepted(&function);
    let lost = target_row(function.account(), SHOP_3).unwrap();
    let behind = TargetRow { number: 1, order: ordered(1).order, ..TargetRow::default() };
    write_target(function.account(), SHOP_3, &behind);
    function.ask(HOLD).await.unwrap();
    push(&function, 2).await;
    function.handle(&report(SHOP_3, &lost, "healthy", 1).to_string()).await.unwrap();
    reconcile(&function).await;
    assert_eq!(accepted(&function), []);
    function.ask(RESUME).await.unwrap();
    reconcile(&function).await;
    assert_eq!(accepted(&function), both(2));
}

/// The push touches only the paths of the other route, so of the held route only the new target wants the head.
#[tokio::test(start_paused = true)]
async fn a_push_that_touches_only_another_route_orders_nothing_to_a_target_that_joined_a_held_route() {
    let mut function = Function::with(&with_docs());
    push(&function, 1).await;
    accepted(&function);
    function.ask(HOLD).await.unwrap();
    function.relay.routes = routes(&with_docs().replacen("[[route.target]]", &format!("{THIRD}[[route.target]]"), 1));
    function.set_changed_paths(&[&["README.md"]]);
    assert_eq!(push(&function, 2).await, [Relayed]);
    assert_eq!(accepted(&function), [("444444444444".to_owned(), 2)]);
    function.ask(RESUME).await.unwrap();
    reconcile(&function).await;
    assert_eq!(accepted(&function), [("555555555555".to_owned(), 2)]);
}

/// The target misses the heads of both branches, and the newer one stays held.
#[tokio::test(start_paused = true)]
async fn a_held_branch_does_not_keep_the_head_of_another_branch() {
    let function = relayed().await;
    function.ask(r#"{"action":"hold","route":"shop","ref":"main","reason":"broken"}"#).await.unwrap();
    function.ask(r#"{"action":"hold","route":"shop","ref":"release/1.2","reason":"broken"}"#).await.unwrap();
    push(&function, 2).await;
    tokio::time::advance(Duration::from_secs(1)).await;
    function.point("release/1.2", Some(commit(9)));
    assert_eq!(function.file("branch-created-release").await.unwrap().decisions[0].outcome, Held);
    let answer = function.ask(r#"{"action":"resume","route":"shop","ref":"main"}"#).await.unwrap();
    assert!(answer.contains("The next reconcile orders what was kept"), "{answer}");
    reconcile(&function).await;
    assert_eq!(accepted(&function), both(2));
    function.ask(RESUME).await.unwrap();
    reconcile(&function).await;
    assert_eq!(accepted(&function), both(9), "the head of the release was seen last");
}

/// A push to a branch that the route leads says that the row must be repaired, and is ordered afterwards.
#[tokio::test(start_paused = true)]
async fn an_unreadable_row_of_a_route_keeps_no_target_of_another_route_from_joining() {
    let mut function = Function::with(&with_docs());
    push(&function, 1).await;
    accepted(&function);
    let memory: &Memory = &function.account().ledger;
    memory.write(&train::key("shop"), &json!({"holds": "many"}), None, "a person").await.unwrap();
    let added = |from: &str, to: &str| {
        with_docs().replace(&format!("account = \"{from}\""), &format!("accounts = [\"{from}\", \"{to}\"]"))
    };
    let config =
        added("444444444444", "666666666666").replacen("[[route.target]]", &format!("{THIRD}[[route.target]]"), 1);
    function.relay.routes = routes(&config);
    reconcile(&function).await;
    assert_eq!(accepted(&function), [("666666666666".to_owned(), 1)]);
    assert_eq!(push(&function, 2).await, [Failed]);
    let memory: &Memory = &function.account().ledger;
    memory.write(&train::key("shop"), &json!({}), Some(1), "a person").await.unwrap();
    reconcile(&function).await;
    let all: BTreeSet<(String, u64)> = accepted(&function).into_iter().collect();
    assert_eq!((all.len(), all.iter().all(|(_, n)| *n == 2)), (5, true), "{all:?}");
}

/// Both requests read the row before one of them writes it.
#[tokio::test(start_paused = true)]
async fn two_requests_at_the_same_time_lose_no_hold() {
    let function = relayed().await;
    function.set_call_time(Duration::from_millis(30));
    let hold = |branch: &str| format!(r#"{{"action":"hold","route":"shop","ref":"{branch}","reason":"r"}}"#);
    let (main, release) = (hold("main"), hold("release/1.2"));
    let (first, second) = Box::pin(join(function.ask(&main), function.ask(&release))).await;
    assert!(first.is_ok() && second.is_ok(), "{first:?} {second:?}");
    let shown = function.ask(r#"{"train":"shop"}"#).await.unwrap();
    assert_eq!(shown.matches("The route is held").count(), 2, "{shown}");
    let (first, second) = Box::pin(join(function.ask(RESUME), function.ask(HOLD))).await;
    assert!(first.is_ok() && second.is_ok(), "{first:?} {second:?}");
    let shown = function.ask(r#"{"train":"shop"}"#).await.unwrap();
    let is_held = shown.contains("The route is held until `resume`: incident 7");
    assert_eq!((is_held, push(&function, 2).await), (true, vec![Held]), "{shown}");
}

/// A target leaves the file while its route is held, and comes back after `resume`.
#[tokio::test(start_paused = true)]
async fn an_ended_hold_does_not_come_back_with_a_target_or_a_row() {
    let mut function = Function::with(&only_main());
    push(&function, 1).await;
    let before = function.ask(HOLD).await.map(|_| only_main()).unwrap();
    let (head, rest) = before.split_once("[[route.target]]\naccount  = \"333333333333\"").unwrap();
    let (_, rest) = rest.split_once("[access]").unwrap();
    function.relay.routes = routes(&format!("{head}[access]{rest}"));
    let row = target_row(function.account(), SHOP_2).unwrap();
    write_unreadable(function.account(), SHOP_2);
    function.ask(RESUME).await.unwrap();
    repair(&function, &row).await;
    function.relay.routes = routes(&before);
    accepted(&function);
    assert_eq!((push(&function, 2).await, accepted(&function)), (vec![Relayed], both(2)));
}

/// Replaces the row that cannot be read.
async fn repair(function: &Function, row: &TargetRow) {
    let memory: &Memory = &function.account().ledger;
    let key = target::key(&SHOP_2.parse().unwrap());
    let revision = memory.read::<Value>(&key).await.unwrap().unwrap().revision;
    memory.write(&key, row, Some(revision), "a person").await.unwrap();
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
