//! `explain` describes the plan of the real path, and writes and sends nothing. The tests in `files.rs` cover the plans
//! for an account without rows.

use event_relay::Outcome::Duplicate;
use event_relay::world::EntryResult;
use serde_json::{Value, json};

use crate::function::{
    Function, MAIN, START, change_to_second_commit, commit, file, only_tags, relayed, routes, write,
};

#[tokio::test(start_paused = true)]
async fn explain_reports_a_pending_change_and_a_duplicate() {
    let function = relayed().await;
    let before = function.account().ledger.rows();
    let explained = function.decide("explain").await;
    assert_eq!(explained.outcome, Duplicate);
    let row = function.row(MAIN).unwrap().state;
    write(function.account(), MAIN, &row.with_pending(change_to_second_commit(&row), vec![], None, START));
    let rows = function.account().ledger.rows();
    assert_ne!(rows, before);
    function.point("main", Some(commit(2)));
    let explained = function.decide("explain").await;
    assert_eq!((explained.outcome, &explained.concerns["pending"]), (Duplicate, &(row.sequence + 1).to_string()));
    assert_eq!(function.account().ledger.rows(), rows);
    assert_eq!(function.accepted(), []);
}

/// If the route of a pending change was corrected, the real path makes a new plan, and the explanation shows the new
/// plan.
#[tokio::test(start_paused = true)]
async fn explain_follows_the_real_path_through_a_corrected_route() {
    let mut function = Function::with(&only_tags().replace(r#"pipeline = "shop""#, r#"pipeline = "shpo""#));
    function.set_bus(|_| EntryResult::Retryable("InternalFailure: again".to_owned()));
    assert!(function.file("tag-created").await.is_err());
    function.set_bus(|_| EntryResult::Accepted);
    function.relay.routes = routes(&only_tags());
    let event: Value = serde_json::from_str(&file("tag-created")).unwrap();
    let explain = json!({"action": "explain", "event": event}).to_string();
    let explained = function.handle(&explain).await.unwrap().decisions;
    let decisions = function.file("tag-created").await.unwrap().decisions;
    assert_eq!((explained[0].outcome, decisions.last().unwrap().outcome), (Duplicate, Duplicate));
    let pending = &decisions[0].concerns["sequence"];
    assert_eq!(&explained[0].concerns["pending"], pending);
}
