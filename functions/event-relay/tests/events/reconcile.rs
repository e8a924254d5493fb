//! Events of the schedule: the reconcile compares the head of every routed branch with the ledger.

use std::time::Duration;

use event_relay::Error;
use event_relay::Outcome::{Duplicate, Failed, Filtered, Ignored, Relayed};
use event_relay::world::{EntryResult, World};
use sekisho_lambda::Failure;
use serde_json::json;

use crate::function::{CONFIG, Function, MAIN, SHOP, START, commit, only_main, only_tags, outcomes, routes, write};

#[tokio::test(start_paused = true)]
async fn a_branch_whose_event_was_lost_is_relayed() {
    let function = Function::new();
    function.file("schedule").await.unwrap();
    function.accepted();
    function.point("main", Some(commit(2)));
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!(outcomes(&decisions), [Relayed, Duplicate]);
    assert!(decisions[1].reason.starts_with("for 1 routed references"), "{decisions:?}");
    let accepted = function.accepted();
    assert_eq!((&accepted[0].1.change.commit, &accepted[0].1.change.event), (&commit(2), &None));
}

#[tokio::test(start_paused = true)]
async fn a_route_that_names_a_missing_branch_or_repository_fails() {
    let function = Function::new();
    function.point("main", None);
    function.point("release/1.2", None);
    let decision = function.decide("schedule").await;
    assert_eq!(
        (decision.outcome, decision.concerns["ref"].as_str()),
        (Failed, "main"),
        "there should be no decision about a glob"
    );
    assert!(decision.reason.contains("create it, or correct the route"));
    function.account().branches.replace(None);
    let decision = function.decide("schedule").await;
    assert_eq!((decision.outcome, decision.concerns["repository"].as_str()), (Failed, SHOP));
}

