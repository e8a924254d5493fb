//! The alias `board`: whatever comes through it, the function only reads.

use sekisho_lambda::Failure;
use sekisho_testing::cases;
use serde_json::{Value, json};
use temp_access::answer::Answer;
use temp_access::error::Error;

use crate::account::{Account, GRANT, minutes};

/// Whatever comes through the board, IAM and the ledger stay as they are, and no notice is sent.
async fn ask(account: &Account, alias: Option<&str>, payload: &Value) -> Result<Answer, Error> {
    let state = || {
        let calls = account.cloud.calls();
        let writes = calls.iter().filter(|call| !["Get", "List", "Describe"].iter().any(|read| call.starts_with(read)));
        (account.function.ledger.memory.rows(), writes.count())
    };
    let before = state();
    let answer = account.invoke_at(alias.unwrap_or_default(), &payload.to_string()).await;
    assert_eq!(state(), before, "{payload} wrote: {answer:?}");
    answer
}

/// The type of the error; `None` for an answer.
async fn ask_board(account: &Account, payload: &Value) -> Option<&'static str> {
    ask(account, Some("board"), payload).await.err().map(|error| error.error_type().name())
}

fn with(payload: &Value, key: &str, value: Value) -> Value {
    let mut with = payload.clone();
    with[key] = value;
    with
}

