//! Messages from the dead-letter queue, which are sent to the function.

use event_relay::Outcome::{Filtered, Refused};
use event_relay::world::EntryResult;
use sekisho_lambda::Failure;
use serde_json::Value;

use crate::function::Function;

const NO_BUS: &str = "ResourceNotFoundException: Event bus sekisho does not exist.";

/// Returns a function that has put one message into the dead-letter queue, and that message.
async fn with_dead_letter() -> (Function, String) {
    let function = Function::new();
    function.set_bus(|entry| match entry.account.as_str() {
        "333333333333" => EntryResult::Refused(NO_BUS.to_owned()),
        _ => EntryResult::Accepted,
    });
    function.file("branch-updated").await.unwrap();
    let message = function.account().dead_letters.take().remove(0);
    function.calls();
    (function, message)
}

#[tokio::test(start_paused = true)]
async fn a_redelivery_that_is_refused_again_fails_and_makes_no_new_message() {
    let (function, message) = with_dead_letter().await;
    let error = function.handle(&message).await.unwrap_err().to_string();
    assert!(error.contains(NO_BUS), "{error}");
    assert_eq!(function.account().dead_letters.borrow().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_redelivery_that_is_not_accepted_in_time_fails() {
    let (function, message) = with_dead_letter().await;
    function.set_bus(|_| EntryResult::Retryable("ThrottlingException: slow down".to_owned()));
    assert_eq!(function.handle(&message).await.unwrap_err().error_type().name(), "Throttled");
    assert_eq!(function.account().dead_letters.borrow().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_redelivery_to_a_region_without_a_route_is_filtered() {
    let (function, message) = with_dead_letter().await;
    let message = message.replace(r#""region":"ap-northeast-1""#, r#""region":"us-east-1""#);
    assert_eq!(function.handle(&message).await.unwrap().decisions[0].outcome, Filtered);
    assert_eq!(function.calls(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_redelivery_with_a_sequence_that_no_change_has_is_refused() {
    let (function, message) = with_dead_letter().await;
    let mut forged: Value = serde_json::from_str(&message).unwrap();
    forged["change"]["sequence"] = u64::MAX.into();
    assert_eq!(function.handle(&forged.to_string()).await.unwrap().decisions[0].outcome, Refused);
    assert_eq!(function.calls(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_kind_contradicts_its_reference_is_invalid() {
    let (function, message) = with_dead_letter().await;
    let error = function.handle(&message.replace(r#""kind":"branch""#, r#""kind":"tag""#)).await.unwrap_err();
    assert_eq!(error.error_type().name(), "InvalidRequest");
    assert!(error.to_string().contains("change.kind"), "{error}");
}
