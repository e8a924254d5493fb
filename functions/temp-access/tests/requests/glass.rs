//! Break-glass: access without an approval, which somebody else reviews afterwards.

use std::cell::Cell;

use futures_util::join;
use sekisho_lambda::Failure;
use serde_json::Value;
use temp_access::answer::Answer;
use temp_access::error::Error;
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

/// An account whose ledger takes long for some of its operations: first those of one attempt, and then those of another
/// one. An attempt reads the row of the grant, claims it, reads the review, and writes it. One that fails takes back the
/// claim, reads the row again, and deletes the review.
fn with_slow_operations(slow: &[(usize, u64)]) -> Account {
    let account = Account::with(DOORS);
    let mut delays = vec![1; 60];
    for (operation, millis) in slow {
        delays[*operation] = *millis;
    }
    account.set_ledger_delays(delays);
    account
}

async fn attempt(account: &Account, after: u64) -> Result<Answer, Error> {
    sleep(Duration::from_millis(after)).await;
    account.invoke_at_as("hana", "one", GLASS).await
}

/// The review of the second attempt is open.
async fn assert_only_second_let_in(account: &Account, first: Result<Answer, Error>, second: Result<Answer, Error>) {
    assert_eq!(first.unwrap_err().error_type().name(), "Refused");
    let code = code(&text(second));
    assert!(end(account).is_some());
    assert!(account.text(PENDING).await.starts_with(&format!("{code}: review of break-glass")));
}

/// Neither attempt finds a review.
#[tokio::test(start_paused = true)]
async fn two_attempts_that_write_the_review_at_once_both_let_in() {
    let account = with_slow_operations(&[(3, 400), (7, 600)]);
    let (first, second) = join!(attempt(&account, 900), attempt(&account, 1_100));
    let (first, second) = (code(&text(first)), code(&text(second)));
    assert_eq!(first, second);
    assert!(end(&account).is_some() && account.text(PENDING).await.starts_with(&first));
    assert_eq!(account.text(PENDING).await.lines().count(), 1);
}

/// In the same second, the ledger takes the write of the first attempt for a repetition of the second one's.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_fails_leaves_the_review_that_both_have_written() {
    let account = with_slow_operations(&[(3, 60)]);
    let second = async {
        let answer = attempt(&account, 30).await;
        account.cloud.fail("PutUserPolicy", 1, Fault::Code("AccessDenied", 403));
        answer
    };
    let (first, second) = join!(attempt(&account, 0), second);
    assert_only_second_let_in(&account, first, second).await;
}

/// The second attempt begins while the first one, which has failed, is about to delete the review.
#[tokio::test(start_paused = true)]
async fn an_attempt_takes_over_the_review_of_one_that_has_failed() {
    let account = with_slow_operations(&[(6, 400)]);
    account.cloud.fail("PutUserPolicy", 1, Fault::Code("AccessDenied", 403));
    let (first, second) = join!(attempt(&account, 0), attempt(&account, 100));
    assert_only_second_let_in(&account, first, second).await;
}

/// An earlier grant has a review of its own, and the ledger may fail when the claim of the refused one is taken back.
#[tokio::test(start_paused = true)]
async fn a_refused_grant_leaves_no_review() {
    let refused = async |account: &Account| {
        account.cloud.fail("PutUserPolicy", 1, Fault::Code("AccessDenied", 403));
        account.invoke_at("hana", GLASS).await.unwrap_err();
        account.text(PENDING).await
    };
    let account = Account::with(DOORS);
    let code = code(&account.text_at("hana", GLASS).await);
    account.text(r#"{"action":"revoke","user":"prd-user"}"#).await;
    advance(minutes(10 * 60)).await;
    let pending = refused(&account).await;
    assert!(pending.starts_with(&code) && pending.lines().count() == 1, "{pending}");
    let account = Account::with(DOORS);
    let fails = Cell::new(true);
    account.fail_ledger(move |operation| operation == "delete" && fails.replace(false));
    assert_eq!(refused(&account).await, "Nothing waits for an approval.");
}
