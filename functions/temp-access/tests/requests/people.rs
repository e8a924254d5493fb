//! People of Identity Center, who get access through `sekisho-window`.

use std::collections::BTreeSet;
use std::time::Duration;

use sekisho_domain::config::Document;
use temp_access::aws::identity_center::IdentityCenter;
use temp_access::error::Error;
use tokio::time::{Instant, sleep};

use crate::account::people::WINDOW;
use crate::account::{Account, CONFIG, END, Fault, SLACK_LIMIT, minutes, text};

const PEOPLE: [&str; 4] = ["hana", "taro", "jiro", "mika"];
/// What an answer says if a follow-up has to enter the grant.
pub const BEGINS_LATER: &str = "the function writes it within three minutes";

pub fn grant(name: &str) -> String {
    format!(r#"{{"person":"{name}@example.com","minutes":30}}"#)
}

pub fn revoke(name: &str) -> String {
    format!(r#"{{"action":"revoke","person":"{name}@example.com"}}"#)
}

pub fn users(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| user(name)).collect()
}

pub fn user(name: &str) -> String {
    format!("0123456789-11111111-2222-3333-4444-{name:0>12}")
}

/// An account that lets in people, to whom reads of the policy lag behind by this time.
pub fn account(lag: u64) -> Account {
    let account = Account::of_people();
    account.cloud.people(|people| {
        people.users = PEOPLE.iter().map(|name| (format!("{name}@example.com"), user(name))).collect();
        people.lags = vec![Duration::from_secs(lag)];
    });
    account.cloud.set_delays(vec![80, 150, 40]);
    account
}

pub fn let_in(account: &Account) -> BTreeSet<String> {
    account.cloud.people(|people| people.let_in())
}

fn kind(error: Result<temp_access::answer::Answer, Error>) -> (&'static str, String) {
    let error = error.unwrap_err();
    (sekisho_lambda::Failure::error_type(&error).name(), error.to_string())
}

#[tokio::test(start_paused = true)]
async fn a_person_is_let_in_and_out() {
    let account = account(0);
    let started = Instant::now();
    let answer = account.text(&grant("hana")).await;
    assert!(started.elapsed() < SLACK_LIMIT / 2, "{:?}", started.elapsed());
    assert!(answer.starts_with(END) && answer.contains("person hana@example.com has admin for 30 min"), "{answer}");
    assert_eq!(let_in(&account), users(&["hana"]));
    let row = account.row(&format!("person/{}/admin", user("hana"))).await.unwrap().state;
    assert_eq!(row.email.as_deref(), Some("hana@example.com"));
    let list = account.text(r#"{"action":"list"}"#).await;
    assert!(list.starts_with("person hana@example.com: admin until 2026-11-21T21:15:0"), "{list}");
    // The user name leads to the same person.
    let longer = account.text(r#"{"person":"hana","minutes":60}"#).await;
    assert!(longer.contains("keeps admin, which would have ended at 2026-11-21T21:15:0"), "{longer}");
    let ended = account.text(&revoke("hana")).await;
    assert!(ended.starts_with("Access of person hana@example.com is ended: sekisho-admin removed."), "{ended}");
    assert_eq!(let_in(&account), users(&[]));
    assert_eq!(account.outcomes(), ["granted", "listed", "extended", "revoked"]);
    let decisions = account.decisions();
    assert_eq!((&decisions[0]["person"], &decisions[0]["user_id"]), (&"hana@example.com".into(), &user("hana").into()));
    let notices = account.cloud.published();
    assert!(
        notices[0].contains(r#"{\\\"action\\\":\\\"revoke\\\",\\\"person\\\":\\\"hana@example.com\\\"}"#),
        "{}",
        notices[0]
    );
}

#[tokio::test(start_paused = true)]
async fn access_ends_by_itself_and_is_left_out_at_the_next_write() {
    let account = account(0);
    account.text(&grant("hana")).await;
    sleep(minutes(31)).await;
    assert_eq!(let_in(&account), users(&[]));
    let (calls, before) = (account.cloud.calls().len(), account.cloud.people(|people| people.document().to_owned()));
    assert!(account.follow_up().await.is_empty());
    assert!(!account.cloud.calls()[calls..].iter().any(|call| call.contains("Policy")), "{:?}", account.cloud.calls());
    assert_eq!(account.text(r#"{"action":"list"}"#).await, "Nobody has access now.");
    assert!(before.contains(&user("hana")));
    account.text(&grant("taro")).await;
    assert!(!account.cloud.people(|people| people.document().contains(&user("hana"))));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_granted_to_a_person_is_refused() {
    let account = account(0);
    let cases = [
        (r#"{"person":"hana@example.com","profile":"read-only"}"#, "Refused", "second factor"),
        (r#"{"person":"saki@example.com"}"#, "NotFound", "no user with the e-mail address"),
        (r#"{"person":"hana@example.com","user":"prd-user"}"#, "InvalidRequest", "both given"),
        (r#"{"person":"<@U123>"}"#, "InvalidRequest", "write the e-mail address"),
        (r#"{"action":"revoke","person":"saki@example.com"}"#, "NotFound", "no user"),
    ];
    for (payload, expected, text) in cases {
        let (found, message) = kind(account.invoke(payload).await);
        assert!(found == expected && message.contains(text), "{payload}: {found}: {message}");
    }
    let without = Account::new();
    for payload in [grant("hana"), revoke("hana")] {
        let (found, message) = kind(without.invoke(&payload).await);
        assert!(found == "Refused" && message.contains("IdentityStoreId and IdentityCenterRegion"), "{message}");
    }
    account.cloud.fail("GetUserId", 9, Fault::Code("AccessDeniedException", 400));
    assert_eq!(kind(account.invoke(&grant("hana")).await).0, "Refused");
    assert!(!account.cloud.wrote() && let_in(&account).is_empty());
}

/// The ledger is lost, so nobody but IAM knows of the revoke.
#[tokio::test(start_paused = true)]
async fn a_revoke_without_the_ledger_is_not_undone_by_the_next_grant() {
    for lag in [0, 20] {
        let account = account(lag);
        account.text(&grant("hana")).await;
        sleep(Duration::from_secs(30)).await;
        account.text(&grant("taro")).await;
        sleep(Duration::from_secs(30)).await;
        account.fail_ledger(|_| true);
        let (_, message) = kind(account.invoke(&revoke("hana")).await);
        assert!(
            message.starts_with("person hana@example.com may still get access; sekisho-admin removed"),
            "{message}"
        );
        assert!(message.contains("The ledger does not record"), "{message}");
        assert_eq!(let_in(&account), users(&["taro"]));
        account.fail_ledger(|_| false);
        account.text(&grant("jiro")).await;
        for _ in 0..3 {
            sleep(minutes(1)).await;
            account.follow_up().await;
        }
        assert_eq!(let_in(&account), users(&["taro", "jiro"]), "lag {lag}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_revert_to_the_template_ends_access_and_hurts_nothing() {
    let account = account(2);
    let first = account.cloud.people(|people| people.document().to_owned());
    account.text(&grant("hana")).await;
    sleep(minutes(3)).await;
    account.cloud.people(|people| people.put(&first));
    sleep(minutes(1)).await;
    account.follow_up().await;
    assert_eq!(let_in(&account), users(&[]));
    account.text(&grant("taro")).await;
    assert_eq!(let_in(&account), users(&["taro"]));
    account.text(&grant("hana")).await;
    assert_eq!(let_in(&account), users(&["hana", "taro"]));
}

#[tokio::test(start_paused = true)]
async fn a_full_policy_names_who_leaves_next() {
    let account = account(0);
    account.cloud.people(|people| {
        people.users.extend((0..25).map(|n| (format!("p{n}@example.com"), user(&n.to_string()))));
    });
    for number in 0..22 {
        let minutes = 100 - number;
        account.text(&format!(r#"{{"person":"p{number}@example.com","minutes":{minutes}}}"#)).await;
    }
    assert_eq!(let_in(&account).len(), 22);
    for payload in [grant("hana"), r#"{"person":"hana@example.com","dry_run":true}"#.to_owned()] {
        let (found, message) = kind(account.invoke(&payload).await);
        assert_eq!(found, "LimitExceeded");
        assert!(message.contains("The next to leave is person p21@example.com, at 2026-11-21T22:0"), "{message}");
    }
    assert_eq!(let_in(&account).len(), 22);
    account.text(&revoke("p3")).await;
    account.text(&grant("hana")).await;
    assert_eq!(let_in(&account).len(), 22);
}

#[tokio::test(start_paused = true)]
async fn a_scheduled_grant_is_entered_shortly_before_it_begins() {
    let account = account(20);
    let later = r#"{"person":"hana@example.com","minutes":30,"from":"2026-11-21T22:45:00Z"}"#;
    let answer = account.text(later).await;
    assert!(answer.starts_with("End time is 2026-11-21T23:15:00Z"), "{answer}");
    let document = || account.cloud.people(|people| people.document().to_owned());
    assert!(!document().contains(&user("hana")));
    let list = account.text(r#"{"action":"list"}"#).await;
    assert!(list.contains("person hana@example.com"), "{list}");
    sleep(minutes(105)).await;
    account.follow_up().await;
    assert!(!document().contains(&user("hana")));
    sleep(minutes(6)).await;
    account.follow_up().await;
    assert!(document().contains(&user("hana")) && let_in(&account).is_empty());
    let row = account.row(&format!("person/{}/admin", user("hana"))).await.unwrap().state;
    assert!(!row.awaits_entry);
    sleep(minutes(10)).await;
    assert_eq!(let_in(&account), users(&["hana"]));
    account.text(&revoke("hana")).await;
    assert_eq!(let_in(&account), users(&[]));
}

/// The profile was widened after the last sweep.
#[tokio::test(start_paused = true)]
async fn a_scheduled_grant_is_not_entered_with_statements_that_nobody_granted() {
    let mut account = account(0);
    account.text(r#"{"person":"hana@example.com","minutes":30,"from":"2026-11-21T22:45:00Z"}"#).await;
    let wider = CONFIG.replace(r#"actions = ["*"]"#, r#"actions = ["s3:*"]"#);
    account.function.access = Document::parse("sekisho.toml", &wider).and_then(|document| document.access());
    sleep(minutes(111)).await;
    account.follow_up().await;
    assert!(!account.cloud.people(|people| people.document().contains(&user("hana"))));
    sleep(minutes(5)).await;
    assert_eq!(account.follow_up().await, ["failed"]);
    assert!(account.sweep().await.contains(&"revoked".to_owned()));
    sleep(minutes(6)).await;
    account.follow_up().await;
    assert_eq!(let_in(&account), users(&[]));
}

/// The parameters were taken away while people had access.
#[tokio::test(start_paused = true)]
async fn access_of_people_can_be_listed_and_ended_without_the_identity_store() {
    let mut account = account(0);
    account.text(&grant("hana")).await;
    account.function.identity_center = Some(IdentityCenter::without_store(WINDOW));
    let list = account.text(r#"{"action":"list"}"#).await;
    assert!(list.starts_with("person hana@example.com: admin until"), "{list}");
    let (found, message) = kind(account.invoke(&grant("taro")).await);
    assert!(found == "Refused" && message.contains("IdentityStoreId"), "{message}");
    account.text(&revoke("hana")).await;
    assert_eq!(let_in(&account), users(&[]));
}

#[tokio::test(start_paused = true)]
async fn a_revoke_names_the_other_user_of_the_same_address() {
    let account = account(0);
    account.text(&grant("hana")).await;
    account.cloud.people(|people| people.users.insert("hana@example.com".to_owned(), user("other")));
    account.text(&grant("hana")).await;
    assert_eq!(let_in(&account), users(&["hana", "other"]));
    let first = account.text(&revoke("hana")).await;
    assert!(first.contains("Another user of Identity Center has access under this address"), "{first}");
    let second = account.text(&revoke("hana")).await;
    assert!(second.contains("sekisho-admin removed") && !second.contains("Another user"), "{second}");
    assert_eq!(let_in(&account), users(&[]));
}

#[tokio::test(start_paused = true)]
async fn a_scheduled_grant_can_be_revoked_before_it_begins() {
    let account = account(0);
    account.text(r#"{"person":"hana@example.com","minutes":30,"from":"2026-11-21T22:45:00Z"}"#).await;
    let ended = account.text(&revoke("hana")).await;
    assert!(ended.contains("sekisho-admin removed"), "{ended}");
    sleep(minutes(121)).await;
    account.follow_up().await;
    assert_eq!(let_in(&account), users(&[]));
    assert_eq!(account.text(r#"{"action":"list"}"#).await, "Nobody has access now.");
}

/// The address leads to another user by now, but whoever got access under it loses the access.
#[tokio::test(start_paused = true)]
async fn an_address_that_moved_still_ends_the_access_that_was_given_under_it() {
    let account = account(0);
    account.text(&grant("hana")).await;
    account.cloud.people(|people| people.users.insert("hana@example.com".to_owned(), user("other")));
    account.text(&revoke("hana")).await;
    assert_eq!(let_in(&account), users(&[]));
    account.text(&grant("hana")).await;
    assert_eq!(let_in(&account), users(&["other"]));
    account.cloud.people(|people| people.users.clear());
    let gone = account.text(&revoke("hana")).await;
    assert!(gone.contains("sekisho-admin removed"), "{gone}");
    assert_eq!(let_in(&account), users(&[]));
}

/// Approval: an address that moved, and an approver who is the person under another name.
#[tokio::test(start_paused = true)]
async fn an_approval_is_for_the_user_who_was_meant_and_not_by_that_user() {
    let mut account = account(0);
    let config = r#"
        [access]
        default_minutes = 60
        max_minutes     = 480
        default_profile = "admin"
        [access.profiles.admin]
        statements = [{ actions = ["*"], resources = ["*"] }]
        approval   = "another"
        [access.profiles.glass]
        statements  = [{ actions = ["*"], resources = ["*"] }]
        break_glass = true
        [access.people.hana]
        may_ask = ["admin", "glass"]
        [access.people.taro]
        may_approve = ["admin", "glass"]
        for = ["person/taro@example.com"]
    "#;
    account.function.access = Document::parse("sekisho.toml", config).and_then(|document| document.access());
    let ask = async |account: &Account, payload: &str| {
        let answer = account.text_at("hana", payload).await;
        let code = answer.strip_prefix("Request ").unwrap().split(' ').next().unwrap();
        format!(r#"{{"approve":"{code}"}}"#)
    };
    // The user name of taro leads to the user whose address belongs to the approving door.
    let approve = ask(&account, r#"{"person":"taro"}"#).await;
    let (found, message) = kind(account.invoke_at("taro", &approve).await);
    assert!(found == "Refused" && message.contains("who belongs to the door taro"), "{message}");
    let approve = ask(&account, r#"{"person":"mika@example.com"}"#).await;
    account.cloud.people(|people| people.users.insert("mika@example.com".to_owned(), user("other")));
    let (found, message) = kind(account.invoke_at("taro", &approve).await);
    assert!(found == "Refused" && message.contains("leads to another user"), "{message}");
    account.cloud.people(|people| people.users.insert("mika@example.com".to_owned(), user("mika")));
    assert_eq!(let_in(&account), users(&[]));
    let answer = account.text_at("taro", &approve).await;
    assert!(answer.starts_with("End time is"), "{answer}");
    assert_eq!(let_in(&account), users(&["mika"]));
    let answer = account.text_at("hana", r#"{"person":"taro","profile":"glass","reason":"fire"}"#).await;
    let code = answer.split_once("The review ").unwrap().1.split(' ').next().unwrap();
    let (found, message) = kind(account.invoke_at("taro", &format!(r#"{{"approve":"{code}"}}"#)).await);
    assert!(found == "Refused" && message.contains("who belongs to the door taro"), "{message}");
}

/// Each address of a group is looked up, which takes a quarter of a second.
#[tokio::test(start_paused = true)]
async fn an_approval_at_the_door_of_a_large_group_is_in_time() {
    let mut account = account(0);
    let mut config = CONFIG.split("[access.people").next().unwrap().to_owned();
    config +=
        "[access.profiles.second]\nstatements = [{ actions = [\"*\"], resources = [\"*\"] }]\napproval = \"another\"\n";
    config += "[access.people.hana]\nmay_ask = [\"second\"]\n";
    let names: Vec<String> = (0..40).map(|n| format!("p-{n}")).collect();
    let person = |name: &String| format!("[access.people.{name}]\nfor = [\"person/{name}@example.com\"]\n");
    config.extend(names.iter().map(person));
    let group = format!("[access.people.approvers]\nmembers = {names:?}\nmay_approve = [\"second\"]\n");
    config.push_str(&group);
    account.function.access = Document::parse("sekisho.toml", &config).and_then(|document| document.access());
    account.cloud.set_delays(vec![250]);
    let answer = account.text_at("hana", r#"{"person":"mika@example.com","profile":"second","minutes":30}"#).await;
    let code = answer.strip_prefix("Request ").unwrap().split(' ').next().unwrap();
    let started = Instant::now();
    let answer = account.text_at("approvers", &format!(r#"{{"approve":"{code}"}}"#)).await;
    assert!(answer.starts_with("End time is") && started.elapsed() < SLACK_LIMIT, "{:?}: {answer}", started.elapsed());
}

/// Only the ledger has a grant that begins later.
#[tokio::test(start_paused = true)]
async fn a_revoke_that_cannot_see_what_begins_later_says_so() {
    let account = account(0);
    account.text(r#"{"person":"hana@example.com","minutes":30,"from":"2026-11-21T22:45:00Z"}"#).await;
    account.fail_ledger(|_| true);
    let (_, message) = kind(account.invoke(&revoke("hana")).await);
    assert!(message.contains("may still have") && message.contains("if access was to begin later"), "{message}");
    account.fail_ledger(|_| false);
    let answer = account.text(&revoke("hana")).await;
    assert!(answer.contains("sekisho-admin removed") && !answer.contains("begin later"), "{answer}");
}

/// An unreadable row may be that of a grant that begins later, and somebody may correct the row.
#[tokio::test(start_paused = true)]
async fn a_revoke_beside_an_unreadable_row_does_not_say_that_all_is_ended() {
    let account = account(0);
    account.text(r#"{"person":"hana@example.com","minutes":30,"from":"2026-11-21T22:45:00Z"}"#).await;
    account.spoil(&format!("person/{}/admin", user("hana"))).await;
    let (_, message) = kind(account.invoke(&revoke("hana")).await);
    assert!(message.contains("may still get access") && message.contains("if access was to begin later"), "{message}");
    // A user's policy is in IAM, whatever the row says.
    account.text(r#"{"user":"prd-user"}"#).await;
    account.spoil("user/prd-user/admin").await;
    account.text(r#"{"action":"revoke","user":"prd-user"}"#).await;
}

#[tokio::test(start_paused = true)]
async fn a_revoke_that_fails_says_also_that_its_notice_could_not_be_sent() {
    let account = account(0);
    account.text(&grant("hana")).await;
    account.fail_ledger(|_| true);
    account.cloud.fail("Publish", 1, Fault::Code("NotFound", 404));
    let (_, message) = kind(account.invoke(&revoke("hana")).await);
    assert!(message.contains("may still get access") && message.contains("could not be sent"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn sessions_of_the_person_end_with_the_access() {
    let account = account(0);
    account.text(&grant("hana")).await;
    let owner = |role: &str, name: &str| format!("assumed-role/AWSReservedSSO_{role}_0123456789abcdef/{name}");
    let now = account.now();
    account.cloud.open_session("hers", &owner("sekisho-window", "hana@example.com"), now);
    account.cloud.open_session("other-set", &owner("ReadOnly", "hana@example.com"), now);
    account.cloud.open_session("namesake", &owner("sekisho-window", "hana"), now);
    let ended = account.text(&revoke("hana")).await;
    assert!(ended.contains("One open session"), "{ended}");
    assert_eq!(account.cloud.open_sessions(), ["other-set", "namesake"]);
}

#[tokio::test(start_paused = true)]
async fn several_people_come_at_the_same_time() {
    for lag in [0, 20] {
        let account = account(lag);
        let all = futures_util::future::join_all(PEOPLE.iter().map(async |name| account.invoke(&grant(name)).await));
        let mut expected = BTreeSet::new();
        for (name, answer) in PEOPLE.iter().zip(all.await) {
            let answer = text(answer);
            assert!(answer.starts_with("End time is"));
            if !answer.contains(BEGINS_LATER) {
                expected.insert(user(name));
            }
        }
        assert!(!expected.is_empty());
        assert!(let_in(&account).is_superset(&expected), "{lag}: {:?} {expected:?}", let_in(&account));
        for _ in 0..3 {
            sleep(minutes(1)).await;
            account.follow_up().await;
        }
        assert_eq!(let_in(&account), users(&PEOPLE), "{lag}");
        sleep(minutes(1)).await;
        let more = futures_util::future::join_all(PEOPLE.iter().map(async |name| account.invoke(&revoke(name)).await));
        for answer in more.await {
            text(answer);
        }
        for _ in 0..2 {
            sleep(minutes(1)).await;
            account.follow_up().await;
        }
        assert_eq!(let_in(&account), users(&[]), "{lag}");
    }
}
