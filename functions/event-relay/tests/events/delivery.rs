//! Buses that refuse, ask to wait, or take it; and the dead-letter queue.

use std::cell::Cell;
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;

use event_relay::handler::Outcome::{Failed, Filtered, Refused, Relayed};
use event_relay::world::{Taken, World};
use sekisho_lambda::Failure;
use serde_json::Value;

use crate::world::{Function, START, commit};

const MAIN: &str = "refs/heads/main";
const NO_BUS: &str = "ResourceNotFoundException: Event bus sekisho does not exist.";

#[tokio::test(start_paused = true)]
async fn who_refuses_for_good_goes_to_the_queue_with_the_reason_and_the_rest_has_it() {
    let function = Function::new();
    function.says(|entry| match entry.account.as_str() {
        "333333333333" => Taken::Never(NO_BUS.to_owned()),
        _ => Taken::Yes,
    });
    let decisions = function.file("branch-updated").await.unwrap().decisions;
    assert_eq!(decisions.iter().map(|d| d.outcome).collect::<Vec<_>>(), [Failed, Relayed]);
    assert!(decisions[0].reason.starts_with(NO_BUS) && decisions[0].reason.contains("redrive"), "{decisions:?}");
    assert_eq!(decisions[0].concerns["account"], "333333333333");
    assert!(decisions[1].reason.contains("1 of 2 targets"), "{decisions:?}");
    assert_eq!(function.row(MAIN).unwrap().state.pending, None);

    let queue = function.world().queue.take();
    assert_eq!(queue.len(), 1);
    let message: Value = serde_json::from_str(&queue[0]).unwrap();
    assert_eq!((&message["action"], &message["reason"]), (&"redeliver".into(), &NO_BUS.into()));
    assert_eq!(message["delivery"]["account"], "333333333333");

    // The bus exists now, and the message is sent to the function as it is: the same change, to that bus alone.
    let first = function.taken();
    function.says(|_| Taken::Yes);
    let again = function.handle(&queue[0]).await.unwrap().decisions;
    assert_eq!((again.len(), again[0].outcome), (1, Relayed));
    let second = function.taken();
    assert_eq!((second.len(), second[0].0.as_str()), (1, "333333333333"));
    assert_eq!(second[0].1, first[0].1);
}

/// A function with one message in its dead-letter queue, and the message.
async fn with_dead_letter() -> (Function, String) {
    let function = Function::new();
    function.says(|entry| match entry.account.as_str() {
        "333333333333" => Taken::Never(NO_BUS.to_owned()),
        _ => Taken::Yes,
    });
    function.file("branch-updated").await.unwrap();
    let message = function.world().queue.take().remove(0);
    function.calls();
    (function, message)
}

