//! Grants of people whose write of `sekisho-window` IAM does not answer, and grants whose invocation dies: whoever was
//! answered gets in, and nobody who was revoked comes back.

use std::cell::Cell;
use std::time::Duration;

use futures_util::join;
use sekisho_domain::config::Document;
use sekisho_domain::timestamp;
use temp_access::row::State;
use tokio::time::{sleep, timeout};

use crate::account::{Account, Fault, minutes};
use crate::approvals::{DOORS, approve, ask};
use crate::people::{BEGINS_LATER, account, grant, let_in, revoke, user, users};

/// An account in which a follow-up still has to enter the grant of `taro`.
async fn deferred() -> Account {
    let account = account(0);
    account.text(&grant("hana")).await;
    account.cloud.people(|people| people.set_default(1));
    let answer = account.text(&grant("taro")).await;
    assert!(answer.contains(BEGINS_LATER), "{answer}");
    account
}

/// How many versions of the policy were sent.
fn writes(account: &Account) -> usize {
    account.cloud.calls().iter().filter(|call| *call == "CreatePolicyVersion").count()
}

/// Waits until the n-th version is sent.
async fn until_written(account: &Account, n: usize) {
    while writes(account) < n {
        sleep(Duration::from_millis(10)).await;
    }
}

async fn follow_ups(account: &Account) {
    for _ in 0..4 {
        sleep(minutes(1)).await;
        account.follow_up().await;
    }
}

fn longer() -> String {
    grant("taro").replace("30", "60")
}

/// The entry ends after 6.5 seconds without an answer, and lets the person in after 7.8.
#[tokio::test(start_paused = true)]
async fn a_revoke_waits_for_an_entry_that_iam_did_not_answer() {
    let account = deferred().await;
    sleep(minutes(3)).await;
    account.cloud.fail("CreatePolicyVersion", 3, Fault::DoneLate);
    let (taro, before) = (revoke("taro"), writes(&account));
    let revoked = async {
        until_written(&account, before + 1).await;
        sleep(Duration::from_secs(7)).await;
        account.text(&taro).await;
    };
    join!(account.follow_up(), revoked);
    sleep(Duration::from_secs(10)).await;
    assert!(!let_in(&account).contains(&user("taro")), "right after the revoke");
    follow_ups(&account).await;
    assert!(!let_in(&account).contains(&user("taro")), "after the follow-ups");
}

/// A version that takes effect late lets in a person whom a revoke had removed.
#[tokio::test(start_paused = true)]
async fn a_follow_up_takes_out_a_person_whom_no_grant_lets_in() {
    let account = account(0);
    account.text(&grant("taro")).await;
    let before = account.cloud.people(|people| people.document().to_owned());
    account.text(&revoke("taro")).await;
    account.cloud.people(|people| people.put(&before));
    assert_eq!(let_in(&account), users(&["taro"]));
    account.follow_up().await;
    assert_eq!(let_in(&account), users(&[]));
}

