//! The two notices around the end of access: the reminder before it, and the summary after it.

use sekisho_ledger::{Key, Store as _};
use serde_json::{Value, json};
use time::Duration as Span;
use tokio::time::{Instant, advance};

use crate::account::{Account, FOLLOW_UP, Fault, GRANT, REVOKE, minutes};

/// The notices whose title contains a text: for each its description for Slack, and its variables.
fn notices(account: &Account, title: &str) -> Vec<(String, Value)> {
    let published = account.cloud.published();
    let read = published.iter().map(|message| {
        let message: Value = serde_json::from_str(message).unwrap();
        let custom: Value = serde_json::from_str(message["default"].as_str().unwrap()).unwrap();
        custom
    });
    let wanted = read.filter(|custom| custom["content"]["title"].as_str().unwrap().contains(title));
    wanted
        .map(|custom| {
            let text = custom["content"]["description"].as_str().unwrap().to_owned();
            (text, custom["metadata"]["additionalContext"].clone())
        })
        .collect()
}

/// Lets minutes pass, with a follow-up in the last but one, which ends the sessions of what is over, and in the last.
async fn pass(account: &Account, count: u64) {
    advance(minutes(count - 1)).await;
    account.follow_up().await;
    advance(minutes(1)).await;
    account.follow_up().await;
}

fn reminders(account: &Account) -> Vec<(String, Value)> {
    notices(account, "Ends soon")
}

fn summaries(account: &Account) -> Vec<String> {
    notices(account, "What was done").into_iter().map(|(text, _)| text).collect()
}

