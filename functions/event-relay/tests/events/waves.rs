//! Changes, reports and reconciles of a route with waves.

use std::time::Duration;

use event_relay::Outcome::{self, Condemned, Duplicate, Entered, Relayed};
use event_relay::target;
use sekisho_domain::order::OrderKind;
use serde_json::{Value, json};

use crate::function::{Function, MAIN, commit, file, outcomes};
use crate::targets::{report, target_row, write_target};
use crate::trains::{ONE_BOX, TOKYO, TRAIN, Train, WORLD};

/// The orders that the buses accepted since the test last called this function.
fn accepted(function: &Function) -> Vec<Value> {
    let accepted = function.account().accepted.take();
    accepted
        .iter()
        .map(|entry| serde_json::from_str::<Value>(&entry.detail).unwrap()["orders"]["shop"].clone())
        .collect()
}

/// A route with one wave of so many targets.
fn wide(count: usize) -> String {
    let accounts: Vec<String> = (0..count).map(|n| format!("\"{:012}\"", 500_000_000_000 + n)).collect();
    let (head, _) = TRAIN.split_once("[[route.wave.target]]").unwrap();
    let accounts = accounts.join(", ");
    format!(
        "{head}[[route.wave.target]]\naccounts = [{accounts}]\nregion = \"ap-northeast-1\"\npipeline = \"shop\"\n\
         action = \"Source\"\n"
    )
}

#[tokio::test(start_paused = true)]
async fn a_new_head_joins_the_train_and_enters_the_first_wave() {
    let train =
        Train::with(&TRAIN.replace("name = \"one-box\"", "name = \"one-box\"\nbake = \"30m\"\nalarms = [\"*\"]"));
    train.function.point("main", Some(commit(1)));
    let decisions = train.function.file("branch-created").await.unwrap().decisions;
    assert_eq!(outcomes(&decisions), [Relayed, Entered]);
    let orders = accepted(&train.function);
    assert_eq!(orders.len(), 1);
    assert_eq!((&orders[0]["kind"], &orders[0]["bake"]), (&json!("deploy"), &json!("30m")));
    let row = train.function.row(MAIN).unwrap().state;
    assert_eq!((row.commit, row.targets), (Some(commit(1)), Some(vec![])), "the row lists no target of a wave");
    assert_eq!(train.function.decide("branch-created").await.outcome, Duplicate);
}

#[tokio::test(start_paused = true)]
async fn an_order_of_a_wave_without_a_bake_says_so() {
    let train = Train::new();
    train.push(1).await;
    assert_eq!(accepted(&train.function)[0]["bake"], "0s");
}

/// The figures of the benchmark `train`, for a small train.
#[tokio::test(start_paused = true)]
async fn a_change_and_its_reports_cost_few_calls() {
    let train = Train::new();
    train.reconcile().await;
    train.function.ledger_calls();
    train.push(1).await;
    let arrival = ["GetItem", "GetItem", "GetItem", "TransactWriteItems"];
    let step = ["GetItem", "BatchGetItem", "TransactWriteItems"];
    let calls = train.function.ledger_calls();
    assert_eq!((&calls[..4], &calls[4..7]), (&arrival[..], &step[..]));
    train.report(ONE_BOX, "running").await;
    assert_eq!(train.function.ledger_calls(), ["GetItem", "PutItem", "PutItem"]);
    train.report(ONE_BOX, "healthy").await;
    let calls = train.function.ledger_calls();
    let read = ["GetItem", "PutItem", "GetItem", "BatchGetItem", "BatchGetItem", "TransactWriteItems"];
    assert_eq!(calls[..6], read, "the train's row, and the rows of two waves");
    train.report(TOKYO[0], "healthy").await;
    assert_eq!(train.function.ledger_calls(), ["GetItem", "PutItem", "GetItem", "BatchGetItem", "PutItem"]);
}

#[tokio::test(start_paused = true)]
async fn the_reconcile_offers_an_order_of_a_wave_again_and_places_no_other() {
    let train = Train::new();
    train.push(1).await;
    let number = accepted(&train.function)[0]["number"].clone();
    train.wait(Duration::from_mins(6)).await;
    train.reconcile().await;
    let again = accepted(&train.function);
    assert_eq!((again.len(), &again[0]["number"]), (1, &number));
    train.report(ONE_BOX, "failed").await;
    train.wait(Duration::from_hours(3)).await;
    train.reconcile().await;
    assert!(accepted(&train.function).is_empty());
    assert_eq!(train.order(TOKYO[0]), None);
}

