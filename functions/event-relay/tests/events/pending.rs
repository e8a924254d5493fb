//! Pending changes: the first invocation still holds the lease or has crashed, or a person has corrected the routes.

use std::time::Duration;

use event_relay::Error;
use event_relay::Outcome::{Duplicate, Filtered, Relayed};
use event_relay::branch;
use event_relay::world::{EntryResult, World};
use sekisho_lambda::Failure;
use serde_json::json;

use crate::function::{
    CONFIG, Function, MAIN, START, change_to_second_commit, commit, only_tags, outcomes, relayed, routes, write,
};

#[tokio::test(start_paused = true)]
async fn an_event_waits_for_the_invocation_that_holds_the_lease_and_is_never_called_a_duplicate() {
    let function = relayed().await;
    function.point("main", Some(commit(2)));
    let row = function.row(MAIN).unwrap().state;
    write(function.account(), MAIN, &row.with_pending(change_to_second_commit(&row), vec![], None, START));
    let before = function.row(MAIN);
    let error = function.file("branch-updated").await.unwrap_err();
    assert_eq!(error.error_type().name(), "Internal");
    assert!(matches!(&error, Error::Busy { git_ref, .. } if git_ref.as_str() == MAIN), "{error}");
    let waited = function.account().now() - START;
    assert!(
        (20..25).contains(&waited.whole_seconds()),
        "the event should wait while time is left to deliver: {waited}"
    );
    assert_eq!((function.calls(), function.row(MAIN)), (vec![], before));
    assert_eq!(function.stored_decisions().len(), 1, "only the decision about the first event");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_ends_too_late_to_deliver_uses_up_no_attempt() {
    let function = relayed().await;
    let row = function.row(MAIN).unwrap().state;
    let end = START + Duration::from_millis(23_500);
    let pending = row.with_pending(change_to_second_commit(&row), vec![], None, end - branch::LEASE_TERM);
    write(function.account(), MAIN, &pending);
    assert!(matches!(function.file("branch-updated").await.unwrap_err(), Error::NoTime { .. }));
    assert!(function.account().now() > end);
    assert_eq!(function.row(MAIN).unwrap().state, pending);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_waited_finds_the_head_relayed_by_the_other_invocation() {
    let function = relayed().await;
    function.point("main", Some(commit(2)));
    let row = function.row(MAIN).unwrap().state;
    let change = change_to_second_commit(&row);
    let pending = row.with_pending(change.clone(), vec![], None, START);
    write(function.account(), MAIN, &pending);
    let other = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        write(function.account(), MAIN, &pending.relayed(&change));
    };
    let (decision, ()) = futures_util::join!(function.decide("branch-updated"), other);
    assert_eq!(decision.outcome, Duplicate);
    assert_eq!(function.accepted(), []);
}

#[tokio::test(start_paused = true)]
async fn a_change_that_a_crash_left_pending_is_sent_with_its_sequence_and_id() {
    let function = relayed().await;
    let row = function.row(MAIN).unwrap().state;
    let change = change_to_second_commit(&row);
    let deliveries = serde_json::from_value(json!([
        {"account": "333333333333", "region": "ap-northeast-1", "pipelines": ["shop"]},
    ]));
    write(function.account(), MAIN, &row.with_pending(change.clone(), deliveries.unwrap(), None, START));
    tokio::time::advance(Duration::from_secs(56)).await;
    // The branch has moved to another commit since the change became pending.
    function.point("main", Some(commit(3)));
    let decisions = function.file("branch-updated").await.unwrap().decisions;
    assert_eq!(outcomes(&decisions), [Relayed, Relayed]);
    let accepted = function.accepted();
    let (account, first) = &accepted[0];
    assert_eq!((account.as_str(), &first.change, &first.id), ("333333333333", &change, &change.id()));
    assert_eq!(accepted.len(), 3);
    assert!(accepted[1..].iter().all(|(_, event)| event.change.commit == commit(3)));
    assert!(accepted[1].1.change.sequence > change.sequence);
}

/// Makes a change pending with the routes of `config`, whose targets accept nothing. Then replaces the routes by the
/// routes of the repository's configuration file.
async fn corrected(config: &str) -> Function {
    let mut function = Function::with(config);
    function.set_bus(|_| EntryResult::Retryable("InternalFailure: again".to_owned()));
    assert!(function.file("branch-updated").await.is_err());
    function.set_bus(|_| EntryResult::Accepted);
    function.calls();
    function.relay.routes = routes(CONFIG);
    function
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_whose_name_is_corrected_while_a_change_is_pending_gets_the_head() {
    let function = corrected(&CONFIG.replace(r#"pipeline = "shop""#, r#"pipeline = "shpo""#)).await;
    let first = function.row(MAIN).unwrap().state.newest_sequence();
    let decisions = function.file("branch-updated").await.unwrap().decisions;
    assert_eq!(outcomes(&decisions), [Filtered, Filtered, Relayed]);
    assert!(decisions[0].reason.contains("no longer routed to shpo"), "{decisions:?}");
    let accepted = function.accepted();
    assert_eq!(accepted.len(), 2);
    assert!(accepted.iter().all(|(_, event)| event.pipelines == ["shop"] && event.change.sequence > first));
    assert_eq!(function.decide("branch-updated").await.outcome, Duplicate);
}

#[tokio::test(start_paused = true)]
async fn targets_that_replace_all_others_while_a_change_is_pending_get_the_head() {
    let other = CONFIG.replace("222222222222", "555555555555").replace("333333333333", "666666666666");
    let function = corrected(&other).await;
    let decisions = function.file("branch-updated").await.unwrap().decisions;
    assert_eq!(outcomes(&decisions), [Filtered, Filtered, Relayed]);
    assert_eq!(function.accepted().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_pending_change_of_a_tag_goes_to_the_corrected_route() {
    let mut function = Function::with(&only_tags().replace(r#"pipeline = "shop""#, r#"pipeline = "shpo""#));
    function.set_bus(|_| EntryResult::Retryable("InternalFailure: again".to_owned()));
    assert!(function.file("tag-created").await.is_err());
    function.set_bus(|_| EntryResult::Accepted);
    function.relay.routes = routes(&only_tags());
    let decisions = function.file("tag-created").await.unwrap().decisions;
    assert_eq!(outcomes(&decisions), [Filtered, Filtered, Relayed, Duplicate]);
    assert!(function.accepted().iter().all(|(_, event)| event.pipelines == ["shop"]));
}
