//! `resend` sends the latest order of a target again, now.

use event_relay::branch::BranchRow;
use event_relay::target::TargetRow;
use event_relay::world::EntryResult;
use sekisho_lambda::Failure;
use serde_json::json;

use crate::function::{CONFIG, Function, MAIN, commit, only_main, routes, write};
use crate::targets::{SHOP_2, SHOP_3, ordered, report, target_row, write_target, write_unreadable};

const RESEND: &str = r#"{"action":"resend","route":"shop","account":"333333333333"}"#;

/// The row of a reference whose n-th commit was relayed.
fn relayed(n: u64, sequence: u64) -> BranchRow {
    BranchRow { commit: Some(commit(n)), sequence, ..BranchRow::default() }
}

/// The number of the order that each accepted event has for the pipeline `shop`, with the account and the commit.
fn accepted(function: &Function) -> Vec<(String, u64, String)> {
    let order = |event: &sekisho_domain::change::SourceChange| event.order(&"shop".parse().unwrap()).unwrap().number;
    let accepted = function.accepted();
    accepted.iter().map(|(account, event)| (account.clone(), order(event), event.change.revision.to_string())).collect()
}

#[tokio::test(start_paused = true)]
async fn the_latest_order_is_sent_again_to_the_named_account_only() {
    let function = Function::new();
    for target in [SHOP_2, SHOP_3] {
        write_target(function.account(), target, &ordered(2));
    }
    let answer = function.ask(RESEND).await.unwrap();
    assert!(answer.contains(SHOP_3) && answer.contains("00000000 main"), "{answer}");
    assert_eq!(accepted(&function), [("333333333333".to_owned(), ordered(2).number, commit(2).to_string())]);
    let order = target_row(function.account(), SHOP_3).unwrap().order.unwrap();
    assert_eq!((order.number, order.offers), (ordered(2).number, 2));
    assert_eq!(target_row(function.account(), SHOP_2), Some(ordered(2)));
    let decisions = function.stored_decisions();
    assert_eq!(decisions.len(), 1, "{decisions:?}");
    let number = ordered(2).number.to_string();
    for (what, value) in [("outcome", "ordered"), ("target", SHOP_3), ("order", number.as_str()), ("ref", MAIN)] {
        assert_eq!(decisions[0][what], value, "{decisions:?}");
    }
}

/// A target answers an order that it has finished with its last report, and starts nothing.
#[tokio::test(start_paused = true)]
async fn a_person_learns_that_a_finished_order_starts_nothing_again() {
    let function = Function::new();
    write_target(function.account(), SHOP_3, &ordered(2));
    function.handle(&report(SHOP_3, &ordered(2), "running", 1).to_string()).await.unwrap();
    assert!(!function.ask(RESEND).await.unwrap().contains("starts nothing"));
    function.handle(&report(SHOP_3, &ordered(2), "failed", 2).to_string()).await.unwrap();
    assert!(function.ask(RESEND).await.unwrap().contains("already ended there (failed), so it starts nothing"));
    assert_eq!(accepted(&function).len(), 2);
}

/// After an upgrade, the heads that the earlier version relayed are not ordered until a person asks for it. The change
/// has the same sequence and commit as the one that the earlier version relayed, so the target adopts its execution.
#[tokio::test(start_paused = true)]
async fn a_target_without_an_order_gets_one_for_the_newest_head_in_the_ledger() {
    let function = Function::new();
    write(function.account(), MAIN, &relayed(1, 10));
    write(function.account(), "refs/heads/release/1.2", &relayed(2, 20));
    write(function.account(), "refs/heads/feature/search", &relayed(3, 30));
    let answer = function.ask(RESEND).await.unwrap();
    assert!(answer.contains("release/1.2"), "{answer}");
    let order = target_row(function.account(), SHOP_3).unwrap().order.unwrap();
    assert_eq!((order.change.revision.clone(), order.change.sequence), (commit(2), 20));
    assert_eq!(accepted(&function), [("333333333333".to_owned(), order.number, commit(2).to_string())]);
    assert_eq!(target_row(function.account(), SHOP_2), None);
}

/// A first look records many heads at nearly the same time. They say nothing about what the target should run.
#[tokio::test(start_paused = true)]
async fn a_head_that_was_relayed_is_newer_than_one_that_was_only_recorded() {
    let function = Function::new();
    write(function.account(), MAIN, &relayed(1, 10));
    let baseline = BranchRow { baseline: true, ..relayed(2, 20) };
    write(function.account(), "refs/heads/release/1.2", &baseline);
    function.ask(RESEND).await.unwrap();
    assert_eq!(accepted(&function)[0].2, commit(1).to_string());
    // Without another head, the recorded one is ordered.
    let function = Function::new();
    write(function.account(), "refs/heads/release/1.2", &baseline);
    function.ask(RESEND).await.unwrap();
    assert_eq!(accepted(&function)[0].2, commit(2).to_string());
}