#[tokio::test(start_paused = true)]
async fn the_reconcile_offers_a_rollback_although_its_branch_is_not_routed_any_more() {
    let mut train = Train::new();
    train.healthy_everywhere(1).await;
    train.push(2).await;
    train.report(ONE_BOX, "healthy").await;
    train.report(TOKYO[0], "running").await;
    train.report(TOKYO[1], "rolled-back").await;
    assert_eq!(train.order(TOKYO[0]), Some((1, OrderKind::Rollback)));
    accepted(&train.function);
    train.function.relay.routes = crate::function::routes(&TRAIN.replace("\"main\", ", ""));
    train.wait(Duration::from_mins(6)).await;
    train.reconcile().await;
    let again = accepted(&train.function);
    assert_eq!((again.len(), &again[0]["kind"], &again[0]["bake"]), (1, &json!("rollback"), &json!("0s")));
}

#[tokio::test(start_paused = true)]
async fn explain_shows_that_a_head_would_join_the_train_and_writes_nothing() {
    let train = Train::new();
    train.function.point("main", Some(commit(1)));
    let before = train.function.account().ledger.rows();
    let event: Value = serde_json::from_str(&file("branch-created")).unwrap();
    let explained = train.function.handle(&json!({"action": "explain", "event": event}).to_string()).await.unwrap();
    assert_eq!(outcomes(&explained.decisions), [Relayed]);
    assert_eq!(explained.decisions[0].concerns["route"], "shop");
    assert_eq!(train.function.account().ledger.rows(), before);
}

