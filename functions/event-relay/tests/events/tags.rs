//! Events about tags. A tag has a head that can be read, like a branch.

use std::time::Duration;

use event_relay::Outcome::{Baseline, Duplicate, Failed, Filtered, Ignored, Relayed, Superseded};
use event_relay::branch::BranchRow;

use crate::function::{Function, commit, only_tags, outcomes, write};
use crate::targets::{SHOP_2, target_row};

const TAG: &str = "refs/tags/v1.0.0";

#[tokio::test(start_paused = true)]
async fn the_commit_that_a_tag_leads_to_is_relayed_once() {
    let function = Function::with(&only_tags());
    function.point_tag("v1.0.0", Some(commit(2)));
    assert_eq!(function.decide("branch-updated").await.outcome, Filtered, "a glob for tags matches no branch");
    assert_eq!(function.decide("tag-created").await.outcome, Relayed);
    assert_eq!(function.decide("tag-created").await.outcome, Duplicate);
    let calls = function.calls();
    assert!(calls.contains(&format!("GetFolder shop {TAG}")), "{calls:?}");
    let accepted = function.accepted();
    assert_eq!(accepted.len(), 2);
    assert!(accepted.iter().all(|(_, event)| event.change.revision == commit(2)));
}

/// The events of the two moves arrive in the wrong order, or the first one arrives late.
#[tokio::test(start_paused = true)]
async fn a_tag_that_moves_twice_within_a_second_ends_at_the_newer_commit() {
    let function = Function::with(&only_tags());
    function.point_tag("v1.0.0", Some(commit(3)));
    for (event, outcome) in [("tag-moved", Relayed), ("tag-created", Duplicate)] {
        assert_eq!(function.decide(event).await.outcome, outcome);
    }
    assert_eq!(function.row(TAG).unwrap().state.commit, Some(commit(3)));
    let accepted = function.accepted();
    assert!(accepted.iter().all(|(_, event)| event.change.revision == commit(3)), "{accepted:?}");
}

#[tokio::test(start_paused = true)]
async fn an_event_of_a_tag_that_is_gone_is_ignored() {
    let function = Function::with(&only_tags());
    assert_eq!(function.decide("tag-created").await.outcome, Ignored);
    assert_eq!(function.accepted(), []);
}

/// In an earlier version, order was kept for each reference alone, so a waiting v1.0.0 started after v1.1.0.
#[tokio::test(start_paused = true)]
async fn an_older_tag_never_replaces_a_newer_one() {
    let function = Function::with(&only_tags());
    for (tag, n) in [("v1.0.0", 2), ("v1.1.0", 3)] {
        function.point_tag(tag, Some(commit(n)));
        let event = crate::function::file("tag-created").replace("v1.0.0", tag);
        assert_eq!(function.handle(&event).await.unwrap().decisions[0].outcome, Relayed);
    }
    let numbers: Vec<u64> = function
        .accepted()
        .iter()
        .filter(|(account, _)| account == "222222222222")
        .map(|(_, event)| event.order(&"shop".parse().unwrap()).unwrap().number)
        .collect();
    assert!(numbers[0] < numbers[1], "{numbers:?}");
    assert_eq!(target_row(function.account(), SHOP_2).unwrap().order.unwrap().change.revision, commit(3));

    // An invocation for v1.0.0 crashed before it finished, and its retry comes after v1.1.0 was ordered.
    let row = function.row(TAG).unwrap().state;
    let change = row.change(&crate::function::SHOP.parse().unwrap(), &TAG.parse().unwrap()).unwrap();
    let deliveries = serde_json::json!([
        {"account": "222222222222", "region": "ap-northeast-1", "pipelines": ["shop"]},
        {"account": "333333333333", "region": "ap-northeast-1", "pipelines": ["shop"]},
    ]);
    let deliveries = serde_json::from_value(deliveries).unwrap();
    let pending = BranchRow::default().with_pending(change, deliveries, vec![], crate::function::START);
    write(function.account(), TAG, &pending);
    assert_eq!(function.decide("tag-created").await.outcome, Superseded);
    assert_eq!(target_row(function.account(), SHOP_2).unwrap().order.unwrap().change.revision, commit(3));
    assert_eq!(function.accepted(), []);
}