/// In an earlier version, a reconcile that found nothing had no decision, neither in the answer nor in the ledger.
#[tokio::test(start_paused = true)]
async fn a_reconcile_that_finds_nothing_has_a_decision() {
    let function = Function::with(&CONFIG.replace(r#"["main", "release/*"]"#, r#"["hotfix/*"]"#));
    let decision = function.decide("schedule").await;
    assert_eq!((decision.outcome, function.stored_decisions().len()), (Ignored, 1));
}

#[tokio::test(start_paused = true)]
async fn repositories_are_listed_only_if_a_route_has_a_glob() {
    let function = Function::with(&CONFIG.replace(r#"repository = "shop""#, r#"repository = "sh*""#));
    function.file("schedule").await.unwrap();
    let calls = function.calls();
    assert_eq!(calls[..2], ["ListRepositories", "ListBranches shop"]);
    assert!(!calls.contains(&"ListBranches website".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_pending_change_comes_first_even_if_the_branch_is_gone() {
    let function = Function::new();
    function.file("schedule").await.unwrap();
    let row = function.row("refs/heads/release/1.2").unwrap().state;
    let change = json!({
        "kind": "branch", "repository": SHOP, "ref": "refs/heads/release/1.2", "commit": commit(2),
        "previous": commit(1), "sequence": row.sequence + 1, "actor": null, "event": null,
    });
    let deliveries = json!([{"account": "222222222222", "region": "ap-northeast-1", "pipelines": ["shop"]}]);
    let deliveries: Vec<_> = serde_json::from_value(deliveries).unwrap();
    let pending = row.with_pending(serde_json::from_value(change).unwrap(), deliveries.clone(), None, START);
    let left = pending.given_back(&deliveries, true);
    write(function.account(), "refs/heads/release/1.2", &left);
    function.point("release/1.2", None);
    function.point("main", Some(commit(3)));
    function.accepted();
    let decisions = function.file("schedule").await.unwrap().decisions;
    let accepted = function.accepted();
    assert_eq!((&accepted[0].1.change.commit, accepted.len()), (&commit(2), 3));
    // The pending change and the head of `main` were relayed, and the branch that does not exist was ignored.
    assert_eq!(decisions.iter().filter(|d| d.outcome == Relayed).count(), 2);
    assert_eq!(decisions.iter().filter(|d| d.outcome == Ignored).count(), 1);
    assert_eq!(function.row("refs/heads/release/1.2").unwrap().state.pending, None);
}

#[tokio::test(start_paused = true)]
async fn a_pending_change_of_a_tag_is_finished_and_is_not_a_new_change() {
    let function = Function::with(&only_tags());
    function.set_bus(|_| EntryResult::Retryable("InternalFailure: again".to_owned()));
    assert!(function.file("tag-created").await.is_err());
    function.set_bus(|_| EntryResult::Accepted);
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!(outcomes(&decisions), [Relayed, Duplicate]);
    assert_eq!(function.accepted().len(), 2);
    assert_eq!(function.decide("tag-created").await.outcome, Duplicate);
}

#[tokio::test(start_paused = true)]
async fn a_branch_that_fails_does_not_keep_others_from_being_relayed_and_fails_the_invocation() {
    let function = Function::new();
    function.account().throttled_branches.borrow_mut().push("main".to_owned());
    let error = function.file("schedule").await.unwrap_err();
    assert_eq!(error.error_type().name(), "Throttled");
    assert!(matches!(error, Error::Reconcile { count: 1, .. }), "{error}");
    assert_eq!(function.row("refs/heads/release/1.2").unwrap().state.commit, Some(commit(1)));
    assert!(function.row(MAIN).is_none());
    assert_eq!(function.stored_decisions().len(), 1, "the decision about the other branch is stored");
}

/// In an earlier version, the branches were read one after the other, and the last branches were never reached before
/// the function's timeout.
#[tokio::test(start_paused = true)]
async fn a_thousand_branches_are_examined_in_time() {
    let function = Function::with(&CONFIG.replace(r#""main""#, r#""*""#));
    for n in 0..1_000 {
        function.point(&format!("b{n}"), Some(commit(n)));
    }
    function.set_call_time(Duration::from_millis(30));
    function.file("schedule").await.unwrap();
    let took = function.account().now() - START;
    assert!(took < Duration::from_secs(10), "{took}");
    assert_eq!(function.accepted().len(), 2 * 1_002);
}

/// In an earlier version, the reconcile ignored the clock, and Lambda ended the invocation before any decision was
/// stored.
#[tokio::test(start_paused = true)]
async fn branches_for_which_no_time_is_left_are_counted_and_the_others_are_stored() {
    let function = Function::with(&CONFIG.replace(r#""main""#, r#""*""#));
    for n in 0..13_000 {
        function.point(&format!("b{n}"), Some(commit(n)));
    }
    function.set_call_time(Duration::from_millis(30));
    let decisions = function.file("schedule").await.unwrap().decisions;
    let took = function.account().now() - START;
    assert!(took < Duration::from_secs(30), "{took}");
    let late = decisions.last().unwrap();
    assert!(late.outcome == Ignored && late.reason.contains("no time was left"), "{late:?}");
    let relayed = decisions.iter().filter(|d| d.outcome == Relayed).count();
    assert!(relayed > 2_000, "{relayed}");
    assert_eq!(function.stored_decisions().len(), decisions.len());
    let rows = function.account().ledger.rows();
    assert!(
        rows.iter().filter(|(key, _)| key.pk.starts_with("decision#")).count() > 10,
        "the decisions should be stored during the reconcile"
    );
}

#[tokio::test(start_paused = true)]
async fn a_head_that_touches_no_path_is_compared_once() {
    let function = Function::with(&only_main());
    function.file("schedule").await.unwrap();
    function.point("main", Some(commit(2)));
    function.set_changed_paths(&[&["README.md"]]);
    function.calls();
    for compared in [1, 0] {
        assert_eq!(function.decide("schedule").await.outcome, Duplicate);
        let calls = function.calls();
        assert_eq!(calls.iter().filter(|call| call.starts_with("GetDifferences")).count(), compared, "{calls:?}");
    }
    // If the globs change, the head is compared with the commit that was relayed last, although the head was compared
    // before.
    let mut function = function;
    let other = CONFIG
        .replace(r#"["main", "release/*"]"#, r#"["main"]"#)
        .replace("api/**", "**")
        .replace(r#", "!**/*.md""#, "");
    function.relay.routes = routes(&other);
    assert_eq!(function.decide("schedule").await.outcome, Relayed);
    assert_eq!(function.accepted().last().unwrap().1.change.previous, Some(commit(1)));
}

/// A branch is force-pushed back to a head that touched no routed path when it was first compared. Another commit was
/// relayed in the meantime, so the head must be compared with that commit.
#[tokio::test(start_paused = true)]
async fn a_head_that_touched_no_path_is_compared_again_after_another_was_relayed() {
    let function = Function::with(&only_main());
    function.file("schedule").await.unwrap();
    for (head, paths, outcome) in
        [(2, "README.md", Duplicate), (3, "api/main.rs", Relayed), (2, "api/main.rs", Relayed)]
    {
        function.point("main", Some(commit(head)));
        function.set_changed_paths(&[&[paths]]);
        assert_eq!(function.decide("schedule").await.outcome, outcome, "{head}");
    }
    let accepted = function.accepted();
    let change = &accepted.last().unwrap().1.change;
    assert_eq!((&change.commit, &change.previous), (&commit(2), &Some(commit(3))));
}

#[tokio::test(start_paused = true)]
async fn a_leased_reference_is_left_to_the_invocation_that_holds_it() {
    let function = Function::new();
    function.file("schedule").await.unwrap();
    let row = function.row(MAIN).unwrap().state;
    let change = json!({
        "kind": "branch", "repository": SHOP, "ref": MAIN, "commit": commit(2), "previous": commit(1),
        "sequence": row.sequence + 1, "actor": null, "event": null,
    });
    let pending = row.with_pending(serde_json::from_value(change).unwrap(), vec![], None, START);
    write(function.account(), MAIN, &pending);
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert!(decisions.iter().any(|d| d.outcome == Ignored && d.reason.contains("other invocations")), "{decisions:?}");
    assert!(function.account().now() - START < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_pending_change_whose_route_is_gone_is_dropped_permanently() {
    let mut function = Function::new();
    function.set_bus(|_| EntryResult::Retryable("InternalFailure: again".to_owned()));
    assert!(function.file("branch-updated").await.is_err());
    function.set_bus(|_| EntryResult::Accepted);
    let committed = function.relay.routes.clone();
    function.relay.routes = routes(&CONFIG.replace(r#"["main", "release/*"]"#, r#"["hotfix/*"]"#));
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!(outcomes(&decisions), [Filtered, Filtered]);
    assert_eq!(function.row(MAIN).unwrap().state.pending, None);
    function.relay.routes = committed;
    function.point("main", Some(commit(7)));
    function.file("schedule").await.unwrap();
    let accepted = function.accepted();
    assert!(
        accepted.iter().all(|(_, event)| event.change.git_ref.as_str() != MAIN || event.change.commit == commit(7))
    );
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_row_does_not_keep_other_references_from_being_relayed() {
    let function = Function::new();
    let key = sekisho_ledger::Key { pk: format!("branch#{SHOP}"), sk: MAIN.to_owned() };
    let broken = std::collections::BTreeMap::from([("sequence", "many")]);
    sekisho_ledger::Store::write(&function.account().ledger, &key, &broken, None, "another").await.unwrap();
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!(outcomes(&decisions), [Failed, Relayed]);
    assert!(decisions[0].reason.contains(MAIN) && decisions[0].reason.contains("cannot be read"), "{decisions:?}");
}

#[tokio::test(start_paused = true)]
async fn a_branch_that_only_some_repositories_of_a_glob_lack_is_no_mistake() {
    let everywhere = CONFIG.replace(r#"repository = "shop""#, r#"repository = "*""#);
    let function = Function::with(&everywhere);
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert!(decisions.iter().all(|d| d.outcome != Failed), "{decisions:?}");
    // A branch that none of the matching repositories has is reported once.
    function.point("main", None);
    let decisions = function.file("schedule").await.unwrap().decisions;
    let failed: Vec<_> = decisions.iter().filter(|d| d.outcome == Failed).collect();
    assert_eq!((failed.len(), failed[0].concerns["ref"].as_str()), (1, "main"));
    let nothing = Function::with(&CONFIG.replace(r#"repository = "shop""#, r#"repository = "web-*""#));
    let decision = nothing.decide("schedule").await;
    assert_eq!((decision.outcome, decision.reason.contains("`web-*`")), (Failed, true));
}

#[tokio::test(start_paused = true)]
async fn an_error_that_no_retry_cures_does_not_fail_a_reconcile() {
    let function = Function::new();
    function.account().heads_denied.set(true);
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!(outcomes(&decisions), [Failed, Failed]);
}

#[tokio::test(start_paused = true)]
async fn routes_without_a_glob_need_no_list_of_repositories() {
    let route = CONFIG.split("[access]").next().unwrap();
    let function =
        Function::with(&format!("{route}{}", route.replace(r#"repository = "shop""#, r#"repository = "we*""#)));
    function.account().repositories.replace(None);
    assert!(function.file("schedule").await.is_err());
    assert_eq!(function.row(MAIN).unwrap().state.commit, Some(commit(1)));
}
