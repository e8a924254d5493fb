//! Orders that their targets do not answer are offered again, without a redrive, an alarm or a person.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use event_relay::Outcome::{self, Failed, Ordered};
use event_relay::world::{EntryResult, World};

use crate::function::{CONFIG, Function, MAIN, START, commit, only_main, routes, write};
use crate::targets::{SHOP_2, SHOP_3, ordered, report, target_row};

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
    assert!(accepted.iter().all(|(account, event)| account == "333333333333" && event.change.revision == commit(1)));
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

/// The target has taken the order long ago, and one offer is throttled.
#[tokio::test(start_paused = true)]
async fn a_bus_that_is_throttled_for_a_moment_alerts_nobody() {
    let function = Function::with(&only_main());
    function.file("branch-created").await.unwrap();
    for target in [SHOP_2, SHOP_3] {
        answer(&function, target, "running").await;
    }
    reconcile_for(&function, Duration::from_hours(3)).await;
    function.set_bus(|_| EntryResult::Refused("ResourceNotFoundException: no bus".to_owned()));
    let outcomes = reconcile_for(&function, Duration::from_hours(2)).await;
    assert!(outcomes.contains(&Ordered) && !outcomes.contains(&Failed), "{outcomes:?}");
    let function = Function::with(&only_main());
    function.set_bus(|_| EntryResult::Retryable("ThrottlingException".to_owned()));
    function.file("branch-created").await.unwrap();
    let outcomes = reconcile_for(&function, Duration::from_hours(4)).await;
    assert!(outcomes.contains(&Ordered) && !outcomes.contains(&Failed), "{outcomes:?}");
}

/// The bus was down, the route was removed, and the branch was deleted. A month later, the route returns.
#[tokio::test(start_paused = true)]
async fn an_order_of_a_deleted_branch_does_not_come_back_with_its_route() {
    let both = only_main().replace(r#"["main"]"#, r#"["main", "release/*"]"#);
    for is_deleted in [true, false] {
        let mut function = Function::with(&both);
        function.file("branch-created-release").await.unwrap();
        function.accepted();
        function.relay.routes = routes(&only_main().replace(r#"["main"]"#, r#"["hotfix/*"]"#));
        if is_deleted {
            function.point("release/1.2", None);
        }
        function.file("schedule").await.unwrap();
        tokio::time::advance(Duration::from_hours(30 * 24)).await;
        function.relay.routes = routes(&both.replace(r#""main", "#, ""));
        reconcile_for(&function, Duration::from_mins(10)).await;
        assert_eq!(function.accepted().is_empty(), is_deleted);
    }
}

/// Another branch at the same commit was a duplicate for the target, and stays routed. A target would refuse the order
/// of the branch that is not routed any more, so it gets a new one.
#[tokio::test(start_paused = true)]
async fn a_target_gets_the_order_of_another_routed_branch_with_the_same_commit() {
    let both = only_main().replace(r#"["main"]"#, r#"["main", "release/1.2"]"#);
    let mut function = Function::with(&both);
    function.file("branch-created").await.unwrap();
    function.file("branch-created-release").await.unwrap();
    function.accepted();
    let number = |function: &Function| target_row(function.account(), SHOP_2).unwrap().number;
    let first = number(&function);
    function.relay.routes = routes(&both.replace(r#""main", "#, ""));
    reconcile_for(&function, Duration::from_mins(10)).await;
    let accepted = function.accepted();
    assert!(!accepted.is_empty() && number(&function) > first);
    for (_, event) in accepted {
        assert_eq!((event.change.source_ref.as_str(), event.change.revision), ("refs/heads/release/1.2", commit(1)));
    }
}

/// The stack was rolled back for a while, and the earlier version relayed the second commit. The target calls the order
/// of the first commit stale, and answers with its report on the second one.
#[tokio::test(start_paused = true)]
async fn an_order_that_its_target_calls_stale_is_replaced_by_the_change_that_the_target_took() {
    let function = Function::with(&only_main());
    function.file("branch-created").await.unwrap();
    answer(&function, SHOP_3, "healthy").await;
    let sequence = function.row(MAIN).unwrap().state.sequence + 60_000;
    let row = serde_json::json!({"commit": commit(2), "sequence": sequence, "pending": null, "events": []});
    write(function.account(), MAIN, &serde_json::from_value(row).unwrap());
    function.point("main", Some(commit(2)));
    let mut theirs = ordered(2);
    theirs.order.as_mut().unwrap().number = sequence;
    theirs.order.as_mut().unwrap().change.sequence = sequence;
    function.handle(&report(SHOP_2, &theirs, "healthy", 2).to_string()).await.unwrap();
    function.accepted();
    reconcile_for(&function, Duration::from_hours(3)).await;
    assert_eq!(function.accepted(), [], "the target runs the head");
    let order = target_row(function.account(), SHOP_2).unwrap().order.unwrap();
    assert_eq!((order.number, order.change.revision), (sequence, commit(2)));
    // The branch goes back to the first commit, which is a change like every other one.
    function.point("main", Some(commit(1)));
    function.file("branch-updated").await.unwrap();
    let accepted = function.accepted();
    let (_, event) = accepted.iter().find(|(account, _)| account == "222222222222").unwrap();
    assert_eq!(event.change.revision, commit(1));
    assert!(event.order(&"shop".parse().unwrap()).unwrap().number > sequence);
}

/// The ledger lost the row of the target, which ran a change with a larger number.
#[tokio::test(start_paused = true)]
async fn an_order_that_its_target_calls_stale_gets_a_larger_number() {
    let function = Function::with(&only_main());
    function.file("branch-created").await.unwrap();
    let row = target_row(function.account(), SHOP_2).unwrap();
    let mut theirs = ordered(7);
    theirs.order.as_mut().unwrap().number = row.number + 30_000;
    function.handle(&report(SHOP_2, &theirs, "healthy", 2).to_string()).await.unwrap();
    function.accepted();
    function.file("schedule").await.unwrap();
    let accepted = function.accepted();
    assert_eq!((accepted.len(), accepted[0].1.change.revision.clone()), (1, commit(1)));
    assert!(accepted[0].1.order(&"shop".parse().unwrap()).unwrap().number > row.number + 30_000);
}

/// A report on a change of the earlier version arrives after the upgrade. The head is later, but touched other targets.
#[tokio::test(start_paused = true)]
async fn a_report_on_an_earlier_change_starts_nothing_after_an_upgrade() {
    let function = Function::with(&only_main());
    let row = serde_json::json!({"commit": commit(1), "sequence": ordered(9).number, "pending": null, "events": []});
    write(function.account(), MAIN, &serde_json::from_value(row).unwrap());
    function.handle(&report(SHOP_2, &ordered(7), "healthy", 2).to_string()).await.unwrap();
    reconcile_for(&function, Duration::from_hours(1)).await;
    assert_eq!(function.accepted(), []);
}
