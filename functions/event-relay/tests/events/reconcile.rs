//! The schedule: every routed branch's head against the ledger.

use std::time::Duration;

use event_relay::handler::Outcome::{Duplicate, Failed, Ignored, Relayed};
use event_relay::world::World;
use sekisho_lambda::Failure;
use serde_json::json;

use crate::world::{COMMITTED, Function, START, commit, write};

const MAIN: &str = "refs/heads/main";

#[tokio::test(start_paused = true)]
async fn a_lost_event_is_made_good() {
    let function = Function::new();
    function.file("schedule").await.unwrap();
    function.taken();
    function.point("main", Some(commit(2)));
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!(decisions.iter().map(|d| d.outcome).collect::<Vec<_>>(), [Relayed, Duplicate]);
    assert!(decisions[1].reason.starts_with("1 routed references are as they were"), "{decisions:?}");
    let taken = function.taken();
    assert_eq!((&taken[0].1.change.commit, &taken[0].1.change.event), (&commit(2), &None));
}

#[tokio::test(start_paused = true)]
async fn what_a_route_names_and_does_not_exist_is_told() {
    let function = Function::new();
    function.point("main", None);
    function.point("release/1.2", None);
    let decision = function.decide("schedule").await;
    assert_eq!((decision.outcome, decision.concerns["ref"].as_str()), (Failed, "main"), "and no glob");
    assert!(decision.reason.contains("create it, or correct the route"));
    *function.world().branches.borrow_mut() = None;
    let decision = function.decide("schedule").await;
    assert_eq!((decision.outcome, decision.concerns["repository"].as_str()), (Failed, crate::world::SHOP));
}

/// It had no decision at all, neither in the answer nor in the ledger.
#[tokio::test(start_paused = true)]
async fn a_reconcile_that_finds_nothing_says_so() {
    let function = Function::with(&COMMITTED.replace(r#"["main", "release/*"]"#, r#"["hotfix/*"]"#));
    let decision = function.decide("schedule").await;
    assert_eq!((decision.outcome, function.recorded().len()), (Ignored, 1));
}

#[tokio::test(start_paused = true)]
async fn repositories_are_listed_only_where_a_route_has_a_glob() {
    let function = Function::with(&COMMITTED.replace(r#"repository = "shop""#, r#"repository = "sh*""#));
    function.file("schedule").await.unwrap();
    let calls = function.calls();
    assert_eq!(calls[..2], ["ListRepositories", "ListBranches shop"]);
    assert!(!calls.contains(&"ListBranches website".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn what_is_pending_comes_first_also_where_the_branch_is_gone() {
    let function = Function::new();
    function.file("schedule").await.unwrap();
    let state = function.row("refs/heads/release/1.2").unwrap().state;
    let change = json!({
        "kind": "branch", "repository": crate::world::SHOP, "ref": "refs/heads/release/1.2", "commit": commit(2),
        "previous": commit(1), "sequence": state.sequence + 1, "actor": null, "event": null,
    });
    let deliveries = json!([{"account": "222222222222", "region": "ap-northeast-1", "pipelines": ["shop"]}]);
    let left = state.given_back(serde_json::from_value(change).unwrap(), serde_json::from_value(deliveries).unwrap());
    write(function.world(), "refs/heads/release/1.2", &left);
    function.point("release/1.2", None);
    function.point("main", Some(commit(3)));
    function.taken();
    let decisions = function.file("schedule").await.unwrap().decisions;
    let taken = function.taken();
    assert_eq!((&taken[0].1.change.commit, taken.len()), (&commit(2), 3));
    // What was pending, that the branch is gone, and main.
    assert_eq!(decisions.iter().filter(|d| d.outcome == Relayed).count(), 2);
    assert_eq!(decisions.iter().filter(|d| d.outcome == Ignored).count(), 1);
    assert_eq!(function.row("refs/heads/release/1.2").unwrap().state.pending, None);
}

#[tokio::test(start_paused = true)]
async fn a_pending_tag_is_finished_and_not_taken_for_a_new_change() {
    let function = Function::with(&COMMITTED.replace(r#"branches   = ["main", "release/*"]"#, r#"tags = ["v*"]"#));
    function.says(|_| event_relay::world::Taken::Later("InternalFailure: again".to_owned()));
    assert!(function.file("tag-created").await.is_err());
    function.says(|_| event_relay::world::Taken::Yes);
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!(decisions.iter().map(|d| d.outcome).collect::<Vec<_>>(), [Relayed, Duplicate]);
    assert_eq!(function.taken().len(), 2);
    assert_eq!(function.decide("tag-created").await.outcome, Duplicate);
}

#[tokio::test(start_paused = true)]
async fn one_branch_that_fails_keeps_no_other_from_going_out_and_fails_the_invocation() {
    let function = Function::new();
    function.world().silent.borrow_mut().push("main".to_owned());
    let error = function.file("schedule").await.unwrap_err();
    assert_eq!(error.error_type().name(), "Throttled");
    assert!(error.to_string().starts_with("1 of the routed references"), "{error}");
    assert_eq!(function.row("refs/heads/release/1.2").unwrap().state.commit, Some(commit(1)));
    assert!(function.row(MAIN).is_none());
    assert_eq!(function.recorded().len(), 1, "what was decided is kept");
}

/// One after the other they took longer than the function may run, so that the last ones were never looked at.
#[tokio::test(start_paused = true)]
async fn a_thousand_branches_are_looked_at_in_time() {
    let function = Function::with(&COMMITTED.replace(r#""main""#, r#""*""#));
    for n in 0..1_000 {
        function.point(&format!("b{n}"), Some(commit(n)));
    }
    function.world().takes.set(Duration::from_millis(30));
    function.file("schedule").await.unwrap();
    let took = function.world().now() - START;
    assert!(took < Duration::from_secs(10), "{took}");
    assert_eq!(function.taken().len(), 2 * 1_002);
}
