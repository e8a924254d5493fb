//! The alias `board`: whatever comes through it, the function only reads.

use event_relay::world::World as _;
use event_relay::{Answer, Error};
use sekisho_lambda::{Failure as _, Invocation};
use sekisho_testing::cases;
use sekisho_testing::invocation::invocation;
use serde_json::{Value, json};

use crate::function::{Function, TIMEOUT, file};
use crate::trains::{ONE_BOX, Train, about, request};

/// Invokes the function through an alias. The second value is whether anything was written or sent.
async fn invoke(function: &Function, alias: Option<&str>, payload: &str) -> (Result<Answer, Error>, bool) {
    let account = function.account();
    let state = || (account.ledger.rows(), account.accepted.borrow().len(), account.notices.borrow().len());
    let before = state();
    let invocation = Invocation {
        qualifier: alias.map(str::to_owned),
        ..invocation("sekisho-event-relay", "111111111111", account.now() + TIMEOUT)
    };
    let first = account.calls.borrow().len();
    let answer = function.relay.handle(payload, &invocation).await;
    let sent = account.calls.borrow().iter().skip(first).any(|call| call.starts_with("Put") || call.starts_with("Pub"));
    (answer, sent || state() != before)
}

/// Asserts that the board answers without a write. Returns the error's type; `None` for an answer.
async fn ask_board(function: &Function, payload: &Value) -> Option<&'static str> {
    let (answer, wrote) = invoke(function, Some("board"), &payload.to_string()).await;
    assert!(!wrote, "{payload} wrote: {answer:?}");
    answer.err().map(|error| error.error_type().name())
}

/// The payload as it is, with every spelling of `dry_run`, and as a widget.
fn variants(payload: &Value) -> Vec<Value> {
    let with = |key: &str, value: Value| {
        let mut with = payload.clone();
        with[key] = value;
        with
    };
    vec![
        payload.clone(),
        with("dry_run", json!(true)),
        with("dry_run", json!("true")),
        with("dry_run", json!(1)),
        with("widgetContext", json!({"params": payload, "dashboardName": "sekisho"})),
        json!({"widgetContext": {"params": payload}}),
    ]
}

#[tokio::test(start_paused = true)]
async fn no_event_and_no_request_of_the_examples_writes() {
    let train = Train::new();
    train.push(1).await;
    train.report(ONE_BOX, "healthy").await;
    for name in cases::names("event-relay") {
        let Ok(payload @ Value::Object(_)) = serde_json::from_str(&file(&name)) else { continue };
        for variant in variants(&payload) {
            ask_board(&train.function, &variant).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_board_answers_questions_and_refuses_everything_else() {
    let train = Train::new();
    train.push(1).await;
    train.report(ONE_BOX, "failed").await;
    let event: Value = serde_json::from_str(&file("branch-created")).unwrap();
    let resend = request("resend", json!({"account": "222222222222"}));
    let questions = [
        json!({"action": "where"}),
        json!({"action": "train", "route": "shop"}),
        json!({"train": "shop"}),
        json!({"action": "explain", "event": event}),
    ];
    for question in questions {
        assert_eq!(ask_board(&train.function, &question).await, None, "{question}");
    }
    let actions = [
        about("hold", "tokyo"),
        request("hold", json!({"reason": "r"})),
        json!({"hold": "shop/tokyo", "reason": "r"}),
        request("resume", json!({})),
        about("accept", "one-box"),
        about("rollback", "one-box"),
        request("promote", json!({"wave": "tokyo", "revision": crate::function::commit(1), "reason": "r"})),
        request("pardon", json!({"revision": crate::function::commit(1), "reason": "r"})),
    ];
    for action in actions {
        let mut answers = Vec::new();
        for variant in variants(&action) {
            answers.push(ask_board(&train.function, &variant).await);
        }
        assert_eq!(answers[0], Some("Refused"), "{action}");
        // What the action would do is a question, and some of the actions would do nothing now.
        assert_ne!(answers[1], Some("InvalidRequest"), "{action}");
        assert_eq!(answers[2..4], [Some("InvalidRequest"); 2], "{action}");
        assert_eq!(answers[4..], [None; 2], "{action} as a widget");
    }
    let redeliver: Value = serde_json::from_str(&file("redeliver")).unwrap();
    let schedule: Value = serde_json::from_str(&file("schedule")).unwrap();
    for other in [resend, event, schedule, redeliver] {
        assert_eq!(ask_board(&train.function, &other).await, Some("Refused"), "{other}");
    }
}

#[tokio::test(start_paused = true)]
async fn dry_run_is_invalid_for_an_action_that_has_none() {
    let train = Train::new();
    train.push(1).await;
    let event: Value = serde_json::from_str(&file("branch-created")).unwrap();
    let redeliver: Value = serde_json::from_str(&file("redeliver")).unwrap();
    for action in [
        json!({"action": "where"}),
        json!({"action": "train", "route": "shop"}),
        json!({"action": "explain", "event": event}),
        request("resend", json!({"account": "222222222222"})),
        redeliver,
    ] {
        for alias in [None, Some("board")] {
            let mut action = action.clone();
            action["dry_run"] = json!(true);
            let (answer, wrote) = invoke(&train.function, alias, &action.to_string()).await;
            let error = answer.unwrap_err();
            assert_eq!((error.error_type().name(), wrote), ("InvalidRequest", false), "{action}: {error}");
        }
    }
}

/// The person who looks at a dashboard did not write the fields of its widgets.
#[tokio::test(start_paused = true)]
async fn a_widget_is_only_ever_a_widget_at_every_alias() {
    let train = Train::new();
    train.push(1).await;
    for alias in [None, Some("board"), Some("live")] {
        for widget in [
            json!({"widgetContext": {}, "action": "hold", "route": "shop", "reason": "r"}),
            json!({"describe": true, "action": "hold", "route": "shop", "reason": "r"}),
        ] {
            let (answer, wrote) = invoke(&train.function, alias, &widget.to_string()).await;
            let Ok(Answer::Text(text)) = answer else { panic!("{widget}: {answer:?}") };
            assert!(!wrote && (text.starts_with("<style>") || text.starts_with("# Sekisho")), "{widget}: {text}");
        }
    }
}