/// Writes a grant's row as an earlier version did: without the fields that are new.
async fn write_earlier_row(account: &Account, end: Span) {
    let key = Key { pk: "grant".to_owned(), sk: "user/prd-user/admin".to_owned() };
    let time = |at| sekisho_domain::timestamp::seconds(at);
    let row = json!({
        "state": "granted", "start": time(account.now() - Span::HOUR), "end": time(account.now() + end),
        "request": "one", "requests": ["one"], "claimed": 0, "held_until": 0, "expires": 1_797_896_700,
    });
    account.function.ledger.memory.write(&key, &row, None, "one").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn people_are_reminded_once_of_each_end() {
    let account = Account::new();
    account.text(r#"{"user":"prd-user","minutes":30,"reason":"OPS-7"}"#).await;
    account.text(r#"{"role":"ops","minutes":10}"#).await;
    advance(minutes(19)).await;
    account.follow_up().await;
    assert_eq!(reminders(&account), []);
    advance(minutes(2)).await;
    account.follow_up().await;
    account.follow_up().await;
    account.sweep().await;
    let [(text, variables)] = reminders(&account).try_into().unwrap();
    assert!(text.starts_with("user prd-user has access to account 333333333333 as admin until 2026-11-21T21:15:0"));
    assert!(text.contains("Reason: OPS-7") && text.contains(r#"{"profile":"admin","user":"prd-user"}"#), "{text}");
    assert_eq!(variables, json!({"access": "open", "kind": "user", "name": "prd-user", "profile": "admin"}));
    // The button was pressed, so there is a later end.
    account.text(GRANT).await;
    advance(minutes(19)).await;
    account.follow_up().await;
    assert_eq!(reminders(&account).len(), 1);
    advance(minutes(2)).await;
    account.follow_up().await;
    assert_eq!(reminders(&account).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_reminder_that_could_not_be_sent_is_sent_by_the_next_follow_up() {
    let account = Account::new();
    account.text(GRANT).await;
    advance(minutes(21)).await;
    account.cloud.fail("Publish", 1, Fault::Code("NotFound", 404));
    account.follow_up().await;
    assert_eq!(reminders(&account), []);
    account.follow_up().await;
    account.follow_up().await;
    assert_eq!(reminders(&account).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn whoever_was_put_out_gets_no_reminder() {
    let account = Account::new();
    account.text(GRANT).await;
    account.text(REVOKE).await;
    advance(minutes(21)).await;
    account.follow_up().await;
    assert_eq!(reminders(&account), []);
}

#[tokio::test(start_paused = true)]
async fn a_grant_of_an_earlier_version_has_one_reminder_and_no_summary() {
    let account = Account::new();
    write_earlier_row(&account, Span::minutes(5)).await;
    account.follow_up().await;
    account.follow_up().await;
    assert_eq!(reminders(&account).len(), 1);
    advance(minutes(30)).await;
    account.follow_up().await;
    assert_eq!(summaries(&account), Vec::<String>::new());
    assert!(!account.cloud.calls().contains(&"LookupEvents".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_summary_counts_what_the_user_did() {
    let account = Account::new();
    let begin = account.now();
    account.text(GRANT).await;
    let at = |minute| begin + Span::minutes(minute);
    for (caller, event, minute) in [
        ("user/prd-user", "ec2:DescribeInstances", -1),
        ("user/prd-user", "ec2:DescribeInstances", 1),
        ("user/prd-user", "ec2:StopInstances", 2),
        ("user/prd-user", "ec2:TerminateInstances", 3),
        ("user/prd-user", "logs:GetLogEvents", 4),
        ("user/hana", "ec2:StopInstances", 4),
        ("ops/prd-user", "ec2:StopInstances", 4),
        ("user/prd-user", "ec2:StopInstances", 31),
    ] {
        account.cloud.record(caller, event, at(minute));
    }
    advance(minutes(49)).await;
    account.follow_up().await;
    assert_eq!(summaries(&account), Vec::<String>::new());
    advance(minutes(2)).await;
    assert!(account.follow_up().await.is_empty(), "a summary is no decision");
    let [text] = summaries(&account).try_into().unwrap();
    assert!(text.contains("had access to account 333333333333 as admin from 2026-11-21T20:45:0"), "{text}");
    assert!(text.contains("At least these calls") && text.contains("ap-northeast-1"), "{text}");
    assert!(text.contains("ec2: 2 writes, 1 read\nlogs: 1 read\n"), "{text}");
    assert!(text.contains("/cloudtrailv2/home?region=ap-northeast-1#/events?Username=prd-user"), "{text}");
    // Afterwards a follow-up is idle again: one query of the ledger, and nothing else.
    let (calls, operations) = (account.cloud.calls().len(), account.function.ledger.operations.borrow().len());
    account.follow_up().await;
    assert_eq!(account.cloud.calls().len(), calls);
    assert_eq!(account.function.ledger.operations.borrow()[operations..], ["list"]);
}

#[tokio::test(start_paused = true)]
async fn a_summary_of_a_role_goes_by_the_issuer_of_its_sessions() {
    let account = Account::new();
    account.text(r#"{"role":"ops","minutes":30}"#).await;
    let at = account.now() + Span::MINUTE;
    account.cloud.record("ops/night", "iam:PutRolePolicy", at);
    account.cloud.record("other/ops", "iam:DeleteRole", at);
    account.cloud.record("user/ops", "iam:DeleteUser", at);
    account.cloud.record("ops/hana", "ec2:DescribeInstances", at);
    pass(&account, 51).await;
    let [text] = summaries(&account).try_into().unwrap();
    assert!(text.contains("ec2: 1 read") && text.contains("iam: 1 write\n"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_summary_follows_a_revoke_and_covers_a_chain_that_went_on() {
    let account = Account::new();
    let begin = account.now();
    account.text(GRANT).await;
    account.cloud.record("user/prd-user", "ec2:StopInstances", begin + Span::MINUTE);
    advance(minutes(5)).await;
    account.text(REVOKE).await;
    advance(minutes(15)).await;
    account.text(GRANT).await;
    advance(minutes(10)).await;
    account.follow_up().await;
    assert_eq!(summaries(&account), Vec::<String>::new(), "there is access again");
    account.text(REVOKE).await;
    pass(&account, 22).await;
    let [text] = summaries(&account).try_into().unwrap();
    assert!(text.contains("from 2026-11-21T20:45:0") && text.contains("ec2: 1 write"), "{text}");
}

/// The access goes on until the policy is deleted.
#[tokio::test(start_paused = true)]
async fn a_summary_waits_for_the_delete_of_a_revoked_policy() {
    let account = Account::new();
    account.text(GRANT).await;
    let begin = account.now();
    account.cloud.fail("DeleteUserPolicy", usize::MAX, Fault::Code("Throttling", 400));
    account.invoke(REVOKE).await.unwrap_err();
    account.cloud.record("user/prd-user", "ec2:StopInstances", begin + 10 * Span::MINUTE);
    pass(&account, 27).await;
    assert_eq!(summaries(&account), Vec::<String>::new());
    account.cloud.heal();
    assert_eq!(account.follow_up().await, ["revoked"]);
    pass(&account, 22).await;
    let [text] = summaries(&account).try_into().unwrap();
    assert!(text.contains("ec2: 1 write"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_summary_waits_for_cloudtrail_and_is_then_sent_without_it() {
    let account = Account::new();
    account.text(GRANT).await;
    advance(minutes(51)).await;
    account.cloud.fail("LookupEvents", usize::MAX, Fault::Code("AccessDeniedException", 400));
    account.follow_up().await;
    assert_eq!(summaries(&account), Vec::<String>::new());
    advance(minutes(60)).await;
    account.follow_up().await;
    account.follow_up().await;
    let [text] = summaries(&account).try_into().unwrap();
    assert!(text.contains("CloudTrail could not be read"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn pages_are_read_slowly_and_only_the_newest() {
    let account = Account::new();
    account.text(GRANT).await;
    for second in 0..1_100 {
        account.cloud.record("user/prd-user", "ec2:StopInstances", account.now() + Span::seconds(second));
    }
    pass(&account, 48).await;
    advance(minutes(3)).await;
    let began = Instant::now();
    account.invoke(FOLLOW_UP).await.unwrap();
    // CloudTrail allows two calls a second.
    assert!(began.elapsed().as_millis() >= 19 * 500, "{:?}", began.elapsed());
    assert_eq!(account.cloud.calls().iter().filter(|call| *call == "LookupEvents").count(), 20);
    let [text] = summaries(&account).try_into().unwrap();
    assert!(text.contains("ec2: 1000 writes") && text.contains("older ones are not counted"), "{text}");
}