#[tokio::test(start_paused = true)]
async fn a_redelivery_that_is_refused_again_fails_and_makes_no_new_message() {
    let (function, message) = with_dead_letter().await;
    let error = function.handle(&message).await.unwrap_err().to_string();
    assert!(error.contains(NO_BUS), "{error}");
    assert_eq!(function.world().queue.borrow().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_redelivery_that_is_not_taken_in_time_fails() {
    let (function, message) = with_dead_letter().await;
    function.says(|_| Taken::Later("ThrottlingException: slow down".to_owned()));
    assert_eq!(function.handle(&message).await.unwrap_err().error_type().name(), "Throttled");
    assert_eq!(function.world().queue.borrow().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_redelivery_to_a_region_of_no_route_is_filtered() {
    let (function, message) = with_dead_letter().await;
    let message = message.replace(r#""region":"ap-northeast-1""#, r#""region":"us-east-1""#);
    assert_eq!(function.handle(&message).await.unwrap().decisions[0].outcome, Filtered);
    assert_eq!(function.calls(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_redelivery_with_a_sequence_that_was_never_given_is_refused() {
    let (function, message) = with_dead_letter().await;
    let mut forged: Value = serde_json::from_str(&message).unwrap();
    forged["change"]["sequence"] = u64::MAX.into();
    assert_eq!(function.handle(&forged.to_string()).await.unwrap().decisions[0].outcome, Refused);
    assert_eq!(function.calls(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_never_answers_keeps_no_later_head_from_the_others() {
    let function = Function::new();
    function.says(|entry| match entry.account.as_str() {
        "333333333333" => Taken::Later("dispatch failure".to_owned()),
        _ => Taken::Yes,
    });
    // The first try and Lambda's two retries; then the queue has what is left, and the branch goes on.
    assert!(function.file("branch-updated").await.is_err());
    tokio::time::advance(Duration::from_mins(1)).await;
    assert!(function.file("branch-updated").await.is_err());
    tokio::time::advance(Duration::from_mins(2)).await;
    let decisions = function.file("branch-updated").await.unwrap().decisions;
    assert_eq!(decisions.iter().filter(|d| d.outcome == Failed).count(), 1);
    assert_eq!(function.world().queue.borrow().len(), 1);
    assert_eq!(function.row(MAIN).unwrap().state.pending, None);

    function.taken();
    function.point("main", Some(commit(77)));
    assert!(function.file("branch-updated").await.is_err(), "one target has not got it");
    let taken = function.taken();
    assert_eq!((taken[0].0.as_str(), taken[0].1.change.commit.clone()), ("222222222222", commit(77)));
}

#[tokio::test(start_paused = true)]
async fn only_the_entry_that_was_throttled_is_offered_again() {
    let function = Function::new();
    let offers = Rc::new(Cell::new(0));
    let counted = offers.clone();
    function.says(move |entry| {
        if entry.account.as_str() == "333333333333" && counted.replace(counted.get() + 1) < 2 {
            return Taken::Later("ThrottlingException: slow down".to_owned());
        }
        Taken::Yes
    });
    assert_eq!(function.decide("branch-updated").await.outcome, Relayed);
    let puts: Vec<String> = function.calls().into_iter().filter(|call| call.starts_with("PutEvents")).collect();
    assert_eq!(puts, ["PutEvents ap-northeast-1 2", "PutEvents ap-northeast-1 1", "PutEvents ap-northeast-1 1"]);
    let taken = function.taken();
    assert_eq!(taken.iter().map(|(account, _)| account.as_str()).collect::<Vec<_>>(), ["222222222222", "333333333333"]);
    assert!(function.world().now() > START + Duration::from_millis(400), "it waits before it offers again");
}

#[tokio::test(start_paused = true)]
async fn what_no_bus_takes_in_time_is_given_back_and_finished_by_the_retry() {
    let function = Function::new();
    function.says(|entry| match entry.account.as_str() {
        "333333333333" => Taken::Later("InternalFailure: try again".to_owned()),
        _ => Taken::Yes,
    });
    let error = function.file("branch-updated").await.unwrap_err();
    assert_eq!(error.error_type().name(), "Throttled");
    assert!(error.to_string().contains("1 of 2 targets") && error.to_string().contains("InternalFailure"), "{error}");
    let pending = function.row(MAIN).unwrap().state.pending.unwrap();
    assert_eq!((pending.lease, pending.deliveries.len()), (0, 1));
    assert_eq!(function.world().queue.borrow().len(), 0);

    // The retry, at once and whatever the branch does: only who has not got it, with the same id.
    let first = function.taken();
    function.calls();
    function.says(|_| Taken::Yes);
    assert_eq!(function.file("branch-updated").await.unwrap().decisions[0].outcome, Relayed);
    let second = function.taken();
    assert_eq!((second.len(), second[0].0.as_str(), &second[0].1.id), (1, "333333333333", &first[0].1.id));
    assert_eq!(function.calls(), ["PutEvents ap-northeast-1 1", "GetBranch shop main"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_with_too_few_results_leaves_nobody_out() {
    let function = Function::new();
    function.says(|_| Taken::Later("PutEvents gave no result for the entry".to_owned()));
    assert!(function.file("branch-updated").await.is_err());
    assert_eq!(function.row(MAIN).unwrap().state.pending.unwrap().deliveries.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn without_the_queue_nothing_counts_as_told() {
    let function = Function::new();
    function.says(|_| Taken::Never(NO_BUS.to_owned()));
    function.world().queue_is_down.set(true);
    let error = function.file("branch-updated").await.unwrap_err();
    assert!(error.to_string().contains("dead-letter queue did not take"), "{error}");
    let sequence = function.row(MAIN).unwrap().state.pending.unwrap().change.sequence;
    // When the lease has ended, the retry offers all of it again and fills the queue.
    tokio::time::advance(Duration::from_mins(1)).await;
    function.world().queue_is_down.set(false);
    let decisions = function.file("branch-updated").await.unwrap().decisions;
    assert_eq!(decisions.iter().filter(|d| d.outcome == Failed).count(), 2);
    assert!(function.world().queue.borrow().iter().all(|message| message.contains(&sequence.to_string())));
}

#[tokio::test(start_paused = true)]
async fn targets_go_out_in_calls_of_ten_entries_of_one_region() {
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
    function.world().takes.set(Duration::from_millis(30));
    assert_eq!(function.decide("branch-updated").await.outcome, Relayed);
    let mut puts: Vec<String> = function.calls().into_iter().filter(|call| call.starts_with("PutEvents")).collect();
    puts.sort();
    assert_eq!(puts, ["PutEvents ap-northeast-1 10", "PutEvents ap-northeast-1 10", "PutEvents us-east-1 5"]);
    // One GetBranch, and all calls at once.
    assert_eq!(function.world().now() - START, Duration::from_millis(60));
    let taken = function.world().taken.take();
    assert!(taken.iter().all(|entry| entry.bus.ends_with(&format!(":{}:event-bus/sekisho", entry.account))));
    assert_eq!(taken.len(), 25);
    assert_eq!(function.row(MAIN).unwrap().state.commit, Some(commit(1)));
}

/// Three events within half a minute used up the tries, and the queue had what was never offered a minute later.
#[tokio::test(start_paused = true)]
async fn a_burst_of_events_is_not_three_tries() {
    let function = Function::new();
    function.says(|_| Taken::Later("InternalFailure: again".to_owned()));
    for _ in 0..4 {
        assert!(function.file("branch-updated").await.is_err());
    }
    assert_eq!(function.world().queue.borrow().len(), 0);
    tokio::time::advance(Duration::from_mins(3)).await;
    assert!(function.file("branch-updated").await.is_ok());
    assert_eq!(function.world().queue.borrow().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_kind_contradicts_its_reference_is_none() {
    let (function, message) = with_dead_letter().await;
    let error = function.handle(&message.replace(r#""kind":"branch""#, r#""kind":"tag""#)).await.unwrap_err();
    assert_eq!(error.error_type().name(), "InvalidRequest");
    assert!(error.to_string().contains("change.kind does not fit change.ref"), "{error}");
}
