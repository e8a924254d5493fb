//! The schedule: every routed branch's head against the ledger.

use std::time::Duration;

use event_relay::handler::Outcome::{Duplicate, Failed, Filtered, Ignored, Relayed};
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
    let deliveries: Vec<_> = serde_json::from_value(deliveries).unwrap();
    let pending = state.with_pending(serde_json::from_value(change).unwrap(), deliveries.clone(), None, START);
    let left = pending.given_back(&deliveries, true);
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

/// Nothing looked at the clock, and Lambda ended what had kept no decision yet.
#[tokio::test(start_paused = true)]
async fn more_branches_than_there_is_time_for_are_told_and_what_was_relayed_is_kept() {
    let function = Function::with(&COMMITTED.replace(r#""main""#, r#""*""#));
    for n in 0..13_000 {
        function.point(&format!("b{n}"), Some(commit(n)));
    }
    function.world().takes.set(Duration::from_millis(30));
    let decisions = function.file("schedule").await.unwrap().decisions;
    let took = function.world().now() - START;
    assert!(took < Duration::from_secs(30), "{took}");
    let late = decisions.last().unwrap();
    assert!(late.outcome == Ignored && late.reason.contains("were not looked at"), "{late:?}");
    let relayed = decisions.iter().filter(|d| d.outcome == Relayed).count();
    assert!(relayed > 2_000, "{relayed}");
    assert_eq!(function.recorded().len(), decisions.len());
    let rows = function.world().ledger.rows();
    assert!(
        rows.iter().filter(|(key, _)| key.pk.starts_with("decision#")).count() > 10,
        "as it goes, and not at the end"
    );
}

#[tokio::test(start_paused = true)]
async fn a_head_that_touches_nothing_is_compared_once() {
    let function = Function::with(&COMMITTED.replace(r#"["main", "release/*"]"#, r#"["main"]"#));
    function.file("schedule").await.unwrap();
    function.point("main", Some(commit(2)));
    function.changes(&[&["README.md"]]);
    function.calls();
    for compared in [1, 0] {
        assert_eq!(function.decide("schedule").await.outcome, Duplicate);
        let calls = function.calls();
        assert_eq!(calls.iter().filter(|call| call.starts_with("GetDifferences")).count(), compared, "{calls:?}");
    }
    // What comes next is compared with what was relayed last, and other paths may be touched by it.
    let mut function = function;
    let other = COMMITTED
        .replace(r#"["main", "release/*"]"#, r#"["main"]"#)
        .replace("api/**", "**")
        .replace(r#", "!**/*.md""#, "");
    function.relay.routes = sekisho_domain::config::Document::parse("sekisho.toml", &other).unwrap().routes().unwrap();
    assert_eq!(function.decide("schedule").await.outcome, Relayed);
    assert_eq!(function.taken().last().unwrap().1.change.previous, Some(commit(1)));
}

/// A force-push back to a head that touched nothing when it came is a change, seen from what has been relayed since.
#[tokio::test(start_paused = true)]
async fn a_head_that_touched_nothing_is_compared_again_once_another_was_relayed() {
    let function = Function::with(&COMMITTED.replace(r#"["main", "release/*"]"#, r#"["main"]"#));
    function.file("schedule").await.unwrap();
    for (head, paths, outcome) in
        [(2, "README.md", Duplicate), (3, "api/main.rs", Relayed), (2, "api/main.rs", Relayed)]
    {
        function.point("main", Some(commit(head)));
        function.changes(&[&[paths]]);
        assert_eq!(function.decide("schedule").await.outcome, outcome, "{head}");
    }
    let taken = function.taken();
    let change = &taken.last().unwrap().1.change;
    assert_eq!((&change.commit, &change.previous), (&commit(2), &Some(commit(3))));
}

#[tokio::test(start_paused = true)]
async fn a_live_claim_is_left_to_who_holds_it() {
    let function = Function::new();
    function.file("schedule").await.unwrap();
    let state = function.row(MAIN).unwrap().state;
    let change = json!({
        "kind": "branch", "repository": crate::world::SHOP, "ref": MAIN, "commit": commit(2), "previous": commit(1),
        "sequence": state.sequence + 1, "actor": null, "event": null,
    });
    let pending = state.with_pending(serde_json::from_value(change).unwrap(), vec![], None, START);
    write(function.world(), MAIN, &pending);
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert!(
        decisions.iter().any(|d| d.outcome == Ignored && d.reason.contains("left to the invocations")),
        "{decisions:?}"
    );
    assert!(function.world().now() - START < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn what_is_pending_for_a_route_that_is_gone_is_told_and_not_kept_for_its_return() {
    let mut function = Function::new();
    function.says(|_| event_relay::world::Taken::Later("InternalFailure: again".to_owned()));
    assert!(function.file("branch-updated").await.is_err());
    function.says(|_| event_relay::world::Taken::Yes);
    let routes =
        |config: &str| sekisho_domain::config::Document::parse("sekisho.toml", config).unwrap().routes().unwrap();
    let committed = function.relay.routes.clone();
    function.relay.routes = routes(&COMMITTED.replace(r#"["main", "release/*"]"#, r#"["hotfix/*"]"#));
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!(decisions.iter().map(|d| d.outcome).collect::<Vec<_>>(), [Filtered, Filtered]);
    assert_eq!(function.row(MAIN).unwrap().state.pending, None);
    function.relay.routes = committed;
    function.point("main", Some(commit(7)));
    function.file("schedule").await.unwrap();
    let taken = function.taken();
    assert!(taken.iter().all(|(_, event)| event.change.git_ref.as_str() != MAIN || event.change.commit == commit(7)));
}

#[tokio::test(start_paused = true)]
async fn one_unreadable_row_stops_no_other_reference() {
    let function = Function::new();
    let key = sekisho_ledger::Key { pk: format!("branch#{}", crate::world::SHOP), sk: MAIN.to_owned() };
    let broken = std::collections::BTreeMap::from([("sequence", "many")]);
    sekisho_ledger::Store::write(&function.world().ledger, &key, &broken, None, "another").await.unwrap();
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!(decisions.iter().map(|d| d.outcome).collect::<Vec<_>>(), [Failed, Relayed]);
    assert!(decisions[0].reason.contains(MAIN) && decisions[0].reason.contains("mend or delete it"), "{decisions:?}");
}

#[tokio::test(start_paused = true)]
async fn a_branch_that_some_repositories_of_a_glob_lack_is_no_mistake() {
    let everywhere = COMMITTED.replace(r#"repository = "shop""#, r#"repository = "*""#);
    let function = Function::with(&everywhere);
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert!(decisions.iter().all(|d| d.outcome != Failed), "{decisions:?}");
    // Where none has it, it is told once.
    function.point("main", None);
    let decisions = function.file("schedule").await.unwrap().decisions;
    let failed: Vec<_> = decisions.iter().filter(|d| d.outcome == Failed).collect();
    assert_eq!((failed.len(), failed[0].concerns["ref"].as_str()), (1, "main"));
    let nothing = Function::with(&COMMITTED.replace(r#"repository = "shop""#, r#"repository = "web-*""#));
    let decision = nothing.decide("schedule").await;
    assert_eq!((decision.outcome, decision.reason.contains("no repository matches `web-*`")), (Failed, true));
}

#[tokio::test(start_paused = true)]
async fn what_no_retry_mends_fails_no_reconcile() {
    let function = Function::new();
    function.world().forbidden.set(true);
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!(decisions.iter().map(|d| d.outcome).collect::<Vec<_>>(), [Failed, Failed]);
}

#[tokio::test(start_paused = true)]
async fn routes_with_a_name_need_no_list_of_repositories() {
    let route = COMMITTED.split("[access]").next().unwrap();
    let function =
        Function::with(&format!("{route}{}", route.replace(r#"repository = "shop""#, r#"repository = "we*""#)));
    function.world().unlisted.set(true);
    assert!(function.file("schedule").await.is_err());
    assert_eq!(function.row(MAIN).unwrap().state.commit, Some(commit(1)));
}
