//! Buses that refuse, throttle or accept a change, and the dead-letter queue.

use std::cell::Cell;
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;

use event_relay::Error;
use event_relay::Outcome::{Failed, Relayed};
use event_relay::world::{EntryResult, World};
use sekisho_lambda::Failure;
use sekisho_ledger::Lease;
use serde_json::Value;

use crate::function::{Function, MAIN, START, commit, outcomes};

const NO_BUS: &str = "ResourceNotFoundException: Event bus sekisho does not exist.";

#[tokio::test(start_paused = true)]
async fn a_target_that_refuses_permanently_goes_to_the_queue_and_the_others_get_the_change() {
    let function = Function::new();
    function.set_bus(|entry| match entry.account.as_str() {
        "333333333333" => EntryResult::Refused(NO_BUS.to_owned()),
        _ => EntryResult::Accepted,
    });
    let decisions = function.file("branch-updated").await.unwrap().decisions;
    assert_eq!(outcomes(&decisions), [Failed, Relayed]);
    assert!(decisions[0].reason.starts_with(NO_BUS) && decisions[0].reason.contains("redrive"), "{decisions:?}");
    assert_eq!(decisions[0].concerns["account"], "333333333333");
    assert_eq!(decisions[1].concerns["targets"], "1", "{decisions:?}");
    assert_eq!(function.row(MAIN).unwrap().state.pending, None);

    let letters = function.account().dead_letters.take();
    assert_eq!(letters.len(), 1);
    let message: Value = serde_json::from_str(&letters[0]).unwrap();
    assert_eq!((&message["action"], &message["reason"]), (&"redeliver".into(), &NO_BUS.into()));
    assert_eq!(message["delivery"]["account"], "333333333333");

    // The missing bus exists now. When the dead-letter message is sent to the function, the function sends the same
    // change only to that bus.
    let first = function.accepted();
    function.set_bus(|_| EntryResult::Accepted);
    let again = function.handle(&letters[0]).await.unwrap().decisions;
    assert_eq!((again.len(), again[0].outcome), (1, Relayed));
    let second = function.accepted();
    assert_eq!((second.len(), second[0].0.as_str()), (1, "333333333333"));
    assert_eq!(second[0].1, first[0].1);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_never_answers_does_not_keep_later_heads_from_the_others() {
    let function = Function::new();
    function.set_bus(|entry| match entry.account.as_str() {
        "333333333333" => EntryResult::Retryable("dispatch failure".to_owned()),
        _ => EntryResult::Accepted,
    });
    // After the first attempt and Lambda's two retries, the queue has the change, and the function can relay the next
    // head of the branch.
    assert!(function.file("branch-updated").await.is_err());
    tokio::time::advance(Duration::from_mins(1)).await;
    assert!(function.file("branch-updated").await.is_err());
    tokio::time::advance(Duration::from_mins(2)).await;
    let decisions = function.file("branch-updated").await.unwrap().decisions;
    assert_eq!(decisions.iter().filter(|d| d.outcome == Failed).count(), 1);
    assert_eq!(function.account().dead_letters.borrow().len(), 1);
    assert_eq!(function.row(MAIN).unwrap().state.pending, None);

    function.accepted();
    function.point("main", Some(commit(77)));
    assert!(function.file("branch-updated").await.is_err(), "one target does not have it");
    let accepted = function.accepted();
    assert_eq!((accepted[0].0.as_str(), accepted[0].1.change.commit.clone()), ("222222222222", commit(77)));
}

#[tokio::test(start_paused = true)]
async fn only_the_entry_that_was_throttled_is_sent_again() {
    let function = Function::new();
    let offers = Rc::new(Cell::new(0));
    let counted = offers.clone();
    function.set_bus(move |entry| {
        if entry.account.as_str() == "333333333333" && counted.replace(counted.get() + 1) < 2 {
            return EntryResult::Retryable("ThrottlingException: slow down".to_owned());
        }
        EntryResult::Accepted
    });
    assert_eq!(function.decide("branch-updated").await.outcome, Relayed);
    let puts: Vec<String> = function.calls().into_iter().filter(|call| call.starts_with("PutEvents")).collect();
    assert_eq!(puts, ["PutEvents ap-northeast-1 2", "PutEvents ap-northeast-1 1", "PutEvents ap-northeast-1 1"]);
    let accepted = function.accepted();
    assert_eq!(
        accepted.iter().map(|(account, _)| account.as_str()).collect::<Vec<_>>(),
        ["222222222222", "333333333333"]
    );
    assert!(function.account().now() > START + Duration::from_millis(400), "the function waits before it sends again");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_did_not_accept_in_time_gets_the_change_from_the_retry() {
    let function = Function::new();
    function.set_bus(|entry| match entry.account.as_str() {
        "333333333333" => EntryResult::Retryable("InternalFailure: try again".to_owned()),
        _ => EntryResult::Accepted,
    });
    let error = function.file("branch-updated").await.unwrap_err();
    assert_eq!(error.error_type().name(), "Throttled");
    assert!(matches!(&error, Error::Undelivered { left: 1, all: 2, .. }), "{error}");
    assert!(error.to_string().contains("InternalFailure"), "{error}");
    let pending = function.row(MAIN).unwrap().state.pending.unwrap();
    assert_eq!((pending.lease, pending.deliveries.len()), (Lease::FREE, 1));
    assert_eq!(function.account().dead_letters.borrow().len(), 0);

    // The retry comes at once. It delivers the change with the same id, and only to the target that does not have the
    // change.
    let first = function.accepted();
    function.calls();
    function.set_bus(|_| EntryResult::Accepted);
    assert_eq!(function.file("branch-updated").await.unwrap().decisions[0].outcome, Relayed);
    let second = function.accepted();
    assert_eq!((second.len(), second[0].0.as_str(), &second[0].1.id), (1, "333333333333", &first[0].1.id));
    assert_eq!(function.calls(), ["PutEvents ap-northeast-1 1", "GetBranch shop main"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_with_too_few_results_leaves_no_target_out() {
    let function = Function::new();
    function.set_bus(|_| EntryResult::Retryable("PutEvents returned no result for the entry".to_owned()));
    assert!(function.file("branch-updated").await.is_err());
    assert_eq!(function.row(MAIN).unwrap().state.pending.unwrap().deliveries.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn without_the_queue_the_whole_change_is_delivered_again() {
    let function = Function::new();
    function.set_bus(|_| EntryResult::Refused(NO_BUS.to_owned()));
    function.account().queue_is_down.set(true);
    let error = function.file("branch-updated").await.unwrap_err();
    assert!(matches!(error, Error::Service(_)), "{error}");
    let sequence = function.row(MAIN).unwrap().state.pending.unwrap().change.sequence;
    // After the lease ends, the retry sends the change to all targets again. The buses refuse the change again, and the
    // queue gets one message for each bus.
    tokio::time::advance(Duration::from_mins(1)).await;
    function.account().queue_is_down.set(false);
    let decisions = function.file("branch-updated").await.unwrap().decisions;
    assert_eq!(decisions.iter().filter(|d| d.outcome == Failed).count(), 2);
    assert!(function.account().dead_letters.borrow().iter().all(|message| message.contains(&sequence.to_string())));
}

#[tokio::test(start_paused = true)]
async fn a_call_has_up_to_ten_entries_of_one_region() {
    let mut config = "[[route]]\nrepository = \"shop\"\nbranches = [\"main\"]\n".to_owned();
    for n in 0..25 {
        let region = if n % 5 == 0 { "us-east-1" } else { "ap-northeast-1" };
        writeln!(
            config,
            "[[route.target]]\naccount = \"{n:012}\"\nregion = \"{region}\"\npipeline = \"shop\"\naction = \"Source\""
        )
        .unwrap();
    }
    let function = Function::with(&config);
    function.set_call_time(Duration::from_millis(30));
    assert_eq!(function.decide("branch-updated").await.outcome, Relayed);
    let mut puts: Vec<String> = function.calls().into_iter().filter(|call| call.starts_with("PutEvents")).collect();
    puts.sort();
    assert_eq!(puts, ["PutEvents ap-northeast-1 10", "PutEvents ap-northeast-1 10", "PutEvents us-east-1 5"]);
    // The test takes the time of one GetBranch call and one PutEvents call, because all PutEvents calls run at once.
    assert_eq!(function.account().now() - START, Duration::from_millis(60));
    let accepted = function.account().accepted.take();
    assert!(accepted.iter().all(|entry| entry.bus.ends_with(&format!(":{}:event-bus/sekisho", entry.account))));
    assert_eq!(accepted.len(), 25);
    assert_eq!(function.row(MAIN).unwrap().state.commit, Some(commit(1)));
}

/// In an earlier version, three events within half a minute used up the attempts, although the bus was available a
/// minute later.
#[tokio::test(start_paused = true)]
async fn a_burst_of_events_does_not_use_up_the_attempts() {
    let function = Function::new();
    function.set_bus(|_| EntryResult::Retryable("InternalFailure: again".to_owned()));
    for _ in 0..4 {
        assert!(function.file("branch-updated").await.is_err());
    }
    assert_eq!(function.account().dead_letters.borrow().len(), 0);
    tokio::time::advance(Duration::from_mins(3)).await;
    assert!(function.file("branch-updated").await.is_ok());
    assert_eq!(function.account().dead_letters.borrow().len(), 2);
}
