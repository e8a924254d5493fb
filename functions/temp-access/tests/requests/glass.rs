//! Break-glass: access without an approval, which somebody else reviews afterwards.

use futures_util::join;
use sekisho_lambda::Failure;
use serde_json::Value;
use temp_access::principal::Kind::User;
use tokio::time::{Duration, advance, sleep, timeout};

use crate::account::{Account, Fault, minutes, text};
use crate::approvals::{DOORS, approve};

const GLASS: &str = r#"{"user":"prd-user","minutes":30,"profile":"glass","reason":"fire <!channel>"}"#;
const PENDING: &str = r#"{"action":"pending"}"#;

fn end(account: &Account) -> Option<String> {
    account.cloud.end(User, "prd-user", "sekisho-glass")
}

/// The code of the review in an answer.
fn code(answer: &str) -> String {
    let rest = answer.split_once("The review ").unwrap().1;
    rest.split(' ').next().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_break_glass_grant_is_at_once_loud_and_reviewed_by_somebody_else() {
    let account = Account::with(DOORS);
    let answer = account.text_at("hana", GLASS).await;
    assert!(answer.starts_with("End time is 2026-11-21T21:15:0") && end(&account).is_some(), "{answer}");
    let code = code(&answer);
    let message: Value = serde_json::from_str(&account.cloud.published()[0]).unwrap();
    let custom: Value = serde_json::from_str(message["default"].as_str().unwrap()).unwrap();
    let description = custom["content"]["description"].as_str().unwrap();
    // Only our own mention is one.
    assert!(description.starts_with("<!channel>\n") && description.matches("<!channel>").count() == 1, "{description}");
    assert!(custom["content"]["title"].as_str().unwrap().starts_with("Break-glass: Let in"));
    let context = &custom["metadata"]["additionalContext"];
    assert_eq!((context["access"].as_str(), context["code"].as_str()), (Some("break-glass"), Some(code.as_str())));
    assert_eq!(context.get("profile"), None);
    let decision = &account.decisions()[0];
    assert_eq!((decision["outcome"].as_str(), decision["break_glass"].as_str()), (Some("granted"), Some("true")));
    // Neither time nor a revoke closes the review, and it is announced again after a day.
    account.text(r#"{"action":"revoke","user":"prd-user"}"#).await;
    advance(minutes(24 * 60)).await;
    assert_eq!(account.sweep().await, ["pending"]);
    assert_eq!(account.decisions().pop().unwrap()["break_glass"], "true");
    assert!(account.cloud.published().pop().unwrap().contains("not reviewed yet"));
    assert_eq!(account.sweep().await, ["idle"]);
    assert!(account.text(PENDING).await.starts_with(&format!("{code}: review of break-glass: user prd-user")));
    for door in ["hana", "approvers", ""] {
        assert_eq!(
            account.invoke_at(door, &approve(&code)).await.unwrap_err().error_type().name(),
            "Refused",
            "{door}"
        );
    }
    let answer = account.text_at("taro", &approve(&code)).await;
    assert!(answer.contains("is closed at the door taro"), "{answer}");
    let decision = account.decisions().pop().unwrap();
    assert_eq!((decision["outcome"].as_str(), decision["review"].as_str()), (Some("approved"), Some("true")));
    assert_eq!(account.text(PENDING).await, "Nothing waits for an approval.");
    assert_eq!(end(&account), None);
}

#[tokio::test(start_paused = true)]
async fn break_glass_needs_a_persons_door_and_a_reason() {
    let account = Account::with(DOORS);
    for (door, payload, expected) in [
        ("", GLASS, "Refused"),
        ("taro", GLASS, "Refused"),
        ("approvers", GLASS, "Refused"),
        ("hana", r#"{"user":"prd-user","profile":"glass"}"#, "InvalidRequest"),
        ("hana", r#"{"user":"prd-user","profile":"glass","reason":"  "}"#, "InvalidRequest"),
    ] {
        assert_eq!(
            account.invoke_at(door, payload).await.unwrap_err().error_type().name(),
            expected,
            "{door} {payload}"
        );
    }
    assert!(!account.cloud.wrote());
    assert_eq!(account.text(PENDING).await, "Nothing waits for an approval.");
    let preview = account.text_at("hana", &GLASS.replace('}', ",\"dry_run\":true}")).await;
    assert!(preview.starts_with("Dry run") && account.text(PENDING).await.starts_with("Nothing waits"), "{preview}");
}

#[tokio::test(start_paused = true)]
async fn no_break_glass_grant_is_without_a_review_and_no_review_without_a_grant() {
    // Without the ledger, nothing is granted.
    let account = Account::with(DOORS);
    account.fail_ledger(|operation| operation == "write");
    account.invoke_at("hana", GLASS).await.unwrap_err();
    assert_eq!(end(&account), None);
    account.fail_ledger(|_| false);
    // A grant that IAM refuses opens no review.
    let account = Account::with(DOORS);
    account.cloud.fail("PutUserPolicy", 1, Fault::Code("AccessDenied", 403));
    account.invoke_at("hana", GLASS).await.unwrap_err();
    assert_eq!(account.text(PENDING).await, "Nothing waits for an approval.");
    // The invocation dies after the policy was put. Its repetition has the same review.
    account.cloud.fail("GetUserPolicy", 1, Fault::Lost);
    timeout(Duration::from_secs(1), account.invoke_at_as("hana", "one", GLASS)).await.unwrap_err();
    assert!(end(&account).is_some() && account.text(PENDING).await.contains("review of break-glass"));
    advance(minutes(1)).await;
    let answer = text(account.invoke_at_as("hana", "one", GLASS).await);
    assert!(account.text(PENDING).await.starts_with(&code(&answer)));
    assert_eq!(account.text(PENDING).await.lines().count(), 1);
    // A request that changes nothing opens no second review.
    let answer = account.text_at("hana", &GLASS.replace("30", "5")).await;
    assert!(answer.contains("already has glass") && !answer.contains("review"), "{answer}");
    assert_eq!(account.text(PENDING).await.lines().count(), 1);
}

/// The answer of the hub is lost, so the request is repeated while its first attempt still waits for IAM. The first
/// attempt fails, and the second one lets in.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_fails_leaves_the_review_of_the_attempt_that_lets_in() {
    let account = Account::with(DOORS);
    account.cloud.fail("PutUserPolicy", 3, Fault::Code("Throttling", 400));
    let puts = async |count| {
        while account.cloud.calls().iter().filter(|call| *call == "PutUserPolicy").count() < count {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let second = async {
        // The third call takes long.
        puts(2).await;
        account.cloud.set_delays(vec![2_000]);
        puts(3).await;
        account.cloud.set_delays(vec![]);
        account.invoke_at_as("hana", "one", GLASS).await
    };
    let (first, second) = join!(account.invoke_at_as("hana", "one", GLASS), second);
    assert_eq!(first.unwrap_err().error_type().name(), "Throttled");
    let code = code(&text(second));
    assert!(end(&account).is_some());
    assert!(account.text(PENDING).await.starts_with(&format!("{code}: review of break-glass")));
}