/// The revoke has read and written before the follow-up, and records its end while the follow-up writes.
#[tokio::test(start_paused = true)]
async fn an_entry_that_finds_its_row_revoked_is_taken_back() {
    let account = deferred().await;
    sleep(minutes(3)).await;
    let key = format!("person/{}/admin", user("taro"));
    let revoked = async {
        until_written(&account, 2).await;
        account.change_row(&key, |row| row["state"] = "revoked".into()).await;
    };
    join!(account.follow_up(), revoked);
    assert!(!let_in(&account).contains(&user("taro")));
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_was_answered_is_entered_although_its_extension_died() {
    let account = deferred().await;
    timeout(Duration::from_secs(3), account.invoke(&longer())).await.unwrap_err();
    follow_ups(&account).await;
    assert_eq!(let_in(&account), users(&["taro"]));
    sleep(minutes(30)).await;
    assert_eq!(let_in(&account), users(&["taro"]));
    // The notice about the longer grant is sent once.
    let notices = account.cloud.published().len();
    follow_ups(&account).await;
    assert_eq!(account.cloud.published().len(), notices);
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_was_answered_is_entered_although_its_repetition_was_not_settled() {
    let account = deferred().await;
    let writes = Cell::new(0);
    account.fail_ledger(move |operation| {
        writes.set(writes.get() + u32::from(operation == "write"));
        operation == "write" && writes.get() > 1
    });
    let answer = account.text(&grant("taro").replace("30", "5")).await;
    assert!(answer.contains(BEGINS_LATER) && answer.contains("not that the grant was carried out"), "{answer}");
    account.fail_ledger(|_| false);
    follow_ups(&account).await;
    assert_eq!(let_in(&account), users(&["taro"]));
}

/// The first version takes effect unanswered, and IAM refuses the second attempt.
#[tokio::test(start_paused = true)]
async fn nothing_was_granted_is_said_only_if_nobody_was_let_in() {
    let account = account(0);
    account.cloud.fail("CreatePolicyVersion", 1, Fault::DoneUnanswered);
    account.cloud.fail("CreatePolicyVersion", 1, Fault::Code("AccessDenied", 403));
    let answer = account.text(&grant("taro")).await;
    assert!(answer.starts_with("End time is"), "{answer}");
    assert_eq!((let_in(&account), account.cloud.published().len()), (users(&["taro"]), 1));
    // Somebody writes a version by hand at the same time, and the repair of that is refused.
    let account = self::account(0);
    let nothing = account.cloud.people(|people| people.document().to_owned());
    account.text(&grant("hana")).await;
    account.cloud.set_delays(vec![1_000]);
    let by_hand = async {
        until_written(&account, 2).await;
        account.cloud.people(|people| people.put(&nothing));
        account.cloud.fail("CreatePolicyVersion", 1, Fault::Code("AccessDenied", 403));
    };
    let request = grant("taro");
    let (answer, ()) = join!(account.invoke(&request), by_hand);
    assert!(let_in(&account).contains(&user("taro")));
    let row = account.row(&format!("person/{}/admin", user("taro"))).await.unwrap().state;
    assert!(row.window().is_live(account.now()), "{answer:?} {row:?}");
    assert_eq!(account.cloud.published().len(), 2, "{answer:?}");
}

/// The ledger writes the deferred grant, but its answer is lost.
#[tokio::test(start_paused = true)]
async fn a_deferred_break_glass_grant_keeps_its_review() {
    let mut account = account(0);
    account.text(&grant("hana")).await;
    let people = DOORS.replacen(r#"["user/prd-user"]"#, r#"["person/taro@example.com"]"#, 1);
    account.function.access = Document::parse("sekisho.toml", &people).unwrap().access();
    account.cloud.people(|people| people.set_default(1));
    let key = format!("person/{}/glass", user("taro"));
    let writes = Cell::new(0);
    *account.function.ledger.loses.borrow_mut() = Box::new(move |sk| {
        writes.set(writes.get() + u32::from(sk == key));
        sk == key && writes.get() == 2
    });
    let glass = r#"{"person":"taro@example.com","minutes":30,"profile":"glass","reason":"fire"}"#;
    let error = account.invoke_at("hana", glass).await.unwrap_err();
    assert!(error.to_string().contains("It is not known whether"), "{error}");
    follow_ups(&account).await;
    assert!(let_in(&account).contains(&user("taro")));
    let pending = account.text(r#"{"action":"pending"}"#).await;
    assert!(pending.contains("review of break-glass"), "{pending}");
}

/// An intent whose invocation died before its review was on record is not entered.
#[tokio::test(start_paused = true)]
async fn an_extension_that_died_before_its_review_is_not_entered() {
    let account = deferred().await;
    let key = format!("person/{}/admin", user("taro"));
    account
        .change_row(&key, |row| {
            row["state"] = "intent".into();
            row["consent"]["code"] = "ABCD2345".into();
            row["consent"]["break_glass"] = true.into();
        })
        .await;
    follow_ups(&account).await;
    assert!(!let_in(&account).contains(&user("taro")));
}

/// The ledger fails after the intent was written, so that neither the review nor the end of the attempt is recorded. A
/// revoke that loses the ledger as well has withdrawn the request, but does not see the intent.
#[tokio::test(start_paused = true)]
async fn a_scheduled_grant_that_died_before_its_approval_or_review_is_not_granted() {
    for profile in ["admin", "glass"] {
        let mut account = account(0);
        let people = DOORS.replacen(r#"["user/prd-user"]"#, r#"["person/taro@example.com"]"#, 1);
        account.function.access = Document::parse("sekisho.toml", &people).unwrap().access();
        let from = timestamp::seconds(account.now() + minutes(30));
        let request = format!(
            r#"{{"person":"taro@example.com","minutes":30,"profile":"{profile}","reason":"fire","from":"{from}"}}"#
        );
        if profile == "admin" {
            let code = ask(&account, "hana", &request).await;
            lose_ledger_after(&account, 2);
            account.invoke_at("jun", &approve(&code)).await.unwrap_err();
            account.fail_ledger(|_| false);
            sleep(Duration::from_secs(14)).await;
            lose_ledger_after(&account, 1);
            let _ = account.invoke(&revoke("taro")).await;
            let pending = account.function.ledger.memory.rows();
            assert!(pending.iter().any(|(key, row)| key.pk == "request" && format!("{row:?}").contains("declined")));
        } else {
            lose_ledger_after(&account, 1);
            account.invoke_at("hana", &request).await.unwrap_err();
        }
        account.fail_ledger(|_| false);
        let key = format!("person/{}/{profile}", user("taro"));
        for _ in 0..40 {
            assert_eq!(account.row(&key).await.unwrap().state.state, State::Intent, "{profile}");
            sleep(minutes(1)).await;
            account.follow_up().await;
        }
        assert_eq!(let_in(&account), users(&[]), "{profile}");
        let notices = account.cloud.published();
        assert!(!notices.iter().any(|notice| notice.to_lowercase().contains("let in: person")), "{notices:?}");
    }
}

/// The ledger cannot be reached after so many writes.
fn lose_ledger_after(account: &Account, writes: u32) {
    let written = Cell::new(0);
    account.fail_ledger(move |operation| {
        let is_lost = written.get() >= writes;
        written.set(written.get() + u32::from(operation == "write"));
        is_lost
    });
}

/// The start of a grant that was scheduled is long over when its extension waits to be entered.
#[tokio::test(start_paused = true)]
async fn an_extension_that_is_not_entered_in_time_is_an_alarm() {
    let account = deferred().await;
    account.cloud.fail("CreatePolicyVersion", 1_000, Fault::Code("Throttling", 400));
    sleep(minutes(20)).await;
    let (from, now) = (account.now() - minutes(19), account.now());
    let extended = |row: &mut serde_json::Value| {
        row["from"] = timestamp::seconds(from).into();
        row["claimed"] = timestamp::epoch_millis(now).into();
    };
    account.change_row(&format!("person/{}/admin", user("taro")), extended).await;
    let before = account.outcomes().len();
    follow_ups(&account).await;
    assert!(account.outcomes()[before..].contains(&"failed".to_owned()), "{:?}", account.outcomes());
}
