//! What is on record about requests that were not decided, and what becomes of rows that cannot be read.

use sekisho_domain::config::Document;
use sekisho_ledger::{Key, Store as _};
use serde_json::{Value, json};
use tokio::time::advance;

use crate::account::{Account, minutes};
use crate::approvals::{ASK, DOORS, PENDING, REVOKE, approve, ask};
use crate::people;

/// Replaces the row of a request, or of a review, by one that cannot be read.
async fn spoil(account: &Account, sk: &str) {
    let key = Key { pk: "request".to_owned(), sk: sk.to_owned() };
    let memory = &account.function.ledger.memory;
    let row = memory.read::<Value>(&key).await.unwrap().unwrap();
    memory.write(&key, &json!({"stage": "lost"}), Some(row.revision), "somebody").await.unwrap();
}

/// An auditor looks for everybody who tried to approve the own request.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_was_refused_says_who_tried_what() {
    let account = Account::with(DOORS);
    let code = ask(&account, "hana", ASK).await;
    let decline = format!(r#"{{"decline":"{code}"}}"#);
    for (door, payload, tried_by) in [
        ("hana", approve(&code), "approved_by"),
        ("approvers", approve(&code), "approved_by"),
        ("", approve(&code), "approved_by"),
        ("", decline, "declined_by"),
    ] {
        account.invoke_at(door, &payload).await.unwrap_err();
        let decision = account.decisions().pop().unwrap();
        let field = |name: &str| decision[name].as_str().unwrap_or_else(|| panic!("{name}: {decision}")).to_owned();
        assert_eq!(field("outcome"), "refused");
        assert_eq!(field(tried_by), if door.is_empty() { "#channel" } else { door });
        let about = ["user", "profile", "door", "code", "because"].map(field);
        assert_eq!(about, ["prd-user", "admin", "hana", code.as_str(), "OPS-1"], "{payload}");
    }
    // No request has this code, so only the code and the door are on record.
    account.invoke_at("jun", &approve("ABCDEFGH")).await.unwrap_err();
    let decision = account.decisions().pop().unwrap();
    assert_eq!((&decision["code"], &decision["door"]), (&json!("ABCDEFGH"), &json!("jun")));
    assert_eq!((&decision["approved_by"], decision.get("user")), (&json!("jun"), None));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_read_is_not_nothing() {
    let account = Account::with(DOORS);
    let code = ask(&account, "hana", ASK).await;
    spoil(&account, "user/prd-user/admin/hana").await;
    let pending = account.text(PENDING).await;
    assert!(pending.contains("row request / user/prd-user/admin/hana cannot be read"), "{pending}");
    assert!(!pending.contains("Nothing waits"), "{pending}");
    // A revoke does not say that no request is left.
    account.text(r#"{"user":"prd-user","profile":"read-only"}"#).await;
    let answer = account.text(REVOKE).await;
    assert!(answer.contains("sekisho-read-only removed") && answer.contains("may remain"), "{answer}");
    account.invoke_at("taro", &approve(&code)).await.unwrap_err();
    assert_eq!(account.sweep().await, ["failed"]);
    let decision = account.decisions().pop().unwrap();
    assert!(decision["reason"].as_str().unwrap().contains("row request / user/prd-user/admin/hana"), "{decision}");
}

/// The review of an emergency is not forgotten.
#[tokio::test(start_paused = true)]
async fn a_review_that_cannot_be_read_rings_in_each_sweep() {
    let account = Account::with(DOORS);
    let answer = account.text_at("hana", r#"{"user":"prd-user","profile":"glass","reason":"fire"}"#).await;
    let code = answer.split_once("The review ").unwrap().1.split(' ').next().unwrap().to_owned();
    spoil(&account, &format!("review/{code}")).await;
    assert!(account.text(PENDING).await.contains(&code));
    for _ in 0..2 {
        advance(minutes(15)).await;
        assert!(account.sweep().await.contains(&"failed".to_owned()));
    }
}

/// Everybody behind the approving door is looked up, whatever the address is like.
#[tokio::test(start_paused = true)]
async fn an_address_with_an_apostrophe_keeps_nobody_from_approving() {
    let mut account = people::account(0);
    let config =
        DOORS.replace("role/ops", "person/o'brien@example.com").replace("user/prd-user", "person/hana@example.com");
    account.function.access = Document::parse("sekisho.toml", &config).unwrap().access();
    account.cloud.people(|people| people.users.insert("o'brien@example.com".to_owned(), people::user("obrien")));
    let code = ask(&account, "hana", r#"{"person":"hana@example.com","minutes":30}"#).await;
    assert!(account.text_at("taro", &approve(&code)).await.starts_with("End time is"));
    assert_eq!(people::let_in(&account), people::users(&["hana"]));
    let code = ask(&account, "taro", r#"{"person":"o'brien@example.com","minutes":30}"#).await;
    let error = account.invoke_at("jun", &approve(&code)).await.unwrap_err();
    assert!(error.to_string().contains("o'brien@example.com"), "{error}");
}

/// Neither the ledger nor Identity Center says who it is.
#[tokio::test(start_paused = true)]
async fn a_revoke_that_does_not_know_the_person_says_how_to_name_them() {
    let account = people::account(0);
    // A user id has only hexadecimal digits.
    let id = people::user("dada");
    account.cloud.people(|people| people.users.insert("dada@example.com".to_owned(), id.clone()));
    account.text(&people::grant("dada")).await;
    account.fail_ledger(|_| true);
    account.cloud.fail("GetUserId", 9, crate::account::Fault::Code("InternalServerException", 500));
    let error = account.invoke(&people::revoke("dada")).await.unwrap_err().to_string();
    assert!(error.starts_with("Nothing was ended") && error.contains(r#"{"action":"list"}"#), "{error}");
    let list = account.text(r#"{"action":"list"}"#).await;
    assert!(list.contains(&id), "{list}");
    account.invoke(&format!(r#"{{"action":"revoke","person":"{id}"}}"#)).await.unwrap_err();
    assert_eq!(people::let_in(&account), people::users(&[]));
}
