//! Targets that a route leads to only after its heads were relayed, and accounts that are deployed one after the other.

use std::time::Duration;

use event_relay::Outcome::{self, Ordered, Relayed};
use event_relay::target::{self, TargetRow};
use sekisho_domain::decision::Decision;
use sekisho_ledger::{Memory, Store};

use crate::function::{Function, commit, only_main, routes};
use crate::targets::{SHOP_2, report, target_row};

/// The configuration with a third target.
fn with_third(config: &str) -> String {
    let target = "[[route.target]]\naccount = \"444444444444\"\nregion = \"us-east-1\"\npipeline = \"shop\"\n\
                  action = \"Source\"\n";
    config.replacen("[access]", &format!("{target}[access]"), 1)
}

const THIRD: &str = "444444444444/us-east-1/shop";

fn count(decisions: &[Decision<Outcome>], outcome: Outcome) -> usize {
    decisions.iter().filter(|decision| decision.outcome == outcome).count()
}

#[tokio::test(start_paused = true)]
async fn a_target_added_to_a_route_runs_the_head_within_one_reconcile() {
    let mut function = Function::with(&only_main());
    function.file("branch-created").await.unwrap();
    function.file("schedule").await.unwrap();
    function.accepted();
    function.relay.routes = routes(&with_third(&only_main()));
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!((count(&decisions, Ordered), count(&decisions, Relayed)), (1, 0), "{decisions:?}");
    let accepted = function.accepted();
    assert_eq!((accepted.len(), accepted[0].0.as_str()), (1, "444444444444"));
    assert_eq!(accepted[0].1.change.commit, commit(1));
    // The change has the id that the other targets know, so a target that ran it under an earlier version adopts it.
    let first = target_row(function.account(), SHOP_2).unwrap().order.unwrap().change;
    assert_eq!(accepted[0].1.id, first.id());
    assert_eq!(count(&function.file("schedule").await.unwrap().decisions, Ordered), 0);
    assert_eq!(function.accepted(), []);
}

#[tokio::test(start_paused = true)]
async fn a_target_of_two_branches_joins_with_the_newest_head_only() {
    let two = only_main().replace(r#"["main"]"#, r#"["main", "release/1.2"]"#);
    let mut function = Function::with(&two);
    function.point("release/1.2", Some(commit(9)));
    function.file("branch-created").await.unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    function.file("branch-created-release").await.unwrap();
    function.file("schedule").await.unwrap();
    function.accepted();
    function.relay.routes = routes(&with_third(&two));
    function.file("schedule").await.unwrap();
    let accepted = function.accepted();
    assert_eq!((accepted.len(), accepted[0].1.change.commit.clone()), (1, commit(9)));
}

#[tokio::test(start_paused = true)]
async fn a_target_that_left_and_came_back_gets_what_it_missed() {
    let mut function = Function::with(&with_third(&only_main()));
    function.file("branch-created").await.unwrap();
    function.file("schedule").await.unwrap();
    function.relay.routes = routes(&only_main());
    function.file("schedule").await.unwrap();
    function.point("main", Some(commit(2)));
    function.file("branch-updated").await.unwrap();
    function.accepted();
    function.relay.routes = routes(&with_third(&only_main()));
    function.file("schedule").await.unwrap();
    let accepted = function.accepted();
    assert_eq!((accepted.len(), accepted[0].0.as_str()), (1, "444444444444"));
    assert_eq!(accepted[0].1.change.commit, commit(2));
}

/// The repository account has the new route, and the pipeline account does not have it yet: its starter refuses the
/// order. After the account is deployed, the order is offered again, without a push and without a person.
#[tokio::test(start_paused = true)]
async fn an_account_that_is_deployed_later_gets_its_order_without_a_push() {
    let function = Function::with(&only_main());
    function.file("branch-created").await.unwrap();
    let row = target_row(function.account(), SHOP_2).unwrap();
    let refusal = report(SHOP_2, &row, "refused", 1).to_string();
    assert_eq!(function.handle(&refusal).await.unwrap().decisions[0].outcome, Outcome::Refused);
    function.file("schedule").await.unwrap();
    function.accepted();
    tokio::time::advance(Duration::from_mins(6)).await;
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!(count(&decisions, Ordered), 1, "{decisions:?}");
    let accepted = function.accepted();
    let again: Vec<_> = accepted.iter().filter(|(account, _)| account == "222222222222").collect();
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].1.order(&"shop".parse().unwrap()).unwrap().number, row.number);
    // A second refusal of the same order is no second alarm.
    let refusal = report(SHOP_2, &row, "refused", 7).to_string();
    assert_ne!(function.handle(&refusal).await.unwrap().decisions[0].outcome, Outcome::Refused);
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_row_of_a_target_keeps_no_other_target_from_its_order() {
    let function = Function::with(&with_third(&only_main()));
    crate::targets::write_unreadable(function.account(), THIRD);
    let decisions = function.file("branch-created").await.unwrap().decisions;
    assert_eq!((count(&decisions, Outcome::Failed), count(&decisions, Relayed)), (1, 1), "{decisions:?}");
    assert_eq!(function.accepted().len(), 2);
    // After the row was repaired, the target joins.
    let memory: &Memory = &function.account().ledger;
    let key = target::key(&THIRD.parse().unwrap());
    memory.write(&key, &TargetRow::default(), Some(1), "a person").await.unwrap();
    function.file("schedule").await.unwrap();
    let accepted = function.accepted();
    assert_eq!((accepted.len(), accepted[0].0.as_str()), (1, "444444444444"));
}