#[tokio::test(start_paused = true)]
async fn a_branch_feeds_a_train_and_a_route_without_waves() {
    let plain = "[[route]]\nname = \"docs\"\nrepository = \"shop\"\nbranches = [\"main\"]\n[[route.target]]\n\
                 account = \"666666666666\"\nregion = \"ap-northeast-1\"\npipeline = \"shop\"\naction = \"Source\"\n";
    let train = Train::with(&format!("{TRAIN}{plain}"));
    train.function.point("main", Some(commit(1)));
    let decisions = train.function.file("branch-created").await.unwrap().decisions;
    assert_eq!(outcomes(&decisions), [Relayed, Relayed, Entered]);
    let bakes: Vec<Value> = accepted(&train.function).iter().map(|order| order["bake"].clone()).collect();
    assert_eq!(bakes, [Value::Null, json!("0s")]);
    let row = train.function.row(MAIN).unwrap().state;
    assert_eq!(row.targets.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_change_that_touches_no_path_of_a_train_does_not_join_it() {
    let train = Train::with(&TRAIN.replace("existing", "paths = [\"web/**\"]\nexisting"));
    train.push(1).await;
    assert_eq!(train.order(ONE_BOX), Some((1, OrderKind::Deploy)), "there was no commit to compare with");
    train.push(2).await;
    assert_eq!(train.order(ONE_BOX), Some((1, OrderKind::Deploy)));
    train.function.set_changed_paths(&[&["web/x"]]);
    train.push(3).await;
    train.report(ONE_BOX, "healthy").await;
    assert_eq!(train.row().changes.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_condemned_revision_on_another_branch_is_a_decision() {
    let train = Train::new();
    train.push(1).await;
    train.report(ONE_BOX, "failed").await;
    train.function.point("hotfix", Some(commit(1)));
    let event = file("branch-created").replace("refs/heads/main", "refs/heads/hotfix");
    let event = event.replace(r#""referenceName": "main""#, r#""referenceName": "hotfix""#);
    let decisions = train.function.handle(&event).await.unwrap().decisions;
    assert_eq!(outcomes(&decisions), [Condemned]);
    assert!(train.row().condemned[0].reason.contains(ONE_BOX), "{:?}", train.row().condemned);
}

/// The bus may deliver a report twice, and an invocation may end between its two writes.
#[tokio::test(start_paused = true)]
async fn a_report_that_arrives_again_moves_the_train_on() {
    let train = Train::new();
    train.push(1).await;
    let row = target_row(train.function.account(), ONE_BOX).unwrap();
    let event = report(ONE_BOX, &row, "healthy", 5);
    let stored = serde_json::from_value(event["detail"].clone()).unwrap();
    write_target(train.function.account(), ONE_BOX, &target::TargetRow { report: Some(stored), ..row });
    assert_eq!(train.order(TOKYO[0]), None);
    let decisions = train.function.handle(&event.to_string()).await.unwrap().decisions;
    assert_eq!(outcomes(&decisions), [Duplicate, Entered]);
    assert_eq!(train.order(TOKYO[0]), Some((1, OrderKind::Deploy)));
}

#[tokio::test(start_paused = true)]
async fn a_wave_of_many_targets_is_ordered_in_several_transactions() {
    let train = Train::with(&wide(250));
    train.push(1).await;
    assert_eq!(accepted(&train.function).len(), 250);
    let numbers = train.function.ledger_calls().into_iter().filter(|call| *call == "TransactWriteItems").count();
    assert_eq!(numbers, 1 + 3, "one for the arrival, and three for the orders");
}

/// DynamoDB throttles one row in the middle, or the invocation ends there.
#[tokio::test(start_paused = true)]
async fn a_wave_that_was_ordered_in_part_is_completed_by_the_next_reconcile() {
    let train = Train::with(&wide(250));
    let last = "500000000249/ap-northeast-1/shop";
    *train.function.account().ledger.throttled_row.borrow_mut() = Some(target::key(&last.parse().unwrap()));
    train.function.point("main", Some(commit(1)));
    train.function.file("branch-created").await.unwrap_err();
    let first = accepted(&train.function).len();
    assert_eq!(first, 198);
    *train.function.account().ledger.throttled_row.borrow_mut() = None;
    train.reconcile().await;
    assert_eq!(accepted(&train.function).len(), 250 - first);
    assert_eq!(train.order(last), Some((1, OrderKind::Deploy)));
}

/// The targets of [`wide`], and one of a second wave with this key.
fn wide_and_narrow(count: usize, key: &str) -> String {
    let wave = "[[route.wave]]\nname = \"world\"\n#key\n[[route.wave.target]]\naccount = \"333333333333\"\n\
                region = \"us-east-1\"\npipeline = \"shop\"\naction = \"Source\"\n";
    wide(count) + &wave.replace("#key", key)
}

fn wide_target(n: usize) -> String {
    format!("{:012}/ap-northeast-1/shop", 500_000_000_000_usize + n)
}

/// The invocation ends between two transactions.
#[tokio::test(start_paused = true)]
async fn newcomers_that_did_not_fit_into_the_first_transaction_are_ordered_by_the_next_reconcile() {
    let mut train = Train::with(&wide(1));
    train.push(1).await;
    train.report(&wide_target(0), "healthy").await;
    train.function.relay.routes = crate::function::routes(&wide(121));
    let last = target::key(&wide_target(120).parse().unwrap());
    train.function.account().ledger.throttled_row.replace(Some(last));
    train.reconcile().await;
    assert_eq!((train.order(&wide_target(1)), train.order(&wide_target(120))), (Some((1, OrderKind::Deploy)), None));
    train.function.account().ledger.throttled_row.replace(None);
    train.reconcile().await;
    for n in 1..121 {
        assert_eq!(train.order(&wide_target(n)), Some((1, OrderKind::Deploy)), "{n}");
    }
}

/// Another invocation writes the row of a target before the second transaction.
#[tokio::test(start_paused = true)]
async fn earlier_waves_go_back_completely_although_another_invocation_interferes() {
    let train = Train::with(&wide_and_narrow(120, "retreat = \"train\""));
    for commit in [1, 2] {
        train.push(commit).await;
        for n in 0..120 {
            train.report(&wide_target(n), "healthy").await;
        }
        train.report(WORLD, if commit == 1 { "healthy" } else { "running" }).await;
    }
    train.function.account().ledger.changed_row.replace(Some(target::key(&wide_target(119).parse().unwrap())));
    train.report(WORLD, "rolled-back").await;
    for n in 0..120 {
        assert_eq!(train.order(&wide_target(n)), Some((1, OrderKind::Rollback)), "{n}");
    }
}

/// Two targets finish at the same time. Only one of the invocations lets the change enter the next wave.
#[tokio::test(start_paused = true)]
async fn the_last_two_reports_of_a_wave_arrive_at_once() {
    let train = Train::new();
    train.push(1).await;
    train.report(ONE_BOX, "healthy").await;
    accepted(&train.function);
    train.function.set_call_time(Duration::from_millis(30));
    let healthy =
        TOKYO.map(|id| report(id, &target_row(train.function.account(), id).unwrap(), "healthy", 5).to_string());
    let (one, other) = futures_util::join!(train.function.handle(&healthy[0]), train.function.handle(&healthy[1]));
    let decided: Vec<Outcome> = [one, other].into_iter().flat_map(|one| outcomes(&one.unwrap().decisions)).collect();
    assert_eq!(decided.iter().filter(|outcome| **outcome == Entered).count(), 1, "{decided:?}");
    assert_eq!((accepted(&train.function).len(), train.order(WORLD)), (1, Some((1, OrderKind::Deploy))));
}
