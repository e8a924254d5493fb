//! Grants of people to which IAM does not show the last version of `sekisho-window`: a follow-up enters them.

use std::time::Duration;

use futures_util::join;
use sekisho_domain::config::Document;
use tokio::time::{Instant, sleep};

use crate::account::{CONFIG, SLACK_LIMIT, minutes, text};
use crate::approvals::{DOORS, approve, ask};
use crate::people::{BEGINS_LATER, account, grant, let_in, revoke, users};

/// IAM shows the previous version for 20 seconds. Whoever comes within that time is let in by a follow-up.
#[tokio::test(start_paused = true)]
async fn stale_reads_neither_lose_a_grant_nor_bring_back_anybody() {
    let account = account(20);
    for name in ["hana", "taro", "jiro"] {
        let started = Instant::now();
        let answer = account.text(&grant(name)).await;
        assert!(answer.starts_with("End time is") && started.elapsed() < SLACK_LIMIT, "{answer}");
        assert_eq!(answer.contains(BEGINS_LATER), name != "hana", "{name}: {answer}");
    }
    assert_eq!(let_in(&account), users(&["hana"]));
    let list = account.text(r#"{"action":"list"}"#).await;
    let taro = list.lines().find(|line| line.starts_with("person taro@example.com: admin until")).unwrap();
    assert!(taro.ends_with("(not in sekisho-window yet: a follow-up writes it)"), "{list}");
    assert_eq!(list.matches("sekisho-window").count(), 2, "{list}");
    for _ in 0..2 {
        sleep(minutes(1)).await;
        account.follow_up().await;
    }
    assert_eq!(let_in(&account), users(&["hana", "taro", "jiro"]));
    // A revoke does not wait.
    let ended = account.text(&revoke("taro")).await;
    assert!(ended.contains("sekisho-admin removed"), "{ended}");
    assert_eq!(let_in(&account), users(&["hana", "jiro"]));
    let answer = account.text(&grant("mika")).await;
    assert!(answer.contains(BEGINS_LATER), "{answer}");
    assert_eq!(let_in(&account), users(&["hana", "jiro"]));
    sleep(minutes(1)).await;
    account.follow_up().await;
    assert_eq!(let_in(&account), users(&["hana", "jiro", "mika"]));
    // The sixth version needs room, and five are kept.
    sleep(minutes(1)).await;
    account.follow_up().await;
    account.text(&grant("taro")).await;
    assert_eq!(let_in(&account), users(&["hana", "taro", "jiro", "mika"]));
}

/// Somebody sets an older version by hand, right after a write. It counts as soon as it cannot be a read that lags behind.
#[tokio::test(start_paused = true)]
async fn an_older_version_that_somebody_sets_is_not_undone_by_a_grant() {
    let account = account(0);
    account.text(&grant("hana")).await;
    account.cloud.people(|people| people.set_default(1));
    let answer = account.text(&grant("taro")).await;
    assert!(answer.contains(BEGINS_LATER), "{answer}");
    assert_eq!(let_in(&account), users(&[]));
    for _ in 0..3 {
        sleep(minutes(1)).await;
        account.follow_up().await;
    }
    assert_eq!(let_in(&account), users(&["taro"]));
}

/// The profile changes, or somebody revokes, before a follow-up has entered a grant.
#[tokio::test(start_paused = true)]
async fn a_grant_that_begins_later_can_end_before_that() {
    for is_revoked in [true, false] {
        let mut account = account(0);
        account.text(&grant("hana")).await;
        account.cloud.people(|people| people.set_default(1));
        let answer = account.text(&grant("taro")).await;
        assert!(answer.contains(BEGINS_LATER), "{answer}");
        if is_revoked {
            let ended = account.text(&revoke("taro")).await;
            assert!(ended.contains("sekisho-admin removed"), "{ended}");
        } else {
            let other = CONFIG.replace(r#"actions = ["*"]"#, r#"actions = ["s3:*"]"#);
            account.function.access = Document::parse("sekisho.toml", &other).and_then(|document| document.access());
            assert!(account.sweep().await.contains(&"revoked".to_owned()));
        }
        for _ in 0..4 {
            sleep(minutes(1)).await;
            account.follow_up().await;
        }
        assert_eq!(let_in(&account), users(&[]), "{is_revoked}");
    }
}

/// The same request again, and a longer one, while the first one waits to be entered.
#[tokio::test(start_paused = true)]
async fn a_grant_that_begins_later_stays_one_grant() {
    let account = account(0);
    account.text(&grant("hana")).await;
    account.cloud.people(|people| people.set_default(1));
    let first = text(account.invoke_as("one", &grant("taro")).await);
    let again = text(account.invoke_as("one", &grant("taro")).await);
    assert_eq!(first.lines().next(), again.lines().next());
    account.text(r#"{"person":"taro@example.com","minutes":1}"#).await;
    let longer = account.text(r#"{"person":"taro@example.com","minutes":60}"#).await;
    assert!(longer.contains("keeps admin") && longer.contains(BEGINS_LATER), "{longer}");
    for _ in 0..3 {
        sleep(minutes(1)).await;
        account.follow_up().await;
    }
    assert_eq!(let_in(&account), users(&["taro"]));
    sleep(minutes(30)).await;
    assert_eq!(let_in(&account), users(&["taro"]));
    sleep(minutes(30)).await;
    assert_eq!(let_in(&account), users(&[]));
}

/// For all times: access that is approved beside a revoke, and entered at once or by a follow-up.
#[tokio::test(start_paused = true)]
async fn an_approval_beside_a_revoke_lets_nobody_in() {
    let doors = DOORS.replace("user/prd-user", "person/hana@example.com");
    for lag in [0, 20] {
        for ahead in (0..900).step_by(30) {
            let mut account = account(lag);
            account.function.access = Document::parse("sekisho.toml", &doors).unwrap().access();
            let taro = grant("taro").replace('}', r#","profile":"read-only"}"#);
            account.text(&taro).await;
            let code = ask(&account, "hana", r#"{"person":"hana@example.com","minutes":120}"#).await;
            let (approval, revoke) = (approve(&code), revoke("hana"));
            let (approved, ended) = join!(account.invoke_at("taro", &approval), async {
                sleep(Duration::from_millis(ahead)).await;
                account.invoke_at("hana", &revoke).await
            });
            if let Err(error) = &ended {
                assert!(error.to_string().contains("The function tries again every minute."), "{lag} {ahead}: {error}");
            }
            for _ in 0..3 {
                sleep(minutes(1)).await;
                account.follow_up().await;
                assert_eq!(let_in(&account), users(&["taro"]), "{lag} {ahead}: {approved:?} {ended:?}");
            }
        }
    }
}
