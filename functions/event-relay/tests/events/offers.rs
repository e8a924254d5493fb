//! Orders that their targets do not answer are offered again, without a redrive, an alarm or a person.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use event_relay::Outcome::{self, Failed, Ordered};
use event_relay::world::{EntryResult, World};

use crate::function::{CONFIG, Function, START, commit, only_main, routes};
use crate::targets::{SHOP_2, SHOP_3, report, target_row};

/// Runs the reconcile every five minutes for this time, and returns the outcomes of all decisions.
async fn reconcile_for(function: &Function, time: Duration) -> Vec<Outcome> {
    let end = function.account().now() + time;
    let mut outcomes = Vec::new();
    while function.account().now() < end {
        tokio::time::advance(Duration::from_mins(5)).await;
        outcomes.extend(function.file("schedule").await.unwrap().decisions.iter().map(|decision| decision.outcome));
    }
    outcomes
}

async fn answer(function: &Function, target: &str, state: &str) {
    let minute = u64::try_from((function.account().now() - START).whole_minutes()).unwrap();
    let event = report(target, &target_row(function.account(), target).unwrap(), state, minute);
    function.handle(&event.to_string()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_was_down_for_an_hour_gets_its_order_by_itself() {
    let function = Function::with(&only_main());
    let is_down = Rc::new(Cell::new(true));
    let down = is_down.clone();
    function.set_bus(move |entry| match entry.account.as_str() {
        "333333333333" if down.get() => EntryResult::Refused("ResourceNotFoundException: no bus".to_owned()),
        _ => EntryResult::Accepted,
    });
    function.file("branch-created").await.unwrap();
    answer(&function, SHOP_2, "healthy").await;
    let during = reconcile_for(&function, Duration::from_hours(1)).await;
    assert!(!during.contains(&Failed), "{during:?}");
    let only_first = function.accepted();
    assert!(only_first.iter().all(|(account, _)| account == "222222222222"));
    is_down.set(false);
    reconcile_for(&function, Duration::from_hours(1)).await;
    let accepted = function.accepted();
    assert!(accepted.iter().any(|(account, _)| account == "333333333333"), "{accepted:?}");
    assert!(accepted.iter().all(|(account, event)| account == "333333333333" && event.change.commit == commit(1)));
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_stays_down_alerts_people_once() {
    let function = Function::with(&only_main());
    function.set_bus(|_| EntryResult::Refused("ResourceNotFoundException: no bus".to_owned()));
    function.file("branch-created").await.unwrap();
    let outcomes = reconcile_for(&function, Duration::from_hours(12)).await;
    let failed = outcomes.iter().filter(|outcome| **outcome == Failed).count();
    assert_eq!(failed, 2, "one for each order");
    assert!(target_row(function.account(), SHOP_3).unwrap().order.unwrap().alerted);
}

#[tokio::test(start_paused = true)]
async fn the_pauses_between_offers_grow_and_end_with_a_final_report() {
    let function = Function::with(&only_main());
    function.file("branch-created").await.unwrap();
    answer(&function, SHOP_3, "healthy").await;
    function.accepted();
    reconcile_for(&function, Duration::from_hours(6)).await;
    let offers = function.accepted().len();
    assert!((7..=11).contains(&offers), "{offers} offers in six hours");
    answer(&function, SHOP_2, "running").await;
    reconcile_for(&function, Duration::from_mins(55)).await;
    assert_eq!(function.accepted().len(), 0, "an order that runs is left alone for an hour");
    reconcile_for(&function, Duration::from_mins(10)).await;
    assert_eq!(function.accepted().len(), 1, "the next report may be lost");
    answer(&function, SHOP_2, "failed").await;
    reconcile_for(&function, Duration::from_hours(3)).await;
    assert_eq!(function.accepted().len(), 0, "a commit that failed waits for a person or for the next commit");
}

#[tokio::test(start_paused = true)]
async fn an_order_that_no_route_leads_to_its_target_is_not_offered() {
    let mut function = Function::with(&only_main());
    function.file("branch-created").await.unwrap();
    function.file("schedule").await.unwrap();
    function.accepted();
    let route = function.relay.routes.clone();
    function.relay.routes = routes(&CONFIG.replace(r#"["main", "release/*"]"#, r#"["hotfix/*"]"#));
    reconcile_for(&function, Duration::from_hours(2)).await;
    assert_eq!(function.accepted(), []);
    function.relay.routes = route;
    reconcile_for(&function, Duration::from_mins(5)).await;
    assert_eq!(function.accepted().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn one_summary_counts_the_offers_of_a_reconcile() {
    let function = Function::with(&only_main());
    function.file("branch-created").await.unwrap();
    tokio::time::advance(Duration::from_mins(6)).await;
    function.ledger_calls();
    let decisions = function.file("schedule").await.unwrap().decisions;
    let summaries: Vec<_> = decisions.iter().filter(|decision| decision.outcome == Ordered).collect();
    assert_eq!(summaries.len(), 1, "{decisions:?}");
    assert_eq!((summaries[0].concerns["count"].as_str(), summaries[0].concerns["targets"].as_str()), ("2", "2"));
    let writes = function.ledger_calls().into_iter().filter(|call| *call == "TransactWriteItems").count();
    assert_eq!(writes, 1);
}
