//! Reconciles of many repositories, and of repositories that fail.

use std::time::Duration;

use event_relay::Outcome::{Failed, Ignored, Relayed};
use event_relay::world::World;
use futures_util::FutureExt;
use sekisho_ledger::{Key, Memory, Row, Store};
use serde::Deserialize;

use crate::function::{CONFIG, Function, MAIN, SHOP, START, commit, only_main, row};

const NINETY_DAYS: Duration = Duration::from_hours(90 * 24);

/// A function with this many repositories, in which each of three branches is routed.
fn many(count: usize) -> Function {
    let config = CONFIG
        .replace(r#"repository = "shop""#, r#"repository = "*""#)
        .replace(r#"["main", "release/*"]"#, r#"["**"]"#);
    let function = Function::with(&config);
    function.account().repositories.replace(Some((0..count).map(|n| format!("r{n:04}")).collect()));
    function
}

/// The repository with which the next reconcile begins.
fn next(function: &Function) -> Option<String> {
    #[derive(Deserialize)]
    struct Next {
        next: Option<String>,
    }
    let memory: &Memory = &function.account().ledger;
    let row: Option<Row<Next>> = memory.read(&Key::state("reconcile")).now_or_never().unwrap().unwrap();
    row.and_then(|row| row.state.next)
}

#[tokio::test(start_paused = true)]
async fn a_thousand_repositories_are_examined_in_one_pass() {
    let function = many(1_000);
    function.set_call_time(Duration::from_millis(30));
    for limit in [Duration::from_secs(25), Duration::from_secs(15)] {
        let began = function.account().now();
        let decisions = function.file("schedule").await.unwrap().decisions;
        assert!(decisions.iter().all(|decision| decision.outcome != Ignored), "{:?}", decisions.last());
        assert!(function.account().now() - began < limit, "{}", function.account().now() - began);
        assert_eq!(next(&function), None);
    }
}

/// Each of them needs one call more: when was it created?
#[tokio::test(start_paused = true)]
async fn a_thousand_new_repositories_are_examined_in_one_pass() {
    let function = many(1_000);
    function.set_call_time(Duration::from_millis(30));
    let names = function.account().repositories.replace(Some(Vec::new()));
    function.file("schedule").await.unwrap();
    tokio::time::advance(Duration::from_mins(5)).await;
    function.account().repositories.replace(names);
    function.calls();
    let began = function.account().now();
    function.file("schedule").await.unwrap();
    assert!(function.account().now() - began < Duration::from_secs(25), "{}", function.account().now() - began);
    let asked = function.calls().iter().filter(|call| call.starts_with("GetRepository")).count();
    assert_eq!((asked, next(&function)), (1_000, None));
}

#[tokio::test(start_paused = true)]
async fn repositories_that_were_not_reached_come_first_in_the_next_pass() {
    let function = many(1_000);
    function.set_call_time(Duration::from_millis(300));
    let mut first = function.file("schedule").await.unwrap().decisions;
    let summary = first.pop().unwrap();
    assert_eq!(summary.outcome, Ignored, "{summary:?}");
    assert!(function.account().now() - START < Duration::from_secs(45));
    let reached = 1_000 - summary.concerns["count"].parse::<usize>().unwrap();
    assert!(reached > 50, "{reached}");
    let begin = next(&function).unwrap();
    function.calls();
    function.file("schedule").await.unwrap();
    let calls = function.calls();
    let lists: Vec<&String> = calls.iter().filter(|call| call.starts_with("ListBranches")).collect();
    assert_eq!(*lists[0], format!("ListBranches {begin}"));
    assert_ne!(next(&function), Some(begin));
}

#[tokio::test(start_paused = true)]
async fn a_repository_that_fails_does_not_fail_the_reconcile() {
    let function = many(3);
    function.account().throttled_repositories.borrow_mut().push("r0001".to_owned());
    let decisions = function.file("schedule").await.unwrap().decisions;
    let summary = decisions.last().unwrap();
    assert_eq!((summary.outcome, summary.concerns["count"].as_str()), (Ignored, "1"));
    assert!(summary.reason.contains("r0001"), "{summary:?}");
    assert_eq!(next(&function).as_deref(), Some("r0001"));
    function.account().throttled_repositories.borrow_mut().clear();
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert!(decisions.iter().all(|decision| decision.outcome != Ignored), "{decisions:?}");
    assert_eq!(next(&function), None);
}

#[tokio::test(start_paused = true)]
async fn the_repository_of_another_region_is_not_examined() {
    let other = only_main().replace(r#"repository = "shop""#, "repository = \"shop\"\nregion = \"us-east-1\"");
    let function = Function::with(&other);
    function.file("schedule").await.unwrap();
    assert_eq!(function.calls(), [""; 0]);
    assert_eq!(function.decide("branch-updated").await.outcome, event_relay::Outcome::Filtered);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_branch_leaves_a_lower_bound_for_its_sequence_and_its_row_expires() {
    let function = Function::with(&only_main());
    function.file("branch-created").await.unwrap();
    function.point("main", None);
    function.file("schedule").await.unwrap();
    let gone = row(function.account(), MAIN).unwrap();
    let expires = (function.account().now() + NINETY_DAYS).unix_timestamp();
    assert!(gone.state.expires.is_some_and(|at| (at - expires).abs() < 5), "{gone:?}");
    function.file("schedule").await.unwrap();
    assert_eq!(row(function.account(), MAIN).unwrap().revision, gone.revision, "the row is written once");

    // The table deletes the row, and the branch returns while the clock of the function is wrong.
    let memory: &Memory = &function.account().ledger;
    let key = event_relay::branch::key(&SHOP.parse().unwrap(), &MAIN.parse().unwrap());
    memory.delete(&key, gone.revision).await.unwrap();
    for target in [crate::targets::SHOP_2, crate::targets::SHOP_3] {
        crate::targets::write_target(function.account(), target, &event_relay::target::TargetRow::default());
    }
    function.point("main", Some(commit(2)));
    assert_eq!(function.decide("branch-created").await.outcome, Relayed);
    assert!(row(function.account(), MAIN).unwrap().state.sequence > gone.state.sequence);
}

#[tokio::test(start_paused = true)]
async fn a_branch_that_returns_keeps_its_row() {
    let function = Function::with(&only_main());
    function.file("branch-created").await.unwrap();
    function.point("main", None);
    function.file("schedule").await.unwrap();
    function.point("main", Some(commit(1)));
    function.file("schedule").await.unwrap();
    assert_eq!(row(function.account(), MAIN).unwrap().state.expires, None);
}

#[tokio::test(start_paused = true)]
async fn a_repository_that_is_gone_is_one_mistake_and_its_rows_expire() {
    let function = Function::with(&only_main());
    function.file("branch-created").await.unwrap();
    function.account().branches.replace(None);
    let decision = function.decide("schedule").await;
    assert_eq!(decision.outcome, Failed);
    assert!(row(function.account(), MAIN).unwrap().state.expires.is_some());
}

/// Repositories for which no time was left come before a repository that fails in each pass. Otherwise, a pass would
/// begin with the repository that fails again and again, and would never reach the last ones.
#[tokio::test(start_paused = true)]
async fn a_repository_that_always_fails_does_not_keep_others_from_their_turn() {
    let function = many(400);
    function.set_call_time(Duration::from_millis(300));
    function.account().throttled_repositories.borrow_mut().push("r0003".to_owned());
    let mut begins = Vec::new();
    for _ in 0..2 {
        function.file("schedule").await.unwrap();
        begins.push(next(&function).unwrap());
    }
    assert!(begins[0].as_str() > "r0050", "{begins:?}");
    assert_ne!(begins[0], begins[1]);
    // The list of repositories is not available once: the place is kept.
    let repositories = function.account().repositories.replace(None);
    function.file("schedule").await.unwrap();
    assert_eq!(next(&function).as_ref(), begins.last());
    function.account().repositories.replace(repositories);
}

/// A repetition of the whole reconcile would only add to the load of the ledger.
#[tokio::test(start_paused = true)]
async fn an_order_that_cannot_be_written_does_not_fail_the_reconcile() {
    let function = Function::with(&only_main());
    function.file("branch-created").await.unwrap();
    let key = event_relay::target::key(&crate::targets::SHOP_2.parse().unwrap());
    function.account().ledger.throttled_row.replace(Some(key));
    tokio::time::advance(Duration::from_mins(6)).await;
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert!(decisions.iter().any(|decision| decision.outcome == Ignored), "{decisions:?}");
}

#[tokio::test(start_paused = true)]
async fn a_route_of_another_region_is_no_mistake() {
    let elsewhere = "[[route]]\nrepository = \"web-*\"\nregion = \"us-east-1\"\nbranches = [\"main\"]\n\
                     [[route.target]]\naccount = \"222222222222\"\nregion = \"us-east-1\"\npipeline = \"web\"\n\
                     action = \"Source\"\n[access]";
    let function = Function::with(&only_main().replacen("[access]", elsewhere, 1));
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert!(decisions.iter().all(|decision| decision.outcome != Failed), "{decisions:?}");
}