/// The tag moves between its first event and the first reconcile, and the event of the move is lost.
#[tokio::test(start_paused = true)]
async fn the_first_look_at_tags_finds_a_move_of_a_tag_that_was_relayed_before() {
    let function = Function::with(&only_tags());
    function.point_tag("v1.0.0", Some(commit(2)));
    assert_eq!(function.decide("tag-created").await.outcome, Relayed);
    function.accepted();
    function.point_tag("v1.0.0", Some(commit(3)));
    assert_eq!(function.decide("schedule").await.outcome, Relayed);
    let accepted = function.accepted();
    assert!(
        accepted.len() == 2 && accepted.iter().all(|(_, event)| event.change.revision == commit(3)),
        "{accepted:?}"
    );
}

/// Earlier versions recorded the commit of an event, which for an annotated tag may be the id of the tag itself.
#[tokio::test(start_paused = true)]
async fn the_first_look_at_tags_after_an_upgrade_orders_nothing() {
    let function = Function::with(&only_tags());
    function.point_tag("v1.0.0", Some(commit(2)));
    let row = r#"{"commit":"00000000000000000000000000000000000000ff","sequence":7,"pending":null,"events":["e1"],
        "newest":1795262400000}"#;
    write(function.account(), TAG, &serde_json::from_str(row).unwrap());
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!(outcomes(&decisions), [Baseline]);
    assert_eq!(function.row(TAG).unwrap().state.commit, Some(commit(2)));
    // The tag moves and its event is lost: the next reconcile orders the new commit.
    function.point_tag("v1.0.0", Some(commit(3)));
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!(outcomes(&decisions), [Relayed]);
    assert_eq!(function.accepted().len(), 2);
}

/// CodeCommit lists no tags, so only the event and the ledger know a new tag.
#[tokio::test(start_paused = true)]
async fn a_new_tag_whose_head_could_not_be_read_is_relayed_by_the_next_reconcile() {
    for failure in ["throttled", "denied", "slow"] {
        let function = Function::with(&only_tags());
        let account = function.account();
        function.point_tag("v1.0.0", Some(commit(2)));
        match failure {
            "throttled" => account.throttled_branches.borrow_mut().push("v1.0.0".to_owned()),
            "denied" => account.heads_denied.set(true),
            _ => account.read_time.set(Duration::from_secs(26)),
        }
        for _ in 0..3 {
            let answer = function.file("tag-created").await;
            // No retry cures a denied call.
            let failed = answer.is_ok_and(|answer| outcomes(&answer.decisions) == [Failed]);
            assert_eq!(failed, failure == "denied", "{failure}");
        }
        assert_eq!(function.row(TAG).unwrap().state, BranchRow::unread(), "{failure}");
        account.throttled_branches.borrow_mut().clear();
        account.heads_denied.set(false);
        account.read_time.set(Duration::ZERO);
        assert_eq!(function.decide("schedule").await.outcome, Relayed, "{failure}");
        assert_eq!(function.accepted().len(), 2, "{failure}");
    }
}

/// The sequence of a tag that was deleted long ago stays a lower bound for the tag that has its name now.
#[tokio::test(start_paused = true)]
async fn a_tag_whose_head_could_not_be_read_gets_a_larger_sequence_than_its_expired_row() {
    let function = Function::with(&only_tags());
    let floor = sekisho_domain::timestamp::epoch_millis(crate::function::START) + 1_000_000;
    let memory: &sekisho_ledger::Memory = &function.account().ledger;
    let key = sekisho_ledger::Key::state(format!("repository#{}", crate::function::SHOP));
    let row = serde_json::json!({"covered": [], "floor": floor, "tags_seen": true});
    sekisho_ledger::Store::write(memory, &key, &row, None, "another").await.unwrap();
    function.point_tag("v1.0.0", Some(commit(2)));
    function.account().throttled_branches.borrow_mut().push("v1.0.0".to_owned());
    function.file("tag-created").await.unwrap_err();
    function.account().throttled_branches.borrow_mut().clear();
    assert_eq!(function.decide("tag-created").await.outcome, Relayed);
    assert_eq!(function.row(TAG).unwrap().state.sequence, floor + 1);
}