#[tokio::test(start_paused = true)]
async fn a_head_that_no_longer_exists_is_not_ordered() {
    let function = Function::new();
    write(function.account(), MAIN, &BranchRow { expires: Some(1), ..relayed(1, 10) });
    assert_eq!(function.ask(RESEND).await.unwrap_err().error_type().name(), "NotFound");
    assert_eq!((accepted(&function), target_row(function.account(), SHOP_3)), (vec![], None));
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_does_not_accept_the_order_is_named_and_the_reconcile_offers_it_again() {
    let function = Function::new();
    write_target(function.account(), SHOP_3, &ordered(2));
    function.set_bus(|_| EntryResult::Refused("ResourceNotFoundException: <no> bus".to_owned()));
    let answer = function.ask(RESEND).await.unwrap();
    assert!(answer.contains(SHOP_3) && answer.contains("ResourceNotFoundException: &lt;no&gt; bus"), "{answer}");
    assert_eq!(function.stored_decisions()[0]["outcome"], json!("ordered"));
}

#[tokio::test(start_paused = true)]
async fn an_order_that_is_no_longer_routed_is_not_sent() {
    let mut function = Function::new();
    write_target(function.account(), SHOP_3, &ordered(2));
    function.relay.routes = routes(&CONFIG.replace(r#""main", "#, ""));
    let error = function.ask(RESEND).await.unwrap_err();
    assert!(error.to_string().contains(SHOP_3), "{error}");
    assert_eq!((accepted(&function), target_row(function.account(), SHOP_3)), (vec![], Some(ordered(2))));
}

#[tokio::test(start_paused = true)]
async fn region_and_pipeline_narrow_the_request() {
    let two = only_main().replacen("region   = \"ap-northeast-1\"", "regions = [\"ap-northeast-1\", \"us-east-1\"]", 1);
    let function = Function::with(&two);
    let abroad = "222222222222/us-east-1/shop";
    for target in [SHOP_2, abroad] {
        write_target(function.account(), target, &ordered(2));
    }
    let narrow =
        r#"{"action":"resend","route":"shop","account":"222222222222","region":"us-east-1","pipeline":"shop"}"#;
    function.ask(narrow).await.unwrap();
    assert_eq!(target_row(function.account(), SHOP_2), Some(ordered(2)));
    assert_eq!(target_row(function.account(), abroad).unwrap().order.unwrap().offers, 2);
    let both = r#"{"action":"resend","route":"shop","account":"222222222222"}"#;
    let answer = function.ask(both).await.unwrap();
    assert!(answer.contains("2 targets"), "{answer}");
    assert_eq!(function.stored_decisions().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn one_unreadable_row_does_not_stop_the_other_targets() {
    let two = only_main().replacen("region   = \"ap-northeast-1\"", "regions = [\"ap-northeast-1\", \"us-east-1\"]", 1);
    let function = Function::with(&two);
    write_unreadable(function.account(), SHOP_2);
    write_target(function.account(), "222222222222/us-east-1/shop", &ordered(2));
    let both = r#"{"action":"resend","route":"shop","account":"222222222222"}"#;
    let answer = function.ask(both).await.unwrap();
    assert!(answer.contains("was sent to 222222222222/us-east-1/shop"), "{answer}");
    assert!(answer.contains(&format!("Nothing was sent to {SHOP_2}")), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_sends_nothing_leaves_no_row() {
    let function = Function::new();
    let error = function.ask(RESEND).await.unwrap_err();
    assert_eq!(error.error_type().name(), "NotFound");
    assert!(function.account().ledger.rows().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_order_after_a_lost_ledger_has_a_larger_number_than_the_last_report() {
    let function = Function::new();
    let known = u64::MAX / 4;
    write_target(function.account(), SHOP_3, &TargetRow { number: known, ..TargetRow::default() });
    write(function.account(), MAIN, &relayed(1, 10));
    function.ask(RESEND).await.unwrap();
    assert_eq!(target_row(function.account(), SHOP_3).unwrap().order.unwrap().number, known + 1);
}

/// The target took a change of an earlier version, and would answer the latest order with its report on that change.
#[tokio::test(start_paused = true)]
async fn a_target_that_calls_its_order_stale_gets_a_new_one() {
    let function = Function::new();
    write(function.account(), MAIN, &relayed(2, ordered(2).number));
    write_target(function.account(), SHOP_3, &ordered(2));
    let theirs = report(SHOP_3, &ordered(5), "healthy", 1).to_string();
    function.handle(&theirs).await.unwrap();
    function.ask(RESEND).await.unwrap();
    let accepted = accepted(&function);
    assert_eq!((accepted.len(), &accepted[0].2), (1, &commit(2).to_string()));
    assert!(accepted[0].1 > ordered(5).number);
}
