//! Events about one tag. CodeCommit has no operation that reads a tag, so each event is a change.

use event_relay::Outcome::{Duplicate, Filtered, Ignored, Refused, Relayed};
use serde_json::Value;

use crate::function::{Function, commit, file, only_tags};

#[tokio::test(start_paused = true)]
async fn each_event_of_a_tag_is_one_change_and_a_repeated_event_is_a_duplicate() {
    let function = Function::with(&only_tags());
    assert_eq!(function.decide("branch-updated").await.outcome, Filtered, "a glob for tags matches no branch");
    assert_eq!(function.decide("tag-created").await.outcome, Relayed);
    assert_eq!(function.decide("tag-created").await.outcome, Duplicate);
    // The next event names the same commit, but each event of a tag is a change.
    function.account().changed_paths.replace(None);
    assert_eq!(function.decide("tag-moved").await.outcome, Relayed);
    let accepted = function.accepted();
    assert_eq!(accepted.len(), 4);
    assert!(accepted[2].1.change.sequence > accepted[0].1.change.sequence);
    assert_eq!(accepted[0].1.change.commit.as_str(), "1f0c2a9be4d5760f8c3b7a6e5d4c3b2a19080706");
    assert!(!function.calls().iter().any(|call| call.starts_with("GetBranch")));
}

fn tag_event(id: &str, time: &str, to: u64) -> String {
    let mut event: Value = serde_json::from_str(&file("tag-moved")).unwrap();
    event["id"] = id.into();
    event["time"] = time.into();
    event["detail"]["commitId"] = commit(to).as_str().into();
    event.to_string()
}

/// In an earlier version, a redriven event of the previous day got a newer sequence than an event of the current day.
#[tokio::test(start_paused = true)]
async fn a_late_event_of_a_tag_does_not_undo_a_newer_one() {
    let function = Function::with(&only_tags());
    let newer = tag_event("newer", "2026-11-21T12:00:05Z", 2);
    assert_eq!(function.handle(&newer).await.unwrap().decisions[0].outcome, Relayed);
    let late = function.handle(&tag_event("older", "2026-11-21T12:00:04Z", 1)).await.unwrap().decisions;
    assert_eq!(late[0].outcome, Ignored);
    assert!(late[0].reason.contains("newer event of this tag"), "{late:?}");
    assert_eq!(function.handle(&newer).await.unwrap().decisions[0].outcome, Duplicate);
    // Events of the same second are relayed in the order of their arrival.
    let same = function.handle(&tag_event("same", "2026-11-21T12:00:05Z", 3)).await.unwrap().decisions;
    assert_eq!(same[0].outcome, Relayed);
    assert_eq!(function.row("refs/tags/v1.0.0").unwrap().state.commit, Some(commit(3)));
    let mut without_time: Value = serde_json::from_str(&newer).unwrap();
    without_time.as_object_mut().unwrap().remove("time");
    let refused = function.handle(&without_time.to_string()).await.unwrap().decisions;
    assert_eq!((refused[0].outcome, refused[0].reason.contains("`time`")), (Refused, true), "{refused:?}");
}
