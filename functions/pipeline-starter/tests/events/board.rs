//! The alias `board`: whatever comes through it, the function only reads.

use pipeline_starter::Error;
use pipeline_starter::world::World as _;
use sekisho_lambda::{Failure as _, Invocation};
use sekisho_testing::cases;
use sekisho_testing::invocation::invocation;
use serde_json::{Value, json};

use crate::function::{Function, TIMEOUT, WAVE, file, of_wave, ordered};

/// Invokes the function through an alias. Returns the error, and whether anything was written, started or sent.
async fn invoke(function: &Function, alias: Option<&str>, payload: &Value) -> (Option<Error>, bool) {
    let world = function.world();
    let state = || (world.ledger.rows(), world.starts.borrow().len(), world.events.borrow().len());
    let before = state();
    function.take_calls();
    let invocation = Invocation {
        qualifier: alias.map(str::to_owned),
        ..invocation("sekisho-pipeline-starter", "222222222222", world.now() + TIMEOUT)
    };
    let answer = Box::pin(function.starter.handle(&payload.to_string(), &invocation)).await;
    let reads = ["List", "Get", "Describe"];
    let called = function.take_calls().iter().any(|call| !reads.iter().any(|read| call.starts_with(read)));
    (answer.err(), called || state() != before)
}

/// Asserts that the board answers without a write. Returns the error's type; `None` for an answer.
async fn ask_board(function: &Function, payload: &Value) -> Option<&'static str> {
    let (error, wrote) = invoke(function, Some("board"), payload).await;
    assert!(!wrote, "{payload} wrote");
    error.map(|error| error.error_type().name())
}

/// A function with an order that bakes.
async fn baking() -> Function {
    let function = Function::with_config(WAVE);
    function.handle(&ordered(0, of_wave())).await.unwrap();
    function
}

fn with(payload: &Value, key: &str, value: Value) -> Value {
    let mut with = payload.clone();
    with[key] = value;
    with
}

#[tokio::test(start_paused = true)]
async fn no_event_and_no_request_of_the_examples_writes() {
    let function = baking().await;
    for name in cases::names("pipeline-starter") {
        let Ok(payload @ Value::Object(_)) = serde_json::from_str(&file(&name)) else { continue };
        let is_explain = payload["action"] == "explain" && payload["event"].is_object();
        let plain = ask_board(&function, &payload).await;
        assert!(is_explain || plain.is_some(), "{name} was answered");
        for dry_run in [json!(true), json!("true"), json!(1)] {
            assert!(ask_board(&function, &with(&payload, "dry_run", dry_run)).await.is_some(), "{name}");
        }
        let widget = with(&payload, "widgetContext", json!({"params": payload}));
        assert_eq!(ask_board(&function, &widget).await, None, "{name} as a widget");
        let explain = json!({"action": "explain", "event": payload});
        ask_board(&function, &explain).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_board_explains_and_refuses_everything_else() {
    let function = baking().await;
    let events = ["change", "schedule", "alarm-rings", "pipeline-failed"];
    for name in events {
        let event: Value = serde_json::from_str(&file(name)).unwrap();
        assert_eq!(ask_board(&function, &event).await, Some("Refused"), "{name}");
        assert_eq!(ask_board(&function, &json!({"action": "explain", "event": event})).await, None, "{name}");
        let dry_run = json!({"action": "explain", "event": event, "dry_run": true});
        for alias in [None, Some("board")] {
            let (error, wrote) = invoke(&function, alias, &dry_run).await;
            assert_eq!((error.unwrap().error_type().name(), wrote), ("InvalidRequest", false), "{name}");
        }
    }
}

/// The person who looks at a dashboard did not write the fields of its widgets.
#[tokio::test(start_paused = true)]
async fn a_widget_is_only_ever_a_widget_at_every_alias() {
    let function = baking().await;
    let change: Value = serde_json::from_str(&file("change")).unwrap();
    for alias in [None, Some("board"), Some("live")] {
        for key in ["widgetContext", "describe"] {
            let (error, wrote) = invoke(&function, alias, &with(&change, key, json!(true))).await;
            assert!(error.is_none() && !wrote, "{key}: {error:?}");
            let other = with(&with(&change, key, json!(true)), "widget", json!("trains"));
            let (error, wrote) = invoke(&function, alias, &other).await;
            assert_eq!((error.unwrap().error_type().name(), wrote), ("InvalidRequest", false), "{key}");
        }
    }
}