/// An account in which the user has access, and a policy that has ended waits for a sweep.
async fn in_use() -> Account {
    let account = Account::new();
    account.text(r#"{"role":"ops","minutes":1}"#).await;
    tokio::time::advance(minutes(5)).await;
    account.text(GRANT).await;
    account
}

#[tokio::test(start_paused = true)]
async fn no_event_and_no_request_of_the_examples_writes() {
    let account = in_use().await;
    for name in cases::names("temp-access") {
        let Ok(payload @ Value::Object(_)) = serde_json::from_str(&cases::file("temp-access", &name)) else { continue };
        ask_board(&account, &payload).await;
        for dry_run in [json!(true), json!("true"), json!(1)] {
            ask_board(&account, &with(&payload, "dry_run", dry_run)).await;
        }
        let widget = with(&payload, "widgetContext", json!({"params": payload}));
        assert_eq!(ask_board(&account, &widget).await, None, "{name} as a widget");
    }
}

#[tokio::test(start_paused = true)]
async fn the_board_answers_questions_and_refuses_everything_else() {
    let account = in_use().await;
    let dry_run = json!({"user": "prd-user", "dry_run": true});
    for question in [
        json!({"action": "list"}),
        json!({"action": "help"}),
        json!({"describe": true}),
        dry_run.clone(),
        json!({"action": "revoke", "user": "prd-user", "dry_run": true}),
    ] {
        assert_eq!(ask_board(&account, &question).await, None, "{question}");
    }
    let sweep: Value = serde_json::from_str(crate::account::SWEEP).unwrap();
    let follow_up: Value = serde_json::from_str(crate::account::FOLLOW_UP).unwrap();
    let code = "ABCD2345";
    for action in [
        json!({"user": "prd-user"}),
        json!({"role": "ops", "minutes": 5, "dry_run": false}),
        json!({"action": "revoke", "user": "prd-user"}),
        json!({"action": "approve", "request": code}),
        json!({"action": "decline", "request": code}),
        json!({"approve": code}),
        json!({"decline": code}),
        json!({"action": "list", "account": "production"}),
        with(&dry_run, "account", json!("production")),
        sweep.clone(),
        with(&sweep, "source", json!("aws.events")),
        follow_up,
    ] {
        assert_eq!(ask_board(&account, &action).await, Some("Refused"), "{action}");
    }
    for mistake in [
        with(&dry_run, "dry_run", json!("true")),
        with(&dry_run, "dry_run", json!(1)),
        json!({"action": "list", "dry_run": true}),
        json!({"action": "approve", "request": code, "dry_run": true}),
        json!({"version": 1, "id": "x", "until": "2026-11-21T21:00:00.000Z", "door": null, "request": {}}),
    ] {
        assert_eq!(ask_board(&account, &mistake).await, Some("InvalidRequest"), "{mistake}");
    }
}

/// The doors of people, break-glass and people of Identity Center change nothing about the board either.
#[tokio::test(start_paused = true)]
async fn the_board_is_nobodys_door() {
    let mut account = crate::people::account(0);
    let people = crate::approvals::DOORS.replacen(r#"["user/prd-user"]"#, r#"["person/hana@example.com"]"#, 1);
    account.function.access = sekisho_domain::config::Document::parse("sekisho.toml", &people).unwrap().access();
    let code = crate::approvals::ask(&account, "hana", r#"{"person":"hana@example.com","minutes":30}"#).await;
    let hana = json!({"person": "hana@example.com", "profile": "admin", "reason": "r"});
    let later = with(&hana, "from", json!("2026-11-22T22:00:00Z"));
    for action in
        [hana.clone(), with(&hana, "profile", json!("glass")), with(&hana, "profile", json!("read-only")), later]
    {
        assert_eq!(ask_board(&account, &action).await, Some("Refused"), "{action}");
        for context in [json!({}), json!({"params": action})] {
            assert_eq!(ask_board(&account, &with(&action, "widgetContext", context)).await, None, "{action}");
        }
        for dry_run in [json!("true"), json!(1)] {
            assert_eq!(
                ask_board(&account, &with(&action, "dry_run", dry_run)).await,
                Some("InvalidRequest"),
                "{action}"
            );
        }
        let is_open = action["profile"] == "read-only";
        let dry_run = ask_board(&account, &with(&action, "dry_run", json!(true))).await;
        assert_eq!(dry_run, (!is_open).then_some("Refused"), "{action}");
    }
    for action in ["approve", "decline"] {
        let action = json!({"action": action, "request": code});
        assert_eq!(ask_board(&account, &action).await, Some("Refused"), "{action}");
        let widget = with(&action, "widgetContext", json!({"params": action}));
        assert_eq!(ask_board(&account, &widget).await, None, "{widget}");
        assert_eq!(
            ask_board(&account, &with(&action, "dry_run", json!(true))).await,
            Some("InvalidRequest"),
            "{action}"
        );
    }
    assert_eq!(ask_board(&account, &json!({"action": "pending"})).await, None);
}

/// The person who looks at a dashboard did not write the fields of its widgets.
#[tokio::test(start_paused = true)]
async fn a_widget_is_only_ever_a_widget_at_every_alias() {
    let mut account = in_use().await;
    account.function.hub = Some("222222222222".to_owned());
    for alias in [None, Some("board"), Some("hub")] {
        for fields in [json!({"user": "prd-user"}), json!({"action": "revoke", "user": "prd-user"})] {
            let Ok(Answer::Text(html)) = ask(&account, alias, &with(&fields, "widgetContext", json!({}))).await else {
                panic!("{alias:?} {fields} was not shown")
            };
            assert!(html.contains("Has access now (1)") && html.contains("<bdi>prd-user</bdi>"), "{html}");
            let other = with(&with(&fields, "widgetContext", json!({})), "widget", json!("trains"));
            let answer = ask(&account, alias, &other).await;
            assert_eq!(answer.unwrap_err().error_type().name(), "InvalidRequest", "{alias:?} {fields}");
            let Ok(Answer::Text(text)) = ask(&account, alias, &with(&fields, "describe", json!(true))).await else {
                panic!("{alias:?} {fields} was not described")
            };
            assert!(text.starts_with("# Sekisho: access"), "{text}");
        }
    }
}

/// The configuration is not needed to refuse.
#[tokio::test(start_paused = true)]
async fn the_board_refuses_without_a_configuration() {
    let account = Account::with("[access]\n");
    let revoke = json!({"action": "revoke", "user": "prd-user"});
    assert_eq!(ask_board(&account, &revoke).await, Some("Refused"));
    assert_eq!(ask_board(&account, &with(&revoke, "dry_run", json!(true))).await, None);
}
