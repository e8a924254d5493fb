//! Events about one branch: new heads, heads that were relayed before, and changed paths.

use std::fmt::Write as _;
use std::time::Duration;

use event_relay::Outcome::{Duplicate, Failed, Filtered, Ignored, Refused, Relayed};
use event_relay::branch::BranchRow;
use event_relay::world::World;
use sekisho_domain::timestamp::epoch_millis;
use sekisho_lambda::Failure;
use serde_json::Value;

use crate::function::{
    CONFIG, Function, MAIN, START, change_to_second_commit, commit, file, relayed, routes, row, write,
};

#[tokio::test(start_paused = true)]
async fn a_repeated_event_is_a_duplicate_and_sends_nothing() {
    let function = relayed().await;
    let before = function.row(MAIN);
    let decision = function.decide("branch-created").await;
    assert_eq!((decision.outcome, decision.concerns["commit"].as_str()), (Duplicate, commit(1).as_str()));
    assert_eq!(function.calls(), ["GetBranch shop main"]);
    assert_eq!(function.row(MAIN), before);
}

#[tokio::test(start_paused = true)]
async fn a_merge_with_two_events_is_relayed_once() {
    let function = Function::new();
    assert_eq!(function.decide("pull-request-merged").await.outcome, Relayed);
    assert_eq!(function.decide("branch-merged").await.outcome, Duplicate);
    assert_eq!(function.accepted().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_late_event_relays_the_head_and_not_its_own_commit() {
    let function = relayed().await;
    function.point("main", Some(commit(3)));
    // The event names an older commit, but the branch points at the third commit now.
    assert_eq!(function.decide("branch-updated").await.outcome, Relayed);
    let accepted = function.accepted();
    let accounts: Vec<&str> = accepted.iter().map(|(account, _)| account.as_str()).collect();
    assert_eq!(accounts, ["222222222222", "333333333333"]);
    for (_, event) in accepted {
        assert_eq!((event.change.revision, event.change.previous), (commit(3), Some(commit(1))));
        assert_eq!(event.pipelines, ["shop"]);
        assert_eq!(event.change.actor.as_deref(), Some("arn:aws:iam::111111111111:user/dev"));
    }
    assert_eq!(function.decide("branch-updated").await.outcome, Duplicate);
}

#[tokio::test(start_paused = true)]
async fn sequences_grow_even_within_a_millisecond_and_when_the_branch_goes_back() {
    let function = relayed().await;
    let mut sequences = vec![function.row(MAIN).unwrap().state.sequence];
    assert_eq!(sequences[0], epoch_millis(START));
    for n in [2, 1, 2] {
        function.point("main", Some(commit(n)));
        assert_eq!(function.decide("branch-updated").await.outcome, Relayed);
        sequences.push(function.row(MAIN).unwrap().state.sequence);
    }
    assert_eq!(sequences, [0, 1, 2, 3].map(|n| epoch_millis(START) + n));
}

#[tokio::test(start_paused = true)]
async fn a_deleted_branch_is_relayed_again_only_if_it_returns_at_another_commit() {
    let function = relayed().await;
    function.point("main", None);
    assert_eq!(function.decide("branch-deleted").await.outcome, Ignored);
    // The event about an update arrives after the branch was deleted.
    let late = function.decide("branch-updated").await;
    assert_eq!((late.outcome, late.reason.contains("does not exist")), (Ignored, true));
    function.point("main", Some(commit(1)));
    assert_eq!(function.decide("branch-created").await.outcome, Duplicate);
    function.point("main", Some(commit(2)));
    assert_eq!(function.decide("branch-created").await.outcome, Relayed);
    assert_eq!(function.accepted()[0].1.change.previous, Some(commit(1)));
}

#[tokio::test(start_paused = true)]
async fn an_event_of_a_deleted_repository_is_ignored() {
    let function = Function::new();
    function.account().branches.replace(None);
    let decision = function.decide("branch-updated").await;
    assert_eq!((decision.outcome, decision.reason.contains("repository does not exist")), (Ignored, true));
}

/// Another invocation relays a newer head between this invocation's read of the head and its write of the row.
#[tokio::test(start_paused = true)]
async fn an_old_head_gets_no_newer_sequence() {
    let function = relayed().await;
    function.point("main", Some(commit(2)));
    function.account().interruptions.borrow_mut().push_back(Box::new(|account| {
        let mut change = change_to_second_commit(&row(account, MAIN).unwrap().state);
        change.revision = commit(3);
        let relayed = row(account, MAIN).unwrap().state.relayed(&change, vec![]);
        write(account, MAIN, &relayed);
        account.branches.borrow_mut().as_mut().unwrap().insert("main".to_owned(), commit(3));
    }));
    let decision = function.decide("branch-updated").await;
    assert_eq!((decision.outcome, decision.concerns["commit"].as_str()), (Duplicate, commit(3).as_str()));
    assert_eq!(function.accepted(), []);
    assert_eq!(function.calls(), ["GetBranch shop main", &differences(1, 2), "GetBranch shop main"]);
}

/// Hundreds of branches that feed one pipeline are pushed at once, so their invocations write the same row.
#[tokio::test(start_paused = true)]
async fn an_invocation_waits_its_turn_if_many_others_write_the_same_row() {
    let function = relayed().await;
    function.point("main", Some(commit(2)));
    for _ in 0..40 {
        function.account().interruptions.borrow_mut().push_back(Box::new(|account| {
            write(account, MAIN, &row(account, MAIN).unwrap().state);
        }));
    }
    assert_eq!(function.decide("branch-updated").await.outcome, Relayed);
    let waited = function.account().now() - START;
    assert!(waited > Duration::from_secs(4) && waited < Duration::from_secs(20), "{waited}");
}

fn differences(before: u64, after: u64) -> String {
    format!("GetDifferences shop {}..{}", commit(before), commit(after))
}

#[tokio::test(start_paused = true)]
async fn pages_of_paths_are_read_until_one_touches_the_route() {
    let function = relayed().await;
    function.point("main", Some(commit(2)));
    function.set_changed_paths(&[&["README.md"], &["api/main.rs"], &["web/index.html"]]);
    assert_eq!(function.decide("branch-updated").await.outcome, Relayed);
    let between = differences(1, 2);
    assert_eq!(function.calls(), ["GetBranch shop main", &between, &between, "PutEvents ap-northeast-1 2"]);
}

/// No changed path is missed if one change contains several pushes, because each head is compared with the commit that
/// was relayed last.
#[tokio::test(start_paused = true)]
async fn a_change_that_touches_no_path_is_filtered_and_counts_with_the_next_one() {
    let function = relayed().await;
    let before = function.row(MAIN);
    function.point("main", Some(commit(2)));
    function.set_changed_paths(&[&["README.md"], &["api/README.md", "docs/index.md"]]);
    let decision = function.decide("branch-updated").await;
    assert_eq!((decision.outcome, decision.reason.contains("touches no path")), (Filtered, true));
    assert_eq!(function.row(MAIN), before);
    function.calls();
    function.point("main", Some(commit(3)));
    function.set_changed_paths(&[&["api/main.rs", "README.md"]]);
    assert_eq!(function.decide("branch-updated").await.outcome, Relayed);
    assert_eq!(function.calls()[1], differences(1, 3));
}

#[tokio::test(start_paused = true)]
async fn everything_counts_as_changed_if_the_paths_cannot_be_known() {
    // A commit does not exist any more after a force-push.
    let function = relayed().await;
    function.point("main", Some(commit(2)));
    function.account().changed_paths.replace(None);
    assert_eq!(function.decide("branch-updated").await.outcome, Relayed);
    // There are more pages than the function reads.
    let function = relayed().await;
    function.point("main", Some(commit(2)));
    function.set_changed_paths(&[["README.md"].as_slice(); 101]);
    assert_eq!(function.decide("branch-updated").await.outcome, Relayed);
    assert_eq!(function.calls().iter().filter(|call| call.starts_with("GetDifferences")).count(), 100);
}

/// In an earlier version, a failure of a minute started every path-filtered pipeline of a monorepo.
#[tokio::test(start_paused = true)]
async fn nothing_starts_while_codecommit_fails_to_compare_commits() {
    let function = relayed().await;
    function.point("main", Some(commit(2)));
    function.account().differences_fail.set(true);
    let error = function.file("branch-updated").await.unwrap_err();
    assert!(matches!(error, event_relay::Error::Service(_)), "{error}");
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!(decisions.last().unwrap().outcome, Ignored, "{decisions:?}");
    assert_eq!(function.accepted(), []);
    function.account().differences_fail.set(false);
    function.set_changed_paths(&[&["README.md"]]);
    assert_eq!(function.decide("branch-updated").await.outcome, Filtered);
}

/// The paths of the route `shop` cannot be compared, and the route `all` has no paths.
#[tokio::test(start_paused = true)]
async fn a_route_without_paths_gets_the_head_while_codecommit_fails_to_compare_commits() {
    let all = "[[route]]\nname = \"all\"\nrepository = \"shop\"\nbranches = [\"main\"]\n[[route.target]]\n\
               account = \"222222222222\"\nregion = \"ap-northeast-1\"\npipeline = \"all\"\naction = \"Source\"\n";
    let function = Function::with(&CONFIG.replacen("[access]", &format!("{all}[access]"), 1));
    assert_eq!(function.decide("branch-created").await.outcome, Relayed);
    function.accepted();
    function.point("main", Some(commit(2)));
    function.account().differences_fail.set(true);
    for sent in [1, 0] {
        let error = function.file("branch-updated").await.unwrap_err();
        assert!(matches!(error, event_relay::Error::Service(_)), "{error}");
        let accepted = function.accepted();
        assert_eq!(accepted.len(), sent, "{accepted:?}");
        assert!(accepted.iter().all(|(_, event)| event.pipelines == ["all"] && event.change.revision == commit(2)));
    }
    assert_eq!(function.stored_decisions().last().unwrap()["outcome"], "relayed");
    assert_eq!(function.row(MAIN).unwrap().state.commit, Some(commit(1)), "the other route is not decided");
    function.file("schedule").await.unwrap();
    assert_eq!(function.accepted(), []);
    function.account().differences_fail.set(false);
    let decision = function.decide("branch-updated").await;
    assert_eq!((decision.outcome, decision.concerns["duplicates"].as_str()), (Relayed, "1"));
    let accepted = function.accepted();
    assert!(accepted.len() == 2 && accepted.iter().all(|(_, event)| event.pipelines == ["shop"]), "{accepted:?}");
    assert_eq!(function.row(MAIN).unwrap().state.commit, Some(commit(2)));
}

/// CodeCommit does not answer before the time is over: nothing is known about the paths, and a retry may help.
#[tokio::test(start_paused = true)]
async fn nothing_starts_if_no_page_of_paths_arrives_in_time() {
    let function = relayed().await;
    function.point("main", Some(commit(2)));
    function.account().read_time.set(Duration::from_secs(15));
    let error = function.file("branch-updated").await.unwrap_err();
    assert!(matches!(error, event_relay::Error::NoTime { .. }), "{error}");
    assert_eq!(function.accepted(), []);
}

/// In an earlier version, reading the pages of changed paths used up the time of every retry, so that the branch was
/// blocked.
#[tokio::test(start_paused = true)]
async fn a_large_diff_does_not_block_a_branch() {
    let function = relayed().await;
    function.point("main", Some(commit(2)));
    function.set_changed_paths(&[["README.md"].as_slice(); 100]);
    function.set_call_time(Duration::from_millis(900));
    assert_eq!(function.decide("branch-updated").await.outcome, Relayed);
    assert_eq!(function.accepted().len(), 2);
    assert!(function.account().now() - START < Duration::from_secs(25));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_without_the_ledger() {
    let function = Function::new();
    function.account().ledger.set_out_of_reach(true);
    let error = function.file("branch-updated").await.unwrap_err();
    assert_eq!(error.error_type().name(), "Internal");
    assert!(matches!(error, event_relay::Error::Ledger(_)), "{error}");
    assert_eq!(function.calls(), [""; 0]);
    function.account().ledger.set_out_of_reach(false);
    assert_eq!(function.decide("branch-updated").await.outcome, Relayed);
}

#[tokio::test(start_paused = true)]
async fn without_codecommit_the_invocation_fails_so_that_lambda_retries() {
    let function = Function::new();
    function.account().throttled_branches.borrow_mut().push("main".to_owned());
    let error = function.file("branch-updated").await.unwrap_err();
    assert_eq!(error.error_type().name(), "Throttled");
    assert_eq!(function.account().ledger.rows().len(), 1);
    assert_eq!(function.row(MAIN).unwrap().state, BranchRow::unread());
}

#[tokio::test(start_paused = true)]
async fn an_error_that_no_retry_cures_is_a_decision() {
    let function = Function::new();
    function.account().heads_denied.set(true);
    let decision = function.decide("branch-updated").await;
    assert_eq!((decision.outcome, decision.reason.contains("fix the cause")), (Failed, true), "{decision:?}");
}

#[tokio::test(start_paused = true)]
async fn a_malformed_repository_name_is_refused_even_if_the_resources_are_right() {
    let function = Function::new();
    let mut event: Value = serde_json::from_str(&file("branch-updated")).unwrap();
    event["detail"]["repositoryName"] = "shop:x".into();
    let decisions = function.handle(&event.to_string()).await.unwrap().decisions;
    assert_eq!(decisions[0].outcome, Refused);
}

/// A configuration that routes the branch `main` to this many targets.
fn with_targets(count: usize) -> String {
    let mut config = "[[route]]\nrepository = \"shop\"\nbranches = [\"main\"]\n".to_owned();
    for n in 0..count {
        let target = "region = \"ap-northeast-1\"\npipeline = \"shop\"\naction = \"Source\"";
        writeln!(config, "[[route.target]]\naccount = \"{n:012}\"\n{target}").unwrap();
    }
    config
}

#[tokio::test(start_paused = true)]
async fn more_targets_than_a_row_can_hold_are_a_decision_and_block_no_branch() {
    let function = Function::with(&with_targets(6_500));
    let decision = function.decide("branch-updated").await;
    assert_eq!((decision.outcome, decision.reason.contains("6500 accounts")), (Failed, true), "{decision:?}");
    assert!(function.row(MAIN).is_none());
}

/// The change goes only to the targets that joined, but the row has all targets.
#[tokio::test(start_paused = true)]
async fn a_change_to_few_of_too_many_targets_is_a_decision_too() {
    let mut function = Function::with(&with_targets(1));
    assert_eq!(function.decide("branch-created").await.outcome, Relayed);
    function.relay.routes = routes(&with_targets(11_640).replacen("branches", "paths = [\"api/**\"]\nbranches", 1));
    let ids = (0..11_600).map(|n| format!("{n:012}/ap-northeast-1/shop").parse().unwrap());
    let row = function.row(MAIN).unwrap().state.covering(ids.collect());
    write(function.account(), MAIN, &row);
    function.point("main", Some(commit(2)));
    function.set_changed_paths(&[&["README.md"]]);
    let decision = function.decide("branch-updated").await;
    assert_eq!((decision.outcome, decision.reason.contains("11640 accounts")), (Failed, true), "{decision:?}");
    assert_eq!(function.row(MAIN).unwrap().state, row);
}

/// The ledger in memory refuses a row that is too large for DynamoDB. The test therefore checks that the function's own
/// limit is not too high.
#[tokio::test(start_paused = true)]
async fn as_many_targets_as_fit_into_a_row_are_relayed() {
    let function = Function::with(&with_targets(6_090));
    assert_eq!(function.decide("branch-updated").await.outcome, Relayed);
    assert_eq!(function.account().accepted.borrow().len(), 6_090);
}
