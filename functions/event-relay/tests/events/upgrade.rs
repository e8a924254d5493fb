//! Rows of the version before orders.

use event_relay::Outcome::{Baseline, Duplicate, Ordered, Relayed};
use event_relay::branch::BranchRow;
use serde_json::json;

use crate::function::{Function, MAIN, commit, only_main, outcomes, routes, write};

/// A function whose ledger has the row of an earlier version for the first commit of `main`.
fn upgraded(config: &str) -> Function {
    let function = Function::with(config);
    let row = json!({"commit": commit(1), "sequence": 1_795_000_000_000_u64, "pending": null, "events": []});
    write(function.account(), MAIN, &serde_json::from_value::<BranchRow>(row).unwrap());
    function
}

#[tokio::test(start_paused = true)]
async fn the_first_reconcile_after_an_upgrade_starts_nothing_that_already_runs() {
    let function = upgraded(&only_main());
    for _ in 0..2 {
        assert_eq!(outcomes(&function.file("schedule").await.unwrap().decisions), [Duplicate]);
    }
    assert_eq!(function.accepted(), []);
    assert_eq!(function.row(MAIN).unwrap().state.targets.map(|targets| targets.len()), Some(2));
}

#[tokio::test(start_paused = true)]
async fn branches_that_an_earlier_version_did_not_relay_are_recorded() {
    let function = upgraded(&only_main().replace(r#"["main"]"#, r#"["main", "release/*"]"#));
    assert_eq!(outcomes(&function.file("schedule").await.unwrap().decisions), [Baseline, Duplicate]);
    assert_eq!(function.accepted(), []);
}

#[tokio::test(start_paused = true)]
async fn a_push_after_the_upgrade_is_ordered() {
    let function = upgraded(&only_main());
    function.point("main", Some(commit(2)));
    assert_eq!(function.decide("branch-updated").await.outcome, Relayed);
    let accepted = function.accepted();
    assert_eq!(accepted.len(), 2);
    assert!(accepted.iter().all(|(_, event)| event.orders.contains_key("shop")));
}

#[tokio::test(start_paused = true)]
async fn a_target_added_after_the_upgrade_gets_the_head() {
    let mut function = upgraded(&only_main());
    assert_eq!(function.decide("branch-updated").await.outcome, Duplicate);
    function.relay.routes = routes(&only_main().replace("333333333333", "444444444444"));
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!(decisions.iter().filter(|decision| decision.outcome == Ordered).count(), 1, "{decisions:?}");
    let accepted = function.accepted();
    assert_eq!((accepted.len(), accepted[0].0.as_str()), (1, "444444444444"));
}
