//! Events of the schedule: the reconcile compares the head of every routed branch with the ledger.

use std::time::Duration;

use event_relay::Outcome::{Baseline, Duplicate, Failed, Ignored, Relayed};
use event_relay::world::World;

use crate::function::{CONFIG, Function, MAIN, SHOP, START, commit, only_main, outcomes, routes};

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
    assert_eq!((&accepted[0].1.change.revision, &accepted[0].1.change.event), (&commit(2), &None));
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
async fn a_branch_that_fails_keeps_no_other_branch_from_being_relayed() {
    let function = Function::new();
    function.account().throttled_branches.borrow_mut().push("main".to_owned());
    let decisions = function.file("schedule").await.unwrap().decisions;
    let summary = decisions.last().unwrap();
    assert_eq!((summary.outcome, summary.concerns["count"].as_str()), (Ignored, "1"), "{decisions:?}");
    assert_eq!(function.row("refs/heads/release/1.2").unwrap().state.commit, Some(commit(1)));
    assert!(function.row(MAIN).is_none());
    assert_eq!(function.stored_decisions().len(), decisions.len());
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
    for _ in 0..2 {
        let began = function.account().now();
        let decision = function.decide("schedule").await;
        let took = function.account().now() - began;
        assert!(took < Duration::from_secs(10), "{took}");
        assert!([Baseline, Duplicate].contains(&decision.outcome), "{decision:?}");
    }
    assert!(function.row("refs/heads/b999").is_some());
}

/// In an earlier version, the reconcile ignored the clock, and Lambda ended the invocation before any decision was
/// stored.
#[tokio::test(start_paused = true)]
async fn branches_for_which_no_time_is_left_are_counted_and_the_others_are_stored() {
    let all = CONFIG.replace(r#""main""#, r#""*""#);
    let function =
        Function::with(&all.replace(r#"repository = "shop""#, "repository = \"shop\"\nexisting = \"relay\""));
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
    assert!(relayed > 200, "{relayed}");
    assert_eq!(function.stored_decisions().len(), decisions.len());
    let rows = function.account().ledger.rows();
    assert!(
        rows.iter().filter(|(key, _)| key.pk.starts_with("decision#")).count() > 2,
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
    assert_eq!((&change.revision, &change.previous), (&commit(2), &Some(commit(3))));
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_row_does_not_keep_other_references_from_being_relayed() {
    let function = Function::new();
    let key = sekisho_ledger::Key { pk: format!("branch#{SHOP}"), sk: MAIN.to_owned() };
    let broken = std::collections::BTreeMap::from([("sequence", "many")]);
    sekisho_ledger::Store::write(&function.account().ledger, &key, &broken, None, "another").await.unwrap();
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!(outcomes(&decisions), [Failed, Baseline]);
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
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!(decisions.last().unwrap().outcome, Ignored, "some repositories are not known");
    assert_eq!(function.row(MAIN).unwrap().state.commit, Some(commit(1)));
}
