//! One reference: what is new, what has been, and what another invocation is at.

use std::time::Duration;

use event_relay::handler::Outcome::{Duplicate, Failed, Filtered, Ignored, Refused, Relayed};
use event_relay::reference::{self, State};
use event_relay::world::World;
use sekisho_domain::timestamp::epoch_millis;
use sekisho_lambda::Failure;
use serde_json::{Value, json};

use crate::world::{COMMITTED, Function, START, commit, file, row, write};

const MAIN: &str = "refs/heads/main";

/// A function that has relayed the first commit of `main`.
async fn relayed() -> Function {
    let function = Function::new();
    assert_eq!(function.decide("branch-created").await.outcome, Relayed);
    function.taken();
    function.calls();
    function
}

#[tokio::test(start_paused = true)]
async fn the_same_event_again_is_a_duplicate_and_goes_nowhere() {
    let function = relayed().await;
    let before = function.row(MAIN);
    let decision = function.decide("branch-created").await;
    assert_eq!((decision.outcome, decision.concerns["commit"].as_str()), (Duplicate, commit(1).as_str()));
    assert_eq!(function.calls(), ["GetBranch shop main"]);
    assert_eq!(function.row(MAIN), before);
}

#[tokio::test(start_paused = true)]
async fn a_merge_with_two_events_goes_out_once() {
    let function = Function::new();
    assert_eq!(function.decide("pull-request-merged").await.outcome, Relayed);
    assert_eq!(function.decide("branch-merged").await.outcome, Duplicate);
    assert_eq!(function.taken().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_late_event_finds_the_head_and_not_its_own_commit() {
    let function = relayed().await;
    function.point("main", Some(commit(3)));
    // It tells of a commit that the branch no longer points at.
    assert_eq!(function.decide("branch-updated").await.outcome, Relayed);
    let taken = function.taken();
    assert_eq!(taken.iter().map(|(account, _)| account.as_str()).collect::<Vec<_>>(), ["222222222222", "333333333333"]);
    for (_, event) in taken {
        assert_eq!((event.change.commit, event.change.previous), (commit(3), Some(commit(1))));
        assert_eq!(event.pipelines, ["shop"]);
        assert_eq!(event.change.actor.as_deref(), Some("arn:aws:iam::111111111111:user/dev"));
    }
    assert_eq!(function.decide("branch-updated").await.outcome, Duplicate);
}

#[tokio::test(start_paused = true)]
async fn sequences_grow_also_within_a_millisecond_and_when_the_branch_goes_back() {
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
async fn a_branch_that_is_deleted_and_made_again_is_a_change_where_its_commit_is_another() {
    let function = relayed().await;
    function.point("main", None);
    assert_eq!(function.decide("branch-deleted").await.outcome, Ignored);
    // Its update comes late: there is nothing to look at any more.
    let late = function.decide("branch-updated").await;
    assert_eq!((late.outcome, late.reason.contains("does not exist")), (Ignored, true));
    function.point("main", Some(commit(1)));
    assert_eq!(function.decide("branch-created").await.outcome, Duplicate);
    function.point("main", Some(commit(2)));
    assert_eq!(function.decide("branch-created").await.outcome, Relayed);
    assert_eq!(function.taken()[0].1.change.previous, Some(commit(1)));
}

#[tokio::test(start_paused = true)]
async fn a_repository_that_is_gone_is_ignored() {
    let function = Function::new();
    *function.world().branches.borrow_mut() = None;
    let decision = function.decide("branch-updated").await;
    assert_eq!((decision.outcome, decision.reason.contains("repository does not exist")), (Ignored, true));
}

#[tokio::test(start_paused = true)]
async fn what_another_invocation_is_at_is_waited_for_and_never_called_a_duplicate() {
    let function = relayed().await;
    function.point("main", Some(commit(2)));
    let state = function.row(MAIN).unwrap().state;
    let change = event_relay_change(&state);
    write(function.world(), MAIN, &state.with_pending(change, vec![], None, START));
    let before = function.row(MAIN);
    let error = function.file("branch-updated").await.unwrap_err();
    assert_eq!(error.error_type().name(), "Internal");
    assert!(error.to_string().contains("another invocation is relaying refs/heads/main"), "{error}");
    let waited = function.world().now() - START;
    assert!((20..25).contains(&waited.whole_seconds()), "as long as there is time to deliver, of 45 s: {waited}");
    assert_eq!((function.calls(), function.row(MAIN)), (vec![], before));
    assert_eq!(function.recorded().len(), 1, "only the first event's");
}

#[tokio::test(start_paused = true)]
async fn what_becomes_free_too_late_to_deliver_it_costs_no_try() {
    let function = relayed().await;
    let state = function.row(MAIN).unwrap().state;
    let free = START + Duration::from_millis(23_500);
    let pending = state.with_pending(event_relay_change(&state), vec![], None, free - reference::LEASE);
    write(function.world(), MAIN, &pending);
    assert!(function.file("branch-updated").await.unwrap_err().to_string().contains("no time left"));
    assert!(function.world().now() > free);
    assert_eq!(function.row(MAIN).unwrap().state, pending);
}

/// The change to the second commit, as another invocation would have it.
fn event_relay_change(state: &State) -> sekisho_domain::change::Change {
    let change = json!({
        "kind": "branch", "repository": crate::world::SHOP, "ref": MAIN, "commit": commit(2), "previous": commit(1),
        "sequence": state.sequence + 1, "actor": null, "event": "another",
    });
    serde_json::from_value(change).unwrap()
}

#[tokio::test(start_paused = true)]
async fn who_waits_finds_what_the_other_has_done() {
    let function = relayed().await;
    function.point("main", Some(commit(2)));
    let state = function.row(MAIN).unwrap().state;
    let change = event_relay_change(&state);
    let pending = state.with_pending(change.clone(), vec![], None, START);
    write(function.world(), MAIN, &pending);
    let other = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        write(function.world(), MAIN, &pending.relayed(&change));
    };
    let (decision, ()) = futures_util::join!(function.decide("branch-updated"), other);
    assert_eq!(decision.outcome, Duplicate);
    assert_eq!(function.taken(), []);
}

#[tokio::test(start_paused = true)]
async fn what_a_crash_left_goes_out_with_the_sequence_and_id_that_it_had() {
    let function = relayed().await;
    let state = function.row(MAIN).unwrap().state;
    let change = event_relay_change(&state);
    let deliveries = serde_json::from_value(json!([
        {"account": "333333333333", "region": "ap-northeast-1", "pipelines": ["shop"]},
    ]));
    write(function.world(), MAIN, &state.with_pending(change.clone(), deliveries.unwrap(), None, START));
    tokio::time::advance(Duration::from_secs(56)).await;
    // The branch has moved on meanwhile.
    function.point("main", Some(commit(3)));
    let decisions = function.file("branch-updated").await.unwrap().decisions;
    assert_eq!(decisions.iter().map(|d| d.outcome).collect::<Vec<_>>(), [Relayed, Relayed]);
    let taken = function.taken();
    assert_eq!((taken[0].0.as_str(), &taken[0].1.change, &taken[0].1.id), ("333333333333", &change, &change.id()));
    assert_eq!(taken.len(), 3);
    assert!(taken[1..].iter().all(|(_, event)| event.change.commit == commit(3)));
    assert!(taken[1].1.change.sequence > change.sequence);
}

/// Between this invocation's reading of the head and its write, another relays a newer one.
#[tokio::test(start_paused = true)]
async fn an_old_head_takes_no_newer_sequence() {
    let function = relayed().await;
    function.point("main", Some(commit(2)));
    function.world().meanwhile.borrow_mut().push_back(Box::new(|account| {
        let mut change = event_relay_change(&row(account, MAIN).unwrap().state);
        change.commit = commit(3);
        let state = row(account, MAIN).unwrap().state.relayed(&change);
        write(account, MAIN, &state);
        account.branches.borrow_mut().as_mut().unwrap().insert("main".to_owned(), commit(3));
    }));
    let decision = function.decide("branch-updated").await;
    assert_eq!((decision.outcome, decision.concerns["commit"].as_str()), (Duplicate, commit(3).as_str()));
    assert_eq!(function.taken(), []);
    assert_eq!(function.calls(), ["GetBranch shop main", &differences(1, 2), "GetBranch shop main"]);
}

fn differences(before: u64, after: u64) -> String {
    format!("GetDifferences shop {}..{}", commit(before), commit(after))
}

#[tokio::test(start_paused = true)]
async fn pages_of_paths_are_read_until_one_touches_the_route() {
    let function = relayed().await;
    function.point("main", Some(commit(2)));
    function.changes(&[&["README.md"], &["api/main.rs"], &["web/index.html"]]);
    assert_eq!(function.decide("branch-updated").await.outcome, Relayed);
    let between = differences(1, 2);
    assert_eq!(function.calls(), ["GetBranch shop main", &between, &between, "PutEvents ap-northeast-1 2"]);
}

/// Coalesced pushes lose no path: each is compared with what went out last.
#[tokio::test(start_paused = true)]
async fn a_change_that_touches_no_path_is_filtered_and_counts_with_the_next() {
    let function = relayed().await;
    let before = function.row(MAIN);
    function.point("main", Some(commit(2)));
    function.changes(&[&["README.md"], &["api/README.md", "docs/index.md"]]);
    let decision = function.decide("branch-updated").await;
    assert_eq!((decision.outcome, decision.reason.contains("touches no path")), (Filtered, true));
    assert_eq!(function.row(MAIN), before);
    function.calls();
    function.point("main", Some(commit(3)));
    function.changes(&[&["api/main.rs", "README.md"]]);
    assert_eq!(function.decide("branch-updated").await.outcome, Relayed);
    assert_eq!(function.calls()[1], differences(1, 3));
}

#[tokio::test(start_paused = true)]
async fn everything_counts_as_changed_where_nobody_can_say() {
    // A commit is gone after a force-push.
    let function = relayed().await;
    function.point("main", Some(commit(2)));
    *function.world().changed.borrow_mut() = None;
    assert_eq!(function.decide("branch-updated").await.outcome, Relayed);
    // More pages than are read.
    let function = relayed().await;
    function.point("main", Some(commit(2)));
    function.changes(&[["README.md"].as_slice(); 101]);
    assert_eq!(function.decide("branch-updated").await.outcome, Relayed);
    assert_eq!(function.calls().iter().filter(|call| call.starts_with("GetDifferences")).count(), 100);
}

#[tokio::test(start_paused = true)]
async fn each_event_of_a_tag_is_one_change_and_a_doubled_event_none() {
    let tags = COMMITTED.replace(r#"branches   = ["main", "release/*"]"#, r#"tags = ["v*"]"#);
    let function = Function::with(&tags);
    assert_eq!(function.decide("branch-updated").await.outcome, Filtered, "a tag's glob matches no branch");
    assert_eq!(function.decide("tag-created").await.outcome, Relayed);
    assert_eq!(function.decide("tag-created").await.outcome, Duplicate);
    // The same commit once more, by another event.
    function.changes(&[]);
    *function.world().changed.borrow_mut() = None;
    assert_eq!(function.decide("tag-moved").await.outcome, Relayed);
    let taken = function.taken();
    assert_eq!(taken.len(), 4);
    assert!(taken[2].1.change.sequence > taken[0].1.change.sequence);
    assert_eq!(taken[0].1.change.commit.as_str(), "1f0c2a9be4d5760f8c3b7a6e5d4c3b2a19080706");
    assert!(!function.calls().iter().any(|call| call.starts_with("GetBranch")));
}

#[tokio::test(start_paused = true)]
async fn without_the_ledger_nothing_goes_out() {
    let function = Function::new();
    function.world().ledger.set_out_of_reach(true);
    let error = function.file("branch-updated").await.unwrap_err();
    assert_eq!(error.error_type().name(), "Internal");
    assert!(error.to_string().contains("ledger could not be reached"), "{error}");
    assert_eq!(function.calls(), [""; 0]);
    function.world().ledger.set_out_of_reach(false);
    assert_eq!(function.decide("branch-updated").await.outcome, Relayed);
}

#[tokio::test(start_paused = true)]
async fn without_codecommit_the_event_is_tried_again() {
    let function = Function::new();
    function.world().silent.borrow_mut().push("main".to_owned());
    let error = function.file("branch-updated").await.unwrap_err();
    assert_eq!(error.error_type().name(), "Throttled");
    assert_eq!(function.world().ledger.rows(), []);
}

#[tokio::test(start_paused = true)]
async fn explain_says_what_is_pending_and_what_would_be_a_duplicate() {
    let function = relayed().await;
    let before = function.world().ledger.rows();
    let explained = function.decide("explain").await;
    assert_eq!(explained.outcome, Duplicate);
    let state = function.row(MAIN).unwrap().state;
    write(function.world(), MAIN, &state.with_pending(event_relay_change(&state), vec![], None, START));
    let rows = function.world().ledger.rows();
    assert_ne!(rows, before);
    function.point("main", Some(commit(2)));
    let explained = function.decide("explain").await;
    assert_eq!((explained.outcome, &explained.concerns["pending"]), (Duplicate, &(state.sequence + 1).to_string()));
    assert!(explained.reason.contains("once what is pending"), "{explained:?}");
    assert_eq!(function.world().ledger.rows(), rows);
    assert_eq!(function.taken(), []);
}

#[tokio::test(start_paused = true)]
async fn a_repository_that_the_detail_alone_names_is_this_accounts() {
    let function = Function::new();
    let mut event: Value = serde_json::from_str(&file("branch-updated")).unwrap();
    event["detail"]["repositoryName"] = "shop:x".into();
    let decisions = function.handle(&event.to_string()).await.unwrap().decisions;
    assert_eq!(decisions[0].outcome, Refused);
}

/// The time ran out in reading pages, so that every retry said that another invocation was busy: the branch was blocked.
#[tokio::test(start_paused = true)]
async fn a_large_diff_blocks_no_branch() {
    let function = relayed().await;
    function.point("main", Some(commit(2)));
    function.changes(&[["README.md"].as_slice(); 100]);
    function.world().takes.set(Duration::from_millis(900));
    assert_eq!(function.decide("branch-updated").await.outcome, Relayed);
    assert_eq!(function.taken().len(), 2);
    assert!(function.world().now() - START < Duration::from_secs(25));
}

fn tag_event(id: &str, time: &str, to: u64) -> String {
    let mut event: Value = serde_json::from_str(&file("tag-moved")).unwrap();
    event["id"] = id.into();
    event["time"] = time.into();
    event["detail"]["commitId"] = commit(to).as_str().into();
    event.to_string()
}

/// A redriven event of yesterday took a newer sequence than today's.
#[tokio::test(start_paused = true)]
async fn a_late_event_of_a_tag_does_not_take_it_back() {
    let function = Function::with(&COMMITTED.replace(r#"branches   = ["main", "release/*"]"#, r#"tags = ["v*"]"#));
    let newer = tag_event("newer", "2026-11-21T12:00:05Z", 2);
    assert_eq!(function.handle(&newer).await.unwrap().decisions[0].outcome, Relayed);
    let late = function.handle(&tag_event("older", "2026-11-21T12:00:04Z", 1)).await.unwrap().decisions;
    assert_eq!(late[0].outcome, Ignored);
    assert!(late[0].reason.contains("a newer event of this tag has been relayed"), "{late:?}");
    assert_eq!(function.handle(&newer).await.unwrap().decisions[0].outcome, Duplicate);
    // In the same second, in the order of their arrival.
    let same = function.handle(&tag_event("same", "2026-11-21T12:00:05Z", 3)).await.unwrap().decisions;
    assert_eq!(same[0].outcome, Relayed);
    assert_eq!(function.row("refs/tags/v1.0.0").unwrap().state.commit, Some(commit(3)));
    let mut timeless: Value = serde_json::from_str(&newer).unwrap();
    timeless.as_object_mut().unwrap().remove("time");
    let refused = function.handle(&timeless.to_string()).await.unwrap().decisions;
    assert_eq!((refused[0].outcome, refused[0].reason.as_str()), (Refused, "event: missing field `time`"));
}

/// Leaves the second commit pending for whoever is routed in `config`, for 56 s; then the configuration is the committed one.
async fn corrected(config: &str) -> Function {
    let mut function = Function::with(config);
    function.says(|_| event_relay::world::Taken::Later("InternalFailure: again".to_owned()));
    assert!(function.file("branch-updated").await.is_err());
    function.says(|_| event_relay::world::Taken::Yes);
    function.calls();
    function.relay.routes =
        sekisho_domain::config::Document::parse("sekisho.toml", COMMITTED).unwrap().routes().unwrap();
    function
}

#[tokio::test(start_paused = true)]
async fn a_pipelines_name_that_is_corrected_while_a_change_is_pending_gets_the_head() {
    let function = corrected(&COMMITTED.replace(r#"pipeline = "shop""#, r#"pipeline = "shpo""#)).await;
    let first = function.row(MAIN).unwrap().state.newest_sequence();
    let decisions = function.file("branch-updated").await.unwrap().decisions;
    assert_eq!(decisions.iter().map(|d| d.outcome).collect::<Vec<_>>(), [Filtered, Filtered, Relayed]);
    assert!(decisions[0].reason.contains("routed no more to shpo"), "{decisions:?}");
    let taken = function.taken();
    assert_eq!(taken.len(), 2);
    assert!(taken.iter().all(|(_, event)| event.pipelines == ["shop"] && event.change.sequence > first));
    assert_eq!(function.decide("branch-updated").await.outcome, Duplicate);
}

#[tokio::test(start_paused = true)]
async fn targets_that_are_all_replaced_while_a_change_is_pending_get_the_head() {
    let other = COMMITTED.replace("222222222222", "555555555555").replace("333333333333", "666666666666");
    let function = corrected(&other).await;
    let decisions = function.file("branch-updated").await.unwrap().decisions;
    assert_eq!(decisions.iter().map(|d| d.outcome).collect::<Vec<_>>(), [Filtered, Filtered, Relayed]);
    assert_eq!(function.taken().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_corrected_route_of_a_tag_gets_its_pending_change() {
    let tags = COMMITTED.replace(r#"branches   = ["main", "release/*"]"#, r#"tags = ["v*"]"#);
    let mut function = Function::with(&tags.replace(r#"pipeline = "shop""#, r#"pipeline = "shpo""#));
    function.says(|_| event_relay::world::Taken::Later("InternalFailure: again".to_owned()));
    assert!(function.file("tag-created").await.is_err());
    function.says(|_| event_relay::world::Taken::Yes);
    function.relay.routes = sekisho_domain::config::Document::parse("sekisho.toml", &tags).unwrap().routes().unwrap();
    let decisions = function.file("tag-created").await.unwrap().decisions;
    assert_eq!(decisions.iter().map(|d| d.outcome).collect::<Vec<_>>(), [Filtered, Filtered, Relayed, Duplicate]);
    assert!(function.taken().iter().all(|(_, event)| event.pipelines == ["shop"]));
}

#[tokio::test(start_paused = true)]
async fn more_targets_than_a_row_can_hold_is_a_decision_and_blocks_no_branch() {
    use std::fmt::Write as _;
    let mut config = "[[route]]\nrepository = \"shop\"\nbranches = [\"main\"]\n".to_owned();
    for n in 0..6_500 {
        let target = "region = \"ap-northeast-1\"\npipeline = \"shop\"\naction = \"Source\"";
        writeln!(config, "[[route.target]]\naccount = \"{n:012}\"\n{target}").unwrap();
    }
    let function = Function::with(&config);
    let decision = function.decide("branch-updated").await;
    assert_eq!((decision.outcome, decision.reason.contains("6500 accounts")), (Failed, true), "{decision:?}");
    assert!(function.row(MAIN).is_none());
}

/// As many as a row holds by our own count, it holds by DynamoDB's.
#[tokio::test(start_paused = true)]
async fn as_many_targets_as_fit_are_relayed() {
    use std::fmt::Write as _;
    let mut config = "[[route]]\nrepository = \"shop\"\nbranches = [\"main\"]\n".to_owned();
    for n in 0..6_090 {
        let target = "region = \"ap-northeast-1\"\npipeline = \"shop\"\naction = \"Source\"";
        writeln!(config, "[[route.target]]\naccount = \"{n:012}\"\n{target}").unwrap();
    }
    let function = Function::with(&config);
    assert_eq!(function.decide("branch-updated").await.outcome, Relayed);
    assert_eq!(function.world().taken.borrow().len(), 6_090);
}

#[tokio::test(start_paused = true)]
async fn what_no_retry_mends_is_a_decision() {
    let function = Function::new();
    function.world().forbidden.set(true);
    let decision = function.decide("branch-updated").await;
    assert_eq!((decision.outcome, decision.reason.contains("mend it")), (Failed, true), "{decision:?}");
}
